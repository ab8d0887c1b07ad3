"""Random masks that say which elements of a matrix are not zero."""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["MASKS", "clustered_mask", "iid_mask"]

Mask = npt.NDArray[np.bool_]


def iid_mask(rng: np.random.Generator, rows: int, columns: int, density: float) -> Mask:
    """Each element on its own."""
    return rng.random((rows, columns)) < density


def clustered_mask(
    rng: np.random.Generator,
    rows: int,
    columns: int,
    density: float,
    *,
    row_spread: float = 0.5,
    column_spread: float = 0.7,
    run: float = 6.0,
) -> Mask:
    """Mask as activations have it: some rows and columns are denser, and elements come in runs.

    The probability of an element is the product of a factor of its row and one of its column, both
    gamma distributed with mean 1, scaled so that the mean is ``density``. Along a row the choices
    are correlated.

    Parameters
    ----------
    rng : Generator
    rows, columns : int
        Shape.
    density : float
        Mean, 0..1.
    row_spread, column_spread : float
        Standard deviations of the factors.
    run : float
        Elements along a row after which the correlation has fallen to 1/e.
    """
    by_row = rng.gamma(row_spread**-2, row_spread**2, (rows, 1))
    by_column = rng.gamma(column_spread**-2, column_spread**2, (1, columns))
    probability = _scaled(by_row * by_column, density)
    memory = math.exp(-1 / run)
    normal = rng.normal(size=(rows, columns))
    for column in range(1, columns):
        normal[:, column] *= math.sqrt(1 - memory**2)
        normal[:, column] += memory * normal[:, column - 1]
    below = 0.5 + 0.5 * np.vectorize(math.erf, otypes=[float])(normal / math.sqrt(2))
    return below < probability


def _scaled(field: npt.NDArray[np.float64], mean: float) -> npt.NDArray[np.float64]:
    """``min(1, scale * field)`` with the scale that gives it this mean."""
    if mean >= 1:
        return np.ones_like(field)
    low, high = 0.0, 1.0
    while np.minimum(1, high * field).mean() < mean:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if np.minimum(1, middle * field).mean() < mean:
            low = middle
        else:
            high = middle
    return np.minimum(1, high * field)


MASKS = {"iid": iid_mask, "clustered": clustered_mask}
"""Kinds of masks by name."""
