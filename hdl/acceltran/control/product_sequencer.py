"""Sequencer of matrix products: tiles become row jobs."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.commands import COUNT
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import HALVES, FinishedRow
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.control.loop_nest import LoopNest
from acceltran.control.product_command import ProductCommand
from acceltran.library import SharedComponent
from acceltran.sparsity.row_scanner import RowJob

__all__ = ["ProductOrder", "ProductSequencer"]


class ProductOrder(data.StructLayout):
    """Layout of a product command with what it refers to.

    Members
    -------
    command : ``ProductCommand()``
    threshold : ``unsigned(fmt.width)``
        Value of the entry of the threshold table that the command names.
    """

    def __init__(self, fmt: FixedPoint):
        super().__init__({"command": ProductCommand(), "threshold": unsigned(fmt.width)})


class ProductSequencer(SharedComponent):
    """Give the row streamer and the drains of a cluster their work, tile by tile.

    Each row of a tile becomes one row job; of a final tile, a finished row as well. A tile that
    reloads goes to the other half of the tile RAM, and waits until it is loaded. A half is released
    when its last row of the tile has been read and its last bias is in use. Lanes and settings
    change only when nothing is under way. A command is done when all its results are written.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element.
    tile, tile_rows, partial_sums
        As in ``RowStreamer``.
    lanes : int
        Lanes per PE; at least 1.
    pes : int
        PEs of the cluster; a power of two.

    Members
    -------
    orders : ``In(stream.Signature(ProductOrder(fmt)))``
        Products, in order. Legal ones: see ``LoopNest``.
    done : ``Out(1)``
        Strobe: the oldest product that is not done has written all its results.
    loaded : ``In(1)``
        Strobe: one more half of the tile RAM is full.
    release : ``Out(1)``
        Strobe: the half that has been full for longest is free again.
    jobs : ``Out(stream.Signature(RowJob(tile_rows, partial_sums)))``
    rows : ``Out(stream.Signature(FinishedRow()))``
    lane_enable : ``Out(lanes).array(pes)``
        Lanes whose column is one that the command writes.
    parameters : ``Out(EpilogueParameters(fmt))``
        Of the command.
    streaming : ``In(1)``
        Jobs were taken whose scalars have not all been taken by the lanes.
    scalar_valid, scalar_ready, scalar_half : ``In(1)``
        Handshake between streamer and lanes, and the half of the tile RAM that is wanted.
    reading, draining, idle : ``In(1)``, ``In(2)``, ``In(1)``
        Of all PEs; see ``ProcessingElement``.
    stall_tile : ``Out(1)``
        The streamer has no work because a tile is not loaded.
    stall_operand : ``Out(1)``
        The lanes wait for scalars of a running tile.
    stall_sums : ``Out(1)``
        Scalars wait for the lanes, which wait for the epilogue.
    overflow : ``Out(1)``
        Strobe: the oldest product needs more partial sums at a time than a lane holds. It writes
        nothing, and nothing runs any more until reset.
    """

    orders: stream.Interface
    done: Signal
    loaded: Signal
    release: Signal
    jobs: stream.Interface
    rows: stream.Interface
    lane_enable: list[Signal]
    parameters: Any
    streaming: Signal
    scalar_valid: Signal
    scalar_ready: Signal
    scalar_half: Signal
    reading: Signal
    draining: Signal
    idle: Signal
    stall_tile: Signal
    stall_operand: Signal
    stall_sums: Signal
    overflow: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        tile_rows: int,
        partial_sums: int,
        lanes: int,
        pes: int,
    ):
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if pes < 1 or pes & (pes - 1):
            raise ValueError(f"Number of PEs must be a power of two, not {pes!r}")
        self.fmt = fmt
        self.tile = tile
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.lanes = lanes
        self.pes = pes
        super().__init__({
            "orders": In(stream.Signature(ProductOrder(fmt))),
            "done": Out(1),
            "loaded": In(1),
            "release": Out(1),
            "jobs": Out(stream.Signature(RowJob(tile_rows, partial_sums))),
            "rows": Out(stream.Signature(FinishedRow())),
            "lane_enable": Out(lanes).array(pes),
            "parameters": Out(EpilogueParameters(fmt)),
            "streaming": In(1),
            "scalar_valid": In(1),
            "scalar_ready": In(1),
            "scalar_half": In(1),
            "reading": In(1),
            "draining": In(HALVES),
            "idle": In(1),
            "stall_tile": Out(1),
            "stall_operand": Out(1),
            "stall_sums": Out(1),
            "overflow": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.loops = loops = LoopNest(banks=self.pes, lanes=self.lanes, tile=self.tile)
        order: Any = self.orders.payload
        offer: Any = loops.tiles.payload
        threshold = Signal(self.fmt.width)
        m.d.comb += [
            loops.command.valid.eq(self.orders.valid),
            loops.command.payload.eq(order.command),
            self.orders.ready.eq(loops.command.ready),
        ]
        # The loops take a command when the last tile of the one before it is at work at the latest:
        # settings leave this register when nothing of that one is under way.
        with m.If(self.orders.valid & self.orders.ready):
            m.d.sync += threshold.eq(order.threshold)

        # The tile at work.
        a_address, c_address = Signal.like(offer.a_address), Signal.like(offer.c_address)
        a_stride, c_stride = Signal(COUNT), Signal(COUNT)
        rows_left = Signal(COUNT)
        count = Signal.like(self.jobs.payload.count)
        slot = Signal.like(self.jobs.payload.slot)
        slots = Signal(COUNT + 1)  # partial sums that are in use with this tile
        crowded = Signal()
        first, final, reload, last_tile = Signal(), Signal(), Signal(), Signal()
        settings = Signal(EpilogueParameters(self.fmt))
        # Columns of C in the pass, as positions: lane l of PE c is at l * pes + c.
        bank_bits = ceil_log2(self.pes)
        columns = Signal(COUNT)
        low, high = Signal(signed(COUNT + bank_bits + 1)), Signal(signed(COUNT + bank_bits + 2))
        enable = [Signal(self.lanes, name=f"enable{pe}") for pe in range(self.pes)]

        fresh = Signal(init=1)  # no tile of this command has been at work
        half = Signal(init=1)
        full = Signal(range(HALVES + 1))  # halves that are loaded and not yet in use
        in_use = Signal()  # `half` holds a tile of this command
        retiring = Signal()  # the other half does, and is not released yet
        quiet, step, agreed, switch, finish = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            quiet.eq(~self.streaming & ~self.jobs.valid & ~self.rows.valid & self.idle),
            step.eq((~self.jobs.valid | self.jobs.ready) & (~self.rows.valid | self.rows.ready)),
            agreed.eq(~fresh & (Cat(enable) == Cat(self.lane_enable))),
        ]
        with m.If(self.jobs.ready):
            m.d.sync += self.jobs.valid.eq(0)
        with m.If(self.rows.ready):
            m.d.sync += self.rows.valid.eq(0)

        with m.FSM() as fsm:
            with m.State("FETCH"):
                m.d.comb += loops.tiles.ready.eq(1)
                m.d.sync += [
                    a_address.eq(offer.a_address),
                    c_address.eq(offer.c_address),
                    a_stride.eq(offer.command.a_row_stride),
                    c_stride.eq(offer.command.c_row_stride),
                    rows_left.eq(offer.row_count),
                    count.eq(offer.inner_count),
                    slot.eq(offer.slot_base),
                    slots.eq(offer.slot_base),
                    first.eq(offer.first),
                    final.eq(offer.final),
                    reload.eq(offer.reload),
                    last_tile.eq(offer.last_tile),
                    low.eq(offer.command.c_first - (offer.word << bank_bits)),
                    columns.eq(offer.command.columns),
                    settings.threshold.eq(threshold),
                    settings.entry.eq(offer.command.threshold),
                ]
                for name, _ in EpilogueParameters(self.fmt):
                    if name not in ("threshold", "entry"):
                        m.d.sync += settings[name].eq(offer.command[name])
                with m.If(loops.tiles.valid):
                    m.next = "COLUMNS"
            with m.State("COLUMNS"):
                m.d.sync += [high.eq(low + columns), slots.eq(slots + rows_left)]
                m.next = "ENABLE"
            with m.State("ENABLE"):
                # Rows of a single chunk need no slot of their own.
                m.d.sync += crowded.eq((slots > self.partial_sums) & ~(first & final))
                for pe, bits in enumerate(enable):
                    for lane in range(self.lanes):
                        place = lane * self.pes + pe
                        m.d.sync += bits[lane].eq((low <= place) & (place < high))
                m.next = "AGREE"
            with m.State("AGREE"):
                with m.If(crowded):
                    m.d.comb += self.overflow.eq(1)
                    m.next = "REFUSED"
                with m.Elif(agreed):
                    m.next = "LOAD"
                with m.Elif(quiet):
                    m.d.sync += [
                        self.parameters.eq(settings),
                        Cat(self.lane_enable).eq(Cat(enable)),
                        fresh.eq(0),
                    ]
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += switch.eq(reload & (full != 0))
                with m.If(switch):
                    m.d.sync += half.eq(~half)
                with m.If(switch | ~reload):
                    m.next = "ROWS"
            with m.State("ROWS"):
                with m.If(step):
                    m.d.sync += [
                        self.jobs.valid.eq(1),
                        self.jobs.payload.address.eq(a_address),
                        self.jobs.payload.count.eq(count),
                        self.jobs.payload.tile_row.eq(Mux(half, self.tile_rows // HALVES, 0)),
                        self.jobs.payload.slot.eq(slot),
                        self.jobs.payload.first.eq(first),
                        self.jobs.payload.final.eq(final),
                        self.rows.valid.eq(final),
                        self.rows.payload.address.eq(c_address),
                        self.rows.payload.half.eq(half),
                        a_address.eq(a_address + a_stride),
                        c_address.eq(c_address + c_stride),
                        slot.eq(slot + 1),
                        rows_left.eq(rows_left - 1),
                    ]
                    with m.If(rows_left == 1):
                        m.next = "FETCH"
                        with m.If(last_tile):
                            m.next = "FINISH"
            with m.State("REFUSED"):
                pass
            with m.State("FINISH"):
                m.d.comb += finish.eq(quiet & ~retiring)
                with m.If(finish):
                    m.d.sync += fresh.eq(1)
                    m.next = "FETCH"

        # Scalars come in order: one that wants the new half shows that all before it were taken.
        passed, retired = Signal(), Signal()
        other_draining = Mux(half, self.draining[0], self.draining[1])
        other_row = self.rows.valid & (self.rows.payload.half != half)
        m.d.comb += [
            retired.eq(
                retiring
                & (passed | (~self.streaming & ~self.jobs.valid))
                & ~self.reading
                & ~other_draining
                & ~other_row
            ),
            self.release.eq(retired | finish),
            self.done.eq(finish),
        ]
        with m.If(self.scalar_valid & self.scalar_ready & (self.scalar_half == half)):
            m.d.sync += passed.eq(1)
        with m.If(retired):
            m.d.sync += retiring.eq(0)
        with m.If(switch):
            m.d.sync += [retiring.eq(in_use), in_use.eq(1), passed.eq(0)]
        with m.If(finish):
            m.d.sync += in_use.eq(0)
        m.d.sync += full.eq(full + self.loaded - switch)

        at_rows = fsm.ongoing("ROWS")
        running = self.streaming | self.jobs.valid | at_rows
        m.d.sync += [
            self.stall_tile.eq(fsm.ongoing("LOAD") & ~switch & reload & ~self.streaming),
            self.stall_operand.eq(running & ~self.scalar_valid & self.scalar_ready),
            self.stall_sums.eq(self.scalar_valid & ~self.scalar_ready),
        ]
        return m
