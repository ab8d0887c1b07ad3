"""Pack the effectual elements of vectors without gaps."""

from math import gcd

from amaranth import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.transfer import WORD_BITS, Beat
from acceltran.numeric.vector import Vector
from acceltran.sparsity.prefix_count import prefix_counts

__all__ = ["Compress", "VectorItem", "check_tile", "group_size"]


def check_tile(tile: int) -> None:
    """Raise ValueError unless vectors of this size can be compressed."""
    if tile not in (2, 4, 8, 16, 32, 64):
        raise ValueError(f"Vector size must be a power of two from 2 to 64, not {tile!r}")


def group_size(fmt: FixedPoint, tile: int) -> int:
    """Elements of the smallest number of vectors that fill whole words."""
    return tile * WORD_BITS // gcd(WORD_BITS, tile * fmt.width)


class VectorItem(data.StructLayout):
    """A vector, and whether it is the last of its tensor."""

    def __init__(self, fmt: FixedPoint, tile: int):
        super().__init__({"vector": Vector(fmt, tile), "end": 1})


class Compress(SharedComponent):
    """Pack the effectual elements of a tensor's vectors into words, without gaps.

    Words leave in groups of ``group`` elements, ``words`` words; the last group of a tensor has
    only as many words as it needs, padded with zero bits. There is none if no element is left for
    it. The next tensor begins with a new group.

    Latency is ``LATENCY`` cycles from the vector that completes a group; throughput is one vector
    per cycle, with one cycle more at the end of a tensor.

    Golden model: ``acceltran_sim.golden.compression.compress`` (the values).

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; a power of two from 2 to 64.

    Members
    -------
    i : ``In(stream.Signature(VectorItem(fmt, tile)))``
    o : ``Out(stream.Signature(Beat(words)))``
        Groups. ``first`` and ``end`` are always 0.
    """

    LATENCY = 4

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, fmt: FixedPoint, tile: int):
        check_tile(tile)
        self.fmt = fmt
        self.tile = tile
        self.group = group_size(fmt, tile)
        self.words = self.group * fmt.width // WORD_BITS
        super().__init__({
            "i": In(stream.Signature(VectorItem(fmt, tile))),
            "o": Out(stream.Signature(Beat(self.words))),
        })

    def elaborate(self, platform):
        m = Module()
        width, tile, group = self.fmt.width, self.tile, self.group
        move = Signal()  # all stages but the last
        m.d.comb += self.i.ready.eq(move)

        # Stage 1: each effectual element's place among those of its vector.
        count_valid, count_end = Signal(), Signal()
        count_vector = Signal(Vector(self.fmt, tile))
        count_places = Signal(data.ArrayLayout(range(tile), tile))
        count_total = Signal(range(tile + 1))
        *places, total = prefix_counts(m, self.i.payload.vector.keep, tile)
        with m.If(move):
            m.d.sync += [
                count_valid.eq(self.i.valid),
                count_end.eq(self.i.payload.end),
                count_vector.eq(self.i.payload.vector),
                count_total.eq(total),
            ]
            m.d.sync += [count_places[k].eq(place) for k, place in enumerate(places)]

        # Stage 2: bring them there.
        pack_valid, pack_end = Signal(), Signal()
        pack_values = Signal(data.ArrayLayout(width, tile))
        pack_total = Signal.like(count_total)
        for place in range(tile):
            candidates = []
            for k in range(place, tile):
                chosen = Signal(name=f"chosen_{place}_{k}")
                m.d.comb += chosen.eq(count_vector.keep[k] & (count_places[k] == place))
                candidates.append(count_vector.values[k].as_unsigned() & chosen.replicate(width))
            with m.If(move):
                m.d.sync += pack_values[place].eq(_any(candidates))
        with m.If(move):
            m.d.sync += [
                pack_valid.eq(count_valid),
                pack_end.eq(count_end),
                pack_total.eq(count_total),
            ]

        # Stage 3: rotate them to where the group continues.
        fill = Signal(range(group))
        turn_valid, turn_end = Signal(), Signal()
        turn_values = Signal(data.ArrayLayout(width, group))
        turn_fill = Signal.like(fill)
        turn_total = Signal(range(group + tile))
        sum_total = Signal.like(turn_total)
        m.d.comb += sum_total.eq(fill + pack_total)
        turned = Signal(group * width)
        m.d.comb += turned.eq(pack_values)
        for bit in range(len(fill)):
            rotated = Signal(group * width, name=f"turned_{bit}")
            m.d.comb += rotated.eq(Mux(fill[bit], turned.rotate_left(width << bit), turned))
            turned = rotated
        with m.If(move):
            m.d.sync += [
                turn_valid.eq(pack_valid),
                turn_end.eq(pack_end),
                turn_values.eq(turned),
                turn_fill.eq(fill),
                turn_total.eq(sum_total),
            ]
            with m.If(pack_valid):
                m.d.sync += fill.eq(Mux(pack_end, 0, sum_total))

        # Stage 4: complete the group; what is beyond it begins the next.
        held = Signal(data.ArrayLayout(width, group))
        flush = Signal()  # the tensor has ended; an incomplete group is held
        flush_words = Signal(range(self.words))
        may_leave = Signal()
        remainder = Signal(range(group))
        full = Signal()
        needed = [max(-(-k * width // WORD_BITS) - 1, 0) for k in range(group)]
        m.d.comb += [
            may_leave.eq(self.o.ready | ~self.o.valid),
            move.eq(~turn_valid | (may_leave & ~flush)),
            remainder.eq(turn_total),
            full.eq(turn_total >= group),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(flush & may_leave):
            m.d.sync += [
                flush.eq(0),
                self.o.valid.eq(1),
                self.o.payload.data.eq(held),
                self.o.payload.last.eq(flush_words),
            ]
        with m.Elif(turn_valid & move):
            merged = Cat(Mux(_exceeds(turn_fill, k), held[k], turn_values[k]) for k in range(group))
            m.d.sync += [
                flush.eq(turn_end & (remainder != 0)),
                flush_words.eq(Array(needed)[remainder]),
            ]
            with m.If(full):
                m.d.sync += [
                    self.o.valid.eq(1),
                    self.o.payload.data.eq(merged),
                    self.o.payload.last.eq(self.words - 1),
                ]
            for k in range(group):
                fresh = Mux(_exceeds(remainder, k), turn_values[k], 0)
                m.d.sync += held[k].eq(Mux(~full & _exceeds(turn_fill, k), held[k], fresh))
        return m


def _exceeds(value: Signal, limit: int) -> Value:
    """``value > limit``, without a comparison that is always false."""
    return value > limit if limit < (1 << len(value)) - 1 else Const(0, 1)


def _any(values):
    """OR of all, as a balanced tree."""
    while len(values) > 1:
        pairs = [a | b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]
