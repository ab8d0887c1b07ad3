"""Buffer addresses of a transfer."""

from amaranth import Module, Signal, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import COUNT
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH

__all__ = ["TransferPlace", "TransferRange", "TransferWalker"]


class TransferRange(data.StructLayout):
    """``vectors`` vectors in rows of ``row_vectors``, ``row_stride`` apart; no count is 0."""

    def __init__(self):
        super().__init__({
            "base": unsigned(ADDRESS_WIDTH),
            "vectors": unsigned(ADDRESS_WIDTH),
            "row_vectors": unsigned(COUNT),
            "row_stride": unsigned(COUNT),
        })


class TransferPlace(data.StructLayout):
    """Address of one vector, and whether it is the last."""

    def __init__(self):
        super().__init__({"address": unsigned(ADDRESS_WIDTH), "end": unsigned(1)})


class TransferWalker(SharedComponent):
    """Walk ``vectors`` vectors in row order; the last row may be short.

    The k-th vector of row r is at ``base + r * row_stride + k``, modulo ``2 ** ADDRESS_WIDTH``.

    Latency is ``LATENCY`` cycle(s); throughput is one address per cycle, and a cycle between
    transfers.

    Members
    -------
    i : ``In(stream.Signature(TransferRange()))``
    o : ``Out(stream.Signature(TransferPlace()))``
    """

    LATENCY = 1

    i: stream.Interface
    o: stream.Interface

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(TransferRange())),
            "o": Out(stream.Signature(TransferPlace())),
        })

    def elaborate(self, platform):
        m = Module()
        row_start = Signal(ADDRESS_WIDTH)
        row_stride, row_vectors = Signal(COUNT), Signal(COUNT)
        left, row_left = Signal(ADDRESS_WIDTH), Signal(COUNT)
        following_row = Signal(ADDRESS_WIDTH)
        job, place = self.i.payload, self.o.payload
        m.d.comb += [
            self.i.ready.eq(~self.o.valid),
            place.end.eq(left == 1),
            following_row.eq(row_start + row_stride),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                self.o.valid.eq(1),
                place.address.eq(job.base),
                row_start.eq(job.base),
                row_stride.eq(job.row_stride),
                row_vectors.eq(job.row_vectors),
                left.eq(job.vectors),
                row_left.eq(job.row_vectors),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += left.eq(left - 1)
            with m.If(place.end):
                m.d.sync += self.o.valid.eq(0)
            with m.If(row_left == 1):
                m.d.sync += [
                    place.address.eq(following_row),
                    row_start.eq(following_row),
                    row_left.eq(row_vectors),
                ]
            with m.Else():
                m.d.sync += [place.address.eq(place.address + 1), row_left.eq(row_left - 1)]
        return m
