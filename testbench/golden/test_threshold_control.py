"""Curves and loops against float formulas, and what a loop does over many jobs."""

import numpy as np
import pytest

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.threshold_curve import POINTS, POSITION_MAX, SEGMENTS
from acceltran_sim.golden.threshold_control import (
    ThresholdControl,
    curve_value,
    next_position,
    scaled_threshold,
)

FORMAT = FixedPoint(int_bits=4, frac_bits=16)


@pytest.fixture
def rng(pytestconfig):
    return np.random.default_rng([pytestconfig.getoption("seed"), 31])


@pytest.mark.parametrize("rising", [False, True])
def test_curve_is_linear_between_its_points(rng, rising):
    points = rng.integers(0, 1 << 20, size=POINTS)
    points = np.sort(points) if rising else points
    for position in (0, 1, POSITION_MAX, *rng.integers(0, POSITION_MAX, size=200)):
        exact = np.interp(position / 65536, np.arange(POINTS) / SEGMENTS, points)
        assert curve_value(points.tolist(), int(position)) == np.floor(exact)


def test_scale_rounds_down_and_never_wraps(rng):
    for _ in range(200):
        value, scale = int(rng.integers(1 << 20)), int(rng.integers(1 << 16))
        shift = int(rng.integers(32))
        exact = min(np.floor(value * scale / 2.0**shift), 2**20 - 1)
        found = scaled_threshold(value, scale=scale, scale_shift=shift, fmt=FORMAT)
        assert found == exact


def test_step_is_the_rounded_error(rng):
    for _ in range(500):
        elements = int(rng.integers(1, 100_000))
        kept = int(rng.integers(0, elements + 1))
        target, position = (int(n) for n in rng.integers(0, 1 << 16, size=2))
        gain, gain_shift = int(rng.integers(1 << 16)), int(rng.integers(20, 40))
        excess = target / 65536 * elements - (elements - kept)
        step = 65536 * excess * gain / 2.0 ** (gain_shift + 1)
        exact = np.clip(position + np.floor(step + 0.5), 0, POSITION_MAX)
        found = next_position(
            position,
            target=target,
            elements=elements,
            kept=kept,
            gain=gain,
            gain_shift=gain_shift,
        )
        assert found == exact


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("drift", [0.5, 1.0, 1.5])
def test_loop_reaches_its_target(rng, sparsity, drift):
    """Data that is drift times as large as what the curve was fitted to."""
    scale, elements = 1 << 14, 4096
    known = np.abs(rng.normal(size=100_000)) * scale
    points = [int(p) for p in np.quantile(known, np.arange(POINTS) / SEGMENTS)]
    target = round(sparsity * 65536)
    control = ThresholdControl(FORMAT, {3: points}, {3: target})
    fields = {
        "index": 3,
        "mode": ThresholdMode.CLOSED_LOOP,
        "target": target,
        "scale": 1 << 15,
        "scale_shift": 15,
        "elements": elements,
        "gain": 1 << 15,
        "gain_shift": 15 + 12,  # half of the error
    }
    zeros = []
    for _ in range(40):
        x = np.floor(np.abs(rng.normal(size=elements)) * scale * drift)
        kept = int(np.count_nonzero(x >= control.threshold(fields)))
        control.count(3, kept)
        control.end()
        zeros.append(elements - kept)
    assert abs(np.mean(zeros[20:]) / elements - sparsity) < 0.01


def test_programs_without_a_loop_move_nothing():
    control = ThresholdControl(FORMAT, {0: [5] * POINTS}, {0: 77})
    fields = {"mode": ThresholdMode.CURVE, "target": 9, "scale": 1 << 15, "scale_shift": 15}
    assert control.threshold(fields) == 5
    control.count(0, 1000)
    control.end()
    assert control.positions == {0: 77}
    assert control.threshold({"index": 1, "value": 1 << 23}) == (1 << 20) - 1
    with pytest.raises(KeyError):
        control.threshold({**fields, "index": 1})
