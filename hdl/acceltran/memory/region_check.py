"""Let only those transfers pass that lie inside the DRAM region."""

from amaranth import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS
from acceltran.memory.transfer import TransferRequest

__all__ = ["RegionCheck"]


class RegionCheck(SharedComponent):
    """Pass requests on whose bytes all lie in ``region_first`` to ``region_last``, both included.

    A request that does not, or whose address is not a multiple of 8, is withheld: ``error`` is
    raised for one cycle, and no further request passes until reset.

    Latency is ``LATENCY`` cycles; one request at a time.

    Members
    -------
    i, o : ``In``, ``Out(stream.Signature(TransferRequest()))``
    region_first, region_last : ``In(64)``
        Byte addresses; constant while requests are checked.
    error : ``Out(1)``
    """

    LATENCY = 3

    i: stream.Interface
    o: stream.Interface
    region_first: Signal
    region_last: Signal
    error: Signal

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(TransferRequest())),
            "o": Out(stream.Signature(TransferRequest())),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        request = Signal(TransferRequest())
        last = Signal(ADDRESS_BITS + 1)
        inside = Signal()
        m.d.comb += self.o.payload.eq(request)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    request.eq(self.i.payload),
                    last.eq(self.i.payload.address + (self.i.payload.words << 3) - 1),
                ]
                with m.If(self.i.valid):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += inside.eq(
                    (request.address >= self.region_first)
                    & (last <= self.region_last)
                    & (request.address[:3] == 0)
                )
                m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(inside):
                    m.next = "OFFER"
                with m.Else():
                    m.d.comb += self.error.eq(1)
                    m.next = "REFUSED"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
            with m.State("REFUSED"):
                pass
        return m
