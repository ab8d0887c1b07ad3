# amaranth: UnusedElaboratable=no
"""StreamFork: every item to every leaf, whoever is slow."""

import random

import cocotb
import pytest

from acceltran.distribution.fork_node import ForkNode
from acceltran.distribution.stream_fork import StreamFork
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.variants import Variants

WIDTH = 12
LEAVES = [1, 2, 5, 16]


def test_stream_fork(request):
    duts = {f"of{leaves}": StreamFork(shape=WIDTH, leaves=leaves) for leaves in LEAVES}
    simulate(
        Variants(duts),
        bench=__name__,
        parameters={name: dut.latency for name, dut in duts.items()},
        seed=request.config.getoption("seed"),
    )


def test_rejects():
    with pytest.raises(ValueError, match=r"^Number of leaves must be at least 1, not 0$"):
        StreamFork(shape=WIDTH, leaves=0)
    with pytest.raises(ValueError, match=r"^Number of branches must be at least 1, not 0$"):
        ForkNode(shape=WIDTH, branches=0)


# What follows runs inside the simulator.


class Held:
    """Items that were taken, but not yet by every leaf; checks ``busy``."""

    def __init__(self, dut, name, leaves):
        self.clk, self.busy = dut.clk, dut[f"{name}__busy"]
        streams = [f"{name}__i", *(f"{name}__o__{leaf}" for leaf in range(leaves))]
        self.shakes = [(dut[f"{stream}__valid"], dut[f"{stream}__ready"]) for stream in streams]
        self.idle = 0  # cycles since the last item left
        self.late = parameters()[name]

    async def run(self):
        counts = [0] * len(self.shakes)
        while True:
            await self.clk.rising_edge
            held = min(counts[1:]) < counts[0]
            self.idle = 0 if held else self.idle + 1
            if held:
                assert self.busy.value
            elif self.idle > self.late:
                assert not self.busy.value
            for n, (valid, ready) in enumerate(self.shakes):
                counts[n] += bool(valid.value and ready.value)


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
    held = Held(dut, name, leaves)
    cocotb.start_soon(held.run())
    items = [random.getrandbits(WIDTH) for _ in range(40)]
    driver = cocotb.start_soon(source.put_all(items))
    for sink in [cocotb.start_soon(sink.get_all(len(items))) for sink in sinks]:
        assert await sink == items
    await driver
    for _ in range(parameters()[name] + 3):
        await dut.clk.rising_edge
    assert held.idle > held.late


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES[1:])
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
    """The first item shows ``latency`` cycles after it was taken, then one per cycle."""
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
        item = cycle - parameters()[name]
        for leaf in range(leaves):
            assert bool(dut[f"{name}__o__{leaf}__valid"].value) == (item >= 0)
            if item >= 0:
                assert dut[f"{name}__o__{leaf}__payload"].value == item
