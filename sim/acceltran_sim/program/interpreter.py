"""Runs programs with the golden units: every bit, no cycle, and every rule of a program checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.activation import Activation
from acceltran.arch.commands import THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.layernorm_format import LayerNormFields
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.epilogue import epilogue
from acceltran_sim.golden.layernorm import layer_norm
from acceltran_sim.golden.localizer import Localizer
from acceltran_sim.golden.product import exact_sums
from acceltran_sim.golden.softmax import softmax
from acceltran_sim.golden.threshold_control import ThresholdControl
from acceltran_sim.program.assembler import decode_program, format_command
from acceltran_sim.program.buffers import Buffers
from acceltran_sim.program.command import Command, Stage
from acceltran_sim.program.footprint import ACTIVATION, WEIGHT, row_stages
from acceltran_sim.program.kept_sums import KeptSums
from acceltran_sim.program.ordering import OrderChecker, ProgramError
from acceltran_sim.program.product_rules import check_product
from acceltran_sim.program.tile_reuse import edge_tiles
from acceltran_sim.program.vectors import pack_vectors, unpack_vectors

__all__ = ["Interpreter", "ProductWork", "ProgramError", "interpret"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ProductWork:
    """What a MATMUL has to do, in all clusters together."""

    scalars: int
    """Elements of the row operand that are not zero."""
    most_scalars: int
    """Those of the cluster that has the most."""
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
        self.control = control or ThresholdControl(config.fmt, {}, {})
        self._buffers = Buffers(config)
        self._begin()

    def _begin(self) -> None:
        """Forget all that does not outlive a program."""
        self._thresholds = [0] * THRESHOLDS
        self._clusters = [Localizer(n) for n in range(self.config.array.clusters)]
        self._span: int | None = None
        self._shared = False
        # What the product before has kept of its operand, in each cluster.
        self._kept: tuple[tuple[int, ...], list[Integers]] | None = None
        self._sums = KeptSums(self.config)
        self._order = self._buffers.order = OrderChecker(self.config)

    @property
    def products_effectual(self) -> int:
        """Products so far whose factors are both not zero."""
        return sum(work.effectual for work in self.products)

    def run(self, commands: Sequence[Command]) -> None:
        """Run a program to its END; buffers keep what they hold from program to program."""
        self._begin()
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
            case Opcode.SEQUENCE:
                self._sequence(command)
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

    def _count(self, command: Command, values: Integers) -> None:
        self.control.count(command["threshold"], int(np.count_nonzero(values)))

    def _threshold(self, command: Command) -> int:
        self._order.use_threshold(command["threshold"])
        return self._thresholds[command["threshold"]]

    def _rows(self, command: Command) -> list[int]:
        """Valid rows of each cluster."""
        return [cluster.rows(command.fields) for cluster in self._clusters]

    def _read_rows(
        self, c: Command, base: int, stride: int, columns: int, stage: Stage = Stage.START
    ) -> Integers:
        """Valid rows of all clusters, one after the other."""
        return np.concatenate([
            self._buffers.read(ACTIVATION, base, rows, stride, columns, n, stage=stage)
            for n, rows in enumerate(self._rows(c))
        ])

    def _write_rows(self, c: Command, base: int, stride: int, values: Integers) -> None:
        """Inverse of ``_read_rows``; a command with ``share`` writes to all clusters of a group."""
        start = 0
        for n, rows in enumerate(self._rows(c)):
            cluster = self._clusters[n]
            place = base + cluster.c_offset(c.fields)
            for target in cluster.group if c["share"] else [n]:
                part = values[start : start + rows]
                self._buffers.write(ACTIVATION, place, stride, part, target, source=n)
            start += rows

    def _read_weights(self, base: int, rows: int, stride: int, columns: int) -> Integers:
        return self._buffers.read(WEIGHT, base, rows, stride, columns)

    # Commands.

    def _sequence(self, c: Command) -> None:
        size = 1 << c["span"]
        if c["group"] * size + size > len(self._clusters):
            raise ProgramError(f"The clusters of a group must be below {len(self._clusters)}")
        if c["length"] > c["rows"] * size:
            raise ProgramError(f"{size} clusters must own {c['length']} rows")
        if self._shared and c["span"] != self._span:
            raise ProgramError("span must not change once products share")
        self._span = c["span"]
        for cluster in self._clusters:
            cluster.sequence(c.fields)

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
        base, cluster = c["base"], 0
        if c["buffer"] == ACTIVATION and len(self._clusters) > 1:
            cluster, base = divmod(base, 1 << self.config.cluster_address_bits)
            if cluster >= len(self._clusters):
                raise ProgramError(f"The cluster must be below {len(self._clusters)}")
        if c.opcode == Opcode.LOAD:
            content = bytes(self.dram[start : start + size])
            values = unpack_vectors(content, self.config).reshape(rows, -1)
            self._buffers.write(c["buffer"], base, stride, values, cluster)
        else:
            values = self._buffers.read(c["buffer"], base, rows, stride, columns, cluster)
            self.dram[start : start + size] = pack_vectors(
                values.reshape(-1, self.config.datapath.tile), self.config
            )

    def _product(self, c: Command) -> None:
        slots = check_product(self.config, c)
        self._shared |= bool(c["share"])
        columns = c["columns"]
        bias: Integers | int = 0
        if c["bias_enable"] and not c["keep_sums"]:
            bias = self._read_weights(c["bias_base"], 1, 0, columns)[0]
        threshold = self._threshold(c)
        rows = self._rows(c)
        cuts = np.cumsum(rows)[:-1]
        scalars = np.zeros(len(self._clusters), dtype=np.int64)
        effectual = 0
        for b in range(c["batches"]):
            a_base, b_base, c_base = (
                c[f"{x}_base"] + b * c[f"{x}_batch_stride"] for x in ("a", "b", "c")
            )
            a = self._first(c, a_base)
            parts = np.split(a, cuts)
            scalars += [np.count_nonzero(part) for part in parts]
            exact, operands = [], []
            # Weights are the same for all clusters.
            weights = c["b_source"] == OperandSource.WEIGHT
            for n, part in enumerate([a] if weights else parts):
                second = self._second(c, b_base, n)
                operands.append(second)
                taken = np.count_nonzero(part, axis=0)
                effectual += int((taken * np.count_nonzero(second, axis=1)).sum())
                exact.append(exact_sums(part, second, fmt=self.config.fmt))
            if b == 0:
                self._reuse(c, operands)
            sums = np.concatenate(exact)
            if c["resume_sums"]:
                sums += self._sums.resume(c, rows)
            self._sums.leave(c, rows, sums, slots)
            if c["keep_sums"]:
                continue
            values, _, saturated = epilogue(
                sums,
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
            self._write_rows(c, c_base + c["c_first"], c["c_row_stride"], values)
        self.products.append(
            ProductWork(
                scalars=int(scalars.sum()),
                most_scalars=int(scalars.max()),
                columns=columns * self.config.datapath.tile,
                effectual=effectual,
            )
        )

    def _reuse(self, c: Command, operands: list[Integers]) -> None:
        """Check that a tile which is kept is the one that is reused."""
        kept = self._kept
        if bool(c["reuse_tile"]) != (kept is not None):
            raise ProgramError("A product must reuse a tile if the one before has kept it")
        if not (c["reuse_tile"] or c["keep_tile"]):
            return
        first, last = edge_tiles(self.config, c)
        if kept is not None and not (
            kept[0] == first and all(map(np.array_equal, kept[1], operands))
        ):
            raise ProgramError("A tile that is reused must be the one that was kept")
        self._kept = (last, operands) if c["keep_tile"] else None

    def _first(self, c: Command, base: int) -> Integers:
        """Operand A, [rows, inner]."""
        return np.hstack([
            self._read_rows(c, base + first, c["a_row_stride"], count, stage)
            for first, count, stage in row_stages(c)
        ])

    def _second(self, c: Command, base: int, cluster: int) -> Integers:
        """Operand B, [inner, columns], as a cluster sees it."""
        tile, columns, inner = self.config.datapath.tile, c["columns"], c["inner_vectors"]
        transposed = c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
        shape = (columns, inner) if transposed else (inner, columns)
        second = np.zeros((shape[0] * tile, shape[1] * tile), dtype=np.int64)
        valid = min(self._clusters[cluster].b_rows(c.fields), len(second))
        buffer = WEIGHT if c["b_source"] == OperandSource.WEIGHT else ACTIVATION
        second[:valid] = self._buffers.read(
            buffer, base, valid, c["b_row_stride"], shape[1], cluster
        )
        return second.T if transposed else second

    def _softmax(self, c: Command) -> None:
        scores = self._read_rows(c, c["source_base"], c["source_row_stride"], c["blocks"])
        keys = [cluster.softmax_keys(c.fields) for cluster in self._clusters]
        probabilities = softmax(
            scores,
            fmt=self.config.fmt,
            constant=c["constant"],
            shift=c["shift"],
            keys=np.repeat(keys, self._rows(c)),
        )
        kept, _ = prune(probabilities, self._threshold(c))
        self._count(c, kept)
        self._write_rows(c, c["target_base"], c["target_row_stride"], kept)

    def _norm(self, c: Command) -> None:
        blocks, columns = c["blocks"], c["columns"]
        tile = self.config.datapath.tile
        if not (blocks - 1) * tile < columns <= blocks * tile:
            raise ProgramError(f"{columns} columns must need {blocks} vectors")
        a = self._read_rows(c, c["a_base"], c["a_row_stride"], blocks)
        b = self._read_rows(c, c["b_base"], c["b_row_stride"], blocks)
        result = np.zeros_like(a)
        values, saturated = layer_norm(
            a[:, :columns],
            b[:, :columns],
            fmt=self.config.fmt,
            gamma=self._read_weights(c["gamma_base"], 1, 0, blocks)[0, :columns],
            beta=self._read_weights(c["beta_base"], 1, 0, blocks)[0, :columns],
            fields=LayerNormFields(**{
                name: c[name] for name in LayerNormFields.__dataclass_fields__
            }),
        )
        self.saturated += saturated
        result[:, :columns] = prune(values, self._threshold(c))[0]
        self._count(c, result)
        self._write_rows(c, c["target_base"], c["target_row_stride"], result)


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
