"""Right shift with rounding and saturation."""

from amaranth import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent

__all__ = ["RoundShift"]


class RoundShift(SharedComponent):
    """Round and saturate a wide number at every cycle in which ``advance`` is 1.

    ``y = saturate(((x >> shift) + 1) >> 1)``: half of ``x * 2 ** -shift``, rounded to the nearest
    integer, halves up. The bit below the binary point of ``x`` is what lets ``shift`` be 0.

    Latency is ``LATENCY`` advancing cycles; throughput is one result per cycle.

    Golden model: ``acceltran_sim.golden.fixed_point``.

    Parameters
    ----------
    input_width : int
        Bits of ``x``; at least ``output_width + 3``.
    output_width : int
        Bits of ``y``; at least 2.
    shift_width : int
        Bits of ``shift``; at least 1.

    Members
    -------
    advance : ``In(1)``
        Move every stage on by one.
    x : ``In(signed(input_width))``
        What to round, in halves.
    shift : ``In(unsigned(shift_width))``
        Right shift of this ``x``.
    y : ``Out(signed(output_width))``
        Rounded result.
    saturated : ``Out(1)``
        The result was clipped.
    """

    LATENCY = 3

    advance: Signal
    x: Signal
    shift: Signal
    y: Signal
    saturated: Signal

    def __init__(self, *, input_width: int, output_width: int, shift_width: int):
        if output_width < 2:
            raise ValueError(f"Output width must be at least 2, not {output_width!r}")
        if input_width < output_width + 3:
            raise ValueError(
                f"Input width must be at least the output width plus 3, {output_width + 3}, "
                f"not {input_width!r}"
            )
        if shift_width < 1:
            raise ValueError(f"Shift width must be at least 1, not {shift_width!r}")
        self.input_width = input_width
        self.output_width = output_width
        self.shift_width = shift_width
        super().__init__({
            "advance": In(1),
            "x": In(signed(input_width)),
            "shift": In(unsigned(shift_width)),
            "y": Out(signed(output_width)),
            "saturated": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = self.output_width

        shifted = Signal(signed(self.input_width))
        # Clipped to two bits more than the result has: enough to see afterwards that it overflows.
        narrow_shape = signed(width + 2)
        narrow = Signal(narrow_shape)
        fits = Signal()
        m.d.comb += fits.eq(shifted[width + 1 :].all() | ~shifted[width + 1 :].any())
        lowest, highest = -(1 << (width + 1)), (1 << (width + 1)) - 1
        extreme = Mux(shifted[-1], Const(lowest, narrow_shape), Const(highest, narrow_shape))

        rounded = Signal(narrow_shape)
        overflows = Signal()
        m.d.comb += [
            rounded.eq((narrow + 1) >> 1),
            overflows.eq(rounded[width - 1 :].any() & ~rounded[width - 1 :].all()),
        ]
        end = Mux(rounded[-1], -(1 << (width - 1)), (1 << (width - 1)) - 1)
        with m.If(self.advance):
            m.d.sync += [
                shifted.eq(self.x >> self.shift),
                narrow.eq(Mux(fits, shifted[: width + 2].as_signed(), extreme)),
                self.y.eq(Mux(overflows, end, rounded)),
                self.saturated.eq(overflows),
            ]
        return m
