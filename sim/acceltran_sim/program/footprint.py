"""Which vectors of the on-chip buffers a command reads and writes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import Opcode, OperandSource
from acceltran_sim.program.command import Command

__all__ = ["ACTIVATION", "WEIGHT", "Access", "footprint"]

ACTIVATION, WEIGHT = 0, 1
"""Buffers, as in the ``buffer`` field of transfers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Access:
    """Vectors of one buffer that a command reads or writes."""

    buffer: int
    write: bool
    vectors: npt.NDArray[np.int64]


def _block(base: int, rows: int, stride: int, columns: int) -> npt.NDArray[np.int64]:
    return (base + stride * np.arange(rows)[:, np.newaxis] + np.arange(columns)).ravel()


def footprint(command: Command, tile: int) -> list[Access]:
    """Accesses of a command, all its batches and tiles together."""
    c = command

    def access(buffer: int, write: bool, *block: int) -> Access:
        return Access(buffer=buffer, write=write, vectors=_block(*block))

    match c.opcode:
        case Opcode.LOAD | Opcode.STORE:
            rows = c["vectors"] // c["row_vectors"]
            place = (c["base"], rows, c["row_stride"], c["row_vectors"])
            return [access(c["buffer"], c.opcode == Opcode.LOAD, *place)]
        case Opcode.MATMUL:
            accesses = []
            inner, columns = c["inner_vectors"], c["columns"]
            transposed = c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
            b_rows = min(c["b_rows"], (columns if transposed else inner) * tile)
            b_columns = inner if transposed else columns
            b_buffer = WEIGHT if c["b_source"] == OperandSource.WEIGHT else ACTIVATION
            for b in range(c["batches"]):
                a, second, result = (
                    c[f"{x}_base"] + b * c[f"{x}_batch_stride"] for x in ("a", "b", "c")
                )
                accesses += [
                    access(ACTIVATION, False, a, c["rows"], c["a_row_stride"], inner),
                    access(b_buffer, False, second, b_rows, c["b_row_stride"], b_columns),
                    access(
                        ACTIVATION,
                        True,
                        result + c["c_first"],
                        c["rows"],
                        c["c_row_stride"],
                        columns,
                    ),
                ]
            if c["bias_enable"]:
                accesses.append(access(WEIGHT, False, c["bias_base"], 1, 0, columns))
            return accesses
        case Opcode.SOFTMAX:
            rows, blocks = c["rows"], c["blocks"]
            return [
                access(ACTIVATION, False, c["source_base"], rows, c["source_row_stride"], blocks),
                access(ACTIVATION, True, c["target_base"], rows, c["target_row_stride"], blocks),
            ]
        case Opcode.LAYERNORM:
            rows, blocks = c["rows"], c["blocks"]
            return [
                access(ACTIVATION, False, c["a_base"], rows, c["a_row_stride"], blocks),
                access(ACTIVATION, False, c["b_base"], rows, c["b_row_stride"], blocks),
                access(WEIGHT, False, c["gamma_base"], 1, 0, blocks),
                access(WEIGHT, False, c["beta_base"], 1, 0, blocks),
                access(ACTIVATION, True, c["target_base"], rows, c["target_row_stride"], blocks),
            ]
        case _:
            return []
