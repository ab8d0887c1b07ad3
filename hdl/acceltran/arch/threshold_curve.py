"""Threshold curves: what the table holds for each of its entries."""

from acceltran.arch.commands import THRESHOLDS

__all__ = [
    "ENTRY_BITS",
    "ENTRY_WORDS",
    "POINTS",
    "POSITION_BITS",
    "POSITION_MAX",
    "SEGMENTS",
    "SEGMENT_BITS",
    "TABLE_ADDRESS_BITS",
    "WORD_BITS",
    "point_address",
    "position_address",
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
ENTRY_BITS = (THRESHOLDS - 1).bit_length()
TABLE_ADDRESS_BITS = 1 + ENTRY_BITS + WORD_BITS
"""Bits of an address of the table, as the register THRESHOLD_ADDRESS has it."""


def point_address(entry: int, point: int) -> int:
    """Address of a point of an entry's curve."""
    return entry << WORD_BITS | point


def position_address(entry: int) -> int:
    """Address of an entry's position; those of all entries follow each other."""
    return 1 << ENTRY_BITS + WORD_BITS | entry
