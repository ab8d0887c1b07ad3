"""Drain: finished sums of the lanes of a PE, one vector at a time."""

from functools import reduce
from operator import or_

from amaranth import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.queue import Queue
from acceltran.memory.round_robin import RoundRobin
from acceltran.memory.tile_ports import BIAS_TILES
from acceltran.numeric.count_ones import count_ones

__all__ = ["TICKETS", "Drain", "DrainedSums", "FinishedRow"]


TICKETS = 8
"""Groups of rows whose results may be under way, each awaited by itself."""


class FinishedRow(data.StructLayout):
    """Layout of what is known of a row whose sums leave the lanes.

    Members
    -------
    address : ``unsigned(ADDRESS_WIDTH)``
        Flat address of the vector of word 0 of PE 0.
    tile : ``range(BIAS_TILES)``
        Number of the tile, modulo ``BIAS_TILES``, with which the bias of the row goes.
    context : ``unsigned(1)``
        Which of two settings of the cluster the row belongs to.
    ticket : ``range(TICKETS)``
        Which group of rows that are awaited together it belongs to.
    """

    def __init__(self):
        super().__init__({
            "address": unsigned(ADDRESS_WIDTH),
            "tile": range(BIAS_TILES),
            "context": 1,
            "ticket": range(TICKETS),
        })


