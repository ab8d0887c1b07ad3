"""Golden model of what follows the sums of a matrix product."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.gelu import gelu, relu
from acceltran_sim.golden.product import round_sums

__all__ = ["epilogue"]


def epilogue(
    sums: npt.NDArray[np.int64],
    *,
    bias: npt.NDArray[np.int64] | int,
    bias_shift: int,
    shift: int,
    function: Activation,
    gelu_input_shift: int,
    gelu_output_shift: int,
    threshold: int,
    fmt: FixedPoint,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], int]:
    """Bias, rounding, saturation, activation function and DynaTran, in this order.

    Parameters
    ----------
    sums : int64 array of any shape
        Exact sums of products.
    bias, bias_shift, shift, fmt
        As for ``acceltran_sim.golden.product.product``.
    function : Activation
        ``NONE``, ``RELU`` or ``GELU``.
    gelu_input_shift, gelu_output_shift : int
        As for ``acceltran_sim.golden.gelu.gelu``; used by ``GELU`` only.
    threshold : int
        As for ``acceltran_sim.golden.dynatran.prune``.

    Returns
    -------
    values, keep : arrays of the shape of ``sums``
        Results, and which of them are effectual.
    saturated : int
        Values clipped by the product, plus values clipped by GELU's own rounding.
    """
    values, saturated = round_sums(sums, bias=bias, bias_shift=bias_shift, shift=shift, fmt=fmt)
    if function == Activation.RELU:
        values = relu(values)
    elif function == Activation.GELU:
        values, clipped = gelu(
            values, fmt=fmt, input_shift=gelu_input_shift, output_shift=gelu_output_shift
        )
        saturated += clipped
    kept, keep = prune(values, threshold)
    return kept, keep, saturated
