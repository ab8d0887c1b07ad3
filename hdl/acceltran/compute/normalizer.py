"""Second pass of layer norm: elements are centred, scaled and rounded."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import BETA_SHIFT_MAX, LayerNormFormat
from acceltran.compute.row_statistics import LayerNormParameters, RowScale
from acceltran.library import SharedComponent
from acceltran.numeric.delay import delayed
from acceltran.numeric.product import product

__all__ = ["Normalizer"]

FINE = 3  # bits of a shift that its second stage does


class Normalizer(SharedComponent):
    """Apply a row's scale, gamma and beta to a word of elements whenever ``advance`` is 1.

    ``z = (x - mean) * scale * gamma + beta``, where each product is rounded half up and the result
    saturates. ``z`` belongs to the ``x`` and ``scale`` given ``LATENCY`` advancing cycles earlier,
    and to the ``gamma`` and ``beta`` given ``AFFINE_DELAY`` advancing cycles after those. One word
    per cycle. There is no handshake: the unit that it is part of knows which words are valid.

    Golden model: ``acceltran_sim.golden.layernorm.layer_norm``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element.
    width : int
        Elements of a word; at least 1.
    hidden : int
        Elements of the longest row; in 1..1024.

    Members
    -------
    fields : ``In(LayerNormParameters())``
        ``beta_shift`` and ``output_shift`` are used. Static.
    advance : ``In(1)``
        Move every stage on by one.
    x : ``In(ArrayLayout(signed(fmt.width + 1), width))``
        Sums of two elements.
    scale : ``In(RowScale(fmt, hidden))``
        What normalises their row.
    gamma, beta : ``In(ArrayLayout(signed(fmt.width), width))``
    z : ``Out(ArrayLayout(signed(fmt.width), width))``
        Results.
    saturated : ``Out(width)``
        Bit ``k`` is 1 if result ``k`` was clipped.
    """

    LATENCY = 14
    AFFINE_DELAY = 6

    fields: data.View
    advance: Signal
    x: data.View
    scale: data.View
    gamma: data.View
    beta: data.View
    z: data.View
    saturated: Signal

    def __init__(self, *, fmt: FixedPoint, width: int, hidden: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        if not 1 <= hidden <= 1024:
            raise ValueError(f"Hidden size must be in 1..1024, not {hidden!r}")
        self.fmt = fmt
        self.width = width
        self.hidden = hidden
        self.formats = LayerNormFormat.of(fmt)
        elements = data.ArrayLayout(signed(fmt.width), width)
        super().__init__({
            "fields": In(LayerNormParameters()),
            "advance": In(1),
            "x": In(data.ArrayLayout(signed(fmt.width + 1), width)),
            "scale": In(RowScale(fmt, hidden)),
            "gamma": In(elements),
            "beta": In(elements),
            "z": Out(elements),
            "saturated": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        formats, fmt, advance = self.formats, self.fmt, self.advance
        # A shift to the left by up to `up` is one to the right, from that far up. A bit below
        # the result is kept for rounding, in a stage of its own.
        up = ceil_log2(self.hidden) + formats.normal_frac_bits - formats.guard_bits + 1
        down = formats.normal_frac_bits + formats.root_frac_bits - formats.result_frac_bits - 1
        normal_shape = signed(formats.normal_width(self.hidden))
        result_shape = signed(formats.result_width(self.hidden))
        aligned_shape = signed(fmt.width + BETA_SHIFT_MAX)
        sum_shape = signed(max(result_shape.width + fmt.width, aligned_shape.width) + 1)

        shift = self.scale.shift
        coarse_shift = delayed(m, shift[FINE:], 1, name="coarse_shift", advance=advance)
        fine_shift = delayed(m, shift[:FINE], 2, name="fine_shift", advance=advance)
        mantissa = delayed(m, self.scale.mantissa, 4, name="mantissa", advance=advance)
        beta_shift = self.fields.beta_shift[: BETA_SHIFT_MAX.bit_length()]
        output_shift = self.fields.output_shift

        for k in range(self.width):
            deviation = Signal(signed(formats.mean_width + 1), name=f"deviation_{k}")
            coarse = Signal(signed(len(deviation) + up), name=f"coarse_{k}")
            fine = Signal(signed(normal_shape.width + 1), name=f"fine_{k}")
            normal = Signal(normal_shape, name=f"normal_{k}")
            y = Signal(result_shape, name=f"y_{k}")
            gamma = Signal(signed(fmt.width), name=f"gamma_{k}")
            beta = Signal(signed(fmt.width), name=f"beta_{k}")
            coarse_beta = Signal(aligned_shape, name=f"coarse_beta_{k}")
            fine_beta = Signal(aligned_shape, name=f"fine_beta_{k}")
            total = Signal(sum_shape, name=f"total_{k}")
            coarse_total = Signal(signed(sum_shape.width + 1), name=f"coarse_total_{k}")
            fine_total = Signal(signed(sum_shape.width + 1), name=f"fine_total_{k}")
            clamped = Signal(signed(fmt.width + 1), name=f"clamped_{k}")
            outside = Signal(name=f"outside_{k}")
            z = Signal(signed(fmt.width), name=f"z_{k}")

            normalized = product(m, normal, mantissa, name=f"normalized_{k}", advance=advance)
            scaled = product(m, y, gamma, name=f"scaled_{k}", advance=advance)
            fits = Signal(name=f"fits_{k}")
            rounds_over = Signal(name=f"rounds_over_{k}")
            upper = fine_total[fmt.width :]
            m.d.comb += [
                fits.eq(upper.all() | ~upper.any()),
                rounds_over.eq(clamped == 2 * fmt.highest + 1),
            ]
            limit = Mux(fine_total < 0, 2 * fmt.lowest, 2 * fmt.highest)
            with m.If(advance):
                m.d.sync += [
                    deviation.eq((self.x[k] << formats.guard_bits) - self.scale.mean),
                    coarse.eq((deviation << up) >> (coarse_shift << FINE)),
                    fine.eq(coarse >> fine_shift),
                    normal.eq((fine + 1) >> 1),
                    # Two stages of a product.
                    y.eq(((normalized >> down) + 1) >> 1),
                    gamma.eq(self.gamma[k]),
                    beta.eq(self.beta[k]),
                    # Two stages of a product.
                    coarse_beta.eq(beta << (beta_shift[FINE:] << FINE)),
                    fine_beta.eq(coarse_beta << beta_shift[:FINE]),
                    total.eq(scaled + fine_beta),
                    coarse_total.eq((total << 1) >> (output_shift[FINE:] << FINE)),
                    fine_total.eq(coarse_total >> output_shift[:FINE]),
                    clamped.eq(Mux(fits, fine_total, limit)),
                    # Half an LSB below the least element is not clipped, but rounded up.
                    outside.eq(~fits & (fine_total != 2 * fmt.lowest - 1)),
                    z.eq(clamped[1:].as_signed() + (clamped[0] & ~rounds_over)),
                    self.saturated[k].eq(outside | rounds_over),
                ]
            m.d.comb += self.z[k].eq(z)

        return m
