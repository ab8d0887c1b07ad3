"""Layer norm of the sum of two tensors."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.normalizer import Normalizer
from acceltran.compute.row_position import RowPosition
from acceltran.compute.row_statistics import LayerNormParameters, RowScale, RowStatistics, RowSums
from acceltran.compute.statistics_pool import StatisticsPool
from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.delay import delayed
from acceltran.numeric.product import product, product_latency
from acceltran.numeric.reduction import reduced, reduction_latency
from acceltran.numeric.vector import Vector

__all__ = ["SHORT_ROW", "Affine", "LayerNorm", "Summands"]

SHORT_ROW = 128
"""Elements of a row that is still normalised at full rate."""


class Summands(data.StructLayout):
    """Layout of a vector of each of the two summands.

    Members
    -------
    a, b : ``ArrayLayout(signed(fmt.width), tile)``
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        elements = data.ArrayLayout(signed(fmt.width), tile)
        super().__init__({"a": elements, "b": elements})


class Affine(data.StructLayout):
    """Layout of a vector of gamma and one of beta.

    Members
    -------
    gamma, beta : ``ArrayLayout(signed(fmt.width), tile)``
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        elements = data.ArrayLayout(signed(fmt.width), tile)
        super().__init__({"gamma": elements, "beta": elements})


class LayerNorm(SharedComponent):
    """Normalise the rows of ``a + b``, apply gamma and beta, and prune.

    For every row ``x = a + b`` of ``fields.columns`` elements in ``blocks`` vectors::

        z = (x - mean(x)) / sqrt(variance(x) + eps) * gamma + beta
        keep = (abs(z) >= threshold) & (z != 0)

    The statistics are exact sums, the result is rounded half up and saturates: at most 1 LSB of
    error while ``gamma`` is at most 1.5 LSBs of the result's scale per LSB of its format. Elements
    at and beyond ``columns`` take no part and give exactly 0, whatever their inputs are.

    First pass (sums), statistics and second pass of consecutive rows overlap. Each pass takes
    ``width`` elements per cycle; the statistics keep up with rows of ``SHORT_ROW`` elements. The
    first vector of a row is offered ``LATENCY`` cycles after the last one was accepted, if nothing
    waits.

    Golden model: ``acceltran_sim.golden.layernorm.layer_norm``, then
    ``acceltran_sim.golden.dynatran.prune``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of all elements.
    tile : int
        Elements of a vector; at least 1.
    width : int
        Elements per cycle and pass; divides ``tile``.
    hidden : int
        Elements of the longest row; in 1..1024.

    Members
    -------
    fields : ``In(LayerNormParameters())``
    blocks : ``In(range(ceil(hidden / tile) + 1))``
        Vectors of a row, at least 1.
    threshold : ``In(unsigned(fmt.width))``
        Pruning threshold in LSBs of the result. These three are static while rows are under way.
    i : ``In(stream.Signature(Summands(fmt, tile)))``
        Vectors of the rows, in order.
    affine : ``In(stream.Signature(Affine(fmt, tile)))``
        Gamma and beta for each vector of ``o``: ``blocks`` of them, again for every row.
    o : ``Out(stream.Signature(Vector(fmt, tile)))``
        Results, in order.
    saturated : ``Out(range(width + 1))``
        Values that were clipped among the results of this cycle, for counting.
    """

    fields: data.View
    blocks: Signal
    threshold: Signal
    i: stream.Interface
    affine: stream.Interface
    o: stream.Interface
    saturated: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, width: int, hidden: int):
        if tile < 1:
            raise ValueError(f"Tile must be at least 1, not {tile!r}")
        if width < 1 or tile % width:
            raise ValueError(f"Width must divide the tile ({tile}), not {width!r}")
        if not 1 <= hidden <= 1024:
            raise ValueError(f"Hidden size must be in 1..1024, not {hidden!r}")
        self.fmt = fmt
        self.tile = tile
        self.width = width
        self.hidden = hidden
        super().__init__({
            "fields": In(LayerNormParameters()),
            "blocks": In(range(-(-hidden // tile) + 1)),
            "threshold": In(unsigned(fmt.width)),
            "i": In(stream.Signature(Summands(fmt, tile))),
            "affine": In(stream.Signature(Affine(fmt, tile))),
            "o": Out(stream.Signature(Vector(fmt, tile))),
            "saturated": Out(range(width + 1)),
        })

    @property
    def LATENCY(self) -> int:
        """Cycles from a row's last vector to its first result."""
        sums = 2 + product_latency(2) + reduction_latency(self.width) + 2
        words = self.tile // self.width
        return sums + StatisticsPool.LATENCY + 1 + Normalizer.LATENCY + words

    @property
    def statistics_units(self) -> int:
        """Rows whose statistics are computed at a time, so that short rows do not wait for them."""
        return -(-RowStatistics.LATENCY * self.width // SHORT_ROW)

    def elaborate(self, platform):
        m = Module()
        words = self.tile // self.width
        word_width = self.width * self.fmt.width
        x_layout = data.ArrayLayout(signed(self.fmt.width + 1), self.width)

        def position(name: str) -> RowPosition:
            m.submodules[name] = here = RowPosition(
                tile=self.tile, width=self.width, hidden=self.hidden
            )
            m.d.comb += [here.columns.eq(self.fields.columns), here.blocks.eq(self.blocks)]
            return here

        m.submodules.statistics = statistics = StatisticsPool(
            fmt=self.fmt, hidden=self.hidden, units=self.statistics_units
        )
        m.submodules.normalizer = normalizer = Normalizer(
            fmt=self.fmt, width=self.width, hidden=self.hidden
        )
        # A ring of words between the passes; a word's place is free once it has been read.
        depth = 2 * words * -(-self.hidden // self.tile)
        m.submodules.ring = ring = Ram(width=x_layout.size, depth=depth)
        used = Signal(range(depth + 1))
        m.d.comb += [statistics.fields.eq(self.fields), normalizer.fields.eq(self.fields)]

        # First pass. Nothing stops once a word is taken: its place in the ring is reserved, and a
        # row ends only when there is room for its sums.
        source = position("source")
        rows_open = Signal(range(statistics.capacity + 1))
        open_ = Signal()
        taken = Signal()
        m.d.comb += [
            open_.eq((used != depth) & ~(source.last & (rows_open == statistics.capacity))),
            taken.eq(self.i.valid & open_),
            source.advance.eq(taken),
            self.i.ready.eq(open_ & source.vector_last),
        ]
        summands = self.i.payload
        a, b = Signal(word_width), Signal(word_width)
        x = Signal(x_layout)
        m.d.sync += [
            a.eq(summands.a.as_value().word_select(source.word, word_width)),
            b.eq(summands.b.as_value().word_select(source.word, word_width)),
        ]
        inside = delayed(m, source.inside, 1, name="inside")
        for k in range(self.width):
            place = slice(k * self.fmt.width, (k + 1) * self.fmt.width)
            m.d.sync += x[k].eq(Mux(inside[k], a[place].as_signed() + b[place].as_signed(), 0))

        stored = delayed(m, taken, 2, name="stored")
        m.d.comb += [ring.write_enable.eq(stored), ring.write_data.eq(x)]
        with m.If(stored):
            m.d.sync += ring.write_address.eq(
                Mux(ring.write_address == depth - 1, 0, ring.write_address + 1)
            )

        elements = [x[k] for k in range(self.width)]
        squared = [product(m, e, e, name=f"square_{k}") for k, e in enumerate(elements)]
        word_squares = reduced(m, squared, lambda p, q: p + q, name="squares")
        word_total = delayed(
            m,
            reduced(m, elements, lambda p, q: p + q, name="total"),
            product_latency(2),
            name="word_total",
        )
        wait = product_latency(2) + reduction_latency(self.width)
        summed = delayed(m, stored, wait, name="summed")
        first = delayed(m, source.first, 2 + wait, name="first")
        last = delayed(m, source.last, 2 + wait, name="last")
        sums = Signal(RowSums(self.fmt, self.hidden))
        row_done = Signal()
        m.d.sync += row_done.eq(summed & last)
        with m.If(summed):
            m.d.sync += [
                sums.total.eq(Mux(first, 0, sums.total) + word_total),
                sums.squares.eq(Mux(first, 0, sums.squares) + word_squares),
            ]
        with m.If(statistics.i.ready):
            m.d.sync += statistics.i.valid.eq(0)
        with m.If(row_done):
            m.d.sync += [statistics.i.valid.eq(1), statistics.i.payload.eq(sums)]
        entered = taken & source.last
        left = statistics.o.valid & statistics.o.ready
        m.d.sync += rows_open.eq(rows_open + entered - left)

        # Second pass. It stands still as a whole while it waits for gamma, beta or the taker.
        reader, target = position("reader"), position("target")
        advance = Signal()
        occupied = Signal(Normalizer.LATENCY + 1)  # bit n: there is a word in stage n
        read = Signal()
        m.d.comb += [
            read.eq(statistics.o.valid & advance),
            reader.advance.eq(read),
            statistics.o.ready.eq(reader.last & advance),
            ring.read_enable.eq(read),
            normalizer.advance.eq(advance),
            normalizer.x.eq(ring.read_data),
        ]
        with m.If(read):
            m.d.sync += ring.read_address.eq(
                Mux(ring.read_address == depth - 1, 0, ring.read_address + 1)
            )
        with m.If(taken & ~read):
            m.d.sync += used.eq(used + 1)
        with m.Elif(read & ~taken):
            m.d.sync += used.eq(used - 1)
        scale = Signal(RowScale(self.fmt, self.hidden))
        with m.If(advance):
            m.d.sync += [
                occupied.eq(Cat(statistics.o.valid, occupied)),
                scale.eq(statistics.o.payload),
            ]
        m.d.comb += normalizer.scale.eq(scale)

        # One word of gamma and beta is fetched ahead.
        affine_word = Signal(range(words))
        affine_valid, affine_open, affine_used = Signal(), Signal(), Signal()
        m.d.comb += [
            affine_used.eq(occupied[Normalizer.AFFINE_DELAY] & advance),
            affine_open.eq(affine_used | ~affine_valid),
            self.affine.ready.eq(affine_open & (affine_word == words - 1)),
        ]
        gamma, beta = Signal(word_width), Signal(word_width)
        with m.If(affine_open):
            m.d.sync += [
                affine_valid.eq(self.affine.valid),
                gamma.eq(self.affine.payload.gamma.as_value().word_select(affine_word, word_width)),
                beta.eq(self.affine.payload.beta.as_value().word_select(affine_word, word_width)),
            ]
            with m.If(self.affine.valid):
                m.d.sync += affine_word.eq(Mux(affine_word == words - 1, 0, affine_word + 1))
        m.d.comb += [normalizer.gamma.eq(gamma), normalizer.beta.eq(beta)]

        # Results are pruned word by word and shifted into the offered vector.
        produced = Signal()
        m.d.comb += [
            advance.eq(
                ~(occupied[-1] & self.o.valid & ~self.o.ready)
                & ~(occupied[Normalizer.AFFINE_DELAY] & ~affine_valid)
            ),
            produced.eq(occupied[-1] & advance),
            target.advance.eq(produced),
        ]
        keep = Signal(self.width)
        values = Signal(data.ArrayLayout(signed(self.fmt.width), self.width))
        for k in range(self.width):
            z = normalizer.z[k]
            m.d.comb += [
                keep[k].eq((abs(z) >= self.threshold) & (z != 0) & target.inside[k]),
                values[k].eq(Mux(keep[k], z, 0)),
            ]
        m.d.sync += self.saturated.eq(
            Mux(produced, count_ones(normalizer.saturated & target.inside), 0)
        )
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(produced):
            old_values, old_keep = self.o.payload.values.as_value(), self.o.payload.keep
            m.d.sync += [
                self.o.valid.eq(target.vector_last),
                self.o.payload.keep.eq(Cat(old_keep, keep)[self.width :]),
                self.o.payload.values.eq(Cat(old_values, values)[word_width:]),
            ]

        return m
