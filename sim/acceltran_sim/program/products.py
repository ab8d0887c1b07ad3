"""MATMUL commands for a product: tiles, loop order, and blocks that keep partial sums in bounds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from acceltran.arch.activation import Activation
from acceltran.arch.commands import LOOPS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.errors import InputError
from acceltran_sim.program.command import Command

__all__ = [
    "DEFAULT_ORDER",
    "Product",
    "check_order",
    "most_inner",
    "product_commands",
    "stream_count",
    "stream_counts",
]

DEFAULT_ORDER = "bijk"
ASSUMED_DENSITY = 0.1
"""Part of A that is not zero, where cycles are estimated."""
ASSUMED_DENSITY_OF_CLUSTERS = 0.5
"""The same for clusters with few rows each, whose lanes may not idle."""
COUPLING = 0.04
"""Cycles lost, as a part, for each doubling of the lanes of a stream that skip zero weights."""
IMBALANCE = 0.02
"""Cycles lost, likewise, for each doubling of the streams that rows are shared among for good."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """One product; names are those of the command's fields."""

    a_base: int
    a_row_stride: int
    inner_vectors: int
    b_source: OperandSource
    b_base: int
    b_row_stride: int
    b_rows: int
    c_base: int
    c_row_stride: int
    c_first: int
    columns: int
    rows: int
    shift: int
    threshold: int
    bias_base: int | None = None
    bias_shift: int = 0
    function: Activation = Activation.NONE
    gelu_input_shift: int = 0
    gelu_output_shift: int = 0
    own_rows: int = 0
    first_row: int = 0
    own_keys: int = 0
    first_key: int = 0
    share: int = 0
    share_stride: int = 0
    resume_sums: int = 0
    keep_sums: int = 0
    first_slot: int = 0
    streams: int | None = None
    """Default: what takes the fewest cycles."""

    def chunk(self, tile: int, inner: range) -> "Product":
        """Part of the inner dimension, which passes its sums on; B not transposed."""
        keep = inner.stop < self.inner_vectors
        return replace(
            self,
            a_base=self.a_base + inner.start,
            inner_vectors=len(inner),
            b_base=self.b_base + inner.start * tile * self.b_row_stride,
            b_rows=self.b_rows - inner.start * tile,
            bias_base=None if keep else self.bias_base,
            resume_sums=int(inner.start > 0),
            keep_sums=int(keep),
        )

    def block(self, tile: int, row: int, rows: int, column: int, columns: int) -> "Product":
        """Part of the rows and column vectors of C, with all of the inner dimension."""
        transposed = self.b_source == OperandSource.ACTIVATION_TRANSPOSED
        skipped = column * tile if transposed else 0
        return replace(
            self,
            a_base=self.a_base + row * self.a_row_stride,
            b_base=self.b_base + (skipped * self.b_row_stride if transposed else column),
            b_rows=max(0, self.b_rows - skipped),
            c_base=self.c_base + row * self.c_row_stride,
            c_first=self.c_first + column,
            bias_base=None if self.bias_base is None else self.bias_base + column,
            rows=rows,
            columns=columns,
            first_row=self.first_row + row * self.own_rows,
            first_key=self.first_key + skipped * self.own_keys,
        )


def check_order(order: str) -> None:
    """Raise InputError unless ``order`` names each tile loop once."""
    if sorted(order) != sorted(LOOPS):
        raise InputError(f"Loop order must be a permutation of {LOOPS}, not {order!r}")


