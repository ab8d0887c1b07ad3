"""From the sums of a row to its mean and the reciprocal of its standard deviation."""

from amaranth import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.commands import BODIES, Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import RECIPROCAL_WIDTH, LayerNormFormat
from acceltran.library import SharedComponent
from acceltran.numeric.function_pipeline import FunctionPipeline
from acceltran.numeric.product import product, product_latency

__all__ = ["LayerNormParameters", "RowScale", "RowStatistics", "RowSums"]

PARTS = 4
PRODUCT = 1 + product_latency(PARTS)  # operands are registered
NORMALIZED_WIDTH = 64
DIGIT = RECIPROCAL_WIDTH


class LayerNormParameters(data.StructLayout):
    """Layout of the fields of a LAYERNORM command that concern the arithmetic.

    Members are named and described as in ``acceltran.arch.layernorm_format.LayerNormFields``.
    """

    def __init__(self):
        widths = {field.name: field.width for field in BODIES[Opcode.LAYERNORM]}
        names = ("columns", "epsilon", "reciprocal", "reciprocal_shift")
        shifts = ("beta_shift", "output_shift")
        super().__init__({name: unsigned(widths[name]) for name in (*names, *shifts)})


class RowSums(data.StructLayout):
    """Layout of the sums over a row of up to ``hidden`` elements.

    Members
    -------
    total : signed
        Sum of the elements.
    squares : unsigned
        Sum of their squares.
    """

    def __init__(self, fmt: FixedPoint, hidden: int):
        formats = LayerNormFormat.of(fmt)
        super().__init__({
            "total": signed(formats.total_width(hidden)),
            "squares": unsigned(formats.squares_width(hidden)),
        })


