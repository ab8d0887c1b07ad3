"""Store tensors from the activation buffer to DRAM."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, is_bus_width
from acceltran.memory.gearbox import Gearbox
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort
from acceltran.memory.region_check import RegionCheck
from acceltran.memory.transfer import WORD_BITS, WORD_COUNT_BITS, Beat, TransferRequest
from acceltran.memory.transfer_walker import TransferWalker
from acceltran.memory.vector_reader import VectorReader

__all__ = ["StoreEngine"]


class StoreEngine(SharedComponent):
    """Execute STORE commands, one after the other.

    Vector v of the tensor is read from address ``base + v // row_vectors * row_stride + v mod
    row_vectors`` of the activation buffer. A dense tensor takes ``vector_words`` words of 8 bytes
    per vector in DRAM; bits beyond the last element are 0.

    ``dram_error`` means that the transfer does not lie inside the region, or is misaligned: nothing
    of it is written. It and an error on the bus, which the write channel reports, leave the command
    unfinished; only reset helps.

    A vector moves per cycle, or a beat, whichever is slower; a command takes ``OVERHEAD`` cycles
    more and the latency of memory.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    data_bits : int
        Width of the AXI data bus: 64, 128, 256, 512 or 1024.

    Members
    -------
    command : ``In(stream.Signature(command_layout(Opcode.STORE)))``
        ``row_vectors`` is not 0.
    done : ``Out(1)``
        Strobe: memory has confirmed all of the command's data.
    region_first, region_last : ``In(64)``
        First and last byte that may be touched.
    dram_error : ``Out(1)``
        Strobe.
    port : ``In(ReadPort(fmt, tile))``
        Of the activation buffer.
    request : ``Out(stream.Signature(TransferRequest()))``
    beats : ``Out(stream.Signature(Beat(data_bits // 64)))``
    idle : ``In(1)``
        These three go to the write channel.
    """

    OVERHEAD = 48
    READER_DEPTH = 8

    command: stream.Interface
    done: Signal
    region_first: Signal
    region_last: Signal
    dram_error: Signal
    port: Any
    request: stream.Interface
    beats: stream.Interface
    idle: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, data_bits: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if not is_bus_width(data_bits):
            raise ValueError(
                f"AXI data width must be 64, 128, 256, 512 or 1024 bits, not {data_bits!r}"
            )
        self.fmt = fmt
        self.tile = tile
        self.data_bits = data_bits
        self.vector_words = -(-tile * fmt.width // WORD_BITS)
        super().__init__({
            "command": In(stream.Signature(command_layout(Opcode.STORE))),
            "done": Out(1),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "dram_error": Out(1),
            "port": In(ReadPort(fmt, tile)),
            "request": Out(stream.Signature(TransferRequest())),
            "beats": Out(stream.Signature(Beat(data_bits // WORD_BITS))),
            "idle": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.check = check = RegionCheck()
        m.submodules.walker = walker = TransferWalker()
        m.submodules.reader = reader = VectorReader(
            fmt=self.fmt, tile=self.tile, depth=self.READER_DEPTH
        )
        m.submodules.gearbox = gearbox = Gearbox(
            in_words=self.vector_words, out_words=self.data_bits // WORD_BITS
        )
        wiring.connect(m, check.o, wiring.flipped(self.request))
        wiring.connect(m, reader.port, wiring.flipped(self.port))

        command = Signal(command_layout(Opcode.STORE))
        words = Signal(WORD_COUNT_BITS)
        left = Signal(ADDRESS_WIDTH)
        m.d.comb += [
            check.region_first.eq(self.region_first),
            check.region_last.eq(self.region_last),
            self.dram_error.eq(check.error),
            check.i.payload.address.eq(command.dram_address),
            check.i.payload.words.eq(words),
            walker.i.payload.base.eq(command.base),
            walker.i.payload.vectors.eq(command.vectors),
            walker.i.payload.row_vectors.eq(command.row_vectors),
            walker.i.payload.row_stride.eq(command.row_stride),
            reader.addresses.valid.eq(walker.o.valid),
            reader.addresses.payload.eq(walker.o.payload.address),
            walker.o.ready.eq(reader.addresses.ready),
            gearbox.offset.eq(command.dram_address[3:]),
            gearbox.i.valid.eq(reader.vectors.valid),
            gearbox.i.payload.data.eq(reader.vectors.payload.values.as_value()),
            gearbox.i.payload.last.eq(self.vector_words - 1),
            gearbox.i.payload.end.eq(left == 1),
            reader.vectors.ready.eq(gearbox.i.ready),
        ]
        with m.FSM() as fsm:
            m.d.comb += [
                self.beats.payload.eq(gearbox.o.payload),
                self.beats.valid.eq(gearbox.o.valid & fsm.ongoing("MOVE")),
                gearbox.o.ready.eq(self.beats.ready & fsm.ongoing("MOVE")),
            ]
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += [
                    command.eq(self.command.payload),
                    left.eq(self.command.payload.vectors),
                ]
                with m.If(self.command.valid):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += words.eq(command.vectors * self.vector_words)
                with m.If(command.vectors == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += check.i.valid.eq(1)
                m.next = "REQUEST"
            with m.State("REQUEST"):
                with m.If(self.request.valid & self.request.ready):
                    m.d.comb += walker.i.valid.eq(1)
                    m.next = "MOVE"
            with m.State("MOVE"):
                with m.If(gearbox.i.valid & gearbox.i.ready):
                    m.d.sync += left.eq(left - 1)
                with m.If(self.beats.valid & self.beats.ready & self.beats.payload.end):
                    m.next = "CONFIRM"
            with m.State("CONFIRM"):
                with m.If(self.idle):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m
