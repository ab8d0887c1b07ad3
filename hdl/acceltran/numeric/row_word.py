"""Part of a row, on its way through a unit that works on whole rows."""

from amaranth import signed, unsigned
from amaranth.lib import data

__all__ = ["RowWord"]


class RowWord(data.StructLayout):
    """Layout of ``width`` neighbouring elements of a row.

    Members
    -------
    valid : ``unsigned(1)``
        There is a word in this cycle.
    first, last : ``unsigned(1)``
        The word is the first or the last of its row.
    keys : ``unsigned(width)``
        Bit ``k`` is 1 if element ``k`` takes part (belongs to a valid key).
    values : ``ArrayLayout(signed(element_width), width)``
        Elements.
    """

    def __init__(self, element_width: int, width: int):
        super().__init__({
            "valid": unsigned(1),
            "first": unsigned(1),
            "last": unsigned(1),
            "keys": unsigned(width),
            "values": data.ArrayLayout(signed(element_width), width),
        })
