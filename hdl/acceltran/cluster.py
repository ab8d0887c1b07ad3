"""Cluster: PEs that share rows, with all that feeds them."""

from functools import reduce
from operator import add, and_, or_
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from acceltran.arch.config import AcceleratorConfig
from acceltran.compute.lane import HALVES
from acceltran.compute.lane_kinds import scalars_per_beat
from acceltran.control.kept_counter import Kept
from acceltran.control.lane_accounts import LANE_CAUSES, LaneAccounts
from acceltran.control.product_command import ProductCommand
from acceltran.control.product_order import ProductOrder
from acceltran.control.product_sequencer import ProductSequencer
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, MaskReadPort, ReadPort
from acceltran.memory.queue import Queue
from acceltran.memory.tile_loader import TileLoader
from acceltran.memory.tile_walker import COMMANDS
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.delay import delayed
from acceltran.numeric.reduction import reduced, reduction_latency
from acceltran.pe import CONTEXTS, ProcessingElement
from acceltran.sparsity.row_streamer import RowStreamer

__all__ = ["Cluster"]

ROWS_HELD, LEAST_HELD = 32, 3
"""Rows that the streams of a cluster hold together, and each at least: many are fetched further
ahead, few are shared more evenly."""


class Cluster(SharedComponent):
    """Run products: ``C[b, r, c_first + j] = f(sum_k A[b, r, k] B[b, k, j] + bias[j])``.

    Each of up to ``streams`` row streamers sends the effectual elements of a row of A, one per
    cycle, to its share of the lanes of every PE. Column vector d of a row of C is computed by PE
    ``d % pes_per_cluster`` and written by it. Tiles of B are loaded ahead by ``tile_ports`` loaders
    of each PE: number ``port * pes_per_cluster + pe`` takes each word of a pass that is ``port``
    modulo ``tile_ports``. Rows of the next product begin while results of the one before are under
    way.

    Source: S. Tuli and N. K. Jha, "AccelTran", IEEE TCAD 2023.
    Golden model: ``acceltran_sim.golden.product.product``, ``acceltran_sim.golden.epilogue``.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.
    weight_latency : int
        Cycles that an answer at ``weights`` may come later than ``VectorBuffer`` gives it.

    Members
    -------
    orders : ``In(stream.Signature(ProductOrder(fmt)))``
        Products, in order. B and bias are complete when an order is given, A is when its rows are
        ready; a product may begin to write before those before it are done.
    rows_ready, rows_taken, final_ready, final_taken : ``In(1)``, ``Out(1)`` each
        See ``ProductSequencer``.
    done : ``Out(1)``
        Strobe: the oldest product that is not done has written all its results.
    weights : ``In(ReadPort(fmt, tile)).array(pes_per_cluster * tile_ports)``
        Of the weight buffer: tiles and biases of each loader.
    tiles : ``In(ReadPort(fmt, tile)).array(pes_per_cluster * tile_ports)``
        Of the activation buffer: tiles of each loader.
    masks, values : ``In(MaskReadPort(tile)).array(streams)``, ``In(ReadPort(fmt, tile)).array``
        Of the activation buffer: rows of each stream.
    writes : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(pes_per_cluster)``
        Of the activation buffer: results. PE n writes vectors ``n % pes_per_cluster`` only.
    waits_for_semaphore : ``In(1)``
        The next product waits for a semaphore.
    issued : ``Out``
        Lanes that issued products.
    effectual_products : ``Out``
        How many of these products have two non-zero factors.
    saturated : ``Out``
        Values that were clipped.
    kept : ``Out(Kept(pes_per_cluster * tile)).array(2)``
        What was written of each context, some cycles ago.
    skipped : ``Out(range(streams + 1))``
        Vectors of rows that were found empty and are not read.
    tile_load, tile_reuse : ``Out(1)``
        Strobes: a tile was loaded, or found resident.
    lanes : ``Out(Signature)``
        Lane-cycles: ``busy`` and what ``LaneAccounts`` names.
    overflow : ``Out(1)``
        See ``ProductSequencer``.
    out_of_range, out_of_range_command : ``Out(1)``, ``Out(range(COMMANDS))``
        See ``TileLoader`` and ``ProductSequencer``.
    """

    orders: stream.Interface
    rows_ready: Signal
    rows_taken: Signal
    final_ready: Signal
    final_taken: Signal
    done: Signal
    weights: list[Any]
    tiles: list[Any]
    masks: list[Any]
    values: list[Any]
    writes: list[stream.Interface]
    waits_for_semaphore: Signal
    issued: Signal
    effectual_products: Signal
    saturated: Signal
    kept: list[Any]
    skipped: Signal
    tile_load: Signal
    tile_reuse: Signal
    lanes: Any
    overflow: Signal
    out_of_range: Signal
    out_of_range_command: Signal

    def __init__(self, *, config: AcceleratorConfig, weight_latency: int = 0):
        if not isinstance(config, AcceleratorConfig):
            raise TypeError(f"Configuration must be an AcceleratorConfig, not {config!r}")
        self.config = config
        self.weight_latency = weight_latency
        fmt, tile = config.fmt, config.datapath.tile
        pes, lanes = config.array.pes_per_cluster, config.lanes
        streams, loaders = config.streams, pes * config.tile_ports
        accounts = {name: Out(range(pes * lanes + 1)) for name in ("busy", *LANE_CAUSES)}
        super().__init__({
            "orders": In(stream.Signature(ProductOrder(fmt))),
            "rows_ready": In(1),
            "rows_taken": Out(1),
            "final_ready": In(1),
            "final_taken": Out(1),
            "done": Out(1),
            "weights": In(ReadPort(fmt, tile)).array(loaders),
            "tiles": In(ReadPort(fmt, tile)).array(loaders),
            "masks": In(MaskReadPort(tile)).array(streams),
            "values": In(ReadPort(fmt, tile)).array(streams),
            "writes": Out(stream.Signature(BufferWrite(fmt, tile))).array(pes),
            "waits_for_semaphore": In(1),
            "issued": Out(range(pes * lanes + 1)),
            "effectual_products": Out(range(pes * lanes * tile + 1)),
            "saturated": Out(range(2 * pes * tile + 1)),
            "kept": Out(Kept(pes * tile)).array(CONTEXTS),
            "skipped": Out(range(streams + 1)),
            "tile_load": Out(1),
            "tile_reuse": Out(1),
            "lanes": Out(wiring.Signature(accounts)),
            "overflow": Out(1),
            "out_of_range": Out(1),
            "out_of_range_command": Out(range(COMMANDS)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        fmt, datapath, array = config.fmt, config.datapath, config.array
        pes, streams = array.pes_per_cluster, config.streams
        rows = {
            "fmt": fmt,
            "tile": datapath.tile,
            "tile_rows": datapath.tile_rows,
            "partial_sums": datapath.partial_sums,
        }
        m.submodules.sequencer = sequencer = ProductSequencer(
            **rows,
            lanes=config.lanes,
            streams=streams,
            pes=pes,
            most_held=max(LEAST_HELD, ROWS_HELD // streams),
            activation_depth=config.cluster_vectors,
        )
        written = Signal(datapath.tile_rows // datapath.tile)  # blocks of all tile RAMs
        loaders = self._add_loaders(m, sequencer, written)
        self._add_orders(m, loaders, sequencer)
        elements = [
            ProcessingElement(
                **rows,
                inner=config.limits.inner,
                lane=datapath.lane,
                weight_window=datapath.weight_window,
                multipliers=config.lane_multipliers,
                lanes=config.lanes,
                streams=streams,
                pes=pes,
                ports=config.tile_ports,
            )
            for _ in range(pes)
        ]
        scalars = self._add_streams(m, sequencer, elements, written, rows)

        m.d.comb += [
            sequencer.reading.eq(reduce(or_, (pe.reading for pe in elements))),
            sequencer.draining.eq(reduce(or_, (pe.draining for pe in elements))),
            sequencer.pending.eq(reduce(or_, (pe.pending for pe in elements))),
        ]
        for number, loader in enumerate(loaders):
            port, pe = divmod(number, pes)
            connect(m, loader.tile_write, elements[pe].tile_write[port])
            connect(m, loader.bias_write, elements[pe].bias_write[port])
        for number, pe in enumerate(elements):
            m.submodules[f"pe{number}"] = pe
            connect(m, pe.o, flipped(self.writes[number]))
            m.d.comb += [pe.index.eq(number), pe.context.eq(sequencer.context)]
            for context in range(CONTEXTS):
                m.d.comb += [
                    pe.lane_enable[context].eq(sequencer.lane_enable[context][number]),
                    pe.stream_count[context].eq(sequencer.stream_count[context]),
                    pe.parameters[context].eq(sequencer.parameters[context]),
                ]

        m.d.comb += [
            sequencer.rows_ready.eq(self.rows_ready),
            self.rows_taken.eq(sequencer.rows_taken),
            sequencer.final_ready.eq(self.final_ready),
            self.final_taken.eq(sequencer.final_taken),
            self.done.eq(sequencer.done),
            self.overflow.eq(sequencer.overflow),
        ]
        for name in ("issued", "effectual_products", "saturated"):
            total = reduced(m, [getattr(pe, name) for pe in elements], add, name=name)
            m.d.comb += getattr(self, name).eq(total)
        # Parameters of a context stay until all its results are written, and counted.
        late = 1 + reduction_latency(pes)
        for context, kept in enumerate(self.kept):
            counts = [pe.kept[context] for pe in elements]
            entry = sequencer.parameters[context].entry
            m.d.comb += [
                kept.count.eq(reduced(m, counts, add, name=f"kept{context}")),
                kept.entry.eq(delayed(m, entry, late, name=f"entry{context}")),
            ]
        self._add_accounts(m, sequencer, scalars)
        return m

    def _add_loaders(
        self, m: Module, sequencer: ProductSequencer, written: Signal
    ) -> list[TileLoader]:
        config, array, datapath = self.config, self.config.array, self.config.datapath
        pes = array.pes_per_cluster
        loaders = [
            TileLoader(
                fmt=config.fmt,
                tile=datapath.tile,
                banks=pes,
                ports=config.tile_ports,
                lanes=config.lanes,
                streams=config.streams,
                tile_rows=datapath.tile_rows,
                weight_depth=config.weight_vectors,
                activation_depth=config.cluster_vectors,
                weight_latency=self.weight_latency,
            )
            for _ in range(pes * config.tile_ports)
        ]
        for number, loader in enumerate(loaders):
            m.submodules[f"loader{number}"] = loader
            connect(m, loader.weights, flipped(self.weights[number]))
            connect(m, loader.activations, flipped(self.tiles[number]))
            m.d.comb += [
                loader.index.eq(number % pes),
                loader.port.eq(number // pes),
                loader.release.eq(sequencer.release),
            ]
        m.d.sync += written.eq(reduce(and_, (loader.written for loader in loaders)))
        half = len(written) // HALVES
        m.d.comb += sequencer.loaded.eq(Cat(written[:half].all(), written[half:].all()))
        for pe in range(pes):
            self._settle(m, pe, loaders[pe::pes])
        readers = [sequencer, *loaders]
        m.d.comb += [
            # All loaders walk the same tiles.
            self.tile_load.eq(loaders[0].tile_load),
            self.tile_reuse.eq(loaders[0].tile_reuse),
            self.out_of_range.eq(Cat(reader.out_of_range for reader in readers).any()),
        ]
        for reader in readers:
            with m.If(reader.out_of_range):
                m.d.comb += self.out_of_range_command.eq(reader.out_of_range_command)
        return loaders

    def _settle(self, m: Module, pe: int, loaders: list[TileLoader]) -> None:
        """Tell each loader of a PE whether the others have loaded what it has begun."""
        begun, loaded = (
            [Signal(3, name=f"pe{pe}_{what}{port}") for port in range(len(loaders))]
            for what in ("begun", "loaded")
        )
        for port, loader in enumerate(loaders):
            m.d.sync += [
                begun[port].eq(begun[port] + loader.began),
                loaded[port].eq(loaded[port] + loader.loaded),
            ]
            # Others are at most two tiles ahead, where they have no column, and two behind.
            ahead = [
                (others - begun[port])[:3] for other, others in enumerate(loaded) if other != port
            ]
            m.d.comb += loader.settled.eq(~Cat(count[2] for count in ahead).any())

    def _add_streams(
        self,
        m: Module,
        sequencer: ProductSequencer,
        elements: list[ProcessingElement],
        written: Signal,
        rows: dict[str, Any],
    ) -> "_Streams":
        """Jobs to the streamers, their scalars to all PEs, finished rows to the drains."""
        streams, window = self.config.streams, self.config.datapath.weight_window
        tile_bits = exact_log2(self.config.datapath.tile)
        job: Any = sequencer.jobs.payload
        seen = _Streams(streams)
        accepted, skipped = Signal(streams), Signal(streams)
        for number in range(streams):
            streamer = RowStreamer(**rows, scalars_per_beat=scalars_per_beat(window))
            scalars = Queue(shape=streamer.scalars.payload.shape(), depth=2)
            m.submodules[f"streamer{number}"] = streamer
            m.submodules[f"scalars{number}"] = scalars
            connect(m, streamer.masks, flipped(self.masks[number]))
            connect(m, streamer.values, flipped(self.values[number]))
            connect(m, streamer.scalars, scalars.i)

            # A job and its finished row are given to streamer and drains in the same cycle.
            finished_ready = Signal(name=f"finished{number}_ready")
            given = Signal(name=f"given{number}")
            m.d.comb += [
                finished_ready.eq(Cat(pe.rows[number].ready for pe in elements).all()),
                sequencer.room[number].eq(streamer.jobs.ready & finished_ready),
                given.eq(sequencer.jobs.valid & job.stream[number] & sequencer.room[number]),
                accepted[number].eq(given),
                streamer.jobs.valid.eq(given),
                streamer.jobs.payload.eq(job.job),
                skipped[number].eq(streamer.skipped),
            ]
            ready, scalar = Signal(name=f"ready{number}"), scalars.o.payload
            here = (scalar.context == sequencer.context) | sequencer.alike
            there = Signal(name=f"there{number}")  # the scalar's rows of the tiles
            m.d.comb += [
                there.eq(written.bit_select(scalar.row[tile_bits:], 1)),
                ready.eq(Cat(pe.scalars[number].ready for pe in elements).all() & here & there),
                scalars.o.ready.eq(ready),
                seen.valid[number].eq(scalars.o.valid & here),
                seen.early[number].eq(scalars.o.valid & ~here),
                seen.loading[number].eq(scalars.o.valid & here & ~there),
                seen.taken[number].eq(scalars.o.valid & ready),
                seen.effectual[number].eq(Value.cast(scalar.effectual).any()),
                seen.streaming[number].eq(streamer.busy | (scalars.level != 0)),
                sequencer.taken_last[number].eq(seen.taken[number] & scalar.last),
                sequencer.taken_half[number].eq(scalar.row[-1]),
                sequencer.taken_context[number].eq(scalar.context),
            ]
            for pe in elements:
                m.d.comb += [
                    # All PEs take a scalar in the same cycle, and a row as well.
                    pe.scalars[number].valid.eq(seen.taken[number]),
                    pe.scalars[number].payload.eq(scalar),
                    pe.rows[number].valid.eq(given & job.job.final),
                    pe.rows[number].payload.eq(job.finished),
                ]
        m.d.comb += sequencer.jobs.ready.eq(accepted.any())
        m.d.sync += self.skipped.eq(count_ones(skipped))
        return seen

    def _add_accounts(self, m: Module, sequencer: ProductSequencer, scalars: "_Streams") -> None:
        config, datapath = self.config, self.config.datapath
        m.submodules.accounts = accounts = LaneAccounts(
            lanes=config.lanes,
            streams=config.streams,
            pes=config.array.pes_per_cluster,
            lanes_hold_scalars=(
                datapath.weight_window > 0 or config.lane_multipliers < datapath.tile
            ),
        )
        enabled = [Signal.like(accounts.enabled, name=f"enabled{c}") for c in range(CONTEXTS)]
        for context, count in enumerate(enabled):
            m.d.sync += count.eq(count_ones(Cat(sequencer.lane_enable[context])))
        m.d.comb += [
            accounts.stream_count.eq(Mux(sequencer.context, *reversed(sequencer.stream_count))),
            accounts.enabled.eq(Mux(sequencer.context, *reversed(enabled))),
            accounts.issued.eq(self.issued),
            accounts.dealt.eq(sequencer.dealt),
            accounts.working.eq(sequencer.working),
            accounts.waits_for_half.eq(sequencer.waits_for_half),
            accounts.waits_for_results.eq(sequencer.waits_for_results),
            accounts.waits_for_semaphore.eq(self.waits_for_semaphore | sequencer.waits_for_rows),
            *(getattr(accounts, name).eq(value) for name, value in vars(scalars).items()),
            *(
                getattr(self.lanes, name).eq(getattr(accounts, name))
                for name in ("busy", *LANE_CAUSES)
            ),
        ]

    def _add_orders(
        self, m: Module, loaders: list[TileLoader], sequencer: ProductSequencer
    ) -> None:
        """Give each order to loaders and sequencer, each of which takes it in its own time."""
        order: Any = self.orders.payload
        m.submodules.runs = runs = Queue(shape=ProductOrder(self.config.fmt), depth=4)
        connect(m, runs.o, sequencer.orders)
        queues = [runs]
        m.d.comb += runs.i.payload.eq(order)
        for number, loader in enumerate(loaders):
            loads = Queue(shape=ProductCommand(), depth=2)
            m.submodules[f"loads{number}"] = loads
            connect(m, loads.o, loader.command)
            m.d.comb += loads.i.payload.eq(order.command)
            queues.append(loads)
        m.d.comb += self.orders.ready.eq(Cat(queue.i.ready for queue in queues).all())
        for queue in queues:
            m.d.comb += queue.i.valid.eq(self.orders.valid & self.orders.ready)


class _Streams:
    """What each stream does, a bit each; as of ``LaneAccounts``."""

    def __init__(self, streams: int):
        self.valid = Signal(streams, name="streams_valid")
        self.early = Signal(streams, name="streams_early")
        self.loading = Signal(streams, name="streams_loading")
        self.taken = Signal(streams, name="streams_taken")
        self.effectual = Signal(streams, name="streams_effectual")
        self.streaming = Signal(streams, name="streams_streaming")
