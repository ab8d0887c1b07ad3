"""Row scanner: which vectors of rows are worth reading."""

from typing import Any

from amaranth import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, MaskReadPort
from acceltran.memory.queue import Queue

__all__ = ["PlacedVector", "RowJob", "RowScanner", "check_row_parameters"]

COUNT_WIDTH = 8
"""Bits of the vectors of a row job: as in the ``inner_tile`` field of a product."""


class RowJob(data.StructLayout):
    """Layout of the order to stream the vectors of one row that belong to one tile.

    Members
    -------
    address : ``unsigned(ADDRESS_WIDTH)``
        Flat address of the first vector; the others follow.
    count : ``unsigned(8)``
        Vectors; at least 1.
    tile_row : ``range(tile_rows)``
        Row of the tile RAM that belongs to the first element; a multiple of the vector's size.
    slot : ``range(partial_sums)``
        Where the row's unfinished sums are kept.
    first : ``unsigned(1)``
        The row's sums begin with this job.
    final : ``unsigned(1)``
        The row's sums are complete after this job.
    context : ``unsigned(1)``
        Passed on.
    """

    def __init__(self, tile_rows: int, partial_sums: int):
        super().__init__({
            "address": unsigned(ADDRESS_WIDTH),
            "count": unsigned(COUNT_WIDTH),
            "tile_row": ceil_log2(tile_rows),
            "slot": ceil_log2(partial_sums),
            "first": 1,
            "final": 1,
            "context": 1,
        })


