"""Thresholds from curves, and the loops that move along them."""

from typing import Any

from amaranth import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import THRESHOLDS, Opcode, ThresholdMode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.threshold_curve import (
    ENTRY_BITS,
    ENTRY_WORDS,
    POINTS,
    POSITION_BITS,
    POSITION_MAX,
    SEGMENT_BITS,
    TABLE_ADDRESS_BITS,
    WORD_BITS,
)
from acceltran.control.command_layout import command_layout
from acceltran.control.kept_totals import ELEMENTS, KeptQuery, KeptTotals
from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram
from acceltran.numeric.product import product, product_latency
from acceltran.numeric.round_shift import RoundShift

__all__ = ["ThresholdAnswer", "ThresholdControl"]

PARTS = 4
ERROR = ELEMENTS + POSITION_BITS + 2
"""Bits of a loop's error, with its sign."""


class ThresholdAnswer(data.StructLayout):
    """Layout of a threshold that was asked for."""

    def __init__(self, fmt: FixedPoint):
        super().__init__({"valid": 1, "value": unsigned(fmt.width)})


class Loop(data.StructLayout):
    """Layout of what a closed loop needs at the end of a program: fields of its THRESHOLD."""

    def __init__(self):
        fields = command_layout(Opcode.THRESHOLD).members
        super().__init__({
            name: fields[name] for name in ("target", "elements", "gain", "gain_shift")
        })


