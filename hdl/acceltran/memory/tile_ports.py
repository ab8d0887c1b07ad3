"""Ports through which tiles and biases reach the lanes: broadcast to all PEs, never refused."""

from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.numeric.vector import Vector

__all__ = ["BiasWrite", "VectorWrite"]


class VectorWrite(wiring.Signature):
    """Write of one row of one lane's tile.

    Members
    -------
    valid : ``Out(1)``
    pe : ``Out(range(pes))``
    lane : ``Out(range(lanes))``
    row : ``Out(range(tile_rows))``
    vector : ``Out(Vector(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, tile_rows: int, pes: int, lanes: int):
        super().__init__({
            "valid": Out(1),
            "pe": Out(range(pes)),
            "lane": Out(range(lanes)),
            "row": Out(range(tile_rows)),
            "vector": Out(Vector(fmt, tile)),
        })


class BiasWrite(wiring.Signature):
    """Write of one lane's bias vector.

    Members
    -------
    valid : ``Out(1)``
    pe : ``Out(range(pes))``
    lane : ``Out(range(lanes))``
    half : ``Out(1)``
        Half of the tile RAM that the bias goes with.
    vector : ``Out(Vector(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, *, tile: int, pes: int, lanes: int):
        super().__init__({
            "valid": Out(1),
            "pe": Out(range(pes)),
            "lane": Out(range(lanes)),
            "half": Out(1),
            "vector": Out(Vector(fmt, tile)),
        })
