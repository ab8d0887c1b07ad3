"""Runs programs with the golden units: every bit, no cycle, and every rule of a program checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.activation import Activation
from acceltran.arch.commands import LOOPS, THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.layernorm_format import LayerNormFields
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.epilogue import epilogue
from acceltran_sim.golden.layernorm import layer_norm
from acceltran_sim.golden.product import exact_sums
from acceltran_sim.golden.softmax import softmax
from acceltran_sim.golden.threshold_control import ThresholdControl
from acceltran_sim.program.assembler import decode_program, format_command
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import ACTIVATION, WEIGHT
from acceltran_sim.program.ordering import OrderChecker, ProgramError
from acceltran_sim.program.products import stream_counts
from acceltran_sim.program.vectors import pack_vectors, unpack_vectors

__all__ = ["Interpreter", "ProductWork", "ProgramError", "interpret"]

Integers = npt.NDArray[np.int64]


@dataclass
class _Buffer:
    """Vectors of an on-chip buffer, and which of them were ever written."""

    values: Integers
    written: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ProductWork:
    """What a MATMUL has to do."""

    scalars: int
    """Elements of the row operand that are not zero."""
    columns: int
    """Columns of the result, in whole vectors."""
    effectual: int
    """Products whose factors are both not zero."""


class Interpreter:
    """An accelerator without time, and the DRAM that it works on.

    Commands run one after another; an access outside of a buffer or of DRAM, to a vector never
    written, a field without meaning, or an order that semaphores do not enforce raises
    ``ProgramError`` with the command.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    base : int
        Address of the first byte of DRAM.
    dram : bytes
        Content of DRAM.
    control : ThresholdControl, optional
        Curves and positions of the threshold table.

    Members
    -------
    dram : bytearray
        Content of DRAM.
    products : list of ProductWork
        MATMUL commands so far.
    saturated : int
        Values so far that products and layer norms clipped.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        base: int,
        dram: bytes,
        control: ThresholdControl | None = None,
    ):
        self.config = config
        self.base = base
        self.dram = bytearray(dram)
        self.products: list[ProductWork] = []
        self.saturated = 0
        tile = config.datapath.tile
        self._buffers = [
            _Buffer(np.zeros((size, tile), dtype=np.int64), np.zeros(size, dtype=np.bool_))
            for size in (config.activation_vectors, config.weight_vectors)
        ]
        self.control = control or ThresholdControl(config.fmt, {}, {})
        self._thresholds = [0] * THRESHOLDS
        self._order = OrderChecker(config)

    @property
    def products_effectual(self) -> int:
        """Products so far whose factors are both not zero."""
        return sum(work.effectual for work in self.products)

    def run(self, commands: Sequence[Command]) -> None:
        """Run a program to its END."""
        for number, command in enumerate(commands):
            try:
                if self._execute(command):
                    if number != len(commands) - 1:
                        raise ProgramError("END must be the last command")
                    return
            except ProgramError as error:
                text = format_command(command)
                raise ProgramError(f"Command {number}, {text}: {error}") from None
        raise ProgramError("A program must end with END")

    def _execute(self, command: Command) -> bool:
        self._order.start(command)
        match command.opcode:
            case Opcode.LOAD | Opcode.STORE:
                self._transfer(command)
            case Opcode.MATMUL:
                self._product(command)
            case Opcode.SOFTMAX:
                self._softmax(command)
            case Opcode.LAYERNORM:
                self._norm(command)
            case Opcode.THRESHOLD:
                self._order.set_threshold(command["index"])
                try:
                    self._thresholds[command["index"]] = self.control.threshold(command.fields)
                except KeyError:
                    raise ProgramError("The entry must have a curve and a position") from None
            case Opcode.END:
                self.control.end()
                return True
        return False

    # Buffers. Tensors are [rows, columns] of elements.

    def _addresses(self, buffer: int, base: int, rows: int, stride: int, columns: int) -> Integers:
        addresses = base + stride * np.arange(rows)[:, np.newaxis] + np.arange(columns)
        size = len(self._buffers[buffer].values)
        if addresses.size and not (addresses.min() >= 0 and addresses.max() < size):
            raise ProgramError(f"Vector {addresses.max()} is beyond the buffer's {size}")
        return addresses

    def _read(self, buffer: int, base: int, rows: int, stride: int, columns: int) -> Integers:
        addresses = self._addresses(buffer, base, rows, stride, columns)
        missing = addresses[~self._buffers[buffer].written[addresses]]
        if missing.size:
            raise ProgramError(f"Vector {missing[0]} of buffer {buffer} was never written")
        self._order.read(buffer, addresses.ravel())
        return self._buffers[buffer].values[addresses].reshape(rows, -1)

    def _write(self, buffer: int, base: int, stride: int, values: Integers) -> None:
        vectors = values.reshape(len(values), -1, self.config.datapath.tile)
        addresses = self._addresses(buffer, base, len(values), stride, vectors.shape[1])
        self._order.write(buffer, addresses.ravel())
        self._buffers[buffer].values[addresses] = vectors
        self._buffers[buffer].written[addresses] = True

    def _count(self, command: Command, values: Integers) -> None:
        self.control.count(command["threshold"], int(np.count_nonzero(values)))

    def _threshold(self, command: Command) -> int:
        self._order.use_threshold(command["threshold"])
        return self._thresholds[command["threshold"]]

    # Commands.

    def _transfer(self, c: Command) -> None:
        if c["compressed"]:
            raise ProgramError("compressed must be 0 here")
        if not c["row_vectors"] or c["vectors"] % c["row_vectors"] or c["dram_address"] % 8:
            raise ProgramError("vectors must be whole rows, the address a multiple of 8")
        rows, columns, stride = c["vectors"] // c["row_vectors"], c["row_vectors"], c["row_stride"]
        size = c["vectors"] * self.config.vector_bytes
        start = c["dram_address"] - self.base
        if start < 0 or start + size > len(self.dram):
            raise ProgramError("A transfer must lie inside the region")
        if c.opcode == Opcode.LOAD:
            content = bytes(self.dram[start : start + size])
            values = unpack_vectors(content, self.config).reshape(rows, -1)
            self._write(c["buffer"], c["base"], stride, values)
        else:
            values = self._read(c["buffer"], c["base"], rows, stride, columns)
            self.dram[start : start + size] = pack_vectors(
                values.reshape(-1, self.config.datapath.tile), self.config
            )

    def _product(self, c: Command) -> None:
        self._check_product(c)
        tile, columns, inner = self.config.datapath.tile, c["columns"], c["inner_vectors"]
        bias: Integers | int = 0
        if c["bias_enable"]:
            bias = self._read(WEIGHT, c["bias_base"], 1, 0, columns)[0]
        threshold = self._threshold(c)
        scalars = effectual = 0
        for b in range(c["batches"]):
            a_base, b_base, c_base = (
                c[f"{x}_base"] + b * c[f"{x}_batch_stride"] for x in ("a", "b", "c")
            )
            a = self._read(ACTIVATION, a_base, c["rows"], c["a_row_stride"], inner)
            transposed = c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
            shape = (columns, inner) if transposed else (inner, columns)
            second = np.zeros((shape[0] * tile, shape[1] * tile), dtype=np.int64)
            valid = min(c["b_rows"], len(second))
            source = WEIGHT if c["b_source"] == OperandSource.WEIGHT else ACTIVATION
            second[:valid] = self._read(source, b_base, valid, c["b_row_stride"], shape[1])
            if transposed:
                second = second.T
            taken = np.count_nonzero(a, axis=0)
            scalars += int(taken.sum())
            effectual += int((taken * np.count_nonzero(second, axis=1)).sum())
            values, _, saturated = epilogue(
                exact_sums(a, second, fmt=self.config.fmt),
                bias=bias,
                bias_shift=c["bias_shift"],
                shift=c["shift"],
                function=Activation(c["function"]),
                gelu_input_shift=c["gelu_input_shift"],
                gelu_output_shift=c["gelu_output_shift"],
                threshold=threshold,
                fmt=self.config.fmt,
            )
            self.saturated += saturated
            self._count(c, values)
            self._write(ACTIVATION, c_base + c["c_first"], c["c_row_stride"], values)
        work = ProductWork(scalars=scalars, columns=columns * tile, effectual=effectual)
        self.products.append(work)

    def _check_product(self, c: Command) -> None:
        datapath, array = self.config.datapath, self.config.array
        order = "".join(LOOPS[c[f"order{n}"]] for n in range(len(LOOPS)))
        if sorted(order) != sorted(LOOPS):
            raise ProgramError(f"The order must name each loop once, not {order}")
        for name in ("inner_vectors", "columns", "rows", "batches", "row_tile", "inner_tile"):
            if not c[name]:
                raise ProgramError(f"{name} must be at least 1")
        banks = array.pes_per_cluster
        for name in ("c_base", "c_row_stride"):
            if c[name] % banks:
                raise ProgramError(f"{name} must be a multiple of {banks}")
        if c["inner_vectors"] * datapath.tile > self.config.limits.inner:
            raise ProgramError(f"The sum must not be longer than {self.config.limits.inner}")
        if c["inner_tile"] * datapath.tile > datapath.tile_rows // 2:
            raise ProgramError(f"A tile must not have more than {datapath.tile_rows // 2} rows")
        words = -(-(c["c_first"] + c["columns"]) // banks) - c["c_first"] // banks
        tiles = {"b": c["batches"], "i": -(-c["rows"] // c["row_tile"])}
        if c["streams"] not in stream_counts(array.streams):
            raise ProgramError(
                f"streams must be a power of two up to {array.streams}, not {c['streams']}"
            )
        tiles["j"] = -(-words // (array.lanes // c["streams"]))
        inside = [tiles[loop] for loop in order[order.index("k") + 1 :]]
        sums = -(-c["row_tile"] // c["streams"]) * int(np.prod(inside))
        if c["inner_vectors"] > c["inner_tile"] and sums > datapath.partial_sums:
            raise ProgramError(f"{datapath.partial_sums} partial sums must be enough, not {sums}")

    def _softmax(self, c: Command) -> None:
        rows, blocks = c["rows"], c["blocks"]
        scores = self._read(ACTIVATION, c["source_base"], rows, c["source_row_stride"], blocks)
        probabilities = softmax(
            scores,
            fmt=self.config.fmt,
            constant=c["constant"],
            shift=c["shift"],
            keys=c["keys"],
        )
        kept, _ = prune(probabilities, self._threshold(c))
        self._count(c, kept)
        self._write(ACTIVATION, c["target_base"], c["target_row_stride"], kept)

    def _norm(self, c: Command) -> None:
        rows, blocks, columns = c["rows"], c["blocks"], c["columns"]
        tile = self.config.datapath.tile
        if not (blocks - 1) * tile < columns <= blocks * tile:
            raise ProgramError(f"{columns} columns must need {blocks} vectors")
        a = self._read(ACTIVATION, c["a_base"], rows, c["a_row_stride"], blocks)
        b = self._read(ACTIVATION, c["b_base"], rows, c["b_row_stride"], blocks)
        result = np.zeros_like(a)
        values, saturated = layer_norm(
            a[:, :columns],
            b[:, :columns],
            fmt=self.config.fmt,
            gamma=self._read(WEIGHT, c["gamma_base"], 1, 0, blocks)[0, :columns],
            beta=self._read(WEIGHT, c["beta_base"], 1, 0, blocks)[0, :columns],
            fields=LayerNormFields(**{
                name: c[name] for name in LayerNormFields.__dataclass_fields__
            }),
        )
        self.saturated += saturated
        result[:, :columns] = prune(values, self._threshold(c))[0]
        self._count(c, result)
        self._write(ACTIVATION, c["target_base"], c["target_row_stride"], result)


def interpret(
    config: AcceleratorConfig,
    base: int,
    image: bytes,
    program_address: int,
    size: int,
    control: ThresholdControl | None = None,
) -> Interpreter:
    """Run the program of ``size`` bytes at ``program_address`` in ``image``, as hardware does."""
    start = program_address - base
    interpreter = Interpreter(config, base, image, control)
    interpreter.run(decode_program(image[start : start + size]))
    return interpreter
