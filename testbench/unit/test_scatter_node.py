# amaranth: UnusedElaboratable=no
"""Trees of ScatterNode: every write to its leaf, and whether any are under way."""

import random

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.leaf_writes import LeafWrites
from acceltran.distribution.route_node import RouteNode
from acceltran.distribution.scatter_node import ScatterNode
from acceltran.distribution.tree import tree_levels
from acceltran.memory.ports import ADDRESS_WIDTH, BufferWrite
from testbench.harness.fields import pack_fields, unpack_fields
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.trees import ScatterTree
from testbench.harness.variants import Variants

FORMAT = FixedPoint(int_bits=4, frac_bits=4)
TILE = 2
WRITE = BufferWrite(FORMAT, TILE)
ADDRESS_BITS = 19
LEAVES = [1, 2, 5, 16]


def test_scatter_node(request):
    simulate(
        Variants({
            f"of{leaves}": ScatterTree(
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
        ({"leaves": 0}, "Number of leaves must be at least 1, not 0"),
        ({"address_bits": 0}, "Address bits of a leaf must be from 1 to 24, not 0"),
        ({"address_bits": 25}, "Address bits of a leaf must be from 1 to 24, not 25"),
        ({"leaves": 5}, "Number of leaves must be at most 4 with 22 address bits each, not 5"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LeafWrites(**{"fmt": FORMAT, "tile": TILE, "leaves": 2, "address_bits": 22, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"address_bits": 0}, "Address bits of a branch must be from 1 to 24, not 0"),
        ({"address_bits": 25}, "Address bits of a branch must be from 1 to 24, not 25"),
        ({"branches": 0}, "Number of branches must be from 1 to 4, not 0"),
        ({"branches": 5}, "Number of branches must be from 1 to 4, not 5"),
    ],
)
def test_route_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        RouteNode(**{"shape": 24, "address_bits": 22, "branches": 2, **change})


def test_node_rejects():
    with pytest.raises(ValueError, match=r"^Vector size must be at least 1, not 0$"):
        ScatterNode(fmt=FORMAT, tile=0, address_bits=22, branches=2)


# What follows runs inside the simulator.


def random_write(leaf):
    return pack_fields(
        WRITE,
        {
            "address": leaf << ADDRESS_BITS | random.getrandbits(ADDRESS_BITS),
            "vector": random.getrandbits(WRITE.size - ADDRESS_WIDTH),
        },
    )


def delivered(write):
    """The leaf that ``write`` is for, and the write that it sees."""
    fields = unpack_fields(WRITE, write)
    leaf, fields["address"] = divmod(fields["address"], 1 << ADDRESS_BITS)
    return leaf, pack_fields(WRITE, fields)


class Monitor:
    """Checks ``busy`` and ``out_of_range``; collects what each leaf took."""

    def __init__(self, dut, leaves):
        name = f"of{leaves}"
        self.dut, self.leaves = dut, leaves
        self.i, self.busy, self.outside = f"{name}__i", f"{name}__busy", f"{name}__out_of_range"
        self.held, self.idle = 0, 0

    async def run(self):
        dropped = False
        while True:
            await self.dut.clk.rising_edge
            self.idle = 0 if self.held else self.idle + 1
            assert bool(self.dut[self.busy].value) == (self.idle <= tree_levels(self.leaves))
            assert bool(self.dut[self.outside].value) == dropped
            taken = self.shakes(self.i)
            leaf, _ = delivered(self.dut[f"{self.i}__payload"].value.to_unsigned())
            dropped = taken and leaf >= self.leaves
            self.held += taken and not dropped
            self.held -= sum(self.shakes(f"of{self.leaves}__o__{n}") for n in range(self.leaves))

    def shakes(self, stream):
        return bool(self.dut[f"{stream}__valid"].value and self.dut[f"{stream}__ready"].value)


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES, paces=[(1.0, 1.0), (1.0, 0.4), (0.4, None)])
async def brings_writes_to_their_leaves(dut, leaves, paces):
    """In order, those to other leaves are dropped and told; ``None``: uneven leaves."""
    name = f"of{leaves}"
    source = StreamSource(dut, f"{name}__i", pace=paces[0])
    sinks = [
        StreamSink(dut, f"{name}__o__{leaf}", pace=paces[1] or random.choice([0.2, 0.5, 1.0]))
        for leaf in range(leaves)
    ]
    await start(dut)
    monitor = Monitor(dut, leaves)
    monitor.idle = tree_levels(leaves)
    cocotb.start_soon(monitor.run())
    last = (1 << ADDRESS_WIDTH - ADDRESS_BITS) - 1
    numbers = [leaf for leaf in (*range(leaves), leaves, last) for _ in range(6)]
    random.shuffle(numbers)
    writes = [random_write(leaf) for leaf in [*numbers, 0, 0, leaves, leaves, 0, 0]]
    expected = [[] for _ in range(last + 1)]
    for write in writes:
        leaf, seen = delivered(write)
        expected[leaf].append(seen)
    driver = cocotb.start_soon(source.put_all(writes))
    tasks = [
        cocotb.start_soon(sink.get_all(len(wanted)))
        for sink, wanted in zip(sinks, expected, strict=False)
    ]
    for task, wanted in zip(tasks, expected, strict=False):
        assert await task == wanted
    await driver
    for _ in range(tree_levels(leaves) + 3):
        await dut.clk.rising_edge
    assert monitor.idle > tree_levels(leaves)


@cocotb.test()
@cocotb.parametrize(leaves=LEAVES)
async def has_the_documented_latency_and_rate(dut, leaves):
    """The first write shows ``LATENCY`` cycles a level after it was taken, then one per cycle."""
    name = f"of{leaves}"
    for leaf in range(leaves):
        dut[f"{name}__o__{leaf}__ready"].value = 1
    dut[f"{name}__i__valid"].value = 0
    await start(dut)
    dut[f"{name}__i__valid"].value = 1
    writes = [random_write(random.randrange(leaves)) for _ in range(30)]
    for cycle, write in enumerate(writes):
        dut[f"{name}__i__payload"].value = write
        await dut.clk.rising_edge
        assert dut[f"{name}__i__ready"].value
        shown = cycle - ScatterNode.LATENCY * tree_levels(leaves)
        for leaf in range(leaves):
            here = shown >= 0 and delivered(writes[shown])[0] == leaf
            assert bool(dut[f"{name}__o__{leaf}__valid"].value) == here
            if here:
                assert dut[f"{name}__o__{leaf}__payload"].value == delivered(writes[shown])[1]
