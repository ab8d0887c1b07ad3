"""Node of a tree in which all leaves read the same."""

from functools import reduce
from operator import and_
from typing import Any

from amaranth import Module, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort, ReadResponse
from acceltran.memory.queue import Queue

__all__ = ["ReadNode"]


class ReadNode(SharedComponent):
    """Pass on one request for each that all branches have made, and its answer to all of them.

    All branches ask for the same addresses in the same order; those of the first are used. Each
    may be up to ``depth`` requests ahead of the others. A request is passed on one cycle after that
    of the last branch, an answer one cycle after it came: ``LATENCY`` cycles in all. Throughput is
    one read per cycle from ``depth`` 2 on.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    branches : int
        Number of branches; at least 1.
    depth : int
        Requests of a branch that are held; at least 1.

    Members
    -------
    first : ``In(stream.Signature(unsigned(ADDRESS_WIDTH)))``
        Requests of the first branch.
    others : ``In(stream.Signature(unsigned(0))).array(branches - 1)``
        Those of the others, without their address.
    response : ``Out(ReadResponse(fmt, tile))``
        Answers to all branches.
    port : ``In(ReadPort(fmt, tile))``
        Port of the buffer, or of the node above.
    """

    LATENCY = 2
    LEAF_DEPTH = 4
    """Of nodes above leaves, which do not keep pace exactly."""
    NODE_DEPTH = 2
    """Of nodes above nodes."""

    first: stream.Interface
    others: list[stream.Interface]
    response: Any
    port: Any

    def __init__(self, *, fmt: FixedPoint, tile: int, branches: int, depth: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if branches < 1:
            raise ValueError(f"Number of branches must be at least 1, not {branches!r}")
        if depth < 1:
            raise ValueError(f"Queue depth must be at least 1, not {depth!r}")
        self.fmt = fmt
        self.tile = tile
        self.branches = branches
        self.depth = depth
        super().__init__({
            "first": In(stream.Signature(unsigned(ADDRESS_WIDTH))),
            "others": In(stream.Signature(unsigned(0))).array(branches - 1),
            "response": Out(ReadResponse(fmt, tile)),
            "port": In(ReadPort(fmt, tile)),
        })

    def elaborate(self, platform):
        m = Module()
        request = self.port.request
        queues = []
        for place, branch in enumerate([self.first, *self.others]):
            shape = unsigned(0 if place else ADDRESS_WIDTH)
            m.submodules[f"queue{place}"] = queue = Queue(shape=shape, depth=self.depth)
            m.d.comb += [
                queue.i.payload.eq(branch.payload),
                queue.i.valid.eq(branch.valid),
                branch.ready.eq(queue.i.ready),
                queue.o.ready.eq(request.valid & request.ready),
            ]
            queues.append(queue)
        m.d.comb += [
            request.payload.eq(queues[0].o.payload),
            request.valid.eq(reduce(and_, (queue.o.valid for queue in queues))),
        ]
        m.d.sync += [
            self.response.valid.eq(self.port.response.valid),
            self.response.vector.eq(self.port.response.vector),
        ]
        return m
