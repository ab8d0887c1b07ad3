"""Networks of any number of leaves, made of the nodes that ``ClusterTree`` has of each."""

from collections.abc import Callable
from typing import Any

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from acceltran.distribution.barrier_node import BarrierNode
from acceltran.distribution.exchange_gate import ExchangeGate
from acceltran.distribution.exchange_node import BusWrite, ExchangeNode
from acceltran.distribution.fork_node import ForkNode
from acceltran.distribution.gather_node import GatherNode
from acceltran.distribution.leaf_reads import LeafReads
from acceltran.distribution.leaf_writes import LeafWrites
from acceltran.distribution.read_node import ReadNode
from acceltran.distribution.scatter_node import ScatterNode
from acceltran.distribution.tree import FAN_OUT_BITS, leaves_of_branches, tree_levels
from acceltran.memory.ports import BufferWrite, ReadPort

__all__ = ["BarrierTree", "ExchangeTree", "ForkTree", "GatherTree", "ReadTree", "ScatterTree"]


def grow(
    m: Module,
    leaves: int,
    make: Callable[[int, int], Any],
    join: Callable[[Any, int, Any], None],
    join_leaf: Callable[[Any, int, int], None],
) -> Any:
    """Root of a tree.

    ``make(level, branches)`` makes a node, ``join(node, branch, below)`` connects it with a node
    below, ``join_leaf(node, branch, leaf)`` with a leaf.
    """

    def subtree(level: int, first: int, count: int) -> Any:
        parts = leaves_of_branches(count, level)
        m.submodules[f"node_{level}_{first}"] = node = make(level, len(parts))
        for branch, part in enumerate(parts):
            leaf = first + (branch << FAN_OUT_BITS * (level - 1))
            if level == 1:
                join_leaf(node, branch, leaf)
            else:
                join(node, branch, subtree(level - 1, leaf, part))
        return node

    return subtree(tree_levels(leaves), 0, leaves)


class ForkTree(wiring.Component):
    """Items of ``i`` to all of ``o``."""

    def __init__(self, *, shape, leaves: int):
        self.shape, self.leaves = shape, leaves
        items = stream.Signature(shape)
        super().__init__({"i": In(items), "o": Out(items).array(leaves)})

    def elaborate(self, platform):
        m = Module()
        ports: Any = self
        root = grow(
            m,
            self.leaves,
            lambda level, branches: ForkNode(shape=self.shape, branches=branches),
            lambda node, branch, below: connect(m, node.o[branch], below.i),
            lambda node, branch, leaf: connect(m, node.o[branch], flipped(ports.o[leaf])),
        )
        connect(m, flipped(ports.i), root.i)
        return m


