"""Pack what rows of scalars consist of into the payload of a stream."""

from typing import Any

import numpy as np
from amaranth.utils import exact_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.golden.row_streamer import Beat, Token
from testbench.harness.fields import pack_fields
from testbench.harness.vectors import pack

__all__ = ["cut_beats", "pack_scalars"]


def pack_scalars(layout: Any, scalars: Token | Beat, *, fmt: FixedPoint, tile: int) -> int:
    """Payload of layout ``Scalar`` or ``ScalarBeat``."""
    fields = vars(scalars)
    if isinstance(scalars, Beat):
        index = np.array(scalars.rows, dtype=np.int64) % tile
        fields = {
            **{name: value for name, value in fields.items() if name != "rows"},
            "values": pack(np.array(scalars.values, dtype=np.int64), fmt.width),
            "index": pack(index, exact_log2(tile)),
            "effectual": (1 << len(scalars.rows)) - 1,
        }
    return pack_fields(layout, fields)


def cut_beats(
    scalars: list[tuple[int, int] | None], *, tile: int, limit: int, rng: np.random.Generator
) -> list[list[tuple[int, int] | None]]:
    """Cut (tile row, value) pairs into beats of one block and random sizes; None stands alone."""
    beats: list[list[tuple[int, int] | None]] = []
    block, size = None, 0
    for scalar in scalars:
        if scalar is not None and scalar[0] // tile == block and len(beats[-1]) < size:
            beats[-1].append(scalar)
        else:
            beats.append([scalar])
            size = rng.integers(1, limit, endpoint=True)
        block = None if scalar is None else scalar[0] // tile
    return beats
