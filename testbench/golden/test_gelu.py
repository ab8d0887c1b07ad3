"""GELU against float64, for every code of every format."""

import math

import numpy as np
import pytest

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.golden.epilogue import epilogue
from acceltran_sim.golden.gelu import gelu, relu

ERF = np.vectorize(math.erf, otypes=[np.float64])
FORMATS = [FixedPoint(int_bits=4, frac_bits=frac_bits) for frac_bits in (8, 12, 16)]


def reference(x):
    return x * 0.5 * (1 + ERF(x / math.sqrt(2)))


@pytest.mark.parametrize(
    ("fmt", "bound"),
    list(zip(FORMATS, (0.74, 0.95, 0.85), strict=True)),
    ids=[f"{fmt.width}-bit" for fmt in FORMATS],
)
def test_every_code_is_within_one_ulp(fmt, bound):
    codes = np.arange(fmt.lowest, fmt.highest + 1)
    values, saturated = gelu(codes, fmt=fmt, input_shift=0, output_shift=0)
    error = np.abs(values - reference(codes / 2.0**fmt.frac_bits) * 2.0**fmt.frac_bits)
    assert saturated == 0
    assert bound - 0.01 < error.max() <= bound


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.width}-bit")
@pytest.mark.parametrize(("input_shift", "output_shift"), [(3, 0), (3, 4), (1, 2), (31, 31)])
def test_scales(fmt, input_shift, output_shift):
    codes = np.arange(fmt.lowest, fmt.highest + 1, 1 << max(fmt.width - 14, 0))
    values, saturated = gelu(codes, fmt=fmt, input_shift=input_shift, output_shift=output_shift)
    exact = reference(codes * 2.0 ** (input_shift - fmt.frac_bits))
    exact *= 2.0 ** (fmt.frac_bits - output_shift)
    error = np.abs(values - np.clip(exact, fmt.lowest, fmt.highest))
    assert error.max() <= 0.5 + 1.0 / (1 << output_shift)
    assert saturated == np.count_nonzero(exact >= fmt.highest + 0.5)


def test_relu():
    assert relu(np.array([-3, 0, 5])).tolist() == [0, 0, 5]


@pytest.mark.parametrize(
    ("function", "values", "keep", "saturated"),
    [
        (Activation.NONE, [-2048, 0, 2047, 0], [True, False, True, False], 2),
        (Activation.RELU, [0, 0, 2047, 0], [False, False, True, False], 2),
        (Activation.GELU, [0, 0, 2047, 0], [False, False, True, False], 3),
    ],
)
def test_epilogue_order(function, values, keep, saturated):
    """The products clip, then the function (GELU on a finer scale clips again), then DynaTran."""
    result = epilogue(
        np.array([-(2**30), 0, 2**30, 7 << 8]),
        bias=np.array([0, 1, 0, 2]),
        bias_shift=8,
        shift=8,
        function=function,
        gelu_input_shift=2,
        gelu_output_shift=1,
        threshold=40,
        fmt=FORMATS[0],
    )
    assert result[0].tolist() == values
    assert result[1].tolist() == keep
    assert result[2] == saturated


@pytest.mark.parametrize(
    ("name", "key"), [("Input shift", "input_shift"), ("Output shift", "output_shift")]
)
def test_rejects_shifts(name, key):
    shifts = {"input_shift": 0, "output_shift": 0, key: 32}
    with pytest.raises(ValueError, match=rf"^{name} must be in 0\.\.31, not 32$"):
        gelu(np.zeros(1, dtype=np.int64), fmt=FORMATS[0], **shifts)
