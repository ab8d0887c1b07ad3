"""Store tensors from the activation buffer to DRAM."""

from typing import Any

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, is_bus_width
from acceltran.memory.gearbox import Gearbox
from acceltran.memory.keep_packer import KeepPacker
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort
from acceltran.memory.region_check import RegionCheck
from acceltran.memory.transfer import WORD_BITS, WORD_COUNT_BITS, Beat, TransferRequest
from acceltran.memory.transfer_walker import TransferWalker
from acceltran.memory.vector_reader import VectorReader
from acceltran.sparsity.compress import Compress, check_tile

__all__ = ["StoreEngine"]


class Section(enum.Enum, shape=2):
    """What is being written."""

    DENSE = 0
    KEEPS = 1
    VALUES = 2


class StoreEngine(SharedComponent):
    """Execute STORE commands, one after the other.

    Vector v of the tensor is read from address ``base + v // row_vectors * row_stride + v mod
    row_vectors`` of the activation buffer. A dense tensor takes ``vector_words`` words of 8 bytes
    per vector in DRAM; bits beyond the last element are 0. A compressed one is laid out as
    ``acceltran_sim.golden.compression`` says; its vectors are read twice.

    ``dram_error`` means that the transfer does not lie inside the region, or is misaligned: nothing
    of it is written (of a compressed tensor: not the section that is partly outside). It and an
    error on the bus, which the write channel reports, leave the command unfinished; only reset
    helps.

    A vector moves per cycle, or a beat, whichever is slower; a command takes ``OVERHEAD`` cycles
    more and the latency of memory.

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
        check_tile(tile)
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
        m.submodules.packer = packer = KeepPacker(tile=self.tile)
        m.submodules.compress = compress = Compress(fmt=self.fmt, tile=self.tile)
        m.submodules.gearbox = gearbox = Gearbox(
            in_words=max(self.vector_words, compress.words), out_words=self.data_bits // WORD_BITS
        )
        wiring.connect(m, check.o, wiring.flipped(self.request))
        wiring.connect(m, reader.port, wiring.flipped(self.port))

        command = Signal(command_layout(Opcode.STORE))
        section = Signal(Section)
        address = Signal(ADDRESS_BITS)  # of the section
        words = Signal(WORD_COUNT_BITS)  # of the section
        words_left = Signal(WORD_COUNT_BITS)  # that the gearbox has not taken
        left = Signal(ADDRESS_WIDTH)  # vectors that have not been taken for the section
        sent = Signal()
        bits = Signal(range(((self.tile * self.fmt.width) << ADDRESS_WIDTH) + WORD_BITS))
        m.d.comb += [
            check.region_first.eq(self.region_first),
            check.region_last.eq(self.region_last),
            self.dram_error.eq(check.error),
            check.i.payload.address.eq(address),
            check.i.payload.words.eq(words),
            walker.i.payload.base.eq(command.base),
            walker.i.payload.vectors.eq(command.vectors),
            walker.i.payload.row_vectors.eq(command.row_vectors),
            walker.i.payload.row_stride.eq(command.row_stride),
            reader.addresses.valid.eq(walker.o.valid),
            reader.addresses.payload.eq(walker.o.payload.address),
            walker.o.ready.eq(reader.addresses.ready),
            gearbox.offset.eq(address[3:]),
        ]
        with m.If(reader.vectors.valid & reader.vectors.ready):
            m.d.sync += left.eq(left - 1)
        with m.If(gearbox.i.valid & gearbox.i.ready):
            m.d.sync += words_left.eq(words_left - gearbox.i.payload.last - 1)
        with m.FSM() as fsm:
            sending = fsm.ongoing("MOVE") & ~sent
            m.d.comb += [
                self.beats.payload.eq(gearbox.o.payload),
                self.beats.valid.eq(gearbox.o.valid & sending),
                gearbox.o.ready.eq(self.beats.ready & sending),
            ]
            with m.State("IDLE"):
                m.d.comb += [self.command.ready.eq(1), packer.clear.eq(1)]
                m.d.sync += [
                    command.eq(self.command.payload),
                    address.eq(self.command.payload.dram_address),
                    section.eq(Section.DENSE),
                ]
                with m.If(self.command.valid):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += words.eq(command.vectors * self.vector_words)
                with m.If(command.vectors == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(command.compressed):
                    m.d.sync += [
                        section.eq(Section.KEEPS),
                        bits.eq(command.vectors * self.tile + (WORD_BITS - 1)),
                    ]
                    m.next = "ROUND"
                with m.Else():
                    m.next = "CHECK"
            with m.State("COUNT"):
                m.d.sync += [
                    section.eq(Section.VALUES),
                    address.eq(address + (words << 3)),
                    bits.eq(packer.total * self.fmt.width),
                ]
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += bits.eq(bits + (WORD_BITS - 1))
                m.next = "ROUND"
            with m.State("ROUND"):
                m.d.sync += words.eq(bits[exact_log2(WORD_BITS) :])
                m.next = "CHECK"
                with m.If(bits[exact_log2(WORD_BITS) :] == 0):
                    m.next = "CONFIRM"
            with m.State("CHECK"):
                m.d.comb += check.i.valid.eq(1)
                m.d.sync += [words_left.eq(words), left.eq(command.vectors), sent.eq(0)]
                m.next = "REQUEST"
            with m.State("REQUEST"):
                with m.If(self.request.valid & self.request.ready):
                    m.d.comb += walker.i.valid.eq(1)
                    m.next = "MOVE"
            with m.State("MOVE"):
                with m.If(self.beats.valid & self.beats.ready & self.beats.payload.end):
                    m.d.sync += sent.eq(1)
                with m.If(sent & (left == 0)):
                    m.next = "CONFIRM"
                    with m.If(section == Section.KEEPS):
                        m.next = "COUNT"
            with m.State("CONFIRM"):
                with m.If(self.idle):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

        # Vectors go straight to the gearbox, or as keep bits, or packed.
        vectors, piece = reader.vectors, gearbox.i
        piece_data = Signal(WORD_BITS * gearbox.in_words)
        piece_last = Signal(range(gearbox.in_words))
        piece_end = Signal()
        m.d.comb += [
            packer.i.payload.keep.eq(vectors.payload.keep),
            packer.i.payload.end.eq(left == 1),
            compress.i.payload.vector.eq(vectors.payload),
            compress.i.payload.end.eq(left == 1),
            piece.payload.eq(Cat(piece_data, Const(0, len(piece_last)), piece_last, piece_end)),
            piece_end.eq(words_left == piece_last + 1),
        ]
        with m.Switch(section):
            with m.Case(Section.DENSE):
                m.d.comb += [
                    piece.valid.eq(vectors.valid),
                    piece_data.eq(vectors.payload.values.as_value().as_unsigned()),
                    piece_last.eq(self.vector_words - 1),
                    vectors.ready.eq(piece.ready),
                ]
            with m.Case(Section.KEEPS):
                m.d.comb += [
                    piece.valid.eq(packer.o.valid),
                    piece_data.eq(packer.o.payload),
                    packer.i.valid.eq(vectors.valid),
                    packer.o.ready.eq(piece.ready),
                    vectors.ready.eq(packer.i.ready),
                ]
            with m.Case(Section.VALUES):
                m.d.comb += [
                    piece.valid.eq(compress.o.valid),
                    piece_data.eq(compress.o.payload.data.as_value()),
                    piece_last.eq(compress.o.payload.last),
                    compress.i.valid.eq(vectors.valid),
                    compress.o.ready.eq(piece.ready),
                    vectors.ready.eq(compress.i.ready),
                ]
        return m
