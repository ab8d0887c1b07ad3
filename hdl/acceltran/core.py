"""All of the machine but the registers: what a soft reset resets."""

from functools import reduce
from operator import and_, or_
from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import ErrorCause
from acceltran.arch.threshold_curve import TABLE_ADDRESS_BITS
from acceltran.cluster_tree import MOST_UNDER_WAY, all_clusters
from acceltran.control.command_decoder import CommandDecoder
from acceltran.control.command_queue import CommandQueue
from acceltran.control.command_word import COMMAND_INDEX_WIDTH
from acceltran.control.completion import Completion
from acceltran.control.kept_totals import KeptTotals
from acceltran.control.node_command import NodeKind
from acceltran.control.run_control import Failure
from acceltran.control.scheduler import BODY_WIDTHS, QUEUES, Scheduler
from acceltran.control.semaphores import Semaphores
from acceltran.control.threshold_control import ThresholdControl
from acceltran.counter_limits import counter_widths
from acceltran.distribution.barrier_node import BarrierNode
from acceltran.distribution.exchange_node import ExchangeNode
from acceltran.distribution.tree import tree_levels
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, Axi4
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.numeric.delay import delayed
from acceltran.transfers import Transfers

__all__ = ["Core"]

LOADS_AHEAD = 16
"""Loads that may wait while commands behind them are dispatched."""


