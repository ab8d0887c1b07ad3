"""Golden model of rounding and saturation: every unit rounds like this."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.fixed_point import FixedPoint

__all__ = ["round_shift", "saturate"]

Integers = npt.NDArray[np.int64]


def round_shift(x: Integers, shift: int) -> Integers:
    """Divide ``x`` by ``2 ** shift`` and round to the nearest integer, halves up.

    Exact for every int64, because the half is added below one bit of the result only.
    """
    if not 0 <= shift < 64:
        raise ValueError(f"Shift must be in 0..63, not {shift!r}")
    if shift == 0:
        return np.array(x, dtype=np.int64)
    floor = np.asarray(x, dtype=np.int64) >> (shift - 1)
    return (floor >> 1) + (floor & 1)


def saturate(x: Integers, fmt: FixedPoint) -> tuple[Integers, int]:
    """Clip ``x`` to the range of ``fmt``, and count how many elements that changes."""
    clipped = np.clip(x, fmt.lowest, fmt.highest)
    return clipped, int(np.count_nonzero(clipped != x))
