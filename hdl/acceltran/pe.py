"""Processing element: lanes, their biases, and what follows their sums."""

from operator import add
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.broadcast_lane import BroadcastLane
from acceltran.compute.dot_lane import DotLane
from acceltran.compute.drain import HALVES, Drain, FinishedRow
from acceltran.compute.epilogue import Epilogue
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.compute.lane import Lane, Scalar
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, BufferWrite
from acceltran.memory.ram import Ram
from acceltran.memory.tile_ports import BiasWrite, VectorWrite
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.reduction import reduced

__all__ = ["CONTEXTS", "LANES", "ProcessingElement"]

CONTEXTS = 2
"""Settings that hold at the same time: of results under way, and of scalars."""
PENDING_WIDTH = 16
"""Bits of a count of vectors: more than all queues of rows hold."""
LANES: dict[str, type[Lane]] = {"broadcast": BroadcastLane, "dot": DotLane}


class ProcessingElement(SharedComponent):
    """Multiply rows of scalars by the tiles of the lanes, and finish and write the results.

    The lanes are shared among ``stream_count`` streams of rows: lane ``l`` takes the scalars of
    stream ``l % stream_count`` and holds the tile of word ``l // stream_count``. A scalar is taken
    when every enabled lane of its stream takes it. The sums of each finished row leave in ascending
    order of words: plus bias, through the ``Epilogue``, to vector ``rows.address + word * pes +
    index``.

    Settings come in two contexts, so that a pass or a product begins while results of the one
    before are under way: scalars belong to ``context``, each finished row names its own, and
    rows of one context leave before those of the next.

    The rules of ``Lane`` hold for scalars and tile writes, where a tile write takes effect one
    cycle later, and a bias is written before the sums of a row that it belongs to are finished.

    Golden model: ``acceltran_sim.golden.epilogue.epilogue`` of
    ``acceltran_sim.golden.product.exact_sums``.

    Parameters
    ----------
    fmt, tile, inner, tile_rows, partial_sums, multiplier_stages
        As in ``Lane``.
    lane : str
        Kind of lane: ``broadcast`` or ``dot``.
    lanes : int
        Lanes; at least 1.
    streams : int
        Most streams; a power of two that divides ``lanes``.
    pes : int
        PEs of the cluster; a power of two.

    Members
    -------
    index : ``In(range(pes))``
        Number of this PE in its cluster.
    tile_write : ``In(VectorWrite(...))``
    bias_write : ``In(BiasWrite(...))``
    lane_enable : ``In(lanes).array(2)``
        Lanes that take part, of each context.
    stream_count : ``In(range(streams + 1)).array(2)``
        Streams of each context; a power of two.
    parameters : ``In(EpilogueParameters(fmt)).array(2)``
        Of each context. Settings of a context change only while nothing of it is under way.
    context : ``In(1)``
        Of the scalars; changes only when all scalars of the one before were taken.
    scalars : ``In(stream.Signature(Scalar(fmt, tile_rows, partial_sums))).array(streams)``
        Rows of scalars. ``ready`` depends on no other input than the settings.
    rows : ``In(stream.Signature(FinishedRow())).array(streams)``
        One for each final row of the stream, in order, given before the last scalar of the row;
        at most one in a cycle.
    o : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
        Results.
    saturated : ``Out(range(2 * tile + 1))``
        What the ``Epilogue`` says of the vector taken from ``o`` in the cycle before.
    kept : ``Out(range(tile + 1)).array(2)``
        By context: elements that were kept of the vector taken from ``o`` in the cycle before.
    issued : ``Out(range(lanes + 1))``
        Lanes that issued products, some cycles ago.
    effectual_products : ``Out(range(lanes * tile + 1))``
        How many of these products have two non-zero factors.
    reading : ``Out(1)``
        A lane has accepted scalars whose rows of the tile are still to be read.
    draining : ``Out(2)``
        Bit h: finished rows of half h of the tile RAM wait for their bias.
    pending : ``Out(2)``
        Bit c: results of context c are not all written.
    """

    index: Signal
    tile_write: Any
    bias_write: Any
    lane_enable: list[Signal]
    stream_count: list[Signal]
    parameters: list[Any]
    context: Signal
    scalars: list[stream.Interface]
    rows: list[stream.Interface]
    o: stream.Interface
    saturated: Signal
    kept: list[Signal]
    issued: Signal
    effectual_products: Signal
    reading: Signal
    draining: Signal
    pending: Signal

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
        streams: int,
        pes: int,
        multiplier_stages: int = 2,
    ):
        if lane not in LANES:
            raise ValueError(f"Lane must be one of {', '.join(LANES)}, not {lane!r}")
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if streams < 1 or streams & (streams - 1) or lanes % streams:
            raise ValueError(
                f"Number of streams must be a power of two that divides {lanes} lanes,"
                f" not {streams!r}"
            )
        if pes < 1 or pes & (pes - 1):
            raise ValueError(f"Number of PEs must be a power of two, not {pes!r}")
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.lane = lane
        self.lanes = lanes
        self.streams = streams
        self.pes = pes
        self.multiplier_stages = multiplier_stages
        scalar = Scalar(fmt, tile_rows, partial_sums)
        super().__init__({
            "index": In(range(pes)),
            "tile_write": In(VectorWrite(fmt, tile=tile, tile_rows=tile_rows, lanes=lanes)),
            "bias_write": In(BiasWrite(fmt, tile=tile, lanes=lanes)),
            "lane_enable": In(lanes).array(CONTEXTS),
            "stream_count": In(range(streams + 1)).array(CONTEXTS),
            "parameters": In(EpilogueParameters(fmt)).array(CONTEXTS),
            "context": In(1),
            "scalars": In(stream.Signature(scalar)).array(streams),
            "rows": In(stream.Signature(FinishedRow())).array(streams),
            "o": Out(stream.Signature(BufferWrite(fmt, tile))),
            "saturated": Out(range(2 * tile + 1)),
            "kept": Out(range(tile + 1)).array(CONTEXTS),
            "issued": Out(range(lanes + 1)),
            "effectual_products": Out(range(lanes * tile + 1)),
            "reading": Out(1),
            "draining": Out(HALVES),
            "pending": Out(CONTEXTS),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self._add_lanes(m)
        drain, bias = self._add_drain(m, lanes)
        parameters = self._add_contexts(m, drain)
        self._add_epilogue(m, drain, bias, parameters)
        m.d.comb += [
            self.reading.eq(Cat(lane.reading for lane in lanes).any()),
            self.draining.eq(drain.draining),
            self.issued.eq(reduced(m, [lane.issued for lane in lanes], add, name="issued")),
            self.effectual_products.eq(
                reduced(m, [lane.effectual_products for lane in lanes], add, name="products")
            ),
        ]
        return m

    def _add_lanes(self, m: Module) -> list[Lane]:
        kind = LANES[self.lane]
        lanes = [
            kind(
                fmt=self.fmt,
                tile=self.tile,
                inner=self.inner,
                tile_rows=self.tile_rows,
                partial_sums=self.partial_sums,
                multiplier_stages=self.multiplier_stages,
            )
            for _ in range(self.lanes)
        ]
        write: Any = self.tile_write
        targets, row, vector = Signal(self.lanes), Signal.like(write.row), Signal.like(write.vector)
        m.d.sync += targets.eq(Mux(write.valid, write.lanes, 0))
        with m.If(write.valid):
            m.d.sync += [row.eq(write.row), vector.eq(write.vector)]
        enable, count = Signal(self.lanes), Signal(range(self.streams + 1))
        m.d.comb += [
            enable.eq(Mux(self.context, *reversed(self.lane_enable))),
            count.eq(Mux(self.context, *reversed(self.stream_count))),
        ]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            m.d.comb += [
                lane.enable.eq(1),
                lane.tile_write.valid.eq(targets[number]),
                lane.tile_write.row.eq(row),
                lane.tile_write.values.eq(vector.values),
                lane.tile_write.keep.eq(vector.keep),
            ]

        # A stream's lanes are chosen by how many streams share them.
        free = Cat(lane.scalars.ready for lane in lanes) | ~enable
        ready = [scalars.ready for scalars in self.scalars]
        for streams in (1 << n for n in range(ceil_log2(self.streams) + 1)):
            with m.If(count == streams):
                for number in range(self.streams):
                    mine = range(number, self.lanes, streams) if number < streams else ()
                    m.d.comb += ready[number].eq(Cat(free[lane] for lane in mine).all())
                for number, lane in enumerate(lanes):
                    source = self.scalars[number % streams]
                    m.d.comb += [
                        lane.scalars.valid.eq(source.valid & source.ready & enable[number]),
                        lane.scalars.payload.eq(source.payload),
                    ]
        return lanes

    def _add_drain(self, m: Module, lanes: list[Lane]) -> tuple[Drain, Ram]:
        m.submodules.drain = drain = Drain(
            fmt=self.fmt,
            tile=self.tile,
            inner=self.inner,
            lanes=self.lanes,
            streams=self.streams,
            banks=self.pes,
        )
        m.submodules.bias = bias = Ram(width=self.tile * self.fmt.width, depth=HALVES * self.lanes)
        for lane, sums in zip(lanes, drain.sums, strict=True):
            wiring.connect(m, lane.sums, sums)
        write: Any = self.bias_write
        m.d.sync += [
            bias.write_enable.eq(write.valid),
            bias.write_address.eq(self._bias_place(write.half, write.word)),
            bias.write_data.eq(write.vector.values),
        ]
        m.d.comb += [
            drain.index.eq(self.index),
            bias.read_enable.eq(drain.take),
            bias.read_address.eq(self._bias_place(drain.half, drain.word)),
        ]
        return drain, bias

    def _add_contexts(self, m: Module, drain: Drain) -> Any:
        """Let the rows of one context pass, then those of the other; its parameters."""
        words = [Signal(range(self.lanes + 1), name=f"words{c}") for c in range(CONTEXTS)]
        for context, enable in enumerate(self.lane_enable):
            with m.Switch(self.stream_count[context]):
                for bits in range(ceil_log2(self.streams) + 1):
                    with m.Case(1 << bits):
                        # Lanes of all streams are enabled alike.
                        m.d.sync += words[context].eq(count_ones(enable) >> bits)
        entered = [Signal(name=f"entered{c}") for c in range(CONTEXTS)]
        for rows, waiting in zip(self.rows, drain.rows, strict=True):
            concerned = Signal.like(rows.valid)
            used = [enable.any() for enable in self.lane_enable]
            m.d.comb += [
                # Where the PE has no column, there is nothing to wait for.
                concerned.eq(Mux(rows.payload.context, *reversed(used))),
                waiting.payload.eq(rows.payload),
                waiting.valid.eq(rows.valid & concerned),
                rows.ready.eq(waiting.ready),
            ]
            for context in range(CONTEXTS):
                with m.If(rows.valid & rows.ready & concerned & (rows.payload.context == context)):
                    m.d.comb += entered[context].eq(1)
        vectors = [Signal(PENDING_WIDTH, name=f"pending{c}") for c in range(CONTEXTS)]
        context = Signal()
        written = self.o.valid & self.o.ready
        for c, count in enumerate(vectors):
            m.d.sync += count.eq(count + Mux(entered[c], words[c], 0) - (written & (context == c)))
            m.d.comb += self.pending[c].eq(count != 0)
        with m.If(~Array(self.pending)[context] & Array(self.pending)[~context]):
            m.d.sync += context.eq(~context)
        parameters: Any = Signal(EpilogueParameters(self.fmt))
        m.d.comb += [
            drain.context.eq(context),
            drain.lane_enable.eq(Mux(context, *reversed(self.lane_enable))),
            drain.stream_count.eq(Mux(context, *reversed(self.stream_count))),
            Value.cast(parameters).eq(
                Mux(context, *(Value.cast(p) for p in reversed(self.parameters)))
            ),
        ]
        return parameters

    def _bias_place(self, half: Any, word: Any) -> Any:
        return Mux(half, self.lanes, 0) + word

    def _add_epilogue(self, m: Module, drain: Drain, bias: Ram, parameters: Any) -> None:
        m.submodules.epilogue = epilogue = Epilogue(
            fmt=self.fmt, tile=self.tile, inner=self.inner, tag_width=ADDRESS_WIDTH
        )
        for name, _ in EpilogueParameters(self.fmt):
            if name != "entry":
                m.d.comb += getattr(epilogue, name).eq(parameters[name])
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
        kept = Mux(taken, count_ones(epilogue.o.payload.vector.keep), 0)
        m.d.sync += [
            self.saturated.eq(Mux(taken, epilogue.o.payload.saturated, 0)),
            *(count.eq(Mux(drain.context == c, kept, 0)) for c, count in enumerate(self.kept)),
        ]
