"""Golden model of the tiles and biases that the lanes are loaded with."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import ADDRESS, OperandSource
from acceltran_sim.golden.loop_nest import tiles

__all__ = ["loads"]

MODULUS = 1 << ADDRESS


def loads(
    command: Mapping[str, int],
    weights: npt.NDArray[np.int64],
    activations: npt.NDArray[np.int64],
    *,
    index: int,
    banks: int,
    port: int = 0,
    ports: int = 1,
    lanes: int,
    tile: int,
) -> Iterator[tuple[dict[int, npt.NDArray[np.int64]], dict[int, npt.NDArray[np.int64]]]]:
    """Contents of a half of the tile RAMs after each tile of a MATMUL that reloads.

    Parameters
    ----------
    command : mapping
        Every field of ``BODIES[Opcode.MATMUL]``.
    weights, activations : int64 arrays of shape (vectors, tile)
        Buffers; addresses wrap at ``2 ** ADDRESS``, then at the number of vectors.
    index : int
        PE.
    banks : int
        PEs of the cluster.
    port : int
        Of those of the PE: takes words of the pass that are this modulo ``ports``.
    ports : int
        Tile ports of the PE.
    lanes : int
        Lanes per PE.
    tile : int
        Elements of a vector.

    Yields
    ------
    rows : dict of lane to array of shape (rows, tile)
        What is loaded.
    biases : dict of word of the pass to array of shape (tile,)
        If the tile is not final, there are none.
    """
    c = command
    for at in tiles(command, banks=banks, lanes=lanes, tile=tile):
        if not at["reload"]:
            continue
        rows, biases = {}, {}
        first = at["inner_first"] * tile
        chunk = range(first, first + at["inner_count"] * tile)
        base = c["b_base"] + at["batch"] * c["b_batch_stride"]
        for word in range(port, at["word_count"], ports):
            j = (at["word"] + word) * banks + index - c["c_first"]
            if not 0 <= j < c["columns"]:
                continue
            if c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED:
                block = np.zeros((len(chunk), tile), np.int64)
                for n, row in enumerate(range(j * tile, (j + 1) * tile)):
                    if row < c["b_rows"]:
                        start = base + row * c["b_row_stride"] + at["inner_first"]
                        vectors = range(start, start + at["inner_count"])
                        block[:, n] = np.concatenate([_at(activations, v) for v in vectors])
            else:
                buffer = activations if c["b_source"] == OperandSource.ACTIVATION else weights
                block = np.array([
                    _at(buffer, base + k * c["b_row_stride"] + j)
                    if k < c["b_rows"]
                    else np.zeros(tile, np.int64)
                    for k in chunk
                ])
            for stream in range(c["streams"]):
                rows[word * c["streams"] + stream] = block
            if at["final"]:
                biases[word] = _at(weights, c["bias_base"] + j) * c["bias_enable"]
        yield rows, biases


def _at(buffer: npt.NDArray[np.int64], address: int) -> npt.NDArray[np.int64]:
    return buffer[address % MODULUS % len(buffer)]
