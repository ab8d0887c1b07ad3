"""Load tensors from DRAM into the on-chip buffers."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, is_bus_width
from acceltran.memory.gearbox import Gearbox
from acceltran.memory.ports import BufferWrite
from acceltran.memory.region_check import RegionCheck
from acceltran.memory.transfer import WORD_BITS, WORD_COUNT_BITS, DramReadPort
from acceltran.memory.transfer_walker import TransferWalker
from acceltran.numeric.vector import Vector

__all__ = ["LoadEngine"]


class LoadEngine(SharedComponent):
    """Execute LOAD commands, one after the other.

    Vector v of the tensor goes to address ``base + v // row_vectors * row_stride + v mod
    row_vectors`` of the activation (``buffer = 0``) or weight buffer; keep bits are
    ``value != 0``. A dense tensor takes ``vector_words`` words of 8 bytes per vector.

    ``dram_error`` means that the transfer does not lie inside the region, or is misaligned: nothing
    of it is read. It and an error on the bus, which the read channel reports, leave the command
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
    command : ``In(stream.Signature(command_layout(Opcode.LOAD)))``
        ``row_vectors`` is not 0.
    done : ``Out(1)``
        Strobe: the command is complete, its last vector was taken in this cycle.
    region_first, region_last : ``In(64)``
        First and last byte that may be touched.
    dram_error : ``Out(1)``
        Strobe.
    values : ``In(DramReadPort(data_bits // 64))``
    activation, weight : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
    """

    OVERHEAD = 20

    command: stream.Interface
    done: Signal
    region_first: Signal
    region_last: Signal
    dram_error: Signal
    values: Any
    activation: stream.Interface
    weight: stream.Interface

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
            "command": In(stream.Signature(command_layout(Opcode.LOAD))),
            "done": Out(1),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "dram_error": Out(1),
            "values": In(DramReadPort(data_bits // WORD_BITS)),
            "activation": Out(stream.Signature(BufferWrite(fmt, tile))),
            "weight": Out(stream.Signature(BufferWrite(fmt, tile))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.check = check = RegionCheck()
        m.submodules.walker = walker = TransferWalker()
        m.submodules.gearbox = gearbox = Gearbox(
            in_words=self.data_bits // WORD_BITS, out_words=self.vector_words
        )

        command = Signal(command_layout(Opcode.LOAD))
        words = Signal(WORD_COUNT_BITS)
        finished = Signal()
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
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += command.eq(self.command.payload)
                with m.If(self.command.valid):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += words.eq(command.vectors * self.vector_words)
                with m.If(command.vectors == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += walker.i.valid.eq(1)
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += check.i.valid.eq(1)
                with m.If(check.i.ready):
                    m.next = "MOVE"
            with m.State("MOVE"):
                with m.If(finished):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

        wiring.connect(m, check.o, wiring.flipped(self.values.request))
        wiring.connect(m, wiring.flipped(self.values.beats), gearbox.i)

        # Words to vector; keep bits are seen on the way into the register.
        vector = Signal(Vector(self.fmt, self.tile))
        vector_valid, offered, write = Signal(), Signal(), Signal()
        dense = gearbox.o.payload.data.as_value()
        m.d.comb += gearbox.o.ready.eq(write | ~vector_valid)
        with m.If(gearbox.o.ready):
            m.d.sync += vector_valid.eq(gearbox.o.valid)
            for k in range(self.tile):
                element = dense.word_select(k, self.fmt.width)
                m.d.sync += [vector.values[k].eq(element), vector.keep[k].eq(element.any())]

        m.d.comb += [
            offered.eq(vector_valid & fsm.ongoing("MOVE")),
            write.eq(offered & Mux(command.buffer, self.weight.ready, self.activation.ready)),
            walker.o.ready.eq(write),
            finished.eq(write & walker.o.payload.end),
            self.activation.valid.eq(offered & ~command.buffer),
            self.weight.valid.eq(offered & command.buffer),
        ]
        for port in (self.activation, self.weight):
            m.d.comb += port.payload.eq(Cat(walker.o.payload.address, vector))
        return m