def product_commands(
    config: AcceleratorConfig,
    product: Product,
    order: str = DEFAULT_ORDER,
    *,
    all_rows: int | None = None,
) -> Iterator[Command]:
    """Commands that compute ``product`` with the tile loops in ``order``, outermost first.

    ``all_rows`` are those of all products that follow one another with the same tile, if it is one
    of them: lanes are shared among streams as suits all.

    A sum that is longer than a tile is kept in the lanes between tiles. Orders with loops inside
    that over the inner dimension keep the sums of several tiles: such a product is cut into
    blocks of rows and columns whose sums the lanes hold.
    """
    datapath = config.datapath
    chunks = -(-product.inner_vectors // most_inner(config))
    inner_tile = -(-product.inner_vectors // chunks)
    streams = product.streams or stream_count(
        config,
        inner_vectors=product.inner_vectors,
        c_first=product.c_first,
        columns=product.columns,
        rows=all_rows or product.rows,
    )
    pass_columns = config.lanes // streams * config.array.pes_per_cluster
    inside = order[order.index("k") + 1 :] if chunks > 1 else ""
    slots = datapath.partial_sums  # of each stream

    row_tile = product.rows if order == DEFAULT_ORDER else min(product.rows, datapath.tile)
    block_rows, block_columns = product.rows, product.columns
    if "j" in inside:
        passes = min(2 if "i" in inside else max(1, slots // datapath.tile), slots)
        block_columns = min(passes * pass_columns, product.columns)
        slots //= -(-block_columns // pass_columns)
    if chunks > 1:
        tile_slots = -(-_even_part(row_tile, slots * streams) // streams)
        row_tile = tile_slots * streams
        if "i" in inside:
            block_rows = slots // tile_slots * row_tile

    for row in range(0, product.rows, block_rows):
        rows = min(block_rows, product.rows - row)
        for column in range(0, product.columns, block_columns):
            columns = min(block_columns, product.columns - column)
            part = product.block(datapath.tile, row, rows, column, columns)
            yield _command(part, min(row_tile, rows), inner_tile, streams, order)


def stream_counts(most: int) -> list[int]:
    """Numbers of streams that may share the lanes of a machine with at most ``most``."""
    return [1 << n for n in range(most.bit_length())]


def most_inner(config: AcceleratorConfig) -> int:
    """Vectors of the inner dimension that a tile holds."""
    return config.datapath.tile_rows // 2 // config.datapath.tile


def stream_count(
    config: AcceleratorConfig, *, inner_vectors: int, columns: int, rows: int, c_first: int = 0
) -> int:
    """Rows at a time: what takes the fewest cycles for ``rows``, by a rough account.

    Few streams leave lanes without columns where a product is narrow; many read each row more
    often, wait longer for each other, and begin earlier, because a pass has fewer tiles to load.
    """
    array, datapath = config.array, config.datapath
    chunks = -(-inner_vectors // most_inner(config))
    inner = inner_vectors * datapath.tile
    several = array.clusters > 1
    density = ASSUMED_DENSITY_OF_CLUSTERS if several else ASSUMED_DENSITY
    banks = array.pes_per_cluster
    words = -(-(c_first % banks + columns) // banks)

    def cycles(streams: int) -> float:
        width = min(config.lanes // streams, words)
        passes = -(-words // width)
        row = inner * density * datapath.tile / config.lane_multipliers
        # A port loads one word at a time.
        ports = min(config.tile_ports, width)
        # Rows whose sums wait in the lanes stay with their stream, however full they are.
        imbalance = 1 + IMBALANCE * (streams.bit_length() - 1 if chunks > 1 else 0)
        if datapath.weight_window:
            # Lanes of a stream go on together: each waits for the densest column of all.
            imbalance += COUPLING * ((config.lanes // streams).bit_length() - 1)
        row_blocks = -(-rows // (datapath.partial_sums * streams)) if chunks > 1 else 1
        bounds = (
            passes * -(-rows // streams) * row,
            row_blocks * passes * width * inner / ports,
            passes * rows * inner_vectors / config.activation_banks,
        )
        start = width * inner / chunks / ports
        if not several:
            start += (streams - 1) * row / 4
        return max(bounds) * imbalance + start

    return min(stream_counts(config.streams), key=cycles)


def _even_part(total: int, largest: int) -> int:
    """Cut ``total`` into the fewest parts of at most ``largest``, as equal as possible."""
    return -(-total // -(-total // largest))


def _command(product: Product, row_tile: int, inner_tile: int, streams: int, order: str) -> Command:
    fields = {name: int(value) for name, value in vars(product).items() if value is not None}
    return Command(
        opcode=Opcode.MATMUL,
        fields=fields
        | {f"order{n}": LOOPS.index(loop) for n, loop in enumerate(order)}
        | {
            "batches": 1,
            "row_tile": row_tile,
            "inner_tile": inner_tile,
            "streams": streams,
            "bias_enable": int(product.bias_base is not None),
        },
    )
