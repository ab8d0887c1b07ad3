"""What is kept by several sources, for each entry of the threshold table."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import BODIES, THRESHOLDS, Opcode
from acceltran.control.kept_counter import Kept, KeptCounter
from acceltran.library import SharedComponent

__all__ = ["ELEMENTS", "KeptQuery", "KeptTotals"]

ELEMENTS = next(f.width for f in BODIES[Opcode.THRESHOLD] if f.name == "elements")
"""Bits of a number of elements."""


class KeptQuery(wiring.Signature):
    """Question for a total.

    Members
    -------
    flush : ``Out(1)``
        Strobe: nothing is kept any more.
    enable : ``Out(1)``
        Strobe, after ``flush``: tell the total of ``entry``.
    entry : ``Out(range(THRESHOLDS))``
    """

    def __init__(self):
        super().__init__({"flush": Out(1), "enable": Out(1), "entry": Out(range(THRESHOLDS))})


class KeptTotals(SharedComponent):
    """Add up what sources keep, from reset on; each of any entry in any cycle.

    A total is there ``LATENCY`` cycles after it was asked for, until the next one is.

    Parameters
    ----------
    most : tuple of int
        For each source, the largest count of a cycle; at least one source.

    Members
    -------
    kept0, kept1 ... : ``In(Kept(most))``
        What the sources keep.
    query : ``In(KeptQuery())``
    total : ``Out(ELEMENTS)``
    """

    LATENCY = 1 + KeptCounter.LATENCY

    query: Any
    total: Signal

    def __init__(self, *, most: tuple[int, ...]):
        if not most:
            raise ValueError("Number of sources must be at least 1, not 0")
        self.most = most
        super().__init__({
            **{f"kept{n}": In(Kept(count)) for n, count in enumerate(most)},
            "query": In(KeptQuery()),
            "total": Out(ELEMENTS),
        })

    def elaborate(self, platform):
        m = Module()
        counters = [KeptCounter(most=count, width=ELEMENTS) for count in self.most]
        for n, counter in enumerate(counters):
            m.submodules[f"counter{n}"] = counter
            m.d.comb += [
                counter.kept.eq(getattr(self, f"kept{n}")),
                counter.flush.eq(self.query.flush),
                counter.read_enable.eq(self.query.enable),
                counter.read_entry.eq(self.query.entry),
            ]
        m.d.sync += self.total.eq(sum((counter.total for counter in counters), start=0))
        return m
