"""Load the tiles and biases of a PE's lanes from the buffers."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.lane import HALVES
from acceltran.control.loop_nest import LoopNest
from acceltran.control.product_command import ProductCommand
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort
from acceltran.memory.queue import Queue
from acceltran.memory.tile_ports import BiasWrite, VectorWrite
from acceltran.memory.tile_walker import COMMANDS, TileWalker
from acceltran.memory.transposer import Transposer
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.memory.vector_reader import VectorReader
from acceltran.numeric.vector import Vector

__all__ = ["TileLoader"]

READS = VectorReader.FULL_RATE_DEPTH + VectorBuffer.READ_LATENCY + 1
"""Vectors of a buffer that are asked for and not yet taken."""
ASKED = 16
"""Vectors, zeros among them, that are to arrive."""


class TileLoader(SharedComponent):
    """Bring the second operand of products into the tile RAMs, and the biases into theirs.

    Walks the tiles of each command by itself. Of a tile that reloads, row k of lane l of PE
    ``index`` becomes ``B[b, inner_first * tile + k, d - c_first]`` with
    ``d = (word + l // streams) * banks + index``, in one half of the tile RAM; rows at and beyond
    ``b_rows`` become zero. With a final tile, the bias of d goes with the tile, zero if the
    command has none. Lanes whose d is not a column of C are left as they are, and so are those
    whose ``l // streams`` is not ``port`` modulo ``ports``: a PE has a loader for each port. Tiles
    that reload go to the halves in turn, beginning with half 0, each as soon as its half is free,
    also those of a later command.

    Throughput is one vector per cycle, whatever the source, while the buffer's bank is free, but
    for ``TileWalker.TILE_CYCLES`` between tiles.

    Golden model: ``acceltran_sim.golden.tile_loader.loads``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements of a vector; a power of two.
    banks : int
        PEs of the cluster; a power of two.
    ports : int
        Tile ports of the PE; a power of two.
    lanes : int
        Lanes per PE; at least 1.
    streams : int
        Most streams of a command; a power of two that divides ``lanes``.
    tile_rows : int
        Rows of a tile RAM, both halves; a power of two, at least two vectors.
    weight_depth, activation_depth : int
        Vectors that the buffers hold.
    weight_latency : int
        Cycles that an answer of the weight buffer may come later than ``VectorBuffer`` gives it,
        always or at times, without loss of throughput.

    Members
    -------
    index : ``In(range(banks))``
        Number of the PE in its cluster.
    port : ``In(range(ports))``
        Number of the tile port in its PE.
    command : ``In(stream.Signature(ProductCommand()))``
        Products.
    release : ``In(1)``
        Strobe: the half that has been full for longest is free again. Both are at first.
    settled, began : ``In(1)``, ``Out(1)``
        See ``TileWalker``.
    loaded : ``Out(1)``
        Strobe: one more half is full; the last write left in an earlier cycle.
    written : ``Out(tile_rows // tile)``
        Bit n: rows ``n * tile`` on of the tile RAM hold their rows of the tile, and biases are
        written; the last write left in an earlier cycle. 0 from the cycle after ``release`` of the
        half on. From the cycle after ``loaded`` on, all bits of the half are 1, also those beyond
        the tile.
    tile_write : ``Out(VectorWrite(...))``
    bias_write : ``Out(BiasWrite(...))``
    weights, activations : ``In(ReadPort(fmt, tile))``
        Ports of the buffers.
    tile_load, tile_reuse : ``Out(1)``
        Strobes for counters: a tile has been loaded, or found resident.
    out_of_range : ``Out(1)``
        Strobe: a read at or beyond the end of its buffer was asked for.
    out_of_range_command : ``Out(range(COMMANDS))``
        By which command: how many commands were taken before it, modulo ``COMMANDS``.
    """

    index: Signal
    port: Signal
    command: stream.Interface
    release: Signal
    settled: Signal
    began: Signal
    loaded: Signal
    written: Signal
    tile_write: Any
    bias_write: Any
    weights: Any
    activations: Any
    tile_load: Signal
    tile_reuse: Signal
    out_of_range: Signal
    out_of_range_command: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        banks: int,
        ports: int,
        lanes: int,
        streams: int,
        tile_rows: int,
        weight_depth: int,
        activation_depth: int,
        weight_latency: int = 0,
    ):
        TileWalker.check_parameters(
            banks=banks, ports=ports, lanes=lanes, tile=tile, tile_rows=tile_rows
        )
        for name, depth in (("Weight", weight_depth), ("Activation", activation_depth)):
            if not 1 <= depth <= 1 << ADDRESS_WIDTH:
                raise ValueError(
                    f"{name} buffer depth must be from 1 to {1 << ADDRESS_WIDTH}, not {depth!r}"
                )
        if weight_latency < 0:
            raise ValueError(f"Weight latency must not be negative, not {weight_latency!r}")
        self.fmt = fmt
        self.tile = tile
        self.banks = banks
        self.ports = ports
        self.lanes = lanes
        self.streams = streams
        self.tile_rows = tile_rows
        self.weight_depth = weight_depth
        self.activation_depth = activation_depth
        self.weight_latency = weight_latency
        super().__init__({
            "index": In(range(banks)),
            "port": In(range(ports)),
            "command": In(stream.Signature(ProductCommand())),
            "release": In(1),
            "settled": In(1),
            "began": Out(1),
            "loaded": Out(1),
            "written": Out(tile_rows // tile),
            "tile_write": Out(VectorWrite(fmt, tile=tile, tile_rows=tile_rows, lanes=lanes)),
            "bias_write": Out(BiasWrite(fmt, tile=tile, lanes=lanes)),
            "weights": In(ReadPort(fmt, tile)),
            "activations": In(ReadPort(fmt, tile)),
            "tile_load": Out(1),
            "tile_reuse": Out(1),
            "out_of_range": Out(1),
            "out_of_range_command": Out(range(COMMANDS)),
        })

    def elaborate(self, platform):
        m = Module()
        fmt, size = self.fmt, self.tile
        shape = {
            "banks": self.banks,
            "ports": self.ports,
            "lanes": self.lanes,
            "streams": self.streams,
            "tile": size,
        }
        m.submodules.loops = loops = LoopNest(**shape)
        m.submodules.walker = walker = TileWalker(**shape, tile_rows=self.tile_rows)
        layout = walker.item
        m.submodules.walked = walked = Queue(shape=layout, depth=2)
        m.submodules.asked = asked = Queue(shape=layout, depth=ASKED + self.weight_latency)
        m.submodules.weight_reader = weight_reader = VectorReader(
            fmt=fmt, tile=size, depth=READS + self.weight_latency
        )
        m.submodules.activation_reader = activation_reader = VectorReader(
            fmt=fmt, tile=size, depth=READS
        )
        m.submodules.transposer = transposer = Transposer(width=fmt.width, tile=size)
        connect(m, flipped(self.command), loops.command)
        connect(m, loops.tiles, walker.tiles)
        connect(m, walker.items, walked.i)
        connect(m, weight_reader.port, flipped(self.weights))
        connect(m, activation_reader.port, flipped(self.activations))
        m.d.comb += [
            loops.place.eq(Cat(self.index, self.port)),
            walker.index.eq(self.index),
            walker.port.eq(self.port),
            walker.release.eq(self.release),
            walker.settled.eq(self.settled),
            self.began.eq(walker.began),
            self.tile_load.eq(walker.tile_load),
            self.tile_reuse.eq(walker.tile_reuse),
        ]

        # Ask for what is to be read, and remember what for.
        request: data.View = walked.o.payload
        accepted = Mux(
            request.activation,
            activation_reader.addresses.ready,
            weight_reader.addresses.ready,
        )
        m.d.comb += [
            asked.i.payload.eq(request),
            asked.i.valid.eq(walked.o.valid & (~request.read | accepted)),
            walked.o.ready.eq(asked.i.ready & (~request.read | accepted)),
        ]
        for reader, selected in (
            (weight_reader, ~request.activation),
            (activation_reader, request.activation),
        ):
            m.d.comb += [
                reader.addresses.payload.eq(request.address),
                reader.addresses.valid.eq(walked.o.valid & asked.i.ready & request.read & selected),
            ]

        # The readers ask late, when another command may be at work: this is where it is known.
        outside = Mux(
            request.activation,
            request.address >= self.activation_depth,
            request.address >= self.weight_depth,
        )
        m.d.sync += [
            self.out_of_range.eq(walked.o.valid & walked.o.ready & request.read & outside),
            self.out_of_range_command.eq(request.command),
        ]

        # Pass on what arrives.
        item: data.View = asked.o.payload
        vector = Signal(Vector(fmt, size))
        arrived, direct = Signal(), Signal()
        leaving = transposer.o.valid
        ended = Signal()  # the tile's last block is still leaving
        with m.If(~item.read):
            m.d.comb += arrived.eq(asked.o.valid)
        with m.Elif(item.activation):
            m.d.comb += [
                arrived.eq(asked.o.valid & activation_reader.vectors.valid),
                vector.eq(activation_reader.vectors.payload),
            ]
        with m.Else():
            m.d.comb += [
                arrived.eq(asked.o.valid & weight_reader.vectors.valid),
                vector.eq(weight_reader.vectors.payload),
            ]
        taken = Signal()
        m.d.comb += [
            # The transposer stands still only while it has no vector to take: it never waits.
            transposer.o.ready.eq(1),
            transposer.i.valid.eq(arrived & item.transposed),
            transposer.i.payload.eq(vector.values),
            direct.eq(~item.transposed & ~item.bias & ~item.end),
            taken.eq(arrived & ~(direct & leaving) & ~(item.end & ended)),
            asked.o.ready.eq(taken),
            weight_reader.vectors.ready.eq(taken & item.read & ~item.activation),
            activation_reader.vectors.ready.eq(taken & item.read & item.activation),
        ]

        # A block leaves the transposer from the cycle after its last vector entered on.
        transposed: Any = Signal(layout)
        with m.If(transposer.i.valid & item.row[: (size - 1).bit_length()].all()):
            m.d.sync += [transposed.eq(item), transposed.row.eq(item.row & ~(size - 1))]
        with m.Elif(leaving):
            m.d.sync += transposed.row.eq(transposed.row + 1)
        # Meanwhile the next tile's blocks may enter.
        left = Signal()
        m.d.sync += left.eq(leaving & transposed.row[: (size - 1).bit_length()].all())
        with m.If(taken & item.end):
            m.d.sync += ended.eq(leaving)
        with m.Elif(left):
            m.d.sync += ended.eq(0)

        # It left in the order in which it entered.
        columns = [Cat(element, element.any()) for element in transposer.o.payload]
        turned: Any = Signal(data.ArrayLayout(len(columns[0]), size))
        m.d.comb += Value.cast(turned).eq(Cat(columns))
        for turn in (1 << bits for bits in range(len(item.turn))):
            with m.If(transposed.turn == turn):
                m.d.comb += Value.cast(turned).eq(
                    Cat(columns[size - turn :], columns[: size - turn])
                )

        write = self.tile_write
        m.d.sync += [
            write.valid.eq(leaving | (arrived & direct)),
            self.loaded.eq((taken & item.end & ~leaving) | (ended & left)),
            self.bias_write.valid.eq(arrived & item.bias),
            self.bias_write.word.eq(item.word),
            self.bias_write.tile.eq(item.tile),
            self.bias_write.vector.eq(vector),
        ]
        with m.If(leaving):
            m.d.sync += [
                write.lanes.eq(transposed.lanes),
                write.row.eq(transposed.row),
                Value.cast(write.vector.values).eq(Cat(turned[k][:-1] for k in range(size))),
                write.vector.keep.eq(Cat(turned[k][-1] for k in range(size))),
            ]
        with m.Else():
            m.d.sync += [
                write.lanes.eq(item.lanes),
                write.row.eq(item.row),
                write.vector.eq(vector),
            ]
        self._add_written(m, Mux(leaving, transposed.last_column, item.last_column))
        return m

    def _add_written(self, m: Module, last_column: Value) -> None:
        """Tell which blocks are there, once their rows of the last column are written."""
        write = self.tile_write
        tile_bits, blocks = (self.tile - 1).bit_length(), self.tile_rows // self.tile
        complete, filling, oldest = Signal(), Signal(), Signal()
        m.d.sync += complete.eq(last_column)
        with m.If(write.valid & complete & write.row[:tile_bits].all()):
            m.d.sync += self.written.bit_select(write.row[tile_bits:], 1).eq(1)
        halves = [self.written[: blocks // HALVES], self.written[blocks // HALVES :]]
        for half, bits in enumerate(halves):
            with m.If(self.loaded & (filling == half)):
                m.d.sync += bits.eq(~0)
            with m.If(self.release & (oldest == half)):
                m.d.sync += bits.eq(0)
        m.d.sync += [filling.eq(filling ^ self.loaded), oldest.eq(oldest ^ self.release)]
