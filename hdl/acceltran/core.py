"""All of the machine but the registers: what a soft reset resets."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Array, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import COUNTERS, ErrorCause
from acceltran.cluster import Cluster
from acceltran.control.command_decoder import CommandDecoder
from acceltran.control.command_queue import CommandQueue
from acceltran.control.command_word import COMMAND_INDEX_WIDTH
from acceltran.control.product_command import ProductCommand
from acceltran.control.run_control import Failure
from acceltran.control.scheduler import BODY_WIDTHS, QUEUES, Scheduler
from acceltran.control.semaphores import Semaphores
from acceltran.control.vector_engine import VectorEngine
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, Axi4
from acceltran.memory.dma import Dma
from acceltran.memory.tile_walker import COMMANDS
from acceltran.memory.vector_buffer import VectorBuffer

__all__ = ["Core", "counter_widths"]

# Ports of the activation buffer. Stores, the tile loader and the row streamer, then vector units.
READ_STORE, READ_TILES, READ_VALUES, READ_VECTOR = range(4)
VECTOR_READERS = 3
# Ports of the weight buffer.
READ_WEIGHTS, READ_AFFINE = range(2)


def counter_widths(config: AcceleratorConfig) -> tuple[tuple[str, int], ...]:
    """Width of each counter's increment, in the order of the register map."""
    pes, lanes = config.array.pes_per_cluster, config.array.lanes
    tile = config.datapath.tile
    wide = {
        "multiplier_cycles": pes * lanes * config.datapath.multipliers,
        "products_effectual": pes * lanes * tile,
        "activation_reads": READ_VECTOR + VECTOR_READERS,
        "activation_writes": 1 + pes + 2,
        "weight_reads": 2,
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
            "axi": Out(Axi4(config.memory.axi_data_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        fmt, tile, pes = config.fmt, config.datapath.tile, config.array.pes_per_cluster
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
        )
        m.submodules.scheduler = scheduler = Scheduler(fmt=fmt)
        m.submodules.semaphores = semaphores = Semaphores(sources=len(QUEUES) + 1)
        queues: dict[str, CommandQueue] = {}
        for name in QUEUES:
            queues[name] = CommandQueue(body_width=BODY_WIDTHS[name], threshold_width=fmt.width)
            m.submodules[f"{name}_queue"] = queues[name]
        m.submodules.cluster = cluster = Cluster(config=config)
        m.submodules.vector_engine = vector = VectorEngine(
            **shape,
            width=config.array.softmax_width,
            sequence=config.limits.sequence,
            hidden=config.limits.hidden,
            units=config.array.softmax_units * pes,
        )
        m.submodules.activation_buffer = activations = VectorBuffer(
            **shape,
            depth=config.activation_vectors,
            banks=pes,
            readers=READ_VECTOR + VECTOR_READERS,
            mask_readers=1,
            writers=1 + pes + len(vector.writes),
        )
        m.submodules.weight_buffer = weights = VectorBuffer(
            **shape, depth=config.weight_vectors, banks=1, readers=2, writers=1, mask_readers=0
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
        reads = [dma.port, cluster.tiles, cluster.values, *vector.reads]
        for port, reader in zip(activations.reads, reads, strict=True):
            wiring.connect(m, port, reader)
        wiring.connect(m, activations.mask_reads[0], cluster.masks)
        writes = [dma.activation, *cluster.writes, *vector.writes]
        for port, writer in zip(activations.writes, writes, strict=True):
            wiring.connect(m, writer, port)
        wiring.connect(m, weights.reads[READ_WEIGHTS], cluster.weights)
        wiring.connect(m, weights.reads[READ_AFFINE], vector.read_affine)
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

        # Tiles are loaded ahead of the product that is at work.
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
        pes = self.config.array.pes_per_cluster
        out = activations.out_of_range
        first_write = READ_VECTOR + VECTOR_READERS + 1
        loads = out[first_write] | weights.out_of_range[2]
        products = Value.cast(
            out[READ_VALUES]
            | out[first_write - 1]
            | out[first_write + 1 : first_write + 1 + pes].any()
        )
        vectors = (
            out[READ_VECTOR : READ_VECTOR + VECTOR_READERS].any()
            | out[first_write + 1 + pes :].any()
            | weights.out_of_range[READ_AFFINE]
        )
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
            (out[READ_STORE], ErrorCause.BUFFER_ADDRESS, culprit["store"]),
            (products, ErrorCause.BUFFER_ADDRESS, culprit["product"]),
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
            "stall_tile": cluster.stall_tile,
            "stall_operand": cluster.stall_operand,
            "stall_sums": cluster.stall_sums,
            "stall_semaphore": queues["product"].waiting,
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
