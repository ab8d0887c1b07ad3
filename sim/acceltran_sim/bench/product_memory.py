"""Where a product's operands and result lie in DRAM, and the commands that move them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.builder import DEFAULT_BASE
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import ACTIVATION, WEIGHT
from acceltran_sim.program.image import Image
from acceltran_sim.program.vectors import pack_vectors, unpack_vectors

__all__ = ["Part", "ProductMemory", "parts", "piece_columns", "row_stride"]


@dataclass(frozen=True)
class Part:
    """Consecutive rows, or columns in vectors."""

    first: int
    count: int


def parts(total: int, size: int) -> list[Part]:
    """Cut ``total`` into parts of ``size``; the last may be shorter."""
    return [Part(first, min(size, total - first)) for first in range(0, total, size)]


def piece_columns(config: AcceleratorConfig) -> int:
    """Columns of a piece, in vectors: few, because streams of rows share the lanes."""
    return 2 * config.array.pes_per_cluster


def row_stride(config: AcceleratorConfig, vectors: int) -> int:
    """Vectors from row to row in the activation buffer: each row begins at bank 0."""
    banks = config.array.pes_per_cluster
    return -(-vectors // banks) * banks


class ProductMemory:
    """A by rows, B and the result in pieces: groups of columns, each by rows.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    a, b : integer arrays [rows, vectors, tile]
        Operands.

    Members
    -------
    pieces : list of Part
        Columns as they lie, arrive and leave.
    image : Image
        Operands, and room for the result; programs follow.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        a: npt.NDArray[np.int64],
        b: npt.NDArray[np.int64],
    ):
        self._config = config
        self._rows, self._inner, _ = a.shape
        self._b_rows = len(b)
        self.pieces = parts(b.shape[1], piece_columns(config))
        self.image = image = Image(DEFAULT_BASE)
        self._a = image.append(pack_vectors(a, config))
        self._b = {
            piece: image.append(pack_vectors(b[:, piece.first : piece.first + piece.count], config))
            for piece in self.pieces
        }
        self._c = {piece: image.reserve(self._result_bytes(piece)) for piece in self.pieces}

    def _result_bytes(self, piece: Part) -> int:
        return self._rows * piece.count * self._config.vector_bytes

    def load_rows(self, rows: Part, base: int, stride: int) -> Command:
        """Rows of A."""
        address = self._a + rows.first * self._inner * self._config.vector_bytes
        return _transfer(Opcode.LOAD, address, ACTIVATION, base, rows.count, self._inner, stride)

    def load_columns(self, piece: Part, base: int, stride: int) -> Command:
        """A piece of B."""
        return _transfer(
            Opcode.LOAD, self._b[piece], WEIGHT, base, self._b_rows, piece.count, stride
        )

    def store(self, rows: Part, piece: Part, base: int, stride: int) -> Command:
        """Rows of a piece of the result."""
        address = self._c[piece] + rows.first * piece.count * self._config.vector_bytes
        return _transfer(Opcode.STORE, address, ACTIVATION, base, rows.count, piece.count, stride)

    def result(self, image: bytes) -> npt.NDArray[np.int64]:
        """[rows, columns padded to vectors] from the memory that programs left."""
        columns = []
        for piece in self.pieces:
            start = self._c[piece] - self.image.base
            content = image[start : start + self._result_bytes(piece)]
            columns.append(unpack_vectors(content, self._config).reshape(self._rows, -1))
        return np.concatenate(columns, axis=1)


def _transfer(
    opcode: Opcode, address: int, buffer: int, base: int, rows: int, vectors: int, stride: int
) -> Command:
    fields = {
        "dram_address": address,
        "buffer": buffer,
        "base": base,
        "vectors": rows * vectors,
        "row_vectors": vectors,
        "row_stride": stride,
    }
    return Command(opcode=opcode, fields=fields)