class DrainedSums(data.StructLayout):
    """Layout of the sums of one lane.

    Members
    -------
    sums : ``ArrayLayout(signed(sum_width), tile)``
    address : ``unsigned(ADDRESS_WIDTH)``
        Where the result goes.
    ticket : ``range(TICKETS)``
        Of the row.
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, inner: int):
        width = sum_width(fmt=fmt, inner=inner)
        super().__init__({
            "sums": data.ArrayLayout(signed(width), tile),
            "address": unsigned(ADDRESS_WIDTH),
            "ticket": range(TICKETS),
        })


class Drain(SharedComponent):
    """Take the sums of each finished row from the lanes that hold them.

    Lane ``l`` works on word ``l // stream_count`` of the rows of stream ``l % stream_count``; its
    sums go to vector ``row.address + (l // stream_count) * banks + index``. Streams take turns, a
    row at a time; rows of the other context wait until ``context`` changes. A row takes one cycle
    per word up to the last one that is enabled.

    Parameters
    ----------
    fmt, tile, inner
        As in ``Lane``.
    lanes : int
        Lanes; at least 1.
    streams : int
        Most streams; a power of two that divides ``lanes``.
    banks : int
        PEs of the cluster; a power of two.
    depth : int
        Finished rows of a stream that may wait; at least 1.

    Members
    -------
    index : ``In(ceil_log2(banks))``
        Number of this PE in its cluster.
    context : ``In(1)``
        Which rows are taken. With ``lane_enable`` and ``stream_count``, it changes only while no
        row of this context has come that is not taken.
    lane_enable : ``In(lanes)``
        Lanes that give sums.
    stream_count : ``In(range(streams + 1))``
        Streams that share the lanes; a power of two.
    rows : ``In(stream.Signature(FinishedRow())).array(streams)``
        In the order in which the lanes finish them; given no later than their sums, of which there
        are some.
    sums : ``In(stream.Signature(ArrayLayout(signed(sum_width), tile))).array(lanes)``
    o : ``Out(stream.Signature(DrainedSums(fmt, tile=tile, inner=inner)))``
    take : ``Out(1)``
        Strobe: ``o`` takes new sums, which it offers in the next cycle.
    tile_number, word : ``Out(range(BIAS_TILES))``, ``Out(range(lanes))``
        With ``take``: whose sums, for the bias.
    draining : ``Out(BIAS_TILES)``
        Bit n: rows of tile n wait for their last sums.
    """

    index: Signal
    context: Signal
    lane_enable: Signal
    stream_count: Signal
    rows: list[stream.Interface]
    sums: list[stream.Interface]
    o: stream.Interface
    take: Signal
    tile_number: Signal
    word: Signal
    draining: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        inner: int,
        lanes: int,
        streams: int,
        banks: int,
        depth: int = 16,
    ):
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if streams < 1 or streams & (streams - 1) or lanes % streams:
            raise ValueError(
                f"Number of streams must be a power of two that divides {lanes} lanes,"
                f" not {streams!r}"
            )
        if banks < 1 or banks & (banks - 1):
            raise ValueError(f"Number of banks must be a power of two, not {banks!r}")
        if depth < 1:
            raise ValueError(f"Depth must be at least 1, not {depth!r}")
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.lanes = lanes
        self.streams = streams
        self.banks = banks
        self.depth = depth
        sums = data.ArrayLayout(signed(sum_width(fmt=fmt, inner=inner)), tile)
        super().__init__({
            "index": In(ceil_log2(banks)),
            "context": In(1),
            "lane_enable": In(lanes),
            "stream_count": In(range(streams + 1)),
            "rows": In(stream.Signature(FinishedRow())).array(streams),
            "sums": In(stream.Signature(sums)).array(lanes),
            "o": Out(stream.Signature(DrainedSums(fmt, tile=tile, inner=inner))),
            "take": Out(1),
            "tile_number": Out(range(BIAS_TILES)),
            "word": Out(range(lanes)),
            "draining": Out(BIAS_TILES),
        })

    def elaborate(self, platform):
        m = Module()
        queues = [Queue(shape=FinishedRow(), depth=self.depth) for _ in range(self.streams)]
        for number, (queue, rows) in enumerate(zip(queues, self.rows, strict=True)):
            m.submodules[f"rows{number}"] = queue
            wiring.connect(m, wiring.flipped(rows), queue.i)

        # A row is finished once one of its lanes has sums: all of them get them in the same cycle,
        # or as soon as those of the row before are taken.
        finished = Signal(self.streams)
        enabled = Signal(self.lanes)
        m.d.comb += enabled.eq(self.lane_enable & Cat(lane.valid for lane in self.sums))
        for count in (1 << n for n in range(ceil_log2(self.streams) + 1)):
            with m.If(self.stream_count == count):
                m.d.comb += finished.eq(
                    Cat(
                        reduce(or_, (enabled[lane] for lane in range(s, self.lanes, count)))
                        for s in range(count)
                    )
                )

        # The row at work. Its successor is chosen in the cycle in which it ends.
        busy, place, lane = Signal(), Signal(range(self.streams)), Signal(range(self.lanes))
        row = Signal(FinishedRow())
        serving = Signal(self.streams)  # one-hot `place` while busy
        last_word = Signal(range(self.lanes))
        m.submodules.turns = turns = RoundRobin(count=self.streams)
        free, valid, step, last, choose = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.sync += last_word.eq(0)
        waiting = Cat(queue.o.valid & (queue.o.payload.context == self.context) for queue in queues)
        for count in (1 << n for n in range(ceil_log2(self.streams) + 1)):
            with m.If(self.stream_count == count):
                # Lanes of all streams are enabled alike.
                for word in range(1, self.lanes // count):
                    with m.If(self.lane_enable[word * count]):
                        m.d.sync += last_word.eq(word)
        m.d.comb += [
            serving.eq(Mux(busy, 1 << place, 0)),
            free.eq(~self.o.valid | self.o.ready),
            valid.eq(Array(sums.valid for sums in self.sums)[lane]),
            self.take.eq(busy & free & valid & Array(self.lane_enable)[lane]),
            step.eq(busy & (self.take | ~Array(self.lane_enable)[lane])),
            last.eq(self.word == last_word),
            choose.eq(~busy | (step & last)),
            turns.requests.eq(Mux(choose, waiting & finished & ~serving, 0)),
            self.tile_number.eq(row.tile),
        ]
        for number, sums in enumerate(self.sums):
            m.d.comb += sums.ready.eq(self.take & (lane == number))
        with m.If(step):
            m.d.sync += [self.word.eq(self.word + 1), lane.eq(lane + self.stream_count)]
        with m.If(choose):
            m.d.sync += [busy.eq(turns.grant.any()), self.word.eq(0)]
            for number, queue in enumerate(queues):
                m.d.comb += queue.o.ready.eq(turns.grant[number])
                with m.If(turns.grant[number]):
                    m.d.sync += [place.eq(number), lane.eq(number), row.eq(queue.o.payload)]

        with m.If(free):
            m.d.sync += self.o.valid.eq(self.take)
        bank_bits = ceil_log2(self.banks)
        with m.If(self.take):
            word_address = (row.address[bank_bits:] + self.word)[: ADDRESS_WIDTH - bank_bits]
            m.d.sync += [
                self.o.payload.sums.eq(Array(sums.payload for sums in self.sums)[lane]),
                self.o.payload.address.eq(Cat(self.index, word_address)),
                self.o.payload.ticket.eq(row.ticket),
            ]

        most = self.streams * (self.depth + 1)
        counts = [Signal(range(most + 1), name=f"waiting_{n}") for n in range(BIAS_TILES)]
        for tile, count in enumerate(counts):
            entered = Cat(
                rows.valid & rows.ready & (rows.payload.tile == tile) for rows in self.rows
            )
            left = step & last & (row.tile == tile)
            m.d.sync += count.eq(count + count_ones(entered) - left)
            m.d.comb += self.draining[tile].eq(count != 0)
        return m
