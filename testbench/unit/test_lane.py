# amaranth: UnusedElaboratable=no
"""All MAC lanes against exact sums: one bench, because they differ in nothing but time."""

from dataclasses import dataclass, field
from functools import partial

import cocotb
import numpy as np
import numpy.typing as npt
import pytest
from cocotb.utils import get_sim_time

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.broadcast_lane import BroadcastLane
from acceltran.compute.dot_lane import DotLane
from acceltran.compute.window_lane import WindowLane
from acceltran_sim.golden.product import exact_sums
from acceltran_sim.golden.row_streamer import Beat, Token
from testbench.harness.beats import cut_beats, pack_scalars
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack

LANES = {
    "broadcast": BroadcastLane,
    "dot": DotLane,
    "window8": partial(WindowLane, window=8),
    "window16": partial(WindowLane, window=16),
}
NARROW_LANES = {
    "broadcast4": partial(BroadcastLane, multipliers=4),
    "broadcast1": partial(BroadcastLane, multipliers=1),
}
CASES = [
    *((lane, *case) for lane in LANES for case in ((16, 16, 2), (12, 16, 3), (8, 8, 1))),
    *(("broadcast4", 12, 16, 3), ("broadcast4", 8, 8, 1), ("broadcast1", 16, 16, 2)),
]
INNER = 256
TILE_ROWS = 64
PARTIAL_SUMS = 8


def build(lane: str, frac_bits: int, tile: int, stages: int):
    return {**LANES, **NARROW_LANES}[lane](
        fmt=FixedPoint(int_bits=4, frac_bits=frac_bits),
        tile=tile,
        inner=INNER,
        tile_rows=TILE_ROWS,
        partial_sums=PARTIAL_SUMS,
        multiplier_stages=stages,
    )


@pytest.mark.parametrize(("lane", "frac_bits", "tile", "stages"), CASES)
def test_lane(lane, frac_bits, tile, stages, request):
    simulate(
        build(lane, frac_bits, tile, stages),
        bench=__name__,
        parameters={"lane": lane, "frac_bits": frac_bits, "tile": tile, "stages": stages},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tile", 12, "Tile must be a power of two of at least 4, not 12"),
        ("tile", 2, "Tile must be a power of two of at least 4, not 2"),
        ("inner", 0, "Inner dimension must be at least 1, not 0"),
        ("tile_rows", 40, "Tile rows must be a multiple of the tile 16, not 40"),
        ("tile_rows", 0, "Tile rows must be a multiple of the tile 16, not 0"),
        ("partial_sums", 1, "Partial sums must be at least 2, not 1"),
        ("multiplier_stages", 0, "Multiplier stages must be at least 1, not 0"),
    ],
)
def test_rejects(lane, key, value, message):
    good = {"tile": 16, "inner": 64, "tile_rows": 64, "partial_sums": 4, "multiplier_stages": 2}
    with pytest.raises(ValueError, match=rf"^{message}$"):
        LANES[lane](fmt=FixedPoint(int_bits=4, frac_bits=16), **{**good, key: value})


def test_refuses_multipliers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^Multipliers must divide the tile 16, not 3$"):
        BroadcastLane(
            fmt=FixedPoint(int_bits=4, frac_bits=16),
            tile=16,
            inner=64,
            tile_rows=64,
            partial_sums=4,
            multipliers=3,
        )


# What follows runs inside the simulator, once for each parametrisation of test_lane.


@dataclass
class Row:
    """One row of one chunk: (tile row, value) pairs, None for a scalar without product."""

    slot: int
    resume: bool
    final: bool
    scalars: list[tuple[int, int] | None]


@dataclass
class Chunk:
    """A half of the tile, and the rows that multiply it."""

    first_row: int
    tile: npt.NDArray[np.int64]
    rows: list[Row] = field(default_factory=list)


