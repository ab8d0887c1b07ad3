"""Order of the columns of static weights, for lanes that skip zeros of weights.

A lane with a weight window takes as long as the densest of its columns, and lanes that share
scalars as long as the densest of all. So columns are sorted by density: those that are computed
together then have about as many weights each.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from acceltran_sim.golden.encoder import Linear, QuantizedLayer

__all__ = ["by_density", "sort_columns"]

Order = npt.NDArray[np.intp]


def sort_columns(layer: QuantizedLayer) -> QuantizedLayer:
    """Layer with the same output in every bit, whose columns of equal density are neighbours.

    Only inner dimensions are permuted, whose order no exact sum depends on: the intermediate
    columns with the rows of the output matrix, and inside each head the columns of query with
    those of key, and the columns of value with the rows of the attention's output matrix.
    """
    heads = layer.heads
    scores = by_density(np.concatenate([layer.query.matrix, layer.key.matrix]), groups=heads)
    context = by_density(layer.value.matrix, groups=heads)
    inner = by_density(layer.intermediate.matrix)
    return replace(
        layer,
        query=_columns(layer.query, scores),
        key=_columns(layer.key, scores),
        value=_columns(layer.value, context),
        attention_output=_rows(layer.attention_output, context),
        intermediate=_columns(layer.intermediate, inner),
        output=_rows(layer.output, inner),
    )


def by_density(weights: npt.NDArray[np.integer], *, groups: int = 1) -> Order:
    """Columns of a matrix in the order of their non-zero elements, most first, without leaving
    their group.
    """
    parts = np.split(np.count_nonzero(weights, axis=0), groups)
    size = len(parts[0])
    return np.concatenate([
        number * size + np.argsort(-part, kind="stable") for number, part in enumerate(parts)
    ])


def _columns(linear: Linear, order: Order) -> Linear:
    return replace(linear, matrix=linear.matrix[:, order], bias=linear.bias[order])


def _rows(linear: Linear, order: Order) -> Linear:
    return replace(linear, matrix=linear.matrix[order])
