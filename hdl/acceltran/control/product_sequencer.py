"""Sequencer of matrix products: tiles become row jobs."""

from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.commands import COUNT
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import TICKETS
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.compute.lane import HALVES
from acceltran.control.loop_nest import LoopNest
from acceltran.control.product_order import ProductOrder
from acceltran.control.stream_job import StreamJob
from acceltran.control.tickets import Tickets
from acceltran.library import SharedComponent
from acceltran.memory.tile_ports import BIAS_TILES
from acceltran.memory.tile_walker import COMMANDS
from acceltran.numeric.count_ones import count_ones
from acceltran.pe import CONTEXTS

__all__ = ["ProductSequencer"]


JOBS_WIDTH = 12
"""Bits of a count of jobs: more than all streams together hold."""


class ProductSequencer(SharedComponent):
    """Deal the rows of products to the streams of a cluster, tile by tile.

    Each row of a tile becomes a job of one stream. Rows of a single chunk of the inner dimension go
    to the stream with room that has least to do; others to the streams in turn, where their sums
    are. A tile that reloads goes to the other half of the tile RAM as soon as that is free: its
    rows may be dealt before it is loaded. A half is released when it is loaded, its last row of the
    tile has been read, and there is room for the biases of its next tile.

    What holds for a pass (streams, lanes that have a column) or a product (parameters) lies in one
    of two contexts. Rows of the next pass or product are dealt while those before are under way: in
    the same context if all of that is alike, else in the other one, which must be free. Rows of a
    command in one context have a ticket, of which few are under way at a time. A command is done
    when all its results are written, or, if its sums stay in the lanes, when those have taken its
    rows.

    Sums stay in the slots of a stream. Products that keep and resume them must therefore have the
    same streams, columns and rows per slot, and between them none may use those slots: rows of a
    single chunk whose sums begin and finish with it use none.

    A tile that was kept for the next command stays in its half, in use.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element.
    tile, tile_rows, partial_sums
        As in ``RowStreamer``.
    lanes : int
        Lanes per PE; at least 1.
    streams : int
        Row streamers of the cluster; a power of two that divides ``lanes``.
    pes : int
        PEs of the cluster; a power of two.
    most_held : int
        Jobs that a stream holds at a time; at least 1. Few are shared more evenly among the
        streams, many are fetched further ahead.
    activation_depth : int
        Vectors that the activation buffer holds.

    Members
    -------
    orders : ``In(stream.Signature(ProductOrder(fmt)))``
        Products, in order. Legal ones: see ``LoopNest``.
    rows_ready, rows_taken : ``In(1)``, ``Out(1)``
        The next command's rows may be dealt; strobe: they will be, and the one after is the next.
    final_ready, final_taken : ``In(1)``, ``Out(1)``
        The same for the rows of tiles that end the inner dimension.
    done : ``Out(1)``
        Strobe: the oldest product that is not done has read all its rows and written all its
        results.
    loaded : ``In(2)``
        Bit h: the tile in half h of all tile RAMs is complete; 0 from two cycles after its release
        on.
    release : ``Out(1)``
        Strobe: the half that has been in use for longest is free again.
    jobs : ``Out(stream.Signature(StreamJob(...)))``
    room : ``In(streams)``
        Bit s: stream s can take a job. Once 1, it stays so until a job is given.
    taken_last, taken_half, taken_context : ``In(streams)``
        Bit s: lanes take the last scalar of a job of stream s; its half and context.
    lane_enable : ``Out(lanes).array(pes).array(2)``
        By context: lanes whose column is one that the command writes.
    stream_count : ``Out(range(streams + 1)).array(2)``
        By context: streams; 0 before the first product.
    parameters : ``Out(EpilogueParameters(fmt)).array(2)``
        By context: of the command.
    context, alike : ``Out(1)``
        Of the scalars that lanes may take; ``alike``: of the other context as well, because the
        lanes are shared and enabled in the same way.
    reading, draining, pending : ``In(2)``, ``In(BIAS_TILES)``, ``In(TICKETS)``
        Of all PEs; see ``ProcessingElement``.
    working : ``Out(1)``
        A product is held whose rows are not all dealt.
    waits_for_rows : ``Out(1)``
        Rows are not dealt because they are not ready.
    waits_for_half : ``Out(1)``
        Rows are not dealt because the half of their tile is not free.
    waits_for_results : ``Out(1)``
        Rows are not dealt because context or ticket are taken by results that are under way.
    dealt : ``Out(1)``
        Jobs were given whose scalars are not all taken.
    overflow : ``Out(1)``
        Strobe: the oldest product needs more partial sums at a time than a lane holds, or has
        several column passes whose sums stay. It writes nothing, and nothing runs any more until
        reset.
    out_of_range, out_of_range_command : ``Out(1)``, ``Out(range(COMMANDS))``
        Strobe: a job reaches beyond the end of the buffer; and of which command it is: how many
        were taken before it, modulo ``COMMANDS``.
    """

    orders: stream.Interface
    rows_ready: Signal
    rows_taken: Signal
    final_ready: Signal
    final_taken: Signal
    done: Signal
    loaded: Signal
    release: Signal
    jobs: stream.Interface
    room: Signal
    taken_last: Signal
    taken_half: Signal
    taken_context: Signal
    lane_enable: Any
    stream_count: list[Signal]
    parameters: list[Any]
    context: Signal
    alike: Signal
    reading: Signal
    draining: Signal
    pending: Signal
    working: Signal
    waits_for_rows: Signal
    waits_for_half: Signal
    waits_for_results: Signal
    dealt: Signal
    overflow: Signal
    out_of_range: Signal
    out_of_range_command: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        tile_rows: int,
        partial_sums: int,
        lanes: int,
        streams: int,
        pes: int,
        most_held: int,
        activation_depth: int,
    ):
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if streams < 1 or streams & (streams - 1) or lanes % streams:
            raise ValueError(
                f"Number of streams must be a power of two that divides {lanes} lanes,"
                f" not {streams!r}"
            )
        if pes < 1 or pes & (pes - 1):
            raise ValueError(f"Number of PEs must be a power of two, not {pes!r}")
        if most_held < 1:
            raise ValueError(f"Jobs that a stream holds must be at least 1, not {most_held!r}")
        self.fmt = fmt
        self.tile = tile
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.lanes = lanes
        self.streams = streams
        self.pes = pes
        self.most_held = most_held
        self.activation_depth = activation_depth
        job = StreamJob(tile_rows=tile_rows, partial_sums=partial_sums, streams=streams)
        super().__init__({
            "orders": In(stream.Signature(ProductOrder(fmt))),
            "rows_ready": In(1),
            "rows_taken": Out(1),
            "final_ready": In(1),
            "final_taken": Out(1),
            "done": Out(1),
            "loaded": In(HALVES),
            "release": Out(1),
            "jobs": Out(stream.Signature(job)),
            "room": In(streams),
            "taken_last": In(streams),
            "taken_half": In(streams),
            "taken_context": In(streams),
            "lane_enable": Out(lanes).array(CONTEXTS, pes),
            "stream_count": Out(range(streams + 1)).array(CONTEXTS),
            "parameters": Out(EpilogueParameters(fmt)).array(CONTEXTS),
            "context": Out(1),
            "alike": Out(1),
            "reading": In(HALVES),
            "draining": In(BIAS_TILES),
            "pending": In(TICKETS),
            "working": Out(1),
            "waits_for_rows": Out(1),
            "waits_for_half": Out(1),
            "waits_for_results": Out(1),
            "dealt": Out(1),
            "overflow": Out(1),
            "out_of_range": Out(1),
            "out_of_range_command": Out(range(COMMANDS)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.loops = loops = LoopNest(
            banks=self.pes, ports=1, lanes=self.lanes, streams=self.streams, tile=self.tile
        )
        order: Any = self.orders.payload
        offer: Any = loops.tiles.payload
        threshold = Signal(self.fmt.width)
        m.d.comb += [
            loops.command.valid.eq(self.orders.valid),
            loops.command.payload.eq(order.command),
            self.orders.ready.eq(loops.command.ready),
        ]
        # The loops take a command when the last tile of the one before it is at work at the latest.
        with m.If(self.orders.valid & self.orders.ready):
            m.d.sync += threshold.eq(order.threshold)

        # The tile at work.
        a_address, c_address = Signal.like(offer.a_address), Signal.like(offer.c_address)
        a_stride, c_stride = Signal(COUNT), Signal(COUNT)
        rows_left = Signal(COUNT)
        count = Signal.like(self.jobs.payload.job.count)
        slot = Signal.like(self.jobs.payload.job.slot)
        stream_count = Signal.like(self.stream_count[0])
        slots = Signal(COUNT + 1)  # partial sums of a stream that are in use with this tile
        crowded = Signal()
        first, final, reload, last_tile = Signal(), Signal(), Signal(), Signal()
        keep = Signal()  # the tile stays when the command ends
        keep_sums, resume_sums = Signal(), Signal()
        settings: Any = Signal(EpilogueParameters(self.fmt))
        # Columns of C in the pass, as positions: word n of PE c is at n * pes + c.
        bank_bits = ceil_log2(self.pes)
        columns = Signal(COUNT)
        low, high = Signal(signed(COUNT + bank_bits + 1)), Signal(signed(COUNT + bank_bits + 2))
        enable = [Signal(self.lanes, name=f"enable{pe}") for pe in range(self.pes)]

        fresh = Signal(init=1)  # no tile of this command has been at work
        admitted = Signal()  # rows of this command may end the inner dimension
        # Of the tile at work: its number, and its context.
        tile, context = Signal(range(BIAS_TILES), init=BIAS_TILES - 1), Signal(init=1)
        half = tile[0]
        closing = Signal(HALVES)  # halves that no more rows will need
        turn = Signal(self.streams)  # one-hot: the stream that gets the next row of several chunks
        other_context_busy, agreed, switch, finish = Signal(), Signal(), Signal(), Signal()
        m.submodules.tickets = tickets = Tickets()
        enabled_before = Signal(self.lanes * self.pes)
        alike_before = Signal()  # parameters and streams are those of the context
        job: Any = self.jobs.payload
        active, deal, given = Signal(self.streams), Signal(), Signal(self.streams)
        candidates, spare = (Signal(self.streams, name=name) for name in ("candidates", "spare"))
        # Jobs of a stream that the lanes take before a row dealt now, those of this context if the
        # lanes finish the other one first.
        most_held = self.most_held
        held = [Signal(range(2 * most_held + 1), name=f"held{s}") for s in range(self.streams)]
        # Commands whose rows are all dealt, and whose job is on offer, modulo COMMANDS.
        all_dealt, job_command = Signal(range(COMMANDS)), Signal(range(COMMANDS))
        for bits in range(ceil_log2(self.streams) + 1):
            with m.If(stream_count == 1 << bits):
                m.d.comb += active.eq((1 << (1 << bits)) - 1)
        m.d.comb += [
            enabled_before.eq(Array(Cat(lanes) for lanes in self.lane_enable)[context]),
            agreed.eq((~fresh | alike_before) & (Cat(enable) == enabled_before)),
            # A job that is just being given is not yet seen in `room`.
            candidates.eq(
                self.room
                & Cat(jobs < most_held for jobs in held)
                & Mux(first & final, active, turn)
                & ~Mux(self.jobs.valid, job.stream, 0)
            ),
            given.eq(Cat(spare[s] & ~spare[:s].any() for s in range(self.streams))),
        ]
        # Streams that have least to do come first.
        for most in reversed(range(most_held)):
            few = candidates & Cat(jobs <= most for jobs in held)
            with m.If(few.any()):
                m.d.comb += spare.eq(few)
        for number, jobs in enumerate(held):
            by_context = [
                Signal(range(most_held + 1), name=f"held{number}_{c}") for c in range(CONTEXTS)
            ]
            for c, mine in enumerate(by_context):
                ended = self.taken_last[number] & (self.taken_context[number] == c)
                m.d.sync += mine.eq(mine + (deal & given[number] & (context == c)) - ended)
            own, other = Mux(context, *reversed(by_context)), Mux(context, *by_context)
            m.d.comb += jobs.eq(own + Mux(self.alike, other, 0))
        with m.If(self.jobs.ready):
            m.d.sync += self.jobs.valid.eq(0)

        with m.FSM() as fsm:
            with m.State("FETCH"):
                finishes = offer.last_chunk & ~admitted
                fetch = loops.tiles.valid & loops.tiles.ready
                m.d.comb += [
                    loops.tiles.ready.eq(
                        (~fresh | self.rows_ready) & (~finishes | self.final_ready)
                    ),
                    self.rows_taken.eq(fresh & fetch),
                    self.final_taken.eq(finishes & fetch),
                    self.waits_for_rows.eq(loops.tiles.valid & ~loops.tiles.ready),
                ]
                with m.If(self.final_taken):
                    m.d.sync += admitted.eq(1)
                m.d.sync += [
                    a_address.eq(offer.a_address),
                    c_address.eq(offer.c_address),
                    a_stride.eq(offer.command.a_row_stride),
                    c_stride.eq(offer.command.c_row_stride),
                    rows_left.eq(offer.row_count),
                    count.eq(offer.inner_count),
                    slot.eq(offer.slot_base),
                    slots.eq(offer.slot_base),
                    stream_count.eq(offer.command.streams),
                    turn.eq(1),
                    first.eq(offer.first),
                    final.eq(offer.final),
                    reload.eq(offer.reload),
                    last_tile.eq(offer.last_tile),
                    keep.eq(offer.command.keep_tile),
                    keep_sums.eq(offer.command.keep_sums),
                    resume_sums.eq(offer.command.resume_sums),
                    low.eq(offer.command.c_first - (offer.word << bank_bits)),
                    columns.eq(offer.command.columns),
                    settings.threshold.eq(threshold),
                    settings.entry.eq(offer.command.threshold),
                ]
                for name, _ in EpilogueParameters(self.fmt):
                    if name not in ("threshold", "entry"):
                        m.d.sync += settings[name].eq(offer.command[name])
                with m.If(fetch):
                    m.next = "COLUMNS"
            with m.State("COLUMNS"):
                m.d.sync += [
                    high.eq(low + columns),
                    alike_before.eq(
                        (Value.cast(settings) == Array(map(Value.cast, self.parameters))[context])
                        & (stream_count == Array(self.stream_count)[context])
                    ),
                ]
                for bits in range(ceil_log2(self.streams) + 1):
                    with m.If(stream_count == 1 << bits):
                        m.d.sync += slots.eq(slots + ((rows_left + ((1 << bits) - 1)) >> bits))
                m.next = "ENABLE"
            with m.State("ENABLE"):
                # Rows of a single chunk need no slot of their own.
                m.d.sync += crowded.eq((slots > self.partial_sums) & ~(first & final))
                for bits in range(ceil_log2(self.streams) + 1):
                    with m.If(stream_count == 1 << bits):
                        # Sums that stay would be overwritten by those of the next pass.
                        with m.If(
                            (keep_sums | resume_sums) & (high > (self.lanes >> bits) * self.pes)
                        ):
                            m.d.sync += crowded.eq(1)
                        for pe, lanes in enumerate(enable):
                            for lane in range(self.lanes):
                                place = (lane >> bits) * self.pes + pe
                                m.d.sync += lanes[lane].eq((low <= place) & (place < high))
                m.next = "AGREE"
            with m.State("AGREE"):
                with m.If(crowded):
                    # The commands before are done first.
                    m.d.comb += self.overflow.eq(~tickets.closed)
                    with m.If(self.overflow):
                        m.next = "REFUSED"
                with m.Elif(agreed & (~fresh | tickets.free)):
                    m.d.comb += [tickets.enter.eq(fresh), tickets.context.eq(context)]
                    m.d.sync += fresh.eq(0)
                    m.next = "LOAD"
                with m.Elif(~agreed & ~other_context_busy & tickets.free):
                    m.d.comb += [
                        tickets.enter.eq(1),
                        tickets.context.eq(~context),
                        tickets.leave.eq(~fresh),
                    ]
                    m.d.sync += self.alike.eq(
                        (Cat(enable) == enabled_before)
                        & (stream_count == Array(self.stream_count)[context])
                    )
                    for c in range(CONTEXTS):
                        with m.If(context != c):
                            m.d.sync += [
                                self.parameters[c].eq(settings),
                                Cat(self.lane_enable[c]).eq(Cat(enable)),
                                self.stream_count[c].eq(stream_count),
                            ]
                    m.d.sync += [context.eq(~context), fresh.eq(0)]
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += switch.eq(reload & ~closing.bit_select(~half, 1))
                with m.If(switch):
                    m.d.sync += tile.eq(tile + 1)
                with m.If(switch | ~reload):
                    m.next = "ROWS"
            with m.State("ROWS"):
                some = rows_left != 0
                m.d.comb += deal.eq((~self.jobs.valid | self.jobs.ready) & candidates.any() & some)
                with m.If(~some):
                    m.d.comb += finish.eq(last_tile)
                    m.next = "FETCH"
                with m.If(deal):
                    m.d.sync += [
                        self.jobs.valid.eq(1),
                        job.stream.eq(given),
                        job.job.address.eq(a_address),
                        job.job.count.eq(count),
                        job.job.tile_row.eq(Mux(half, self.tile_rows // HALVES, 0)),
                        job.job.slot.eq(slot),
                        job.job.first.eq(first),
                        job.job.final.eq(final),
                        job.job.context.eq(context),
                        job_command.eq(all_dealt),
                        job.finished.address.eq(c_address),
                        job.finished.tile.eq(tile),
                        job.finished.context.eq(context),
                        job.finished.ticket.eq(tickets.current),
                        a_address.eq(a_address + a_stride),
                        c_address.eq(c_address + c_stride),
                        rows_left.eq(rows_left - 1),
                    ]
                    with m.If((turn << 1) & active):
                        m.d.sync += turn.eq(turn << 1)
                    with m.Else():
                        m.d.sync += [turn.eq(1), slot.eq(slot + 1)]
                    with m.If(rows_left == 1):
                        m.d.comb += finish.eq(last_tile)
                        m.next = "FETCH"
            with m.State("REFUSED"):
                pass

        # Jobs whose last scalar is not taken yet, by half of the tile RAM and by context.
        under_way = {}
        for kind, number, mine, taken in (
            ("half", HALVES, half, self.taken_half),
            ("context", CONTEXTS, context, self.taken_context),
        ):
            under_way[kind] = [Signal(JOBS_WIDTH, name=f"{kind}{n}_jobs") for n in range(number)]
            for n, jobs in enumerate(under_way[kind]):
                ended = self.taken_last & (taken if n else ~taken)
                m.d.sync += jobs.eq(jobs + (deal & (mine == n)) - count_ones(ended))

        # Rows whose sums stay in the lanes have no results to wait for. Those of the last tile are
        # the last ones of their streams.
        half_jobs = Cat(jobs != 0 for jobs in under_way["half"])
        unread, unread_half = Signal(TICKETS), Signal(TICKETS)
        for ticket in range(TICKETS):
            with m.If(~half_jobs.bit_select(unread_half[ticket], 1)):
                m.d.sync += unread[ticket].eq(0)
            with m.If(finish & keep_sums & (tickets.current == ticket)):
                m.d.sync += [unread[ticket].eq(1), unread_half[ticket].eq(half)]

        # A half is given back when no row of it will follow, in the order in which they came.
        in_use = Signal()  # `half` holds a tile of the command at work
        oldest, free = Signal.like(tile, init=0), Signal(HALVES)
        m.d.comb += [
            free.eq(closing & self.loaded & ~half_jobs & ~self.reading),
            # The next tile in this half has its biases where an earlier one had them.
            self.release.eq(
                free.bit_select(oldest[0], 1)
                & ~self.draining.bit_select((oldest + HALVES)[: len(oldest)], 1)
            ),
        ]
        for n in range(HALVES):
            with m.If(self.release & (oldest[0] == n)):
                m.d.sync += closing[n].eq(0)
            with m.If((switch & in_use | finish & ~keep) & (half == n)):
                m.d.sync += closing[n].eq(1)
        with m.If(self.release):
            m.d.sync += oldest.eq(oldest + 1)
        with m.If(switch):
            m.d.sync += in_use.eq(1)
        with m.If(finish):
            m.d.sync += [
                in_use.eq(keep),
                fresh.eq(1),
                admitted.eq(0),
                all_dealt.eq(all_dealt + 1),
            ]
        end = job.job.address + job.job.count
        m.d.sync += [
            self.out_of_range.eq(self.jobs.valid & self.jobs.ready & (end > self.activation_depth)),
            self.out_of_range_command.eq(job_command),
        ]

        # Lanes go on to the next context when all scalars of this one are taken.
        context_jobs = Cat(jobs != 0 for jobs in under_way["context"])
        with m.If(~context_jobs.bit_select(self.context, 1) & context_jobs.any()):
            m.d.sync += self.context.eq(~self.context)
        m.d.comb += [
            tickets.finish.eq(finish),
            tickets.pending.eq(self.pending | unread),
            tickets.offered.eq(Mux(self.jobs.valid, 1 << job.finished.ticket, 0)),
            other_context_busy.eq((context_jobs | tickets.busy).bit_select(~context, 1)),
            self.done.eq(tickets.done),
        ]
        m.d.comb += [
            self.working.eq(
                ~fsm.ongoing("FETCH")
                | (loops.tiles.valid | ~loops.command.ready) & ~self.waits_for_rows
            ),
            self.waits_for_half.eq(fsm.ongoing("LOAD") & ~switch & reload),
            self.waits_for_results.eq(fsm.ongoing("AGREE") & ~(agreed & (~fresh | tickets.free))),
            self.dealt.eq(context_jobs.any()),
        ]
        return m
