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

    Commands go to ``ports`` ports in turn, each with its part of the units. There, rows are dealt
    to the units in turn, and their results collected in the same order. A row is read whole before
    any of it is written, so the target may be the source. Rows of a command whose ``SETTINGS`` and
    threshold are those of the one before follow without a gap, or go through the units at the same
    time.

    One ``PruningBoundary`` serves all units: it finds the boundary of a command's threshold while
    the first row is read.

    Throughput is that of all units together, at most a vector per cycle and port: several units
    have queues of a row at both ends, so that one takes a row while another gets the next.

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
    ports : int
        At least 1; a divisor of ``units``.

    Members
    -------
    i : ``In(stream.Signature(SoftmaxCommand(fmt)))``
    reads : ``In(ReadPort(fmt, tile)).array(ports)``
    writes : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(ports)``
    done : ``Out(1)``
        Strobe: the last write of the oldest command was taken, in this cycle unless others were to
        be done before it.
    """

    UNDER_WAY = 16
    """Commands that are taken and not done, at most."""

    i: stream.Interface
    reads: list[Any]
    writes: list[stream.Interface]
    done: Signal

    def __init__(
        self, *, fmt: FixedPoint, tile: int, width: int, sequence: int, units: int, ports: int = 1
    ):
        if units < 1:
            raise ValueError(f"Number of softmax units must be at least 1, not {units!r}")
        if ports < 1 or units % ports:
            raise ValueError(f"Number of ports must divide {units} softmax units, not {ports!r}")
        self.fmt = fmt
        self.tile = tile
        self.width = width
        self.sequence = sequence
        self.units = units
        self.ports = ports
        super().__init__({
            "i": In(stream.Signature(SoftmaxCommand(fmt))),
            "reads": In(ReadPort(fmt, tile)).array(ports),
            "writes": Out(stream.Signature(BufferWrite(fmt, tile))).array(ports),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        command = Signal(SoftmaxCommand(self.fmt))
        body = self.i.payload.body
        taken, room = Signal(), Signal()
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
        # Rows of a command that is alike may follow those of the one before at once.
        m.d.comb += [
            self.i.ready.eq(
                room & ((under_way == 0) | ((under_way < self.UNDER_WAY) & offered & alike))
            ),
            taken.eq(self.i.valid & self.i.ready),
        ]
        with m.If(taken):
            m.d.sync += Value.cast(command).eq(self.i.payload)

        # Begun here, the search ends within ``Softmax.BOUNDARY_NEEDED`` cycles.
        m.submodules.boundary = boundary = PruningBoundary(fmt=self.fmt)
        m.d.comb += [
            boundary.start.eq(taken & (under_way == 0)),
            boundary.threshold.eq(self.i.payload.threshold),
        ]
        # Ports take commands in turn, and are done in turn.
        next_port, oldest_port = (
            Signal(range(max(2, self.ports))),
            Signal(range(max(2, self.ports))),
        )
        rooms, waiting = [], []
        for port in range(self.ports):
            begin, end, ended = (
                Signal(name=f"{name}_{port}") for name in ("begin", "end", "ended")
            )
            m.d.comb += begin.eq(taken & (next_port == port))
            rooms.append(self._add_port(m, port, command.body, begin, end, boundary.boundary))
            # Commands of this port that ended before an older one of another port.
            early = Signal(range(self.UNDER_WAY + 1), name=f"early_{port}")
            m.d.comb += ended.eq(end | (early != 0))
            m.d.sync += early.eq(early + end - (self.done & (oldest_port == port)))
            waiting.append(ended)
        m.d.comb += [
            room.eq(Array(rooms)[next_port]),
            self.done.eq(Array(waiting)[oldest_port]),
        ]
        for turn, step in ((next_port, taken), (oldest_port, self.done)):
            with m.If(step):
                m.d.sync += turn.eq(_following(turn, self.ports))
        return m

    def _add_port(
        self, m: Module, port: int, settings: Any, begin: Signal, end: Signal, boundary: Signal
    ) -> Value:
        """Rows of a port's commands through its units; whether it has room for a command."""
        source, target = RowWalker(), RowWalker()
        targets = Queue(shape=RowRange(), depth=self.UNDER_WAY)
        reader = VectorReader(fmt=self.fmt, tile=self.tile)
        for name, part in (
            ("source", source),
            ("target", target),
            ("targets", targets),
            ("reader", reader),
        ):
            m.submodules[f"{name}_{port}"] = part
        read, write = self.reads[port], self.writes[port]
        wiring.connect(m, reader.port, wiring.flipped(read))
        wiring.connect(m, targets.o, target.i)
        body = self.i.payload.body
        m.d.comb += [
            source.i.valid.eq(begin),
            targets.i.valid.eq(begin),
            source.i.payload.base.eq(body.source_base),
            source.i.payload.row_stride.eq(body.source_row_stride),
            targets.i.payload.base.eq(body.target_base),
            targets.i.payload.row_stride.eq(body.target_row_stride),
            reader.addresses.valid.eq(source.o.valid),
            reader.addresses.payload.eq(source.o.payload.address),
            source.o.ready.eq(reader.addresses.ready),
        ]
        for walker in (source, targets):
            m.d.comb += [
                walker.i.payload.rows.eq(body.rows),
                walker.i.payload.blocks.eq(body.blocks),
            ]

        units = self.units // self.ports
        sources, results = [], []  # streams into and out of the units
        for index in range(port * units, (port + 1) * units):
            unit = Softmax(fmt=self.fmt, tile=self.tile, width=self.width, sequence=self.sequence)
            m.submodules[f"unit_{index}"] = unit
            m.d.comb += [
                unit.constant.eq(settings.constant),
                unit.shift.eq(settings.shift),
                unit.keys.eq(settings.keys),
                unit.blocks.eq(settings.blocks),
                unit.boundary.eq(boundary),
            ]
            if units == 1:
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

        feeding = Signal(range(max(2, units)), name=f"feeding_{port}")
        collecting = Signal(range(max(2, units)), name=f"collecting_{port}")
        fed = Signal(16, name=f"fed_{port}")  # vectors of the row that the unit `feeding` has got
        for index, scores in enumerate(sources):
            m.d.comb += [
                scores.payload["values"].eq(reader.vectors.payload["values"]),
                scores.valid.eq(reader.vectors.valid & (feeding == index)),
            ]
        m.d.comb += reader.vectors.ready.eq(Array(scores.ready for scores in sources)[feeding])
        with m.If(reader.vectors.valid & reader.vectors.ready):
            m.d.sync += fed.eq(fed + 1)
            with m.If(fed + 1 == settings.blocks):
                m.d.sync += [fed.eq(0), feeding.eq(_following(feeding, units))]

        offers = Array(result.valid for result in results)
        vectors = Array(Value.cast(result.payload) for result in results)
        m.d.comb += [
            write.payload.address.eq(target.o.payload.address),
            write.valid.eq(target.o.valid & offers[collecting]),
            Value.cast(write.payload.vector).eq(vectors[collecting]),
            target.o.ready.eq(write.valid & write.ready),
        ]
        for index, result in enumerate(results):
            m.d.comb += result.ready.eq(target.o.valid & write.ready & (collecting == index))
        with m.If(write.valid & write.ready):
            with m.If(target.o.payload.row_end):
                m.d.sync += collecting.eq(_following(collecting, units))
            m.d.comb += end.eq(target.o.payload.end)
        return source.i.ready & targets.i.ready


def _following(turn: Signal, count: int) -> Value:
    return Mux(turn == count - 1, 0, turn + 1)
