# amaranth: UnusedElaboratable=no
"""RoundRobin against a plain search."""

import random

import cocotb
import pytest

from acceltran.memory.round_robin import RoundRobin
from testbench.harness.simulate import parameters, simulate, start


@pytest.mark.parametrize("count", [1, 5])
def test_round_robin(count, request):
    simulate(
        RoundRobin(count=count),
        bench=__name__,
        parameters={"count": count},
        seed=request.config.getoption("seed"),
    )


def test_rejects_count():
    with pytest.raises(ValueError, match=r"^Number of requesters must be at least 1, not 0$"):
        RoundRobin(count=0)


# What follows runs inside the simulator.


@cocotb.test()
async def grants_in_turn(dut):
    """The next requester after the last one granted, cyclic, is granted; none without requests."""
    count = parameters()["count"]
    last = count - 1
    dut.requests.value = 0
    await start(dut)
    for cycle in range(2000):
        requests = random.getrandbits(count) if cycle < 1500 else (1 << count) - 1
        dut.requests.value = requests
        await dut.clk.rising_edge
        grant = int(dut.grant.value)
        order = [(last + 1 + n) % count for n in range(count)]
        expected = next((n for n in order if requests >> n & 1), None)
        assert grant == (0 if expected is None else 1 << expected)
        last = last if expected is None else expected
