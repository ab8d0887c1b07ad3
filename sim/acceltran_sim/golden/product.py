"""Golden model of a matrix product: exact sums, one rounding, one saturation."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.golden.fixed_point import round_shift, saturate

__all__ = ["exact_sums", "product", "round_sums"]

Integers = npt.NDArray[np.int64]

EXACT_BITS = 53
"""Integers of this many bits are exact in float64, and so are their sums in any order."""


def exact_sums(a: Integers, b: Integers, *, fmt: FixedPoint) -> Integers:
    """Matrix product of raw integers, without any rounding.

    NumPy multiplies integer matrices slowly, so ``a`` is cut into pieces so narrow that their
    products with ``b`` sum exactly in float64.
    """
    a, b = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    inner = a.shape[-1]
    sum_bits = 2 * fmt.width + inner.bit_length()
    if sum_bits > 63:
        raise ValueError(f"Inner dimension must keep sums within 63 bits, not {inner!r}")
    for x in (a, b):
        if x.size and not (fmt.lowest <= x.min() and x.max() <= fmt.highest):
            raise ValueError(f"Operands must be within {fmt.lowest}..{fmt.highest}")
    piece = EXACT_BITS - fmt.width - inner.bit_length()
    right = b.astype(np.float64)
    sums = np.zeros((), dtype=np.int64)
    for low in range(0, fmt.width, piece):
        part = a >> low
        if low + piece < fmt.width:
            part &= (1 << piece) - 1
        sums = sums + (np.matmul(part.astype(np.float64), right).astype(np.int64) << low)
    return sums


def round_sums(
    sums: Integers, *, bias: Integers | int, bias_shift: int, shift: int, fmt: FixedPoint
) -> tuple[Integers, int]:
    """Add the aligned bias to exact sums, round half up by ``shift``, and saturate to ``fmt``.

    Returns the values and how many of them were clipped.
    """
    for name, value in (("Bias shift", bias_shift), ("Shift", shift)):
        if not 0 <= value < 64:
            raise ValueError(f"{name} must be in 0..63, not {value!r}")
    bias = np.asarray(bias, dtype=np.int64)
    if fmt.width + bias_shift <= 62:
        return saturate(round_shift(sums + (bias << bias_shift), shift), fmt)
    # The aligned bias may need more than 64 bits: Python's integers have no limit.
    half = (1 << shift) >> 1
    wide = (sums.astype(object) + bias.astype(object) * (1 << bias_shift) + half) // (1 << shift)
    clipped = np.clip(wide, fmt.lowest, fmt.highest)
    return clipped.astype(np.int64), int(np.count_nonzero(clipped != wide))


def product(
    a: Integers,
    b: Integers,
    *,
    bias: Integers | int,
    bias_shift: int,
    shift: int,
    fmt: FixedPoint,
) -> tuple[Integers, int]:
    """Compute ``saturate((a @ b + (bias << bias_shift) + half) >> shift)``.

    ``half`` is ``2 ** (shift - 1)``, 0 if ``shift`` is 0. Sums are exact.

    Parameters
    ----------
    a, b : int64 arrays that ``numpy.matmul`` accepts
        Raw elements of format ``fmt``.
    bias : int64 array that broadcasts with the product, or 0
        Raw elements of format ``fmt``.
    bias_shift : int
        Left shift that aligns the bias with the sums, 0..63.
    shift : int
        Right shift from the sums to the result, 0..63.
    fmt : FixedPoint
        Format of operands and result.

    Returns
    -------
    values : int64 array
        The product, within the range of ``fmt``.
    saturated : int
        How many of the values were clipped.
    """
    sums = exact_sums(a, b, fmt=fmt)
    return round_sums(sums, bias=bias, bias_shift=bias_shift, shift=shift, fmt=fmt)
