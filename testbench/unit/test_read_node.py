# amaranth: UnusedElaboratable=no
"""Trees of ReadNode: one read for all leaves, one answer to all."""

import random

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.read_node import ReadNode
from acceltran.distribution.tree import FAN_OUT, tree_levels
from acceltran.memory.ports import ReadResponse
from testbench.harness.read_ports import ReadMemory
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.trees import ReadTree
from testbench.harness.variants import Variants

FORMAT = FixedPoint(int_bits=4, frac_bits=4)
TILE = 2
LEAVES = [2, 5, 16]
READ_LATENCY = 3


def test_read_node(request):
    simulate(
        Variants({
            f"of{leaves}": ReadTree(fmt=FORMAT, tile=TILE, leaves=leaves) for leaves in LEAVES
        }),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, "Vector size must be at least 1, not 0"),
        ({"branches": 0}, "Number of branches must be at least 1, not 0"),
        ({"depth": 0}, "Queue depth must be at least 1, not 0"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ReadNode(**{"fmt": FORMAT, "tile": TILE, "branches": 2, "depth": 2, **change})


def test_equal_ports():
    assert ReadResponse(FORMAT, TILE) == ReadResponse(FORMAT, TILE)
    assert ReadResponse(FORMAT, TILE) != ReadResponse(FORMAT, TILE + 1)


# What follows runs inside the simulator.


def content(address):
    """Something different at every address, as wide as a vector."""
    return address * 0x9E3779B97F4A7C15 % (1 << (FORMAT.width + 1) * TILE)


async def begin(dut, leaves, leaf_paces, memory_pace):
    """Sources of requests, the memory, and a list of answers as (cycle, vector), checked alike."""
    name = f"of{leaves}"
    sources = [
        StreamSource(dut, f"{name}__leaf_ports__{leaf}__request", pace=pace)
        for leaf, pace in enumerate(leaf_paces)
    ]
    memory = ReadMemory(
        dut, f"{name}__port", content, field="vector", latency=READ_LATENCY, pace=memory_pace
    )
    await start(dut)
    memory.start()
    answers = []

    async def observe():
        ports = [f"{name}__leaf_ports__{leaf}__response" for leaf in range(leaves)]
        cycle = 0
        while True:
            await dut.clk.rising_edge
            seen = [
                dut[f"{port}__vector"].value.to_unsigned() if dut[f"{port}__valid"].value else None
                for port in ports
            ]
            assert len(set(seen)) == 1
            if seen[0] is not None:
                answers.append((cycle, seen[0]))
            cycle += 1

    cocotb.start_soon(observe())
    return sources, memory, answers


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES, paces=[(0.5, 1.0), (1.0, 0.5), (None, 0.8)])
async def reads_once_for_all(dut, leaves, paces):
    """Each address is read once, and its vector reaches all leaves; ``None``: uneven leaves."""
    leaf_paces = [paces[0] or random.choice([0.2, 0.5, 1.0]) for _ in range(leaves)]
    sources, memory, answers = await begin(dut, leaves, leaf_paces, paces[1])
    addresses = [random.getrandbits(24) for _ in range(40)]
    for task in [cocotb.start_soon(source.put_all(addresses)) for source in sources]:
        await task
    while len(answers) < len(addresses):
        await dut.clk.rising_edge
    assert memory.addresses == addresses
    assert [vector for _, vector in answers] == [content(address) for address in addresses]


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES)
async def lets_leaves_be_ahead(dut, leaves):
    """``LEAF_DEPTH`` requests of a leaf are taken, and no more, before the last leaf asks."""
    sources, memory, answers = await begin(dut, leaves, [1.0] * leaves, 1.0)
    *early, last = sources
    for source in early:
        cocotb.start_soon(source.put_all(range(6)))
    for _ in range(10):
        await dut.clk.rising_edge
    beside = (leaves - 1) // FAN_OUT * FAN_OUT  # first leaf of the last node
    for leaf in range(leaves - 1):
        request = f"of{leaves}__leaf_ports__{leaf}__request"
        taken = dut[f"{request}__payload"].value.to_unsigned()
        if leaf >= beside:
            assert not dut[f"{request}__ready"].value
            assert taken == ReadNode.LEAF_DEPTH
        else:
            assert taken >= ReadNode.LEAF_DEPTH
    assert not memory.addresses
    await last.put_all(range(6))
    while len(answers) < 6:
        await dut.clk.rising_edge
    assert memory.addresses == list(range(6))


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES)
async def has_the_documented_latency_and_rate(dut, leaves):
    """``LATENCY`` a level on top of the buffer's, one read per cycle."""
    sources, _, answers = await begin(dut, leaves, [1.0] * leaves, 1.0)
    for _ in range(3):
        await dut.clk.rising_edge
    for source in sources:
        cocotb.start_soon(source.put_all(range(40)))
    # Offered after the edge of cycle 2, taken at that of cycle 3.
    while len(answers) < 40:
        await dut.clk.rising_edge
    first = 3 + READ_LATENCY + ReadNode.LATENCY * tree_levels(leaves)
    assert [cycle for cycle, _ in answers] == list(range(first, first + 40))
