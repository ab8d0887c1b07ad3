"""Golden softmax: error against float64 at many scales, order independence, corners."""

import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SoftmaxFormat, softmax_constant
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.function_unit import evaluate
from acceltran_sim.golden.pruning_boundary import pruning_boundary
from acceltran_sim.golden.softmax import probability, softmax

FORMATS = [FixedPoint(int_bits=4, frac_bits=bits) for bits in (8, 12, 16)]
Q4_16 = FORMATS[2]
KINDS = ("0.5", "2", "8", "30", "uniform", "equal", "one hot", "two levels")


def rows(rng, kind, shape, score_frac_bits, fmt):
    """Raw scores; a number names the standard deviation of a normal distribution."""
    everywhere = np.arange(shape[0]), rng.integers(0, shape[1], shape[0])

    def quantise(x):
        return np.clip(np.round(x * 2.0**score_frac_bits), fmt.lowest, fmt.highest).astype(np.int64)

    match kind:
        case "uniform":
            return rng.integers(fmt.lowest, fmt.highest, shape, endpoint=True)
        case "equal":
            row = rng.integers(fmt.lowest, fmt.highest, (shape[0], 1), endpoint=True)
            return np.repeat(row, shape[1], axis=1)
        case "one hot":
            scores = np.full(shape, fmt.lowest, dtype=np.int64)
            scores[everywhere] = rng.integers(0, fmt.highest, shape[0])
            return scores
        case "two levels":
            top = rng.integers(0, fmt.highest, (shape[0], 1))
            low = np.maximum(top - quantise(rng.uniform(0, 20, (shape[0], 1))), fmt.lowest)
            scores = np.repeat(low, shape[1], axis=1)
            scores[everywhere] = top[:, 0]
            return scores
        case _:
            return quantise(rng.normal(0, float(kind), shape))


def reference(scores, score_frac_bits, d_head, keys):
    valid = np.arange(scores.shape[1]) < keys[:, np.newaxis]
    logits = np.where(valid, scores * 2.0**-score_frac_bits / np.sqrt(d_head), -np.inf)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("d_head", [64, 20])
@pytest.mark.parametrize("coarser", [-2, 0, 2, 4, 6])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"q4.{fmt.frac_bits}")
def test_error_order_and_monotony(fmt, coarser, d_head):
    """The scores' scale has ``coarser`` fraction bits less than the format."""
    rng = np.random.default_rng([fmt.frac_bits, coarser + 2, d_head])
    score_frac_bits = fmt.frac_bits - coarser
    constant, shift = softmax_constant(d_head, score_frac_bits, fmt)
    for columns in (1, 17, 128, 512, 1024):
        for kind in KINDS:
            scores = rows(rng, kind, (100, columns), score_frac_bits, fmt)
            keys = rng.integers(1, columns, 100, endpoint=True)

            def model(scores, keys=keys):
                return softmax(scores, fmt=fmt, constant=constant, shift=shift, keys=keys)

            p = model(scores)
            exact = reference(scores, score_frac_bits, d_head, keys) * 2.0**fmt.frac_bits
            assert np.abs(p - exact).max() <= 0.63, kind

            # The first keys[row] columns in another order, and in ascending order.
            beyond = np.arange(columns) >= keys[:, np.newaxis]
            shuffle = np.argsort(rng.random(scores.shape) + 2.0 * beyond, axis=1)
            shuffled = model(np.take_along_axis(scores, shuffle, axis=1))
            assert (shuffled == np.take_along_axis(p, shuffle, axis=1)).all()
            order = np.argsort(scores + (beyond * 2 << fmt.width), axis=1)
            ascending = np.diff(np.take_along_axis(p, order, axis=1), axis=1)
            assert (ascending[~beyond[:, 1:]] >= 0).all()


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"q4.{fmt.frac_bits}")
def test_a_single_key_has_probability_one(fmt):
    constant, shift = softmax_constant(64, fmt.frac_bits, fmt)
    scores = np.arange(fmt.lowest, fmt.highest + 1, dtype=np.int64)[:, np.newaxis]
    p = softmax(scores, fmt=fmt, constant=constant, shift=shift, keys=1)
    assert (p == 1 << fmt.frac_bits).all()


def test_one_is_clamped_to_the_format():
    fmt = FixedPoint(int_bits=1, frac_bits=16)
    constant, shift = softmax_constant(64, 16, fmt)
    p = softmax(np.zeros((1, 1), np.int64), fmt=fmt, constant=constant, shift=shift, keys=1)
    assert p.tolist() == [[65535]]


