"""Settings of the epilogues for one product."""

from amaranth import unsigned
from amaranth.lib import data

from acceltran.arch.fixed_point import FixedPoint

__all__ = ["EpilogueParameters"]


class EpilogueParameters(data.StructLayout):
    """Layout of what a product command says about its results.

    Members
    -------
    bias_shift, shift : ``unsigned(6)``
    function : ``unsigned(2)``
    gelu_input_shift, gelu_output_shift : ``unsigned(5)``
        As in the command.
    threshold : ``unsigned(fmt.width)``
        Entry of the threshold table that the command names.
    """

    def __init__(self, fmt: FixedPoint):
        super().__init__({
            "bias_shift": unsigned(6),
            "shift": unsigned(6),
            "function": unsigned(2),
            "gelu_input_shift": unsigned(5),
            "gelu_output_shift": unsigned(5),
            "threshold": unsigned(fmt.width),
        })
