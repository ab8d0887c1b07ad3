"""Golden models of the activation functions GELU and ReLU."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import load_table
from acceltran_sim.golden.fixed_point import round_shift, saturate
from acceltran_sim.golden.function_unit import evaluate

__all__ = ["gelu", "relu"]

Integers = npt.NDArray[np.int64]


def gelu(
    x: Integers, *, fmt: FixedPoint, input_shift: int, output_shift: int
) -> tuple[Integers, int]:
    """Evaluate GELU as ``max(x, 0) + h(abs(x))``, with h, which is GELU less the identity, a table.

    The sum is exact on the table's scale, ``2 ** -fmt.frac_bits``, and rounded half up once.

    Parameters
    ----------
    x : int64 array of any shape
        Raw pre-activations, on the scale ``2 ** (input_shift - fmt.frac_bits)``.
    fmt : FixedPoint
        Format of input and output.
    input_shift : int
        Left shift from the scale of ``x`` to the table's, 0..31.
    output_shift : int
        Right shift from the table's scale to the result's, 0..31.

    Returns
    -------
    values : int64 array of the shape of ``x``
        Results on the scale ``2 ** (output_shift - fmt.frac_bits)``.
    saturated : int
        How many of the values were clipped.
    """
    for name, value in (("Input shift", input_shift), ("Output shift", output_shift)):
        if not 0 <= value < 32:
            raise ValueError(f"{name} must be in 0..31, not {value!r}")
    table = load_table("gelu", fmt)
    aligned = np.asarray(x, dtype=np.int64) << input_shift
    u = np.minimum(np.abs(aligned), (1 << table.input_width) - 1)
    exact = np.maximum(aligned, 0) + evaluate(table, u)
    return saturate(round_shift(exact, output_shift), fmt)


def relu(x: Integers) -> Integers:
    """Compute ``max(x, 0)``, whatever the scale."""
    return np.maximum(x, 0)
