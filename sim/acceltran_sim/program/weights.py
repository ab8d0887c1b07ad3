"""Weights as the program loads them: pieces that fit the weight buffer, and their places in it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import QuantizedLayer
from acceltran_sim.program.layout import Shape
from acceltran_sim.program.vectors import rows_to_vectors

__all__ = ["Piece", "WeightBuffer", "layer_pieces"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Consecutive columns of a matrix and of its bias, or both parameters of a layer norm."""

    vectors: Integers
    """[rows, columns, tile]; the last row is the bias (beta)."""
    first: int
    """First column vector."""

    @property
    def columns(self) -> int:
        """Vectors of a row."""
        return self.vectors.shape[1]

    @property
    def matrix_rows(self) -> int:
        """Rows before the last one."""
        return self.vectors.shape[0] - 1

    @property
    def size(self) -> int:
        """Vectors altogether."""
        return self.vectors.shape[0] * self.vectors.shape[1]


def layer_pieces(
    config: AcceleratorConfig, shape: Shape, layer: QuantizedLayer, *, first: str = ""
) -> dict[str, list[Piece]]:
    """Pieces of every matrix and layer norm of a layer, by name.

    Those of the matrix named ``first`` are small, because nothing runs before they are there.
    """
    tile = shape.tile

    def pad_heads(x: Integers, axis: int) -> Integers:
        parts = np.stack(np.split(x, shape.heads, axis=axis), axis=axis)
        padding = [(0, 0)] * parts.ndim
        padding[axis + 1] = (0, shape.head_blocks * tile - shape.head_size)
        padded = np.pad(parts, padding)
        return padded.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])

    pieces: dict[str, list[Piece]] = {}
    for name in ("query", "key", "value", "attention_output", "intermediate", "output"):
        linear = getattr(layer, name)
        matrix, bias = linear.matrix, linear.bias
        if name in ("query", "key", "value"):
            matrix, bias = pad_heads(matrix, 1), pad_heads(bias, 0)
        elif name == "attention_output":
            matrix = pad_heads(matrix, 0)
        rows = rows_to_vectors(np.vstack([matrix, bias]), tile)
        pieces[name] = list(_cut(config, name, rows, finely=name == first))
    for name in ("attention_norm", "output_norm"):
        norm = getattr(layer, name)
        rows = rows_to_vectors(np.stack([norm.gamma, norm.beta]), tile)
        pieces[name] = [Piece(vectors=rows, first=0)]
    return pieces


def _cut(
    config: AcceleratorConfig, name: str, vectors: Integers, *, finely: bool
) -> Iterator[Piece]:
    """Cut columns into pieces of a quarter of the buffer, or what a column pass takes."""
    rows, blocks, _ = vectors.shape
    capacity = config.weight_vectors
    # Whole passes if possible, else whole words of all banks, else single vectors.
    for unit in (
        config.lanes * config.array.pes_per_cluster,
        config.array.pes_per_cluster,
        1,
    ):
        if rows * min(unit, blocks) <= capacity:
            break
    else:
        raise InputError(
            f"A column of the {name} matrix must fit the weight buffer: it needs {rows} vectors,"
            f" the buffer holds {capacity}"
        )
    columns = unit if finely else max(1, capacity // 4 // (rows * unit)) * unit
    for first in range(0, blocks, columns):
        yield Piece(vectors=vectors[:, first : first + columns], first=first)


class WeightBuffer:
    """Where pieces lie in the weight buffer: a ring that overwrites the oldest.

    Parameters
    ----------
    capacity : int
        Vectors of the buffer.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._next = 0
        self._bases: dict[Piece, int] = {}

    def base(self, piece: Piece) -> int | None:
        """First vector of a piece, or None if it is not there."""
        return self._bases.get(piece)

    def place(self, piece: Piece, keep: set[Piece]) -> int | None:
        """Make room for a piece and return its base; None if that would overwrite one to keep."""
        base = self._next if self._next + piece.size <= self.capacity else 0
        victims = [
            other
            for other, start in self._bases.items()
            if start < base + piece.size and base < start + other.size
        ]
        if any(victim in keep for victim in victims):
            return None
        for victim in victims:
            del self._bases[victim]
        self._bases[piece] = base
        self._next = base + piece.size
        return base
