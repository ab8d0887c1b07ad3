"""Transposition of square blocks of vectors."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent

__all__ = ["Transposer"]


class Transposer(SharedComponent):
    """Turn the rows of blocks of ``tile`` x ``tile`` elements into their columns.

    Of each ``tile`` vectors ``x[0], x[1], ...`` that enter, the vectors ``y[k]`` leave, where
    ``y[k][n] = x[n][k]``. One vector enters and one leaves per cycle: a block enters while the one
    before it leaves. Once the first vector of a block has entered, the block before it leaves only
    at the pace at which the others enter; whoever feeds it must not wait for what leaves.

    Latency is ``LATENCY`` cycle(s) from the last row of a block to its first column.

    Parameters
    ----------
    width : int
        Bits per element; at least 1.
    tile : int
        Elements per vector, vectors per block; at least 2.

    Members
    -------
    i : ``In(stream.Signature(ArrayLayout(signed(width), tile)))``
        Rows.
    o : ``Out(stream.Signature(ArrayLayout(signed(width), tile)))``
        Columns.
    """

    LATENCY = 1

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, width: int, tile: int):
        if width < 1:
            raise ValueError(f"Element width must be at least 1, not {width!r}")
        if tile < 2:
            raise ValueError(f"Vector size must be at least 2, not {tile!r}")
        self.width = width
        self.tile = tile
        vector = data.ArrayLayout(signed(width), tile)
        super().__init__({
            "i": In(stream.Signature(vector)),
            "o": Out(stream.Signature(vector)),
        })

    def elaborate(self, platform):
        m = Module()
        size = self.tile
        # A block enters at the end of one dimension and leaves at the start of the other; the next
        # one enters in the direction in which it leaves, and so on in turn.
        cells = [
            [Signal(signed(self.width), name=f"cell_{row}_{column}") for column in range(size)]
            for row in range(size)
        ]
        sideways = Signal()
        entered = Signal(range(size))  # vectors of the block that enters
        leaving = Signal(range(size + 1))  # vectors that the other block still has
        take, shift = Signal(), Signal()
        room = Signal()
        m.d.comb += [
            room.eq((leaving == 0) | self.o.ready),
            self.i.ready.eq(room),
            take.eq(self.i.valid & room),
            self.o.valid.eq((leaving != 0) & ((entered == 0) | self.i.valid)),
            shift.eq(take | (self.o.valid & self.o.ready)),
        ]
        for k in range(size):
            m.d.comb += self.o.payload[k].eq(Mux(sideways, cells[k][0], cells[0][k]))
        with m.If(shift):
            for row in range(size):
                for column in range(size):
                    above = cells[row + 1][column] if row + 1 < size else self.i.payload[column]
                    beside = cells[row][column + 1] if column + 1 < size else self.i.payload[row]
                    m.d.sync += cells[row][column].eq(Mux(sideways, beside, above))
            with m.If(leaving != 0):
                m.d.sync += leaving.eq(leaving - 1)
        with m.If(take):
            m.d.sync += entered.eq(entered + 1)
            with m.If(entered == size - 1):
                m.d.sync += [entered.eq(0), leaving.eq(size), sideways.eq(~sideways)]
        return m
