"""Golden model of the boundary that prunes probabilities before they are known."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SEARCH_BELOW, SEARCH_STEPS, SoftmaxFormat
from acceltran_sim.golden.function_unit import evaluate

__all__ = ["pruning_boundary"]


def pruning_boundary(threshold: npt.NDArray[np.int64], *, fmt: FixedPoint) -> npt.NDArray[np.int64]:
    """Least logarithm of a probability that is at least ``threshold`` and not 0.

    A probability grows with its logarithm, so these are just the ones that ``prune`` keeps. The
    power is compared with ``(2 * threshold - 1)`` halves, which round up to the threshold; the
    ``log2`` table comes close to where it gets there, and a few powers from there on tell exactly.

    Parameters
    ----------
    threshold : int64 array of any shape
        Pruning thresholds in units of one LSB; not negative.
    fmt : FixedPoint
        Format of a probability.

    Returns
    -------
    int64 array of the shape of ``threshold``
        Logarithms to base 2 with ``logit_frac_bits``; ``no_survivor`` if no probability is as high.
    """
    formats = SoftmaxFormat.of(fmt)
    frac_bits = formats.logit_frac_bits
    halves = 2 * np.clip(threshold, 1, formats.highest_probability) - 1
    _, magnitude = np.frexp(halves.astype(np.float64))  # exact
    octave = magnitude.astype(np.int64) - 1
    level = halves << (frac_bits - octave)
    guess = evaluate(formats.log2, level - (1 << frac_bits))
    fraction = np.maximum(guess - SEARCH_BELOW, 0)
    for _ in range(SEARCH_STEPS):
        fraction = fraction + (evaluate(formats.exp2, fraction) < level)
    boundary = ((octave - fmt.frac_bits - 1) << frac_bits) + fraction
    return np.where(threshold > formats.highest_probability, formats.no_survivor, boundary)
