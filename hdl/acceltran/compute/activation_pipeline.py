"""Activation functions of one element."""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import load_table
from acceltran.library import SharedComponent
from acceltran.numeric.delay import delayed
from acceltran.numeric.function_pipeline import FunctionPipeline
from acceltran.numeric.round_shift import RoundShift

__all__ = ["ActivationPipeline"]


class ActivationPipeline(SharedComponent):
    """Apply GELU, ReLU or nothing to an element at every cycle in which ``advance`` is 1.

    GELU is ``max(x, 0) + h(abs(x))``, where ``h`` (GELU less ReLU) is even, small and a table on
    the scale ``2 ** -fmt.frac_bits``. ``x`` is shifted to that scale, the sum is exact there, and
    shifted to the scale of the result with one rounding, half up, and one saturation. ReLU is
    ``max(x, 0)``; for it and for ``NONE`` the scale stays and the shifts do not matter.

    Latency is ``LATENCY`` advancing cycles; throughput is one result per cycle.

    Golden model: ``acceltran_sim.golden.gelu``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of ``x`` and ``y``; one that the table of GELU exists for.

    Members
    -------
    advance : ``In(1)``
        Move every stage on by one.
    function : ``In(Activation)``
        Function, the same while any element is under way; so are the shifts.
    input_shift : ``In(unsigned(5))``
        For GELU: left shift from the scale of ``x`` to the table's.
    output_shift : ``In(unsigned(5))``
        For GELU: right shift from the table's scale to that of ``y``.
    x : ``In(signed(fmt.width))``
        Pre-activation.
    y : ``Out(signed(fmt.width))``
        Result.
    saturated : ``Out(1)``
        GELU's result was clipped.
    """

    LATENCY = 2 + FunctionPipeline.LATENCY + 1 + RoundShift.LATENCY

    advance: Signal
    function: Signal
    input_shift: Signal
    output_shift: Signal
    x: Signal
    y: Signal
    saturated: Signal

    def __init__(self, *, fmt: FixedPoint):
        self.fmt = fmt
        self.table = load_table("gelu", fmt)
        super().__init__({
            "advance": In(1),
            "function": In(Activation),
            "input_shift": In(unsigned(5)),
            "output_shift": In(unsigned(5)),
            "x": In(signed(fmt.width)),
            "y": Out(signed(fmt.width)),
            "saturated": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = FunctionPipeline(table=self.table)
        is_gelu = Signal()
        input_shift, output_shift = Signal(5), Signal(5)
        m.d.comb += is_gelu.eq(self.function == Activation.GELU)
        m.d.sync += [  # settings stand still long before the first element is here
            input_shift.eq(Mux(is_gelu, self.input_shift, 0)),
            output_shift.eq(Mux(is_gelu, self.output_shift, 0)),
        ]

        # The table's argument: the magnitude, on the table's scale, at most its last point.
        magnitude = Signal(self.fmt.width)
        shifted = Signal(self.fmt.width + 31)
        m.d.comb += shifted.eq(magnitude << input_shift)
        beyond = shifted[self.table.input_width :].any()
        highest = (1 << self.table.input_width) - 1
        argument = Signal(self.table.input_width)

        # Beside it, what the table's result is added to.
        positive = Signal(signed(self.fmt.width))
        waiting = delayed(
            m, positive, FunctionPipeline.LATENCY, name="waiting", advance=self.advance
        )
        aligned = Signal(signed(self.fmt.width + 31))
        total = Signal(signed(self.fmt.width + 32))
        keep_negative = self.function == Activation.NONE
        with m.If(self.advance):
            m.d.sync += [
                magnitude.eq(abs(self.x)),
                argument.eq(Mux(beyond, highest, shifted)),
                positive.eq(Mux(keep_negative | (self.x >= 0), self.x, 0)),
                aligned.eq(waiting << input_shift),
                total.eq(aligned + Mux(is_gelu, table.y, 0)),
            ]
        m.submodules.rounding = rounding = RoundShift(
            input_width=len(total) + 1, output_width=self.fmt.width, shift_width=5
        )
        m.d.comb += [
            table.advance.eq(self.advance),
            table.n.eq(argument),
            rounding.advance.eq(self.advance),
            rounding.x.eq(total << 1),
            rounding.shift.eq(output_shift),
            self.y.eq(rounding.y),
            self.saturated.eq(rounding.saturated),
        ]
        return m
