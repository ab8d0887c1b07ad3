"""Random points of the design space: they generate, and pass lint.

`pytest testbench/integration/test_design_space.py --design-points 40` takes 40 large ones.
"""

from itertools import islice

from acceltran.generate import generate_verilog
from acceltran.lint_waivers import LINT_WAIVERS
from testbench.harness.design_space import large_points, small_points
from testbench.harness.lint import lint_modules, yosys_check

SMALL = 6


def pytest_generate_tests(metafunc):
    seed = metafunc.config.getoption("seed")
    count = metafunc.config.getoption("design_points")
    points = {
        **{f"small{n}": point for n, point in enumerate(islice(small_points(seed), SMALL))},
        **{f"large{n}": point for n, point in enumerate(islice(large_points(seed), count))},
    }
    metafunc.parametrize("config", points.values(), ids=points)


def test_generates(config):
    print(config)
    verilog = generate_verilog(config)
    lint_modules(verilog, LINT_WAIVERS)
    yosys_check(verilog, "acceltran", flatten=False)
