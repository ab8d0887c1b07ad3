# amaranth: UnusedElaboratable=no
"""ProbabilityPipeline: on both sides of every boundary, and what is pruned changes nothing."""

from collections import deque

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SoftmaxFormat
from acceltran.compute.probability_pipeline import ProbabilityPipeline
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.pruning_boundary import pruning_boundary
from acceltran_sim.golden.softmax import probability
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.vectors import pack

WIDTH = 2


@pytest.mark.parametrize(("int_bits", "frac_bits"), [(4, 16), (1, 8)])
def test_probability_pipeline(int_bits, frac_bits, request):
    sizes = {"int_bits": int_bits, "frac_bits": frac_bits}
    simulate(
        ProbabilityPipeline(fmt=FixedPoint(**sizes), width=WIDTH),
        bench=__name__,
        parameters=sizes,
        seed=request.config.getoption("seed"),
        visible=[f"relative_{k}" for k in range(WIDTH)],
    )


# What follows runs inside the simulator, once for each format.


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5])
async def prunes_before_the_power(dut, pace):
    """Bits are those of powers that are pruned afterwards; only what is kept becomes an argument.

    Thresholds of every octave and far beyond, logits near the boundary or anywhere, keys that are
    valid or not, and rows from one cycle to the next.
    """
    fmt = FixedPoint(**parameters())
    formats = SoftmaxFormat.of(fmt)
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    dut.advance.value = dut.keys.value = dut.logits.value = 0
    dut.log_sum.value = dut.least.value = 0
    await start(dut)
    pipeline: deque[int] = deque()
    argument = [0] * WIDTH
    for _ in range(3000):
        threshold = int(rng.choice([0, 1, 2, 1 << fmt.frac_bits, (1 << fmt.width) - 1]))
        if rng.random() < 0.8:
            threshold = int(2.0 ** rng.uniform(0, fmt.frac_bits + 0.2))
        boundary = int(pruning_boundary(np.array(threshold), fmt=fmt))
        lowest = -(fmt.frac_bits + 4) << formats.logit_frac_bits
        relative = np.where(
            rng.random(WIDTH) < 0.7,
            np.minimum(boundary + rng.integers(-3, 3, WIDTH), 3),
            rng.integers(lowest, 3, WIDTH),
        )
        span = 1 << formats.logit_width - 2
        log_sum = int(rng.integers(-span, span))
        keys = rng.random(WIDTH) < 0.9
        advance = bool(rng.random() < pace)
        dut.advance.value = advance
        dut.keys.value = pack(keys.astype(np.int64), 1)
        dut.logits.value = pack(log_sum + relative, formats.logit_width)
        dut.log_sum.value, dut.least.value = log_sum, log_sum + boundary
        p = np.where(keys, probability(relative, fmt=fmt), 0)
        values, keep = prune(p, threshold)
        await dut.clk.rising_edge
        # What the edge before brought about.
        if len(pipeline) == ProbabilityPipeline.LATENCY:
            assert dut.o.value == pipeline[0]
        for k in range(WIDTH):
            assert dut[f"relative_{k}"].value.to_signed() == argument[k]
        if advance:
            keep_bits = pack(keep.astype(np.int64), 1)
            pipeline.append(pack(values, fmt.width) | keep_bits << fmt.width * WIDTH)
            if len(pipeline) > ProbabilityPipeline.LATENCY:
                pipeline.popleft()
            for k in np.flatnonzero(keep):
                argument[k] = int(relative[k])