class RowScale(data.StructLayout):
    """Layout of what normalises the elements of a row.

    Members
    -------
    mean : signed
        Mean, with guard bits.
    shift, mantissa : unsigned
        Reciprocal of the standard deviation: ``mantissa * 2 ** (ceil_log2(hidden) - shift)``,
        the mantissa in [1, 2).
    """

    def __init__(self, fmt: FixedPoint, hidden: int):
        formats = LayerNormFormat.of(fmt)
        super().__init__({
            "mean": signed(formats.mean_width),
            "shift": unsigned((NORMALIZED_WIDTH // 2 + ceil_log2(hidden)).bit_length()),
            "mantissa": unsigned(formats.root_frac_bits + 1),
        })


class RowStatistics(SharedComponent):
    """Mean and reciprocal standard deviation of a row from its exact sums.

    ::

        D    = columns * squares - total ** 2 + epsilon     # exact; columns ** 2 * variance
        mean = total / columns                              # to the nearest guard bit
        mantissa, shift: columns / sqrt(D)                  # by a table of the reciprocal root

    One multiplier does the seven products of a row, one after the other. A result is offered
    ``LATENCY`` cycles after its sums were; a row every ``LATENCY`` cycles.

    Golden model: ``acceltran_sim.golden.layernorm.layer_norm``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element; the sums are of sums of two elements.
    hidden : int
        Elements of the longest row; in 1..1024.

    Members
    -------
    fields : ``In(LayerNormParameters())``
        Static while a row is under way.
    i : ``In(stream.Signature(RowSums(fmt, hidden)))``
        Sums of a row.
    o : ``Out(stream.Signature(RowScale(fmt, hidden)))``
        Its mean and scale.
    """

    # Steps in which something happens; products come PRODUCT steps after their operands.
    STEP_MEAN = 3
    STEP_WHOLE = STEP_MEAN + PRODUCT + 2
    STEP_NORMALIZED = STEP_MEAN + PRODUCT + 3
    STEP_REST = STEP_WHOLE + PRODUCT + 1
    STEP_ROOT = max(STEP_NORMALIZED + FunctionPipeline.LATENCY, STEP_REST + 1)
    STEP_LAST = STEP_ROOT + PRODUCT + 4

    LATENCY = STEP_LAST + 1

    fields: data.View
    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, fmt: FixedPoint, hidden: int):
        if not 1 <= hidden <= 1024:
            raise ValueError(f"Hidden size must be in 1..1024, not {hidden!r}")
        self.fmt = fmt
        self.hidden = hidden
        self.formats = LayerNormFormat.of(fmt)
        super().__init__({
            "fields": In(LayerNormParameters()),
            "i": In(stream.Signature(RowSums(fmt, hidden))),
            "o": Out(stream.Signature(RowScale(fmt, hidden))),
        })

    def elaborate(self, platform):
        m = Module()
        formats = self.formats
        guard_bits, root_frac_bits = formats.guard_bits, formats.root_frac_bits
        element_width = formats.element_width + 1
        total, squares = self.i.payload.total, self.i.payload.squares
        columns = self.fields.columns[: self.hidden.bit_length()]
        reciprocal = self.fields.reciprocal[:RECIPROCAL_WIDTH]

        step = Signal(range(self.STEP_LAST + 1))
        done = Signal()
        m.d.comb += [
            done.eq((step == self.STEP_LAST) & (self.o.ready | ~self.o.valid)),
            self.i.ready.eq(step == self.STEP_REST),
        ]
        with m.If(done):
            m.d.sync += step.eq(0)
        with m.Elif((step != self.STEP_LAST) & ((step != 0) | self.i.valid)):
            m.d.sync += step.eq(step + 1)

        # The multiplier and what it multiplies in each step.
        whole = Signal(signed(element_width))
        rest = Signal(signed(columns.shape().width + 2))
        m.submodules.root = root = FunctionPipeline(table=formats.table)
        left = Signal(signed(len(total)))
        right = Signal(signed(max(RECIPROCAL_WIDTH + 1, len(total))))
        with m.Switch(step):
            with m.Case(0):
                m.d.sync += [left.eq(total), right.eq(total)]
            with m.Case(1):
                m.d.sync += [left.eq(columns), right.eq(squares[:DIGIT])]
            with m.Case(2):
                m.d.sync += [left.eq(columns), right.eq(squares[DIGIT:])]
            with m.Case(self.STEP_MEAN):
                m.d.sync += [left.eq(total), right.eq(reciprocal)]
            with m.Case(self.STEP_WHOLE):
                m.d.sync += [left.eq(columns), right.eq(whole)]
            with m.Case(self.STEP_REST):
                m.d.sync += [left.eq(rest), right.eq(reciprocal)]
            with m.Case(self.STEP_ROOT):
                m.d.sync += [left.eq(columns), right.eq(root.y)]
        result = product(m, left, right, name="product", parts=PARTS)

        # D is below 2 ** 62 and not negative; on the way there it may wrap around.
        variance = Signal(NORMALIZED_WIDTH)
        with m.Switch(step):
            with m.Case(PRODUCT):
                m.d.sync += variance.eq(self.fields.epsilon - result)
            with m.Case(PRODUCT + 1):
                m.d.sync += variance.eq(variance + result)
            with m.Case(PRODUCT + 2):
                m.d.sync += variance.eq(variance + (result << DIGIT))

        # Mean: to the nearest integer, then the rest, each rounded half up.
        mean = Signal(signed(formats.mean_width))
        quotient = Signal(signed(element_width + guard_bits + 2))
        fraction = Signal(signed(guard_bits + 2))
        least = RECIPROCAL_WIDTH - 1 - guard_bits - 1
        places = Signal(range(ceil_log2(self.hidden) + 1))
        m.d.sync += [
            places.eq(self.fields.reciprocal_shift - (RECIPROCAL_WIDTH - 1)),
            quotient.eq((result >> least) >> places),
        ]
        with m.Switch(step):
            with m.Case(self.STEP_WHOLE - 1):
                m.d.sync += whole.eq(((quotient >> guard_bits) + 1) >> 1)
            with m.Case(self.STEP_WHOLE + PRODUCT):
                m.d.sync += rest.eq(total - result)
            with m.Case(self.STEP_REST + PRODUCT + 1):
                m.d.sync += fraction.eq((quotient + 1) >> 1)
            with m.Case(self.STEP_REST + PRODUCT + 2):
                m.d.sync += mean.eq((whole << guard_bits) + fraction)

        # The leading one goes to the top, in three stages; first that of D, then that of the root.
        value = Signal(NORMALIZED_WIDTH)
        zeros = Const(0, 6)
        m.d.comb += value.eq(
            Mux(step == self.STEP_ROOT + PRODUCT, result[: NORMALIZED_WIDTH - 1], variance)
        )
        for stage, size in enumerate((16, 4, 1)):
            places_up = Signal(2, name=f"places_up_{stage}")
            groups = [value[-size * (n + 1) : len(value) - size * n].any() for n in range(3)]
            with m.If(groups[0]):
                m.d.comb += places_up.eq(0)
            with m.Elif(groups[1]):
                m.d.comb += places_up.eq(1)
            with m.Elif(groups[2]):
                m.d.comb += places_up.eq(2)
            with m.Else():
                m.d.comb += places_up.eq(3)
            shifted = Signal(NORMALIZED_WIDTH, name=f"shifted_{stage}")
            count = Signal(6, name=f"zeros_{stage}")
            m.d.sync += [
                shifted.eq(Array(value << size * n for n in range(4))[places_up]),
                count.eq(zeros + places_up * size),
            ]
            value, zeros = shifted, count

        # 63 - zeros is the place of the leading one; its parity selects the half of the table.
        exponent = Signal(5)
        fraction_bits = value[-1 - formats.mantissa_frac_bits : -1]
        m.d.comb += [root.advance.eq(1), root.n.eq(Cat(fraction_bits, ~zeros[0]))]
        with m.If(step == self.STEP_NORMALIZED):
            m.d.sync += exponent.eq(~zeros[1:])

        shift = Signal.like(self.o.payload.shift)
        mantissa = Signal.like(self.o.payload.mantissa)
        with m.If(step == self.STEP_LAST - 1):
            bias = NORMALIZED_WIDTH - 1 - root_frac_bits - ceil_log2(self.hidden)
            m.d.sync += [
                shift.eq(exponent + zeros - bias),
                mantissa.eq(value[-1 - root_frac_bits :]),
            ]

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(done):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.payload.mean.eq(mean),
                self.o.payload.shift.eq(shift),
                self.o.payload.mantissa.eq(mantissa),
            ]

        return m
