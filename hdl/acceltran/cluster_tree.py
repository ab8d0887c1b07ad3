# amaranth: UnusedElaboratable=no
"""Clusters, and one level of all networks between them and the rest of the machine."""

from functools import reduce
from operator import add, or_
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.config import AcceleratorConfig
from acceltran.cluster_node import ClusterNode
from acceltran.control.node_command import NodeCommand
from acceltran.counter_limits import node_limits
from acceltran.distribution.barrier_node import BarrierNode
from acceltran.distribution.exchange_gate import ExchangeGate, Turns
from acceltran.distribution.exchange_node import BusWrite, ExchangeNode
from acceltran.distribution.fork_node import ForkNode
from acceltran.distribution.gather_node import GatherNode
from acceltran.distribution.read_node import ReadNode
from acceltran.distribution.scatter_node import ScatterNode
from acceltran.distribution.tree import FAN_OUT, FAN_OUT_BITS, leaves_of_branches, tree_levels
from acceltran.library import SharedComponent
from acceltran.node_core import node_signature

__all__ = ["MOST_UNDER_WAY", "ClusterTree", "all_clusters"]

MOST_UNDER_WAY = 32
"""Commands of a queue that the nodes, and the way to them, hold at most."""
TOLD = ("stop", "signals", "completed", "kept_query", "turns")
"""What all clusters are told, a cycle later at each level."""


def all_clusters(config: AcceleratorConfig) -> Any:
    """All clusters of a machine: a tree, or the only one."""
    clusters = config.array.clusters
    return _subtree(config, tree_levels(clusters), clusters)


def _subtree(config: AcceleratorConfig, level: int, leaves: int) -> Any:
    if level == 0:
        return ClusterNode(config=config)
    return ClusterTree(config=config, level=level, leaves=leaves)


