"""Cut the keep bits of a tensor out of words."""

from amaranth import Module, Signal, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.transfer import WORD_BITS, Beat
from acceltran.sparsity.compress import check_tile
from acceltran.sparsity.decompress import KeepItem

__all__ = ["KeepUnpacker"]


class KeepUnpacker(SharedComponent):
    """Cut words into the keep bits of ``vectors`` vectors, and drop what is left of the last word.

    Latency is ``LATENCY`` cycle(s) from the word; throughput is one vector per cycle, with one
    cycle more per tensor.

    Parameters
    ----------
    tile : int
        Elements per vector; a power of two from 2 to 64.

    Members
    -------
    vectors : ``In(stream.Signature(unsigned(ADDRESS_WIDTH)))``
        A tensor; not 0. The next one is taken when this one is done.
    words : ``In(stream.Signature(Beat(1)))``
        ``first``, ``last`` and ``end`` are ignored.
    o : ``Out(stream.Signature(KeepItem(tile)))``
    """

    LATENCY = 1

    vectors: stream.Interface
    words: stream.Interface
    o: stream.Interface

    def __init__(self, *, tile: int):
        check_tile(tile)
        self.tile = tile
        super().__init__({
            "vectors": In(stream.Signature(unsigned(ADDRESS_WIDTH))),
            "words": In(stream.Signature(Beat(1))),
            "o": Out(stream.Signature(KeepItem(tile))),
        })

    def elaborate(self, platform):
        m = Module()
        per_word = WORD_BITS // self.tile
        left = Signal(ADDRESS_WIDTH)
        word, parts = Signal(WORD_BITS), Signal(range(per_word + 1))
        take = Signal()
        m.d.comb += [
            self.vectors.ready.eq((left == 0) & (parts == 0)),
            self.o.valid.eq(parts != 0),
            self.o.payload.keep.eq(word),
            self.o.payload.end.eq(left == 1),
            take.eq(self.o.valid & self.o.ready),
            self.words.ready.eq(((left != 0) & (parts == 0)) | (take & (parts == 1) & (left != 1))),
        ]
        with m.If(self.vectors.valid & self.vectors.ready):
            m.d.sync += left.eq(self.vectors.payload)
        with m.If(take):
            m.d.sync += [left.eq(left - 1), word.eq(word >> self.tile), parts.eq(parts - 1)]
            with m.If(left == 1):
                m.d.sync += parts.eq(0)
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += [word.eq(self.words.payload.data[0]), parts.eq(per_word)]
        return m
