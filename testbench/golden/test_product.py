"""Matrix products against float64 and against Python's unlimited integers."""

import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.golden.product import exact_sums, product, round_sums

FORMATS = [FixedPoint(int_bits=4, frac_bits=frac_bits) for frac_bits in (8, 12, 16, 20)]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.width}-bit")
def test_sums_are_exact(fmt, rng):
    for shape_a, shape_b in [((3, 5, 64), (3, 64, 7)), ((2, 4096), (4096, 3)), ((1, 1), (1, 1))]:
        a = rng.integers(fmt.lowest, fmt.highest, shape_a, endpoint=True)
        b = rng.integers(fmt.lowest, fmt.highest, shape_b, endpoint=True)
        a[..., 0, :] = b[..., 0] = fmt.lowest
        np.testing.assert_array_equal(exact_sums(a, b, fmt=fmt), a @ b)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.width}-bit")
def test_error_is_half_an_ulp(fmt, rng):
    one = 2.0**fmt.frac_bits
    a = rng.normal(scale=1.0 * one, size=(50, 768)).round().clip(fmt.lowest, fmt.highest)
    b = rng.normal(scale=0.02 * one, size=(768, 40)).round().clip(fmt.lowest, fmt.highest)
    bias = rng.normal(scale=0.5 * one, size=40).round()
    values, saturated = product(
        a.astype(np.int64),
        b.astype(np.int64),
        bias=bias.astype(np.int64),
        bias_shift=fmt.frac_bits,
        shift=fmt.frac_bits,
        fmt=fmt,
    )
    error = np.abs(values - ((a / one) @ (b / one) + bias / one) * one)
    assert saturated == 0
    assert 0.45 < error.max() <= 0.5 + 1e-6


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.width}-bit")
@pytest.mark.parametrize("bias_shift", [0, 7, 41, 63])
@pytest.mark.parametrize("shift", [0, 1, 16, 40, 63])
def test_rounds_once(fmt, bias_shift, shift, rng):
    largest = 1 << (2 * fmt.width + 10)
    sums = rng.integers(-largest, largest, 200, endpoint=True)
    sums[::2] >>= fmt.width
    bias = rng.integers(fmt.lowest, fmt.highest, 200, endpoint=True)
    bias[::3] = 0
    values, saturated = round_sums(sums, bias=bias, bias_shift=bias_shift, shift=shift, fmt=fmt)
    exact = [
        (int(s) + (int(b) << bias_shift) + ((1 << shift) >> 1)) >> shift
        for s, b in zip(sums, bias, strict=True)
    ]
    expected = [min(max(value, fmt.lowest), fmt.highest) for value in exact]
    assert values.dtype == np.int64
    assert values.tolist() == expected
    assert saturated == sum(value != clip for value, clip in zip(exact, expected, strict=True))


@pytest.mark.parametrize(("name", "key"), [("Bias shift", "bias_shift"), ("Shift", "shift")])
def test_rejects_shifts(name, key):
    shifts = {"bias_shift": 0, "shift": 0, key: 64}
    with pytest.raises(ValueError, match=rf"^{name} must be in 0\.\.63, not 64$"):
        round_sums(np.zeros(1, dtype=np.int64), bias=0, fmt=FORMATS[0], **shifts)


def test_rejects_operands_out_of_range():
    a = np.full((1, 1), FORMATS[0].highest + 1)
    with pytest.raises(ValueError, match=r"^Operands must be within -2048\.\.2047$"):
        exact_sums(a, a, fmt=FORMATS[0])


def test_rejects_inner_dimension_too_long():
    wide = FixedPoint(int_bits=4, frac_bits=24)
    zeros = np.zeros((1, 256), dtype=np.int64)
    with pytest.raises(
        ValueError, match=r"^Inner dimension must keep sums within 63 bits, not 256$"
    ):
        exact_sums(zeros, zeros.T, fmt=wide)
