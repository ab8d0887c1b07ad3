"""Processing element: lanes, their biases, and what follows their sums."""

from functools import reduce
from operator import add, or_
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import TICKETS, Drain, FinishedRow
from acceltran.compute.epilogue import Epilogue
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.compute.lane import HALVES, Lane, scalar_layout
from acceltran.compute.lane_kinds import LANES, make_lane, scalars_per_beat
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, BufferWrite
from acceltran.memory.ram import Ram
from acceltran.memory.tile_ports import BIAS_TILES, BiasWrite, VectorWrite
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.reduction import reduced

__all__ = ["CONTEXTS", "ProcessingElement"]

CONTEXTS = 2
"""Settings that hold at the same time: of results under way, and of scalars."""
PENDING_WIDTH = 16
"""Bits of a count of vectors: more than all queues of rows hold."""


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
    lane, weight_window, multipliers
        As in ``make_lane``.
    lanes : int
        Lanes; at least 1.
    streams : int
        Most streams; a power of two that divides ``lanes``.
    pes : int
        PEs of the cluster; a power of two.
    ports : int
        Tile ports; a power of two that divides ``lanes``.

    Members
    -------
    index : ``In(range(pes))``
        Number of this PE in its cluster.
    tile_write : ``In(VectorWrite(...)).array(ports)``
    bias_write : ``In(BiasWrite(...)).array(ports)``
        Port n writes tiles and biases of words that are n modulo ``ports``.
    lane_enable : ``In(lanes).array(2)``
        Lanes that take part, of each context.
    stream_count : ``In(range(streams + 1)).array(2)``
        Streams of each context; a power of two.
    parameters : ``In(EpilogueParameters(fmt)).array(2)``
        Of each context. Settings of a context change only while nothing of it is under way.
    context : ``In(1)``
        Of the scalars; changes only when all scalars of the one before were taken.
    scalars : ``In(stream.Signature(scalar_layout(...))).array(streams)``
        Rows of scalars, as the lanes take them. ``ready`` depends on no other input than the
        settings.
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
    reading : ``Out(2)``
        Bit h: a lane has accepted scalars whose rows, of half h of the tile RAM, are still to be
        read.
    draining : ``Out(BIAS_TILES)``
        Bit n: finished rows of tile n, modulo ``BIAS_TILES``, wait for their bias.
    pending : ``Out(TICKETS)``
        Bit t: results of rows with ticket t are not all written.
    """

    index: Signal
    tile_write: list[Any]
    bias_write: list[Any]
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
        ports: int,
        weight_window: int = 0,
        multipliers: int | None = None,
        multiplier_stages: int = 2,
    ):
        if lane not in LANES:
            raise ValueError(f"Lane must be one of {', '.join(LANES)}, not {lane!r}")
        if weight_window and lane != "broadcast":
            raise ValueError(f"Lane must be broadcast with a weight window, not {lane!r}")
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if streams < 1 or streams & (streams - 1) or lanes % streams:
            raise ValueError(
                f"Number of streams must be a power of two that divides {lanes} lanes,"
                f" not {streams!r}"
            )
        if pes < 1 or pes & (pes - 1):
            raise ValueError(f"Number of PEs must be a power of two, not {pes!r}")
        if ports < 1 or ports & (ports - 1) or lanes % ports:
            raise ValueError(
                f"Number of ports must be a power of two that divides {lanes} lanes, not {ports!r}"
            )
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.lane = lane
        self.lanes = lanes
        self.streams = streams
        self.pes = pes
        self.ports = ports
        self.weight_window = weight_window
        self.multipliers = multipliers
        self.multiplier_stages = multiplier_stages
        scalars = scalar_layout(
            fmt,
            tile=tile,
            tile_rows=tile_rows,
            partial_sums=partial_sums,
            scalars_per_beat=scalars_per_beat(weight_window),
        )
        super().__init__({
            "index": In(range(pes)),
            "tile_write": In(VectorWrite(fmt, tile=tile, tile_rows=tile_rows, lanes=lanes)).array(
                ports
            ),
            "bias_write": In(BiasWrite(fmt, tile=tile, lanes=lanes)).array(ports),
            "lane_enable": In(lanes).array(CONTEXTS),
            "stream_count": In(range(streams + 1)).array(CONTEXTS),
            "parameters": In(EpilogueParameters(fmt)).array(CONTEXTS),
            "context": In(1),
            "scalars": In(stream.Signature(scalars)).array(streams),
            "rows": In(stream.Signature(FinishedRow())).array(streams),
            "o": Out(stream.Signature(BufferWrite(fmt, tile))),
            "saturated": Out(range(2 * tile + 1)),
            "kept": Out(range(tile + 1)).array(CONTEXTS),
            "issued": Out(range(lanes + 1)),
            "effectual_products": Out(range(lanes * tile + 1)),
            "reading": Out(HALVES),
            "draining": Out(BIAS_TILES),
            "pending": Out(TICKETS),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self._add_lanes(m)
        drain = self._add_drain(m, lanes)
        bias = self._add_bias(m, drain)
        offered = Signal(range(TICKETS))  # ticket of the result on offer
        parameters = self._add_contexts(m, drain, offered)
        self._add_epilogue(m, drain, bias, parameters, offered)
        m.d.comb += [
            self.reading.eq(reduce(or_, (lane.reading for lane in lanes))),
            self.draining.eq(drain.draining),
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
            multipliers=self.multipliers,
            fmt=self.fmt,
            tile=self.tile,
            inner=self.inner,
            tile_rows=self.tile_rows,
            partial_sums=self.partial_sums,
            multiplier_stages=self.multiplier_stages,
        )

    def _add_lanes(self, m: Module) -> list[Lane]:
        lanes = [self._make_lane() for _ in range(self.lanes)]
        writes = []
        for write in self.tile_write:
            late = Signal.like(write.lanes), Signal.like(write.row), Signal.like(write.vector)
            targets, row, vector = late
            m.d.sync += targets.eq(Mux(write.valid, write.lanes, 0))
            with m.If(write.valid):
                m.d.sync += [row.eq(write.row), vector.eq(write.vector)]
            writes.append(late)
        enable, count = Signal(self.lanes), Signal(range(self.streams + 1))
        m.d.comb += [
            enable.eq(Mux(self.context, *reversed(self.lane_enable))),
            count.eq(Mux(self.context, *reversed(self.stream_count))),
        ]
        for number, lane in enumerate(lanes):
            m.submodules[f"lane{number}"] = lane
            tile_write = lane.tile_write
            m.d.comb += [
                lane.enable.eq(1),
                tile_write.valid.eq(reduce(or_, (targets[number] for targets, _, _ in writes))),
            ]
            # No two ports write to a lane: the last one may stand for none.
            *others, (_, row, vector) = writes
            word = Cat(row, vector.values.as_value(), vector.keep)
            for targets, row, vector in others:
                word = Mux(targets[number], Cat(row, vector.values.as_value(), vector.keep), word)
            m.d.comb += Cat(tile_write.row, tile_write.values.as_value(), tile_write.keep).eq(word)

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

    def _add_drain(self, m: Module, lanes: list[Lane]) -> Drain:
        m.submodules.drain = drain = Drain(
            fmt=self.fmt,
            tile=self.tile,
            inner=self.inner,
            lanes=self.lanes,
            streams=self.streams,
            banks=self.pes,
        )
        for lane, sums in zip(lanes, drain.sums, strict=True):
            wiring.connect(m, lane.sums, sums)
        m.d.comb += drain.index.eq(self.index)
        return drain

    def _add_bias(self, m: Module, drain: Drain) -> Value:
        """Biases of each port's words in a memory of its own; those of the word that drains."""
        port_bits = ceil_log2(self.ports)
        words = self.lanes // self.ports

        def place(tile: Value, word: Value) -> Value:
            return tile * words + word[port_bits:]

        biases = []
        for port, write in enumerate(self.bias_write):
            bias = Ram(width=self.tile * self.fmt.width, depth=BIAS_TILES * words)
            m.submodules[f"bias{port}"] = bias
            m.d.sync += [
                bias.write_enable.eq(write.valid),
                bias.write_address.eq(place(write.tile, write.word)),
                bias.write_data.eq(write.vector.values),
            ]
            m.d.comb += [
                bias.read_enable.eq(drain.take),
                bias.read_address.eq(place(drain.tile_number, drain.word)),
            ]
            biases.append(bias.read_data)
        port = Signal(port_bits)
        with m.If(drain.take):
            m.d.sync += port.eq(drain.word)
        return Array(biases)[port]

    def _add_contexts(self, m: Module, drain: Drain, offered: Signal) -> Any:
        """Let the rows of one context pass, then those of the other; its parameters."""
        words = [Signal(range(self.lanes + 1), name=f"words{c}") for c in range(CONTEXTS)]
        for context, enable in enumerate(self.lane_enable):
            with m.Switch(self.stream_count[context]):
                for bits in range(ceil_log2(self.streams) + 1):
                    with m.Case(1 << bits):
                        # Lanes of all streams are enabled alike.
                        m.d.sync += words[context].eq(count_ones(enable) >> bits)
        entered = [Signal(name=f"entered{c}") for c in range(CONTEXTS)]
        ticket = Signal(range(TICKETS))  # of the row that enters
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
                    m.d.comb += [entered[context].eq(1), ticket.eq(rows.payload.ticket)]
        vectors = [Signal(PENDING_WIDTH, name=f"pending{c}") for c in range(CONTEXTS)]
        context = Signal()
        written = self.o.valid & self.o.ready
        for c, count in enumerate(vectors):
            m.d.sync += count.eq(count + Mux(entered[c], words[c], 0) - (written & (context == c)))
        awaited = Cat(count != 0 for count in vectors)
        with m.If(~awaited.bit_select(context, 1) & awaited.bit_select(~context, 1)):
            m.d.sync += context.eq(~context)
        coming = Signal(range(self.lanes + 1))  # vectors of the row that enters
        for more, count in zip(entered, words, strict=True):
            with m.If(more):
                m.d.comb += coming.eq(count)
        for t in range(TICKETS):
            count = Signal(PENDING_WIDTH, name=f"awaited{t}")
            m.d.sync += count.eq(count + Mux(ticket == t, coming, 0) - (written & (offered == t)))
            m.d.comb += self.pending[t].eq(count != 0)
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

    def _add_epilogue(
        self, m: Module, drain: Drain, bias: Value, parameters: Any, offered: Signal
    ) -> None:
        m.submodules.epilogue = epilogue = Epilogue(
            fmt=self.fmt,
            tile=self.tile,
            inner=self.inner,
            tag_width=ADDRESS_WIDTH + ceil_log2(TICKETS),
        )
        for name, _ in EpilogueParameters(self.fmt):
            if name != "entry":
                m.d.comb += getattr(epilogue, name).eq(parameters[name])
        m.d.comb += [
            epilogue.i.valid.eq(drain.o.valid),
            epilogue.i.payload.sums.eq(drain.o.payload.sums),
            epilogue.i.payload.tag.eq(Cat(drain.o.payload.address, drain.o.payload.ticket)),
            epilogue.i.payload.bias.eq(bias),
            drain.o.ready.eq(epilogue.i.ready),
            self.o.valid.eq(epilogue.o.valid),
            Cat(self.o.payload.address, offered).eq(epilogue.o.payload.tag),
            self.o.payload.vector.eq(epilogue.o.payload.vector),
            epilogue.o.ready.eq(self.o.ready),
        ]
        taken = epilogue.o.valid & epilogue.o.ready
        kept = Mux(taken, count_ones(epilogue.o.payload.vector.keep), 0)
        m.d.sync += [
            self.saturated.eq(Mux(taken, epilogue.o.payload.saturated, 0)),
            *(count.eq(Mux(drain.context == c, kept, 0)) for c, count in enumerate(self.kept)),
        ]
