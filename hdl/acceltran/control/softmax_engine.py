"""SOFTMAX commands: rows from the activation buffer through the softmax units and back."""

from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.pruning_boundary import PruningBoundary
from acceltran.compute.softmax import Scores, Softmax
from acceltran.control.command_layout import command_layout
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.memory.queue import Queue
from acceltran.memory.row_walker import RowRange, RowWalker
from acceltran.memory.vector_reader import VectorReader
from acceltran.numeric.vector import Vector

__all__ = ["SoftmaxCommand", "SoftmaxEngine"]

SETTINGS = ("blocks", "keys", "constant", "shift", "threshold")
"""Fields that hold for all rows in the units at a time."""


class SoftmaxCommand(data.StructLayout):
    """Body of a SOFTMAX and its pruning threshold."""

    def __init__(self, fmt: FixedPoint):
        super().__init__({
            "body": command_layout(Opcode.SOFTMAX),
            "threshold": unsigned(fmt.width),
        })


class SoftmaxEngine(SharedComponent):
    """Run SOFTMAX commands, one after another.

    Rows are dealt to ``units`` softmax units in turn, and their results collected in the same
    order. A row is read whole before any of it is written, so the target may be the source. Rows of
    a command whose ``SETTINGS`` and threshold are those of the one before follow without a gap.

    One ``PruningBoundary`` serves all units: it finds the boundary of a command's threshold while
    the first row is read.

    Throughput is that of all units together, at most one vector per cycle: several units have
    queues of a row at both ends, so that one takes a row while another gets the next.

    Parameters
    ----------
    fmt : FixedPoint
    tile : int
        Elements of a vector.
    width : int
        Values that a unit takes per cycle and pass.
    sequence : int
        Longest row.
    units : int
        Softmax units; at least 1.

    Members
    -------
    i : ``In(stream.Signature(SoftmaxCommand(fmt)))``
    read : ``In(ReadPort(fmt, tile))``
    write : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
    done : ``Out(1)``
        Strobe: the last write of the oldest command was taken.
    """

    UNDER_WAY = 4
    """Commands that are taken and not done, at most."""

    i: stream.Interface
    read: Any
    write: stream.Interface
    done: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, width: int, sequence: int, units: int):
        if units < 1:
            raise ValueError(f"Number of softmax units must be at least 1, not {units!r}")
        self.fmt = fmt
        self.tile = tile
        self.width = width
        self.sequence = sequence
        self.units = units
        super().__init__({
            "i": In(stream.Signature(SoftmaxCommand(fmt))),
            "read": In(ReadPort(fmt, tile)),
            "write": Out(stream.Signature(BufferWrite(fmt, tile))),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.source = source = RowWalker()
        m.submodules.target = target = RowWalker()
        m.submodules.reader = reader = VectorReader(fmt=self.fmt, tile=self.tile)
        wiring.connect(m, reader.port, wiring.flipped(self.read))

        command = Signal(SoftmaxCommand(self.fmt))
        body = self.i.payload.body
        taken = Signal()
        # Rows of a command that is alike may follow those of the one before at once.
        m.submodules.targets = targets = Queue(shape=RowRange(), depth=self.UNDER_WAY)
        wiring.connect(m, targets.o, target.i)
        under_way = Signal(range(self.UNDER_WAY + 1))
        alike, offered = Signal(), Signal()
        m.d.sync += [
            offered.eq(self.i.valid & ~self.i.ready),
            alike.eq(
                (command.threshold == self.i.payload.threshold)
                & Cat(command.body[name] == body[name] for name in SETTINGS).all()
            ),
            under_way.eq(under_way + taken - self.done),
        ]
        m.d.comb += [
            self.i.ready.eq(
                source.i.ready
                & ((under_way == 0) | ((under_way < self.UNDER_WAY) & offered & alike))
            ),
            taken.eq(self.i.valid & self.i.ready),
            source.i.valid.eq(taken),
            targets.i.valid.eq(taken),
            source.i.payload.base.eq(body.source_base),
            source.i.payload.row_stride.eq(body.source_row_stride),
            targets.i.payload.base.eq(body.target_base),
            targets.i.payload.row_stride.eq(body.target_row_stride),
        ]
        for walker in (source, targets):
            m.d.comb += [
                walker.i.payload.rows.eq(body.rows),
                walker.i.payload.blocks.eq(body.blocks),
            ]
        with m.If(taken):
            m.d.sync += Value.cast(command).eq(self.i.payload)
        m.d.comb += [
            reader.addresses.valid.eq(source.o.valid),
            reader.addresses.payload.eq(source.o.payload.address),
            source.o.ready.eq(reader.addresses.ready),
        ]

        # Begun here, the search ends within ``Softmax.BOUNDARY_NEEDED`` cycles.
        m.submodules.boundary = boundary = PruningBoundary(fmt=self.fmt)
        m.d.comb += [
            boundary.start.eq(taken & (under_way == 0)),
            boundary.threshold.eq(self.i.payload.threshold),
        ]

        sources, results = [], []  # streams into and out of the units
        for index in range(self.units):
            unit = Softmax(fmt=self.fmt, tile=self.tile, width=self.width, sequence=self.sequence)
            m.submodules[f"unit_{index}"] = unit
            m.d.comb += [
                unit.constant.eq(command.body.constant),
                unit.shift.eq(command.body.shift),
                unit.keys.eq(command.body.keys),
                unit.blocks.eq(command.body.blocks),
                unit.boundary.eq(boundary.boundary),
            ]
            if self.units == 1:
                sources.append(unit.i)
                results.append(unit.o)
                continue
            longest = self.sequence // self.tile
            before = Queue(shape=Scores(self.fmt, self.tile), depth=longest)
            behind = Queue(shape=Vector(self.fmt, self.tile), depth=longest)
            m.submodules[f"before_{index}"], m.submodules[f"behind_{index}"] = before, behind
            wiring.connect(m, before.o, unit.i)
            wiring.connect(m, unit.o, behind.i)
            sources.append(before.i)
            results.append(behind.o)

        feeding, collecting = Signal(range(max(2, self.units))), Signal(range(max(2, self.units)))
        fed = Signal(16)  # vectors of the row that the unit `feeding` has got

        def following(turn: Signal) -> Value:
            return Mux(turn == self.units - 1, 0, turn + 1)

        for index, scores in enumerate(sources):
            m.d.comb += [
                scores.payload["values"].eq(reader.vectors.payload["values"]),
                scores.valid.eq(reader.vectors.valid & (feeding == index)),
            ]
        m.d.comb += reader.vectors.ready.eq(Array(scores.ready for scores in sources)[feeding])
        with m.If(reader.vectors.valid & reader.vectors.ready):
            m.d.sync += fed.eq(fed + 1)
            with m.If(fed + 1 == command.body.blocks):
                m.d.sync += [fed.eq(0), feeding.eq(following(feeding))]

        m.d.comb += self.write.payload.address.eq(target.o.payload.address)
        offers = Array(result.valid for result in results)
        vectors = Array(Value.cast(result.payload) for result in results)
        m.d.comb += [
            self.write.valid.eq(target.o.valid & offers[collecting]),
            Value.cast(self.write.payload.vector).eq(vectors[collecting]),
            target.o.ready.eq(self.write.valid & self.write.ready),
        ]
        for index, result in enumerate(results):
            m.d.comb += result.ready.eq(target.o.valid & self.write.ready & (collecting == index))
        with m.If(self.write.valid & self.write.ready):
            with m.If(target.o.payload.row_end):
                m.d.sync += collecting.eq(following(collecting))
            with m.If(target.o.payload.end):
                m.d.comb += self.done.eq(1)
        return m
