"""Which vectors of the on-chip buffers a command reads and writes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command, Stage

__all__ = ["ACTIVATION", "WEIGHT", "Access", "footprint", "row_stages"]

ACTIVATION, WEIGHT = 0, 1
"""Buffers, as in the ``buffer`` field of transfers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Access:
    """Vectors of one buffer that a command reads or writes."""

    buffer: int
    write: bool
    vectors: npt.NDArray[np.int64]
    shared: bool = False
    """Written to all clusters of a group."""
    stage: Stage = Stage.START
    """What of a product touches them first."""


def _block(base: int, rows: int, stride: int, columns: int) -> npt.NDArray[np.int64]:
    return (base + stride * np.arange(rows)[:, np.newaxis] + np.arange(columns)).ravel()


def row_stages(product: Command) -> list[tuple[int, int, Stage]]:
    """First vector and number of those of a row of A that are read first at a stage."""
    inner, size = product["inner_vectors"], product["inner_tile"]
    before_last = (inner - 1) // size * size
    if not before_last:
        return [(0, inner, Stage.ROWS)]
    return [(0, before_last, Stage.ROWS), (before_last, inner - before_last, Stage.FINAL)]


def footprint(command: Command, config: AcceleratorConfig, group: int = 1) -> list[Access]:
    """Accesses of a command, all its batches and tiles together.

    Vectors of activations are those of a cluster's buffer: which cluster does not matter. Parts of
    rows that SEQUENCE leaves out take part, and ``group`` clusters share what they share. Sums
    that stay in the lanes are no access.
    """
    c, tile = command, config.datapath.tile

    def access(buffer: int, write: bool, *block: int) -> Access:
        return Access(buffer=buffer, write=write, vectors=_block(*block))

    match c.opcode:
        case Opcode.LOAD | Opcode.STORE:
            rows = c["vectors"] // c["row_vectors"]
            base = c["base"]
            if c["buffer"] == ACTIVATION and config.array.clusters > 1:
                base %= 1 << config.cluster_address_bits
            place = (base, rows, c["row_stride"], c["row_vectors"])
            return [access(c["buffer"], c.opcode == Opcode.LOAD, *place)]
        case Opcode.MATMUL:
            accesses = []
            inner, columns = c["inner_vectors"], c["columns"]
            stages = row_stages(c)
            transposed = c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
            b_rows = min(c["b_rows"], (columns if transposed else inner) * tile)
            b_columns = inner if transposed else columns
            b_buffer = WEIGHT if c["b_source"] == OperandSource.WEIGHT else ACTIVATION
            for b in range(c["batches"]):
                a, second, result = (
                    c[f"{x}_base"] + b * c[f"{x}_batch_stride"] for x in ("a", "b", "c")
                )
                for first, count, stage in stages:
                    vectors = _block(a + first, c["rows"], c["a_row_stride"], count)
                    accesses.append(
                        Access(buffer=ACTIVATION, write=False, vectors=vectors, stage=stage)
                    )
                accesses.append(
                    Access(
                        buffer=b_buffer,
                        write=False,
                        vectors=_block(second, b_rows, c["b_row_stride"], b_columns),
                    )
                )
                places = group if c["share"] else 1
                for place in range(0 if c["keep_sums"] else places):
                    first = result + c["c_first"] + place * c["share_stride"]
                    vectors = _block(first, c["rows"], c["c_row_stride"], columns)
                    accesses.append(
                        Access(
                            buffer=ACTIVATION,
                            write=True,
                            vectors=vectors,
                            shared=bool(c["share"]),
                            stage=stages[-1][-1],
                        )
                    )
            if c["bias_enable"] and not c["keep_sums"]:
                bias = _block(c["bias_base"], 1, 0, columns)
                accesses.append(Access(buffer=WEIGHT, write=False, vectors=bias))
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
