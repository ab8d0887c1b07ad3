"""Evaluation of a function table, one result per cycle."""

from amaranth import Array, Cat, Const, Module, Shape, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out

from acceltran.arch.function_tables import FunctionTable
from acceltran.library import SharedComponent
from acceltran.numeric.product import product, product_latency

__all__ = ["FunctionPipeline"]


class FunctionPipeline(SharedComponent):
    """Evaluate a piecewise quadratic function table at every cycle in which ``advance`` is 1.

    ``y`` is ``table.evaluate_int(n)`` of the argument given ``LATENCY`` advancing cycles earlier.
    Everything stands still while ``advance`` is 0. There is no handshake: the unit that
    it is part of knows which results are valid.

    Golden model: ``acceltran_sim.golden.function_unit.evaluate``.

    Parameters
    ----------
    table : FunctionTable
        Coefficients and shifts.

    Members
    -------
    advance : ``In(1)``
        Move every stage on by one.
    n : ``In(unsigned(table.input_width))``
        Argument.
    y : ``Out(Shape(table.output_width, signed=table.output_signed))``
        Result.
    """

    LATENCY = 4 + product_latency(2)

    advance: Signal
    n: Signal
    y: Signal

    def __init__(self, *, table: FunctionTable):
        if not isinstance(table, FunctionTable):
            raise TypeError(f"Table must be a FunctionTable, not {table!r}")
        self.table = table
        super().__init__({
            "advance": In(1),
            "n": In(unsigned(table.input_width)),
            "y": Out(Shape(table.output_width, signed=table.output_signed)),
        })

    def elaborate(self, platform):
        m = Module()
        table = self.table
        offset_width = table.offset_width

        def coefficients(values: tuple[int, ...]) -> tuple[Shape, Array]:
            shape = Shape.cast(range(min(*values, 0), max(*values, 0) + 1))
            padding = (0,) * ((1 << table.index_width) - len(values))
            return shape, Array(Const(value, shape) for value in values + padding)

        c0_shape, c0_rom = coefficients(table.c0)
        c1_shape, c1_rom = coefficients(table.c1)
        c2_shape, c2_rom = coefficients(table.c2)
        lowest, highest = table.slope_range
        slope_shape = Shape.cast(range(lowest, highest + 1))
        constant = [Signal(c0_shape, name=f"constant{k}") for k in range(5)]
        linear = [Signal(c1_shape, name=f"linear{k}") for k in range(2)]
        offset = [Signal(signed(offset_width), name=f"offset{k}") for k in range(3)]
        curvature = Signal(c2_shape)
        operand = offset[0][table.operand_shift :].as_signed()
        square = Signal(signed(c2_shape.width + len(operand)))
        slope = Signal(slope_shape)
        linear_product = product(m, slope, offset[2], name="linear_product", advance=self.advance)

        index = self.n[offset_width:]
        with m.If(self.advance):
            m.d.sync += [
                # Look-up. The offset from the centre of a segment is the low bits, top bit turned.
                constant[0].eq(c0_rom[index]),
                linear[0].eq(c1_rom[index]),
                curvature.eq(c2_rom[index]),
                offset[0].eq(Cat(self.n[: offset_width - 1], ~self.n[offset_width - 1])),
                # Quadratic product; it is small.
                square.eq(curvature * operand),
                # Slope.
                slope.eq(linear[1] + (square >> table.square_shift)),
                # Sum, behind the linear product.
                self.y.eq(
                    (constant[4] + (linear_product >> table.product_shift)) >> table.guard_bits
                ),
            ]
            for chain in (constant, linear, offset):
                m.d.sync += [
                    later.eq(earlier) for earlier, later in zip(chain, chain[1:], strict=False)
                ]

        return m
