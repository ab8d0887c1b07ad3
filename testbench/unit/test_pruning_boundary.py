# amaranth: UnusedElaboratable=no
"""PruningBoundary against its golden model, for all thresholds of a small format."""

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SoftmaxFormat
from acceltran.compute.pruning_boundary import PruningBoundary
from acceltran_sim.golden.pruning_boundary import pruning_boundary
from testbench.harness.simulate import parameters, simulate, start


@pytest.mark.parametrize(("int_bits", "frac_bits"), [(4, 16), (4, 12), (1, 8)])
def test_pruning_boundary(int_bits, frac_bits, request):
    sizes = {"int_bits": int_bits, "frac_bits": frac_bits}
    simulate(
        PruningBoundary(fmt=FixedPoint(**sizes)),
        bench=__name__,
        parameters=sizes,
        seed=request.config.getoption("seed"),
    )


# What follows runs inside the simulator, once for each format.


async def begin(dut, threshold):
    """Give ``start`` for one cycle, and return at the edge that takes it."""
    dut.start.value, dut.threshold.value = 1, threshold
    await dut.clk.rising_edge
    dut.start.value, dut.threshold.value = 0, 0


@cocotb.test()
async def matches_golden(dut):
    """Every boundary is right ``LATENCY`` cycles later, and that before it until the cycle before.

    A search that is begun anew midway leaves no trace.
    """
    fmt = FixedPoint(**parameters())
    highest = SoftmaxFormat.of(fmt).highest_probability
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    thresholds = np.concatenate([
        np.arange(min(highest, 256) + 3),
        highest - np.arange(-2, 40),
        [(1 << fmt.width) - 1, 1 << fmt.frac_bits],
        np.repeat(1 << np.arange(fmt.frac_bits), 3) + np.tile([-1, 0, 1], fmt.frac_bits),
        (2.0 ** rng.uniform(0, fmt.frac_bits, 400)).astype(np.int64),
    ])
    expected = pruning_boundary(thresholds, fmt=fmt).tolist()
    dut.start.value = 0
    await start(dut)
    before = 0
    for threshold, boundary in zip(thresholds.tolist(), expected, strict=True):
        if rng.random() < 0.1:
            await begin(dut, int(rng.integers(0, 1 << fmt.width)))
            await ClockCycles(dut.clk, int(rng.integers(1, PruningBoundary.LATENCY - 2)))
        await begin(dut, threshold)
        await ClockCycles(dut.clk, PruningBoundary.LATENCY - 1)
        assert dut.boundary.value.to_signed() == before
        await dut.clk.rising_edge
        assert dut.boundary.value.to_signed() == boundary, threshold
        before = boundary
