# amaranth: UnusedElaboratable=no
"""VectorBuffer against a dictionary, cycle by cycle."""

import random
from collections import Counter

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.memory.vector_buffer import VectorBuffer
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource

FORMAT = FixedPoint(int_bits=4, frac_bits=8)
TILE = 4
VALUE_BITS = TILE * FORMAT.width
ADDRESS_BITS = 24
LATENCY = VectorBuffer.READ_LATENCY
LEGAL = {
    "fmt": FORMAT,
    "tile": TILE,
    "depth": 52,
    "banks": 4,
    "readers": 3,
    "writers": 2,
    "mask_readers": 2,
    "preferred": 0,
}


@pytest.mark.parametrize(
    ("banks", "spread", "mask_readers", "preferred", "urgent"),
    [(1, False, 0, 0, 1), (4, False, 2, 2, 0), (4, True, 2, 0, 1)],
)
def test_vector_buffer(banks, spread, mask_readers, preferred, urgent, request):
    change = {"banks": banks, "spread": spread, "mask_readers": mask_readers}
    change |= {"preferred": preferred, "urgent": urgent}
    parameters = {**LEGAL, **change}
    simulate(
        VectorBuffer(**parameters),
        bench=__name__,
        parameters={name: value for name, value in parameters.items() if name != "fmt"},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"banks": 3}, "Number of banks must be a power of two, not 3"),
        (
            {"banks": 1, "spread": True},
            "Number of banks to spread over must be at least 2, not 1",
        ),
        ({"depth": 54}, "Buffer depth must be a multiple of 4 banks and at least two each, not 54"),
        ({"depth": 4}, "Buffer depth must be a multiple of 4 banks and at least two each, not 4"),
        ({"depth": 1 << 25}, "Buffer depth must be at most 16777216 vectors, not 33554432"),
        ({"readers": 0}, "Number of readers must be at least 1, not 0"),
        ({"writers": 0}, "Number of writers must be at least 1, not 0"),
        ({"preferred": 4}, "Number of preferred readers must be at most 3 readers, not 4"),
        ({"urgent": 2}, "Number of urgent writers must be less than 2 writers, not 2"),
        ({"mask_readers": -1}, "Number of mask readers must not be negative, not -1"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        VectorBuffer(**{**LEGAL, **change})


# What follows runs inside the simulator, once for each number of banks.


def random_vector():
    """A vector in which keep says what is not zero, as one integer."""
    elements = [random.choice([0, random.getrandbits(FORMAT.width)]) for _ in range(TILE)]
    keep = sum((element != 0) << k for k, element in enumerate(elements))
    values = sum(element << (k * FORMAT.width) for k, element in enumerate(elements))
    return keep << VALUE_BITS | values


class Monitor:
    """Follow every port of the buffer and check all that it promises, cycle by cycle."""

    def __init__(self, dut):
        self.dut = dut
        self.depth = parameters()["depth"]
        self.memory = {}
        self.fresh = set()  # addresses written in this cycle
        self.expected = {}  # (port, cycle) -> answer
        self.taken = Counter()
        self.cycle = 0
        self.handles = [("reads", n) for n in range(parameters()["readers"])]
        self.handles += [("mask_reads", n) for n in range(parameters()["mask_readers"])]
        self.outputs = (0, 0, 0)

    def transfer(self, name):
        if self.dut[f"{name}__valid"].value and self.dut[f"{name}__ready"].value:
            self.taken[name] += 1
            return self.dut[f"{name}__payload"].value.to_unsigned()
        return None

    def observe(self):
        dut = self.dut
        strobes = (dut.out_of_range, dut.read_count, dut.write_count)
        assert tuple(int(strobe.value) for strobe in strobes) == self.outputs
        outside, reads, writes = 0, 0, {}
        for n in range(parameters()["writers"]):
            if n < parameters()["urgent"]:
                assert dut[f"writes__{n}__ready"].value or not dut[f"writes__{n}__valid"].value
            payload = self.transfer(f"writes__{n}")
            if payload is not None:
                address, vector = payload % (1 << ADDRESS_BITS), payload >> ADDRESS_BITS
                if address < self.depth:
                    assert address not in writes
                    writes[address] = vector
                outside |= (address >= self.depth) << (len(self.handles) + n)
        write_count = sum(
            bool(dut[f"writes__{n}__valid"].value and dut[f"writes__{n}__ready"].value)
            for n in range(parameters()["writers"])
        )
        for port, (kind, n) in enumerate(self.handles):
            name = f"{kind}__{n}"
            address = self.transfer(f"{name}__request")
            if address is not None:
                reads += kind == "reads"
                outside |= (address >= self.depth) << port
                answer = self.memory.get(address) if address < self.depth else 0
                if address in writes:
                    answer = None  # undefined
                self.expected[name, self.cycle + LATENCY] = answer
            asked = (name, self.cycle) in self.expected
            assert bool(dut[f"{name}__response__valid"].value) == asked
            if asked:
                answer = self.expected.pop((name, self.cycle))
                if kind == "reads":
                    observed = dut[f"{name}__response__vector"].value.to_unsigned()
                else:
                    observed = dut[f"{name}__response__keep"].value.to_unsigned()
                    answer = answer if answer is None else answer >> VALUE_BITS
                assert answer is None or observed == answer
        self.memory.update(writes)
        self.outputs = (outside, reads, write_count)
        self.cycle += 1

    async def run(self):
        while True:
            await self.dut.clk.rising_edge
            self.observe()


async def begin(dut, **paces):
    sources = {}
    for kind, count, suffix in (
        ("reads", parameters()["readers"], "__request"),
        ("mask_reads", parameters()["mask_readers"], "__request"),
        ("writes", parameters()["writers"], ""),
    ):
        sources[kind] = [
            StreamSource(dut, f"{kind}__{n}{suffix}", pace=paces.get(kind, 1.0))
            for n in range(count)
        ]
    await start(dut)
    monitor = Monitor(dut)
    cocotb.start_soon(monitor.run())
    return sources, monitor


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5, 0.3])
async def answers_what_was_written(dut, pace):
    """Random reads and writes of all ports, some outside, are answered in time and in order."""
    sources, monitor = await begin(dut, reads=pace, mask_reads=pace, writes=1.3 - pace)
    depth = parameters()["depth"]
    addresses = [*range(depth), depth, depth + 1, (1 << ADDRESS_BITS) - 1]

    async def drive(source, payload):
        for _ in range(400):
            await source.put(payload())

    def write():
        return random_vector() << ADDRESS_BITS | random.choice(addresses)

    tasks = [cocotb.start_soon(drive(source, write)) for source in sources["writes"]]
    for source in sources["reads"] + sources["mask_reads"]:
        tasks.append(cocotb.start_soon(drive(source, lambda: random.choice(addresses))))
    for task in tasks:
        await task
    for _ in range(LATENCY + 1):
        await dut.clk.rising_edge
    assert not monitor.expected
    assert len(monitor.memory) == depth


