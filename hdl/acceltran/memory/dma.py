"""All that talks to DRAM, behind one AXI4 master."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.registers import ErrorCause
from acceltran.control.command_fetch import CommandFetch
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandWord
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, Axi4
from acceltran.memory.load_engine import LoadEngine
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.memory.read_channel import ReadChannel
from acceltran.memory.store_engine import StoreEngine
from acceltran.memory.write_channel import WriteChannel

__all__ = ["Dma", "DmaError"]

FETCH, KEEPS, VALUES = range(3)
"""Clients of the read channel."""


class DmaError(wiring.Signature):
    """Report of an error: a strobe, and its cause (an ``ErrorCause``), which is valid with it."""

    def __init__(self):
        super().__init__({"valid": Out(1), "cause": Out(max(ErrorCause).bit_length())})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DmaError)


class Dma(SharedComponent):
    """Command fetch, load and store engines, and the AXI4 master that they share.

    See ``CommandFetch``, ``LoadEngine`` and ``StoreEngine`` for what they promise. While ``stop``
    is 1 no burst is issued, bursts under way are completed, and written data has all strobes 0.
    After an error whoever caused it, and its channel if the bus reported it, need a reset.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; a power of two from 2 to 64.
    data_bits : int
        Width of the AXI data bus: 64, 128, 256, 512 or 1024.

    Members
    -------
    start, flush, program, commands, fetch_busy, fetch_done, fetched
        ``start``, ``flush``, ``program``, ``commands``, ``busy``, ``done`` and ``o`` of
        ``CommandFetch``.
    load, load_done, store, store_done
        ``command`` and ``done`` of the engines.
    region_first, region_last : ``In(64)``
        First and last byte that may be touched. Constant while busy.
    activation, weight : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
        Loaded vectors.
    port : ``In(ReadPort(fmt, tile))``
        Of the activation buffer, for stores.
    fetch_error, load_error, store_error : ``Out(DmaError())``
    fetch_error_index : ``Out(32)``
        Command that could not be fetched.
    axi : ``Out(Axi4(data_bits))``
    stop : ``In(1)``
    quiet : ``Out(1)``
        No AXI transaction is offered or under way.
    read_bytes, write_bytes : ``Out``
        Bytes that crossed the bus: those of the beats that arrived in the cycle before, and of
        those that leave in this one.
    """

    BURST_BEATS = 16
    QUEUES = (32, 32, 64)
    """Beats queued for commands, keep bits, and values."""
    WRITE_QUEUE = 64

    start: Signal
    flush: Signal
    program: Signal
    commands: Signal
    fetch_busy: Signal
    fetch_done: Signal
    fetched: stream.Interface
    load: stream.Interface
    load_done: Signal
    store: stream.Interface
    store_done: Signal
    region_first: Signal
    region_last: Signal
    activation: stream.Interface
    weight: stream.Interface
    port: Any
    fetch_error: Any
    load_error: Any
    store_error: Any
    fetch_error_index: Signal
    axi: Any
    stop: Signal
    quiet: Signal
    read_bytes: Signal
    write_bytes: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, data_bits: int):
        self.fmt = fmt
        self.tile = tile
        self.data_bits = data_bits
        super().__init__({
            "start": In(1),
            "flush": In(1),
            "program": In(ADDRESS_BITS),
            "commands": In(COMMAND_INDEX_WIDTH),
            "fetch_busy": Out(1),
            "fetch_done": Out(1),
            "fetched": Out(stream.Signature(CommandWord())),
            "load": In(stream.Signature(command_layout(Opcode.LOAD))),
            "load_done": Out(1),
            "store": In(stream.Signature(command_layout(Opcode.STORE))),
            "store_done": Out(1),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "activation": Out(stream.Signature(BufferWrite(fmt, tile))),
            "weight": Out(stream.Signature(BufferWrite(fmt, tile))),
            "port": In(ReadPort(fmt, tile)),
            "fetch_error": Out(DmaError()),
            "load_error": Out(DmaError()),
            "store_error": Out(DmaError()),
            "fetch_error_index": Out(COMMAND_INDEX_WIDTH),
            "axi": Out(Axi4(data_bits)),
            "stop": In(1),
            "quiet": Out(1),
            "read_bytes": Out(range(data_bits // 8 + 1)),
            "write_bytes": Out(range(data_bits // 8 + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        shape = {"fmt": self.fmt, "tile": self.tile, "data_bits": self.data_bits}
        m.submodules.fetch = fetch = CommandFetch(data_bits=self.data_bits)
        m.submodules.load = load = LoadEngine(**shape)
        m.submodules.store = store = StoreEngine(**shape)
        m.submodules.read_channel = reads = ReadChannel(
            data_bits=self.data_bits, queues=self.QUEUES, burst_beats=self.BURST_BEATS
        )
        m.submodules.write_channel = writes = WriteChannel(
            data_bits=self.data_bits, queue=self.WRITE_QUEUE, burst_beats=self.BURST_BEATS
        )

        wiring.connect(m, wiring.flipped(self.fetched), fetch.o)
        wiring.connect(m, wiring.flipped(self.load), load.command)
        wiring.connect(m, wiring.flipped(self.store), store.command)
        wiring.connect(m, wiring.flipped(self.activation), load.activation)
        wiring.connect(m, wiring.flipped(self.weight), load.weight)
        wiring.connect(m, wiring.flipped(self.port), store.port)
        wiring.connect(m, fetch.port, reads.clients[FETCH])
        wiring.connect(m, load.keeps, reads.clients[KEEPS])
        wiring.connect(m, load.values, reads.clients[VALUES])
        wiring.connect(m, store.request, writes.request)
        wiring.connect(m, store.beats, writes.beats)
        for channel in (reads, writes):
            for name, member in channel.axi.signature.members.items():
                inner, outer = getattr(channel.axi, name), getattr(self.axi, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
            m.d.comb += channel.stop.eq(self.stop)
        for user in (fetch, load, store):
            m.d.comb += [
                user.region_first.eq(self.region_first),
                user.region_last.eq(self.region_last),
            ]
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.flush.eq(self.flush),
            fetch.program.eq(self.program),
            fetch.commands.eq(self.commands),
            self.fetch_busy.eq(fetch.busy),
            self.fetch_done.eq(fetch.done),
            self.fetch_error_index.eq(fetch.error_index),
            self.load_done.eq(load.done),
            self.store_done.eq(store.done),
            store.idle.eq(writes.idle),
            self.quiet.eq(reads.quiet & writes.quiet),
            self.read_bytes.eq(reads.read_bytes),
            self.write_bytes.eq(writes.write_bytes),
        ]
        load_failed = reads.clients[KEEPS].error | reads.clients[VALUES].error
        for report, unit, bus_error, cause in (
            (self.fetch_error, fetch, reads.clients[FETCH].error, ErrorCause.AXI_READ),
            (self.load_error, load, load_failed, ErrorCause.AXI_READ),
            (self.store_error, store, writes.error, ErrorCause.AXI_WRITE),
        ):
            m.d.comb += [
                report.valid.eq(bus_error | unit.dram_error),
                report.cause.eq(Mux(bus_error, cause, ErrorCause.DRAM_REGION)),
            ]
        return m
