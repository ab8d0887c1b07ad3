"""Node of a tree that brings a stream to all leaves."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["ForkNode"]


class ForkNode(SharedComponent):
    """Hold up to ``DEPTH`` items, and pass each on to every branch once, in order.

    A branch may take an item before the others do; one that is slow stops only what the nodes
    cannot hold. Latency is ``LATENCY`` cycle(s), throughput one item per cycle.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.
    branches : int
        Number of branches; at least 1.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape)).array(branches)``
    """

    DEPTH = 2
    LATENCY = 1

    i: stream.Interface
    o: list[stream.Interface]

    def __init__(self, *, shape, branches: int):
        if branches < 1:
            raise ValueError(f"Number of branches must be at least 1, not {branches!r}")
        self.shape = shape
        self.branches = branches
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)).array(branches),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(shape=self.shape, depth=self.DEPTH)
        served = Signal(self.branches)  # branches that have taken the oldest item already
        now_served = Signal(self.branches)
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid),
            self.i.ready.eq(queue.i.ready),
            now_served.eq(served | Cat(branch.ready for branch in self.o)),
            queue.o.ready.eq(now_served.all()),
        ]
        for branch, done in zip(self.o, served, strict=True):
            m.d.comb += [
                branch.payload.eq(queue.o.payload),
                branch.valid.eq(queue.o.valid & ~done),
            ]
        with m.If(queue.o.valid):
            m.d.sync += served.eq(now_served)
            with m.If(queue.o.ready):
                m.d.sync += served.eq(0)
        return m
