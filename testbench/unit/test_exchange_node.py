# amaranth: UnusedElaboratable=no
"""Trees of ExchangeNode: what a cluster sends reaches its group, all at once, and nobody else."""

import random

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.exchange_gate import ExchangeGate
from acceltran.distribution.exchange_node import BusWrite, ExchangeNode
from acceltran.distribution.tree import tree_levels
from acceltran.memory.ports import BufferWrite
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.trees import ExchangeTree
from testbench.harness.variants import Variants

FORMAT = FixedPoint(int_bits=4, frac_bits=4)
TILE = 2
WRITE_BITS = BufferWrite(FORMAT, TILE).size
CLUSTERS = [2, 5, 24]
CASES = [
    (clusters, span) for clusters in CLUSTERS for span in range((clusters - 1).bit_length() + 1)
]


def test_exchange_node(request):
    simulate(
        Variants({
            f"of{clusters}": ExchangeTree(fmt=FORMAT, tile=TILE, clusters=clusters)
            for clusters in CLUSTERS
        }),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, "Vector size must be at least 1, not 0"),
        ({"clusters": 1}, "Number of clusters must be at least 2, not 1"),
        ({"branches": 0}, "Number of branches must be from 1 to 4, not 0"),
        ({"branches": 5}, "Number of branches must be from 1 to 4, not 5"),
    ],
)
def test_gate_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ExchangeGate(**{"fmt": FORMAT, "tile": TILE, "clusters": 2, "branches": 2, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, "Vector size must be at least 1, not 0"),
        ({"branches": 0}, "Number of branches must be from 1 to 4, not 0"),
        ({"branches": 5}, "Number of branches must be from 1 to 4, not 5"),
    ],
)
def test_node_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ExchangeNode(**{"fmt": FORMAT, "tile": TILE, "branches": 2, **change})


def test_equal_ports():
    assert BusWrite(FORMAT, TILE) == BusWrite(FORMAT, TILE) != BusWrite(FORMAT, TILE + 1)


def test_latency():
    assert [ExchangeNode.latency(levels) for levels in range(4)] == [0, 1, 3, 5]


# What follows runs inside the simulator.


def delay(span):
    """Cycles from sending to receiving in groups of ``2 ** span``."""
    return ExchangeNode.latency(max(1, tree_levels(1 << span)))


class Monitor:
    """Compare what clusters receive with what their groups sent; count what each sent."""

    def __init__(self, dut, clusters):
        name = f"of{clusters}"
        self.dut, self.clusters = dut, clusters
        self.sends = [f"{name}__sends__{n}" for n in range(clusters)]
        self.receives = [f"{name}__receives__{n}" for n in range(clusters)]
        self.span, self.cycle = 0, 0
        self.expected = {}
        self.sent = [0] * clusters

    async def run(self):
        while True:
            await self.dut.clk.rising_edge
            self.observe()
            self.cycle += 1

    def observe(self):
        dut = self.dut
        for sender, send in enumerate(self.sends):
            if dut[f"{send}__valid"].value and dut[f"{send}__ready"].value:
                due = self.cycle + delay(self.span)
                self.sent[sender] += 1
                for receiver in range(self.clusters):
                    if receiver >> self.span == sender >> self.span:
                        assert (due, receiver) not in self.expected
                        self.expected[due, receiver] = dut[f"{send}__payload"].value.to_unsigned()
        for receiver, receive in enumerate(self.receives):
            write = self.expected.pop((self.cycle, receiver), None)
            assert bool(dut[f"{receive}__valid"].value) == (write is not None)
            if write is not None:
                assert dut[f"{receive}__write"].value == write


async def begin(dut, clusters, span):
    dut[f"of{clusters}__span"].value = span
    monitor = Monitor(dut, clusters)
    monitor.span = span
    for send in monitor.sends:
        dut[f"{send}__valid"].value = 0
    await start(dut)
    cocotb.start_soon(monitor.run())
    for _ in range(tree_levels(clusters)):
        await dut.clk.rising_edge
    return monitor


async def send_at_random(dut, clusters, pace, count):
    async def send(number):
        source = StreamSource(dut, f"of{clusters}__sends__{number}", pace=pace)
        await source.put_all(random.getrandbits(WRITE_BITS) for _ in range(count))

    for task in [cocotb.start_soon(send(number)) for number in range(clusters)]:
        await task


@cocotb.test()
@cocotb.parametrize(case=CASES, pace=[1.0, 0.2])
async def reaches_the_group(dut, case, pace):
    """All of the group in the documented cycle, whatever the clusters offer."""
    clusters, span = case
    monitor = await begin(dut, clusters, span)
    await send_at_random(dut, clusters, pace, 4)
    for _ in range(ExchangeNode.latency(tree_levels(clusters)) + 1):
        await dut.clk.rising_edge
    assert not monitor.expected
    assert monitor.sent == [4] * clusters


@cocotb.test()
@cocotb.parametrize(case=CASES)
async def gives_turns(dut, case):
    """Each cluster in one cycle of ``2 ** span``, in the order of their places."""
    clusters, span = case
    monitor = await begin(dut, clusters, span)
    turns = []
    for _ in range(3 << span):
        await dut.clk.rising_edge
        turns.append([bool(dut[f"{send}__ready"].value) for send in monitor.sends])
    first = turns.index([number % (1 << span) == 0 for number in range(clusters)])
    assert first < 1 << span
    for cycle, ready in enumerate(turns):
        place = (cycle - first) % (1 << span)
        assert ready == [number % (1 << span) == place for number in range(clusters)]


@cocotb.test()
@cocotb.parametrize(clusters=CLUSTERS)
async def changes_groups(dut, clusters):
    """The span may change as soon as nothing is under way."""
    monitor = await begin(dut, clusters, 0)
    spans = list(range((clusters - 1).bit_length() + 1))
    for span in [*spans, *random.sample(spans, len(spans))]:
        dut[f"of{clusters}__span"].value = span
        monitor.span = span
        for _ in range(tree_levels(clusters)):
            await dut.clk.rising_edge
        assert not monitor.expected
        await send_at_random(dut, clusters, 1.0, 2)
        for _ in range(delay(span)):
            await dut.clk.rising_edge
    await dut.clk.rising_edge
    assert not monitor.expected
