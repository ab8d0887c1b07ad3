"""Where a unit is in a row of vectors that it takes word by word."""

from amaranth import Module, Mux, Signal
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.library import SharedComponent

__all__ = ["RowPosition"]


class RowPosition(SharedComponent):
    """Count the words of ``width`` elements of rows of ``blocks`` vectors, row after row.

    The outputs describe the current word, which ``advance`` ends. They depend combinationally on
    ``columns`` and ``blocks`` only, which are static while a row is under way.

    Parameters
    ----------
    tile : int
        Elements of a vector; at least 1.
    width : int
        Elements of a word; divides ``tile``.
    hidden : int
        Elements of the longest row; at least 1.

    Members
    -------
    columns : ``In(range(hidden + 1))``
        Elements of a row.
    blocks : ``In(range(ceil(hidden / tile) + 1))``
        Vectors of a row.
    advance : ``In(1)``
        Go on to the next word.
    word : ``Out(range(tile // width))``
        Place of the word in its vector.
    inside : ``Out(width)``
        Bit ``k`` is 1 if element ``k`` of the word is one of the row's ``columns``.
    first, last : ``Out(1)``
        The word is the first, the last of its row.
    vector_last : ``Out(1)``
        The word is the last of its vector.
    """

    columns: Signal
    blocks: Signal
    advance: Signal
    word: Signal
    inside: Signal
    first: Signal
    last: Signal
    vector_last: Signal

    def __init__(self, *, tile: int, width: int, hidden: int):
        if tile < 1:
            raise ValueError(f"Tile must be at least 1, not {tile!r}")
        if width < 1 or tile % width:
            raise ValueError(f"Width must divide the tile ({tile}), not {width!r}")
        if hidden < 1:
            raise ValueError(f"Hidden size must be at least 1, not {hidden!r}")
        self.tile = tile
        self.width = width
        self.hidden = hidden
        super().__init__({
            "columns": In(range(hidden + 1)),
            "blocks": In(range(-(-hidden // tile) + 1)),
            "advance": In(1),
            "word": Out(ceil_log2(tile // width)),
            "inside": Out(width),
            "first": Out(1),
            "last": Out(1),
            "vector_last": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        block = Signal.like(self.blocks)
        later_columns = Signal.like(self.columns)  # from this word on, unless it is the first
        columns = Signal.like(self.columns)

        m.d.comb += [
            self.first.eq((block == 0) & (self.word == 0)),
            self.vector_last.eq(self.word == self.tile // self.width - 1),
            self.last.eq(self.vector_last & (block + 1 == self.blocks)),
            columns.eq(Mux(self.first, self.columns, later_columns)),
        ]
        for k in range(self.width):
            m.d.comb += self.inside[k].eq(columns > k)
        with m.If(self.advance):
            m.d.sync += later_columns.eq(Mux(columns > self.width, columns - self.width, 0))
            with m.If(self.vector_last):
                m.d.sync += [self.word.eq(0), block.eq(Mux(self.last, 0, block + 1))]
            with m.Else():
                m.d.sync += self.word.eq(self.word + 1)

        return m