def test_masked_and_saturated_rows():
    constant, shift = softmax_constant(1, 16, Q4_16)
    scores = np.empty((4, 128), dtype=np.int64)
    scores[0] = Q4_16.highest
    scores[1] = Q4_16.lowest
    scores[2:] = np.where(np.arange(128) % 2, Q4_16.highest, Q4_16.lowest)
    keys = np.array([128, 128, 128, 0])
    p = softmax(scores, fmt=Q4_16, constant=constant, shift=shift, keys=keys)
    assert (p[:2] == 512).all()
    assert p[2].tolist() == [0, 1024] * 64
    assert (p[3] == 0).all()


def test_masked_keys_do_not_matter():
    rng = np.random.default_rng(5)
    constant, shift = softmax_constant(64, 12, Q4_16)
    scores = rows(rng, "uniform", (50, 32), 12, Q4_16)
    keys = rng.integers(0, 32, 50, endpoint=True)
    masked = np.where(np.arange(32) < keys[:, np.newaxis], scores, Q4_16.highest)
    first, second = (
        softmax(x, fmt=Q4_16, constant=constant, shift=shift, keys=keys) for x in (scores, masked)
    )
    assert (first == second).all()
    assert (first[np.arange(32) >= keys[:, np.newaxis]] == 0).all()


@pytest.mark.parametrize(("int_bits", "frac_bits"), [(1, 8), (4, 8), (4, 12), (4, 16)])
def test_boundary_of_pruning(int_bits, frac_bits):
    """What is at or above the boundary is what is kept, for every threshold and logarithm.

    Powers grow within an octave and stay in it, so probabilities grow with their logarithms, and
    it is enough to look near each boundary. The small formats are compared one by one as well.
    """
    fmt = FixedPoint(int_bits=int_bits, frac_bits=frac_bits)
    formats = SoftmaxFormat.of(fmt)
    octave = np.arange(1 << formats.logit_frac_bits, dtype=np.int64)
    powers = evaluate(formats.exp2, octave)
    assert (np.diff(powers) >= 0).all()
    assert len(octave) <= powers[0] and powers[-1] < 2 * len(octave)

    thresholds = np.arange(1 << fmt.width if frac_bits == 8 else 2 << frac_bits, dtype=np.int64)
    boundary = pruning_boundary(thresholds, fmt=fmt)
    highest = formats.highest_probability
    least = np.maximum(thresholds, 1)[: highest + 1]
    reached = boundary[: highest + 1]
    assert (boundary[highest + 1 :] == formats.no_survivor).all()
    for distance in range(3):
        assert (probability(reached + distance, fmt=fmt) >= least).all()
        assert (probability(reached - 1 - distance, fmt=fmt) < least).all()
    if frac_bits == 8:
        u = np.arange(-(frac_bits + 3) * len(octave), len(octave), dtype=np.int64)
        p = probability(u, fmt=fmt)
        for threshold in range(highest + 3):
            assert ((u >= boundary[threshold]) == prune(p, threshold)[1]).all()


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"q4.{fmt.frac_bits}")
@pytest.mark.parametrize("d_head", [1, 2, 20, 64, 128])
def test_constant_has_all_its_bits(d_head, fmt):
    for score_frac_bits in range(1, fmt.frac_bits + 8):
        constant, shift = softmax_constant(d_head, score_frac_bits, fmt)
        assert 1 << 20 <= constant < 1 << 21
        frac_bits = SoftmaxFormat.of(fmt).logit_frac_bits
        exact = np.log2(np.e) / np.sqrt(d_head) * 2.0 ** (frac_bits - score_frac_bits + shift)
        assert abs(constant - exact) <= 0.5


@pytest.mark.parametrize("score_frac_bits", [-4, 61])
def test_rejects_scale(score_frac_bits):
    with pytest.raises(
        ValueError,
        match=rf"^Fraction bits of scores must be in -3\.\.60 for head size 64, "
        rf"not {score_frac_bits}$",
    ):
        softmax_constant(64, score_frac_bits, Q4_16)


def test_accepts_extreme_scales():
    assert softmax_constant(64, -3, Q4_16)[1] == 0
    assert softmax_constant(64, 60, Q4_16)[1] == 63


def test_rejects_head_size():
    with pytest.raises(ValueError, match=r"^Head size must be at least 1, not 0$"):
        softmax_constant(0, 16, Q4_16)
