"""Golden model of compressed tensors in DRAM.

A compressed tensor is two sections, each padded with zero bits to a multiple of 8 bytes:

- keep bits: bit ``v * tile + k`` of the section is 1 if element k of vector v is not zero;
- values: the non-zero elements in the same order, two's complement, ``width`` bits each, without
  gaps: value e is bits ``e * width`` to ``(e + 1) * width - 1`` of the section.

Bit b of a section is bit ``b % 8`` of its byte ``b // 8``.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["compress", "decompress", "keep_bytes", "value_bytes"]


def keep_bytes(vectors: int, tile: int) -> int:
    """Bytes of the keep bits of ``vectors`` vectors."""
    return -(-vectors * tile // 64) * 8


def value_bytes(effectual: int, width: int) -> int:
    """Bytes of the section of ``effectual`` values."""
    return -(-effectual * width // 64) * 8


def compress(values: npt.NDArray[np.int64], width: int) -> bytes:
    """Compress raw integers of shape [vectors, tile]."""
    keep = values != 0
    shifts = np.arange(width, dtype=np.int64)
    bits = (values[keep][:, np.newaxis] >> shifts) & 1
    return _section(keep) + _section(bits)


def decompress(
    data: bytes, vectors: int, tile: int, width: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Inverse of ``compress``; also how many bytes the tensor takes.

    Bytes beyond the tensor are ignored. A keep bit may stand for a value of zero.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little").astype(np.int64)
    keep = bits[: vectors * tile].astype(np.bool_).reshape(vectors, tile)
    effectual = int(keep.sum())
    begin = keep_bytes(vectors, tile)
    section = bits[8 * begin : 8 * begin + effectual * width].reshape(effectual, width)
    weights = np.left_shift(1, np.arange(width, dtype=np.int64))
    weights[-1] = -weights[-1]
    values = np.zeros((vectors, tile), dtype=np.int64)
    values[keep] = section @ weights
    return values, begin + value_bytes(effectual, width)


def _section(bits: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> bytes:
    packed = np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return packed + bytes(-len(packed) % 8)
