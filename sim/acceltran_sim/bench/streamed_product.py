"""Commands of a product whose operands and result are in DRAM, and need not fit the buffers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.bench.arrival import arrival_order
from acceltran_sim.bench.product_memory import (
    Part,
    ProductMemory,
    parts,
    piece_columns,
    row_stride,
)
from acceltran_sim.errors import InputError
from acceltran_sim.program.command import Command
from acceltran_sim.program.products import Product, product_commands

__all__ = ["Places", "StreamedProduct"]

AHEAD = 3
"""Loads that are given to the machine before the products that wait for the first of them."""
BLOCK_ROWS = 128
"""Rows of a block of the result, at most; its columns are a piece."""
ARRIVING_ROWS = 32
"""Rows of A that arrive together are a multiple of this."""
TILE_MARGIN = 1.5
"""How many times longer than its tiles take to load a block should take."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where A, pieces of B, and blocks of the result lie in the buffers."""

    stride: int
    """Vectors from row to row of a piece and of a block: each row begins at bank 0."""
    piece_vectors: int
    pieces: int
    """Pieces that the weight buffer holds."""
    blocks_base: int
    block_vectors: int
    blocks: int
    """Blocks that the activation buffer holds beside A."""

    @classmethod
    def find(cls, config: AcceleratorConfig, rows: int, inner: int, columns: int) -> "Places":
        """Raise InputError if A, a block and some pieces do not fit; columns are in vectors."""
        stride = piece_columns(config)
        inner_vectors = -(-inner // config.datapath.tile)
        base = rows * row_stride(config, inner_vectors)
        block = min(BLOCK_ROWS, rows) * stride
        capacity = config.activation_vectors
        if base + block > capacity:
            raise InputError(
                f"{rows} rows of {inner_vectors} vectors and a block of the result must fit the"
                f" activation buffer: they need {base + block} vectors, it holds {capacity}"
            )
        needed = min(-(-columns // stride), AHEAD + 1)
        if needed * inner * stride > config.weight_vectors:
            raise InputError(
                f"{inner} rows of {needed * stride} vectors must fit the weight buffer: they need"
                f" {needed * inner * stride} vectors, it holds {config.weight_vectors}"
            )
        return cls(
            stride=stride,
            piece_vectors=inner * stride,
            pieces=config.weight_vectors // (inner * stride),
            blocks_base=base,
            block_vectors=block,
            blocks=(capacity - base) // block,
        )


class StreamedProduct:
    """Multiply what has arrived, store what is finished.

    A stays in the activation buffer. Pieces of B take turns in the weight buffer once all of A is
    there, and blocks of the result take turns in what A leaves of the activation buffer.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    memory : ProductMemory
        Operands and result in DRAM.
    whole : Product
        The product, A at the start of its buffer; where the others lie does not count.
    cycles : float
        What the multipliers need.
    order : str
        Tile loops of each block.

    Raises
    ------
    InputError
        For operands that do not leave room enough.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        memory: ProductMemory,
        whole: Product,
        *,
        cycles: float,
        order: str,
    ):
        self._config = config
        self._memory = memory
        self._whole = whole
        self._order = order
        self._vector_cycles = cycles / (whole.rows * whole.columns)
        self._places = Places.find(config, whole.rows, whole.b_rows, whole.columns)

    def commands(self) -> Iterator[Command]:
        """Loads ahead of the products that wait for them, and stores behind."""
        stages = list(self._stages())
        block = 0
        for n in range(len(stages) + AHEAD):
            if n < len(stages):
                yield stages[n][0]
            if n >= AHEAD:
                for rows, number in stages[n - AHEAD][1]:
                    yield from self._block(rows, number, block % self._places.blocks)
                    block += 1

    def _stages(self) -> Iterator[tuple[Command, list[tuple[Part, int]]]]:
        """Loads, and the blocks that can be computed once each is complete: rows and piece."""
        whole, pieces = self._whole, self._memory.pieces
        arriving = parts(whole.rows, self._arriving_rows())
        # A vector takes a cycle or more, whatever the bus.
        bus_cycles = max(1.0, self._config.vector_bytes * 8 / self._config.memory.axi_data_bits)
        turns = self._places.pieces < len(pieces)
        order = arrival_order(
            [part.count for part in arriving],
            [piece.count for piece in pieces],
            row_time=bus_cycles * whole.inner_vectors,
            column_time=bus_cycles * whole.b_rows,
            # Results leave one after the other.
            work_time=max(self._vector_cycles, bus_cycles),
            most_columns=self._places.pieces - AHEAD if turns else len(pieces),
        )
        rows = columns = 0
        for is_row in order:
            if is_row:
                part = arriving[rows]
                rows += 1
                base = part.first * whole.a_row_stride
                load = self._memory.load_rows(part, base, whole.a_row_stride)
                yield load, [(part, number) for number in range(columns)]
            else:
                load = self._memory.load_columns(
                    pieces[columns], self._piece_base(columns), self._places.stride
                )
                arrived = sum(part.count for part in arriving[:rows])
                # Nothing can be done while the very last block leaves.
                block_rows = BLOCK_ROWS if columns + 1 < len(pieces) else arriving[0].count
                yield load, [(part, columns) for part in parts(arrived, block_rows)]
                columns += 1

    def _arriving_rows(self) -> int:
        """Few, but so many that multiplying them takes longer than loading their tiles.

        A PE loads a row of a tile for each element of the inner dimension and word: ``pes`` vectors
        of a row of the result.
        """
        inner = self._whole.inner_vectors * self._config.datapath.tile
        word_cycles = max(1, self._vector_cycles * self._config.array.pes_per_cluster)
        least = TILE_MARGIN * inner / word_cycles
        return min(ceil(least / ARRIVING_ROWS) * ARRIVING_ROWS, BLOCK_ROWS)

    def _piece_base(self, number: int) -> int:
        return number % self._places.pieces * self._places.piece_vectors

    def _block(self, rows: Part, number: int, place: int) -> Iterator[Command]:
        """Product of these rows and a piece, and the store of what comes out."""
        piece, places = self._memory.pieces[number], self._places
        base = places.blocks_base + place * places.block_vectors
        block = replace(
            self._whole,
            a_base=rows.first * self._whole.a_row_stride,
            rows=rows.count,
            b_base=self._piece_base(number),
            b_row_stride=places.stride,
            c_base=base,
            c_row_stride=places.stride,
            columns=piece.count,
        )
        yield from product_commands(self._config, block, self._order)
        yield self._memory.store(rows, piece, base, places.stride)
