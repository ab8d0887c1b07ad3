"""Golden model of layer norm with a residual."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import LayerNormFields, LayerNormFormat
from acceltran_sim.golden.fixed_point import saturate
from acceltran_sim.golden.function_unit import evaluate

__all__ = ["layer_norm", "statistics"]

Array = npt.NDArray[np.int64]


def layer_norm(
    a: Array, b: Array, *, fmt: FixedPoint, gamma: Array, beta: Array, fields: LayerNormFields
) -> tuple[Array, int]:
    """Normalise every row of ``a + b`` to mean 0 and variance 1, times ``gamma``, plus ``beta``.

    The statistics are exact: ``D = columns * sum(x * x) - sum(x) ** 2 + epsilon`` is never
    rounded, so that the order of a row's elements does not matter. Its reciprocal root comes from
    a table; the result is rounded half up and saturates.

    Parameters
    ----------
    a, b : int64 arrays of shape [..., columns]
        Raw elements of ``fmt``, both at one scale.
    fmt : FixedPoint
        Format of all elements.
    gamma, beta : int64 arrays of shape [columns]
        Raw elements of ``fmt``, each at the scale that ``fields`` was made for.
    fields : LayerNormFields
        Number of columns, eps, and shifts between the scales.

    Returns
    -------
    values : int64 array of the shape of ``a``
        Results, not pruned.
    saturated : int
        How many of the values were clipped.
    """
    if a.shape != b.shape or a.shape[-1] != fields.columns:
        raise ValueError(
            f"Summands must both have {fields.columns} columns, not the shapes {a.shape}, {b.shape}"
        )
    inner = LayerNormFormat.of(fmt)
    x = (a + b).reshape(-1, fields.columns)
    mean, exponent, mantissa = statistics(x, inner, fields)

    deviation = (x << inner.guard_bits) - mean[:, np.newaxis]
    shift = inner.guard_bits - inner.normal_frac_bits - exponent[:, np.newaxis]
    normal = _shift_right(deviation, shift)
    y = _shift_right(
        normal * mantissa[:, np.newaxis],
        inner.normal_frac_bits + inner.root_frac_bits - inner.result_frac_bits,
    )
    z = _shift_right(y * gamma + (beta << fields.beta_shift), fields.output_shift)
    values, saturated = saturate(z, fmt)
    return values.reshape(a.shape), saturated


def statistics(
    x: Array, inner: LayerNormFormat, fields: LayerNormFields
) -> tuple[Array, Array, Array]:
    """Mean with guard bits, exponent and mantissa of 1/sigma, of each row."""
    mean, exponent, mantissa = [], [], []
    for row in x:
        # Python integers: the products of a row's sums may exceed 64 bits.
        total, squares = int(row.sum()), int((row * row).sum())
        # The mean to the nearest integer, then what remains, with guard bits.
        whole = _round(total * fields.reciprocal, fields.reciprocal_shift)
        rest = (total - whole * fields.columns) * fields.reciprocal
        rest = _round(rest, fields.reciprocal_shift - inner.guard_bits)
        mean.append((whole << inner.guard_bits) + rest)

        variance = fields.columns * squares - total * total + fields.epsilon
        msb = variance.bit_length() - 1
        fraction = ((variance << inner.mantissa_frac_bits) >> msb) - (1 << inner.mantissa_frac_bits)
        argument = ((msb & 1) << inner.mantissa_frac_bits) + fraction
        root = int(evaluate(inner.table, np.array(argument)))

        scaled = fields.columns * root
        excess = scaled.bit_length() - 1 - inner.root_frac_bits
        mantissa.append(scaled >> excess if excess >= 0 else scaled << -excess)
        exponent.append(excess - (msb >> 1))
    return np.array(mean), np.array(exponent), np.array(mantissa)


def _round(x: int, shift: int) -> int:
    """Round ``x / 2 ** shift`` half up."""
    return (x + (1 << (shift - 1))) >> shift


def _shift_right(x: Array, shift: Array | int) -> Array:
    """Round ``x / 2 ** shift`` half up; exact to the left for a negative ``shift``."""
    right = np.maximum(shift, 0)
    rounded = ((x >> np.maximum(right - 1, 0)) + 1) >> 1
    return np.where(right > 0, rounded, x << np.maximum(np.negative(shift), 0))
