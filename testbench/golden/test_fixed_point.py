"""Rounding and saturation against Python's unlimited integers."""

import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran_sim.golden.fixed_point import round_shift, saturate


@pytest.mark.parametrize("shift", [0, 1, 2, 16, 51, 62, 63])
def test_rounds_halves_up(shift):
    rng = np.random.default_rng(shift)
    ends = [-(2**63), 2**63 - 1, 0, 1, -1, (1 << shift) >> 1, -((1 << shift) >> 1)]
    x = np.concatenate([np.array(ends), rng.integers(-(2**63), 2**63 - 1, 1000, endpoint=True)])
    expected = [(int(value) + ((1 << shift) >> 1)) >> shift for value in x]
    assert round_shift(x, shift).tolist() == expected


def test_saturates_and_counts():
    fmt = FixedPoint(int_bits=4, frac_bits=4)
    values, saturated = saturate(np.array([-129, -128, -1, 0, 127, 128, 2**40]), fmt)
    assert values.tolist() == [-128, -128, -1, 0, 127, 127, 127]
    assert saturated == 3


@pytest.mark.parametrize("shift", [-1, 64])
def test_rejects_shift(shift):
    with pytest.raises(ValueError, match=rf"^Shift must be in 0\.\.63, not {shift}$"):
        round_shift(np.zeros(1, dtype=np.int64), shift)


@pytest.mark.parametrize("inner", [1, 2, 3, 1024, 3072])
def test_sum_width_holds_twice_the_largest_sum(inner):
    fmt = FixedPoint(int_bits=4, frac_bits=16)
    assert 2 * inner * fmt.lowest**2 < 1 << sum_width(fmt=fmt, inner=inner)


def test_sum_width_rejects_inner():
    with pytest.raises(ValueError, match=r"^Inner dimension must be at least 1, not 0$"):
        sum_width(fmt=FixedPoint(int_bits=4, frac_bits=16), inner=0)
