"""When all clusters have completed a command."""

from amaranth import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from acceltran.distribution.barrier_node import BarrierNode
from acceltran.distribution.tree import branches, tree_levels
from acceltran.library import SharedComponent

__all__ = ["Barrier"]


class Barrier(SharedComponent):
    """Strobe once for each command that all leaves have completed.

    ``all_done`` follows ``latency(leaves)`` cycles after the strobe of the last leaf. All leaves
    complete the same commands in the same order, up to one per cycle each.

    Parameters
    ----------
    leaves : int
        Number of leaves; at least 1.
    most : int
        How many commands a leaf may have completed that ``all_done`` has not yet told of; at
        least 1.

    Members
    -------
    done : ``In(leaves)``
        Bit n: leaf n has completed its oldest command.
    all_done : ``Out(1)``
    """

    done: Signal
    all_done: Signal

    def __init__(self, *, leaves: int, most: int):
        if leaves < 1:
            raise ValueError(f"Number of leaves must be at least 1, not {leaves!r}")
        if most < 1:
            raise ValueError(f"Number of commands must be at least 1, not {most!r}")
        self.leaves = leaves
        self.most = most
        super().__init__({"done": In(leaves), "all_done": Out(1)})

    @classmethod
    def latency(cls, leaves: int) -> int:
        """Cycles from the last strobe of a command to ``all_done``."""
        return BarrierNode.LATENCY * tree_levels(leaves)

    def elaborate(self, platform):
        m = Module()
        done: list[Value] = list(self.done)
        level = 0
        while len(done) > 1:
            level += 1
            strobes: list[Value] = []
            for place, members in enumerate(branches(len(done))):
                node = BarrierNode(branches=len(members), most=self.most)
                m.submodules[f"node_{level}_{place}"] = node
                m.d.comb += node.done.eq(Cat(done[member] for member in members))
                strobes.append(node.all_done)
            done = strobes
        m.d.comb += self.all_done.eq(done[0])
        return m
