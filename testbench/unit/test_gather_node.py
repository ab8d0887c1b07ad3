# amaranth: UnusedElaboratable=no
"""Trees of GatherNode: answers of all leaves in the order of the requests."""

import random

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.gather_node import GatherNode
from acceltran.distribution.leaf_reads import LeafReads
from acceltran.distribution.tree import tree_levels
from acceltran.memory.ports import ADDRESS_WIDTH
from testbench.harness.read_ports import ReadMemory
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.trees import GatherTree
from testbench.harness.variants import Variants

FORMAT = FixedPoint(int_bits=4, frac_bits=4)
TILE = 2
ADDRESS_BITS = 19
LEAVES = [1, 2, 5, 16]
READ_LATENCY = 3


def test_gather_node(request):
    simulate(
        Variants({
            f"of{leaves}": GatherTree(
                fmt=FORMAT, tile=TILE, leaves=leaves, address_bits=ADDRESS_BITS
            )
            for leaves in LEAVES
        }),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, "Vector size must be at least 1, not 0"),
        ({"leaves": 5}, "Number of leaves must be at most 4 with 22 address bits each, not 5"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LeafReads(**{"fmt": FORMAT, "tile": TILE, "leaves": 2, "address_bits": 22, **change})


def test_node_rejects():
    with pytest.raises(ValueError, match=r"^Vector size must be at least 1, not 0$"):
        GatherNode(fmt=FORMAT, tile=0, address_bits=22, branches=2)


# What follows runs inside the simulator.


def content(address):
    """Something different at every address, as wide as a vector, not 0."""
    return address * 0x9E3779B97F4A7C15 % ((1 << (FORMAT.width + 1) * TILE) - 1) + 1


async def begin(dut, leaves, source_pace, memory_paces, latency=READ_LATENCY):
    """Source of requests, and a list of answers as (cycle, vector); checks ``out_of_range``."""
    name = f"of{leaves}"
    source = StreamSource(dut, f"{name}__port__request", pace=source_pace)

    def memory_of(leaf):
        return ReadMemory(
            dut,
            f"{name}__leaf_ports__{leaf}",
            lambda address: content(leaf << ADDRESS_BITS | address),
            field="vector",
            latency=latency,
            pace=memory_paces[leaf],
        )

    memories = [memory_of(leaf) for leaf in range(leaves)]
    await start(dut)
    for memory in memories:
        memory.start()
    answers = []

    async def observe():
        request, response = f"{name}__port__request", f"{name}__port__response"
        outside, cycle = False, 0
        while True:
            await dut.clk.rising_edge
            assert bool(dut[f"{name}__out_of_range"].value) == outside
            if dut[f"{response}__valid"].value:
                answers.append((cycle, dut[f"{response}__vector"].value.to_unsigned()))
            leaf = dut[f"{request}__payload"].value.to_unsigned() >> ADDRESS_BITS
            taken = dut[f"{request}__valid"].value and dut[f"{request}__ready"].value
            outside = bool(taken) and leaf >= leaves
            cycle += 1

    cocotb.start_soon(observe())
    return source, answers


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES, paces=[(1.0, 1.0), (1.0, None), (0.5, 0.7)])
async def answers_in_order(dut, leaves, paces):
    """Runs of requests to any leaf; others answer zero; ``None``: uneven leaves."""
    memory_paces = [paces[1] or random.choice([0.2, 0.5, 1.0]) for _ in range(leaves)]
    source, answers = await begin(dut, leaves, paces[0], memory_paces)
    last = (1 << ADDRESS_WIDTH - ADDRESS_BITS) - 1
    addresses = []
    for _ in range(12):
        leaf = random.choice([*range(leaves), leaves, last])
        run = range(random.choice([1, 2, 8]))
        addresses += [leaf << ADDRESS_BITS | random.getrandbits(ADDRESS_BITS) for _ in run]
    await source.put_all(addresses)
    while len(answers) < len(addresses):
        await dut.clk.rising_edge
    assert [vector for _, vector in answers] == [
        content(address) if address >> ADDRESS_BITS < leaves else 0 for address in addresses
    ]


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES)
async def has_the_documented_latency_and_rate(dut, leaves):
    """``LATENCY`` a level more, one read per cycle, from the first and the last leaf."""
    source, answers = await begin(dut, leaves, 1.0, [1.0] * leaves)
    for _ in range(3):
        await dut.clk.rising_edge
    cycle = 3  # at whose edge the first request is taken
    for leaf in (0, leaves - 1):
        await source.put_all(leaf << ADDRESS_BITS | vector for vector in range(16))
        while len(answers) < 16:
            await dut.clk.rising_edge
        first = cycle + READ_LATENCY + GatherNode.LATENCY * tree_levels(leaves)
        assert [cycle for cycle, _ in answers] == list(range(first, first + 16))
        cycle = first + 17
        answers.clear()


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES[:2])
async def lets_few_answers_be_due(dut, leaves):
    """``MOST_DUE`` requests of a slow memory are taken, and no more, before the first answer."""
    latency = LeafReads.MOST_DUE + 20
    source, answers = await begin(dut, leaves, 1.0, [1.0] * leaves, latency=latency)
    for _ in range(3):
        await dut.clk.rising_edge
    driver = cocotb.start_soon(source.put_all(range(100)))
    for _ in range(latency):
        await dut.clk.rising_edge
    assert not answers
    request = f"of{leaves}__port__request"
    assert not dut[f"{request}__ready"].value
    assert dut[f"{request}__payload"].value == LeafReads.MOST_DUE
    await driver
    while len(answers) < 100:
        await dut.clk.rising_edge
    assert [vector for _, vector in answers] == [content(address) for address in range(100)]
