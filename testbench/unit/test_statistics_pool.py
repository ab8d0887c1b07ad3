# amaranth: UnusedElaboratable=no
"""StatisticsPool against the golden statistics, in order, at full rate."""

from dataclasses import asdict

import cocotb
import numpy as np
import pytest
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import LayerNormFields, LayerNormFormat
from acceltran.compute.row_statistics import LayerNormParameters, RowScale, RowStatistics, RowSums
from acceltran.compute.statistics_pool import StatisticsPool
from acceltran_sim.golden.layernorm import statistics
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

FORMAT = FixedPoint(int_bits=4, frac_bits=8)
HIDDEN = 100


@pytest.mark.parametrize("units", [1, 3])
def test_statistics_pool(units, request):
    simulate(
        StatisticsPool(fmt=FORMAT, hidden=HIDDEN, units=units),
        bench=__name__,
        parameters={"units": units},
        seed=request.config.getoption("seed"),
    )


def test_rejects_units():
    with pytest.raises(ValueError, match=r"^Number of statistics units must be at least 1, not 0$"):
        StatisticsPool(fmt=FORMAT, hidden=HIDDEN, units=0)


# What follows runs inside the simulator, once for each parametrisation of test_statistics_pool.


class Bench:
    """Sums of random rows, and their mean and scale to expect."""

    def __init__(self, dut, *, rows, source_pace=1.0, sink_pace=1.0):
        self.dut = dut
        rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.pool = StatisticsPool(fmt=FORMAT, hidden=HIDDEN, units=parameters()["units"])
        columns = int(rng.integers(1, HIDDEN + 1))
        scale = -FORMAT.frac_bits
        fields = LayerNormFields.of(
            fmt=FORMAT,
            columns=columns,
            eps=1e-5,
            input_exponent=scale,
            gamma_exponent=scale,
            beta_exponent=scale,
            output_exponent=scale,
        )
        spread = 2.0 ** rng.integers(0, FORMAT.width, (rows, 1))
        x = np.clip(rng.normal(0, spread, (rows, columns)), 2 * FORMAT.lowest, 2 * FORMAT.highest)
        x = x.astype(np.int64)
        mean, exponent, mantissa = statistics(x, LayerNormFormat.of(FORMAT), fields)
        self.sums = [
            pack_fields(
                RowSums(FORMAT, HIDDEN),
                {"total": int(row.sum()), "squares": int((row * row).sum())},
            )
            for row in x
        ]
        self.scales = [
            pack_fields(
                RowScale(FORMAT, HIDDEN),
                {"mean": int(m), "shift": ceil_log2(HIDDEN) - int(e), "mantissa": int(n)},
            )
            for m, e, n in zip(mean, exponent, mantissa, strict=True)
        ]
        dut.fields.value = LayerNormParameters().const({**asdict(fields)}).as_bits()
        self.source = StreamSource(dut, "i", pace=source_pace)
        self.sink = StreamSink(dut, "o", pace=sink_pace)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(paces=[(1.0, 1.0), (0.02, 1.0), (1.0, 0.02)])
async def matches_golden_in_order(dut, paces):
    """Rows leave in the order in which they came, whatever the unit."""
    bench = Bench(dut, rows=30, source_pace=paces[0], sink_pace=paces[1])
    await start(dut)
    driver = cocotb.start_soon(bench.source.put_all(bench.sums))
    assert await bench.sink.get_all(len(bench.scales)) == bench.scales
    await driver


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def takes_as_many_rows_as_it_promises(dut):
    """``capacity`` rows enter in as many cycles, also while none leaves."""
    bench = Bench(dut, rows=40)
    await start(dut)
    capacity = bench.pool.capacity
    inside = 0
    while bench.scales:
        while inside < capacity and bench.sums:
            driver = cocotb.start_soon(bench.source.put(bench.sums.pop(0)))
            await dut.clk.rising_edge
            assert dut.i__ready.value
            await driver
            inside += 1
        for _ in range(min(3, inside)):
            assert await bench.sink.get() == bench.scales.pop(0)
            inside -= 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_the_documented_latency_and_throughput(dut):
    """The first row after LATENCY cycles, then as many at a time as there are units."""
    bench = Bench(dut, rows=30)
    units = parameters()["units"]
    await start(dut)
    driver = cocotb.start_soon(bench.source.put_all(bench.sums))
    dut.o__ready.value = 1
    await dut.clk.rising_edge
    assert dut.i__ready.value
    offers, cycle = [], 0
    while len(offers) < len(bench.sums):
        await dut.clk.rising_edge
        cycle += 1
        if dut.o__valid.value:
            offers.append(cycle)
    await driver
    assert offers[0] == StatisticsPool.LATENCY
    periods = {late - early for early, late in zip(offers, offers[units:], strict=False)}
    assert periods == {RowStatistics.LATENCY}