@cocotb.test()
async def sees_a_write_in_the_next_cycle(dut):
    """A read taken in the cycle after the write of its address answers what was written."""
    sources, monitor = await begin(dut)
    for address in range(20):
        await sources["writes"][0].put(random_vector() << ADDRESS_BITS | address)
        await sources["reads"][0].put(address)
        for source in sources["mask_reads"]:
            await source.put(address)
    for _ in range(LATENCY + 1):
        await dut.clk.rising_edge
    assert monitor.taken["reads__0__request"] == 20
    assert not monitor.expected


@cocotb.test()
async def shares_a_bank_and_serves_banks_in_parallel(dut):
    """Readers of one bank, the preferred ones if any, share it; those of others do not wait."""
    sources, monitor = await begin(dut)
    banks, readers = parameters()["banks"], parameters()["readers"]

    async def hammer(source, address):
        while True:
            await source.put(address)

    for spread in (0, 1):
        tasks = [
            cocotb.start_soon(hammer(source, n * spread))
            for n, source in enumerate(sources["reads"])
        ]
        await dut.clk.rising_edge
        before = monitor.taken.copy()
        for _ in range(60):
            await dut.clk.rising_edge
        for task in tasks:
            task.cancel()
        rivals = range(1 if spread and banks >= readers else parameters()["preferred"] or readers)
        for n in range(readers):
            name = f"reads__{n}__request"
            share = 60 // len(rivals) if len(rivals) == 1 or n in rivals else 0
            assert abs(monitor.taken[name] - before[name] - share) <= 1
        for n in range(readers):
            dut[f"reads__{n}__request__valid"].value = 0
        await dut.clk.rising_edge
