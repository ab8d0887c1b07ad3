"""Node of a tree that waits for all leaves."""

from amaranth import Module, Signal
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent

__all__ = ["BarrierNode"]


class BarrierNode(SharedComponent):
    """Strobe once for each strobe that all branches have given.

    Latency is ``LATENCY`` cycle(s) after the last branch.

    Parameters
    ----------
    branches : int
        Number of branches; at least 1.
    most : int
        How many strobes a branch may be ahead of ``all_done``; at least 1.

    Members
    -------
    done : ``In(branches)``
    all_done : ``Out(1)``
    """

    LATENCY = 1

    done: Signal
    all_done: Signal

    def __init__(self, *, branches: int, most: int):
        if branches < 1:
            raise ValueError(f"Number of branches must be at least 1, not {branches!r}")
        if most < 1:
            raise ValueError(f"Number of strobes must be at least 1, not {most!r}")
        self.branches = branches
        self.most = most
        super().__init__({"done": In(branches), "all_done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        counts = [Signal(range(self.most + 1), name=f"count{n}") for n in range(self.branches)]
        pending = Signal(self.branches)
        m.d.comb += self.all_done.eq(pending.all())
        for number, count in enumerate(counts):
            m.d.comb += pending[number].eq(count != 0)
            m.d.sync += count.eq(count + self.done[number] - self.all_done)
        return m
