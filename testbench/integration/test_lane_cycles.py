# amaranth: UnusedElaboratable=no
"""Counters of lane-cycles: every lane is accounted for in every cycle."""

import numpy as np
import pytest

from acceltran.arch.presets import MEDIUM, TINY, TINY2
from acceltran.arch.registers import LANE_COUNTERS, ErrorCause
from acceltran_sim.program.builder import build
from acceltran_sim.rtl.simulator import simulate
from testbench.harness.encoder_job import quantized, random_job, random_model, simulator


@pytest.mark.parametrize("stall", [0.0, 0.3])
@pytest.mark.parametrize("config", [TINY, TINY2, MEDIUM], ids=["tiny", "tiny2", "medium"])
def test_lane_cycles_add_up(config, stall, pytestconfig):
    """Busy, stalled by each cause and idle are all lanes in all cycles, exactly."""
    rng = np.random.default_rng(pytestconfig.getoption("seed"))
    model = random_model(rng, layers=1, heads=2, head_size=18, intermediate=50)
    job = random_job(rng, hidden=36, sequence=11, batch=2)
    encoder, raw = quantized(model, job, config, sparsity=0.5)
    program = build(config, encoder, raw, job.lengths)
    run = simulate(
        simulator(config),
        image=program.image,
        base=program.base,
        program=program.program_address,
        commands=len(program.commands),
        stall=stall,
        latency=20,
        max_cycles=1_000_000,
    )
    assert run.error_cause == ErrorCause.NONE
    lanes = {name: run.counters[name] for name in LANE_COUNTERS}
    assert sum(lanes.values()) == config.array.pes * config.lanes * run.counters["cycles"]
    assert all(lanes.values())
    # A broadcast lane that is busy issues one product with each multiplier.
    issued = run.counters["multiplier_cycles"]
    assert issued == lanes["busy_lanes"] * config.datapath.multipliers