class PlacedVector(data.StructLayout):
    """Layout of one vector to read, with its place in the tile and in its row.

    Members
    -------
    address : ``unsigned(ADDRESS_WIDTH)``
        Flat address.
    block : ``range(tile_rows // tile)``
        Row of the tile RAM that belongs to element 0, divided by ``tile``.
    slot : ``range(partial_sums)``
        As in the job.
    effectual : ``unsigned(1)``
        The vector has an effectual element; 0 stands for a whole row without any.
    first, last : ``unsigned(1)``
        First and last vector of the row of which this holds.
    resume, final, context : ``unsigned(1)``
        ``not first``, ``final`` and ``context`` of the job.
    """

    def __init__(self, tile: int, tile_rows: int, partial_sums: int):
        super().__init__({
            "address": unsigned(ADDRESS_WIDTH),
            "block": ceil_log2(tile_rows // tile),
            "slot": ceil_log2(partial_sums),
            "effectual": 1,
            "first": 1,
            "last": 1,
            "resume": 1,
            "final": 1,
            "context": 1,
        })


class RowScanner(SharedComponent):
    """Scan the keep bits of each row job, and pass on the vectors that are not all zero.

    One vector is scanned per cycle, across the ends of rows. A job without effectual element gives
    one vector with ``effectual = 0``.
    Whether a vector is the last effectual one of its row is known only when the next such vector,
    or the end of the row, has been scanned: one vector waits for that.

    Parameters
    ----------
    tile : int
        Elements of a vector; a power of two, at least 2.
    tile_rows : int
        Rows of a lane's tile RAM; a power of two, at least ``2 * tile``.
    partial_sums : int
        Rows whose unfinished sums a lane holds; at least 2.
    depth : int
        Vectors that may be scanned ahead; at least 2. Full rate takes ``FULL_RATE_DEPTH`` more
        than the latency of the port.

    Members
    -------
    jobs : ``In(stream.Signature(RowJob(tile_rows, partial_sums)))``
    masks : ``In(MaskReadPort(tile))``
    vectors : ``Out(stream.Signature(PlacedVector(tile, tile_rows, partial_sums)))``
    skipped : ``Out(1)``
        Strobe: a vector was found empty.
    busy : ``Out(1)``
        A job was taken that is not scanned and passed on completely.
    """

    FULL_RATE_DEPTH = 4

    jobs: stream.Interface
    masks: Any
    vectors: stream.Interface
    skipped: Signal
    busy: Signal

    def __init__(self, *, tile: int, tile_rows: int, partial_sums: int, depth: int):
        check_row_parameters(tile, tile_rows, partial_sums, depth)
        self.tile = tile
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.depth = depth
        self._job = RowJob(tile_rows, partial_sums)
        self._vector = PlacedVector(tile, tile_rows, partial_sums)
        super().__init__({
            "jobs": In(stream.Signature(self._job)),
            "masks": In(MaskReadPort(tile)),
            "vectors": Out(stream.Signature(self._vector)),
            "skipped": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        # Ask for keep bits, one vector per cycle. The queue of what was asked for has as many
        # places as that of the answers, so that no answer finds its queue full.
        m.submodules.jobs = jobs = Queue(shape=self._job, depth=2)
        m.submodules.asked = asked = Queue(
            shape=data.StructLayout({"vector": self._vector, "end": 1}), depth=self.depth
        )
        m.submodules.answers = answers = Queue(shape=unsigned(self.tile), depth=self.depth)
        wiring.connect(m, wiring.flipped(self.jobs), jobs.i)
        active = Signal()
        job = Signal(self._job)
        request = self.masks.request
        ask, take_job = Signal(), Signal()
        m.d.comb += [
            ask.eq(active & asked.i.ready & (~request.valid | request.ready)),
            asked.i.valid.eq(ask),
            asked.i.payload.vector.address.eq(job.address),
            asked.i.payload.vector.block.eq(job.tile_row[ceil_log2(self.tile) :]),
            asked.i.payload.vector.slot.eq(job.slot),
            asked.i.payload.vector.resume.eq(~job.first),
            asked.i.payload.vector.final.eq(job.final),
            asked.i.payload.vector.context.eq(job.context),
            asked.i.payload.end.eq(job.count == 1),
            answers.i.valid.eq(self.masks.response.valid),
            answers.i.payload.eq(self.masks.response.keep),
            take_job.eq(~active | (ask & asked.i.payload.end)),
            jobs.o.ready.eq(take_job),
        ]
        with m.If(~request.valid | request.ready):
            m.d.sync += request.valid.eq(ask)
        with m.If(ask):
            m.d.sync += request.payload.eq(job.address)
        with m.If(take_job):
            m.d.sync += [active.eq(jobs.o.valid), job.eq(jobs.o.payload)]
        with m.Elif(ask):
            m.d.sync += [
                job.address.eq(job.address + 1),
                job.count.eq(job.count - 1),
                job.tile_row.eq(job.tile_row + self.tile),
            ]

        # One vector is held until it is known whether it is the last of its row.
        held = Signal(self._vector)
        held_valid, settled = Signal(), Signal()
        scanned = Signal()
        take, give = Signal(), Signal()
        effectual, end = Signal(), Signal()
        begun = Signal()
        place = asked.o.payload.vector
        m.d.comb += [
            scanned.eq(answers.o.valid & asked.o.valid),
            effectual.eq(answers.o.payload.any()),
            end.eq(asked.o.payload.end),
            # While a vector is held that is not settled, the row that is being scanned is its row.
            begun.eq(held_valid & ~settled),
            self.vectors.valid.eq(held_valid & (settled | (scanned & (effectual | end)))),
            self.vectors.payload.eq(held),
            self.vectors.payload.last.eq(settled | ~effectual),
            give.eq(self.vectors.valid & self.vectors.ready),
            take.eq(scanned & (~self.vectors.valid | self.vectors.ready)),
            answers.o.ready.eq(take),
            asked.o.ready.eq(take),
        ]
        with m.If(give):
            m.d.sync += held_valid.eq(0)
        with m.If(take & (effectual | (end & ~begun))):
            m.d.sync += [
                held.eq(place),
                held.effectual.eq(effectual),
                held.first.eq(~begun),
                held_valid.eq(1),
                settled.eq(end),
            ]
        m.d.sync += self.skipped.eq(take & ~effectual)
        m.d.comb += self.busy.eq((jobs.level != 0) | active | (asked.level != 0) | held_valid)
        return m


def check_row_parameters(tile: int, tile_rows: int, partial_sums: int, depth: int) -> None:
    """Raise ValueError unless a scanner and a streamer can be built with these."""
    if tile < 2 or tile & (tile - 1):
        raise ValueError(f"Tile must be a power of two and at least 2, not {tile!r}")
    if tile_rows < 2 * tile or tile_rows & (tile_rows - 1):
        raise ValueError(
            f"Tile rows must be a power of two and at least {2 * tile}, not {tile_rows!r}"
        )
    if partial_sums < 2:
        raise ValueError(f"Number of partial sums must be at least 2, not {partial_sums!r}")
    if depth < 2:
        raise ValueError(f"Depth must be at least 2, not {depth!r}")
