"""One product as programs of a machine, with its operands in the buffers or in DRAM."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.bench.masks import MASKS
from acceltran_sim.errors import InputError
from acceltran_sim.golden.product import product
from acceltran_sim.program.assembler import encode_program
from acceltran_sim.program.builder import DEFAULT_BASE
from acceltran_sim.program.column_order import by_density
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import ACTIVATION, WEIGHT
from acceltran_sim.program.image import Image
from acceltran_sim.program.products import DEFAULT_ORDER, Product, product_commands
from acceltran_sim.program.timeline import Timeline
from acceltran_sim.program.vectors import pack_vectors, rows_to_vectors, unpack_vectors

__all__ = ["MeasuredProduct", "ProductJob"]

Integers = npt.NDArray[np.int64]

ROW_PARTS = (1, 1, 2, 4, 4, 4, 4, 4, 4, 2, 2)
"""Relative sizes of the parts in which rows arrive: work begins after the first and ends soon after
the last."""
LAST_PARTS = 4
"""Parts of the last product: what the others give is stored while it runs."""
AHEAD = 3
"""Loads that are given to the machine before the product that waits for the first of them."""


@dataclass(frozen=True, kw_only=True)
class MeasuredProduct:
    """Programs of a product, and the memory that they work on."""

    programs: tuple[tuple[Command, ...], ...]
    measured: int
    """Number of the program whose cycles count."""
    image: bytes
    base: int
    addresses: tuple[int, ...]
    """Of the first command of each program."""
    outputs: tuple[int, ...]
    """Addresses of the pieces of the result: groups of columns."""


class ProductJob:
    """A product ``A @ B``, rounded to the machine's number format.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    a : integer array [rows, inner]
        Row operand: what the machine skips zeros of.
    b : integer array [inner, columns]
        Weights; for lanes with a weight window, their columns are sorted by density.
    order : str
        Tile loops, outermost first.

    Raises
    ------
    InputError
        For a product that does not fit the machine.
    """

    def __init__(
        self, config: AcceleratorConfig, a: Integers, b: Integers, *, order: str = DEFAULT_ORDER
    ):
        _check_size(config, len(a), len(b), b.shape[1])
        self.config = config
        # Static weights come with their columns in the best order: so do those of an encoder.
        ordered = config.datapath.weight_window > 0
        self.a, self.b = a, b[:, by_density(b)] if ordered else b
        self.order = order
        tile, banks = config.datapath.tile, config.array.pes_per_cluster
        self._a = rows_to_vectors(a, tile)
        self._b = rows_to_vectors(self.b, tile)
        self._rows, self._inner, _ = self._a.shape
        self._columns = self._b.shape[1]
        self._a_stride = _stride(config, self._inner)
        self._c_stride = _stride(config, self._columns)
        # Columns as they lie in DRAM, arrive and leave. They are few, because streams of rows share
        # the lanes.
        self._pieces = list(_parts(self._columns, 2 * banks))

    @classmethod
    def random(
        cls,
        config: AcceleratorConfig,
        *,
        rows: int,
        inner: int,
        columns: int,
        density: float,
        weight_density: float = 1.0,
        masks: str = "iid",
        order: str = DEFAULT_ORDER,
        seed: int = 0,
    ) -> "ProductJob":
        """Operands with values of any size that the format has, and zeros by ``MASKS[masks]``."""
        _check_size(config, rows, inner, columns)
        rng = np.random.default_rng(seed)

        def operand(rows: int, columns: int, density: float) -> Integers:
            values = rng.integers(1, config.fmt.highest, (rows, columns), endpoint=True)
            values *= rng.choice([-1, 1], (rows, columns))
            return np.where(MASKS[masks](rng, rows, columns, density), values, 0)

        a = operand(rows, inner, density)
        return cls(config, a, operand(inner, columns, weight_density), order=order)

    @property
    def products_effectual(self) -> int:
        """Products whose factors are both not zero."""
        return int(np.count_nonzero(self.a, axis=0) @ np.count_nonzero(self.b, axis=1))

    @property
    def ideal_cycles(self) -> float:
        """Cycles if no multiplier ever waited: without a window, weights that are zero count."""
        needed = self.products_effectual
        if not self.config.datapath.weight_window:
            needed = int(np.count_nonzero(self.a)) * self.b.shape[1]
        return needed / self.config.multipliers

    @property
    def _shift(self) -> int:
        """Keeps most results within the range of the format."""
        return self.config.fmt.width - 2 + self.a.shape[1].bit_length() // 2

    def golden(self) -> Integers:
        """Result of the golden model, [rows, columns]."""
        return product(
            self.a, self.b, bias=0, bias_shift=0, shift=self._shift, fmt=self.config.fmt
        )[0]

    def in_buffers(self) -> MeasuredProduct:
        """Load, multiply and store, each a program of its own; the product alone counts."""
        image = self._memory()
        loads = [self._load_rows(0, self._rows), *map(self._load_columns, self._pieces)]
        products = self._products(0, self._rows, 0, self._columns)
        stores = [self._store(0, self._rows, piece) for piece in self._pieces]
        return self._build(image, [loads, products, stores], measured=1)

    def in_dram(self) -> MeasuredProduct:
        """One program: what has arrived is multiplied, what is finished is stored."""
        image = self._memory()
        return self._build(image, [self._overlapped()], measured=0)

    def _memory(self) -> Image:
        """Operands, and room for the result."""
        image = Image(DEFAULT_BASE)
        self._a_address = image.append(pack_vectors(self._a, self.config))
        self._b_addresses, self._c_addresses = {}, {}
        for piece in self._pieces:
            first, count = piece
            vectors = self._b[:, first : first + count]
            self._b_addresses[piece] = image.append(pack_vectors(vectors, self.config))
        for piece in self._pieces:
            size = self._rows * piece[1] * self.config.vector_bytes
            self._c_addresses[piece] = image.reserve(size)
        return image

    def _build(
        self, image: Image, programs: Sequence[Iterable[Command]], *, measured: int
    ) -> MeasuredProduct:
        finished = tuple(self._program(commands) for commands in programs)
        addresses = tuple(image.append(encode_program(program)) for program in finished)
        return MeasuredProduct(
            programs=finished,
            measured=measured,
            image=image.content(),
            base=DEFAULT_BASE,
            addresses=addresses,
            outputs=tuple(self._c_addresses.values()),
        )

    def _overlapped(self) -> Iterator[Command]:
        """Loads ahead of the products that wait for them, and stores behind."""
        stages = list(self._stages())
        for n in range(len(stages) + AHEAD):
            if n < len(stages):
                yield stages[n][0]
            if n >= AHEAD:
                yield from stages[n - AHEAD][1]

    def _stages(self) -> Iterator[tuple[Command, list[Command]]]:
        """Loads, and what can be done once each is complete.

        Of rows and columns, the ones of which fewer bytes are there come next.
        """
        parts = list(self._row_parts())
        pieces = list(self._pieces)
        rows = columns = 0
        while parts or pieces:
            if not pieces or (parts and rows * self._inner < columns * len(self._b)):
                row, count = parts.pop(0)
                load = self._load_rows(row, count)
                rows += count
                work = self._finish([(row, count)], 0, columns)
            else:
                piece = pieces.pop(0)
                load = self._load_columns(piece)
                columns += piece[1]
                cut = rows if pieces or parts else -(-rows // LAST_PARTS)
                work = self._finish(list(_parts(rows, cut)) if rows else [], *piece)
            yield load, work

    def _row_parts(self) -> Iterator[tuple[int, int]]:
        """First and number of the rows that arrive together."""
        unit = -(-self._rows // sum(ROW_PARTS))
        row = 0
        for size in ROW_PARTS:
            rows = min(size * unit, self._rows - row)
            if rows:
                yield row, rows
            row += rows

    def _finish(self, parts: list[tuple[int, int]], column: int, columns: int) -> list[Command]:
        """Products of rows and columns that are there, and stores of the result."""
        commands: list[Command] = []
        for part in parts:
            if columns:
                commands += self._products(*part, column, columns)
                commands += [
                    self._store(*part, piece)
                    for piece in self._pieces
                    if column <= piece[0] < column + columns
                ]
        return commands

    def _program(self, commands: Iterable[Command]) -> tuple[Command, ...]:
        timeline = Timeline(self.config)
        for command in (*commands, Command(opcode=Opcode.END)):
            timeline.add(command)
        return tuple(timeline.commands)

    def result(self, built: MeasuredProduct, image: bytes) -> Integers:
        """Result [rows, columns] from the memory that the programs left."""
        parts = []
        for address, (_, count) in zip(built.outputs, self._pieces, strict=True):
            start = address - built.base
            size = self._rows * count * self.config.vector_bytes
            values = unpack_vectors(image[start : start + size], self.config)
            parts.append(values.reshape(self._rows, -1))
        return np.concatenate(parts, axis=1)[:, : self.b.shape[1]]

    # Commands. Rows and columns are given by the first and how many, columns in vectors.

    def _load_rows(self, row: int, rows: int) -> Command:
        fields = {
            "dram_address": self._a_address + row * self._inner * self.config.vector_bytes,
            "buffer": ACTIVATION,
            "base": row * self._a_stride,
            "vectors": rows * self._inner,
            "row_vectors": self._inner,
            "row_stride": self._a_stride,
        }
        return Command(opcode=Opcode.LOAD, fields=fields)

    def _load_columns(self, piece: tuple[int, int]) -> Command:
        column, count = piece
        fields = {
            "dram_address": self._b_addresses[piece],
            "buffer": WEIGHT,
            "base": column,
            "vectors": len(self._b) * count,
            "row_vectors": count,
            "row_stride": self._columns,
        }
        return Command(opcode=Opcode.LOAD, fields=fields)

    def _store(self, row: int, rows: int, piece: tuple[int, int]) -> Command:
        column, count = piece
        skipped = row * count * self.config.vector_bytes
        fields = {
            "dram_address": self._c_addresses[piece] + skipped,
            "buffer": ACTIVATION,
            "base": self._result + row * self._c_stride + column,
            "vectors": rows * count,
            "row_vectors": count,
            "row_stride": self._c_stride,
        }
        return Command(opcode=Opcode.STORE, fields=fields)

    @property
    def _result(self) -> int:
        """First vector of the result in the activation buffer."""
        return self._rows * self._a_stride

    def _products(self, row: int, rows: int, column: int, columns: int) -> Iterator[Command]:
        whole = Product(
            a_base=0,
            a_row_stride=self._a_stride,
            inner_vectors=self._inner,
            b_source=OperandSource.WEIGHT,
            b_base=0,
            b_row_stride=self._columns,
            b_rows=len(self._b),
            c_base=self._result,
            c_row_stride=self._c_stride,
            c_first=0,
            columns=self._columns,
            rows=self._rows,
            shift=self._shift,
            threshold=THRESHOLDS - 1,
        )
        part = whole.block(self.config.datapath.tile, row, rows, column, columns)
        return product_commands(self.config, part, self.order)


def _parts(total: int, size: int) -> Iterator[tuple[int, int]]:
    """First and length of parts of ``size``; the last may be shorter."""
    for first in range(0, total, size):
        yield first, min(size, total - first)


def _stride(config: AcceleratorConfig, vectors: int) -> int:
    """Vectors from row to row in the activation buffer: each row begins at bank 0."""
    banks = config.array.pes_per_cluster
    return -(-vectors // banks) * banks


def _check_size(config: AcceleratorConfig, rows: int, inner: int, columns: int) -> None:
    tile = config.datapath.tile
    inner_vectors, column_vectors = -(-inner // tile), -(-columns // tile)
    clusters = config.array.clusters
    if clusters > 1:
        raise InputError(f"A single product is measured on machines of 1 cluster, not {clusters}")
    if inner_vectors * tile > config.limits.inner:
        raise InputError(
            f"Inner dimension padded to whole vectors must be at most limits.inner"
            f" ({config.limits.inner}), not {inner_vectors * tile}"
        )
    needed = rows * (_stride(config, inner_vectors) + _stride(config, column_vectors))
    capacity = config.activation_vectors
    if needed > capacity:
        raise InputError(
            f"{rows} rows of {inner_vectors} vectors and the result's of {column_vectors} must fit"
            f" the activation buffer: they need {needed} vectors, it holds {capacity}"
        )
    needed = inner * column_vectors
    if needed > config.weight_vectors:
        raise InputError(
            f"{inner} rows of {column_vectors} vectors must fit the weight buffer: they need"
            f" {needed} vectors, it holds {config.weight_vectors}"
        )
