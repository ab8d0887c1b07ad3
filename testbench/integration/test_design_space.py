# amaranth: UnusedElaboratable=no
"""Random points of the design space: they generate, pass lint, and small ones run an encoder.

`pytest testbench/integration/test_design_space.py --design-points 40` takes 40 of them, of which
six are small, and all presets.
"""

from itertools import islice

import numpy as np

from acceltran.arch.presets import PRESETS
from acceltran.generate import generate_verilog
from acceltran.lint_waivers import LINT_WAIVERS
from testbench.harness.design_space import large_points, small_points
from testbench.harness.encoder_job import check_job, random_job, random_model
from testbench.harness.lint import lint_modules, yosys_check

SMALL = 6
FAST_SUBSET = 2
"""Small points that are taken if no number is given; they are not run."""


def pytest_generate_tests(metafunc):
    seed = metafunc.config.getoption("seed")
    count = metafunc.config.getoption("design_points")
    small = list(islice(small_points(seed), SMALL))
    points = {f"small{n}": point for n, point in enumerate(small)}
    if metafunc.function is test_generates:
        points = dict(list(points.items())[: SMALL if count else FAST_SUBSET])
        large = islice(large_points(seed), max(0, count - SMALL))
        points |= {f"large{n}": point for n, point in enumerate(large)}
        points |= PRESETS if count else {}
    elif not count:
        points = {}
    metafunc.parametrize("config", points.values(), ids=points)


def test_generates(config):
    print(config)
    verilog = generate_verilog(config)
    lint_modules(verilog, LINT_WAIVERS)
    yosys_check(verilog, "acceltran", flatten=False)


def test_runs(config):
    """An encoder of awkward sizes equals the golden model in every bit."""
    print(config)
    rng = np.random.default_rng(15)
    model = random_model(rng, layers=2, heads=2, head_size=19, intermediate=70)
    job = random_job(rng, hidden=38, sequence=23, batch=3)
    check_job(config, model, job, sparsity=0.5, stall=0.1)
