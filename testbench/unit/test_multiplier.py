# amaranth: UnusedElaboratable=no
"""Multiplier against Python's integers."""

import cocotb
import numpy as np
import pytest

from acceltran.numeric.multiplier import Multiplier
from testbench.harness.simulate import parameters, simulate, start


@pytest.mark.parametrize(("width", "stages"), [(12, 1), (20, 2), (21, 4)])
def test_multiplier(width, stages, request):
    simulate(
        Multiplier(width=width, stages=stages),
        bench=__name__,
        parameters={"width": width, "stages": stages},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("width", "stages", "message"),
    [
        (1, 1, "Operand width must be at least 2, not 1"),
        (8, 0, "Multiplier stages must be at least 1, not 0"),
    ],
)
def test_rejects(width, stages, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        Multiplier(width=width, stages=stages)


# What follows runs inside the simulator, once for each parametrisation of test_multiplier.


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5])
async def multiplies_with_the_documented_latency(dut, pace):
    """Products follow their operands after ``stages`` advancing cycles, and hold in between."""
    width, latency = parameters()["width"], Multiplier(**parameters()).LATENCY
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    ends = [-(2 ** (width - 1)), 2 ** (width - 1) - 1, -1, 0, 1]
    operands = [(a, b) for a in ends for b in ends]
    operands += [tuple(pair) for pair in rng.integers(ends[0], ends[1], (200, 2)).tolist()]
    await start(dut)
    entered = []
    while len(entered) < len(operands) + latency:
        advance = rng.random() < pace
        a, b = operands[min(len(entered), len(operands) - 1)]
        dut.advance.value = int(advance)
        dut.a.value, dut.b.value = a, b
        await dut.clk.rising_edge
        if len(entered) >= latency:
            a, b = entered[-latency]
            assert dut.product.value.to_signed() == a * b
        if advance:
            entered.append(operands[min(len(entered), len(operands) - 1)])
