# amaranth: UnusedElaboratable=no
"""RowStreamer against its golden model, bit for bit."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.lane import scalar_layout
from acceltran.sparsity.row_scanner import RowJob
from acceltran.sparsity.row_streamer import RowStreamer
from acceltran_sim.golden.row_streamer import beats_of, stream_row
from testbench.harness.beats import pack_scalars
from testbench.harness.fields import pack_fields
from testbench.harness.read_ports import ReadMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack

DEPTH = 3 + RowStreamer.FULL_RATE_DEPTH
SHAPE = {"tile": 16, "tile_rows": 256, "partial_sums": 64}


@pytest.mark.parametrize(
    ("frac_bits", "beat"), [(8, 1), (16, 1), (12, 4)], ids=["q4.8", "q4.16", "q4.12-beats"]
)
def test_row_streamer(frac_bits, beat, request):
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    simulate(
        RowStreamer(fmt=fmt, **SHAPE, scalars_per_beat=beat, depth=DEPTH),
        bench=__name__,
        parameters={"frac_bits": frac_bits, "beat": beat},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tile": 12}, "Tile must be a power of two and at least 2, not 12"),
        ({"tile_rows": 16}, "Tile rows must be a power of two and at least 32, not 16"),
        ({"tile_rows": 96}, "Tile rows must be a power of two and at least 32, not 96"),
        ({"partial_sums": 1}, "Number of partial sums must be at least 2, not 1"),
        ({"depth": 1}, "Depth must be at least 2, not 1"),
        ({"scalars_per_beat": 17}, "Scalars per beat must be from 1 to the tile 16, not 17"),
        ({"scalars_per_beat": 0}, "Scalars per beat must be from 1 to the tile 16, not 0"),
    ],
)
def test_rejects(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        RowStreamer(fmt=FixedPoint(int_bits=4, frac_bits=8), **{**SHAPE, **wrong})


# What follows runs inside the simulator, once for each parametrisation of test_row_streamer.


class Bench:
    """Random rows in a memory, the jobs that stream them, and the tokens to expect."""

    def __init__(self, dut, *, rows, density, seed, counts=(1, 8), mask_pace=1.0, value_pace=1.0):
        self.dut = dut
        self.fmt = FixedPoint(int_bits=4, frac_bits=parameters()["frac_bits"])
        self.beat = parameters()["beat"]
        tile = SHAPE["tile"]
        rng = np.random.default_rng(seed)
        job_layout = RowJob(SHAPE["tile_rows"], SHAPE["partial_sums"])
        self.memory = {}
        self.jobs, self.tokens, self.skipped, self.read = [], [], 0, []
        address = int(rng.integers(0, 2**23))
        for row in range(rows):
            count = int(rng.integers(counts[0], counts[1] + 1))
            values = rng.integers(self.fmt.lowest, self.fmt.highest, (count, tile), endpoint=True)
            chance = density if density is not None else rng.choice([0, 0.02, 0.3, 1])
            keep = (rng.random((count, tile)) < chance) & (values != 0)
            values = np.where(keep, values, 0)
            for vector in range(count):
                self.memory[address + vector] = (values[vector], keep[vector])
                if keep[vector].any():
                    self.read.append(address + vector)
            tags = {
                "tile_row": int(rng.integers(0, SHAPE["tile_rows"] // tile - count + 1)) * tile,
                "slot": row % SHAPE["partial_sums"],
                "first": bool(rng.integers(2)),
                "final": bool(rng.integers(2)),
                "context": bool(rng.integers(2)),
            }
            self.jobs.append(pack_fields(job_layout, {"address": address, "count": count, **tags}))
            tokens, skipped = stream_row(values, keep, **tags)
            self.tokens += self.payloads(tokens)
            self.skipped += skipped
            address += count + int(rng.integers(0, 3))
        self.masks = ReadMemory(dut, "masks", self._keep, field="keep", pace=mask_pace)
        self.values = ReadMemory(dut, "values", self._vector, field="vector", pace=value_pace)
        self.skip_strobes = 0

    def payloads(self, tokens):
        """What leaves for the tokens of one row, raw."""
        tile = SHAPE["tile"]
        layout = scalar_layout(self.fmt, **SHAPE, scalars_per_beat=self.beat)
        scalars = tokens
        if self.beat > 1:
            scalars = beats_of(tokens, tile=tile, scalars_per_beat=self.beat)
        return [pack_scalars(layout, one, fmt=self.fmt, tile=tile) for one in scalars]

    def _keep(self, address):
        return pack(self.memory[address][1].astype(np.int64), 1)

    def _vector(self, address):
        values, _ = self.memory[address]
        return pack(values, self.fmt.width) | self._keep(address) << (
            self.fmt.width * SHAPE["tile"]
        )

    async def start(self):
        await start(self.dut)
        self.masks.start()
        self.values.start()
        cocotb.start_soon(self._watch())

    async def _watch(self):
        while True:
            await self.dut.clk.rising_edge
            self.skip_strobes += int(self.dut.skipped.value)

    async def finish(self):
        """Nothing is left over, and only vectors that count were read."""
        for _ in range(60):
            await self.dut.clk.rising_edge
            assert not self.dut.scalars__valid.value
        assert not self.dut.busy.value
        assert self.skip_strobes == self.skipped
        assert self.values.addresses == self.read
        assert self.masks.addresses == list(self.memory)


@cocotb.test()
@cocotb.parametrize(
    source_pace=[1.0, 0.3], sink_pace=[1.0, 0.3], memory_pace=[1.0, 0.5], density=[None, 0.1]
)
async def matches_golden(dut, source_pace, sink_pace, memory_pace, density):
    """Rows of all densities come out as the model says, whatever the pace."""
    bench = Bench(
        dut,
        rows=60,
        density=density,
        seed=cocotb.RANDOM_SEED,
        mask_pace=memory_pace,
        value_pace=memory_pace,
    )
    source = StreamSource(dut, "jobs", pace=source_pace)
    sink = StreamSink(dut, "scalars", pace=sink_pace)
    await bench.start()
    driver = cocotb.start_soon(source.put_all(bench.jobs))
    for token in bench.tokens:
        assert await sink.get() == token
    await driver
    await bench.finish()


@cocotb.test()
async def single_elements(dut):
    """One effectual element per row at each place, and every combination of tags."""
    bench = Bench(dut, rows=1, density=0, seed=1)
    tile = SHAPE["tile"]
    layout = RowJob(SHAPE["tile_rows"], SHAPE["partial_sums"])
    bench.memory.clear()
    bench.jobs, bench.tokens, bench.read, bench.skipped = [], [], [], 0
    for place in range(4 * tile):
        for tag in range(8):
            values = np.zeros((3, tile), dtype=np.int64)
            if place < 3 * tile:
                values.flat[place] = bench.fmt.lowest if tag & 1 else bench.fmt.highest
            keep = values != 0
            address = 3 * (8 * place + tag)
            for vector in range(3):
                bench.memory[address + vector] = (values[vector], keep[vector])
                bench.read += [address + vector] if keep[vector].any() else []
            tags = {"tile_row": 128, "slot": tag, "first": bool(tag & 1), "final": bool(tag & 2)}
            tags |= {"context": bool(tag & 4)}
            bench.jobs.append(pack_fields(layout, {"address": address, "count": 3, **tags}))
            tokens, skipped = stream_row(values, keep, **tags)
            bench.tokens += bench.payloads(tokens)
            bench.skipped += skipped
    source, sink = StreamSource(dut, "jobs"), StreamSink(dut, "scalars")
    await bench.start()
    driver = cocotb.start_soon(source.put_all(bench.jobs))
    for token in bench.tokens:
        assert await sink.get() == token
    await driver
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(counts=[(8, 8), (1, 8), (1, 1)], density=[1.0, 0.5, 0.25])
async def has_no_bubble(dut, counts, density):
    """With memory and lanes free, a scalar leaves in every cycle once the first one has."""
    bench = Bench(dut, rows=100, density=density, seed=cocotb.RANDOM_SEED, counts=counts)
    source, sink = StreamSource(dut, "jobs"), StreamSink(dut, "scalars")
    await bench.start()
    cocotb.start_soon(source.put_all(bench.jobs))
    assert await sink.get() == bench.tokens[0]
    dut.scalars__ready.value = 1
    for token in bench.tokens[1:]:
        await dut.clk.rising_edge
        assert dut.scalars__valid.value
        assert dut.scalars__payload.value.to_unsigned() == token


@cocotb.test()
async def keeps_up_at_one_in_sixteen(dut):
    """At one effectual element per vector, a scalar leaves in every cycle."""
    bench = Bench(dut, rows=1, density=0, seed=1)
    tile = SHAPE["tile"]
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    layout = RowJob(SHAPE["tile_rows"], SHAPE["partial_sums"])
    bench.memory.clear()
    bench.jobs, bench.tokens = [], []
    for row in range(100):
        count = int(rng.integers(1, 9))
        values = np.zeros((count, tile), dtype=np.int64)
        values[np.arange(count), rng.integers(0, tile, count)] = row + 1
        for vector in range(count):
            bench.memory[8 * row + vector] = (values[vector], values[vector] != 0)
        tags = {"tile_row": 0, "slot": 0, "first": True, "final": False, "context": True}
        bench.jobs.append(pack_fields(layout, {"address": 8 * row, "count": count, **tags}))
        tokens, _ = stream_row(values, values != 0, **tags)
        bench.tokens += bench.payloads(tokens)
    source, sink = StreamSource(dut, "jobs"), StreamSink(dut, "scalars")
    await bench.start()
    cocotb.start_soon(source.put_all(bench.jobs))
    assert await sink.get() == bench.tokens[0]
    dut.scalars__ready.value = 1
    for token in bench.tokens[1:]:
        await dut.clk.rising_edge
        assert dut.scalars__valid.value
        assert dut.scalars__payload.value.to_unsigned() == token
