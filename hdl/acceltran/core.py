"""All of the machine but the registers: what a soft reset resets."""

from functools import reduce
from itertools import islice
from operator import or_
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import COUNTERS, ErrorCause
from acceltran.arch.threshold_curve import TABLE_ADDRESS_BITS
from acceltran.cluster import Cluster
from acceltran.control.command_decoder import CommandDecoder
from acceltran.control.command_queue import CommandQueue
from acceltran.control.command_word import COMMAND_INDEX_WIDTH
from acceltran.control.lane_accounts import LANE_CAUSES
from acceltran.control.product_command import ProductCommand
from acceltran.control.run_control import Failure
from acceltran.control.scheduler import BODY_WIDTHS, QUEUES, Scheduler
from acceltran.control.semaphores import Semaphores
from acceltran.control.threshold_control import ThresholdControl
from acceltran.control.vector_engine import VectorEngine
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, Axi4
from acceltran.memory.dma import Dma
from acceltran.memory.tile_walker import COMMANDS
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.pe import CONTEXTS

__all__ = ["Core", "counter_widths"]

LOADS_AHEAD = 16
"""Loads that may wait while commands behind them are dispatched."""
VECTOR_READERS = 3
"""Ports of the activation buffer that the vector engine reads through."""


def counter_widths(config: AcceleratorConfig) -> tuple[tuple[str, int], ...]:
    """Width of each counter's increment, in the order of the register map."""
    pes, lanes = config.array.pes_per_cluster, config.array.lanes
    streams, tile = config.array.streams, config.datapath.tile
    wide = {
        **dict.fromkeys(("busy_lanes", "idle_lanes"), pes * lanes),
        **dict.fromkeys((f"stall_{cause}" for cause in LANE_CAUSES), pes * lanes),
        "multiplier_cycles": pes * lanes * config.datapath.multipliers,
        "products_effectual": pes * lanes * tile,
        "activation_reads": 1 + pes + streams + VECTOR_READERS,
        "activation_writes": 1 + pes + 2,
        "activation_skipped": streams,
        "weight_reads": pes + 1,
        "saturated": 2 * pes * tile + tile,
        "dma_read_bytes": config.memory.axi_data_bits // 8,
        "dma_write_bytes": config.memory.axi_data_bits // 8,
    }
    return tuple((name, wide.get(name, 1).bit_length()) for name, _ in COUNTERS)


