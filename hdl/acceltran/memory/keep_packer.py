"""Pack the keep bits of a tensor's vectors into words."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.transfer import WORD_BITS
from acceltran.sparsity.compress import check_tile
from acceltran.sparsity.decompress import KeepItem
from acceltran.sparsity.prefix_count import prefix_counts

__all__ = ["KeepPacker"]


class KeepPacker(SharedComponent):
    """Pack the keep bits of vectors into words, and count them.

    Vector v of a tensor takes ``tile`` bits from bit ``v * tile`` on, the first bit lowest; the
    last word is padded with zeros.

    Latency is ``LATENCY`` cycle(s) from the item that completes a word; throughput is one item
    per cycle.

    Parameters
    ----------
    tile : int
        Elements per vector; a power of two from 2 to 64.

    Members
    -------
    i : ``In(stream.Signature(KeepItem(tile)))``
    o : ``Out(stream.Signature(64))``
    clear : ``In(1)``
        Set ``total`` to 0.
    total : ``Out``
        Ones in all items taken since ``clear``; two cycles after the last of them.
    """

    LATENCY = 1

    i: stream.Interface
    o: stream.Interface
    clear: Signal
    total: Signal

    def __init__(self, *, tile: int):
        check_tile(tile)
        self.tile = tile
        super().__init__({
            "i": In(stream.Signature(KeepItem(tile))),
            "o": Out(stream.Signature(WORD_BITS)),
            "clear": In(1),
            "total": Out(range((tile << ADDRESS_WIDTH) + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        per_word = WORD_BITS // self.tile
        item = self.i.payload
        word, merged = Signal(WORD_BITS), Signal(WORD_BITS)
        place = Signal(range(per_word))
        complete, take = Signal(), Signal()
        m.d.comb += [
            complete.eq((place == per_word - 1) | item.end),
            self.i.ready.eq(~complete | self.o.ready | ~self.o.valid),
            take.eq(self.i.valid & self.i.ready),
            merged.eq(word),
        ]
        with m.Switch(place):
            for k in range(per_word):
                with m.Case(k):
                    m.d.comb += merged[k * self.tile : (k + 1) * self.tile].eq(item.keep)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(take):
            m.d.sync += [word.eq(merged), place.eq(place + 1)]
            with m.If(complete):
                m.d.sync += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(merged),
                    word.eq(0),
                    place.eq(0),
                ]

        ones = Signal(range(self.tile + 1))
        m.d.sync += [
            ones.eq(Mux(take, prefix_counts(m, item.keep, self.tile)[-1], 0)),
            self.total.eq(Mux(self.clear, 0, self.total + ones)),
        ]
        return m
