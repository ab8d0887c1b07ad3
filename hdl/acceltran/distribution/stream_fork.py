"""One stream to all clusters."""

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.distribution.fork_node import ForkNode
from acceltran.distribution.tree import branches, tree_levels
from acceltran.library import SharedComponent

__all__ = ["StreamFork"]


class StreamFork(SharedComponent):
    """Deliver every item to every leaf exactly once, in order.

    Each node of the tree holds up to two items, and a branch may take one before the others do; a
    leaf that is slow stops only what its nodes cannot hold. Latency is ``latency`` cycles,
    throughput one item per cycle. One leaf is connected through.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.
    leaves : int
        Number of leaves; at least 1.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape)).array(leaves)``
    busy : ``Out(1)``
        An item is held somewhere. Falls up to ``latency`` cycles after the last leaf took it.
    """

    i: stream.Interface
    o: list[stream.Interface]
    busy: Signal

    def __init__(self, *, shape, leaves: int):
        if leaves < 1:
            raise ValueError(f"Number of leaves must be at least 1, not {leaves!r}")
        self.shape = shape
        self.leaves = leaves
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)).array(leaves),
            "busy": Out(1),
        })

    @property
    def latency(self) -> int:
        """Cycles from taking an item to offering it to the leaves."""
        return ForkNode.LATENCY * tree_levels(self.leaves)

    def elaborate(self, platform):
        m = Module()
        below = [wiring.flipped(leaf) for leaf in self.o]
        busy: list[Value] = [Const(0)] * self.leaves
        level = 0
        while len(below) > 1:
            level += 1
            nodes = []
            for place, members in enumerate(branches(len(below))):
                node = ForkNode(shape=self.shape, branches=len(members))
                m.submodules[f"node_{level}_{place}"] = node
                for branch, member in zip(node.o, members, strict=True):
                    wiring.connect(m, branch, below[member])
                m.d.comb += node.branch_busy.eq(Cat(busy[member] for member in members))
                nodes.append(node)
            below = [node.i for node in nodes]
            busy = [node.busy for node in nodes]
        wiring.connect(m, wiring.flipped(self.i), below[0])
        m.d.comb += self.busy.eq(busy[0])
        return m
