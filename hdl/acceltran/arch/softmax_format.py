"""Number formats inside the softmax unit, and the constant that a SOFTMAX command carries."""

import math
from dataclasses import dataclass

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import FunctionTable, load_table

__all__ = [
    "CONSTANT_WIDTH",
    "SEARCH_BELOW",
    "SEARCH_STEPS",
    "SHIFT_WIDTH",
    "SoftmaxFormat",
    "softmax_constant",
]

CONSTANT_WIDTH = 21
"""Bits of the constant that turns a score into a logit to base 2 (unsigned)."""
SHIFT_WIDTH = 6
"""Bits of the right shift of their product (unsigned)."""
SEARCH_BELOW = 2
"""The ``exp2`` table reaches a level at no less than what ``log2`` tells of it, less this, ..."""
SEARCH_STEPS = 3
"""... and at most so many LSB above that; for the levels of all pruning thresholds."""


@dataclass(frozen=True, kw_only=True)
class SoftmaxFormat:
    """Formats of logits, sums and probabilities for elements of format ``fmt``.

    Probabilities have the fraction bits of ``fmt``. Four more in the logits keep the greatest error
    of a probability near the half LSB of its rounding; eight more in the sum keep truncated terms
    of a row of 1024 keys from adding up to one.
    """

    fmt: FixedPoint
    """Format of scores and probabilities."""
    logit_frac_bits: int
    """Fraction bits of logits and of the logarithm of their sum."""
    sum_frac_bits: int
    """Fraction bits of the sum of powers."""

    @classmethod
    def of(cls, fmt: FixedPoint) -> "SoftmaxFormat":
        """Return the formats for elements of format ``fmt``."""
        fine = fmt.frac_bits + 4
        return cls(fmt=fmt, logit_frac_bits=fine, sum_frac_bits=fine + 8)

    @property
    def exp2(self) -> FunctionTable:
        """Table of ``2 ** x``, x in [0, 1), argument and result with ``logit_frac_bits``."""
        return load_table("exp2", self.fmt)

    @property
    def log2(self) -> FunctionTable:
        """Table of ``log2(1 + x)``, x in [0, 1), argument and result with ``logit_frac_bits``."""
        return load_table("log2", self.fmt)

    @property
    def logit_width(self) -> int:
        """Bits of a logit (signed): any score times any constant with any shift."""
        return self.fmt.width + CONSTANT_WIDTH

    @property
    def exponent_width(self) -> int:
        """Bits of the integer part of a logit (signed)."""
        return self.logit_width - self.logit_frac_bits

    @property
    def highest_probability(self) -> int:
        """Raw probability that stands for 1: the nearest that the format holds."""
        return min(1 << self.fmt.frac_bits, self.fmt.highest)

    @property
    def boundary_width(self) -> int:
        """Bits of a boundary of pruning (signed): ``-frac_bits - 1`` to 1."""
        return self.logit_frac_bits + self.fmt.frac_bits.bit_length() + 1

    @property
    def no_survivor(self) -> int:
        """Boundary of pruning that prunes all: 1, which no logarithm of a probability reaches."""
        return 1 << self.logit_frac_bits

    def sum_width(self, sequence: int) -> int:
        """Bits of the sum of powers of a row of ``sequence`` keys (unsigned)."""
        return self.sum_frac_bits + 1 + (sequence - 1).bit_length()


def softmax_constant(d_head: int, score_frac_bits: int, fmt: FixedPoint) -> tuple[int, int]:
    """Return ``constant, shift`` such that ``score * constant >> shift`` is a logit to base 2.

    They stand for ``log2(e) / sqrt(d_head)`` between the scale of the scores,
    ``2 ** -score_frac_bits`` (which may be negative, or finer than that of ``fmt``), and that of
    the logits. ``constant`` has exactly ``CONSTANT_WIDTH`` significant bits.
    """
    if d_head < 1:
        raise ValueError(f"Head size must be at least 1, not {d_head!r}")
    mantissa, exponent = math.frexp(math.log2(math.e) / math.sqrt(d_head))
    constant = round(math.ldexp(mantissa, CONSTANT_WIDTH))
    exponent += SoftmaxFormat.of(fmt).logit_frac_bits - score_frac_bits
    if constant == 1 << CONSTANT_WIDTH:
        constant, exponent = constant >> 1, exponent + 1
    shift = CONSTANT_WIDTH - exponent
    lowest = score_frac_bits - shift
    if not 0 <= shift < 1 << SHIFT_WIDTH:
        highest = lowest + (1 << SHIFT_WIDTH) - 1
        raise ValueError(
            f"Fraction bits of scores must be in {lowest}..{highest} for head size {d_head}, "
            f"not {score_frac_bits!r}"
        )
    return constant, shift
