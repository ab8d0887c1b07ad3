"""A cluster with all that works for it alone: queues, vector operations, activation buffer."""

from itertools import islice
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import LANE_COUNTERS, ErrorCause
from acceltran.cluster import Cluster
from acceltran.control.command_queue import CommandQueue
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandHeader
from acceltran.control.kept_totals import ELEMENTS, KeptQuery, KeptTotals
from acceltran.control.lane_accounts import LANE_CAUSES
from acceltran.control.localizer import SHARE, Localizer
from acceltran.control.node_command import NodeCommand
from acceltran.control.product_command import ProductCommand
from acceltran.control.run_control import Failure
from acceltran.control.semaphores import Semaphores, SemaphoreSignal
from acceltran.control.softmax_engine import SoftmaxEngine
from acceltran.control.vector_command import VectorCommand
from acceltran.control.vector_engine import VectorEngine
from acceltran.control.wait_gate import WaitGate
from acceltran.counter_limits import node_limits
from acceltran.distribution.exchange_node import BusWrite
from acceltran.distribution.read_node import ReadNode
from acceltran.distribution.tree import tree_levels
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.memory.queue import Queue
from acceltran.memory.tile_walker import COMMANDS
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.pe import CONTEXTS

__all__ = ["NodeCore", "node_signature"]

COMMANDS_AHEAD = 8
"""Commands of a queue that may wait while those of the other one are dispatched."""


def node_signature(config: AcceleratorConfig) -> wiring.Signature:
    """Members of the node of a machine."""
    fmt, tile, array = config.fmt, config.datapath.tile, config.array
    pes = array.pes_per_cluster
    shared = pes if array.clusters > 1 else 0
    limits = {
        **node_limits(config),
        **dict.fromkeys(("busy_product", "busy_vector", "tile_loads", "tile_reuses"), 1),
    }
    return wiring.Signature({
        "index": In(range(max(2, array.clusters))),
        "stop": In(1),
        "commands": In(stream.Signature(NodeCommand(fmt.width))),
        "signals": In(SemaphoreSignal()).array(3),
        "completed": In(SemaphoreSignal()).array(2),
        "product_begun": Out(1),
        "vector_begun": Out(1),
        "product_done": Out(1),
        "vector_done": Out(1),
        "weights": In(ReadPort(fmt, tile)).array(pes * config.tile_ports),
        "affine": In(ReadPort(fmt, tile)),
        "load": In(stream.Signature(BufferWrite(fmt, tile))),
        "store": Out(ReadPort(fmt, tile)),
        "sends": Out(stream.Signature(BufferWrite(fmt, tile))).array(shared),
        "receives": In(BusWrite(fmt, tile)).array(shared),
        "kept_query": In(KeptQuery()),
        "kept": Out(ELEMENTS),
        "failure": Out(Failure()),
        "load_outside": Out(1),
        "store_outside": Out(1),
        "increments": Out(
            wiring.Signature({name: Out(range(most + 1)) for name, most in limits.items()})
        ),
    })


