"""The vector: what moves between buffers, lanes and vector units."""

from amaranth import signed, unsigned
from amaranth.lib import data

from acceltran.arch.fixed_point import FixedPoint

__all__ = ["Vector"]


class Vector(data.StructLayout):
    """Layout of ``tile`` elements with the mask that says which of them are effectual.

    Members
    -------
    values : ``ArrayLayout(signed(fmt.width), tile)``
        Elements; exactly zero wherever ``keep`` is 0, and nowhere else.
    keep : ``unsigned(tile)``
        Bit ``k`` is 1 if element ``k`` is effectual (survived pruning and is not zero).
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        super().__init__({
            "values": data.ArrayLayout(signed(fmt.width), tile),
            "keep": unsigned(tile),
        })
