"""Spread packed elements out to the places that keep bits name."""

from amaranth import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.transfer import WORD_BITS, Beat
from acceltran.sparsity.compress import check_tile, group_size
from acceltran.sparsity.prefix_count import prefix_counts

__all__ = ["Decompress", "KeepItem"]


class KeepItem(data.StructLayout):
    """Keep bits of a vector, and whether it is the last of its tensor."""

    def __init__(self, tile: int):
        super().__init__({"keep": tile, "end": 1})


class Decompress(SharedComponent):
    """Spread packed elements out to the places that keep bits name; the others become 0.

    A tensor is a series of keep items, the last with ``end``, and a series of groups of packed
    elements, the last with ``end``. Elements, words and groups beyond those that the keep bits
    ask for are dropped, so every tensor needs at least one group.

    Latency is ``LATENCY`` cycles from a keep item whose elements are there; throughput is one
    vector per cycle, with a pause at the end of a tensor.

    Golden model: ``acceltran_sim.golden.compression.decompress``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; a power of two from 2 to 64.

    Members
    -------
    keeps : ``In(stream.Signature(KeepItem(tile)))``
    groups : ``In(stream.Signature(Beat(words)))``
        ``group`` elements each, packed; ``first`` and ``last`` are ignored.
    o : ``Out(stream.Signature(ArrayLayout(signed(fmt.width), tile)))``
    idle : ``Out(1)``
        Between tensors, and no vector is under way.
    """

    LATENCY = 3

    keeps: stream.Interface
    groups: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int):
        check_tile(tile)
        self.fmt = fmt
        self.tile = tile
        self.group = group_size(fmt, tile)
        self.words = self.group * fmt.width // WORD_BITS
        super().__init__({
            "keeps": In(stream.Signature(KeepItem(tile))),
            "groups": In(stream.Signature(Beat(self.words))),
            "o": Out(stream.Signature(data.ArrayLayout(signed(fmt.width), tile))),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width, tile, group = self.fmt.width, self.tile, self.group

        # Stage 1: which of the vector's packed elements each place takes.
        move = Signal()
        count_valid, count_end = Signal(), Signal()
        count_keep = Signal(tile)
        count_places = Signal(data.ArrayLayout(range(tile), tile))
        count_total = Signal(range(tile + 1))
        *places, total = prefix_counts(m, self.keeps.payload.keep, tile)
        m.d.comb += self.keeps.ready.eq(~count_valid | move)
        with m.If(self.keeps.ready):
            m.d.sync += [
                count_valid.eq(self.keeps.valid),
                count_end.eq(self.keeps.payload.end),
                count_keep.eq(self.keeps.payload.keep),
                count_total.eq(total),
            ]
            m.d.sync += [count_places[k].eq(place) for k, place in enumerate(places)]

        # Two groups are held; elements are consumed from ``head`` on, around both.
        held = [Signal(group * width, name=f"group_{half}") for half in range(2)]
        head = Signal(range(2 * group))
        stock = Signal(range(2 * group + 1))
        fill_half = Signal()  # half that takes the next group
        whole = Signal()  # the tensor's last group is held
        drain = Signal()  # the tensor's vectors are done; its last group is yet to come
        accept, room = Signal(), Signal()
        may_leave = Signal()
        m.d.comb += [
            room.eq(stock <= group),
            self.groups.ready.eq((room | drain) & ~whole),
            accept.eq(self.groups.valid & self.groups.ready),
            move.eq(count_valid & may_leave & (stock >= count_total) & ~drain),
        ]
        with m.If(accept):
            with m.Switch(fill_half):
                for half in range(2):
                    with m.Case(half):
                        m.d.sync += held[half].eq(self.groups.payload.data)
            m.d.sync += [fill_half.eq(~fill_half), whole.eq(self.groups.payload.end)]
        m.d.sync += [
            stock.eq(stock + Mux(accept, group, 0) - Mux(move, count_total, 0)),
        ]
        with m.If(move):
            m.d.sync += head.eq(head + count_total)
        with m.If((move & count_end) | drain):
            # Start afresh as soon as the last group has come.
            m.d.sync += [head.eq(0), stock.eq(0), fill_half.eq(0), whole.eq(0)]
            m.d.sync += drain.eq(~(whole | (accept & self.groups.payload.end)))

        # Stage 2: the elements that come next, first one lowest.
        window = Signal(2 * group * width)
        m.d.comb += [
            window[: group * width].eq(held[0]),
            window[group * width :].eq(held[1]),
        ]
        for bit in range(exact_log2(2 * group)):
            turned = Signal(2 * group * width, name=f"window_{bit}")
            m.d.comb += turned.eq(Mux(head[bit], window.rotate_right(width << bit), window))
            window = turned
        next_valid = Signal()
        next_elements = Signal(data.ArrayLayout(width, tile))
        next_keep = Signal(tile)
        next_places = Signal.like(count_places)
        with m.If(may_leave):
            m.d.sync += [
                next_valid.eq(move),
                next_elements.eq(window),
                next_keep.eq(count_keep),
                next_places.eq(count_places),
            ]

        # Stage 3: spread them.
        m.d.comb += [
            may_leave.eq(self.o.ready | ~self.o.valid),
            self.idle.eq(~count_valid & ~drain & ~next_valid & ~self.o.valid & (stock == 0)),
        ]
        with m.If(may_leave):
            m.d.sync += self.o.valid.eq(next_valid)
            for k in range(tile):
                element = Array(next_elements[j] for j in range(k + 1))[next_places[k]]
                m.d.sync += self.o.payload[k].eq(Mux(next_keep[k], element, 0))
        return m
