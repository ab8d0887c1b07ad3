"""Threshold curves: what the table holds for each of its entries."""

__all__ = [
    "ENTRY_WORDS",
    "POINTS",
    "POSITION_BITS",
    "POSITION_MAX",
    "SEGMENTS",
    "SEGMENT_BITS",
    "WORD_BITS",
    "host_address",
]

SEGMENTS = 32
"""Straight pieces of a curve, of equal length."""
POINTS = SEGMENTS + 1
POSITION_BITS = 16
"""A position on a curve, a sparsity, is an integer that stands for ``position / 2 ** 16``."""
POSITION_MAX = (1 << POSITION_BITS) - 1
SEGMENT_BITS = POSITION_BITS - (SEGMENTS - 1).bit_length()
"""Bits of a position inside a segment."""
ENTRY_WORDS = POINTS + 1
"""Words of an entry: the points of its curve, then its position."""
WORD_BITS = (ENTRY_WORDS - 1).bit_length()


def host_address(entry: int, word: int) -> int:
    """What the register THRESHOLD_ADDRESS says for a word of an entry."""
    return entry << WORD_BITS | word
