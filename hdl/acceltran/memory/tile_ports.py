"""Ports through which tiles and biases reach the lanes of a PE: never refused."""

from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.numeric.vector import Vector

__all__ = ["BiasWrite", "VectorWrite"]


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
    half : ``Out(1)``
        Half of the tile RAM that the bias goes with.
    vector : ``Out(Vector(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, lanes: int):
        super().__init__({
            "valid": Out(1),
            "word": Out(range(lanes)),
            "half": Out(1),
            "vector": Out(Vector(fmt, tile)),
        })
