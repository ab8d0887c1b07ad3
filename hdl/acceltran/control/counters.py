"""Performance counters of 64 bits."""

from typing import Any

from amaranth import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent

__all__ = ["Counters"]


class Counters(SharedComponent):
    """Add up increments; read one total at a time.

    An increment is in the total two cycles later. A read takes ``LATENCY`` cycle(s).

    Parameters
    ----------
    widths : tuple of (str, int)
        Name and width of every increment, in the order of the index.

    Members
    -------
    clear : ``In(1)``
        Set all totals to 0.
    increments : one ``In(width)`` for each name
    index : ``In(range(len(widths)))``
    total : ``Out(64)``
        Of the counter that ``index`` named a cycle ago.
    """

    LATENCY = 1

    clear: Signal
    increments: Any
    index: Signal
    total: Signal

    def __init__(self, *, widths: tuple[tuple[str, int], ...]):
        if not widths:
            raise ValueError("Number of counters must be at least 1, not 0")
        self.widths = widths
        super().__init__({
            "clear": In(1),
            "increments": In(wiring.Signature({name: Out(width) for name, width in widths})),
            "index": In(range(max(2, len(widths)))),
            "total": Out(64),
        })

    def elaborate(self, platform):
        m = Module()
        totals = []
        for name, width in self.widths:
            step = Signal(width, name=f"{name}_step")
            total = Signal(64, name=f"{name}_total")
            m.d.sync += [step.eq(getattr(self.increments, name)), total.eq(total + step)]
            with m.If(self.clear):
                m.d.sync += [step.eq(0), total.eq(0)]
            totals.append(total)
        m.d.sync += self.total.eq(Array(totals)[self.index])
        return m
