"""Cluster: PEs that share rows, with all that feeds them."""

from operator import add
from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.config import AcceleratorConfig
from acceltran.compute.lane_kinds import scalars_per_beat
from acceltran.control.product_command import ProductCommand
from acceltran.control.product_sequencer import ProductOrder, ProductSequencer
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, MaskReadPort, ReadPort
from acceltran.memory.queue import Queue
from acceltran.memory.tile_loader import TileLoader
from acceltran.memory.tile_walker import COMMANDS
from acceltran.numeric.reduction import reduced
from acceltran.pe import ProcessingElement
from acceltran.sparsity.row_streamer import RowStreamer

__all__ = ["Cluster"]


class Cluster(SharedComponent):
    """Run products: ``C[b, r, c_first + j] = f(sum_k A[b, r, k] B[b, k, j] + bias[j])``.

    Rows of A are streamed, one effectual element per cycle, to all lanes of all PEs; column vector
    d of a row of C is computed by PE ``d % pes_per_cluster`` and written to that bank. Tiles of B
    are loaded ahead, those of the next product while the one before it runs.

    Source: S. Tuli and N. K. Jha, "AccelTran", IEEE TCAD 2023.
    Golden model: ``acceltran_sim.golden.product.product``, ``acceltran_sim.golden.epilogue``.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.

    Members
    -------
    orders : ``In(stream.Signature(ProductOrder(fmt)))``
        Products, in order. Its operands are complete when an order is given.
    done : ``Out(1)``
        Strobe: the oldest product that is not done has written all its results.
    weights : ``In(ReadPort(fmt, tile))``
        Of the weight buffer: tiles and biases.
    tiles : ``In(ReadPort(fmt, tile))``
        Of the activation buffer: tiles.
    masks, values : ``In(MaskReadPort(tile))``, ``In(ReadPort(fmt, tile))``
        Of the activation buffer: rows.
    writes : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(pes_per_cluster)``
        Of the activation buffer: results. PE n writes to bank n only.
    issued : ``Out``
        Lanes that issued products.
    effectual_products : ``Out``
        How many of these products have two non-zero factors.
    saturated : ``Out``
        Values that were clipped.
    skipped : ``Out(1)``
        Strobe: a vector of a row was found empty and is not read.
    tile_load, tile_reuse : ``Out(1)``
        Strobes: a tile was loaded, or found resident.
    stall_tile, stall_operand, stall_sums, overflow : ``Out(1)``
        See ``ProductSequencer``.
    out_of_range, out_of_range_command : ``Out(1)``, ``Out(range(COMMANDS))``
        See ``TileLoader``.
    """

    orders: stream.Interface
    done: Signal
    weights: Any
    tiles: Any
    masks: Any
    values: Any
    writes: list[stream.Interface]
    issued: Signal
    effectual_products: Signal
    saturated: Signal
    skipped: Signal
    tile_load: Signal
    tile_reuse: Signal
    stall_tile: Signal
    stall_operand: Signal
    stall_sums: Signal
    overflow: Signal
    out_of_range: Signal
    out_of_range_command: Signal

    def __init__(self, *, config: AcceleratorConfig):
        if not isinstance(config, AcceleratorConfig):
            raise TypeError(f"Configuration must be an AcceleratorConfig, not {config!r}")
        self.config = config
        fmt, tile = config.fmt, config.datapath.tile
        pes, lanes = config.array.pes_per_cluster, config.array.lanes
        super().__init__({
            "orders": In(stream.Signature(ProductOrder(fmt))),
            "done": Out(1),
            "weights": In(ReadPort(fmt, tile)),
            "tiles": In(ReadPort(fmt, tile)),
            "masks": In(MaskReadPort(tile)),
            "values": In(ReadPort(fmt, tile)),
            "writes": Out(stream.Signature(BufferWrite(fmt, tile))).array(pes),
            "issued": Out(range(pes * lanes + 1)),
            "effectual_products": Out(range(pes * lanes * tile + 1)),
            "saturated": Out(range(2 * pes * tile + 1)),
            "skipped": Out(1),
            "tile_load": Out(1),
            "tile_reuse": Out(1),
            "stall_tile": Out(1),
            "stall_operand": Out(1),
            "stall_sums": Out(1),
            "overflow": Out(1),
            "out_of_range": Out(1),
            "out_of_range_command": Out(range(COMMANDS)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        fmt, datapath, array = config.fmt, config.datapath, config.array
        rows = {
            "fmt": fmt,
            "tile_rows": datapath.tile_rows,
            "partial_sums": datapath.partial_sums,
        }
        m.submodules.loader = loader = TileLoader(
            fmt=fmt,
            tile=datapath.tile,
            banks=array.pes_per_cluster,
            lanes=array.lanes,
            tile_rows=datapath.tile_rows,
            weight_depth=config.weight_vectors,
            activation_depth=config.activation_vectors,
        )
        m.submodules.sequencer = sequencer = ProductSequencer(
            **rows, tile=datapath.tile, lanes=array.lanes, pes=array.pes_per_cluster
        )
        m.submodules.streamer = streamer = RowStreamer(
            **rows,
            tile=datapath.tile,
            scalars_per_beat=scalars_per_beat(datapath.weight_window),
        )
        m.submodules.scalars = scalars = Queue(shape=streamer.scalars.payload.shape(), depth=2)
        pes = [
            ProcessingElement(
                **rows,
                tile=datapath.tile,
                inner=config.limits.inner,
                lane=datapath.lane,
                weight_window=datapath.weight_window,
                lanes=array.lanes,
                pes=array.pes_per_cluster,
            )
            for _ in range(array.pes_per_cluster)
        ]
        self._add_orders(m, loader, sequencer)

        connect(m, loader.weights, flipped(self.weights))
        connect(m, loader.activations, flipped(self.tiles))
        connect(m, streamer.masks, flipped(self.masks))
        connect(m, streamer.values, flipped(self.values))
        connect(m, sequencer.jobs, streamer.jobs)
        connect(m, streamer.scalars, scalars.i)
        ready, rows_ready = Signal(), Signal()
        m.d.comb += [
            ready.eq(Cat(pe.scalars.ready for pe in pes).all()),
            rows_ready.eq(Cat(pe.rows.ready for pe in pes).all()),
            scalars.o.ready.eq(ready),
            sequencer.rows.ready.eq(rows_ready),
            sequencer.loaded.eq(loader.loaded),
            loader.release.eq(sequencer.release),
            sequencer.streaming.eq(streamer.busy | (scalars.level != 0)),
            sequencer.scalar_valid.eq(scalars.o.valid),
            sequencer.scalar_ready.eq(ready),
            sequencer.scalar_half.eq(scalars.o.payload.row[-1]),
            sequencer.reading.eq(Cat(pe.reading for pe in pes).any()),
            sequencer.idle.eq(Cat(pe.idle for pe in pes).all()),
        ]
        for half in range(len(sequencer.draining)):
            m.d.comb += sequencer.draining[half].eq(Cat(pe.draining[half] for pe in pes).any())
        for number, pe in enumerate(pes):
            m.submodules[f"pe{number}"] = pe
            connect(m, pe.o, flipped(self.writes[number]))
            m.d.comb += [
                pe.index.eq(number),
                *_broadcast(loader.tile_write, pe.tile_write),
                *_broadcast(loader.bias_write, pe.bias_write),
                pe.lane_enable.eq(sequencer.lane_enable[number]),
                pe.parameters.eq(sequencer.parameters),
                # All PEs take a scalar in the same cycle, and a row as well.
                pe.scalars.valid.eq(scalars.o.valid & ready),
                pe.scalars.payload.eq(scalars.o.payload),
                pe.rows.valid.eq(sequencer.rows.valid & rows_ready),
                pe.rows.payload.eq(sequencer.rows.payload),
            ]

        m.d.comb += [
            self.done.eq(sequencer.done),
            self.skipped.eq(streamer.skipped),
            self.tile_load.eq(loader.tile_load),
            self.tile_reuse.eq(loader.tile_reuse),
            self.stall_tile.eq(sequencer.stall_tile),
            self.stall_operand.eq(sequencer.stall_operand),
            self.stall_sums.eq(sequencer.stall_sums),
            self.overflow.eq(sequencer.overflow),
            self.out_of_range.eq(loader.out_of_range),
            self.out_of_range_command.eq(loader.out_of_range_command),
        ]
        for name in ("issued", "effectual_products", "saturated"):
            total = reduced(m, [getattr(pe, name) for pe in pes], add, name=name)
            m.d.comb += getattr(self, name).eq(total)
        return m

    def _add_orders(self, m: Module, loader: TileLoader, sequencer: ProductSequencer) -> None:
        """Give each order to loader and sequencer, each of which takes it in its own time."""
        order: Any = self.orders.payload
        m.submodules.loads = loads = Queue(shape=ProductCommand(), depth=2)
        m.submodules.runs = runs = Queue(shape=ProductOrder(self.config.fmt), depth=2)
        connect(m, loads.o, loader.command)
        connect(m, runs.o, sequencer.orders)
        m.d.comb += [
            self.orders.ready.eq(loads.i.ready & runs.i.ready),
            loads.i.valid.eq(self.orders.valid & runs.i.ready),
            loads.i.payload.eq(order.command),
            runs.i.valid.eq(self.orders.valid & loads.i.ready),
            runs.i.payload.eq(order),
        ]


def _broadcast(source: Any, target: Any) -> list[Any]:
    return [getattr(target, name).eq(getattr(source, name)) for name in source.signature.members]