class ClusterTree(SharedComponent):
    """Clusters of a machine that are below one node of the tree.

    Members are those of ``NodeCore``, for all its clusters together, and some of the networks.
    What is told and what is answered takes a cycle more at each level.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.
    level : int
        Of the node; at least 1, which is right above the clusters.
    leaves : int
        Clusters below it; from 1 to ``FAN_OUT ** level``.

    Members
    -------
    index : ``In(range(clusters))``
        Number of the first cluster.
    load, store
        Addresses are ``cluster << cluster_address_bits | address``, the cluster counted from the
        first one.
    load_busy : ``Out(1)``
        A load is on its way to a cluster; see ``ScatterNode``.
    product_begun, vector_begun
        Of the first cluster.
    product_done, vector_done : ``Out(1)``
        Strobes: the oldest command is complete in all clusters.
    sends, receives : ``Out``, ``In(BusWrite(fmt, tile)).array(pes_per_cluster)``
        What PE n of a cluster shares with those of its group in other branches of the tree.
    turns : ``In(Turns(clusters))``
        Who may send. ``span`` changes only while nothing is under way; nothing is offered in as
        many cycles as the tree has levels from a change, or a reset, on.
    increments
        Sums; whether any is busy; ``tile_loads`` and ``tile_reuses`` are the same in all clusters.
    """

    index: Signal
    commands: stream.Interface
    weights: list[Any]
    affine: Any
    load: stream.Interface
    load_busy: Signal
    store: Any
    sends: list[Any]
    receives: list[Any]
    turns: Any
    kept: Signal
    failure: Any
    load_outside: Signal
    store_outside: Signal
    increments: Any

    def __init__(self, *, config: AcceleratorConfig, level: int, leaves: int):
        if level < 1:
            raise ValueError(f"Level must be at least 1, not {level!r}")
        if not 1 <= leaves <= FAN_OUT**level:
            raise ValueError(
                f"Number of clusters must be from 1 to {FAN_OUT**level} at level {level},"
                f" not {leaves!r}"
            )
        self.config = config
        self.level = level
        self.leaves = leaves
        fmt, tile, array = config.fmt, config.datapath.tile, config.array
        node = dict(node_signature(config).members)
        most = {name: leaves * limit for name, limit in node_limits(config).items()}
        counters = node["increments"].signature.members
        super().__init__({
            **node,
            "sends": Out(BusWrite(fmt, tile)).array(array.pes_per_cluster),
            "turns": In(Turns(array.clusters)),
            "load_busy": Out(1),
            "increments": Out(
                wiring.Signature({name: Out(range(most.get(name, 1) + 1)) for name in counters})
            ),
        })

    def elaborate(self, platform):
        m = Module()
        branches = leaves_of_branches(self.leaves, self.level)
        nodes = [_subtree(self.config, self.level - 1, leaves) for leaves in branches]
        for n, node in enumerate(nodes):
            m.submodules[f"{'tree' if self.level > 1 else 'node'}{n}"] = node
            first = n << FAN_OUT_BITS * (self.level - 1)
            m.d.comb += node.index.eq(self.index | first)
        self._command(m, nodes)
        self._move(m, nodes)
        for number in range(self.config.array.pes_per_cluster):
            self._share(m, number, nodes)
        self._count(m, nodes)
        return m

    def _command(self, m: Module, nodes: list[Any]) -> None:
        """What all clusters are told to do, and when all have done it."""
        told, branches = _members(self), [_members(node) for node in nodes]
        for name in TOLD:
            stage = Signal(len(told[name]), name=f"{name}_told")
            m.d.sync += stage.eq(told[name])
            m.d.comb += [branch[name].eq(stage) for branch in branches if name in branch]
        m.submodules.fork = fork = ForkNode(
            shape=NodeCommand(self.config.fmt.width), branches=len(nodes)
        )
        connect(m, flipped(self.commands), fork.i)
        for commands, node in zip(fork.o, nodes, strict=True):
            connect(m, commands, node.commands)
        for name in ("product", "vector"):
            m.submodules[f"{name}_barrier"] = barrier = BarrierNode(
                branches=len(nodes), most=MOST_UNDER_WAY
            )
            m.d.comb += [
                barrier.done.eq(Cat(getattr(node, f"{name}_done") for node in nodes)),
                getattr(self, f"{name}_done").eq(barrier.all_done),
                getattr(self, f"{name}_begun").eq(getattr(nodes[0], f"{name}_begun")),
            ]

    def _move(self, m: Module, nodes: list[Any]) -> None:
        """Tiles and parameters for all clusters, loads and stores of single ones."""
        shape = {"fmt": self.config.fmt, "tile": self.config.datapath.tile}
        depth = ReadNode.NODE_DEPTH if self.level > 1 else ReadNode.LEAF_DEPTH
        ports = zip(*([*one.weights, one.affine] for one in (self, *nodes)), strict=True)
        for n, (port, *readers) in enumerate(ports):
            m.submodules[f"read{n}"] = read = ReadNode(**shape, branches=len(nodes), depth=depth)
            connect(m, read.port, flipped(port))
            for request, reader in zip([read.first, *read.others], readers, strict=True):
                m.d.comb += [
                    request.payload.eq(reader.request.payload),
                    request.valid.eq(reader.request.valid),
                    reader.request.ready.eq(request.ready),
                    reader.response.valid.eq(read.response.valid),
                    reader.response.vector.eq(read.response.vector),
                ]
        route = {
            **shape,
            "address_bits": self.config.cluster_address_bits + FAN_OUT_BITS * (self.level - 1),
            "branches": len(nodes),
        }
        m.submodules.scatter = scatter = ScatterNode(**route)
        m.submodules.gather = gather = GatherNode(**route)
        connect(m, flipped(self.load), scatter.i)
        connect(m, flipped(self.store), gather.port)
        for load, port, node in zip(scatter.o, gather.branch_ports, nodes, strict=True):
            connect(m, load, node.load)
            connect(m, node.store, port)
        if self.level > 1:
            m.d.comb += scatter.branch_busy.eq(Cat(node.load_busy for node in nodes))
        m.d.comb += self.load_busy.eq(scatter.busy)

    def _share(self, m: Module, number: int, nodes: list[Any]) -> None:
        """Vectors that PE ``number`` of each cluster shares with its group."""
        shape = {"fmt": self.config.fmt, "tile": self.config.datapath.tile}
        m.submodules[f"exchange{number}"] = exchange = ExchangeNode(**shape, branches=len(nodes))
        m.d.comb += exchange.turn.eq(ExchangeNode.turn_at(self.level, self.turns.span))
        connect(m, exchange.to_parent, flipped(self.sends[number]))
        connect(m, flipped(self.receives[number]), exchange.from_parent)
        sends: list[Any] = [node.sends[number] for node in nodes]
        if self.level == 1:
            m.submodules[f"gate{number}"] = gate = ExchangeGate(
                **shape, clusters=self.config.array.clusters, branches=len(nodes)
            )
            m.d.comb += gate.index.eq(self.index)
            connect(m, flipped(self.turns), gate.turns)
            for send, inner in zip(sends, gate.sends, strict=True):
                connect(m, send, inner)
            sends = gate.writes
        for n, (send, node) in enumerate(zip(sends, nodes, strict=True)):
            connect(m, send, exchange.from_branches[n])
            connect(m, exchange.to_branches[n], node.receives[number])

    def _count(self, m: Module, nodes: list[Any]) -> None:
        """What all clusters tell together."""

        def together(operation: Any, name: str, parts: list[Any]) -> Value:
            return reduce(operation, (Value.cast(getattr(part, name)) for part in parts))

        def first(a: Value, b: Value) -> Value:
            return Mux(a[0], a, b)  # a failure's lowest bit says that there is one

        m.d.sync += [
            self.kept.eq(together(add, "kept", nodes)),
            Value.cast(self.failure).eq(together(first, "failure", nodes)),
            self.load_outside.eq(together(or_, "load_outside", nodes)),
            self.store_outside.eq(together(or_, "store_outside", nodes)),
        ]
        counters = [node.increments for node in nodes]
        for name in self.increments.signature.members:
            if name.startswith("tile_"):  # all clusters walk the same tiles
                total = getattr(counters[0], name)
            else:
                any_busy = name.startswith("busy_") and name != "busy_lanes"
                total = together(or_ if any_busy else add, name, counters)
            m.d.sync += getattr(self.increments, name).eq(total)


def _members(component: Any) -> dict[str, Value]:
    """All bits of each member."""
    bits: dict[str, list[Value]] = {}
    for path, _, value in component.signature.flatten(component):
        bits.setdefault(str(path[0]), []).append(Value.cast(value))
    return {name: Cat(values) for name, values in bits.items()}
