# amaranth: UnusedElaboratable=no
"""ProcessingElement against exact sums and the golden epilogue, bit for bit."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import Event

from acceltran.arch.activation import Activation
from acceltran.arch.commands import THRESHOLDS
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import TICKETS, FinishedRow
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.compute.lane import HALVES, scalar_layout
from acceltran.compute.lane_kinds import scalars_per_beat
from acceltran.memory.tile_ports import BIAS_TILES
from acceltran.pe import CONTEXTS, ProcessingElement
from acceltran_sim.golden.epilogue import epilogue
from acceltran_sim.golden.product import exact_sums
from acceltran_sim.golden.row_streamer import beats_of, stream_row
from testbench.harness.beats import pack_scalars
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack

TILE = 16
SHAPE = {"tile": TILE, "inner": 1024, "tile_rows": 64, "partial_sums": 8}
HALF_ROWS = SHAPE["tile_rows"] // 2


@pytest.mark.parametrize(
    ("lane", "window", "frac_bits", "lanes", "streams", "pes", "ports"),
    [
        ("broadcast", 0, 16, 4, 4, 2, 1),
        ("broadcast", 0, 12, 6, 2, 1, 2),
        ("broadcast", 8, 12, 2, 2, 2, 1),
        ("dot", 0, 8, 2, 2, 4, 2),
    ],
)
def test_pe(lane, window, frac_bits, lanes, streams, pes, ports, request):
    array = {"lane": lane, "lanes": lanes, "streams": streams, "pes": pes, "ports": ports}
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    simulate(
        ProcessingElement(fmt=fmt, weight_window=window, **array, **SHAPE),
        bench=__name__,
        parameters={"frac_bits": frac_bits, "window": window, **array},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lane": "systolic"}, "Lane must be one of broadcast, dot, not 'systolic'"),
        (
            {"lane": "dot", "weight_window": 8},
            "Lane must be broadcast with a weight window, not 'dot'",
        ),
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"streams": 3}, "Number of streams must be a power of two that divides 4 lanes, not 3"),
        ({"streams": 8}, "Number of streams must be a power of two that divides 4 lanes, not 8"),
        ({"pes": 3}, "Number of PEs must be a power of two, not 3"),
        ({"ports": 3}, "Number of ports must be a power of two that divides 4 lanes, not 3"),
        ({"ports": 8}, "Number of ports must be a power of two that divides 4 lanes, not 8"),
    ],
)
def test_rejects(wrong, message):
    good = {"lane": "broadcast", "lanes": 4, "streams": 2, "pes": 1, "ports": 1}
    with pytest.raises(ValueError, match=f"^{message}$"):
        ProcessingElement(fmt=FixedPoint(int_bits=4, frac_bits=8), **SHAPE, **{**good, **wrong})


# What follows runs inside the simulator, once for each parametrisation of test_pe.


class Pass:
    """A product of as many words as the lanes hold, and what it should give."""

    def __init__(self, bench, number, *, streams, words, rows, chunks, density, function):
        rng, fmt = bench.rng, bench.fmt
        self.context = number % CONTEXTS
        self.streams, self.words, self.rows = streams, words, rows
        self.counts = [int(rng.integers(1, 3)) for _ in range(chunks)]
        columns = bench.lanes // streams
        self.a = bench.random(rows, sum(self.counts), TILE, density=density)
        self.b = bench.random(sum(self.counts) * TILE, columns, TILE, density=0.8)
        self.bias = bench.random(columns, TILE)
        self.base = (number << 16) + int(rng.integers(2**12)) * bench.pes
        self.stride = columns * bench.pes
        given: dict[str, int] = {
            "bias_shift": int(rng.integers(0, 20)),
            "shift": fmt.frac_bits + int(rng.integers(0, 5)),
            "function": int(function),
            "gelu_input_shift": int(rng.integers(0, 3)),
            "gelu_output_shift": int(rng.integers(0, 3)),
            "threshold": int(rng.integers(0, fmt.highest // 8)),
        }
        entry = {"entry": int(rng.integers(THRESHOLDS))}
        self.parameters = pack_fields(EpilogueParameters(fmt), given | entry)
        flat_a, flat_b = self.a.reshape(rows, -1), self.b[:, words].reshape(len(self.b), -1)
        sums = exact_sums(flat_a, flat_b, fmt=fmt).reshape(rows, len(words), TILE)
        self.values, self.keep, self.saturated = epilogue(
            sums, bias=self.bias[words], fmt=fmt, **{**given, "function": function}
        )
        self.effectual_products = int(((flat_a != 0).astype(int) @ (flat_b != 0)).sum())
        self.issued = int(np.count_nonzero(self.a)) * len(words)
        self.final_tile = 0
        self.settled, self.loaded, self.fed = Event(), Event(), Event()
        """Settings are made; the final tile is loaded; all scalars are taken."""
        self.tickets = [int(ticket) for ticket in rng.integers(TICKETS, size=rows)]
        self.finished = [Event() for _ in range(rows)]
        """The row has been given as one that will finish."""
        self.enable = sum(1 << lane for lane in range(bench.lanes) if lane // streams in words)

    def row(self, address):
        """Row of which a vector at ``address`` is part."""
        return (address - self.base) // self.stride

    def address(self, bench, row, word):
        return self.base + row * self.stride + word * bench.pes + bench.index


class Bench:
    """One PE, the passes that it is given, and the writes to expect."""

    def __init__(self, dut, *, source_pace=1.0, sink_pace=1.0):
        self.dut = dut
        chosen = parameters()
        self.fmt = FixedPoint(int_bits=4, frac_bits=chosen["frac_bits"])
        self.lane, self.lanes, self.pes = chosen["lane"], chosen["lanes"], chosen["pes"]
        self.streams, self.ports = chosen["streams"], chosen["ports"]
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.index = int(self.rng.integers(self.pes))
        self.window = chosen["window"]
        self.sources = [
            StreamSource(dut, f"scalars__{s}", pace=source_pace) for s in range(self.streams)
        ]
        self.row_sources = [StreamSource(dut, f"rows__{s}") for s in range(self.streams)]
        self.sink = StreamSink(dut, "o", pace=sink_pace)
        self.counts = {"saturated": 0, "issued": 0, "effectual_products": 0}
        self.entered = [0] * TICKETS
        """By ticket: vectors that have been asked for, less those written."""
        self.under_way = [0] * CONTEXTS
        self.overlapped = False
        for port in range(self.ports):
            dut[f"tile_write__{port}__valid"].value = 0
            dut[f"bias_write__{port}__valid"].value = 0
        dut.context.value = 0
        for context in range(CONTEXTS):
            dut[f"lane_enable__{context}"].value = 0
            dut[f"stream_count__{context}"].value = 0
        if self.pes > 1:
            dut.index.value = self.index

    async def _count(self):
        """Add up the counters; compare ``kept`` and ``pending`` with what was seen before."""
        dut = self.dut
        pending, kept = [0] * TICKETS, [0] * CONTEXTS
        while True:
            await dut.clk.rising_edge
            for name in self.counts:
                self.counts[name] += int(dut[name].value)
            assert [int(dut[f"kept__{c}"].value) for c in range(CONTEXTS)] == kept
            assert dut.pending.value == sum((count > 0) << t for t, count in enumerate(pending))
            for work, row in self._rows_given():
                self.entered[work.tickets[row]] += len(work.words)
                self.under_way[work.context] += len(work.words)
                self.overlapped |= all(self.under_way)
            kept = [0] * CONTEXTS
            if dut.o__valid.value and dut.o__ready.value:
                word = dut.o__payload.value.to_unsigned()
                work = self.passes[(word & 0xFFFFFF) >> 16]
                kept[work.context] = (word >> 24 + TILE * self.fmt.width).bit_count()
                self.entered[work.tickets[work.row(word & 0xFFFFFF)]] -= 1
                self.under_way[work.context] -= 1
            pending = list(self.entered)

    def _rows_given(self):
        for s in range(self.streams):
            if self.dut[f"rows__{s}__valid"].value and self.dut[f"rows__{s}__ready"].value:
                address = self.dut[f"rows__{s}__payload"].value.to_unsigned() & 0xFFFFFF
                work = self.passes[address >> 16]
                yield work, work.row(address)

    def random(self, *shape, density=1.0):
        values = self.rng.integers(self.fmt.lowest, self.fmt.highest, shape, endpoint=True)
        values.flat[:2] = [self.fmt.lowest, self.fmt.highest][: values.size]
        return np.where(self.rng.random(shape) < density, values, 0)

    def random_pass(self, number, **given):
        """One that the PE can hold: any streams and words, one to three chunks."""
        rng = self.rng
        streams = 1 << int(rng.integers(self.streams.bit_length()))
        words = self.lanes // given.get("streams", streams)
        wanted = np.flatnonzero(rng.random(words) < 0.7)
        shape = {
            "streams": streams,
            "words": list(range(words)) if number % 3 == 0 else [int(word) for word in wanted],
            "rows": int(rng.integers(1, SHAPE["partial_sums"] * streams + 1)),
            "chunks": number % 3 + 1,
            "density": 0.05 if number % 2 else 0.5,
            "function": [*Activation][number % len(Activation)],
        }
        return Pass(self, number, **{**shape, **given})

    async def run(self, passes):
        """Run passes, each as soon as its context is free, and check every result."""
        dut = self.dut
        self.passes = passes
        tiles = 0
        for work in passes:
            tiles += len(work.counts)
            work.final_tile = (tiles - 1) % BIAS_TILES
        await start(dut)
        cocotb.start_soon(self._count())
        feeding = cocotb.start_soon(self._feed())
        finishing = cocotb.start_soon(self._finish_rows())
        await self._check()
        await feeding
        await finishing
        for _ in range(20):
            await dut.clk.rising_edge
            assert not dut.o__valid.value
        assert not dut.pending.value
        assert not dut.draining.value
        assert not dut.reading.value
        # Lanes of other kinds issue the products of several scalars at a time.
        one_by_one = self.lane == "broadcast" and not self.window
        names = [name for name in self.counts if one_by_one or name != "issued"]
        for name in names:
            assert self.counts[name] == sum(getattr(work, name) for work in passes), name

    async def _finish_rows(self):
        """Set each context once it is free, and give the rows of its pass, one at a time."""
        dut = self.dut
        for number, work in enumerate(self.passes):
            context = work.context
            # Scalars of the pass before the last are all taken, its results all written.
            if number >= CONTEXTS:
                await self.passes[number - CONTEXTS].fed.wait()
                await dut.clk.rising_edge
                while self.under_way[context]:
                    await dut.clk.rising_edge
            dut[f"lane_enable__{context}"].value = work.enable
            dut[f"stream_count__{context}"].value = work.streams
            dut[f"parameters__{context}"].value = work.parameters
            for _ in range(2):
                await dut.clk.rising_edge
            work.settled.set()
            await work.loaded.wait()
            for row in range(work.rows):
                address = work.base + row * work.stride
                fields = {"address": address, "tile": work.final_tile, "context": context}
                fields["ticket"] = work.tickets[row]
                source = self.row_sources[row % work.streams]
                await source.put(pack_fields(FinishedRow(), fields))
                work.finished[row].set()

    async def _feed(self):
        """Load the tiles of each chunk while the chunk before is streamed, then stream it."""
        dut = self.dut
        feeding: Any = None
        number_of_tile = 0
        for number, work in enumerate(self.passes):
            first = 0
            for chunk, count in enumerate(work.counts):
                final = chunk == len(work.counts) - 1
                # The tile before the last is read, and the biases of an earlier one are used.
                await dut.clk.rising_edge
                half, biases = number_of_tile % HALVES, number_of_tile % BIAS_TILES
                while dut.reading.value or int(dut.draining.value) >> biases & 1:
                    await dut.clk.rising_edge
                part = work.b[first * TILE : (first + count) * TILE]
                await self._load(work, number_of_tile, part, work.bias if final else None)
                if final:
                    work.loaded.set()
                if feeding is not None:
                    await feeding
                if chunk == 0 and number:
                    self.passes[number - 1].fed.set()
                await work.settled.wait()
                dut.context.value = work.context
                feeding = cocotb.start_soon(self._stream(work, chunk, first, count, half))
                first += count
                number_of_tile += 1
        await feeding

    async def _load(self, work, number, tile, bias):
        """Write the tile of every word to the lanes that work on it, and its bias, at all ports."""
        tasks = [
            cocotb.start_soon(self._load_words(port, work, number, tile, bias))
            for port in range(self.ports)
        ]
        for task in tasks:
            await task
        await self.dut.clk.rising_edge

    async def _load_words(self, port, work, number, tile, bias):
        clk = self.dut.clk
        tile_write, bias_write = (
            {
                name: self.dut[f"{kind}__{port}__{name}"]
                for name in names
                if hasattr(self.dut, f"{kind}__{port}__{name}")
            }
            for kind, names in (
                ("tile_write", ("valid", "lanes", "row", "vector")),
                ("bias_write", ("valid", "word", "tile", "vector")),
            )
        )
        for word in range(port, self.lanes // work.streams, self.ports):
            for row, values in enumerate(tile[:, word]):
                keep = pack((values != 0).astype(np.int64), 1)
                tile_write["valid"].value = 1
                tile_write["lanes"].value = sum(
                    1 << (word * work.streams + s) for s in range(work.streams)
                )
                tile_write["row"].value = number % HALVES * HALF_ROWS + row
                tile_write["vector"].value = (
                    pack(values, self.fmt.width) | keep << TILE * self.fmt.width
                )
                if bias is not None:
                    bias_write["valid"].value = row == 0
                    bias_write["word"].value = word
                    bias_write["tile"].value = number % BIAS_TILES
                    bias_write["vector"].value = pack(bias[word], self.fmt.width)
                await clk.rising_edge
        tile_write["valid"].value = 0
        bias_write["valid"].value = 0

    async def _stream(self, work, chunk, first, count, half):
        """Send row r of a chunk to stream r modulo the streams, all of them at a time."""

        async def send(stream):
            for row in range(stream, work.rows, work.streams):
                if chunk == len(work.counts) - 1:
                    await work.finished[row].wait()
                vectors = work.a[row, first : first + count]
                tokens, _ = stream_row(
                    vectors,
                    vectors != 0,
                    tile_row=half * HALF_ROWS,
                    slot=row // work.streams,
                    first=chunk == 0,
                    final=chunk == len(work.counts) - 1,
                    context=bool(work.context),
                )
                await self.sources[stream].put_all(self._payloads(tokens))

        for task in [cocotb.start_soon(send(stream)) for stream in range(work.streams)]:
            await task

    def _payloads(self, tokens):
        beat = scalars_per_beat(self.window)
        layout = scalar_layout(
            self.fmt,
            tile=TILE,
            tile_rows=SHAPE["tile_rows"],
            partial_sums=SHAPE["partial_sums"],
            scalars_per_beat=beat,
        )
        scalars = beats_of(tokens, tile=TILE, scalars_per_beat=beat) if beat > 1 else tokens
        return [pack_scalars(layout, one, fmt=self.fmt, tile=TILE) for one in scalars]

    async def _check(self):
        """Passes come one after the other, rows of a stream in order, words of a row together."""
        for work in self.passes:
            next_rows = list(range(work.streams))
            for _ in range(work.rows if work.words else 0):
                row = None
                for place, word in enumerate(work.words):
                    raw = await self.sink.get()
                    address = raw & 0xFFFFFF
                    if row is None:
                        row = (address - work.base) // work.stride
                        assert row in next_rows
                        next_rows[row % work.streams] += work.streams
                    assert address == work.address(self, row, word)
                    raw >>= 24
                    got = unpack(raw, self.fmt.width, TILE)
                    np.testing.assert_array_equal(got, work.values[row, place])
                    bits = pack(work.keep[row, place].astype(np.int64), 1)
                    assert raw >> TILE * self.fmt.width == bits


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(pace=[(1.0, 1.0), (1.0, 0.3), (0.5, 1.0)])
async def matches_golden(dut, pace):
    """Passes of one to three chunks follow one another, with any streams, lanes and function."""
    bench = Bench(dut, source_pace=pace[0], sink_pace=pace[1])
    passes = [bench.random_pass(number) for number in range(10)]
    await bench.run(passes)
    assert bench.counts["saturated"] > 0


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def every_number_of_streams(dut):
    """One stream to all, one after the other, rows of many streams at a time."""
    bench = Bench(dut)
    counts = [1 << n for n in range(bench.streams.bit_length())] * 2
    passes = []
    for number, streams in enumerate(counts):
        words = list(range(bench.lanes // streams))
        passes.append(bench.random_pass(number, streams=streams, words=words, rows=2 * streams))
    await bench.run(passes)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def bursts_of_short_rows(dut):
    """Rows of one scalar finish faster than their sums leave, and those of the next pass too."""
    bench = Bench(dut, sink_pace=0.5)
    passes = [
        bench.random_pass(
            number,
            streams=bench.streams,
            words=list(range(bench.lanes // bench.streams)),
            rows=8 * bench.streams,
            chunks=1,
            density=0.02,
        )
        for number in range(4)
    ]
    await bench.run(passes)
    assert bench.overlapped, "rows of the next pass came while results were under way"
