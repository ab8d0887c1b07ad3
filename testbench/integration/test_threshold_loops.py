# amaranth: UnusedElaboratable=no
"""Thresholds from curves and closed loops on the generated Verilog equal the golden models."""

import numpy as np
import pytest

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.config import override
from acceltran.arch.presets import TINY, TINY2
from acceltran.arch.registers import ErrorCause
from acceltran_sim.golden.controlled_encoder import encode_in_turn
from acceltran_sim.program.builder import build_in_turn
from acceltran_sim.program.curves import fit_curves
from acceltran_sim.program.threshold_plan import ThresholdPlan
from acceltran_sim.program.threshold_table import TABLE_DATA, address_write, table_writes
from acceltran_sim.rtl.simulator import ProgramCall, simulate_in_turn
from testbench.harness.encoder_job import quantized, random_job, random_model, simulator

CONFIGS = {"tiny": TINY, "tiny2": TINY2, "4.12": override(TINY, {"datapath.frac_bits": "12"})}


@pytest.mark.parametrize("mode", [ThresholdMode.CURVE, ThresholdMode.CLOSED_LOOP])
@pytest.mark.parametrize("name", CONFIGS)
def test_jobs_in_turn(name, mode, pytestconfig):
    """Outputs and, after each job, every position are those of the golden models."""
    config = CONFIGS[name]
    rng = np.random.default_rng([pytestconfig.getoption("seed"), 21])
    model = random_model(rng, layers=2, heads=3, head_size=20, intermediate=90)
    job = random_job(rng, hidden=60, sequence=19, batch=4)
    encoder, raw = quantized(model, job, config)
    plan = ThresholdPlan(encoder=encoder, curves=fit_curves(model, job), sparsity=0.6, mode=mode)
    encoders = [plan.job(int(length)) for length in job.lengths]
    golden = list(encode_in_turn(encoders, raw, job.lengths, plan.control()))

    control = plan.control()
    programs = build_in_turn(config, encoders, raw, job.lengths)
    calls = [
        ProgramCall(
            address=program.program_address,
            commands=len(program.commands),
            writes=[*([] if n else table_writes(control)), address_write()],
            reads=[TABLE_DATA] * len(control.curves),
        )
        for n, program in enumerate(programs)
    ]
    runs = simulate_in_turn(
        simulator(config),
        calls,
        image=programs[0].image,
        base=programs[0].base,
        stall=0.2,
        max_cycles=10_000_000,
        watchdog=100_000,
    )
    assert [run.error_cause for run in runs] == [ErrorCause.NONE] * len(programs)
    for b, (run, expected) in enumerate(zip(runs, golden, strict=True)):
        assert run.values == tuple(expected.positions.values()), b
        start = programs[b].output_address - programs[b].base
        output = programs[b].output(runs[-1].image[start : start + programs[b].output_size])
        length = job.lengths[b]
        assert (output[0, :length] == expected.result.raw[0]).all()
    moved = golden[0].positions != golden[-1].positions
    assert moved == (mode is ThresholdMode.CLOSED_LOOP)
