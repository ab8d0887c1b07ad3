# amaranth: UnusedElaboratable=no
"""TileLoader against its golden model: every row, every bias, every half."""

import itertools
import random

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.loop_nest import LoopNest
from acceltran.control.product_command import ProductCommand
from acceltran.memory.tile_loader import TileLoader
from acceltran.memory.tile_ports import BIAS_TILES
from acceltran.memory.tile_walker import COMMANDS, TileWalker
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran_sim.golden.loop_nest import tiles
from acceltran_sim.golden.tile_loader import loads
from testbench.harness.fields import pack_fields
from testbench.harness.read_ports import ReadMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.vectors import pack

FORMAT = FixedPoint(int_bits=4, frac_bits=8)
TILE_ROWS = 64
LEGAL = {"banks": 2, "ports": 1, "lanes": 3, "streams": 1, "tile": 8, "tile_rows": TILE_ROWS}
DEPTHS = {"weight_depth": 1 << 22, "activation_depth": 1 << 23}
VECTORS = 4001  # vectors behind each read port; addresses beyond them wrap


@pytest.mark.parametrize(
    ("index", "banks", "port", "ports", "lanes", "streams", "tile", "weight_latency"),
    [
        (0, 1, 0, 1, 4, 4, 16, 0),
        (2, 4, 1, 2, 3, 1, 8, 16),
        (3, 4, 0, 1, 2, 2, 8, 0),
    ],
)
def test_tile_loader(index, banks, port, ports, lanes, streams, tile, weight_latency, request):
    machine = {"banks": banks, "ports": ports, "lanes": lanes, "streams": streams, "tile": tile}
    machine["weight_latency"] = weight_latency
    simulate(
        TileLoader(fmt=FORMAT, tile_rows=TILE_ROWS, **machine, **DEPTHS),
        bench=__name__,
        parameters={"index": index, "port": port, **machine},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"banks": 3}, "Number of banks must be a power of two, not 3"),
        ({"ports": 3}, "Number of ports must be a power of two, not 3"),
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"tile": 1}, "Vector size must be a power of two from 2 on, not 1"),
        ({"tile_rows": 8}, "Tile rows must be a power of two from 16 on, not 8"),
        ({"tile_rows": 48}, "Tile rows must be a power of two from 16 on, not 48"),
    ],
)
def test_rejects(change, message):
    for unit in (lambda **p: TileLoader(fmt=FORMAT, **p, **DEPTHS), TileWalker):
        with pytest.raises(ValueError, match=f"^{message}$"):
            unit(**{**LEGAL, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_depth": 0}, "Weight buffer depth must be from 1 to 16777216, not 0"),
        (
            {"activation_depth": 1 << 25},
            "Activation buffer depth must be from 1 to 16777216, not 33554432",
        ),
        ({"weight_latency": -1}, "Weight latency must not be negative, not -1"),
    ],
)
def test_rejects_memories(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TileLoader(fmt=FORMAT, **LEGAL, **{**DEPTHS, **change})


# What follows runs inside the simulator, once for each machine.


def random_command(*, source=None, most=3):
    """A legal command of at most ``most`` turns of each loop, more or less."""
    lanes, banks, tile = (parameters()[name] for name in ("lanes", "banks", "tile"))
    row_tile, inner_tile = random.randint(1, 9), random.randint(1, TILE_ROWS // 2 // tile)
    odd = 2 * random.randrange(100) + 1
    command = {name: random.getrandbits(field.width) for name, field in ProductCommand()}
    command |= {
        "b_source": random.randint(0, 2) if source is None else source,
        "b_row_stride": random.choice([random.getrandbits(16), odd << random.randint(3, 7)]),
        "b_batch_stride": random.choice([0, random.getrandbits(24)]),
        "c_first": random.choice([0, random.randint(0, 100)]),
        "columns": random.randint(1, most * lanes * banks),
        "rows": random.randint(1, most * row_tile),
        "batches": random.randint(1, most),
        "inner_vectors": random.randint(1, most * inner_tile),
        "row_tile": row_tile,
        "inner_tile": inner_tile,
        "streams": random.choice([1 << n for n in range(parameters()["streams"].bit_length())]),
    }
    count = command["inner_vectors"] if command["b_source"] < 2 else command["columns"]
    command["b_rows"] = random.choice([
        count * tile,
        random.randint(0, count * tile),
        random.randint((count - 1) * tile, count * tile),
    ])
    command["valid_rows"] = random.choice([command["rows"], random.randint(0, command["rows"])])
    for n, loop in enumerate(random.sample(range(4), 4)):
        command[f"order{n}"] = loop
    return command


def golden_shape():
    """What the golden walk takes."""
    return {name: parameters()[name] for name in ("banks", "lanes", "tile")}


class Lanes:
    """Tile and bias RAMs behind the write ports, compared when a block or a half is full."""

    def __init__(self, dut, commands, weights, activations):
        self.dut = dut
        self.width = FORMAT.width
        expected = itertools.chain.from_iterable(
            loads(
                command,
                weights,
                activations,
                **{name: parameters()[name] for name in ("index", "port", "ports")},
                **golden_shape(),
            )
            for command in commands
        )
        # What each tile writes, in its half.
        self.expected = (self.writes_of(number, *tile) for number, tile in enumerate(expected))
        self.filling = next(self.expected, {})
        self.halves = itertools.cycle((0, 1))
        self.written = {}
        self.blocks = 0  # that were told to be written, a bit each
        self.early_blocks = 0  # told before their half was full
        self.oldest = 0  # half that is released next
        self.full = 0  # halves in use
        self.outside = []  # commands that read beyond a buffer, once for each time
        self.loaded = self.writes = self.load_strobes = self.reuse_strobes = 0

    def write(self, port, place):
        """Record a write: half, what it is, row of a lane or word."""
        key = (place[0], port, *place[1:])
        assert key not in self.written
        if key[1] == "tile_write":
            row = key[0] * (TILE_ROWS // 2) + key[3]
            assert not self.blocks >> row // parameters()["tile"] & 1
        self.written[key] = self.port(f"{port}__vector")
        self.writes += 1

    def port(self, name):
        """Value of a port; one that is zero bits wide is not there."""
        return int(getattr(self.dut, name).value) if hasattr(self.dut, name) else 0

    def vector(self, values):
        keep = sum(int(value != 0) << k for k, value in enumerate(values))
        return keep << (self.width * len(values)) | pack(values, self.width)

    def writes_of(self, number, rows, biases):
        half = number % 2
        writes = {}
        for lane, block in rows.items():
            for row, values in enumerate(block):
                writes[half, "tile_write", lane, row] = self.vector(values)
        for word, values in biases.items():
            writes[half, "bias_write", number % BIAS_TILES, word] = self.vector(values)
        return writes

    def compare(self):
        half = next(self.halves)
        observed = {key: self.written[key] for key in self.written if key[0] == half}
        assert observed == self.filling
        for key in observed:
            del self.written[key]
        self.filling = next(self.expected, {})

    def compare_block(self, block):
        """Its rows are those of the tile that is being loaded, which has all its biases."""
        tile = parameters()["tile"]
        half, first = divmod(block * tile, TILE_ROWS // 2)
        assert self.filling
        for key, word in self.filling.items():
            if key[1] == "bias_write" or first <= key[3] < first + tile:
                assert key[0] == half and self.written[key] == word
        self.early_blocks += 1

    def check_blocks(self):
        """Those of full halves are written, those of free ones are not, others when they are."""
        blocks = int(self.dut.written.value)
        half_blocks = TILE_ROWS // 2 // parameters()["tile"]
        halves = [(self.oldest + n) % 2 for n in range(self.full)]
        for block in range(2 * half_blocks):
            bit = blocks >> block & 1
            if block // half_blocks in halves:
                assert bit
            elif bit and not self.blocks >> block & 1:
                self.compare_block(block)
        self.blocks = blocks

    async def run(self, release_pace):
        dut = self.dut
        dut.release.value = 0
        dut.settled.value = 1
        releasing = loaded = False
        while True:
            await dut.clk.rising_edge
            self.full += loaded - releasing
            self.oldest ^= releasing
            self.check_blocks()
            loaded = bool(dut.loaded.value)
            if loaded:
                self.compare()
                self.loaded += 1
            if dut.tile_write__valid.value:
                half, row = divmod(self.port("tile_write__row"), TILE_ROWS // 2)
                lanes = self.port("tile_write__lanes")
                for lane in range(parameters()["lanes"]):
                    if lanes >> lane & 1:
                        self.write("tile_write", (half, lane, row))
            if dut.bias_write__valid.value:
                tile, word = self.port("bias_write__tile"), self.port("bias_write__word")
                self.write("bias_write", (tile % 2, tile, word))
            under_way = {key[0] for key in self.written}
            assert self.full + loaded + len(under_way) <= 2
            if dut.out_of_range.value:
                self.outside.append(int(dut.out_of_range_command.value))
            self.load_strobes += int(dut.tile_load.value)
            self.reuse_strobes += int(dut.tile_reuse.value)
            releasing = self.full > 0 and random.random() < release_pace
            dut.release.value = releasing


async def load(dut, commands, *, memory_pace=1.0, release_pace=1.0, source_pace=1.0):
    """Run ``commands`` to their end; the lanes, and cycles from first command to last half."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    tile = parameters()["tile"]
    shape = (VECTORS, tile)
    buffers = {
        name: rng.integers(FORMAT.lowest, FORMAT.highest + 1, shape) * (rng.random(shape) < 0.7)
        for name in ("weights", "activations")
    }
    lanes = Lanes(dut, commands, **buffers)
    latencies = dict.fromkeys(buffers, VectorBuffer.READ_LATENCY)
    latencies["weights"] += parameters()["weight_latency"]
    for name, buffer in buffers.items():
        memory = ReadMemory(
            dut,
            name,
            lambda address, buffer=buffer: lanes.vector(buffer[address % VECTORS]),
            field="vector",
            latency=latencies[name],
            pace=memory_pace,
        )
        memory.start()
    source = StreamSource(dut, "command", pace=source_pace)
    for name in ("index", "port"):
        if hasattr(dut, name):  # one that is zero bits wide is not there
            getattr(dut, name).value = parameters()[name]
    await start(dut)
    cocotb.start_soon(lanes.run(release_pace))
    walked = [tile for command in commands for tile in tiles(command, **golden_shape())]
    reloads = sum(tile["reload"] for tile in walked)
    driver = cocotb.start_soon(
        source.put_all(pack_fields(ProductCommand(), command) for command in commands)
    )
    cycles = 0
    while lanes.loaded < reloads:
        await dut.clk.rising_edge
        cycles += 1
        assert cycles < 500_000, "the loader hangs"
    await driver
    for _ in range(300):
        await dut.clk.rising_edge
    assert lanes.loaded == lanes.load_strobes == reloads
    assert lanes.reuse_strobes == len(walked) - reloads
    assert not lanes.written
    return lanes, cycles


@cocotb.test()
@cocotb.parametrize(memory_pace=[1.0, 0.4], release_pace=[1.0, 0.02])
async def loads_what_the_model_says(dut, memory_pace, release_pace):
    """Commands of all sources in all orders, whoever stalls."""
    commands = [random_command(source=n % 3, most=3 if release_pace == 1 else 2) for n in range(9)]
    await load(dut, commands, memory_pace=memory_pace, release_pace=release_pace)


@cocotb.test()
async def loads_many_small_products(dut):
    """One tile per command or two, sources mixed, commands late."""
    commands = [random_command(most=1) for _ in range(60)]
    await load(dut, commands, source_pace=0.02)


@cocotb.test()
async def keeps_apart_what_leaves_the_transposer(dut):
    """Rows of zeros, which wait for no memory, do not overtake what is being transposed."""
    commands = [
        random_command(source=source, most=1) | ({} if source == 2 else {"b_rows": 0})
        for source in [2, 0] * 40
    ]
    await load(dut, commands, memory_pace=0.1)


@cocotb.test()
@cocotb.parametrize(source=[0, 1, 2])
async def loads_a_vector_per_cycle(dut, source):
    """But for a few between tiles, no cycle is lost."""
    lanes, banks, tile = (parameters()[name] for name in ("lanes", "banks", "tile"))
    command = random_command(source=source) | {
        "c_first": 0,
        "columns": 2 * lanes * banks,
        "b_row_stride": 16,
        "rows": 1,
        "batches": 1,
        "inner_vectors": 3 * (TILE_ROWS // 2 // tile),
        "inner_tile": TILE_ROWS // 2 // tile,
        "streams": 1,
    }
    lanes, cycles = await load(dut, [command])
    latency = LoopNest.LATENCY + VectorBuffer.READ_LATENCY + parameters()["weight_latency"]
    assert cycles < lanes.writes + 6 * TileWalker.TILE_CYCLES + latency + tile + 15
    assert lanes.early_blocks


@cocotb.test()
@cocotb.parametrize(memory_pace=[1.0, 0.2], bias=[False, True])
async def names_the_command_that_reads_beyond(dut, memory_pace, bias):
    """Once per read at or beyond the depth, with the command's number."""
    commands = []
    before = parameters()["port"] * parameters()["banks"]  # columns before the loader's own
    for n in range(12):
        source = random.randint(0, 2)
        depth = DEPTHS["activation_depth" if source else "weight_depth"]
        command = random_command(source=source, most=1) | {
            "c_first": parameters()["index"],
            "columns": before + 1,
            "reuse_tile": 0,
            "keep_sums": 0,
            "batches": 1,
            "streams": 1,
            "b_rows": 4 + (before * parameters()["tile"] if source == 2 else 0),
            "b_row_stride": 3,
            "inner_vectors": 1,
            "bias_enable": 1,
            # The fourth row is the last vector.
            "b_base": depth - 10 - before * (3 * parameters()["tile"] if source == 2 else 1),
            "bias_base": DEPTHS["weight_depth"] - 1 - before,
        }
        if n % 3 == 1:
            command["bias_base" if bias else "b_base"] += 1
        commands.append(command)
    lanes, _ = await load(dut, commands, memory_pace=memory_pace)
    assert lanes.outside == [1, 4 % COMMANDS, 7 % COMMANDS, 10 % COMMANDS]
