"""Fair choice among requesters."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent

__all__ = ["RoundRobin"]


class RoundRobin(SharedComponent):
    """Grant one requester at a time, in turn.

    ``grant`` has one bit at most, that of the first requester after the one granted last, cyclic.
    A grant counts in the cycle in which it is given: what is granted must be done.
    Combinational from ``requests`` to ``grant``.

    Parameters
    ----------
    count : int
        Number of requesters; at least 1.

    Members
    -------
    requests : ``In(count)``
        Who asks.
    grant : ``Out(count)``
        Who gets it.
    """

    requests: Signal
    grant: Signal

    def __init__(self, *, count: int):
        if count < 1:
            raise ValueError(f"Number of requesters must be at least 1, not {count!r}")
        self.count = count
        super().__init__({"requests": In(count), "grant": Out(count)})

    def elaborate(self, platform):
        m = Module()
        later = Signal(self.count)  # requesters after the one granted last
        preferred = Signal(self.count)
        chosen = Signal(self.count)
        m.d.comb += [
            preferred.eq(self.requests & later),
            chosen.eq(Mux(preferred.any(), preferred, self.requests)),
            self.grant.eq(Cat(chosen[n] & ~chosen[:n].any() for n in range(self.count))),
        ]
        with m.If(self.requests.any()):
            m.d.sync += later.eq(Cat(self.grant[:n].any() for n in range(self.count)))
        return m
