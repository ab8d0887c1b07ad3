"""Share the loads of weights among several AXI masters."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from acceltran.arch.commands import Opcode
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["LoadSplitter"]


class LoadSplitter(SharedComponent):
    """Cut a dense load of consecutive weights into as many parts as there are masters.

    Part k of such a load, whose rows follow one another without a gap in the buffer, has
    ``vectors // masters`` vectors from ``k * (vectors // masters)`` on, the last part those that
    are left as well. Other loads, and those of fewer vectors than masters, go to master 0 whole. A
    load is done when all of its parts are.

    Latency is ``LATENCY`` cycles to the first part, and one for each part after it; a load whose
    parts are taken at once is followed by the next one ``LATENCY + masters`` cycles later.

    Parameters
    ----------
    masters : int
        Number of AXI masters; a power of two.
    vector_bytes : int
        Bytes of a vector in DRAM.

    Members
    -------
    i : ``In(stream.Signature(command_layout(Opcode.LOAD)))``
        Loads.
    parts : ``Out(stream.Signature(command_layout(Opcode.LOAD))).array(masters)``
        Parts of each master.
    part_done : ``In(masters)``
        Strobes: the master has done the oldest of its parts.
    done : ``Out(1)``
        Strobe: the oldest load is done.
    """

    LATENCY = 2
    UNDER_WAY = 16
    """Loads that are not done, at most."""

    i: stream.Interface
    parts: list[stream.Interface]
    part_done: Signal
    done: Signal

    def __init__(self, *, masters: int, vector_bytes: int):
        if masters < 1 or masters & (masters - 1):
            raise ValueError(f"Number of masters must be a power of two, not {masters!r}")
        if vector_bytes < 1:
            raise ValueError(f"Bytes of a vector must be at least 1, not {vector_bytes!r}")
        self.masters = masters
        self.vector_bytes = vector_bytes
        load = stream.Signature(command_layout(Opcode.LOAD))
        super().__init__({
            "i": In(load),
            "parts": Out(load).array(masters),
            "part_done": In(masters),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        bits = exact_log2(self.masters)
        load: Any = Signal(command_layout(Opcode.LOAD))
        split = Signal()
        share, left = Signal.like(load.vectors), Signal.like(load.vectors)
        step = Signal.like(load.dram_address)
        offered = Signal(range(self.masters + 1))  # the master whose part is on offer
        taken = Signal(self.masters)
        whole = self.i.payload
        m.submodules.started = started = Queue(shape=unsigned(1), depth=self.UNDER_WAY)
        with m.FSM():
            with m.State("take"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    load.eq(whole),
                    split.eq(
                        ~whole.compressed
                        & whole.buffer
                        & (whole.row_vectors == whole.row_stride)
                        & (whole.vectors >= self.masters)
                    ),
                    share.eq(whole.vectors >> bits),
                    left.eq(whole.vectors),
                    offered.eq(0),
                ]
                with m.If(self.i.valid):
                    m.next = "measure"
            with m.State("measure"):
                m.d.sync += step.eq(share * self.vector_bytes)
                m.d.comb += started.i.valid.eq(1)
                with m.If(started.i.ready):
                    m.next = "offer"
            with m.State("offer"):
                last = Mux(split, offered == self.masters - 1, 1)
                for master, part in enumerate(self.parts):
                    m.d.comb += [
                        part.valid.eq(offered == master),
                        taken[master].eq(part.valid & part.ready),
                    ]
                with m.If(taken.any()):
                    m.d.sync += [
                        offered.eq(offered + 1),
                        load.base.eq(load.base + share),
                        load.dram_address.eq(load.dram_address + step),
                        left.eq(left - share),
                    ]
                    with m.If(last):
                        m.next = "take"
        for part in self.parts:
            m.d.comb += part.payload.eq(load)
            with m.If(split):
                m.d.comb += [
                    part.payload.vectors.eq(Mux(offered == self.masters - 1, left, share)),
                    part.payload.row_vectors.eq(1),
                    part.payload.row_stride.eq(1),
                ]

        # Parts that are done before those of other masters.
        counts = [
            Signal(range(self.UNDER_WAY + 1), name=f"done{master}")
            for master in range(self.masters)
        ]
        some = Cat(count != 0 for count in counts)
        m.d.comb += [
            started.i.payload.eq(split),
            started.o.ready.eq(self.done),
            self.done.eq(started.o.valid & Mux(started.o.payload, some.all(), some[0])),
        ]
        for master, count in enumerate(counts):
            ended = self.done & (1 if master == 0 else started.o.payload)
            m.d.sync += count.eq(count + self.part_done[master] - ended)
        return m
