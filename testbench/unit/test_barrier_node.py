# amaranth: UnusedElaboratable=no
"""Trees of BarrierNode: one strobe for each command that all leaves have completed."""

import random

import cocotb
import pytest

from acceltran.distribution.barrier_node import BarrierNode
from acceltran.distribution.tree import tree_levels
from testbench.harness.simulate import simulate, start
from testbench.harness.trees import BarrierTree
from testbench.harness.variants import Variants

LEAVES = [2, 5, 16, 17]
MOST = 5


def test_barrier_node(request):
    simulate(
        Variants({f"of{leaves}": BarrierTree(leaves=leaves, most=MOST) for leaves in LEAVES}),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects():
    with pytest.raises(ValueError, match=r"^Number of branches must be at least 1, not 0$"):
        BarrierNode(branches=0, most=3)
    with pytest.raises(ValueError, match=r"^Number of strobes must be at least 1, not 0$"):
        BarrierNode(branches=2, most=0)


# What follows runs inside the simulator.


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES, pace=[1.0, 0.5, None])
async def waits_for_all(dut, leaves, pace):
    """A strobe after the last leaf's, which may be up to ``MOST`` ahead; ``None``: uneven."""
    done, all_done = dut[f"of{leaves}__done"], dut[f"of{leaves}__all_done"]
    paces = [pace or random.choice([0.1, 0.4, 1.0]) for _ in range(leaves)]
    done.value = 0
    await start(dut)
    await dut.clk.rising_edge
    counts, told = [0] * leaves, 0
    latency = BarrierNode.LATENCY * tree_levels(leaves)
    completed = [0] * (latency + 1)  # by all leaves, cycle by cycle
    for _ in range(250):
        strobes = [
            count - told < MOST and random.random() < pace
            for count, pace in zip(counts, paces, strict=True)
        ]
        done.value = sum(strobe << leaf for leaf, strobe in enumerate(strobes))
        await dut.clk.rising_edge
        counts = [count + strobe for count, strobe in zip(counts, strobes, strict=True)]
        completed = [*completed[1:], min(counts)]
        assert bool(all_done.value) == (completed[0] > told)
        told = completed[0]
    assert told > 8
