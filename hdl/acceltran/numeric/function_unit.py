"""Function tables on streams."""

from amaranth import Module, Shape, Signal, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.function_tables import FunctionTable
from acceltran.library import SharedComponent
from acceltran.numeric.function_pipeline import FunctionPipeline

__all__ = ["FunctionUnit"]


class FunctionUnit(SharedComponent):
    """Evaluate a piecewise quadratic function table for a stream of arguments.

    Each payload of ``o`` is ``table.evaluate_int`` of the corresponding payload of ``i``.

    Latency is ``LATENCY`` cycles; throughput is one result per cycle. The whole unit stands still
    while an offered result waits to be taken.

    Golden model: ``acceltran_sim.golden.function_unit.evaluate``.

    Parameters
    ----------
    table : FunctionTable
        Coefficients and shifts.

    Members
    -------
    i : ``In(stream.Signature(unsigned(table.input_width)))``
        Arguments.
    o : ``Out(stream.Signature(Shape(table.output_width, signed=table.output_signed)))``
        Results, in order.
    """

    LATENCY = FunctionPipeline.LATENCY

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, table: FunctionTable):
        if not isinstance(table, FunctionTable):
            raise TypeError(f"Table must be a FunctionTable, not {table!r}")
        self.table = table
        super().__init__({
            "i": In(stream.Signature(unsigned(table.input_width))),
            "o": Out(stream.Signature(Shape(table.output_width, signed=table.output_signed))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.pipeline = pipeline = FunctionPipeline(table=self.table)

        advance = Signal()
        occupied = Signal(self.LATENCY)  # bit k: stage k holds a value; the last is offered
        m.d.comb += [
            advance.eq(self.o.ready | ~self.o.valid),
            pipeline.advance.eq(advance),
            pipeline.n.eq(self.i.payload),
            self.i.ready.eq(advance),
            self.o.valid.eq(occupied[-1]),
            self.o.payload.eq(pipeline.y),
        ]
        with m.If(advance):
            m.d.sync += occupied.eq((occupied << 1) | self.i.valid)

        return m