class Core(SharedComponent):
    """Fetch, check and execute the commands of one program.

    It is started once after each reset. Memories keep their contents through a reset.

    Parameters
    ----------
    config : AcceleratorConfig
        Of a machine with one cluster and one AXI master.

    Members
    -------
    start : ``In(1)``
        Strobe.
    program, commands, region_first, region_last
        See ``Dma``; constant from start to end.
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
    axi : ``Out(Axi4(axi_data_bits))``
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
    axi: Any

    def __init__(self, *, config: AcceleratorConfig):
        if config.array.clusters != 1:
            raise ValueError(f"Number of clusters must be 1, not {config.array.clusters!r}")
        if config.memory.axi_masters != 1:
            raise ValueError(f"Number of AXI masters must be 1, not {config.memory.axi_masters!r}")
        self.config = config
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
            "axi": Out(Axi4(config.memory.axi_data_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        fmt, tile, pes = config.fmt, config.datapath.tile, config.array.pes_per_cluster
        streams = config.array.streams
        shape = {"fmt": fmt, "tile": tile}
        m.submodules.dma = dma = Dma(**shape, data_bits=config.memory.axi_data_bits)
        m.submodules.decoder = decoder = CommandDecoder(
            tile=tile,
            tile_rows=config.datapath.tile_rows,
            partial_sums=config.datapath.partial_sums,
            inner=config.limits.inner,
            sequence=config.limits.sequence,
            hidden=config.limits.hidden,
            banks=pes,
            streams=config.array.streams,
        )
        m.submodules.scheduler = scheduler = Scheduler(fmt=fmt)
        m.submodules.threshold_control = thresholds = ThresholdControl(
            fmt=fmt, most=(*[pes * tile] * CONTEXTS, tile)
        )
        m.submodules.semaphores = semaphores = Semaphores(sources=len(QUEUES) + 1)
        queues: dict[str, CommandQueue] = {}
        for name in QUEUES:
            queues[name] = CommandQueue(
                body_width=BODY_WIDTHS[name],
                threshold_width=fmt.width,
                depth=LOADS_AHEAD if name == "load" else 4,
            )
            m.submodules[f"{name}_queue"] = queues[name]
        m.submodules.cluster = cluster = Cluster(config=config)
        m.submodules.vector_engine = vector = VectorEngine(
            **shape,
            width=config.array.softmax_width,
            norm_width=config.norm_width,
            sequence=config.limits.sequence,
            hidden=config.limits.hidden,
            units=config.array.softmax_units * pes,
        )
        m.submodules.activation_buffer = activations = VectorBuffer(
            **shape,
            depth=config.activation_vectors,
            banks=config.activation_banks,
            spread=True,
            readers=1 + pes + streams + VECTOR_READERS,
            mask_readers=streams,
            writers=1 + pes + len(vector.writes),
        )
        m.submodules.weight_buffer = weights = VectorBuffer(
            **shape,
            depth=config.weight_vectors,
            banks=config.weight_banks,
            readers=pes + 1,
            writers=1,
        )

        # Commands.
        m.d.comb += [
            dma.start.eq(self.start),
            dma.program.eq(self.program),
            dma.commands.eq(self.commands),
            dma.region_first.eq(self.region_first),
            dma.region_last.eq(self.region_last),
            dma.stop.eq(self.stop),
            scheduler.stop.eq(self.stop),
            scheduler.counts.eq(semaphores.counts),
            scheduler.idle.eq(reduce(lambda a, b: a & b, (q.idle for q in queues.values()))),
            self.ended.eq(scheduler.done),
            self.quiet.eq(dma.quiet),
        ]
        wiring.connect(m, scheduler.orders, thresholds.orders)
        m.d.comb += [
            scheduler.answer.eq(thresholds.answer),
            scheduler.settled.eq(thresholds.settled),
            thresholds.settle.eq(scheduler.settle),
            *(
                getattr(thresholds, f"kept{n}").eq(kept)
                for n, kept in enumerate([*cluster.kept, vector.kept])
            ),
            thresholds.host_address.eq(self.table_address),
            thresholds.host_write.eq(self.table_write),
            thresholds.host_data.eq(self.table_data),
            self.table_value.eq(thresholds.host_value),
        ]
        wiring.connect(m, dma.fetched, decoder.i)
        wiring.connect(m, decoder.o, scheduler.i)
        for source, signal in zip(
            semaphores.signals,
            [*(q.signal for q in queues.values()), scheduler.signal],
            strict=True,
        ):
            m.d.comb += [
                source.valid.eq(signal.valid),
                source.semaphore.eq(signal.semaphore),
            ]
        for name, queue in queues.items():
            wiring.connect(m, getattr(scheduler, name), queue.i)
            m.d.comb += [queue.counts.eq(semaphores.counts), queue.stop.eq(self.stop)]
        self._start_engines(m, queues, dma, cluster, vector)

        # Buffers.
        reads = [dma.port, *cluster.tiles, *cluster.values, *vector.reads]
        for port, reader in zip(activations.reads, reads, strict=True):
            wiring.connect(m, port, reader)
        for port, reader in zip(activations.mask_reads, cluster.masks, strict=True):
            wiring.connect(m, port, reader)
        writes = [dma.activation, *cluster.writes, *vector.writes]
        for port, writer in zip(activations.writes, writes, strict=True):
            wiring.connect(m, writer, port)
        m.d.comb += cluster.waits_for_semaphore.eq(queues["product"].waiting)
        for port, reader in zip(weights.reads, [*cluster.weights, vector.read_affine], strict=True):
            wiring.connect(m, port, reader)
        wiring.connect(m, dma.weight, weights.writes[0])

        for name, member in self.axi.signature.members.items():
            inner, outer = getattr(dma.axi, name), getattr(self.axi, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

        self._watch(m, queues, dma, decoder, scheduler, cluster, activations, weights)
        self._count(m, queues, dma, scheduler, cluster, vector, activations, weights)
        return m

    def _start_engines(self, m, queues, dma: Dma, cluster: Cluster, vector: VectorEngine) -> None:
        for name, target in (("load", dma.load), ("store", dma.store)):
            m.d.comb += [
                Value.cast(target.payload).eq(queues[name].o.payload.body),
                target.valid.eq(queues[name].o.valid),
                queues[name].o.ready.eq(target.ready),
            ]
        product = queues["product"].o
        body = data.View(ProductCommand(), product.payload.body)
        m.d.comb += [
            Value.cast(cluster.orders.payload.command).eq(Value.cast(body)),
            cluster.orders.payload.threshold.eq(product.payload.threshold),
            cluster.orders.valid.eq(product.valid),
            product.ready.eq(cluster.orders.ready),
        ]
        wiring.connect(m, queues["vector"].o, vector.i)
        for name, done in (
            ("load", dma.load_done),
            ("store", dma.store_done),
            ("product", cluster.done),
            ("vector", vector.done),
        ):
            m.d.comb += queues[name].done.eq(done)

    def _watch(
        self, m, queues, dma: Dma, decoder, scheduler, cluster: Cluster, activations, weights
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

        fetched_all = Signal()
        with m.If(dma.fetch_done):
            m.d.sync += fetched_all.eq(1)
        # Nothing is left between fetch and scheduler, which still waits for an END.
        endless = Signal()
        m.d.comb += endless.eq(
            fetched_all & scheduler.i.ready & ~scheduler.i.valid & decoder.i.ready
        )
        pes, streams = self.config.array.pes_per_cluster, self.config.array.streams
        # Ports of the activation buffer: readers, mask readers, writers. Tiles and rows are
        # watched where they are asked for.
        ports = iter(activations.out_of_range)
        store = next(ports)
        _tiles, _values, vector_reads, _masks, load, results, vector_writes = (
            Cat(islice(ports, count)).any()
            for count in (pes, streams, VECTOR_READERS, streams, 1, pes, None)
        )
        *_weights, affine, weight_load = weights.out_of_range
        loads = load | weight_load
        vectors = vector_reads | vector_writes | affine
        causes: list[tuple[Any, Any, Any]] = [
            (
                decoder.illegal & ~scheduler.ending,
                ErrorCause.ILLEGAL_COMMAND,
                decoder.illegal_index,
            ),
            (endless, ErrorCause.ILLEGAL_COMMAND, self.commands),
            (dma.fetch_error.valid, dma.fetch_error.cause, dma.fetch_error_index),
            (dma.load_error.valid, dma.load_error.cause, queues["load"].oldest),
            (dma.store_error.valid, dma.store_error.cause, queues["store"].oldest),
            (cluster.overflow, ErrorCause.ILLEGAL_COMMAND, queues["product"].oldest),
            (loads, ErrorCause.BUFFER_ADDRESS, culprit["load"]),
            (store, ErrorCause.BUFFER_ADDRESS, culprit["store"]),
            (results, ErrorCause.BUFFER_ADDRESS, culprit["product"]),
            (
                cluster.out_of_range,
                ErrorCause.BUFFER_ADDRESS,
                starts[cluster.out_of_range_command],
            ),
            (vectors, ErrorCause.BUFFER_ADDRESS, culprit["vector"]),
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

        load, store, product, vector = ((~q.idle, q.oldest) for q in queues.values())
        some, oldest = older(older(load, store), older(product, vector))
        m.d.comb += self.oldest.eq(Mux(some, oldest, scheduler.index))

    def _count(
        self, m, queues, dma: Dma, scheduler, cluster: Cluster, vector, act, weights
    ) -> None:
        datapath = self.config.datapath
        # With a weight window, a multiplier issues nothing but products of two non-zero factors.
        multipliers = cluster.issued * datapath.multipliers
        counts: dict[str, Any] = {
            "multiplier_cycles": (
                cluster.effectual_products if datapath.weight_window else multipliers
            ),
            "products_effectual": cluster.effectual_products,
            "busy_lanes": cluster.lanes.busy,
            **{f"stall_{cause}": getattr(cluster.lanes, cause) for cause in LANE_CAUSES},
            **{f"busy_{name}": queue.busy for name, queue in queues.items()},
            "activation_reads": act.read_count,
            "activation_writes": act.write_count,
            "activation_skipped": cluster.skipped,
            "weight_reads": weights.read_count,
            "weight_writes": weights.write_count,
            "tile_loads": cluster.tile_load,
            "tile_reuses": cluster.tile_reuse,
            "saturated": cluster.saturated + vector.saturated,
            "dma_read_bytes": dma.read_bytes,
            "dma_write_bytes": dma.write_bytes,
        }
        for name, value in counts.items():
            m.d.comb += getattr(self.increments, name).eq(value)
        lanes = [counts["busy_lanes"], *(counts[f"stall_{cause}"] for cause in LANE_CAUSES)]
        array = self.config.array
        m.d.comb += self.increments.idle_lanes.eq(array.pes * array.lanes - sum(lanes))
        done = [*(queue.done for queue in queues.values()), scheduler.executed]
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
