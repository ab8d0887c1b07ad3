"""Random masks: as dense as asked for, and clustered where they should be."""

import numpy as np
import pytest

from acceltran_sim.bench.masks import MASKS, clustered_mask, iid_mask

SHAPE = (256, 768)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("density", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_density(kind, density):
    mask = MASKS[kind](np.random.default_rng(1), *SHAPE, density)
    assert mask.shape == SHAPE and mask.dtype == np.bool_
    assert mask.mean() == pytest.approx(density, abs=0.015)
    if density in (0, 1):
        assert (mask == bool(density)).all()


@pytest.mark.parametrize("density", [0.1, 0.25, 0.5])
def test_clusters(density):
    """Rows and columns differ, and vectors without any element are more frequent than by chance."""
    iid, clustered = (
        mask(np.random.default_rng(2), *SHAPE, density) for mask in (iid_mask, clustered_mask)
    )
    for axis in (0, 1):
        assert clustered.mean(axis=axis).std() > 2 * iid.mean(axis=axis).std()

    def empty(mask):
        return 1 - mask.reshape(SHAPE[0], -1, 16).any(axis=2).mean()

    assert empty(clustered) > empty(iid) + 0.001


def test_seed():
    masks = [clustered_mask(np.random.default_rng(seed), 8, 40, 0.4) for seed in (1, 1, 2)]
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
