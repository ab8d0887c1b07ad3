"""LAYERNORM commands: rows from the activation buffer through the layer-norm unit and back."""

from typing import Any

from amaranth import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.layer_norm import LayerNorm
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.memory.queue import Queue
from acceltran.memory.ram import Ram
from acceltran.memory.row_walker import RowRange, RowWalker
from acceltran.memory.vector_reader import VectorReader

__all__ = ["LayerNormCommand", "LayerNormEngine"]

PLACES = (
    *("a_base", "a_row_stride", "b_base", "b_row_stride", "target_base", "target_row_stride"),
    *("rows", "own_rows", "first_row"),
)
"""Fields that need not be the same for all rows in the unit at a time."""


class LayerNormCommand(data.StructLayout):
    """Body of a LAYERNORM and its pruning threshold."""

    def __init__(self, fmt: FixedPoint):
        super().__init__({
            "body": command_layout(Opcode.LAYERNORM),
            "threshold": unsigned(fmt.width),
        })


class LayerNormEngine(SharedComponent):
    """Run LAYERNORM commands, one after another.

    Gamma and beta are read once per command into a local memory, while its first row is on the way
    to where they are needed, and replayed for every row. A row is read whole before any of it is
    written, so the target may be one of the sources.

    Throughput is that of the unit. Rows of a command that differs from the one before in ``PLACES``
    only follow without a gap.

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

    UNDER_WAY = 4
    """Commands that are taken and not done, at most."""

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
        # Rows of a command that is alike may follow those of the one before at once: what leaves
        # the unit is still walked for that one.
        m.submodules.targets = targets = Queue(shape=RowRange(), depth=self.UNDER_WAY)
        m.submodules.replays = replays = Queue(shape=RowRange(), depth=self.UNDER_WAY)
        m.submodules.replay = replay = RowWalker()
        wiring.connect(m, targets.o, walkers["target"].i)
        wiring.connect(m, replays.o, replay.i)
        ranges = {
            "a": walkers["a"].i,
            "b": walkers["b"].i,
            "target": targets.i,
        }
        for name, rows in ranges.items():
            m.d.comb += [
                rows.payload.base.eq(body[f"{name}_base"]),
                rows.payload.row_stride.eq(body[f"{name}_row_stride"]),
                rows.payload.rows.eq(body.rows),
                rows.payload.blocks.eq(body.blocks),
            ]
        m.d.comb += [
            replays.i.payload.rows.eq(body.rows),
            replays.i.payload.blocks.eq(body.blocks),
        ]
        under_way, begun = Signal(range(self.UNDER_WAY + 1)), Signal()
        alike, offered, ended = Signal(), Signal(), Signal()
        following = self.i.payload.body
        m.d.sync += [
            offered.eq(self.i.valid & ~self.i.ready),
            alike.eq(
                (command.threshold == self.i.payload.threshold)
                & (following.rows != 0)
                & Cat(
                    body[name] == following[name] for name, _ in body.shape() if name not in PLACES
                ).all()
            ),
            under_way.eq(under_way + begun - ended),
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

        # Gamma, then beta, into the memories. Every command reads them, also one that finds them
        # there: clusters read together, whatever their pace.
        affine = readers["affine"]
        asked, stored = Signal(range(2 * most + 1)), Signal(range(2 * most + 1))
        twice = Signal(range(2 * most + 1))
        second, there, read = Signal(), Signal(), Signal()
        accept = Signal()
        to_read = Signal(range(self.UNDER_WAY + 1))  # commands whose gamma and beta are not read
        m.d.comb += [
            accept.eq(self.i.valid & self.i.ready),
            twice.eq(body.blocks << 1),
            second.eq(stored >= body.blocks),
            read.eq(affine.vectors.valid & (stored + 1 == twice)),
            gamma.write_address.eq(stored),
            beta.write_address.eq(stored - body.blocks),
            gamma.write_data.eq(Value.cast(affine.vectors.payload["values"])),
            beta.write_data.eq(Value.cast(affine.vectors.payload["values"])),
            affine.vectors.ready.eq(1),
            gamma.write_enable.eq(affine.vectors.valid & ~second & ~there),
            beta.write_enable.eq(affine.vectors.valid & second & ~there),
        ]
        m.d.comb += affine.addresses.valid.eq((to_read != 0) & (asked != twice))
        with m.If(affine.addresses.valid & affine.addresses.ready):
            m.d.sync += asked.eq(asked + 1)
        with m.If(affine.vectors.valid):
            m.d.sync += stored.eq(stored + 1)
        m.d.sync += to_read.eq(to_read + accept - read)
        with m.If(read):
            m.d.sync += [asked.eq(0), stored.eq(0), there.eq(1)]
        with m.If(asked < body.blocks):
            m.d.comb += affine.addresses.payload.eq(body.gamma_base + asked)
        with m.Else():
            m.d.comb += affine.addresses.payload.eq(body.beta_base + asked - body.blocks)

        nothing = Signal()  # the command has no rows
        with m.FSM(init="idle"):
            with m.State("idle"):
                m.d.comb += self.i.ready.eq(to_read == 0)
                with m.If(accept):
                    m.d.sync += there.eq(0)
                    m.next = "begin"
            with m.State("begin"):
                starts = [*ranges.values(), replays.i]
                with m.If((body.rows == 0) & (to_read == 0)):
                    m.d.comb += nothing.eq(1)
                    m.next = "idle"
                m.d.comb += [
                    begun.eq(Cat(rows.ready for rows in starts).all() & (body.rows != 0)),
                    *(rows.valid.eq(begun) for rows in starts),
                ]
                with m.If(begun):
                    m.next = "run"
            with m.State("run"):
                with m.If(ended & (under_way == 1)):
                    m.next = "idle"
                with m.Elif(
                    offered & alike & (under_way < self.UNDER_WAY) & (to_read < self.UNDER_WAY)
                ):
                    m.d.comb += self.i.ready.eq(1)
                    m.next = "begin"
        with m.If(accept):
            m.d.sync += Value.cast(command).eq(self.i.payload)

        # Replay gamma and beta: fetch a row of the memories, offer it until it is taken.
        fetched, fetch = Signal(), Signal()
        m.d.comb += [
            fetch.eq(replay.o.valid & there & (~fetched | unit.affine.ready)),
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
            ended.eq(self.write.valid & self.write.ready & target.payload.end),
            self.done.eq(ended | nothing),
        ]
        return m
