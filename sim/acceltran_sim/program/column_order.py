"""Order of the columns of static weights, for lanes that skip zeros of weights.

A lane with a weight window takes as long as the densest of its columns, and lanes that share
scalars as long as the densest of all. So columns are sorted by density: those that are computed
together then have about as many weights each.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from acceltran_sim.golden.encoder import Linear, QuantizedLayer

__all__ = ["sort_columns"]

Order = npt.NDArray[np.intp]


def sort_columns(layer: QuantizedLayer) -> QuantizedLayer:
    """Layer with the same output in every bit, whose columns of equal density are neighbours.

    Only inner dimensions are permuted, whose order no exact sum depends on: the intermediate
    columns with the rows of the output matrix, and inside each head the columns of query with
    those of key, and the columns of value with the rows of the attention's output matrix.
    """
    heads = layer.heads
    scores = _by_density([layer.query, layer.key], groups=heads)
    context = _by_density([layer.value], groups=heads)
    inner = _by_density([layer.intermediate], groups=1)
    return replace(
        layer,
        query=_columns(layer.query, scores),
        key=_columns(layer.key, scores),
        value=_columns(layer.value, context),
        attention_output=_rows(layer.attention_output, context),
        intermediate=_columns(layer.intermediate, inner),
        output=_rows(layer.output, inner),
    )


def _by_density(linears: list[Linear], *, groups: int) -> Order:
    """Columns in the order of their non-zero weights, most first, without leaving their group."""
    weights = sum(np.count_nonzero(linear.matrix, axis=0) for linear in linears)
    parts = np.split(np.asarray(weights), groups)
    size = len(parts[0])
    return np.concatenate([
        number * size + np.argsort(-part, kind="stable") for number, part in enumerate(parts)
    ])


def _columns(linear: Linear, order: Order) -> Linear:
    return replace(linear, matrix=linear.matrix[:, order], bias=linear.bias[order])


def _rows(linear: Linear, order: Order) -> Linear:
    return replace(linear, matrix=linear.matrix[order])
