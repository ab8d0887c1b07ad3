# amaranth: UnusedElaboratable=no
"""Ram: the Verilog text and its stand-in in Amaranth's simulator do the same."""

import random

import cocotb
import pytest
from amaranth.sim import Simulator

from acceltran.memory.ram import Ram
from testbench.harness.simulate import parameters, simulate, start

WIDTH = 13
CYCLES = 400
NAMES = ["write_enable", "write_address", "write_data", "read_enable", "read_address"]


def stimulus(depth: int, seed: int) -> list[tuple[int, ...]]:
    """Write all rows, then write and read at random, never the same row in one cycle."""
    rng = random.Random(seed)
    cycles = [(1, row, rng.getrandbits(WIDTH), 0, 0) for row in range(depth)]
    for _ in range(CYCLES):
        written, read = rng.sample(range(depth), 2)
        write, fetch = rng.getrandbits(1), rng.getrandbits(1)
        cycles.append((write, written, rng.getrandbits(WIDTH), fetch, read))
    return cycles


def expected(depth: int, cycles: list[tuple[int, ...]]) -> list[int | None]:
    """What ``read_data`` is after each cycle; None as long as nothing was read."""
    rows: list[int] = [0] * depth
    data: int | None = None
    answer = []
    for write_enable, write_address, write_data, read_enable, read_address in cycles:
        if read_enable:
            data = rows[read_address]
        if write_enable:
            rows[write_address] = write_data
        answer.append(data)
    return answer


@pytest.mark.parametrize("depth", [2, 11])
def test_ram(depth, request):
    seed = request.config.getoption("seed")
    simulate(Ram(width=WIDTH, depth=depth), bench=__name__, parameters={"depth": depth}, seed=seed)


@pytest.mark.parametrize("depth", [2, 11])
def test_stand_in(depth, request):
    cycles = stimulus(depth, request.config.getoption("seed"))
    dut = Ram(width=WIDTH, depth=depth)

    async def bench(ctx):
        for inputs, data in zip(cycles, expected(depth, cycles), strict=True):
            for name, value in zip(NAMES, inputs, strict=True):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            assert data in (None, ctx.get(dut.read_data))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("width", [0, -1])
def test_rejects_width(width):
    with pytest.raises(ValueError, match=rf"^Memory width must be at least 1, not {width}$"):
        Ram(width=width, depth=2)


@pytest.mark.parametrize("depth", [1, 0])
def test_rejects_depth(depth):
    with pytest.raises(ValueError, match=rf"^Memory depth must be at least 2, not {depth}$"):
        Ram(width=8, depth=depth)


# What follows runs inside the simulator, once for each parametrisation of test_ram.


@cocotb.test()
async def reads_what_was_written(dut):
    """Data comes one cycle after the address (LATENCY) and holds without read_enable."""
    depth = parameters()["depth"]
    cycles = stimulus(depth, cocotb.RANDOM_SEED)
    await start(dut)
    before = None
    for inputs, data in zip(cycles, expected(depth, cycles), strict=True):
        for name, value in zip(NAMES, inputs, strict=True):
            dut[name].value = value
        await dut.clk.rising_edge
        assert before in (None, dut.read_data.value.to_unsigned())
        before = data
