"""Node of a tree in which all leaves ask for the same."""

from functools import reduce
from operator import and_

from amaranth import Module, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["JoinNode"]


class JoinNode(SharedComponent):
    """Pass on one item for each item that all branches have given.

    Each branch may be up to ``depth`` items ahead of the others. Latency is ``LATENCY`` cycle(s)
    after the last branch, throughput one item per cycle from ``depth`` 2 on.

    Parameters
    ----------
    shape : shape-like
        Shape of an item of the first branch, which is passed on.
    branches : int
        Number of branches; at least 1.
    depth : int
        Items of a branch that are held; at least 1.

    Members
    -------
    first : ``In(stream.Signature(shape))``
    others : ``In(stream.Signature(unsigned(0))).array(branches - 1)``
        Their items are equal to those of the first branch and need not come.
    o : ``Out(stream.Signature(shape))``
    """

    LATENCY = 1

    first: stream.Interface
    others: list[stream.Interface]
    o: stream.Interface

    def __init__(self, *, shape, branches: int, depth: int):
        if branches < 1:
            raise ValueError(f"Number of branches must be at least 1, not {branches!r}")
        if depth < 1:
            raise ValueError(f"Queue depth must be at least 1, not {depth!r}")
        self.shape = shape
        self.branches = branches
        self.depth = depth
        super().__init__({
            "first": In(stream.Signature(shape)),
            "others": In(stream.Signature(unsigned(0))).array(branches - 1),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        m = Module()
        queues = []
        for place, branch in enumerate([self.first, *self.others]):
            shape = unsigned(0) if place else self.shape
            m.submodules[f"queue{place}"] = queue = Queue(shape=shape, depth=self.depth)
            m.d.comb += [
                queue.i.payload.eq(branch.payload),
                queue.i.valid.eq(branch.valid),
                branch.ready.eq(queue.i.ready),
                queue.o.ready.eq(self.o.valid & self.o.ready),
            ]
            queues.append(queue)
        m.d.comb += [
            self.o.payload.eq(queues[0].o.payload),
            self.o.valid.eq(reduce(and_, (queue.o.valid for queue in queues))),
        ]
        return m
