"""What is to be read, and where to, for one tile after the other."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.commands import ADDRESS, COUNT, OperandSource
from acceltran.compute.lane import HALVES
from acceltran.control.product_command import ProductCommand
from acceltran.control.tile import Tile
from acceltran.library import SharedComponent
from acceltran.memory.tile_ports import BIAS_TILES
from acceltran.memory.vector_buffer import VectorBuffer

__all__ = ["COMMANDS", "TileItem", "TileWalker"]

COMMANDS = 16
"""Products under way at most; they are told apart by their number modulo this, a power of two."""


TILE_FIELDS = ("word_count", "inner_first", "inner_count", "b_address", "final")
COMMAND_FIELDS = (
    "b_source",
    "b_row_stride",
    "b_rows",
    "columns",
    "streams",
    "bias_enable",
    "bias_base",
)
"""Of a tile and its command, what the walk needs."""


class TileItem(data.StructLayout):
    """Layout of one vector on its way to the lanes, or of the end of a tile.

    Members
    -------
    read : ``unsigned(1)``
        The vector is that at ``address``; if 0, it is zero.
    address : ``unsigned(ADDRESS)``
        Flat address.
    activation : ``unsigned(1)``
        Read the activation buffer, not the weight buffer.
    bias : ``unsigned(1)``
        The vector is a bias.
    transposed : ``unsigned(1)``
        The vector is one of ``tile`` that are transposed together.
    end : ``unsigned(1)``
        No vector: all vectors of the tile came before.
    word : ``range(lanes)``
        Place of the column vector in the pass.
    lanes : ``unsigned(lanes)``
        Lanes that work on it.
    row : ``range(tile_rows)``
        Row of the tile RAM; its highest bit is the half. Where vectors are transposed, the row of
        the one that replaces this.
    last_column : ``unsigned(1)``
        No column vector of the tile follows at this port.
    tile : ``range(BIAS_TILES)``
        Tiles that were loaded before, modulo ``BIAS_TILES``.
    turn : ``unsigned(turn_bits)``
        0 or a power of two: of those that are transposed together, the first is this row of the
        block, and the last the one before it.
    command : ``range(COMMANDS)``
        Commands whose tiles came before, modulo ``COMMANDS``.
    """

    def __init__(self, *, lanes: int, tile_rows: int, turn_bits: int):
        super().__init__({
            "read": unsigned(1),
            "address": unsigned(ADDRESS),
            "activation": unsigned(1),
            "bias": unsigned(1),
            "transposed": unsigned(1),
            "end": unsigned(1),
            "word": range(lanes),
            "lanes": unsigned(lanes),
            "row": range(tile_rows),
            "last_column": unsigned(1),
            "tile": range(BIAS_TILES),
            "turn": unsigned(turn_bits),
            "command": range(COMMANDS),
        })


class TileWalker(SharedComponent):
    """List the vectors of one tile port of a PE that each reloading tile consists of.

    For each column vector d of the tile that belongs to C, to this PE (``d % banks == index``) and
    to this port (its word in the pass is ``port`` modulo ``ports``), in ascending order: with a
    final tile its bias (read only if the command has one); then the rows of the chunk, or, where B
    is transposed, blocks of ``tile`` of its rows. Each port begins with another one of these
    blocks, because vectors at the same place of a row lie in the same bank. Where the cluster has
    more ports than a chunk has blocks, and several ``ports``, every other of the ports that share a
    block begins it ``turn`` rows later: ``VectorBuffer`` has those rows in the other bank. Rows at
    and beyond ``b_rows`` are not read. An item that marks the end follows. Tiles that reload go to
    the two halves in turn, each as soon as its half is free; others are dropped.

    Where the lanes are shared among another number of streams than for the tile before, a tile
    begins only when that one is ``settled``: another port may still write to the same lanes.

    Throughput is one item per cycle, but for up to ``TILE_CYCLES`` between tiles.

    Parameters
    ----------
    banks : int
        PEs of the cluster; a power of two.
    ports : int
        Tile ports of the PE; a power of two.
    lanes : int
        Lanes per PE; at least 1.
    streams : int
        Most streams of a command; a power of two that divides ``lanes``.
    tile : int
        Elements of a vector; a power of two.
    tile_rows : int
        Rows of a tile RAM, both halves; a power of two, at least two vectors.

    Members
    -------
    index : ``In(range(banks))``
        Number of the PE in its cluster.
    port : ``In(range(ports))``
        Number of the tile port in its PE.
    tiles : ``In(stream.Signature(Tile(lanes)))``
        Tiles of products, with ``b_address`` of place ``port * banks + index``; taken when their
        walk begins, so that the next one is prepared meanwhile.
    release : ``In(1)``
        Strobe: a half is free again. Both are at first.
    settled : ``In(1)``
        All ports of the PE have loaded all tiles that were begun here.
    began : ``Out(1)``
        Strobe: another tile is begun.
    items : ``Out(stream.Signature(TileItem(...)))``
        Vectors.
    tile_load, tile_reuse : ``Out(1)``
        Strobe: a tile that reloads has been walked, or one that does not was taken.
    """

    TILE_CYCLES = 4

    index: Signal
    port: Signal
    tiles: stream.Interface
    release: Signal
    settled: Signal
    began: Signal
    items: stream.Interface
    tile_load: Signal
    tile_reuse: Signal

    def __init__(
        self, *, banks: int, ports: int, lanes: int, streams: int, tile: int, tile_rows: int
    ):
        self.check_parameters(banks=banks, ports=ports, lanes=lanes, tile=tile, tile_rows=tile_rows)
        self.banks = banks
        self.ports = ports
        self.lanes = lanes
        self.streams = streams
        self.tile = tile
        self.tile_rows = tile_rows
        self.item = TileItem(
            lanes=lanes, tile_rows=tile_rows, turn_bits=(tile - 1).bit_length() if ports > 1 else 0
        )
        tile_layout, command_layout = Tile(lanes), ProductCommand()
        self._walk = data.StructLayout({
            "command": range(COMMANDS),
            **{name: tile_layout[name].shape for name in TILE_FIELDS},
            **{name: command_layout[name].shape for name in COMMAND_FIELDS},
        })
        super().__init__({
            "index": In(range(banks)),
            "port": In(range(ports)),
            "tiles": In(stream.Signature(tile_layout)),
            "release": In(1),
            "settled": In(1),
            "began": Out(1),
            "items": Out(stream.Signature(self.item)),
            "tile_load": Out(1),
            "tile_reuse": Out(1),
        })

    @staticmethod
    def check_parameters(*, banks: int, ports: int, lanes: int, tile: int, tile_rows: int) -> None:
        """Raise ValueError for parameters that no walker and no loader can have."""
        if banks < 1 or banks & (banks - 1):
            raise ValueError(f"Number of banks must be a power of two, not {banks!r}")
        if ports < 1 or ports & (ports - 1):
            raise ValueError(f"Number of ports must be a power of two, not {ports!r}")
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if tile < 2 or tile & (tile - 1):
            raise ValueError(f"Vector size must be a power of two from 2 on, not {tile!r}")
        if tile_rows < HALVES * tile or tile_rows & (tile_rows - 1):
            raise ValueError(
                f"Tile rows must be a power of two from {HALVES * tile} on, not {tile_rows!r}"
            )

    def elaborate(self, platform):
        m = Module()
        bank_bits, port_bits, tile_bits = (
            (number - 1).bit_length() for number in (self.banks, self.ports, self.tile)
        )
        apart_bits = bank_bits + port_bits
        apart = 1 << apart_bits  # columns from one to the next
        block_bits = (self.tile_rows // HALVES // self.tile - 1).bit_length()
        offer: data.View = self.tiles.payload
        walk: Any = Signal(self._walk)  # of the tile at work
        transposed, next_transposed = (
            source == OperandSource.ACTIVATION_TRANSPOSED
            for source in (walk.b_source, offer.command.b_source)
        )

        number_of_tile = Signal(range(BIAS_TILES))
        free = Signal(range(HALVES + 1), init=HALVES)
        begin = self.began
        m.d.sync += free.eq(free + self.release - begin)
        number = Signal(range(COMMANDS))
        with m.If(self.tiles.valid & self.tiles.ready & offer.last_tile):
            m.d.sync += number.eq(number + 1)
        with m.If(begin):
            m.d.sync += walk.command.eq(number)
            for name in TILE_FIELDS:
                m.d.sync += walk[name].eq(offer[name])
            for name in COMMAND_FIELDS:
                m.d.sync += walk[name].eq(offer.command[name])

        # Where the walk stands: column vector, block of `tile` rows in it, row in the block.
        column = Signal(signed(COUNT + 2))  # the first, counted from c_first
        inside = Signal()  # not left of C
        remaining = Signal(signed(COUNT + 3))  # columns of C, from this one on
        word = Signal(range(self.lanes + self.ports))  # in the pass
        block = Signal(COUNT)
        row = Signal(tile_bits)
        column_address, block_address, address, bias_address = (
            Signal(ADDRESS, name=f"{name}address") for name in ("column_", "block_", "", "bias_")
        )
        # Rows of B's tensor from here on; none are valid if this is not positive.
        column_left, left = (
            Signal(signed(COUNT + tile_bits + 3), name=name) for name in ("column_left", "left")
        )
        bias_next = Signal()
        first_block, blocks_left = Signal(apart_bits), Signal(COUNT)
        own = Cat(self.index, self.port)
        # Ports that share a block with others come in two kinds.
        shared, turn, turned = Signal(), Signal(tile_bits), Signal(ADDRESS)
        back = Signal(ADDRESS)  # from the last row of a block to its first
        m.d.sync += back.eq(walk.b_row_stride - (walk.b_row_stride << tile_bits))
        last_row, last_block, last_column = Signal(), Signal(), Signal()
        m.d.comb += [
            last_row.eq(row == self.tile - 1),
            last_block.eq(blocks_left == 1),
            last_column.eq((remaining <= apart) | (word + self.ports >= walk.word_count)),
        ]

        item: data.View = self.items.payload
        m.d.comb += [
            item.activation.eq(~bias_next & (walk.b_source != OperandSource.WEIGHT)),
            item.bias.eq(bias_next),
            item.transposed.eq(transposed & ~bias_next),
            item.read.eq(Mux(bias_next, walk.bias_enable, left > 0)),
            item.address.eq(Mux(bias_next, bias_address, address)),
            item.word.eq(word),
            item.row.eq(Cat(row, block[:block_bits], number_of_tile[0])),
            item.tile.eq(number_of_tile),
            item.last_column.eq(last_column),
            item.turn.eq(turn),
            item.command.eq(walk.command),
        ]
        for bits in range(ceil_log2(self.streams) + 1):
            with m.If(walk.streams == 1 << bits):
                m.d.comb += item.lanes.eq(Cat(word == lane >> bits for lane in range(self.lanes)))

        def go_to_column(first_address, rows_left) -> list:
            return [
                bias_next.eq(walk.final),
                block.eq(first_block),
                blocks_left.eq(walk.inner_count),
                column_address.eq(first_address),
                block_address.eq(first_address + first_block),
                address.eq(first_address + first_block),
                *(count.eq(rows_left) for count in (column_left, left)),
            ]

        def advance_column() -> list:
            step = Mux(transposed, walk.b_row_stride << tile_bits, 1) << apart_bits
            rows = Mux(transposed, self.tile << apart_bits, 0)
            return [
                inside.eq(1),
                remaining.eq(remaining - apart),
                word.eq(word + self.ports),
                bias_address.eq(bias_address + apart),
                *go_to_column(column_address + step, column_left - rows),
            ]

        with m.If(self.tiles.valid & ~offer.reload):
            m.d.comb += [self.tiles.ready.eq(1), self.tile_reuse.eq(1)]
        with m.FSM():
            with m.State("IDLE"):
                alike = offer.command.streams == walk.streams
                with m.If(self.tiles.valid & offer.reload & (free != 0) & (self.settled | alike)):
                    m.d.comb += [self.tiles.ready.eq(1), begin.eq(1)]
                    m.d.sync += [
                        column.eq(
                            (Cat(self.index, offer.word) - offer.command.c_first)
                            + (self.port << bank_bits)
                        ),
                        first_block.eq(0),
                        turn.eq(0),
                        turned.eq(0),
                    ]
                    for bits in range(apart_bits + 1):
                        with m.If(next_transposed & (offer.inner_count >= 1 << bits)):
                            m.d.sync += first_block.eq(own[:bits])
                            m.d.comb += shared.eq(own[bits] if bits < apart_bits else 0)
                    # The turn moves the address by an odd multiple of the highest bit that banks
                    # are spread by.
                    stride = offer.command.b_row_stride
                    for bits in range(len(item.turn)):
                        place = bank_bits + VectorBuffer.SPREAD_BITS - bits
                        with m.If(shared & stride[place] & ~stride[:place].any()):
                            m.d.sync += [turn.eq(1 << bits), turned.eq(stride << bits)]
                    m.next = "PREPARE"
            with m.State("PREPARE"):
                m.d.sync += [
                    inside.eq(column >= 0),
                    remaining.eq(walk.columns - column),
                    word.eq(self.port),
                    row.eq(0),
                    bias_address.eq(walk.bias_base + column),
                    *go_to_column(
                        walk.b_address + turned,
                        walk.b_rows
                        - Cat(turn, Mux(transposed, column, walk.inner_first)).as_signed(),
                    ),
                ]
                m.next = "WALK"
                with m.If((column >= walk.columns) | (self.port >= walk.word_count)):
                    m.next = "END"
            with m.State("WALK"):
                m.d.comb += self.items.valid.eq(inside)
                with m.If(~inside):
                    m.d.sync += advance_column()
                    with m.If(last_column):
                        m.next = "END"
                with m.Elif(self.items.ready & bias_next):
                    m.d.sync += bias_next.eq(0)
                with m.Elif(self.items.ready):
                    # Only transposed vectors go round within a block.
                    wrap = transposed & (row == ~turn)
                    m.d.sync += [
                        row.eq(row + 1),
                        address.eq(address + Mux(wrap, back, walk.b_row_stride)),
                        left.eq(left + Mux(wrap, self.tile - 1, -1)),
                    ]
                    with m.If(last_row):
                        wraps = block + 1 == walk.inner_count
                        next_address = Mux(wraps, column_address, block_address + 1)
                        m.d.sync += [
                            block.eq(Mux(wraps, 0, block + 1)),
                            blocks_left.eq(blocks_left - 1),
                        ]
                        with m.If(transposed):
                            m.d.sync += [
                                block_address.eq(next_address),
                                address.eq(next_address),
                                left.eq(column_left),
                            ]
                        with m.If(last_block):
                            m.d.sync += advance_column()
                            with m.If(last_column):
                                m.next = "END"
            with m.State("END"):
                m.d.comb += [
                    self.items.valid.eq(1),
                    item.end.eq(1),
                    item.read.eq(0),
                    item.bias.eq(0),
                    item.transposed.eq(0),
                ]
                with m.If(self.items.ready):
                    m.d.comb += self.tile_load.eq(1)
                    m.d.sync += number_of_tile.eq(number_of_tile + 1)
                    m.next = "IDLE"
        return m