class Core(SharedComponent):
    """Fetch, check and execute the commands of one program.

    It is started once after each reset. Memories keep their contents through a reset. Counters are
    ``count_latency`` cycles late.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.

    Members
    -------
    start : ``In(1)``
        Strobe.
    program, commands, region_first, region_last
        See ``Transfers``; constant from start to end.
    stop : ``In(1)``
        Start no further command, issue no further burst.
    ended : ``Out(1)``
        Strobe: END was executed; all before it is complete.
    quiet : ``Out(1)``
        No AXI transaction is offered or under way.
    failure : ``Out(Failure())``
        What has failed in this cycle, if anything.
    oldest : ``Out(COMMAND_INDEX_WIDTH)``
        Lowest index of the commands that are not complete.
    progress : ``Out(1)``
        Something was computed or moved.
    completed : ``Out(range(6))``
        Commands completed in this cycle.
    increments : one ``Out`` for each counter but ``cycles``
    table_address, table_write, table_data, table_value
        Host's access to the threshold table; see ``ThresholdControl``.
    axi : ``Out(Axi4(axi_data_bits)).array(axi_masters)``
    """

    start: Signal
    program: Signal
    commands: Signal
    region_first: Signal
    region_last: Signal
    stop: Signal
    ended: Signal
    quiet: Signal
    failure: Any
    oldest: Signal
    progress: Signal
    completed: Signal
    increments: Any
    table_address: Signal
    table_write: Signal
    table_data: Signal
    table_value: Signal
    axi: list[Any]

    def __init__(self, *, config: AcceleratorConfig):
        self.config = config
        self.count_latency = tree_levels(config.array.clusters)
        super().__init__({
            "start": In(1),
            "program": In(ADDRESS_BITS),
            "commands": In(COMMAND_INDEX_WIDTH),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "stop": In(1),
            "ended": Out(1),
            "quiet": Out(1),
            "failure": Out(Failure()),
            "oldest": Out(COMMAND_INDEX_WIDTH),
            "progress": Out(1),
            "completed": Out(range(len(QUEUES) + 2)),
            "increments": Out(
                wiring.Signature({
                    name: Out(width) for name, width in counter_widths(config) if name != "cycles"
                })
            ),
            "table_address": In(TABLE_ADDRESS_BITS),
            "table_write": In(1),
            "table_data": In(32),
            "table_value": Out(32),
            "axi": Out(Axi4(config.memory.axi_data_bits)).array(config.memory.axi_masters),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        fmt, tile, clusters = config.fmt, config.datapath.tile, config.array.clusters
        shape = {"fmt": fmt, "tile": tile}
        m.submodules.transfers = transfers = Transfers(config=config)
        m.submodules.decoder = decoder = CommandDecoder(
            tile=tile,
            tile_rows=config.datapath.tile_rows,
            partial_sums=config.datapath.partial_sums,
            inner=config.limits.inner,
            sequence=config.limits.sequence,
            hidden=config.limits.hidden,
            banks=config.array.pes_per_cluster,
            streams=config.streams,
            clusters=clusters,
        )
        m.submodules.scheduler = scheduler = Scheduler(fmt=fmt)
        levels = tree_levels(clusters)
        m.submodules.threshold_control = thresholds = ThresholdControl(
            fmt=fmt, kept_latency=KeptTotals.LATENCY + 2 * levels
        )
        m.submodules.semaphores = semaphores = Semaphores(sources=len(QUEUES) + 1)
        queues = {
            name: CommandQueue(
                body_width=BODY_WIDTHS[name],
                threshold_width=fmt.width,
                depth=LOADS_AHEAD if name == "load" else 4,
            )
            for name in ("load", "store")
        }
        completions = {name: Completion(depth=MOST_UNDER_WAY) for name in ("product", "vector")}
        m.submodules.clusters = nodes = all_clusters(config)
        m.submodules.weight_buffer = weights = VectorBuffer(
            **shape,
            depth=config.weight_vectors,
            banks=config.weight_banks,
            readers=len(nodes.weights) + 1,
            writers=len(transfers.weights),
        )

        # Commands.
        everyone = [*queues.values(), *completions.values()]
        m.d.comb += [
            transfers.start.eq(self.start),
            transfers.program.eq(self.program),
            transfers.commands.eq(self.commands),
            transfers.region_first.eq(self.region_first),
            transfers.region_last.eq(self.region_last),
            transfers.stop.eq(self.stop),
            scheduler.stop.eq(self.stop),
            scheduler.counts.eq(semaphores.counts),
            scheduler.idle.eq(reduce(and_, (one.idle for one in everyone))),
            self.ended.eq(scheduler.done),
            self.quiet.eq(transfers.quiet),
        ]
        connect(m, scheduler.orders, thresholds.orders)
        m.d.comb += [
            scheduler.answer.eq(thresholds.answer),
            scheduler.settled.eq(thresholds.settled),
            thresholds.settle.eq(scheduler.settle),
            thresholds.host_address.eq(self.table_address),
            thresholds.host_write.eq(self.table_write),
            thresholds.host_data.eq(self.table_data),
            self.table_value.eq(thresholds.host_value),
        ]
        connect(m, transfers.fetched, decoder.i)
        connect(m, decoder.o, scheduler.i)
        signals = [*(one.signal for one in everyone), scheduler.signal]
        for source, signal in zip(semaphores.signals, signals, strict=True):
            m.d.comb += [
                source.valid.eq(signal.valid),
                source.semaphore.eq(signal.semaphore),
            ]
        for name, queue in queues.items():
            m.submodules[f"{name}_queue"] = queue
            connect(m, getattr(scheduler, name), queue.i)
            m.d.comb += [
                queue.counts.eq(semaphores.counts),
                queue.everywhere.eq(semaphores.counts),
                queue.stop.eq(self.stop),
            ]
        self._command_nodes(m, scheduler, completions, nodes)
        self._signal_nodes(m, scheduler, queues, completions, thresholds, nodes)

        # Data.
        for name, queue in queues.items():
            target = getattr(transfers, name)
            m.d.comb += [
                Value.cast(target.payload).eq(queue.o.payload.body),
                target.valid.eq(queue.o.valid),
                queue.o.ready.eq(target.ready),
                queue.done.eq(getattr(transfers, f"{name}_done")),
            ]
        connect(m, transfers.activations, nodes.load)
        connect(m, nodes.store, transfers.results)
        for load, write in zip(transfers.weights, weights.writes, strict=True):
            connect(m, load, write)
        for reader, port in zip([*nodes.weights, nodes.affine], weights.reads, strict=True):
            connect(m, reader, port)
        if clusters > 1:
            self._connect_networks(m, scheduler, transfers, nodes)
        for inner, outer in zip(transfers.axi, self.axi, strict=True):
            connect(m, inner, flipped(outer))

        self._watch(m, queues, completions, transfers, decoder, scheduler, nodes, weights)
        self._count(m, queues, completions, transfers, scheduler, nodes, weights)
        return m

    def _command_nodes(self, m: Module, scheduler, completions, nodes) -> None:
        """Products, vector operations and SEQUENCE, in program order, to all nodes."""
        commands = nodes.commands
        for name, kind in (("product", NodeKind.PRODUCT), ("vector", NodeKind.VECTOR)):
            m.submodules[f"{name}_completion"] = completion = completions[name]
            source = getattr(scheduler, name)
            header = source.payload.header
            with m.If(source.valid):
                m.d.comb += [
                    commands.payload.kind.eq(kind),
                    Value.cast(commands.payload.command.header).eq(header),
                    commands.payload.command.body.eq(source.payload.body),
                    commands.payload.command.threshold.eq(source.payload.threshold),
                    commands.valid.eq(completion.i.ready),
                ]
            m.d.comb += [
                completion.i.valid.eq(source.valid & commands.ready),
                completion.i.payload.index.eq(header.index),
                completion.i.payload.signal_enable.eq(header.signal_enable),
                completion.i.payload.signal.eq(header.signal),
                source.ready.eq(completion.i.ready & commands.ready),
            ]
            done = getattr(nodes, f"{name}_done")
            m.d.comb += [
                completion.begun.eq(getattr(nodes, f"{name}_begun")),
                completion.done.eq(delayed(m, done, self._exchange_delay(), name=f"{name}_done")),
            ]
        with m.If(scheduler.sequence.valid):
            m.d.comb += [
                commands.payload.kind.eq(NodeKind.SEQUENCE),
                commands.payload.command.body.eq(scheduler.sequence.payload),
                commands.valid.eq(1),
            ]
        m.d.comb += scheduler.sequence.ready.eq(commands.ready)

    def _exchange_delay(self) -> int:
        """Cycles that completion waits until what was shared is written everywhere."""
        levels = tree_levels(self.config.array.clusters)
        if levels == 0:
            return 0
        written = ExchangeNode.latency(levels) + 2
        told = BarrierNode.LATENCY * levels + 1 + levels
        return max(0, written - told)

    def _signal_nodes(self, m: Module, scheduler, queues, completions, thresholds, nodes) -> None:
        """What all nodes are told, and what they tell all together."""
        signals = [queues["load"].signal, queues["store"].signal, scheduler.signal]
        completed = [completion.signal for completion in completions.values()]
        for source, target in zip(
            [*signals, *completed], [*nodes.signals, *nodes.completed], strict=True
        ):
            connect(m, source, target)
        connect(m, thresholds.query, nodes.kept_query)
        m.d.comb += [nodes.stop.eq(self.stop), thresholds.kept.eq(nodes.kept)]

    def _connect_networks(self, m: Module, scheduler, transfers: Transfers, nodes) -> None:
        """Who of several nodes may share results, and whether loads are on their way."""
        with m.If(scheduler.sequence.valid & scheduler.sequence.ready):
            m.d.sync += nodes.turns.span.eq(scheduler.sequence.payload.span)
        m.d.sync += nodes.turns.cycle.eq(nodes.turns.cycle + 1)
        m.d.comb += transfers.activations_busy.eq(nodes.load_busy)

    def _watch(
        self, m, queues, completions, transfers: Transfers, decoder, scheduler, nodes, weights
    ) -> None:
        """Find out what fails, and in which command."""
        # A buffer reports a cycle late: by then the command may have completed.
        late = 1 + tree_levels(self.config.array.clusters)
        culprit = {
            name: delayed(m, one.oldest, late, name=f"{name}_culprit")
            for name, one in {**queues, **completions}.items()
        }

        failure = nodes.failure
        fetched_all = Signal()
        with m.If(transfers.fetch_done):
            m.d.sync += fetched_all.eq(1)
        # Nothing is left between fetch and scheduler, which still waits for an END.
        endless = Signal()
        m.d.comb += endless.eq(
            fetched_all & scheduler.i.ready & ~scheduler.i.valid & decoder.i.ready
        )
        # Ports of the weight buffer: tiles, which are watched where they are asked for, gamma and
        # beta, loads.
        outside = weights.out_of_range
        affine, weight_load = outside[len(weights.reads) - 1], outside[len(weights.reads) :].any()
        load = nodes.load_outside | transfers.load_outside | weight_load
        store = nodes.store_outside | transfers.store_outside
        causes: list[tuple[Any, Any, Any]] = [
            (
                decoder.illegal & ~scheduler.ending,
                ErrorCause.ILLEGAL_COMMAND,
                decoder.illegal_index,
            ),
            (endless, ErrorCause.ILLEGAL_COMMAND, self.commands),
            (transfers.fetch_error.valid, transfers.fetch_error.cause, transfers.fetch_error_index),
            (transfers.load_error.valid, transfers.load_error.cause, queues["load"].oldest),
            (transfers.store_error.valid, transfers.store_error.cause, queues["store"].oldest),
            (load, ErrorCause.BUFFER_ADDRESS, culprit["load"]),
            (store, ErrorCause.BUFFER_ADDRESS, culprit["store"]),
            (failure.valid, failure.cause, failure.command),
            (affine, ErrorCause.BUFFER_ADDRESS, culprit["vector"]),
        ]
        m.d.sync += self.failure.valid.eq(0)
        for valid, cause, command in reversed(causes):
            with m.If(valid):
                m.d.sync += [
                    self.failure.valid.eq(1),
                    self.failure.cause.eq(cause),
                    self.failure.command.eq(command),
                ]

        def older(a: tuple[Value, Value], b: tuple[Value, Value]) -> tuple[Value, Value]:
            """Earlier of two commands, each with a bit that says whether there is one."""
            first = a[0] & (~b[0] | (a[1] < b[1]))
            valid, index = Signal(), Signal(COMMAND_INDEX_WIDTH)
            m.d.sync += [valid.eq(a[0] | b[0]), index.eq(Mux(first, a[1], b[1]))]
            return valid, index

        load, store, product, vector = (
            (~one.idle, one.oldest) for one in (*queues.values(), *completions.values())
        )
        some, oldest = older(older(load, store), older(product, vector))
        m.d.comb += self.oldest.eq(Mux(some, oldest, scheduler.index))

    def _count(
        self, m, queues, completions, transfers: Transfers, scheduler, nodes, weights
    ) -> None:
        counts: dict[str, Any] = {
            **{f"busy_{name}": queue.busy for name, queue in queues.items()},
            "weight_reads": weights.read_count,
            "weight_writes": weights.write_count,
            "dma_read_bytes": transfers.read_bytes,
            "dma_write_bytes": transfers.write_bytes,
        }
        for name in nodes.increments.signature.members:
            counts[name] = getattr(nodes.increments, name)
        for name, value in counts.items():
            m.d.comb += getattr(self.increments, name).eq(value)
        done = [
            *(queue.done for queue in queues.values()),
            *(completion.done for completion in completions.values()),
            scheduler.executed,
        ]
        m.d.comb += self.completed.eq(sum(done, start=0))
        moving = [
            counts[name] != 0
            for name in (
                "multiplier_cycles",
                "activation_reads",
                "activation_writes",
                "weight_reads",
                "weight_writes",
                "dma_read_bytes",
                "dma_write_bytes",
            )
        ]
        m.d.sync += self.progress.eq(reduce(or_, [*moving, self.completed != 0]))
