"""From an exact sum and its bias to one element."""

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.library import SharedComponent
from acceltran.numeric.round_shift import RoundShift

__all__ = ["SumRounder"]


class SumRounder(SharedComponent):
    """Add the aligned bias to a sum and round, at every cycle in which ``advance`` is 1.

    ``y = saturate((sum + (bias << bias_shift) + half) >> shift)`` with ``half`` the half of
    ``1 << shift``, exactly, for all shifts of 0..63. No number becomes wider than sums are,
    because sum and bias meet on the coarser of the bias's scale and the result's: sums lose
    their low bits only where nothing is added to them (a floor of a floor is one floor).

    The user takes the three shifts apart beforehand:
    ``sum_shift = min(bias_shift, shift)``, ``bias_left = bias_shift - sum_shift`` and
    ``sum_right = shift - sum_shift``.

    Latency is ``LATENCY`` advancing cycles; throughput is one result per cycle.

    Golden model: ``acceltran_sim.golden.product.round_sums``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of bias and result.
    inner : int
        Longest sum of products.

    Members
    -------
    advance : ``In(1)``
        Move every stage on by one.
    sum : ``In(signed(sum_width))``
        Exact sum; ``sum_width`` is ``acceltran.arch.sums.sum_width``.
    bias : ``In(signed(fmt.width))``
    sum_shift, bias_left, sum_right : ``In(unsigned(6))``
        Shifts, the same while any sum is under way.
    y : ``Out(signed(fmt.width))``
        Rounded result.
    saturated : ``Out(1)``
        The result was clipped.
    """

    LATENCY = 3 + RoundShift.LATENCY

    advance: Signal
    sum: Signal
    bias: Signal
    sum_shift: Signal
    bias_left: Signal
    sum_right: Signal
    y: Signal
    saturated: Signal

    def __init__(self, *, fmt: FixedPoint, inner: int):
        if inner < 1:
            raise ValueError(f"Inner dimension must be at least 1, not {inner!r}")
        self.fmt = fmt
        self.inner = inner
        super().__init__({
            "advance": In(1),
            "sum": In(signed(sum_width(fmt=fmt, inner=inner))),
            "bias": In(signed(fmt.width)),
            "sum_shift": In(unsigned(6)),
            "bias_left": In(unsigned(6)),
            "sum_right": In(unsigned(6)),
            "y": Out(signed(fmt.width)),
            "saturated": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # An aligned bias beyond this width saturates the result, whatever the sum.
        wide = len(self.sum) + 1
        half_sum = [Signal(signed(len(self.sum) + 1), name=f"half_sum{k}") for k in range(2)]
        near_bias = Signal(signed(max(self.fmt.width + 31, wide)))
        far_bias = Signal(signed(wide))
        total = Signal(signed(wide + 2))

        near = Signal(signed(wide))
        near_fits, far_fits = Signal(), Signal()
        upper = near_bias[wide - 1 :]
        far_room = near_bias[wide - 33 :]
        m.d.comb += [
            near.eq(near_bias),
            near_fits.eq(upper.all() | ~upper.any()),
            far_fits.eq(far_room.all() | ~far_room.any()),
        ]
        end = Mux(near_bias[-1], Const(-(1 << (wide - 1))), Const((1 << (wide - 1)) - 1))
        far = self.bias_left[5]
        with m.If(self.advance):
            m.d.sync += [
                half_sum[0].eq((self.sum << 1) >> Cat(Const(0, 4), self.sum_shift[4:])),
                near_bias.eq(self.bias << self.bias_left[:5]),
                half_sum[1].eq(half_sum[0] >> self.sum_shift[:4]),
                far_bias.eq(
                    Mux(
                        Mux(far, far_fits, near_fits),
                        Mux(far, (near << 32)[:wide].as_signed(), near),
                        end,
                    )
                ),
                total.eq(half_sum[1] + (far_bias << 1)),
            ]
        m.submodules.rounding = rounding = RoundShift(
            input_width=len(total), output_width=self.fmt.width, shift_width=6
        )
        m.d.comb += [
            rounding.advance.eq(self.advance),
            rounding.x.eq(total),
            rounding.shift.eq(self.sum_right),
            self.y.eq(rounding.y),
            self.saturated.eq(rounding.saturated),
        ]
        return m
