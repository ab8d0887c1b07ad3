"""Addresses of the vectors of a matrix, row by row."""

from amaranth import Module, Signal, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH

__all__ = ["RowRange", "RowWalker", "VectorPlace"]

COUNT_WIDTH = 16


class RowRange(data.StructLayout):
    """Rows of ``blocks`` vectors each, ``row_stride`` vectors apart; no count is 0."""

    def __init__(self):
        super().__init__({
            "base": unsigned(ADDRESS_WIDTH),
            "row_stride": unsigned(COUNT_WIDTH),
            "rows": unsigned(COUNT_WIDTH),
            "blocks": unsigned(COUNT_WIDTH),
        })


class VectorPlace(data.StructLayout):
    """Address of one vector, and whether it ends its row and the matrix."""

    def __init__(self):
        super().__init__({
            "address": unsigned(ADDRESS_WIDTH),
            "row_end": unsigned(1),
            "end": unsigned(1),
        })


class RowWalker(SharedComponent):
    """Walk the vectors of a matrix in row order.

    The k-th vector of row r is at ``base + r * row_stride + k``, modulo ``2 ** ADDRESS_WIDTH``.

    Latency is ``LATENCY`` cycle(s); throughput is one address per cycle, and a cycle between
    matrices.

    Members
    -------
    i : ``In(stream.Signature(RowRange()))``
    o : ``Out(stream.Signature(VectorPlace()))``
    """

    LATENCY = 1

    i: stream.Interface
    o: stream.Interface

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(RowRange())),
            "o": Out(stream.Signature(VectorPlace())),
        })

    def elaborate(self, platform):
        m = Module()
        row_start = Signal(ADDRESS_WIDTH)
        stride, blocks = Signal(COUNT_WIDTH), Signal(COUNT_WIDTH)
        rows_left, blocks_left = Signal(COUNT_WIDTH), Signal(COUNT_WIDTH)
        place = self.o.payload
        following_row = Signal(ADDRESS_WIDTH)
        m.d.comb += [
            self.i.ready.eq(~self.o.valid),
            following_row.eq(row_start + stride),
            place.row_end.eq(blocks_left == 1),
            place.end.eq((blocks_left == 1) & (rows_left == 1)),
        ]
        with m.If(self.i.valid & self.i.ready):
            job = self.i.payload
            m.d.sync += [
                self.o.valid.eq(1),
                place.address.eq(job.base),
                row_start.eq(job.base),
                stride.eq(job.row_stride),
                blocks.eq(job.blocks),
                rows_left.eq(job.rows),
                blocks_left.eq(job.blocks),
            ]
        with m.If(self.o.valid & self.o.ready):
            with m.If(place.end):
                m.d.sync += self.o.valid.eq(0)
            with m.Elif(place.row_end):
                m.d.sync += [
                    place.address.eq(following_row),
                    row_start.eq(following_row),
                    rows_left.eq(rows_left - 1),
                    blocks_left.eq(blocks),
                ]
            with m.Else():
                m.d.sync += [
                    place.address.eq(place.address + 1),
                    blocks_left.eq(blocks_left - 1),
                ]
        return m