class NodeCore(SharedComponent):
    """Run the commands that all clusters get, on the rows that this one owns.

    Products and vector operations wait in queues of their own, for signals of this node and for
    signals from everywhere, and work on the node's activation buffer.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.

    Members
    -------
    index : ``In(range(max(2, clusters)))``
        Number of the cluster.
    stop : ``In(1)``
        Start no further command.
    commands : ``In(stream.Signature(NodeCommand(fmt.width)))``
        What all clusters do.
    signals : ``In(SemaphoreSignal()).array(3)``
        Of loads, stores and the scheduler.
    completed : ``In(SemaphoreSignal()).array(2)``
        Of products and of vector operations that all clusters have completed.
    product_begun, vector_begun : ``Out(1)``
        Strobes: a command of this queue begins here.
    product_done, vector_done : ``Out(1)``
        Strobes: the oldest command of this queue is complete here.
    weights : ``In(ReadPort(fmt, tile)).array(pes_per_cluster * tile_ports)``
        Of the weight buffer: tiles and biases.
    affine : ``In(ReadPort(fmt, tile))``
        Of the weight buffer: gamma and beta.
    load : ``In(stream.Signature(BufferWrite(fmt, tile)))``
        Loads of activations.
    store : ``Out(ReadPort(fmt, tile))``
        Stores of activations.
    sends : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(pes_per_cluster)``
        Results of each PE that are for all clusters of the group; none in a machine of one cluster.
    receives : ``In(BusWrite(fmt, tile)).array(pes_per_cluster)``
        What comes of them, those of this cluster included. PE n's lie in banks of their own.
    kept_query, kept : ``In(KeptQuery())``, ``Out(ELEMENTS)``
        See ``KeptTotals``.
    failure : ``Out(Failure())``
        What has failed in this cycle, if anything.
    load_outside, store_outside : ``Out(1)``
        A load or store had an address beyond the buffer in the cycle before.
    increments : one ``Out`` for each of ``node_limits``, and ``busy_product``, ``busy_vector``,
        ``tile_loads``, ``tile_reuses``
    """

    index: Signal
    stop: Signal
    commands: stream.Interface
    signals: list[Any]
    completed: list[Any]
    product_begun: Signal
    vector_begun: Signal
    product_done: Signal
    vector_done: Signal
    weights: list[Any]
    affine: Any
    load: stream.Interface
    store: Any
    sends: list[stream.Interface]
    receives: list[Any]
    kept_query: Any
    kept: Signal
    failure: Any
    load_outside: Signal
    store_outside: Signal
    increments: Any

    def __init__(self, *, config: AcceleratorConfig):
        self.config = config
        super().__init__(node_signature(config))

    def elaborate(self, platform):
        m = Module()
        config = self.config
        fmt, tile, array = config.fmt, config.datapath.tile, config.array
        pes = array.pes_per_cluster
        m.submodules.localizer = localizer = Localizer(
            threshold_width=fmt.width, clusters=array.clusters
        )
        queues = {
            "product": CommandQueue(
                body_width=ProductCommand().size,
                threshold_width=fmt.width,
                depth=COMMANDS_AHEAD,
                in_flight=COMMANDS,
                stage=0,
            ),
            "vector": CommandQueue(
                body_width=VectorCommand().size,
                threshold_width=fmt.width,
                depth=COMMANDS_AHEAD,
                in_flight=SoftmaxEngine.UNDER_WAY,
            ),
        }
        m.submodules.cluster = cluster = Cluster(
            config=config, weight_latency=ReadNode.LATENCY * tree_levels(array.clusters)
        )
        m.submodules.vector_engine = vector = VectorEngine(
            fmt=fmt,
            tile=tile,
            width=array.softmax_width,
            norm_width=config.norm_width,
            sequence=config.limits.sequence,
            hidden=config.limits.hidden,
            units=array.softmax_units * pes,
            ports=config.softmax_ports,
        )
        m.submodules.activation_buffer = activations = VectorBuffer(
            fmt=fmt,
            tile=tile,
            depth=config.cluster_vectors,
            banks=config.activation_banks,
            spread=True,
            readers=len(cluster.tiles) + config.streams + len(vector.reads) + 1,
            mask_readers=config.streams,
            # Tiles that few rows of a cluster share are wanted soon.
            preferred=len(cluster.tiles) if array.clusters > 1 else 0,
            writers=len(self.receives) + 1 + pes + len(vector.writes),
            urgent=len(self.receives),
        )
        m.submodules.kept_totals = totals = KeptTotals(
            most=(*[pes * tile] * CONTEXTS, config.softmax_ports * tile)
        )

        # Commands.
        connect(m, flipped(self.commands), localizer.i)
        m.d.comb += localizer.index.eq(self.index)
        for name, queue in queues.items():
            m.submodules[f"{name}_queue"] = queue
            connect(m, getattr(localizer, name), queue.i)
            m.d.comb += queue.stop.eq(self.stop)
        # Tiles of a product are loaded as soon as it is ordered; its rows may have to wait.
        product = queues["product"].o
        gates = []
        for stage, name in ((1, "rows"), (2, "final")):
            headers = Queue(shape=CommandHeader(), depth=COMMANDS)
            gate = WaitGate(body_width=1, threshold_width=1, stage=stage)
            m.submodules[name] = headers
            m.submodules[f"{name}_gate"] = gate
            gates.append(gate)
            m.d.comb += [
                headers.i.payload.eq(product.payload.header),
                headers.i.valid.eq(product.valid & product.ready),
                gate.i.valid.eq(headers.o.valid),
                gate.i.payload.header.eq(headers.o.payload),
                headers.o.ready.eq(gate.i.ready),
                gate.stop.eq(self.stop),
                getattr(cluster, f"{name}_ready").eq(gate.o.valid),
                gate.o.ready.eq(getattr(cluster, f"{name}_taken")),
            ]
        self._count_signals(m, [*queues.values(), *gates], queues)
        command = data.View(ProductCommand(), product.payload.body)
        m.d.comb += [
            Value.cast(cluster.orders.payload.command).eq(Value.cast(command)),
            cluster.orders.payload.threshold.eq(product.payload.threshold),
            cluster.orders.valid.eq(product.valid),
            product.ready.eq(cluster.orders.ready),
            cluster.waits_for_semaphore.eq(queues["product"].waiting),
            queues["product"].done.eq(cluster.done),
            queues["vector"].done.eq(vector.done),
            self.product_begun.eq(product.valid & product.ready),
            self.vector_begun.eq(queues["vector"].o.valid & queues["vector"].o.ready),
            self.product_done.eq(cluster.done),
            self.vector_done.eq(vector.done),
        ]
        connect(m, queues["vector"].o, vector.i)

        # Buffers.
        reads = [*cluster.tiles, *cluster.values, *vector.reads, flipped(self.store)]
        for port, reader in zip(activations.reads, reads, strict=True):
            connect(m, port, reader)
        for port, reader in zip(activations.mask_reads, cluster.masks, strict=True):
            connect(m, port, reader)
        self._write(m, cluster, vector, activations)
        for port, reader in zip(self.weights, cluster.weights, strict=True):
            connect(m, reader, flipped(port))
        connect(m, vector.read_affine, flipped(self.affine))

        for n, kept in enumerate([*cluster.kept, vector.kept]):
            m.d.comb += getattr(totals, f"kept{n}").eq(kept)
        connect(m, flipped(self.kept_query), totals.query)
        m.d.comb += self.kept.eq(totals.total)
        self._watch(m, queues, cluster, activations)
        self._count(m, queues, cluster, vector, activations)
        return m

    def _count_signals(
        self, m: Module, waiting: list[CommandQueue | WaitGate], queues: dict[str, CommandQueue]
    ) -> None:
        """Semaphores of this node, and those of all nodes, for those that wait."""
        counts = []
        own = [queue.signal for queue in queues.values()]
        for name, signals in (("semaphores", own), ("everywhere", self.completed)):
            sources = [*self.signals, *signals]
            m.submodules[name] = semaphores = Semaphores(sources=len(sources))
            for source, signal in zip(semaphores.signals, sources, strict=True):
                m.d.comb += [
                    source.valid.eq(signal.valid),
                    source.semaphore.eq(signal.semaphore),
                ]
            counts.append(semaphores.counts)
        for one in waiting:
            m.d.comb += [one.counts.eq(counts[0]), one.everywhere.eq(counts[1])]

    def _write(
        self, m: Module, cluster: Cluster, vector: VectorEngine, activations: VectorBuffer
    ) -> None:
        writes = iter(activations.writes)
        for received, write in zip(self.receives, writes, strict=False):
            m.d.comb += [
                write.valid.eq(received.valid),
                write.payload.eq(received.write),
            ]
        connect(m, flipped(self.load), next(writes))
        for n, result in enumerate(cluster.writes):
            write = next(writes)
            address = Value.cast(result.payload.address)
            m.d.comb += [
                write.payload.eq(result.payload),
                write.payload.address.eq(address & (SHARE - 1)),
                write.valid.eq(result.valid),
                result.ready.eq(write.ready),
            ]
            if self.sends:
                shared, send = address & SHARE != 0, self.sends[n]
                m.d.comb += [
                    write.valid.eq(result.valid & ~shared),
                    send.valid.eq(result.valid & shared),
                    send.payload.eq(write.payload),
                    result.ready.eq(Mux(shared, send.ready, write.ready)),
                ]
        for write, result in zip(writes, vector.writes, strict=True):
            connect(m, result, write)

    def _watch(
        self, m: Module, queues: dict[str, CommandQueue], cluster: Cluster, activations
    ) -> None:
        """Find out what fails, and in which command."""
        # A buffer reports a cycle late: by then the command may have completed.
        culprit = {}
        for name, queue in queues.items():
            culprit[name] = Signal(COMMAND_INDEX_WIDTH, name=f"{name}_culprit")
            m.d.sync += culprit[name].eq(queue.oldest)

        # Tiles and rows of a product are read while those before it are at work.
        started = Signal(range(COMMANDS))
        starts = Array(
            Signal(COMMAND_INDEX_WIDTH, name=f"product{n}_index") for n in range(COMMANDS)
        )
        product = queues["product"].o
        with m.If(product.valid & product.ready):
            m.d.sync += [
                starts[started].eq(product.payload.header.index),
                started.eq(started + 1),
            ]

        # Ports of the activation buffer: readers, mask readers, writers. Tiles and rows are
        # watched where they are asked for.
        streams = self.config.streams
        ports = iter(activations.out_of_range)
        _, vector_reads, store, _, received, load, results, vector_writes = (
            Cat(islice(ports, count)).any()
            for count in (
                len(cluster.tiles) + streams,
                self.config.softmax_ports + 2,
                1,
                streams,
                len(self.receives),
                1,
                len(cluster.writes),
                None,
            )
        )
        vectors = vector_reads | vector_writes
        m.d.comb += [self.load_outside.eq(load), self.store_outside.eq(store)]
        causes: list[tuple[Any, Any, Any]] = [
            (cluster.overflow, ErrorCause.ILLEGAL_COMMAND, queues["product"].oldest),
            (results | received, ErrorCause.BUFFER_ADDRESS, culprit["product"]),
            (
                cluster.out_of_range,
                ErrorCause.BUFFER_ADDRESS,
                starts[cluster.out_of_range_command],
            ),
            (vectors, ErrorCause.BUFFER_ADDRESS, culprit["vector"]),
        ]
        for valid, cause, command in reversed(causes):
            with m.If(valid):
                m.d.comb += [
                    self.failure.valid.eq(1),
                    self.failure.cause.eq(cause),
                    self.failure.command.eq(command),
                ]

    def _count(
        self, m: Module, queues: dict[str, CommandQueue], cluster: Cluster, vector, activations
    ) -> None:
        config, datapath = self.config, self.config.datapath
        # With a weight window, a multiplier issues nothing but products of two non-zero factors.
        multipliers = cluster.issued * config.lane_multipliers
        lanes = {
            "busy_lanes": cluster.lanes.busy,
            **{f"stall_{cause}": getattr(cluster.lanes, cause) for cause in LANE_CAUSES},
        }
        counts: dict[str, Any] = {
            **lanes,
            "idle_lanes": config.array.pes_per_cluster * config.lanes - sum(lanes.values()),
            "multiplier_cycles": (
                cluster.effectual_products if datapath.weight_window else multipliers
            ),
            "products_effectual": cluster.effectual_products,
            "busy_product": queues["product"].busy,
            "busy_vector": queues["vector"].busy,
            "activation_reads": activations.read_count,
            "activation_writes": activations.write_count,
            "activation_skipped": cluster.skipped,
            "tile_loads": cluster.tile_load,
            "tile_reuses": cluster.tile_reuse,
            "saturated": cluster.saturated + vector.saturated,
        }
        assert {*LANE_COUNTERS} <= counts.keys()
        for name, value in counts.items():
            m.d.comb += getattr(self.increments, name).eq(value)
