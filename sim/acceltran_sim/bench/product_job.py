"""One product as programs of a machine, with its operands in the buffers or in DRAM."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.bench.masks import MASKS
from acceltran_sim.bench.product_memory import Part, ProductMemory, row_stride
from acceltran_sim.bench.streamed_product import Places, StreamedProduct
from acceltran_sim.errors import InputError
from acceltran_sim.golden.product import product
from acceltran_sim.program.assembler import encode_program
from acceltran_sim.program.column_order import by_density
from acceltran_sim.program.command import Command
from acceltran_sim.program.products import DEFAULT_ORDER, Product, product_commands
from acceltran_sim.program.timeline import Timeline
from acceltran_sim.program.vectors import rows_to_vectors

__all__ = ["MeasuredProduct", "ProductJob"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MeasuredProduct:
    """Programs of a product, and the memory that they work on."""

    programs: tuple[tuple[Command, ...], ...]
    measured: int
    """Number of the program whose cycles count."""
    memory: ProductMemory
    image: bytes
    """Of all memory: operands, room for the result, programs."""
    addresses: tuple[int, ...]
    """Of the first command of each program."""


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
    from_dram : bool
        Operands and result are in DRAM, and loads and stores count; else they are in the buffers.

    Raises
    ------
    InputError
        For a product that does not fit the machine.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        a: Integers,
        b: Integers,
        *,
        order: str = DEFAULT_ORDER,
        from_dram: bool = False,
    ):
        _check_size(config, len(a), len(b), b.shape[1], from_dram)
        self.config = config
        # Static weights come with their columns in the best order: so do those of an encoder.
        ordered = config.datapath.weight_window > 0
        self.a, self.b = a, b[:, by_density(b)] if ordered else b
        self.order = order
        self.from_dram = from_dram

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
        from_dram: bool = False,
        seed: int = 0,
    ) -> "ProductJob":
        """Operands with values of any size that the format has, and zeros by ``MASKS[masks]``."""
        _check_size(config, rows, inner, columns, from_dram)
        rng = np.random.default_rng(seed)

        def operand(rows: int, columns: int, density: float) -> Integers:
            values = rng.integers(1, config.fmt.highest, (rows, columns), endpoint=True)
            values *= rng.choice([-1, 1], (rows, columns))
            return np.where(MASKS[masks](rng, rows, columns, density), values, 0)

        a = operand(rows, inner, density)
        b = operand(inner, columns, weight_density)
        return cls(config, a, b, order=order, from_dram=from_dram)

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

    def build(self) -> MeasuredProduct:
        """Programs and the memory that they work on."""
        return self._in_dram() if self.from_dram else self._in_buffers()

    def _in_buffers(self) -> MeasuredProduct:
        """Load, multiply and store, each a program of its own; the product alone counts."""
        whole = self._whole()
        everything = Part(0, whole.rows)
        memory = self._memory()
        loads = [memory.load_rows(everything, whole.a_base, whole.a_row_stride)]
        loads += [
            memory.load_columns(piece, whole.b_base + piece.first, whole.b_row_stride)
            for piece in memory.pieces
        ]
        products = product_commands(self.config, whole, self.order)
        stores = [
            memory.store(everything, piece, whole.c_base + piece.first, whole.c_row_stride)
            for piece in memory.pieces
        ]
        return self._build(memory, [loads, products, stores], measured=1)

    def _in_dram(self) -> MeasuredProduct:
        """One program: what has arrived is multiplied, what is finished is stored."""
        memory = self._memory()
        streamed = StreamedProduct(
            self.config, memory, self._whole(), cycles=self.ideal_cycles, order=self.order
        )
        return self._build(memory, [streamed.commands()], measured=0)

    def _memory(self) -> ProductMemory:
        tile = self.config.datapath.tile
        a, b = (rows_to_vectors(operand, tile) for operand in (self.a, self.b))
        return ProductMemory(self.config, a, b)

    def _whole(self) -> Product:
        """The product as one block, the result behind A."""
        tile = self.config.datapath.tile
        rows, inner = self.a.shape
        inner_vectors, columns = -(-inner // tile), -(-self.b.shape[1] // tile)
        a_stride = row_stride(self.config, inner_vectors)
        return Product(
            a_base=0,
            a_row_stride=a_stride,
            inner_vectors=inner_vectors,
            b_source=OperandSource.WEIGHT,
            b_base=0,
            b_row_stride=columns,
            b_rows=inner,
            c_base=rows * a_stride,
            c_row_stride=row_stride(self.config, columns),
            c_first=0,
            columns=columns,
            rows=rows,
            shift=self._shift,
            threshold=THRESHOLDS - 1,
        )

    def _build(
        self, memory: ProductMemory, programs: Sequence[Iterable[Command]], *, measured: int
    ) -> MeasuredProduct:
        finished = tuple(self._program(commands) for commands in programs)
        addresses = tuple(memory.image.append(encode_program(program)) for program in finished)
        return MeasuredProduct(
            programs=finished,
            measured=measured,
            memory=memory,
            image=memory.image.content(),
            addresses=addresses,
        )

    def _program(self, commands: Iterable[Command]) -> tuple[Command, ...]:
        timeline = Timeline(self.config)
        for command in (*commands, Command(opcode=Opcode.END)):
            timeline.add(command)
        return tuple(timeline.commands)

    def result(self, built: MeasuredProduct, image: bytes) -> Integers:
        """Result [rows, columns] from the memory that the programs left."""
        return built.memory.result(image)[:, : self.b.shape[1]]


def _check_size(
    config: AcceleratorConfig, rows: int, inner: int, columns: int, from_dram: bool
) -> None:
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
    if from_dram:
        Places.find(config, rows, inner, column_vectors)
        return
    needed = rows * (row_stride(config, inner_vectors) + row_stride(config, column_vectors))
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