class Bench:
    """Drives one lane, and counts what its strobes say."""

    def __init__(self, dut, *, source_pace=1.0, sink_pace=1.0):
        chosen = parameters()
        self.name = chosen["lane"]
        self.lane = build(**chosen)
        self.beats = self.lane.beats if isinstance(self.lane, BroadcastLane) else 1
        self.fmt, self.tile = self.lane.fmt, self.lane.tile
        self.beat_limit = self.lane.SCALARS_PER_BEAT
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.dut = dut
        self.source = StreamSource(dut, "scalars", pace=source_pace)
        self.sink = StreamSink(dut, "sums", pace=sink_pace)
        self.counts = {"issued": 0, "effectual_products": 0}
        dut.enable.value = 1
        dut.tile_write__valid.value = 0

    async def start(self):
        await start(self.dut)
        cocotb.start_soon(self._count())

    async def _count(self):
        while True:
            await self.dut.clk.rising_edge
            for name in self.counts:
                self.counts[name] += int(self.dut[name].value)

    async def write_tile(self, chunk):
        """Write all rows of the chunk's tile, one per cycle."""
        for index, values in enumerate(chunk.tile):
            self.dut.tile_write__valid.value = 1
            self.dut.tile_write__row.value = chunk.first_row + index
            self.dut.tile_write__values.value = pack(values, self.fmt.width)
            self.dut.tile_write__keep.value = pack((values != 0).astype(np.int64), 1)
            await self.dut.clk.rising_edge
        self.dut.tile_write__valid.value = 0

    def encode(self, scalars, row, *, first, last):
        """Payload of scalars of one block; one of None stands for a scalar without product."""
        effectual = [scalar for scalar in scalars if scalar is not None]
        tile_row, value = [*effectual, self.rng.integers(0, TILE_ROWS, 2).tolist()][0]
        tags = {
            "row": tile_row,
            "slot": row.slot,
            "first": first,
            "resume": row.resume if first else bool(self.rng.integers(2)),
            "last": last,
            "final": row.final if last else bool(self.rng.integers(2)),
        }
        if self.beat_limit == 1:
            payload = Token(value=value, effectual=bool(effectual), **tags)
        else:
            rows, values = zip(*effectual, strict=True) if effectual else ((), ())
            payload = Beat(values=values, rows=rows, **tags)
        layout = self.lane.scalars.payload.shape()
        return pack_scalars(layout, payload, fmt=self.fmt, tile=self.tile)

    async def send(self, row):
        """Send the scalars of a row."""
        beats = cut_beats(row.scalars, tile=self.tile, limit=self.beat_limit, rng=self.rng)
        for index, beat in enumerate(beats):
            first, last = index == 0, index == len(beats) - 1
            await self.source.put(self.encode(beat, row, first=first, last=last))

    async def receive(self):
        return unpack(await self.sink.get(), self.lane.sum_width, self.tile)

    async def drain(self):
        """Wait until the lane says that it is empty."""
        while True:
            await self.dut.clk.rising_edge
            if self.dut.empty.value:
                return

    def random_row(self, chunk, *, density, row):
        """Fill in random scalars for ``chunk``, some of them without product."""
        picked = np.flatnonzero(self.rng.random(len(chunk.tile)) < density)
        if self.rng.random() < 0.1:
            self.rng.shuffle(picked)
        low, high = self.fmt.lowest, self.fmt.highest
        for index in picked:
            value = low if density == 2 else int(self.rng.integers(low, high, endpoint=True)) or 1
            row.scalars.append((chunk.first_row + int(index), value))
        for place in self.rng.integers(0, len(row.scalars) + 1, self.rng.integers(0, 3)):
            row.scalars.insert(int(place), None)
        if not row.scalars:
            row.scalars.append(None)

    def random_chunk(self, index, pending, *, density, rows):
        """Random tile and rows; ``pending`` holds the slots that have unfinished sums."""
        half = TILE_ROWS // 2
        values = self.rng.integers(
            self.fmt.lowest, self.fmt.highest, (half, self.tile), endpoint=True
        )
        values[self.rng.random(values.shape) >= density] = 0
        if density == 2:  # the largest sums that can be
            values[:] = self.fmt.lowest
        chunk = Chunk(first_row=half * (index % 2), tile=values)
        for _ in range(rows):
            slot = int(self.rng.integers(PARTIAL_SUMS))
            row = Row(slot, slot in pending, bool(self.rng.random() < 0.6), [])
            pending.discard(slot) if row.final else pending.add(slot)
            self.random_row(chunk, density=density, row=row)
            chunk.rows.append(row)
        return chunk

    def expect(self, chunks):
        """Sums of all final rows in order, and what the strobes must count."""
        unfinished = {}
        finished = []
        counts = {"issued": 0, "effectual_products": 0}
        if self.beat_limit > 1:  # each multiplier issues in cycles of its own
            del counts["issued"]
        for chunk in chunks:
            for row in chunk.rows:
                a = np.zeros(len(chunk.tile), dtype=np.int64)
                blocks = []
                for scalar in row.scalars:
                    if scalar is not None:
                        index = scalar[0] - chunk.first_row
                        a[index] = scalar[1]
                        blocks.append(scalar[0] // self.tile)
                        counts["effectual_products"] += int(np.count_nonzero(chunk.tile[index]))
                changes = sum(x != y for x, y in zip([None, *blocks], blocks, strict=False))
                if isinstance(self.lane, BroadcastLane):
                    counts["issued"] += self.beats * len(blocks)
                elif self.name == "dot":
                    counts["issued"] += self.tile * changes
                sums = exact_sums(a, chunk.tile, fmt=self.fmt)
                if row.resume:
                    sums = sums + unfinished.pop(row.slot)
                if row.final:
                    finished.append(sums)
                else:
                    unfinished[row.slot] = sums
        return finished, counts

    async def drive(self, chunks):
        """Send the rows of each chunk while the tile of the next one is written."""
        await self.write_tile(chunks[0])
        for index, chunk in enumerate(chunks):
            after = chunks[index + 1 : index + 2]
            writers = [cocotb.start_soon(self.write_tile(chunk)) for chunk in after]
            for row in chunk.rows:
                await self.send(row)
            for writer in writers:
                await writer
            while self.dut.reading.value:
                await self.dut.clk.rising_edge

    async def check(self, chunks):
        """Drive all chunks; compare all sums and counts."""
        sums, counts = self.expect(chunks)
        before = dict(self.counts)
        driver = cocotb.start_soon(self.drive(chunks))
        for expected in sums:
            np.testing.assert_array_equal(await self.receive(), expected)
        await driver
        await self.drain()
        await self.dut.clk.rising_edge
        assert {name: self.counts[name] - before[name] for name in counts} == counts


def now():
    """Rising edges since the start of the simulation."""
    return round(get_sim_time("ns")) // 10


@cocotb.test()
@cocotb.parametrize((
    ("source_pace", "sink_pace"),
    [(1.0, 1.0), (0.5, 1.0), (1.0, 0.03), (0.5, 0.3)],
))
async def matches_golden(dut, source_pace, sink_pace):
    """Random chunks of every density come out as exact sums, whatever the pace."""
    bench = Bench(dut, source_pace=source_pace, sink_pace=sink_pace)
    await bench.start()
    pending = set()
    densities = [0.5, 1.0, 0.1, 0.0, 0.25, 0.02, 0.9]
    await bench.check([
        bench.random_chunk(index, pending, density=density, rows=12)
        for index, density in enumerate(densities)
    ])


@cocotb.test()
@cocotb.parametrize(sink_pace=[1.0, 0.1])
async def resumes_what_was_just_left(dut, sink_pace):
    """A row may follow, at any distance, the row that leaves what it resumes."""
    bench = Bench(dut, sink_pace=sink_pace)
    await bench.start()
    chunk = bench.random_chunk(0, set(), density=1.0, rows=0)
    for others in [*range(6), 0, 0]:
        chunk.rows.append(Row(5, False, False, [(others, 7)]))
        for slot in range(others):
            resume = any(row.slot == slot for row in chunk.rows)
            chunk.rows.append(Row(slot % 5, resume, False, [(others + 1, slot - 9)]))
        chunk.rows.append(Row(5, True, True, [(others + 2, 11)]))
    await bench.check([chunk])


@cocotb.test()
async def holds_the_largest_sum(dut):
    """The sum of ``inner`` products of lowest elements is exact."""
    bench = Bench(dut)
    await bench.start()
    chunks = []
    for index in range(2 * INNER // TILE_ROWS):
        chunk = bench.random_chunk(index, set(), density=2, rows=0)
        row = Row(3, index > 0, index == 2 * INNER // TILE_ROWS - 1, [])
        bench.random_row(chunk, density=2, row=row)
        chunk.rows.append(row)
        chunks.append(chunk)
    sums, _ = bench.expect(chunks)
    assert sums[0].tolist() == [INNER * bench.fmt.lowest**2] * bench.tile
    await bench.check(chunks)


@cocotb.test()
async def ignores_scalars_when_disabled(dut):
    """A disabled lane takes a scalar per cycle and does nothing, then works as if nothing was."""
    bench = Bench(dut)
    await bench.start()
    chunk = bench.random_chunk(0, set(), density=0.5, rows=0)
    await bench.write_tile(chunk)
    row = Row(0, False, True, [])
    bench.random_row(chunk, density=0.5, row=row)
    dut.enable.value = 0
    begin = now()
    await bench.send(row)
    assert len(row.scalars) / bench.beat_limit <= now() - begin <= len(row.scalars)
    for _ in range(bench.lane.LATENCY + 2):
        assert dut.empty.value
        assert not dut.sums__valid.value
        await dut.clk.rising_edge
    assert bench.counts == {"issued": 0, "effectual_products": 0}
    dut.enable.value = 1
    chunk.rows.append(row)
    await bench.check([chunk])


@cocotb.test()
async def has_the_documented_latency(dut):
    """Sums are offered at the LATENCY-th edge after that which accepts the last scalar."""
    bench = Bench(dut)
    await bench.start()
    assert dut.empty.value
    await bench.source.put(bench.encode([None], Row(0, False, True, []), first=True, last=True))
    for _ in range(bench.lane.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.sums__valid.value
        assert not dut.empty.value
    await dut.clk.rising_edge
    assert dut.sums__valid.value
    assert not bench.sink._ready.value
    assert (await bench.receive()).tolist() == [0] * bench.tile
    await dut.clk.rising_edge
    assert dut.empty.value


@cocotb.test()
async def accepts_a_scalar_per_cycle(dut):
    """Neither the end of a row nor sums that wait for a while hold up the scalars.

    Where a row of the tile takes several beats, each scalar takes as many cycles.
    """
    bench = Bench(dut)
    await bench.start()
    chunk = bench.random_chunk(0, set(), density=1.0, rows=0)
    if bench.beat_limit > 1:  # as many scalars as it takes, if the tile has a single column
        chunk.tile[:, 1:] = 0
    await bench.write_tile(chunk)
    scalars: list[tuple[int, int] | None] = [(index, 1) for index in range(bench.tile)]
    begin = now()
    for _ in range(2):
        await bench.send(Row(0, False, True, scalars))
    assert now() - begin <= 2 * bench.tile * bench.beats
    await bench.receive()
    await bench.receive()


@cocotb.test()
async def stands_still_while_sums_wait(dut):
    """With sums waiting the lane finishes one more row, then refuses scalars and loses nothing."""
    bench = Bench(dut)
    await bench.start()
    chunk = bench.random_chunk(0, set(), density=0.5, rows=0)
    for slot in range(PARTIAL_SUMS):
        row = Row(slot, False, True, [])
        bench.random_row(chunk, density=0.5, row=row)
        chunk.rows.append(row)
    sums, _ = bench.expect([chunk])
    driver = cocotb.start_soon(bench.drive([chunk]))
    for _ in range(400 * bench.beats):
        await dut.clk.rising_edge
    assert dut.sums__valid.value
    assert not dut.scalars__ready.value
    for expected in sums:
        np.testing.assert_array_equal(await bench.receive(), expected)
    await driver
    await bench.drain()
