"""Vectors as they lie in DRAM."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig

__all__ = ["pack_vectors", "rows_to_vectors", "unpack_vectors"]


def rows_to_vectors(rows: npt.NDArray[np.integer], tile: int) -> npt.NDArray[np.int64]:
    """Cut [rows, columns] into [rows, blocks, tile], padded with zeros."""
    count, columns = rows.shape
    blocks = -(-columns // tile)
    vectors = np.zeros((count, blocks * tile), dtype=np.int64)
    vectors[:, :columns] = rows
    return vectors.reshape(count, blocks, tile)


def pack_vectors(vectors: npt.NDArray[np.integer], config: AcceleratorConfig) -> bytes:
    """Bytes of vectors [..., tile]: element 0 lowest, padded to whole vectors' bytes."""
    width = config.fmt.width
    flat = vectors.reshape(-1, config.datapath.tile).astype(np.int64)
    parts = []
    # In pieces, because a bit takes a byte on the way.
    for start in range(0, len(flat), 4096):
        piece = flat[start : start + 4096]
        bits = (piece[:, :, np.newaxis] >> np.arange(width) & 1).astype(np.uint8)
        bits = np.pad(
            bits.reshape(len(piece), -1),
            ((0, 0), (0, 8 * config.vector_bytes - config.vector_bits)),
        )
        parts.append(np.packbits(bits, axis=1, bitorder="little").tobytes())
    return b"".join(parts)


def unpack_vectors(content: bytes, config: AcceleratorConfig) -> npt.NDArray[np.int64]:
    """Inverse of ``pack_vectors``: [vectors, tile]."""
    width, tile = config.fmt.width, config.datapath.tile
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, config.vector_bytes)
    bits = np.unpackbits(rows, axis=1, bitorder="little")[:, : config.vector_bits]
    bits = bits.reshape(-1, tile, width).astype(np.int64)
    weights = 1 << np.arange(width, dtype=np.int64)
    weights[-1] = -weights[-1]
    return bits @ weights
