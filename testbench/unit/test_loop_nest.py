# amaranth: UnusedElaboratable=no
"""LoopNest against its golden model, in all 24 orders."""

import itertools
import random

import cocotb
import pytest

from acceltran.control.loop_nest import LoopNest
from acceltran.control.product_command import ProductCommand
from acceltran.control.tile import Tile
from acceltran_sim.golden.loop_nest import tiles
from testbench.harness.fields import pack_fields, unpack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

ORDERS = list(itertools.permutations(range(4)))


@pytest.mark.parametrize(
    ("banks", "ports", "lanes", "streams", "tile"),
    [(1, 1, 4, 4, 16), (4, 1, 3, 1, 8), (2, 2, 6, 2, 8)],
)
def test_loop_nest(banks, ports, lanes, streams, tile, request):
    machine = {"banks": banks, "ports": ports, "lanes": lanes, "streams": streams, "tile": tile}
    simulate(
        LoopNest(**machine),
        bench=__name__,
        parameters=machine,
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"banks": 3}, "Number of banks must be a power of two, not 3"),
        ({"ports": 3}, "Number of ports must be a power of two, not 3"),
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"streams": 3}, "Number of streams must be a power of two that divides 4 lanes, not 3"),
        ({"streams": 8}, "Number of streams must be a power of two that divides 4 lanes, not 8"),
        ({"tile": 12}, "Vector size must be a power of two, not 12"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LoopNest(**{"banks": 2, "ports": 1, "lanes": 4, "streams": 4, "tile": 16, **change})


# What follows runs inside the simulator, once for each machine.


def random_command(order=None, *, most=3):
    """A legal command of at most ``most`` turns of each loop, more or less."""
    lanes, banks = parameters()["lanes"], parameters()["banks"]
    row_tile, inner_tile = random.randint(1, 9), random.randint(1, 8)
    command = {name: random.getrandbits(field.width) for name, field in ProductCommand()}
    command |= {
        "b_source": random.randint(0, 2),
        "b_batch_stride": random.choice([0, random.getrandbits(24)]),
        "c_first": random.choice([0, random.randint(0, 100), random.getrandbits(16) % 60000]),
        "columns": random.randint(1, most * lanes * banks),
        "rows": random.randint(1, most * row_tile),
        "batches": random.randint(1, most),
        "inner_vectors": random.randint(1, most * inner_tile),
        "row_tile": row_tile,
        "inner_tile": inner_tile,
        "streams": random.choice([1 << n for n in range(parameters()["streams"].bit_length())]),
        "first_slot": random.choice([0, random.randint(0, 1000)]),
    }
    command["valid_rows"] = random.choice([command["rows"], random.randint(0, command["rows"])])
    for n, loop in enumerate(order or random.choice(ORDERS)):
        command[f"order{n}"] = loop
    return command


async def begin(dut, source_pace=1.0, sink_pace=1.0, place=0):
    source = StreamSource(dut, "command", pace=source_pace)
    sink = StreamSink(dut, "tiles", pace=sink_pace)
    if hasattr(dut, "place"):  # one that is zero bits wide is not there
        dut.place.value = place
    await start(dut)
    return source, sink


async def check(dut, commands, **paces):
    place = random.randrange(parameters()["banks"] * parameters()["ports"])
    source, sink = await begin(dut, **paces, place=place)
    driver = cocotb.start_soon(
        source.put_all(pack_fields(ProductCommand(), command) for command in commands)
    )
    layout = Tile(parameters()["lanes"])
    for command in commands:
        machine = {name: parameters()[name] for name in ("banks", "lanes", "tile")}
        for expected in tiles(command, **machine, place=place):
            observed = unpack_fields(layout, await sink.get())
            assert observed.pop("command") == pack_fields(ProductCommand(), command)
            assert observed == expected
    await driver


@cocotb.test()
async def walks_in_every_order(dut):
    """All orders, several extents each."""
    await check(dut, [random_command(order) for order in ORDERS for _ in range(4)])


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.1], sink_pace=[0.5, 0.1])
async def waits(dut, source_pace, sink_pace):
    """Whoever stalls, tiles are the same."""
    commands = [random_command() for _ in range(4)]
    await check(dut, commands, source_pace=source_pace, sink_pace=sink_pace)


@cocotb.test()
async def walks_the_largest_extents(dut):
    """The largest counts of one tile, and many turns of each loop."""
    largest = dict.fromkeys(
        ("batches", "rows", "columns", "inner_vectors", "row_tile", "inner_tile"), 1
    )
    limits = {"rows": 65535, "row_tile": 65535, "inner_vectors": 255, "inner_tile": 255}
    banks, lanes = parameters()["banks"], parameters()["lanes"]
    await check(
        dut,
        [
            {**random_command(), **largest, **limits},
            {**random_command(), **largest, "rows": 300},
            {**random_command(), **largest, "batches": 300},
            {**random_command(), **largest, "columns": 70 * banks * lanes, "c_first": 64000},
            {**random_command(), **largest, "inner_vectors": 400},
        ],
    )


@cocotb.test()
async def has_the_documented_latencies(dut):
    """LATENCY cycles to the first tile, TILE_CYCLES from tile to tile."""
    source, _ = await begin(dut)
    await source.put(pack_fields(ProductCommand(), random_command(most=3) | {"batches": 3}))
    for cycles in (LoopNest.LATENCY, LoopNest.TILE_CYCLES, LoopNest.TILE_CYCLES):
        dut.tiles__ready.value = 0
        for _ in range(cycles - 1):
            await dut.clk.rising_edge
            assert not dut.tiles__valid.value
        await dut.clk.rising_edge
        assert dut.tiles__valid.value
        dut.tiles__ready.value = 1
        await dut.clk.rising_edge
