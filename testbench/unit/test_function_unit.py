# amaranth: UnusedElaboratable=no
"""FunctionUnit against its golden model, bit for bit."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import FUNCTIONS, load_table
from acceltran.numeric.function_pipeline import FunctionPipeline
from acceltran.numeric.function_unit import FunctionUnit
from acceltran_sim.golden.function_unit import evaluate
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource


# Each function once, each format once.
@pytest.mark.parametrize(
    ("name", "frac_bits"), [("exp2", 16), ("log2", 12), ("rsqrt", 8), ("gelu", 16)]
)
def test_function_unit(name, frac_bits, request):
    simulate(
        FunctionUnit(table=load_table(name, FixedPoint(int_bits=4, frac_bits=frac_bits))),
        bench=__name__,
        parameters={"function": FUNCTIONS.index(name), "frac_bits": frac_bits},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("unit", [FunctionUnit, FunctionPipeline])
def test_rejects_table(unit):
    with pytest.raises(TypeError, match=r"^Table must be a FunctionTable, not 'exp2'$"):
        unit(table="exp2")


# What follows runs inside the simulator, once for each parametrisation of test_function_unit.


def table_under_test():
    fmt = FixedPoint(int_bits=4, frac_bits=parameters()["frac_bits"])
    return load_table(FUNCTIONS[parameters()["function"]], fmt)


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def matches_golden(dut, source_pace, sink_pace):
    """Both ends of every segment and random arguments come out as the model says."""
    table = table_under_test()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    starts = np.arange(1 << table.index_width, dtype=np.int64) << table.offset_width
    n = np.concatenate([
        starts,
        starts + (1 << table.offset_width) - 1,
        starts + (1 << (table.offset_width - 1)),
        rng.integers(0, 1 << table.input_width, 300),
    ])
    expected = evaluate(table, n) & ((1 << table.output_width) - 1)

    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)

    async def drive():
        for argument in n.tolist():
            await source.put(argument)

    driver = cocotb.start_soon(drive())
    for value in expected.tolist():
        assert await sink.get() == value
    await driver


@cocotb.test()
async def has_the_documented_latency(dut):
    """An argument accepted at one clock edge is offered at the LATENCY-th edge after it."""
    source = StreamSource(dut, "i")
    await start(dut)
    await source.put(0)
    for _ in range(FunctionUnit.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    await dut.clk.rising_edge
    assert dut.o__valid.value
