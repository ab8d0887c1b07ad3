"""A job that uses every kind of command, for benches of the whole machine."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acceltran.arch.commands import LOOPS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.layernorm_format import LayerNormFields
from acceltran.arch.softmax_format import softmax_constant
from acceltran_sim.program.command import Command
from acceltran_sim.program.image import Image
from acceltran_sim.program.interpreter import interpret
from acceltran_sim.program.vectors import pack_vectors

__all__ = ["SmallJob", "command", "matmul"]

BASE = 0x4_0000
PROGRAM_BYTES = 0x1000
ROWS, BLOCKS = 4, 2
RESULT = ROWS * BLOCKS
"""Vectors of a result."""


def command(
    opcode: Opcode,
    *,
    after: Iterable[tuple[int, int]] = (),
    signal: int | None = None,
    **fields: int,
) -> Command:
    """A command that waits for semaphores to have counted, and counts one."""
    header: dict[str, int] = {}
    for n, (semaphore, count) in enumerate(after):
        header |= {
            f"wait{n}_enable": 1,
            f"wait{n}_semaphore": semaphore,
            f"wait{n}_count": count,
        }
    if signal is not None:
        header |= {"signal_enable": 1, "signal": signal}
    return Command(opcode=opcode, fields=header | fields)


def matmul(order: str = "bijk", **fields: Any) -> Command:
    """A MATMUL of a matrix of ROWS rows and BLOCKS vectors, by default."""
    loops = {f"order{n}": LOOPS.index(loop) for n, loop in enumerate(order)}
    shape: dict[str, Any] = {
        "a_row_stride": BLOCKS,
        "inner_vectors": BLOCKS,
        "b_row_stride": BLOCKS,
        "c_row_stride": BLOCKS,
        "columns": BLOCKS,
        "rows": ROWS,
        "batches": 1,
        "row_tile": 2,
        "inner_tile": 1,
        "streams": 1,
        "shift": 10,
    }
    return command(Opcode.MATMUL, **{**shape, **loops, **fields})


@dataclass
class SmallJob:
    """A program and its memory.

    Semaphores 0 to 3 count the commands of the load, store, product and vector queues.

    Parameters
    ----------
    config : AcceleratorConfig
        Its vectors have 16 elements.
    """

    config: AcceleratorConfig

    def __post_init__(self) -> None:
        tile = self.config.datapath.tile
        image = Image(BASE)

        def tensor(vectors: int) -> int:
            values = np.array([
                [random.choice([0, random.randint(-700, 700)]) for _ in range(tile)]
                for _ in range(vectors)
            ])
            return image.append(pack_vectors(values, self.config))

        self.a = tensor(RESULT)
        self.weights = tensor(BLOCKS * tile * BLOCKS)
        self.vectors = tensor(3 * BLOCKS)
        self.output_size = RESULT * self.config.vector_bytes
        self.outputs = [image.reserve(self.output_size) for _ in range(2)]
        self.program = image.reserve(PROGRAM_BYTES)
        self.image = image.content()
        self.region = (BASE, image.end - 1)

    @property
    def commands(self) -> list[Command]:
        """Loads, a product, softmax, layer norm, a product of activations, and stores."""
        tile = self.config.datapath.tile
        constant, shift = softmax_constant(tile, 8, self.config.fmt)
        norm = LayerNormFields.of(
            fmt=self.config.fmt,
            columns=BLOCKS * tile - 3,
            eps=1e-5,
            input_exponent=-8,
            gamma_exponent=-8,
            beta_exponent=-8,
            output_exponent=-8,
        )
        weights = BLOCKS * tile * BLOCKS
        load: dict[str, Any] = {"row_vectors": BLOCKS, "row_stride": BLOCKS, "signal": 0}
        store: dict[str, Any] = {**load, "vectors": RESULT, "signal": 1}
        strides = {"source_row_stride": BLOCKS, "target_row_stride": BLOCKS}
        norm_strides = {f"{name}_row_stride": BLOCKS for name in ("a", "b", "target")}
        return [
            command(Opcode.THRESHOLD, index=5, value=40),
            command(Opcode.LOAD, dram_address=self.a, base=0, vectors=RESULT, **load),
            command(
                Opcode.LOAD, dram_address=self.weights, buffer=1, base=0, vectors=weights, **load
            ),
            command(
                Opcode.LOAD,
                dram_address=self.vectors,
                buffer=1,
                base=weights,
                vectors=3 * BLOCKS,
                **load,
            ),
            matmul(
                after=[(0, 3)],
                signal=2,
                c_base=16,
                b_rows=BLOCKS * tile,
                bias_enable=1,
                bias_base=weights,
                threshold=5,
            ),
            command(
                Opcode.SOFTMAX,
                after=[(2, 1)],
                signal=3,
                source_base=16,
                target_base=32,
                rows=ROWS,
                blocks=BLOCKS,
                keys=ROWS,
                constant=constant,
                shift=shift,
                **strides,
            ),
            command(
                Opcode.LAYERNORM,
                after=[(2, 1)],
                signal=3,
                a_base=0,
                b_base=16,
                target_base=48,
                gamma_base=weights + BLOCKS,
                beta_base=weights + 2 * BLOCKS,
                rows=ROWS,
                blocks=BLOCKS,
                **norm_strides,
                **vars(norm),
            ),
            matmul(
                after=[(3, 1)],
                signal=2,
                a_base=32,
                b_source=OperandSource.ACTIVATION,
                b_base=16,
                b_rows=ROWS,
                c_base=64,
                shift=8,
            ),
            command(Opcode.STORE, dram_address=self.outputs[0], base=64, after=[(2, 2)], **store),
            command(Opcode.STORE, dram_address=self.outputs[1], base=48, after=[(3, 2)], **store),
            command(Opcode.END, after=[(1, 2)]),
        ]

    def image_with(self, commands: Sequence[Command | bytes]) -> bytes:
        """Memory with this program in it."""
        code = b"".join(c if isinstance(c, bytes) else c.encode() for c in commands)
        assert len(code) <= PROGRAM_BYTES
        start = self.program - BASE
        return self.image[:start] + code + self.image[start + len(code) :]

    def expected(self) -> bytes:
        """Memory after the job, from the golden models."""
        code = self.commands
        size = sum(len(c.encode()) for c in code)
        return bytes(interpret(self.config, BASE, self.image_with(code), self.program, size).dram)

    def is_output(self, address: int) -> bool:
        """Say whether a byte belongs to what the job stores."""
        return any(0 <= address - output < self.output_size for output in self.outputs)
