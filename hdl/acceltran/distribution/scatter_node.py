"""Node of a tree of writes to single leaves."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.route_node import RouteNode
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite

__all__ = ["ScatterNode"]


class ScatterNode(SharedComponent):
    """``RouteNode`` of writes, which tells whether any are on their way.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    address_bits, branches : int
        See ``RouteNode``.

    Members
    -------
    i : ``In(stream.Signature(BufferWrite(fmt, tile)))``
    o : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(branches)``
    branch_busy : ``In(branches)``
        ``busy`` of the nodes at the branches, or 0.
    busy : ``Out(1)``
        1 in the cycle after one with a write offered or held, or with a busy branch. So it stays 1
        while writes go from node to node.
    """

    LATENCY = RouteNode.LATENCY

    i: stream.Interface
    o: list[stream.Interface]
    branch_busy: Signal
    busy: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, address_bits: int, branches: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        self.fmt = fmt
        self.tile = tile
        self.address_bits = address_bits
        self.branches = branches
        writes = stream.Signature(BufferWrite(fmt, tile))
        super().__init__({
            "i": In(writes),
            "o": Out(writes).array(branches),
            "branch_busy": In(branches),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.route = route = RouteNode(
            shape=BufferWrite(self.fmt, self.tile),
            address_bits=self.address_bits,
            branches=self.branches,
        )
        connect(m, flipped(self.i), route.i)
        for inner, outer in zip(route.o, self.o, strict=True):
            connect(m, inner, flipped(outer))
        held = Cat(out.valid for out in self.o).any()
        m.d.sync += self.busy.eq(self.i.valid | held | self.branch_busy.any())
        return m
