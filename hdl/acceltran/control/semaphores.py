"""The counters that order commands of different queues."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES
from acceltran.library import SharedComponent

__all__ = ["SemaphoreSignal", "Semaphores"]


class SemaphoreSignal(wiring.Signature):
    """Strobe that counts one on a semaphore."""

    def __init__(self):
        super().__init__({"valid": Out(1), "semaphore": Out(range(SEMAPHORES))})


class Semaphores(SharedComponent):
    """Count signals, modulo ``2 ** SEMAPHORE_COUNT_BITS``; any number of sources in a cycle.

    A signal is seen in ``counts`` one cycle later.

    Parameters
    ----------
    sources : int
        Who may signal; at least 1.

    Members
    -------
    clear : ``In(1)``
        Set all counts to 0.
    signals : ``In(SemaphoreSignal()).array(sources)``
    counts : ``Out(ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES))``
    """

    clear: Signal
    signals: Any
    counts: data.View

    def __init__(self, *, sources: int):
        if sources < 1:
            raise ValueError(f"Number of sources must be at least 1, not {sources!r}")
        self.sources = sources
        super().__init__({
            "clear": In(1),
            "signals": In(SemaphoreSignal()).array(sources),
            "counts": Out(data.ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES)),
        })

    def elaborate(self, platform):
        m = Module()
        for index in range(SEMAPHORES):
            hits = Signal(range(self.sources + 1), name=f"hits_{index}")
            m.d.comb += hits.eq(
                sum(
                    (source.valid & (source.semaphore == index) for source in self.signals),
                    start=0,
                )
            )
            with m.If(self.clear):
                m.d.sync += self.counts[index].eq(0)
            with m.Else():
                m.d.sync += self.counts[index].eq(self.counts[index] + hits)
        return m
