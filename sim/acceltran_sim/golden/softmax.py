"""Golden model of the softmax unit."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SoftmaxFormat
from acceltran_sim.golden.function_unit import evaluate

__all__ = ["probability", "softmax"]


def softmax(
    scores: npt.NDArray[np.int64],
    *,
    fmt: FixedPoint,
    constant: int,
    shift: int,
    keys: int | npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Softmax of every row: logits to base 2, exact sum of their powers, its logarithm.

    A sum is never rounded, so the order of the keys does not matter.

    Parameters
    ----------
    scores : int64 array [rows, columns]
        Raw scores of any power-of-two scale.
    fmt : FixedPoint
        Format of scores and probabilities; these have its fraction bits.
    constant, shift : int
        ``acceltran.arch.softmax_format.softmax_constant`` of head size and scale.
    keys : int, or int64 array [rows]
        Valid keys of each row. Columns at and beyond get probability 0.

    Returns
    -------
    int64 array [rows, columns]
        Raw probabilities. A row without valid key is 0.
    """
    formats = SoftmaxFormat.of(fmt)
    frac_bits, sum_frac_bits = formats.logit_frac_bits, formats.sum_frac_bits
    one = 1 << frac_bits
    valid = np.arange(scores.shape[1]) < np.reshape(keys, (-1, 1))

    logits = (scores * constant + (1 << shift >> 1)) >> shift
    exponents = logits >> frac_bits
    lowest = np.int64(-(1 << 62))
    maximum = np.where(valid, exponents, lowest).max(axis=1, initial=lowest, keepdims=True)
    powers = evaluate(formats.exp2, logits & (one - 1)) << (sum_frac_bits - frac_bits)
    distances = np.where(valid, np.minimum(maximum - exponents, 62), 62)
    total = (powers >> distances).sum(axis=1, keepdims=True)

    empty = total == 0
    total = np.where(empty, 1, total)
    maximum = np.where(empty, 0, maximum)
    _, magnitude = np.frexp(total.astype(np.float64))  # exact: a sum has fewer than 53 bits
    top_bit = magnitude.astype(np.int64) - 1
    mantissa = ((total << frac_bits) >> top_bit) - one
    log_sum = ((top_bit + maximum - sum_frac_bits) << frac_bits) + evaluate(formats.log2, mantissa)

    # A key's own power is part of the sum, so this exceeds 0 by no more than the tables err.
    probabilities = probability(logits - log_sum, fmt=fmt)
    return np.where(valid & ~empty, probabilities, 0)


def probability(relative: npt.NDArray[np.int64], *, fmt: FixedPoint) -> npt.NDArray[np.int64]:
    """Raw probability of a raw logarithm to base 2, rounded half up.

    Parameters
    ----------
    relative : int64 array of any shape
        Logarithms with ``logit_frac_bits``.
    fmt : FixedPoint
        Format of a probability.
    """
    formats = SoftmaxFormat.of(fmt)
    frac_bits = formats.logit_frac_bits
    places = np.clip(frac_bits - fmt.frac_bits - (relative >> frac_bits), 1, 62)
    power = evaluate(formats.exp2, relative & ((1 << frac_bits) - 1))
    return np.minimum(((power >> (places - 1)) + 1) >> 1, formats.highest_probability)
