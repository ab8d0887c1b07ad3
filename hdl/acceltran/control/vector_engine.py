"""The vector queue's engine: softmax and layer norm, in order."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_word import QueuedCommand
from acceltran.control.kept_counter import Kept
from acceltran.control.layer_norm_engine import LayerNormEngine
from acceltran.control.softmax_engine import SoftmaxEngine
from acceltran.control.vector_command import VectorCommand
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.numeric.count_ones import count_ones

__all__ = ["VectorEngine"]


class VectorEngine(SharedComponent):
    """Run SOFTMAX and LAYERNORM commands in order, one at a time.

    Rows of a command follow those of the one before without a gap, or go with them through another
    port, where nothing but their places differs. One without rows does nothing, but gamma and beta
    are read.

    Parameters
    ----------
    fmt : FixedPoint
    tile, width, sequence, units, ports : int
        As of ``SoftmaxEngine``.
    norm_width, hidden : int
        As of ``LayerNormEngine``, where ``norm_width`` is ``width``.

    Members
    -------
    i : ``In(stream.Signature(QueuedCommand(VectorCommand().size, fmt.width)))``
    reads : ``In(ReadPort(fmt, tile)).array(ports + 2)``
        Activation buffer: scores, first and second summand.
    read_affine : ``In(ReadPort(fmt, tile))``
        Weight buffer: gamma and beta.
    writes : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(ports + 1)``
        Activation buffer: probabilities, normalised rows.
    saturated : ``Out(range(tile + 1))``
        Values that were clipped in this cycle.
    kept : ``Out(Kept(ports * tile))``
        What was written in the cycle before.
    done : ``Out(1)``
        Strobe: the oldest command is complete; two cycles after it was taken at the earliest.
    """

    i: stream.Interface
    reads: Any
    read_affine: Any
    writes: Any
    saturated: Signal
    kept: Any
    done: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        width: int,
        norm_width: int,
        sequence: int,
        hidden: int,
        units: int,
        ports: int = 1,
    ):
        self.fmt = fmt
        self.tile = tile
        self.width = width
        self.norm_width = norm_width
        self.sequence = sequence
        self.hidden = hidden
        self.units = units
        self.ports = ports
        super().__init__({
            "i": In(stream.Signature(QueuedCommand(VectorCommand().size, fmt.width))),
            "reads": In(ReadPort(fmt, tile)).array(ports + 2),
            "read_affine": In(ReadPort(fmt, tile)),
            "writes": Out(stream.Signature(BufferWrite(fmt, tile))).array(ports + 1),
            "saturated": Out(range(tile + 1)),
            "kept": Out(Kept(ports * tile)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        shape = {"fmt": self.fmt, "tile": self.tile}
        m.submodules.softmax = softmax = SoftmaxEngine(
            **shape, width=self.width, sequence=self.sequence, units=self.units, ports=self.ports
        )
        m.submodules.layer_norm = layer_norm = LayerNormEngine(
            **shape, width=self.norm_width, hidden=self.hidden
        )
        reads = [*softmax.reads, layer_norm.read_a, layer_norm.read_b]
        for inner, outer in zip(reads, self.reads, strict=True):
            wiring.connect(m, inner, wiring.flipped(outer))
        wiring.connect(m, layer_norm.read_affine, wiring.flipped(self.read_affine))
        writes = [*softmax.writes, layer_norm.write]
        for inner, outer in zip(writes, self.writes, strict=True):
            wiring.connect(m, inner, wiring.flipped(outer))

        # A softmax without rows is done two cycles after it was taken: its queue knows it by then.
        empty, nothing = Signal(), Signal()
        under_way, norms = (
            Signal(range(2 * SoftmaxEngine.UNDER_WAY)),
            Signal(),
        )  # commands, and whether they are layer norms
        empty_taken = Signal()
        command = data.View(VectorCommand(), self.i.payload.body)
        m.d.comb += [
            Value.cast(softmax.i.payload.body).eq(Value.cast(command.body.softmax)),
            Value.cast(layer_norm.i.payload.body).eq(Value.cast(command.body.layernorm)),
            softmax.i.payload.threshold.eq(self.i.payload.threshold),
            layer_norm.i.payload.threshold.eq(self.i.payload.threshold),
            self.saturated.eq(layer_norm.saturated),
            self.done.eq(softmax.done | layer_norm.done | nothing),
        ]
        # An engine takes the next command while it is at work if it can be told so.
        with m.If((under_way == 0) | (~empty & ~nothing & (norms == command.layernorm))):
            with m.If(command.layernorm):
                m.d.comb += [
                    layer_norm.i.valid.eq(self.i.valid),
                    self.i.ready.eq(layer_norm.i.ready),
                ]
            with m.Elif(command.body.softmax.rows != 0):
                m.d.comb += [
                    softmax.i.valid.eq(self.i.valid),
                    self.i.ready.eq(softmax.i.ready),
                ]
            with m.Elif(under_way == 0):
                m.d.comb += self.i.ready.eq(1)
                m.d.comb += empty_taken.eq(self.i.valid)
        keep = Signal(self.ports * self.tile)
        m.d.comb += keep.eq(
            Cat(Mux(w.valid & w.ready, w.payload.vector.keep, 0) for w in softmax.writes)
        )
        with m.If(layer_norm.write.valid & layer_norm.write.ready):
            m.d.comb += keep.eq(layer_norm.write.payload.vector.keep)
        entry = Signal.like(self.kept.entry)
        m.d.sync += [self.kept.entry.eq(entry), self.kept.count.eq(count_ones(keep))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                norms.eq(command.layernorm),
                entry.eq(
                    Mux(
                        command.layernorm,
                        command.body.layernorm.threshold,
                        command.body.softmax.threshold,
                    )
                ),
            ]
        m.d.sync += [empty.eq(empty_taken), nothing.eq(empty)]
        m.d.sync += under_way.eq(under_way + (self.i.valid & self.i.ready) - self.done)
        return m