class ThresholdControl(SharedComponent):
    """Look thresholds up on curves, and move the positions of closed loops when a program ends.

    The table holds a piecewise linear curve of sparsity and a position for each entry. An order is
    answered with ``curve(p) * scale >> scale_shift``, where p is the order's target or, of a closed
    loop, the entry's position. When ``settle`` rises, the position of every closed loop of the
    program is moved by ``gain * (target * elements - zeros)``, rounded and kept in its range, where
    ``zeros = elements - kept``.

    An order takes ``LATENCY`` cycles from being taken to its answer. Settling takes at most
    ``SETTLE_CYCLES`` and ``loop_cycles`` for each closed loop, and nothing if there is none. The
    table is a memory: it outlives a reset, and holds anything until it is written.

    Source: S. Tuli and N. K. Jha, "AccelTran", IEEE TCAD 2023, for the curves.
    Golden model: ``acceltran_sim.golden.threshold_control``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element.
    kept_latency : int
        Cycles from a query to its answer; at least 1.

    Members
    -------
    orders : ``In(stream.Signature(command_layout(Opcode.THRESHOLD)))``
        Bodies of THRESHOLD commands with a curve.
    answer : ``Out(ThresholdAnswer(fmt))``
        Strobe, for each order.
    query : ``Out(KeptQuery())``
    kept : ``In(ELEMENTS)``
        What all sources together have kept of the entry that was asked for.
    settle : ``In(1)``
        The program has ended: no order is given, and counts come for at most ``LATE_COUNTS`` more
        cycles. Stays until ``settled``.
    settled : ``Out(1)``
        With ``settle``: all positions are moved.
    host_address : ``In(TABLE_ADDRESS_BITS)``
        See ``acceltran.arch.threshold_curve``.
    host_write : ``In(1)``
        Write ``host_data`` to that word, if there is one.
    host_data : ``In(32)``
    host_value : ``Out(32)``
        That word, at most ``HOST_LATENCY`` cycles later.
    """

    LATENCY = 8 + 2 * (product_latency(PARTS) + 1)
    LATE_COUNTS = 8
    SETTLE_CYCLES = LATE_COUNTS + 1 + THRESHOLDS
    HOST_LATENCY = 4

    orders: stream.Interface
    answer: Any
    query: Any
    kept: Signal
    settle: Signal
    settled: Signal
    host_address: Signal
    host_write: Signal
    host_data: Signal
    host_value: Signal

    def __init__(self, *, fmt: FixedPoint, kept_latency: int = KeptTotals.LATENCY):
        if kept_latency < 1:
            raise ValueError(f"Latency of totals must be at least 1, not {kept_latency!r}")
        self.fmt = fmt
        self.kept_latency = kept_latency
        self.loop_cycles = 4 + kept_latency + 2 * (product_latency(PARTS) + 1) + RoundShift.LATENCY
        super().__init__({
            "orders": In(stream.Signature(command_layout(Opcode.THRESHOLD))),
            "answer": Out(ThresholdAnswer(fmt)),
            "query": Out(KeptQuery()),
            "kept": In(ELEMENTS),
            "settle": In(1),
            "settled": Out(1),
            "host_address": In(TABLE_ADDRESS_BITS),
            "host_write": In(1),
            "host_data": In(32),
            "host_value": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        width = self.fmt.width
        word_width = max(width, POSITION_BITS)
        m.submodules.table = table = Ram(width=word_width, depth=ENTRY_WORDS * THRESHOLDS)
        m.submodules.loops = loops = Ram(width=Loop().size, depth=THRESHOLDS)

        order = Signal(command_layout(Opcode.THRESHOLD))
        loop = Signal(Loop())
        closed = Signal(THRESHOLDS)  # entries with a loop in this program
        entry = Signal(range(THRESHOLDS))
        place = Signal(range(ENTRY_WORDS * THRESHOLDS))  # of the entry in the table
        position = Signal(POSITION_BITS)
        elapsed = Signal(range(max(16, self.kept_latency + 1)))
        m.d.sync += elapsed.eq(elapsed + 1)

        # One multiplier for all products.
        a, b = Signal(signed(ERROR)), Signal(POSITION_BITS)
        result = product(m, a, b, name="product", parts=PARTS)
        multiplied = elapsed == product_latency(PARTS)

        # The host reads whenever nobody else does.
        word, host_word = Signal(WORD_BITS), Signal(WORD_BITS)
        host_entry, host_place = Signal(ENTRY_BITS), Signal.like(place)
        reading, host_reads = Signal(), Signal()
        moved, moves = Signal(POSITION_BITS), Signal()
        m.d.comb += [
            host_word.eq(Mux(self.host_address[-1], POINTS, self.host_address[:WORD_BITS])),
            host_entry.eq(
                Mux(
                    self.host_address[-1],
                    self.host_address[:ENTRY_BITS],
                    self.host_address[WORD_BITS:],
                )
            ),
            host_place.eq(_place(host_entry) + host_word),
            table.read_enable.eq(1),
            table.read_address.eq(Mux(reading, place + word, host_place)),
            table.write_enable.eq((self.host_write & (host_word < ENTRY_WORDS)) | moves),
            table.write_address.eq(Mux(self.host_write, host_place, place + POINTS)),
            table.write_data.eq(Mux(self.host_write, self.host_data, moved)),
        ]
        m.d.sync += host_reads.eq(~reading)
        with m.If(host_reads):
            m.d.sync += self.host_value.eq(table.read_data)

        m.submodules.rounder = rounder = RoundShift(
            input_width=ERROR + POSITION_BITS, output_width=POSITION_BITS + 2, shift_width=6
        )
        low = Signal(width)
        value, shifted = Signal(signed(width + 1)), Signal(width + POSITION_BITS)
        zeros, kept = Signal(signed(ELEMENTS + 1)), Signal(ELEMENTS)
        target_position = Signal(signed(POSITION_BITS + 3))
        flush, fetch = Signal(), Signal()
        m.d.comb += [
            rounder.advance.eq(1),
            rounder.x.eq(result),
            rounder.shift.eq(loop.gain_shift),
            target_position.eq(rounder.y + position),
            self.settled.eq(self.settle & ~closed.any()),
            loops.read_address.eq(entry),
            loops.read_enable.eq(fetch),
            loops.write_address.eq(order.index),
            loops.write_data.eq(Value.cast(_loop_of(m, order))),
        ]
        m.d.comb += [
            self.query.flush.eq(flush),
            self.query.enable.eq(fetch),
            self.query.entry.eq(entry),
        ]
        m.d.sync += self.answer.valid.eq(0)

        def read(source: Any) -> list[Any]:
            return [reading.eq(1), word.eq(source)]

        def multiply(left: Any, right: Any, state: str) -> None:
            m.d.sync += [a.eq(left), b.eq(right), elapsed.eq(0)]
            m.next = state

        with m.FSM(init="idle"):
            with m.State("idle"):
                m.d.comb += self.orders.ready.eq(1)
                m.d.sync += [
                    order.eq(self.orders.payload),
                    place.eq(_place(self.orders.payload.index)),
                    elapsed.eq(0),
                ]
                with m.If(self.orders.valid):
                    m.next = "find"
                with m.Elif(self.settle & closed.any()):
                    m.next = "gather"
            with m.State("find"):
                m.d.comb += read(POINTS)
                m.next = "stand"
            with m.State("stand"):
                m.d.sync += position.eq(
                    Mux(order.mode == ThresholdMode.CLOSED_LOOP, table.read_data, order.target)
                )
                m.next = "low"
            with m.State("low"):
                m.d.comb += read(position[SEGMENT_BITS:])
                m.next = "high"
            with m.State("high"):
                m.d.comb += read(position[SEGMENT_BITS:] + 1)
                m.d.sync += low.eq(table.read_data)
                m.next = "slope"
            with m.State("slope"):
                multiply(table.read_data[:width] - low, position[:SEGMENT_BITS], "interpolate")
            with m.State("interpolate"):
                m.d.sync += value.eq(low + (result >> SEGMENT_BITS))
                with m.If(multiplied):
                    m.next = "weigh"
            with m.State("weigh"):
                multiply(value, order.scale, "scale")
            with m.State("scale"):
                m.d.sync += shifted.eq(result >> order.scale_shift)
                with m.If(multiplied):
                    m.next = "answer"
            with m.State("answer"):
                m.d.sync += [
                    self.answer.valid.eq(1),
                    self.answer.value.eq(shifted[:width] | shifted[width:].any().replicate(width)),
                ]
                with m.If(order.mode == ThresholdMode.CLOSED_LOOP):
                    m.d.comb += loops.write_enable.eq(1)
                    m.d.sync += closed.bit_select(order.index, 1).eq(1)
                m.next = "idle"

            with m.State("gather"):
                m.d.sync += [entry.eq(0), place.eq(0)]
                with m.If(elapsed == self.LATE_COUNTS):
                    m.d.comb += flush.eq(1)
                    m.next = "next"
            with m.State("next"):
                m.d.comb += [fetch.eq(1), *read(POINTS)]
                m.d.sync += elapsed.eq(1)
                with m.If(closed.bit_select(entry, 1)):
                    m.next = "load"
                with m.Else():
                    m.d.sync += [entry.eq(entry + 1), place.eq(place + ENTRY_WORDS)]
                    with m.If(entry == THRESHOLDS - 1):
                        m.next = "idle"
            with m.State("load"):
                m.d.sync += [
                    position.eq(table.read_data),
                    Value.cast(loop).eq(loops.read_data),
                ]
                m.next = "count"
            with m.State("count"):
                m.d.sync += kept.eq(self.kept)
                with m.If(elapsed >= self.kept_latency):
                    m.next = "expect"
            with m.State("expect"):
                m.d.sync += zeros.eq(loop.elements - kept)
                multiply(loop.elements, loop.target, "compare")
            with m.State("compare"):
                with m.If(multiplied):
                    multiply(result - (zeros << POSITION_BITS), loop.gain, "round")
            with m.State("round"):
                with m.If(elapsed == product_latency(PARTS) + RoundShift.LATENCY):
                    m.next = "clamp"
            with m.State("clamp"):
                with m.If(target_position < 0):
                    m.d.sync += moved.eq(0)
                with m.Elif(target_position > POSITION_MAX):
                    m.d.sync += moved.eq(POSITION_MAX)
                with m.Else():
                    m.d.sync += moved.eq(target_position)
                m.next = "move"
            with m.State("move"), m.If(~self.host_write):
                m.d.comb += moves.eq(1)
                m.d.sync += closed.bit_select(entry, 1).eq(0)
                m.next = "next"
        return m


def _place(entry: Value) -> Value:
    """First word of an entry in the table."""
    terms = [entry << bit for bit in range(WORD_BITS) if ENTRY_WORDS >> bit & 1]
    return sum(terms[1:], start=terms[0])


def _loop_of(m: Module, order: Any) -> Any:
    loop = Signal(Loop())
    m.d.comb += [loop[name].eq(order[name]) for name in Loop().members]
    return loop
