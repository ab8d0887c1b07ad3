# amaranth: UnusedElaboratable=no
"""Reset alone makes the machine ready: no initial value of a register or memory matters."""

import re

import numpy as np
import pytest

from acceltran.arch.presets import TINY
from acceltran.arch.registers import ErrorCause
from acceltran.generate import generate_verilog
from acceltran_sim.golden.encoder import encode
from acceltran_sim.program.builder import build
from acceltran_sim.rtl.simulator import build_simulator, simulate
from testbench.harness.encoder_job import quantized, random_job, random_model, simulator

REGISTER = re.compile(r"^(  reg (?:\[\d+:\d+\] )?(?:\\\S+ |\w+)) *= [^;]+;$", re.MULTILINE)


@pytest.fixture(scope="module")
def uninitialised():
    """Simulator of a machine whose registers have no initial values: they start at random."""
    text, count = REGISTER.subn(r"\1;", generate_verilog(TINY))
    assert count > 1000
    assert not re.search(r"^ *reg .*=|^ *initial\b", text, re.MULTILINE)
    return build_simulator(text, axi_data_bits=TINY.memory.axi_data_bits, runs="short")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_initial_values_do_not_matter(seed, uninitialised):
    """Every bit and every counter, cycles included, are those of the machine with them."""
    rng = np.random.default_rng(7)
    model = random_model(rng, layers=1, heads=2, head_size=18, intermediate=50)
    job = random_job(rng, hidden=36, sequence=11, batch=2)
    encoder, raw = quantized(model, job, TINY, sparsity=0.5)
    program = build(TINY, encoder, raw, job.lengths)
    run, normal = (
        simulate(
            machine,
            image=program.image,
            base=program.base,
            program=program.program_address,
            commands=len(program.commands),
            seed=number,
            max_cycles=1_000_000,
        )
        for machine, number in ((uninitialised, seed), (simulator(TINY), 0))
    )
    assert run.error_cause == ErrorCause.NONE
    assert run == normal
    start = program.output_address - program.base
    output = program.output(run.image[start : start + program.output_size])
    assert (output == encode(encoder, raw, job.lengths).raw).all()