class BarrierTree(wiring.Component):
    """``all_done`` for each strobe that all bits of ``done`` have had."""

    def __init__(self, *, leaves: int, most: int):
        self.leaves, self.most = leaves, most
        super().__init__({"done": In(leaves), "all_done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        ports: Any = self

        def join(node, branch, below):
            m.d.comb += node.done[branch].eq(below.all_done)

        def join_leaf(node, branch, leaf):
            m.d.comb += node.done[branch].eq(ports.done[leaf])

        def make(level, branches):
            return BarrierNode(branches=branches, most=self.most)

        root = grow(m, self.leaves, make, join, join_leaf)
        m.d.comb += ports.all_done.eq(root.all_done)
        return m


class ReadTree(wiring.Component):
    """Equal reads of ``leaf_ports`` by ``port``."""

    def __init__(self, *, fmt, tile: int, leaves: int):
        self.fmt, self.tile, self.leaves = fmt, tile, leaves
        port = ReadPort(fmt, tile)
        super().__init__({"leaf_ports": Out(port).array(leaves), "port": In(port)})

    def elaborate(self, platform):
        m = Module()
        ports: Any = self

        def make(level, branches):
            depth = ReadNode.NODE_DEPTH if level > 1 else ReadNode.LEAF_DEPTH
            return ReadNode(fmt=self.fmt, tile=self.tile, branches=branches, depth=depth)

        def join(node, branch, reader):
            inner = [node.first, *node.others][branch]
            m.d.comb += [
                inner.payload.eq(reader.request.payload),
                inner.valid.eq(reader.request.valid),
                reader.request.ready.eq(inner.ready),
                reader.response.valid.eq(node.response.valid),
                reader.response.vector.eq(node.response.vector),
            ]

        root = grow(
            m,
            self.leaves,
            make,
            lambda node, branch, below: join(node, branch, below.port),
            lambda node, branch, leaf: join(node, branch, ports.leaf_ports[leaf]),
        )
        connect(m, root.port, flipped(ports.port))
        return m


class ExchangeTree(wiring.Component):
    """What each of ``sends`` brings to ``receives`` of its group of ``2 ** span``."""

    def __init__(self, *, fmt, tile: int, clusters: int):
        self.fmt, self.tile, self.clusters = fmt, tile, clusters
        super().__init__({
            "span": In(range(ceil_log2(clusters) + 1)),
            "sends": In(stream.Signature(BufferWrite(fmt, tile))).array(clusters),
            "receives": Out(BusWrite(fmt, tile)).array(clusters),
        })

    def elaborate(self, platform):
        m = Module()
        ports: Any = self
        shape = {"fmt": self.fmt, "tile": self.tile}
        cycle = Signal(ceil_log2(self.clusters))
        m.d.sync += cycle.eq(cycle + 1)
        turns = [(ports.span, cycle)]  # of each level, root first
        for level in range(tree_levels(self.clusters) - 1, 0, -1):
            now = Signal.like(ports.span, name=f"span{level}"), Signal.like(cycle)
            m.d.sync += [after.eq(before) for after, before in zip(now, turns[-1], strict=True)]
            turns.append(now)
        gates = {}

        def make(level, branches):
            node = ExchangeNode(**shape, branches=branches)
            m.d.comb += node.turn.eq(ExchangeNode.turn_at(level, turns[-level][0]))
            if level == 1:
                gates[node] = gate = ExchangeGate(
                    **shape, clusters=self.clusters, branches=branches
                )
                m.submodules[f"gate{len(gates)}"] = gate
                m.d.comb += [gate.turns.span.eq(turns[-1][0]), gate.turns.cycle.eq(turns[-1][1])]
            return node

        def join(node, branch, below):
            connect(m, below.to_parent, node.from_branches[branch])
            connect(m, node.to_branches[branch], below.from_parent)

        def join_leaf(node, branch, leaf):
            gate = gates[node]
            if branch == 0:
                m.d.comb += gate.index.eq(leaf)
            connect(m, flipped(ports.sends[leaf]), gate.sends[branch])
            connect(m, gate.writes[branch], node.from_branches[branch])
            connect(m, node.to_branches[branch], flipped(ports.receives[leaf]))

        grow(m, self.clusters, make, join, join_leaf)
        return m


class ScatterTree(wiring.Component):
    """Writes of ``i`` to the one of ``o`` that the address names."""

    def __init__(self, *, fmt, tile: int, leaves: int, address_bits: int):
        self.fmt, self.tile, self.leaves, self.address_bits = fmt, tile, leaves, address_bits
        writes = stream.Signature(BufferWrite(fmt, tile))
        super().__init__({
            "i": In(writes),
            "o": Out(writes).array(leaves),
            "busy": Out(1),
            "out_of_range": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        ports: Any = self
        shape = {"fmt": self.fmt, "tile": self.tile}
        m.submodules.check = check = LeafWrites(
            **shape, leaves=self.leaves, address_bits=self.address_bits
        )
        connect(m, flipped(ports.i), check.i)
        m.d.comb += ports.out_of_range.eq(check.out_of_range)
        if self.leaves == 1:
            connect(m, check.o, flipped(ports.o[0]))
            m.d.comb += ports.busy.eq(0)
            return m

        def make(level, branches):
            address_bits = self.address_bits + FAN_OUT_BITS * (level - 1)
            return ScatterNode(**shape, address_bits=address_bits, branches=branches)

        def join(node, branch, below):
            connect(m, node.o[branch], below.i)
            m.d.comb += node.branch_busy[branch].eq(below.busy)

        def join_leaf(node, branch, leaf):
            connect(m, node.o[branch], flipped(ports.o[leaf]))

        root = grow(m, self.leaves, make, join, join_leaf)
        connect(m, check.o, root.i)
        m.d.comb += ports.busy.eq(root.busy)
        return m


class GatherTree(wiring.Component):
    """Reads of ``port`` from the one of ``leaf_ports`` that the address names."""

    def __init__(self, *, fmt, tile: int, leaves: int, address_bits: int):
        self.fmt, self.tile, self.leaves, self.address_bits = fmt, tile, leaves, address_bits
        port = ReadPort(fmt, tile)
        super().__init__({
            "port": Out(port),
            "leaf_ports": In(port).array(leaves),
            "out_of_range": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        ports: Any = self
        shape = {"fmt": self.fmt, "tile": self.tile}
        m.submodules.order = order = LeafReads(
            **shape, leaves=self.leaves, address_bits=self.address_bits
        )
        connect(m, flipped(ports.port), order.port)
        m.d.comb += ports.out_of_range.eq(order.out_of_range)
        if self.leaves == 1:
            connect(m, order.leaf_port, flipped(ports.leaf_ports[0]))
            return m

        def make(level, branches):
            address_bits = self.address_bits + FAN_OUT_BITS * (level - 1)
            return GatherNode(**shape, address_bits=address_bits, branches=branches)

        root = grow(
            m,
            self.leaves,
            make,
            lambda node, branch, below: connect(m, node.branch_ports[branch], below.port),
            lambda node, branch, leaf: connect(
                m, node.branch_ports[branch], flipped(ports.leaf_ports[leaf])
            ),
        )
        connect(m, order.leaf_port, root.port)
        return m
