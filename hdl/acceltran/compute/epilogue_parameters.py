"""Settings of the epilogues for one product."""

from amaranth import unsigned
from amaranth.lib import data

from acceltran.arch.commands import THRESHOLDS
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
        Value of the entry of the threshold table that the command names.
    entry : ``range(THRESHOLDS)``
        That entry.
    """

    def __init__(self, fmt: FixedPoint):
        super().__init__({
            "bias_shift": unsigned(6),
            "shift": unsigned(6),
            "function": unsigned(2),
            "gelu_input_shift": unsigned(5),
            "gelu_output_shift": unsigned(5),
            "threshold": unsigned(fmt.width),
            "entry": range(THRESHOLDS),
        })
