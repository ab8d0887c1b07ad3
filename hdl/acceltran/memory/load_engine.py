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
from acceltran.memory.compressed_reader import CompressedReader
from acceltran.memory.gearbox import Gearbox
from acceltran.memory.ports import BufferWrite
from acceltran.memory.region_check import RegionCheck
from acceltran.memory.transfer import WORD_BITS, WORD_COUNT_BITS, DramReadPort
from acceltran.memory.transfer_walker import TransferWalker
from acceltran.numeric.vector import Vector
from acceltran.sparsity.compress import check_tile

__all__ = ["LoadEngine"]


class LoadEngine(SharedComponent):
    """Execute LOAD commands, one after the other.

    Vector v of the tensor goes to address ``base + v // row_vectors * row_stride + v mod
    row_vectors`` of the activation (``buffer = 0``) or weight buffer; keep bits are
    ``value != 0``. A dense tensor takes ``vector_words`` words of 8 bytes per vector; a compressed
    one is laid out as ``acceltran_sim.golden.compression`` says.

    ``dram_error`` means that the transfer does not lie inside the region, or is misaligned: nothing
    of it is read (of a compressed tensor: no part that is outside). It and an error on the bus,
    which the read channel reports, leave the command unfinished; only reset helps.

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
    command : ``In(stream.Signature(command_layout(Opcode.LOAD)))``
        ``row_vectors`` is not 0.
    done : ``Out(1)``
        Strobe: the command is complete, all its vectors were taken.
    region_first, region_last : ``In(64)``
        First and last byte that may be touched.
    dram_error : ``Out(1)``
        Strobe.
    values, keeps : ``In(DramReadPort(data_bits // 64))``
        For dense tensors and values, and for keep bits. The channel should serve ``keeps`` first,
        and have room for four bursts of values and two of keep bits.
    activation, weight : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
    """

    OVERHEAD = 20

    command: stream.Interface
    done: Signal
    region_first: Signal
    region_last: Signal
    dram_error: Signal
    values: Any
    keeps: Any
    activation: stream.Interface
    weight: stream.Interface

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
            "command": In(stream.Signature(command_layout(Opcode.LOAD))),
            "done": Out(1),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "dram_error": Out(1),
            "values": In(DramReadPort(data_bits // WORD_BITS)),
            "keeps": In(DramReadPort(data_bits // WORD_BITS)),
            "activation": Out(stream.Signature(BufferWrite(fmt, tile))),
            "weight": Out(stream.Signature(BufferWrite(fmt, tile))),
        })

    def elaborate(self, platform):
        m = Module()
        beat_words = self.data_bits // WORD_BITS
        m.submodules.check = check = RegionCheck()
        m.submodules.walker = walker = TransferWalker()
        m.submodules.gearbox = gearbox = Gearbox(in_words=beat_words, out_words=self.vector_words)
        m.submodules.reader = reader = CompressedReader(
            fmt=self.fmt, tile=self.tile, beat_words=beat_words
        )
        grouper = gearbox
        if reader.words != self.vector_words:
            m.submodules.grouper = grouper = Gearbox(in_words=beat_words, out_words=reader.words)

        command = Signal(command_layout(Opcode.LOAD))
        words = Signal(WORD_COUNT_BITS)
        active = Signal()  # vectors are still to be written
        closed = Signal()  # the last group of a compressed tensor has been closed
        closing = Signal()
        unfinished = Signal(8)  # requests for values that were made and have not ended
        to_keeps = Signal()  # where the request goes that is being checked
        m.d.comb += [
            check.region_first.eq(self.region_first),
            check.region_last.eq(self.region_last),
            self.dram_error.eq(check.error),
            check.i.payload.address.eq(command.dram_address),
            check.i.payload.words.eq(words),
            reader.tensor.payload.address.eq(command.dram_address),
            reader.tensor.payload.vectors.eq(command.vectors),
            walker.i.payload.base.eq(command.base),
            walker.i.payload.vectors.eq(command.vectors),
            walker.i.payload.row_vectors.eq(command.row_vectors),
            walker.i.payload.row_stride.eq(command.row_stride),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(~active)
                with m.If(self.command.valid & ~active):
                    m.d.sync += [command.eq(self.command.payload), closed.eq(0)]
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += words.eq(command.vectors * self.vector_words)
                with m.If(command.vectors == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += walker.i.valid.eq(1)
                    m.d.sync += active.eq(1)
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                with m.If(command.compressed):
                    m.d.comb += reader.tensor.valid.eq(1)
                    with m.If(reader.tensor.ready):
                        m.next = "SPREAD"
                with m.Else():
                    m.d.comb += check.i.valid.eq(1)
                    with m.If(check.i.ready):
                        m.d.sync += to_keeps.eq(0)
                        m.next = "MOVE"
            with m.State("SPREAD"):
                m.d.comb += [
                    check.i.valid.eq(reader.request.valid),
                    check.i.payload.eq(reader.request.payload.request),
                    reader.request.ready.eq(check.i.ready),
                ]
                with m.If(check.i.valid & check.i.ready):
                    m.d.sync += to_keeps.eq(~reader.request.payload.values)
                m.d.comb += closing.eq(reader.asked & (unfinished == 0) & ~closed)
                with m.If(closed & reader.idle & grouper.idle):
                    m.next = "MOVE"
            with m.State("MOVE"):
                with m.If(~active):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

        for port, chosen in ((self.values, ~to_keeps), (self.keeps, to_keeps)):
            m.d.comb += [
                port.request.valid.eq(check.o.valid & chosen),
                port.request.payload.eq(check.o.payload),
            ]
        m.d.comb += check.o.ready.eq(
            Mux(to_keeps, self.keeps.request.ready, self.values.request.ready)
        )
        wiring.connect(m, wiring.flipped(self.keeps.beats), reader.keeps)

        # Beats to words of a vector or of a group; an empty piece closes the groups.
        beats = self.values.beats
        dense_ready, spread_ready = Signal(), Signal()
        for unit, dense, spread in (
            ((gearbox, 1, 1),) if grouper is gearbox else ((gearbox, 1, 0), (grouper, 0, 1))
        ):
            mine = Mux(command.compressed, spread, dense)
            m.d.comb += [
                unit.i.valid.eq(mine & (beats.valid | closing)),
                unit.i.payload.eq(beats.payload),
                unit.i.payload.end.eq(Mux(command.compressed, closing, beats.payload.end)),
            ]
            with m.If(closing):
                m.d.comb += [unit.i.payload.first.eq(0), unit.i.payload.last.eq(0)]
            if dense:
                m.d.comb += dense_ready.eq(unit.i.ready)
            if spread:
                m.d.comb += spread_ready.eq(unit.i.ready)
        asked, ended = Signal(), Signal()
        m.d.comb += [
            beats.ready.eq(~closing & Mux(command.compressed, spread_ready, dense_ready)),
            asked.eq(reader.request.valid & reader.request.ready & reader.request.payload.values),
            ended.eq(beats.valid & beats.ready & beats.payload.end & command.compressed),
        ]
        m.d.sync += unfinished.eq(unfinished + asked - ended)
        with m.If(closing & spread_ready):
            m.d.sync += closed.eq(1)

        # Words to vector; keep bits are seen on the way into the register.
        vector = Signal(Vector(self.fmt, self.tile))
        vector_valid, offered, write = Signal(), Signal(), Signal()
        may_load = Signal()
        groups_ready = Signal()
        elements = Mux(
            command.compressed,
            reader.o.payload.as_value(),
            gearbox.o.payload.data.as_value()[: self.tile * self.fmt.width],
        )
        m.d.comb += [
            may_load.eq(write | ~vector_valid),
            reader.groups.payload.eq(grouper.o.payload),
            reader.groups.valid.eq(grouper.o.valid & command.compressed),
            groups_ready.eq(reader.groups.ready),
            reader.o.ready.eq(may_load),
            gearbox.o.ready.eq(Mux(command.compressed, groups_ready, may_load)),
        ]
        if grouper is not gearbox:
            m.d.comb += grouper.o.ready.eq(groups_ready)
        with m.If(may_load):
            m.d.sync += vector_valid.eq(Mux(command.compressed, reader.o.valid, gearbox.o.valid))
            for k in range(self.tile):
                element = elements.word_select(k, self.fmt.width)
                m.d.sync += [vector.values[k].eq(element), vector.keep[k].eq(element.any())]

        m.d.comb += [
            offered.eq(vector_valid & active & walker.o.valid),
            write.eq(offered & Mux(command.buffer, self.weight.ready, self.activation.ready)),
            walker.o.ready.eq(write),
            self.activation.valid.eq(offered & ~command.buffer),
            self.weight.valid.eq(offered & command.buffer),
        ]
        with m.If(write & walker.o.payload.end):
            m.d.sync += active.eq(0)
        for port in (self.activation, self.weight):
            m.d.comb += port.payload.eq(Cat(walker.o.payload.address, vector))
        return m
