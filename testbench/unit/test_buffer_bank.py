# amaranth: UnusedElaboratable=no
"""BufferBank rejects what it cannot be; VectorBuffer's bench covers what it does."""

import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.memory.buffer_bank import BufferBank

FORMAT = FixedPoint(int_bits=4, frac_bits=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, "Vector size must be at least 1, not 0"),
        ({"depth": 1}, "Bank depth must be at least 2, not 1"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        BufferBank(**{"fmt": FORMAT, "tile": 4, "depth": 8, **change})
