"""Fetch the commands of a program from DRAM."""

from typing import Any

from amaranth import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import COMMAND_BYTES
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandWord
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, is_bus_width
from acceltran.memory.gearbox import Gearbox
from acceltran.memory.region_check import RegionCheck
from acceltran.memory.transfer import WORD_BITS, DramReadPort

__all__ = ["CommandFetch"]

COMMAND_WORDS = COMMAND_BYTES * 8 // WORD_BITS


class CommandFetch(SharedComponent):
    """Fetch ``commands`` commands from address ``program`` on, in order and a few ahead.

    A program that does not lie inside the region is refused with ``dram_error`` before anything of
    it is read. ``flush`` abandons a program: what was asked for is discarded, including a command
    that is being offered. After an error only reset helps.

    Parameters
    ----------
    data_bits : int
        Width of the AXI data bus: 64, 128, 256, 512 or 1024.

    Members
    -------
    start : ``In(1)``
        Strobe; while ``busy`` it is ignored.
    flush : ``In(1)``
        Strobe.
    program : ``In(64)``
        Address of the first command, a multiple of 8. Sampled at ``start``.
    commands : ``In(32)``
        Number of commands. Sampled at ``start``.
    region_first, region_last : ``In(64)``
        First and last byte that may be touched.
    busy : ``Out(1)``
    done : ``Out(1)``
        Strobe: the last command was taken in this cycle (in the cycle after ``start`` if there is
        none).
    dram_error : ``Out(1)``
        Strobe.
    error_index : ``Out(32)``
        Command that is being read from memory: the failed one when ``port.error`` is raised.
    port : ``In(DramReadPort(data_bits // 64))``
    o : ``Out(stream.Signature(CommandWord()))``
    """

    AHEAD = 4
    """Commands that are asked for and not yet taken, at most."""

    start: Signal
    flush: Signal
    program: Signal
    commands: Signal
    region_first: Signal
    region_last: Signal
    busy: Signal
    done: Signal
    dram_error: Signal
    error_index: Signal
    port: Any
    o: stream.Interface

    def __init__(self, *, data_bits: int):
        if not is_bus_width(data_bits):
            raise ValueError(
                f"AXI data width must be 64, 128, 256, 512 or 1024 bits, not {data_bits!r}"
            )
        self.data_bits = data_bits
        super().__init__({
            "start": In(1),
            "flush": In(1),
            "program": In(ADDRESS_BITS),
            "commands": In(unsigned(COMMAND_INDEX_WIDTH)),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "busy": Out(1),
            "done": Out(1),
            "dram_error": Out(1),
            "error_index": Out(COMMAND_INDEX_WIDTH),
            "port": In(DramReadPort(data_bits // WORD_BITS)),
            "o": Out(stream.Signature(CommandWord())),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.check = check = RegionCheck()
        m.submodules.gearbox = gearbox = Gearbox(
            in_words=self.data_bits // WORD_BITS, out_words=COMMAND_WORDS
        )
        wiring.connect(m, wiring.flipped(self.port.beats), gearbox.i)

        address = Signal(ADDRESS_BITS)
        commands, requested, index = (
            Signal(COMMAND_INDEX_WIDTH, name=name) for name in ("number", "requested", "index")
        )
        ahead = Signal(range(self.AHEAD + 1))  # requested, and neither passed on nor dropped
        request = self.port.request
        ask, passed = Signal(), Signal()
        m.d.comb += [
            check.region_first.eq(self.region_first),
            check.region_last.eq(self.region_last),
            check.i.payload.address.eq(address),
            check.i.payload.words.eq(commands * COMMAND_WORDS),
            self.dram_error.eq(check.error),
            request.payload.address.eq(address),
            request.payload.words.eq(COMMAND_WORDS),
            self.o.payload.index.eq(index),
            self.o.payload.bits.eq(gearbox.o.payload.data),
            passed.eq(gearbox.o.valid & gearbox.o.ready),
        ]
        m.d.sync += ahead.eq(ahead + ask - passed)
        with m.If(request.valid & request.ready):
            m.d.sync += [request.valid.eq(0), address.eq(address + COMMAND_BYTES)]
        with m.If(ask):
            m.d.sync += [request.valid.eq(1), requested.eq(requested + 1)]
        with m.If(passed):
            m.d.sync += index.eq(index + 1)
        with m.If(self.port.completed):
            m.d.sync += self.error_index.eq(self.error_index + 1)

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                with m.If(self.start & ~request.valid):
                    m.d.sync += [
                        address.eq(self.program),
                        commands.eq(self.commands),
                        requested.eq(0),
                        index.eq(0),
                        self.error_index.eq(0),
                    ]
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(commands == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += check.i.valid.eq(1)
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += check.o.ready.eq(1)
                with m.If(check.o.valid):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [
                    ask.eq(~request.valid & (requested != commands) & (ahead != self.AHEAD)),
                    self.o.valid.eq(gearbox.o.valid),
                    gearbox.o.ready.eq(self.o.ready),
                ]
                with m.If(self.flush):
                    m.next = "FLUSH"
                with m.Elif(passed & (index + 1 == commands)):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("FLUSH"):
                m.d.comb += gearbox.o.ready.eq(1)
                with m.If(ahead == 0):
                    m.next = "IDLE"
        return m
