"""Processing element: lanes, their biases, and what follows their sums."""

from operator import add
from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import HALVES, Drain, FinishedRow
from acceltran.compute.epilogue import Epilogue
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.compute.lane import Lane, scalar_layout
from acceltran.compute.lane_kinds import LANES, make_lane, scalars_per_beat
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, BufferWrite
from acceltran.memory.ram import Ram
from acceltran.memory.tile_ports import BiasWrite, VectorWrite
from acceltran.numeric.reduction import reduced

__all__ = ["ProcessingElement"]


class ProcessingElement(SharedComponent):
    """Multiply rows of scalars by the tiles of the lanes, and finish and write the results.

    Every lane holds the tile of one column vector. All lanes take the same scalar in the same
    cycle; a scalar is taken when every enabled lane takes it. The sums of each finished row leave
    in ascending order of lanes: plus bias, through the ``Epilogue``, to vector
    ``rows.address + l * pes + index`` for lane ``l``.

    The rules of ``Lane`` hold for scalars and tile writes, where a tile write takes effect one
    cycle later, and a bias is written before the sums of a row that it belongs to are finished.

    Golden model: ``acceltran_sim.golden.epilogue.epilogue`` of
    ``acceltran_sim.golden.product.exact_sums``.

    Parameters
    ----------
    fmt, tile, inner, tile_rows, partial_sums, multiplier_stages
        As in ``Lane``.
    lane, weight_window
        As in ``make_lane``.
    lanes : int
        Lanes; at least 1.
    pes : int
        PEs of the cluster, and banks of the buffer that takes the results; a power of two.

    Members
    -------
    index : ``In(range(pes))``
        Number of this PE in its cluster: its bank.
    tile_write : ``In(VectorWrite(...))``
    bias_write : ``In(BiasWrite(...))``
    lane_enable : ``In(lanes)``
        Lanes that take part; changes only while ``idle`` is 1.
    parameters : ``In(EpilogueParameters(fmt))``
        Changes only while ``idle`` is 1.
    scalars : ``In(stream.Signature(scalar_layout(...)))``
        Rows of scalars, as the lanes take them. ``ready`` depends on no other input than
        ``lane_enable``.
    rows : ``In(stream.Signature(FinishedRow()))``
        One for each final row, in order, given before the last scalar of the row.
    o : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
        Results.
    saturated : ``Out(range(2 * tile + 1))``
        What the ``Epilogue`` says of the vector taken from ``o`` in the cycle before.
    issued : ``Out(range(lanes + 1))``
        Lanes that issued products, some cycles ago.
    effectual_products : ``Out(range(lanes * tile + 1))``
        How many of these products have two non-zero factors.
    reading : ``Out(1)``
        A lane has accepted scalars whose rows of the tile are still to be read.
    draining : ``Out(2)``
        Bit h: finished rows of half h of the tile RAM wait for their bias.
    idle : ``Out(1)``
        Nothing is under way.
    """

    index: Signal
    tile_write: Any
    bias_write: Any
    lane_enable: Signal
    parameters: Any
    scalars: stream.Interface
    rows: stream.Interface
    o: stream.Interface
    saturated: Signal
    issued: Signal
    effectual_products: Signal
    reading: Signal
    draining: Signal
    idle: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        inner: int,
        tile_rows: int,
        partial_sums: int,
        lane: str,
        lanes: int,
        pes: int,
        weight_window: int = 0,
        multiplier_stages: int = 2,
    ):
        if lane not in LANES:
            raise ValueError(f"Lane must be one of {', '.join(LANES)}, not {lane!r}")
        if weight_window and lane != "broadcast":
            raise ValueError(f"Lane must be broadcast with a weight window, not {lane!r}")
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if pes < 1 or pes & (pes - 1):
            raise ValueError(f"Number of PEs must be a power of two, not {pes!r}")
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.lane = lane
        self.lanes = lanes
        self.pes = pes
        self.weight_window = weight_window
        self.multiplier_stages = multiplier_stages
        scalars = scalar_layout(
            fmt,
            tile=tile,
            tile_rows=tile_rows,
            partial_sums=partial_sums,
            scalars_per_beat=scalars_per_beat(weight_window),
        )
        tile_write = VectorWrite(fmt, tile=tile, tile_rows=tile_rows, pes=pes, lanes=lanes)
        bias_write = BiasWrite(fmt, tile=tile, pes=pes, lanes=lanes)
        super().__init__({
            "index": In(range(pes)),
            "tile_write": In(tile_write),
            "bias_write": In(bias_write),
            "lane_enable": In(lanes),
            "parameters": In(EpilogueParameters(fmt)),
            "scalars": In(stream.Signature(scalars)),
            "rows": In(stream.Signature(FinishedRow())),
            "o": Out(stream.Signature(BufferWrite(fmt, tile))),
            "saturated": Out(range(2 * tile + 1)),
            "issued": Out(range(lanes + 1)),
            "effectual_products": Out(range(lanes * tile + 1)),
            "reading": Out(1),
            "draining": Out(HALVES),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self._add_lanes(m)
        drain, bias = self._add_drain(m, lanes)
        epilogue = self._add_epilogue(m, drain, bias)
        m.d.comb += [
            self.reading.eq(Cat(lane.reading for lane in lanes).any()),
            self.draining.eq(drain.draining),
            self.idle.eq(
                Cat(lane.empty for lane in lanes).all()
                & ~drain.draining.any()
                & ~drain.o.valid
                & epilogue.empty
            ),
            self.issued.eq(reduced(m, [lane.issued for lane in lanes], add, name="issued")),
            self.effectual_products.eq(
                reduced(m, [lane.effectual_products for lane in lanes], add, name="products")
            ),
        ]
        return m

    def _make_lane(self) -> Lane:
        return make_lane(
            lane=self.lane,
            weight_window=self.weight_window,
            fmt=self.fmt,
            tile=self.tile,
            inner=self.inner,
            tile_rows=self.tile_rows,
            partial_sums=self.partial_sums,
            multiplier_stages=self.multiplier_stages,
        )

    def _add_lanes(self, m: Module) -> list[Lane]:
        lanes = [self._make_lane() for _ in range(self.lanes)]
        write: Any = self.tile_write
        mine, lane_number = Signal(), Signal.like(write.lane)
        row, vector = Signal.like(write.row), Signal.like(write.vector)
        m.d.sync += mine.eq(write.valid & (write.pe == self.index))
        with m.If(write.valid):
            m.d.sync += [lane_number.eq(write.lane), row.eq(write.row), vector.eq(write.vector)]
        ready = Signal()
        m.d.comb += [
            ready.eq(Cat(lane.scalars.ready for lane in lanes).all()),
            self.scalars.ready.eq(ready),
        ]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += [
                lane.enable.eq(self.lane_enable[number]),
                lane.tile_write.valid.eq(mine & (lane_number == number)),
                lane.tile_write.row.eq(row),
                lane.tile_write.values.eq(vector.values),
                lane.tile_write.keep.eq(vector.keep),
                lane.scalars.valid.eq(self.scalars.valid & ready),
                lane.scalars.payload.eq(self.scalars.payload),
            ]
        return lanes

    def _add_drain(self, m: Module, lanes: list[Lane]) -> tuple[Drain, Ram]:
        m.submodules.drain = drain = Drain(
            fmt=self.fmt, tile=self.tile, inner=self.inner, lanes=self.lanes, banks=self.pes
        )
        m.submodules.bias = bias = Ram(
            width=self.tile * self.fmt.width, depth=HALVES * max(self.lanes, 1)
        )
        wiring.connect(m, wiring.flipped(self.rows), drain.rows)
        for lane, sums in zip(lanes, drain.sums, strict=True):
            wiring.connect(m, lane.sums, sums)
        write: Any = self.bias_write
        m.d.sync += [
            bias.write_enable.eq(write.valid & (write.pe == self.index)),
            bias.write_address.eq(self._bias_place(write.half, write.lane)),
            bias.write_data.eq(write.vector.values),
        ]
        m.d.comb += [
            drain.index.eq(self.index),
            drain.lane_enable.eq(self.lane_enable),
            bias.read_enable.eq(drain.take),
            bias.read_address.eq(self._bias_place(drain.half, drain.lane)),
        ]
        return drain, bias

    def _bias_place(self, half: Any, lane: Any) -> Any:
        return Mux(half, self.lanes, 0) + lane

    def _add_epilogue(self, m: Module, drain: Drain, bias: Ram) -> Epilogue:
        m.submodules.epilogue = epilogue = Epilogue(
            fmt=self.fmt, tile=self.tile, inner=self.inner, tag_width=ADDRESS_WIDTH
        )
        for name, _ in EpilogueParameters(self.fmt):
            m.d.comb += getattr(epilogue, name).eq(self.parameters[name])
        m.d.comb += [
            epilogue.i.valid.eq(drain.o.valid),
            epilogue.i.payload.sums.eq(drain.o.payload.sums),
            epilogue.i.payload.tag.eq(drain.o.payload.address),
            epilogue.i.payload.bias.eq(bias.read_data),
            drain.o.ready.eq(epilogue.i.ready),
            self.o.valid.eq(epilogue.o.valid),
            self.o.payload.address.eq(epilogue.o.payload.tag),
            self.o.payload.vector.eq(epilogue.o.payload.vector),
            epilogue.o.ready.eq(self.o.ready),
        ]
        taken = epilogue.o.valid & epilogue.o.ready
        m.d.sync += self.saturated.eq(Mux(taken, epilogue.o.payload.saturated, 0))
        return epilogue
