"""LAYERNORM commands: rows from the activation buffer through the layer-norm unit and back."""

from typing import Any

from amaranth import Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.layer_norm import LayerNorm
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.memory.ram import Ram
from acceltran.memory.row_walker import RowWalker
from acceltran.memory.vector_reader import VectorReader

__all__ = ["LayerNormCommand", "LayerNormEngine"]


class LayerNormCommand(data.StructLayout):
    """Body of a LAYERNORM and its pruning threshold."""

    def __init__(self, fmt: FixedPoint):
        super().__init__({
            "body": command_layout(Opcode.LAYERNORM),
            "threshold": unsigned(fmt.width),
        })


class LayerNormEngine(SharedComponent):
    """Run LAYERNORM commands, one after another.

    Gamma and beta are read once per command into a local memory, and replayed for every row. A
    row is read whole before any of it is written, so the target may be one of the sources.

    Throughput is that of the unit; a command begins with ``2 * blocks`` reads of gamma and beta.

    Parameters
    ----------
    fmt : FixedPoint
    tile : int
        Elements of a vector.
    width : int
        Elements that the unit takes per cycle and pass.
    hidden : int
        Longest row.

    Members
    -------
    i : ``In(stream.Signature(LayerNormCommand(fmt)))``
    read_a, read_b : ``In(ReadPort(fmt, tile))``
        Activation buffer.
    read_affine : ``In(ReadPort(fmt, tile))``
        Weight buffer.
    write : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
    saturated : ``Out(range(tile + 1))``
        Values that were clipped among the results of this cycle, for counting.
    done : ``Out(1)``
        Strobe: the last write of a command was taken, or it had no rows.
    """

    i: stream.Interface
    read_a: Any
    read_b: Any
    read_affine: Any
    write: stream.Interface
    saturated: Signal
    done: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, width: int, hidden: int):
        if hidden % tile or hidden < 2 * tile:
            raise ValueError(
                f"Hidden size must be a multiple of the vector ({tile}), at least twice it,"
                f" not {hidden!r}"
            )
        self.fmt = fmt
        self.tile = tile
        self.width = width
        self.hidden = hidden
        super().__init__({
            "i": In(stream.Signature(LayerNormCommand(fmt))),
            "read_a": In(ReadPort(fmt, tile)),
            "read_b": In(ReadPort(fmt, tile)),
            "read_affine": In(ReadPort(fmt, tile)),
            "write": Out(stream.Signature(BufferWrite(fmt, tile))),
            "saturated": Out(range(tile + 1)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        vector_width = self.tile * self.fmt.width
        most = self.hidden // self.tile
        readers = {}
        for name in ("a", "b", "affine"):
            reader = VectorReader(fmt=self.fmt, tile=self.tile)
            m.submodules[f"reader_{name}"] = readers[name] = reader
            wiring.connect(m, reader.port, wiring.flipped(getattr(self, f"read_{name}")))
        walkers = {name: RowWalker() for name in ("a", "b", "target")}
        for name, walker in walkers.items():
            m.submodules[f"walker_{name}"] = walker
        m.submodules.unit = unit = LayerNorm(
            fmt=self.fmt, tile=self.tile, width=self.width, hidden=self.hidden
        )
        m.submodules.gamma = gamma = Ram(width=vector_width, depth=most)
        m.submodules.beta = beta = Ram(width=vector_width, depth=most)

        command = Signal(LayerNormCommand(self.fmt))
        body = command.body
        for name, walker in walkers.items():
            m.d.comb += [
                walker.i.payload.base.eq(body[f"{name}_base"]),
                walker.i.payload.row_stride.eq(body[f"{name}_row_stride"]),
                walker.i.payload.rows.eq(body.rows),
                walker.i.payload.blocks.eq(body.blocks),
            ]
        for name in ("a", "b"):
            m.d.comb += [
                readers[name].addresses.valid.eq(walkers[name].o.valid),
                readers[name].addresses.payload.eq(walkers[name].o.payload.address),
                walkers[name].o.ready.eq(readers[name].addresses.ready),
                unit.i.payload[name].eq(readers[name].vectors.payload["values"]),
            ]
        both = Signal()
        m.d.comb += [
            both.eq(readers["a"].vectors.valid & readers["b"].vectors.valid),
            unit.i.valid.eq(both),
            readers["a"].vectors.ready.eq(both & unit.i.ready),
            readers["b"].vectors.ready.eq(both & unit.i.ready),
        ]
        for name in unit.fields.shape().members:
            m.d.comb += unit.fields[name].eq(body[name])
        m.d.comb += [
            unit.blocks.eq(body.blocks),
            unit.threshold.eq(command.threshold),
            self.saturated.eq(unit.saturated),
        ]

        # Gamma, then beta, into the memories.
        affine = readers["affine"]
        asked, stored = Signal(range(2 * most + 1)), Signal(range(2 * most + 1))
        twice = Signal(range(2 * most + 1))
        second = Signal()
        m.d.comb += [
            twice.eq(body.blocks << 1),
            second.eq(stored >= body.blocks),
            gamma.write_address.eq(stored),
            beta.write_address.eq(stored - body.blocks),
            gamma.write_data.eq(Value.cast(affine.vectors.payload["values"])),
            beta.write_data.eq(Value.cast(affine.vectors.payload["values"])),
            affine.vectors.ready.eq(1),
            gamma.write_enable.eq(affine.vectors.valid & ~second),
            beta.write_enable.eq(affine.vectors.valid & second),
        ]
        with m.If(affine.vectors.valid):
            m.d.sync += stored.eq(stored + 1)
        with m.If(asked < body.blocks):
            m.d.comb += affine.addresses.payload.eq(body.gamma_base + asked)
        with m.Else():
            m.d.comb += affine.addresses.payload.eq(body.beta_base + asked - body.blocks)

        nothing = Signal()  # the command has no rows
        with m.FSM(init="idle"):
            with m.State("idle"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [
                        Value.cast(command).eq(self.i.payload),
                        asked.eq(0),
                        stored.eq(0),
                    ]
                    m.next = "load"
            with m.State("load"):
                m.d.comb += affine.addresses.valid.eq(asked != twice)
                with m.If(affine.addresses.valid & affine.addresses.ready):
                    m.d.sync += asked.eq(asked + 1)
                with m.If(stored == twice):
                    m.next = "begin"
                    with m.If(body.rows == 0):
                        m.d.comb += nothing.eq(1)
                        m.next = "idle"
            with m.State("begin"):
                m.d.comb += [walker.i.valid.eq(1) for walker in walkers.values()]
                m.next = "run"
            with m.State("run"):
                with m.If(self.done):
                    m.next = "idle"

        # Replay gamma and beta: fetch a row of the memories, offer it until it is taken.
        m.submodules.replay = replay = RowWalker()
        fetched, fetch = Signal(), Signal()
        m.d.comb += [
            replay.i.valid.eq(walkers["target"].i.valid),
            replay.i.payload.rows.eq(body.rows),
            replay.i.payload.blocks.eq(body.blocks),
            fetch.eq(replay.o.valid & (~fetched | unit.affine.ready)),
            replay.o.ready.eq(fetch),
            unit.affine.valid.eq(fetched),
            Value.cast(unit.affine.payload.gamma).eq(gamma.read_data),
            Value.cast(unit.affine.payload.beta).eq(beta.read_data),
        ]
        for ram in (gamma, beta):
            m.d.comb += [
                ram.read_enable.eq(fetch),
                ram.read_address.eq(replay.o.payload.address),
            ]
        with m.If(fetch):
            m.d.sync += fetched.eq(1)
        with m.Elif(unit.affine.ready):
            m.d.sync += fetched.eq(0)

        target = walkers["target"].o
        m.d.comb += [
            self.write.valid.eq(unit.o.valid & target.valid),
            self.write.payload.address.eq(target.payload.address),
            Value.cast(self.write.payload.vector).eq(unit.o.payload),
            target.ready.eq(self.write.valid & self.write.ready),
            unit.o.ready.eq(target.valid & self.write.ready),
            self.done.eq((self.write.valid & self.write.ready & target.payload.end) | nothing),
        ]
        return m
