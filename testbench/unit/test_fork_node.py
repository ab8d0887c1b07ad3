# amaranth: UnusedElaboratable=no
"""Trees of ForkNode: every item to every leaf, whoever is slow."""

import random

import cocotb
import pytest

from acceltran.distribution.fork_node import ForkNode
from acceltran.distribution.tree import tree_levels
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.trees import ForkTree
from testbench.harness.variants import Variants

WIDTH = 12
LEAVES = [2, 5, 16]


def test_fork_node(request):
    simulate(
        Variants({f"of{leaves}": ForkTree(shape=WIDTH, leaves=leaves) for leaves in LEAVES}),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects():
    with pytest.raises(ValueError, match=r"^Number of branches must be at least 1, not 0$"):
        ForkNode(shape=WIDTH, branches=0)


# What follows runs inside the simulator.


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES, paces=[(1.0, 0.5), (0.3, 0.7), (1.0, None)])
async def brings_every_item_to_every_leaf(dut, leaves, paces):
    """In order and once; ``None``: leaves of different pace."""
    name = f"of{leaves}"
    source = StreamSource(dut, f"{name}__i", pace=paces[0])
    sinks = [
        StreamSink(dut, f"{name}__o__{leaf}", pace=paces[1] or random.choice([0.2, 0.5, 1.0]))
        for leaf in range(leaves)
    ]
    await start(dut)
    items = [random.getrandbits(WIDTH) for _ in range(40)]
    driver = cocotb.start_soon(source.put_all(items))
    for sink in [cocotb.start_soon(sink.get_all(len(items))) for sink in sinks]:
        assert await sink == items
    await driver


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES)
async def waits_for_a_slow_leaf(dut, leaves):
    """A leaf that takes nothing stops the others for as long only as it does."""
    name = f"of{leaves}"
    source = StreamSource(dut, f"{name}__i")
    sinks = [StreamSink(dut, f"{name}__o__{leaf}") for leaf in range(leaves)]
    await start(dut)
    items = list(range(8))
    cocotb.start_soon(source.put_all(items))
    tasks = [cocotb.start_soon(sink.get_all(len(items))) for sink in sinks[1:]]
    for _ in range(20):
        await dut.clk.rising_edge
    for leaf in range(1, leaves):
        assert dut[f"{name}__o__{leaf}__valid"].value == 0
        assert not tasks[leaf - 1].done()
    assert await sinks[0].get_all(len(items)) == items
    for task in tasks:
        assert await task == items


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES)
async def has_the_documented_latency_and_rate(dut, leaves):
    """The first item shows ``LATENCY`` cycles a level after it was taken, then one per cycle."""
    name = f"of{leaves}"
    for leaf in range(leaves):
        dut[f"{name}__o__{leaf}__ready"].value = 1
    dut[f"{name}__i__valid"].value = 0
    await start(dut)
    dut[f"{name}__i__valid"].value = 1
    for cycle in range(15):
        dut[f"{name}__i__payload"].value = cycle
        await dut.clk.rising_edge
        assert dut[f"{name}__i__ready"].value
        item = cycle - ForkNode.LATENCY * tree_levels(leaves)
        for leaf in range(leaves):
            assert bool(dut[f"{name}__o__{leaf}__valid"].value) == (item >= 0)
            if item >= 0:
                assert dut[f"{name}__o__{leaf}__payload"].value == item
