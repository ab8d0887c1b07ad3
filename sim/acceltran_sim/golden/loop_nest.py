"""Golden model of the walk through the tiles of a matrix product."""

import itertools
from collections.abc import Iterator, Mapping

from acceltran.arch.commands import ADDRESS, LOOPS, OperandSource

__all__ = ["tiles"]

MODULUS = 1 << ADDRESS


def tiles(
    command: Mapping[str, int], *, banks: int, lanes: int, tile: int, place: int = 0
) -> Iterator[dict[str, int]]:
    """Tiles of a MATMUL in the order that it names, as the fields of ``Tile`` in integers.

    Parameters
    ----------
    command : mapping
        Every field of ``ProductCommand``.
    banks : int
        PEs of the cluster.
    lanes : int
        Lanes per PE.
    tile : int
        Elements of a vector.
    place : int
        Column vector that ``b_address`` is of, counted from the first word of the tile.
    """
    c = command
    pass_words = lanes // c["streams"]
    word_end = -(-(c["c_first"] + c["columns"]) // banks)
    starts = {
        "b": range(c["batches"]),
        "i": range(0, c["rows"], c["row_tile"]),
        "j": range(c["c_first"] // banks, word_end, pass_words),
        "k": range(0, c["inner_vectors"], c["inner_tile"]),
    }
    order = [LOOPS[c[f"order{n}"]] for n in range(len(LOOPS))]
    transposed = c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
    visited = [
        dict(zip(order, at, strict=True)) for at in itertools.product(*(starts[x] for x in order))
    ]
    previous: dict[str, int] | None = None
    slot = c["first_slot"]
    for number, at in enumerate(visited):
        batch, row, word, inner = (at[loop] for loop in LOOPS)
        column = word * banks + place - c["c_first"]
        if transposed:
            b_offset = column * tile * c["b_row_stride"] + inner
        else:
            b_offset = inner * tile * c["b_row_stride"] + column
        moved = {loop for loop in LOOPS if previous is None or previous[loop] != at[loop]}
        reload = bool(moved & {"j", "k"} or ("b" in moved and c["b_batch_stride"]))
        if previous is None:
            reload = not c["reuse_tile"]
        last_chunk = inner == starts["k"][-1]
        first, final = inner == 0 and not c["resume_sums"], last_chunk and not c["keep_sums"]
        # The k loop has just begun a turn: everything inside it is at its start.
        inside = order[order.index("k") + 1 :]
        if first and final or all(at[loop] == starts[loop][0] for loop in inside):
            slot = c["first_slot"]
        else:
            slot += -(-c["row_tile"] // c["streams"])
        yield {
            "batch": batch,
            "row_first": row,
            "row_count": max(0, min(c["row_tile"], c["valid_rows"] - row)),
            "word": word,
            "word_count": min(pass_words, word_end - word),
            "inner_first": inner,
            "inner_count": min(c["inner_tile"], c["inner_vectors"] - inner),
            "a_address": _wrap(
                c["a_base"] + batch * c["a_batch_stride"] + row * c["a_row_stride"] + inner
            ),
            "b_address": _wrap(c["b_base"] + batch * c["b_batch_stride"] + b_offset),
            "c_address": _wrap(
                c["c_base"] + batch * c["c_batch_stride"] + row * c["c_row_stride"] + word * banks
            ),
            "last_chunk": int(last_chunk),
            "first": int(first),
            "final": int(final),
            "slot_base": slot,
            "reload": int(reload),
            "last_tile": int(number == len(visited) - 1),
        }
        previous = at


def _wrap(address: int) -> int:
    return address % MODULUS
