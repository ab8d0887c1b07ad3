"""Vectors that a cluster writes to all clusters of its group."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.exchange_node import BusWrite, ExchangeNode
from acceltran.distribution.tree import FAN_OUT_BITS, branches, level_sizes, spread, tree_levels
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite

__all__ = ["BusWrite", "Exchange"]


class Exchange(SharedComponent):
    """One bus for each group of ``2 ** span`` clusters, on which they take turns.

    Cluster g belongs to group ``g >> span``; the last group may have fewer clusters. Each cluster
    may send in one cycle of ``2 ** span``, two clusters of a group never in the same one. What is
    sent reaches all clusters of the group, the sender too, in the same cycle:
    ``2 * levels - 1`` cycles later, ``levels = max(1, tree_levels(2 ** span))``. A machine of one
    cluster has no bus: it receives at once what it sends, in any cycle.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    clusters : int
        Number of clusters; at least 1.

    Members
    -------
    span : ``In(range(ceil_log2(clusters) + 1))``
        Changes only while nothing is under way; nothing is offered in the ``settling(clusters)``
        cycles that begin with a change, or follow a reset.
    sends : ``In(stream.Signature(BufferWrite(fmt, tile))).array(clusters)``
    receives : ``Out(BusWrite(fmt, tile)).array(clusters)``
        Cannot be held back.
    """

    span: Signal
    sends: list[stream.Interface]
    receives: list[Any]

    def __init__(self, *, fmt: FixedPoint, tile: int, clusters: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if clusters < 1:
            raise ValueError(f"Number of clusters must be at least 1, not {clusters!r}")
        self.fmt = fmt
        self.tile = tile
        self.clusters = clusters
        super().__init__({
            "span": In(range(ceil_log2(clusters) + 1)),
            "sends": In(stream.Signature(BufferWrite(fmt, tile))).array(clusters),
            "receives": Out(BusWrite(fmt, tile)).array(clusters),
        })

    @classmethod
    def latency(cls, clusters: int) -> int:
        """Cycles from sending to receiving in the largest group; smaller ones take no more."""
        return ExchangeNode.LATENCY * max(0, 2 * tree_levels(clusters) - 1)

    @classmethod
    def settling(cls, clusters: int) -> int:
        """Cycles until a change of ``span`` is known everywhere."""
        return tree_levels(clusters)

    def elaborate(self, platform):
        m = Module()
        sent: list[Any] = [BusWrite(self.fmt, self.tile).create() for _ in self.sends]
        for number, (write, send) in enumerate(zip(sent, self.sends, strict=True)):
            taken = Signal(name=f"taken{number}")
            m.d.comb += [
                taken.eq(send.valid & send.ready),
                write.valid.eq(taken),
                write.write.eq(Mux(taken, Value.cast(send.payload), 0)),
            ]
        if self.clusters == 1:
            m.d.comb += self.sends[0].ready.eq(1)
            wiring.connect(m, sent[0], wiring.flipped(self.receives[0]))
            return m

        self._take_turns(m)
        upward = sent
        downward: list[Any] = [wiring.flipped(receive) for receive in self.receives]
        for level, size in enumerate(level_sizes(self.clusters)[1:]):
            smallest = FAN_OUT_BITS * level  # span that the nodes turn round as single branches
            turn = Signal(2, name=f"turn{level}")
            larger = self.span > smallest + FAN_OUT_BITS
            m.d.comb += turn.eq(Mux(larger, 3, self.span - smallest))
            turns = spread(m, turn, size, name=f"turn{level}")
            nodes = []
            for place, members in enumerate(branches(len(upward))):
                node = ExchangeNode(fmt=self.fmt, tile=self.tile, branches=len(members))
                m.submodules[f"node_{level}_{place}"] = node
                m.d.comb += node.turn.eq(turns[place])
                for branch, member in enumerate(members):
                    wiring.connect(m, upward[member], node.from_branches[branch])
                    wiring.connect(m, node.to_branches[branch], downward[member])
                nodes.append(node)
            upward = [node.to_parent for node in nodes]
            downward = [node.from_parent for node in nodes]
        return m

    def _take_turns(self, m: Module) -> None:
        """Be ready for the clusters of each group in turn."""
        cycle = Signal(ceil_log2(self.clusters))
        places = Signal.like(cycle)  # bits of a cluster's number that are its place
        m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += places.eq((1 << self.span) - 1)
        nodes = branches(self.clusters)
        cycles = spread(m, cycle, len(nodes), name="cycle")
        masks = spread(m, places, len(nodes), name="places")
        for members, now, mask in zip(nodes, cycles, masks, strict=True):
            for member in members:
                m.d.sync += self.sends[member].ready.eq(((now ^ member) & mask) == 0)
