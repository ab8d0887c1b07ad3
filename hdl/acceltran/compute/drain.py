"""Drain: finished sums of the lanes of a PE, one vector at a time."""

from typing import Any

from amaranth import Array, Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.queue import Queue

__all__ = ["Drain", "DrainedSums", "FinishedRow"]

HALVES = 2


class FinishedRow(data.StructLayout):
    """Layout of what is known of a row whose sums leave the lanes.

    Members
    -------
    address : ``unsigned(ADDRESS_WIDTH)``
        Flat address of the vector of lane 0 of PE 0.
    half : ``unsigned(1)``
        Half of the tile RAM with which the bias of the row goes.
    """

    def __init__(self):
        super().__init__({"address": unsigned(ADDRESS_WIDTH), "half": 1})


class DrainedSums(data.StructLayout):
    """Layout of the sums of one lane.

    Members
    -------
    sums : ``ArrayLayout(signed(sum_width), tile)``
    address : ``unsigned(ADDRESS_WIDTH)``
        Where the result goes.
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, inner: int):
        width = sum_width(fmt=fmt, inner=inner)
        super().__init__({
            "sums": data.ArrayLayout(signed(width), tile),
            "address": unsigned(ADDRESS_WIDTH),
        })


class Drain(SharedComponent):
    """Take the sums of each finished row from the enabled lanes, in ascending order.

    The sums of lane ``l`` go to vector ``row.address + l * banks + index``. A row takes one cycle
    per lane, enabled or not.

    Parameters
    ----------
    fmt, tile, inner
        As in ``Lane``.
    lanes : int
        Lanes; at least 1.
    banks : int
        PEs of the cluster; a power of two.
    depth : int
        Finished rows that may wait; at least 1.

    Members
    -------
    index : ``In(ceil_log2(banks))``
        Number of this PE in its cluster.
    lane_enable : ``In(lanes)``
        Lanes that give sums; changes only while ``draining`` is 0.
    rows : ``In(stream.Signature(FinishedRow()))``
        In the order in which the lanes finish them; given no later than their sums.
    sums : ``In(stream.Signature(ArrayLayout(signed(sum_width), tile))).array(lanes)``
    o : ``Out(stream.Signature(DrainedSums(fmt, tile=tile, inner=inner)))``
    take : ``Out(1)``
        Strobe: ``o`` takes new sums, which it offers in the next cycle.
    half, lane : ``Out(1)``, ``Out(range(lanes))``
        With ``take``: whose sums, for the bias.
    draining : ``Out(2)``
        Bit h: rows of half h wait for their last sums.
    """

    index: Signal
    lane_enable: Signal
    rows: stream.Interface
    sums: list[stream.Interface]
    o: stream.Interface
    take: Signal
    half: Signal
    lane: Signal
    draining: Signal

    def __init__(
        self, *, fmt: FixedPoint, tile: int, inner: int, lanes: int, banks: int, depth: int = 16
    ):
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if banks < 1 or banks & (banks - 1):
            raise ValueError(f"Number of banks must be a power of two, not {banks!r}")
        if depth < 1:
            raise ValueError(f"Depth must be at least 1, not {depth!r}")
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.lanes = lanes
        self.banks = banks
        self.depth = depth
        sums = data.ArrayLayout(signed(sum_width(fmt=fmt, inner=inner)), tile)
        super().__init__({
            "index": In(ceil_log2(banks)),
            "lane_enable": In(lanes),
            "rows": In(stream.Signature(FinishedRow())),
            "sums": In(stream.Signature(sums)).array(lanes),
            "o": Out(stream.Signature(DrainedSums(fmt, tile=tile, inner=inner))),
            "take": Out(1),
            "half": Out(1),
            "lane": Out(range(lanes)),
            "draining": Out(HALVES),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = Queue(shape=FinishedRow(), depth=self.depth)
        bank_bits = ceil_log2(self.banks)
        word = Signal(ADDRESS_WIDTH - bank_bits)  # of the lane, counted from the row's first
        here: Any = rows.o.payload
        free, valid, enabled, step, last = Signal(), Signal(), Signal(), Signal(), Signal()
        entered, left = Signal(), Signal()
        m.d.comb += [
            rows.i.valid.eq(self.rows.valid),
            rows.i.payload.eq(self.rows.payload),
            self.rows.ready.eq(rows.i.ready),
            entered.eq(self.rows.valid & self.rows.ready),
            free.eq(~self.o.valid | self.o.ready),
            valid.eq(Array(lane.valid for lane in self.sums)[self.lane]),
            enabled.eq(Array(self.lane_enable)[self.lane]),
            self.take.eq(rows.o.valid & free & enabled & valid),
            step.eq(rows.o.valid & (self.take | ~enabled)),
            last.eq(self.lane == self.lanes - 1),
            left.eq(step & last),
            rows.o.ready.eq(left),
            self.half.eq(here.half),
        ]
        for number, lane in enumerate(self.sums):
            m.d.comb += lane.ready.eq(self.take & (self.lane == number))
        with m.If(step):
            m.d.sync += [self.lane.eq(self.lane + 1), word.eq(word + 1)]
        with m.If(left):
            m.d.sync += [self.lane.eq(0), word.eq(0)]

        with m.If(free):
            m.d.sync += self.o.valid.eq(self.take)
        with m.If(self.take):
            m.d.sync += [
                self.o.payload.sums.eq(Array(lane.payload for lane in self.sums)[self.lane]),
                self.o.payload.address.eq(
                    Cat(self.index, (here.address[bank_bits:] + word)[: len(word)])
                ),
            ]

        waiting = [Signal(range(self.depth + 1), name=f"waiting_{h}") for h in range(HALVES)]
        for half, count in enumerate(waiting):
            m.d.sync += count.eq(
                count + (entered & (self.rows.payload.half == half)) - (left & (here.half == half))
            )
            m.d.comb += self.draining[half].eq(count != 0)
        return m
