"""Ports through which tiles and biases reach the lanes of a PE: never refused."""

from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.numeric.vector import Vector

__all__ = ["BIAS_TILES", "BiasWrite", "VectorWrite"]

BIAS_TILES = 4
"""Tiles whose biases a PE holds: those in its tile RAM, and those whose results are under way."""


class VectorWrite(wiring.Signature):
    """Write of one row of the tile of all lanes that work on one column vector.

    Members
    -------
    valid : ``Out(1)``
    lanes : ``Out(lanes)``
        Bit l: lane l is one of them.
    row : ``Out(range(tile_rows))``
    vector : ``Out(Vector(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, tile_rows: int, lanes: int):
        super().__init__({
            "valid": Out(1),
            "lanes": Out(lanes),
            "row": Out(range(tile_rows)),
            "vector": Out(Vector(fmt, tile)),
        })


class BiasWrite(wiring.Signature):
    """Write of the bias of one column vector.

    Members
    -------
    valid : ``Out(1)``
    word : ``Out(range(lanes))``
        Place of the column vector in the pass.
    tile : ``Out(range(BIAS_TILES))``
        Number of the tile that the bias goes with, modulo ``BIAS_TILES``.
    vector : ``Out(Vector(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, lanes: int):
        super().__init__({
            "valid": Out(1),
            "word": Out(range(lanes)),
            "tile": Out(range(BIAS_TILES)),
            "vector": Out(Vector(fmt, tile)),
        })
