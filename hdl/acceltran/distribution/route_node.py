"""Node of a tree that brings each item of a stream to one leaf."""

from amaranth import Module, Signal, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.distribution.tree import FAN_OUT, FAN_OUT_BITS
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["RouteNode", "Routed"]


class Routed(data.StructLayout):
    """Layout of an item on its way.

    Members
    -------
    leaf : ``unsigned(FAN_OUT_BITS * levels)``
        Which of the leaves below, ``levels`` levels away.
    item : ``shape``
    """

    def __init__(self, shape, levels: int):
        super().__init__({"leaf": unsigned(FAN_OUT_BITS * levels), "item": shape})


class RouteNode(SharedComponent):
    """Hold up to ``DEPTH`` items, and pass each on to its branch, in order.

    Latency is ``LATENCY`` cycle(s), throughput one item per cycle.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.
    levels : int
        Levels of nodes down to the leaves, this one included; at least 1.
    branches : int
        Number of branches; from 1 to ``FAN_OUT``. Items are for these only.

    Members
    -------
    i : ``In(stream.Signature(Routed(shape, levels)))``
    o : ``Out(stream.Signature(Routed(shape, levels - 1))).array(branches)``
    """

    DEPTH = 2
    LATENCY = 1

    i: stream.Interface
    o: list[stream.Interface]

    def __init__(self, *, shape, levels: int, branches: int):
        if levels < 1:
            raise ValueError(f"Number of levels must be at least 1, not {levels!r}")
        if not 1 <= branches <= FAN_OUT:
            raise ValueError(f"Number of branches must be from 1 to {FAN_OUT}, not {branches!r}")
        self.shape = shape
        self.levels = levels
        self.branches = branches
        super().__init__({
            "i": In(stream.Signature(Routed(shape, levels))),
            "o": Out(stream.Signature(Routed(shape, levels - 1))).array(branches),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(shape=Routed(self.shape, self.levels), depth=self.DEPTH)
        leaf = queue.o.payload.leaf
        branch = Signal(FAN_OUT_BITS)
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid),
            self.i.ready.eq(queue.i.ready),
            branch.eq(leaf[-FAN_OUT_BITS:]),
        ]
        for number, out in enumerate(self.o):
            m.d.comb += [
                out.payload.leaf.eq(leaf[:-FAN_OUT_BITS]),
                out.payload.item.eq(queue.o.payload.item),
            ]
            with m.If(branch == number):
                m.d.comb += [out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready)]
        return m
