"""Each item of a stream to one cluster."""

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.distribution.route_node import Routed, RouteNode
from acceltran.distribution.tree import branches, level_sizes, tree_levels
from acceltran.library import SharedComponent

__all__ = ["Router"]


class Router(SharedComponent):
    """Deliver each item to the leaf that it names; the items of a leaf in order.

    Each node of the tree holds up to two items. Latency is ``latency(leaves)`` cycles, throughput
    one item per cycle. One leaf is connected through.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.
    leaves : int
        Number of leaves; at least 1.

    Members
    -------
    i : ``In(stream.Signature(Routed(shape, tree_levels(leaves))))``
        ``leaf`` is below ``leaves``.
    o : ``Out(stream.Signature(shape)).array(leaves)``
    """

    i: stream.Interface
    o: list[stream.Interface]

    def __init__(self, *, shape, leaves: int):
        if leaves < 1:
            raise ValueError(f"Number of leaves must be at least 1, not {leaves!r}")
        self.shape = shape
        self.leaves = leaves
        super().__init__({
            "i": In(stream.Signature(Routed(shape, tree_levels(leaves)))),
            "o": Out(stream.Signature(shape)).array(leaves),
        })

    @classmethod
    def latency(cls, leaves: int) -> int:
        """Cycles from taking an item to offering it."""
        return RouteNode.LATENCY * tree_levels(leaves)

    def elaborate(self, platform):
        m = Module()
        sources = [wiring.flipped(self.i)]
        sizes = level_sizes(self.leaves)
        for level in range(tree_levels(self.leaves), 0, -1):
            outputs = []
            for place, members in enumerate(branches(sizes[level - 1])):
                node = RouteNode(shape=self.shape, levels=level, branches=len(members))
                m.submodules[f"node_{level}_{place}"] = node
                wiring.connect(m, sources[place], node.i)
                outputs += node.o
            sources = outputs
        for source, leaf in zip(sources, self.o, strict=True):
            m.d.comb += [
                leaf.payload.eq(source.payload.item),
                leaf.valid.eq(source.valid),
                source.ready.eq(leaf.ready),
            ]
        return m
