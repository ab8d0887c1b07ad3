"""The format of compressed tensors, by hand and there and back."""

import numpy as np
import pytest

from acceltran_sim.golden import compression as golden


def test_layout():
    values = np.zeros((2, 8), dtype=np.int64)
    values[0, 1] = -1
    values[1, 7] = 0x123
    image = golden.compress(values, 12)
    assert len(image) == 16
    assert image[:8] == (1 << 1 | 1 << 15).to_bytes(8, "little")
    assert image[8:] == (0xFFF | 0x123 << 12).to_bytes(8, "little")


@pytest.mark.parametrize("width", [12, 16, 20])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("vectors", [0, 1, 3, 70])
def test_there_and_back(width, density, vectors):
    rng = np.random.default_rng(vectors)
    values = rng.integers(-(1 << width - 1), 1 << width - 1, size=(vectors, 16))
    values[rng.random(values.shape) >= density] = 0
    image = golden.compress(values, width)
    effectual = int(np.count_nonzero(values))
    assert len(image) == golden.keep_bytes(vectors, 16) + golden.value_bytes(effectual, width)
    restored, size = golden.decompress(image + b"\xff" * 100, vectors, 16, width)
    np.testing.assert_array_equal(restored, values)
    assert size == len(image)
