"""Count what is kept, for each entry of the threshold table."""

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import THRESHOLDS
from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram

__all__ = ["Kept", "KeptCounter"]


class Kept(data.StructLayout):
    """Layout of what is written in a cycle.

    Members
    -------
    entry : ``range(THRESHOLDS)``
        Entry of the threshold table whose threshold was applied; no matter if ``count`` is 0.
    count : ``range(most + 1)``
        Elements that were kept.
    """

    def __init__(self, most: int):
        super().__init__({"entry": range(THRESHOLDS), "count": range(most + 1)})


class KeptCounter(SharedComponent):
    """Add up ``kept.count`` for each entry, from reset on; any entry in any cycle.

    The entry at hand is counted in a register. ``flush`` brings it to the memory that holds the
    others, from which ``total`` is read.

    Latency of a read is ``LATENCY`` cycle(s).

    Parameters
    ----------
    most : int
        Largest count of a cycle; at least 1.
    width : int
        Bits of a total, which wraps; at least 1.

    Members
    -------
    kept : ``In(Kept(most))``
    flush : ``In(1)``
        Strobe; with it and after it nothing is kept.
    read_enable : ``In(1)``
    read_entry : ``In(range(THRESHOLDS))``
    total : ``Out(width)``
        Of ``read_entry`` with the last ``read_enable`` after ``flush``.
    """

    LATENCY = 1

    kept: Any
    flush: Signal
    read_enable: Signal
    read_entry: Signal
    total: Signal

    def __init__(self, *, most: int, width: int):
        if most < 1:
            raise ValueError(f"Largest count must be at least 1, not {most!r}")
        if width < 1:
            raise ValueError(f"Width of a total must be at least 1, not {width!r}")
        self.most = most
        self.width = width
        super().__init__({
            "kept": In(Kept(most)),
            "flush": In(1),
            "read_enable": In(1),
            "read_entry": In(range(THRESHOLDS)),
            "total": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.totals = totals = Ram(width=self.width, depth=THRESHOLDS)
        touched = Signal(THRESHOLDS)  # entries with a total in the memory
        counting, known = Signal(), Signal()
        entry = Signal(range(THRESHOLDS))
        running = Signal(unsigned(self.width))
        some, change = Signal(), Signal()
        m.d.comb += [
            some.eq(self.kept.count != 0),
            change.eq(some & (~counting | (self.kept.entry != entry))),
            self.total.eq(Mux(known, totals.read_data, 0)),
            totals.write_enable.eq(counting & (change | self.flush)),
            totals.write_address.eq(entry),
            totals.write_data.eq(self.total + running),
            totals.read_enable.eq(change | self.read_enable),
            totals.read_address.eq(Mux(change, self.kept.entry, self.read_entry)),
        ]
        with m.If(totals.read_enable):
            m.d.sync += known.eq(touched.bit_select(totals.read_address, 1))
        with m.If(totals.write_enable):
            m.d.sync += [touched.bit_select(entry, 1).eq(1), counting.eq(0)]
        with m.If(change):
            m.d.sync += [counting.eq(1), entry.eq(self.kept.entry), running.eq(self.kept.count)]
        with m.Elif(some):
            m.d.sync += running.eq(running + self.kept.count)
        return m
