"""A product command with what it refers to."""

from amaranth import unsigned
from amaranth.lib import data

from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.product_command import ProductCommand

__all__ = ["ProductOrder"]


class ProductOrder(data.StructLayout):
    """Layout of a product command with what it refers to.

    Members
    -------
    command : ``ProductCommand()``
    threshold : ``unsigned(fmt.width)``
        Value of the entry of the threshold table that the command names.
    """

    def __init__(self, fmt: FixedPoint):
        super().__init__({"command": ProductCommand(), "threshold": unsigned(fmt.width)})
