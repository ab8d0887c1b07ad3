# amaranth: UnusedElaboratable=no
"""Drain: which sums leave, where to, and in what order."""

from dataclasses import dataclass, field

import cocotb
import numpy as np
import pytest
from cocotb.queue import Queue
from cocotb.triggers import Event

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.compute.drain import TICKETS, Drain, FinishedRow
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.tile_ports import BIAS_TILES
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

FORMAT = FixedPoint(int_bits=1, frac_bits=2)
SHAPE = {"fmt": FORMAT, "tile": 4, "inner": 16}
WIDTH = 4 * sum_width(fmt=FORMAT, inner=16)
ADDRESSES = (1 << ADDRESS_WIDTH) - 1


@pytest.mark.parametrize(("lanes", "streams", "banks"), [(8, 4, 2), (6, 2, 1), (3, 1, 4)])
def test_drain(lanes, streams, banks, request):
    array = {"lanes": lanes, "streams": streams, "banks": banks}
    simulate(
        Drain(**SHAPE, **array),
        bench=__name__,
        parameters=array,
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"streams": 3}, "Number of streams must be a power of two that divides 4 lanes, not 3"),
        ({"streams": 8}, "Number of streams must be a power of two that divides 4 lanes, not 8"),
        ({"banks": 3}, "Number of banks must be a power of two, not 3"),
        ({"depth": 0}, "Depth must be at least 1, not 0"),
    ],
)
def test_rejects(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Drain(**SHAPE, **{"lanes": 4, "streams": 2, "banks": 2, **wrong})


# What follows runs inside the simulator, once for each parametrisation of test_drain.


@dataclass
class Batch:
    """Rows of one context: streams and words that they use, and what each row has."""

    context: int
    streams: int
    words: list[int]
    rows: list[dict[str, int]]
    sums: list[dict[int, int]]
    """Of each row: by word."""
    taken: Event = field(default_factory=Event)


class Bench:
    """Lanes that have sums, and a taker that knows what they should be."""

    def __init__(self, dut, *, pace=1.0, sink_pace=1.0):
        self.dut = dut
        self.lanes, self.streams = parameters()["lanes"], parameters()["streams"]
        self.banks = parameters()["banks"]
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.index = int(self.rng.integers(self.banks))
        self.pace = pace
        self.row_sources = [StreamSource(dut, f"rows__{s}") for s in range(self.streams)]
        self.lane_sources = [StreamSource(dut, f"sums__{lane}") for lane in range(self.lanes)]
        self.lane_queues = [Queue() for _ in range(self.lanes)]
        self.sink = StreamSink(dut, "o", pace=sink_pace)
        self.cycle = 0
        self.taken_at, self.taken_as = [], []
        self.waiting = [0] * BIAS_TILES
        """By tile: vectors to be taken of rows that were given."""
        dut.context.value = dut.lane_enable.value = dut.stream_count.value = 0
        if self.banks > 1:
            dut.index.value = self.index

    def batch(self, number, *, streams=None, words=None, rows=None):
        rng = self.rng
        streams = streams or 1 << int(rng.integers(self.streams.bit_length()))
        most = self.lanes // streams
        if words is None:
            words = sorted({int(word) for word in rng.integers(most, size=most)})
        count = rows or int(rng.integers(1, 60))
        base = (number << 16) + self.banks * int(rng.integers(2**10))
        return Batch(
            context=number % 2,
            streams=streams,
            words=words,
            rows=[
                {
                    "address": base + row * most * self.banks,
                    "tile": int(rng.integers(BIAS_TILES)),
                    "context": number % 2,
                    "ticket": int(rng.integers(TICKETS)),
                }
                for row in range(count)
            ],
            sums=[
                {word: int.from_bytes(rng.bytes(8), "little") % (1 << WIDTH) for word in words}
                for _ in range(count)
            ],
        )

    async def run(self, batches):
        """Give the rows of all batches as fast as the device takes them, and check its order."""
        dut = self.dut
        self.batches = batches
        await start(dut)
        cocotb.start_soon(self._watch())
        for lane in range(self.lanes):
            cocotb.start_soon(self._feed_lane(lane))
        giving = cocotb.start_soon(self._give(batches))
        for batch in batches:
            dut.context.value = batch.context
            dut.stream_count.value = batch.streams
            dut.lane_enable.value = sum(
                1 << lane for lane in range(self.lanes) if lane // batch.streams in batch.words
            )
            await self._check(batch)
            batch.taken.set()
        await giving
        for _ in range(self.lanes + 5):
            await dut.clk.rising_edge
            assert not dut.o__valid.value
        assert not dut.draining.value

    async def _give(self, batches):
        """Rows of a batch go to its streams in turn; their sums are finished later."""
        for number, batch in enumerate(batches):
            if number > 1:
                await batches[number - 2].taken.wait()
            tasks = [
                cocotb.start_soon(self._give_stream(batch, stream))
                for stream in range(batch.streams)
            ]
            for task in tasks:
                await task

    async def _give_stream(self, batch, stream):
        for row in range(stream, len(batch.rows), batch.streams):
            await self.row_sources[stream].put(pack_fields(FinishedRow(), batch.rows[row]))
            self.waiting[batch.rows[row]["tile"]] += len(batch.words)
            while self.rng.random() >= self.pace:
                await self.dut.clk.rising_edge
            for word, sums in batch.sums[row].items():
                self.lane_queues[word * batch.streams + stream].put_nowait(sums)

    async def _feed_lane(self, lane):
        while True:
            await self.lane_sources[lane].put(await self.lane_queues[lane].get())

    async def _watch(self):
        """Note when and as what sums are taken; compare ``draining`` with what is to come."""
        dut = self.dut
        waiting = [0] * BIAS_TILES
        while True:
            await dut.clk.rising_edge
            self.cycle += 1
            for tile, left in enumerate(waiting):
                assert not left or int(dut.draining.value) >> tile & 1
            if dut.take.value:
                self.taken_at.append(self.cycle)
                self.taken_as.append((int(dut.tile_number.value), int(dut.word.value)))
                self.waiting[int(dut.tile_number.value)] -= 1
            waiting = list(self.waiting)

    async def _check(self, batch):
        next_rows = list(range(batch.streams))
        most = self.lanes // batch.streams
        base = batch.rows[0]["address"]
        for _ in batch.rows:
            row = None
            for word in batch.words:
                raw = await self.sink.get()
                address, ticket = raw >> WIDTH & ADDRESSES, raw >> WIDTH + ADDRESS_WIDTH
                if row is None:
                    row = (address - base) // (most * self.banks)
                    assert row in next_rows, "rows of a stream out of order"
                    next_rows[row % batch.streams] += batch.streams
                fields = batch.rows[row]
                assert address == fields["address"] + word * self.banks + self.index
                assert ticket == fields["ticket"]
                assert raw % (1 << WIDTH) == batch.sums[row][word]
                assert self.taken_as.pop(0) == (fields["tile"], word)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(paces=[(1.0, 1.0), (0.2, 1.0), (1.0, 0.3)])
async def takes_rows_in_order(dut, paces):
    """Batches with any streams and words follow one another; rows of the next one wait."""
    bench = Bench(dut, pace=paces[0], sink_pace=paces[1])
    await bench.run([bench.batch(number) for number in range(12)])


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def waits_for_the_other_context(dut):
    """Nothing is taken of rows of another context, whatever the lanes have."""
    bench = Bench(dut)
    await start(dut)
    batch = bench.batch(1, streams=1, words=[0], rows=3)
    dut.stream_count.value = 1
    dut.lane_enable.value = 1
    for lane in range(bench.lanes):
        cocotb.start_soon(bench._feed_lane(lane))
    await bench._give([batch])
    for _ in range(30):
        await dut.clk.rising_edge
        assert not dut.take.value
    dut.context.value = 1
    cocotb.start_soon(bench._watch())
    await bench._check(batch)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def takes_a_word_per_cycle(dut):
    """A row takes a cycle per word, enabled or not, while another stream has one."""
    bench = Bench(dut)
    batch = bench.batch(0, streams=bench.streams, rows=48)
    await bench.run([batch])
    words = bench.lanes // bench.streams
    alone = bench.streams == 1
    cycles = 48 * (words + alone)
    assert bench.taken_at[-1] - bench.taken_at[0] <= cycles
