# amaranth: UnusedElaboratable=no
"""ProcessingElement against exact sums and the golden epilogue, bit for bit."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.activation import Activation
from acceltran.arch.commands import THRESHOLDS
from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import FinishedRow
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.compute.lane import scalar_layout
from acceltran.compute.lane_kinds import scalars_per_beat
from acceltran.pe import ProcessingElement
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


@pytest.mark.parametrize(
    ("lane", "window", "frac_bits", "lanes", "pes"),
    [
        ("broadcast", 0, 16, 4, 2),
        ("broadcast", 0, 12, 3, 1),
        ("broadcast", 8, 12, 2, 2),
        ("dot", 0, 8, 2, 4),
    ],
)
def test_pe(lane, window, frac_bits, lanes, pes, request):
    simulate(
        ProcessingElement(
            fmt=FixedPoint(int_bits=4, frac_bits=frac_bits),
            lane=lane,
            weight_window=window,
            lanes=lanes,
            pes=pes,
            **SHAPE,
        ),
        bench=__name__,
        parameters={
            "lane": lane,
            "window": window,
            "frac_bits": frac_bits,
            "lanes": lanes,
            "pes": pes,
        },
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
        ({"pes": 3}, "Number of PEs must be a power of two, not 3"),
    ],
)
def test_rejects(wrong, message):
    good = {"lane": "broadcast", "lanes": 4, "pes": 1}
    with pytest.raises(ValueError, match=f"^{message}$"):
        ProcessingElement(fmt=FixedPoint(int_bits=4, frac_bits=8), **SHAPE, **{**good, **wrong})


# What follows runs inside the simulator, once for each parametrisation of test_pe.


class Bench:
    """One PE, the products that it is given, and the writes to expect."""

    def __init__(self, dut, *, source_pace=1.0, sink_pace=1.0):
        self.dut = dut
        chosen = parameters()
        self.fmt = FixedPoint(int_bits=4, frac_bits=chosen["frac_bits"])
        self.lane, self.lanes, self.pes = chosen["lane"], chosen["lanes"], chosen["pes"]
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.index = int(self.rng.integers(self.pes))
        self.window = chosen["window"]
        self.source = StreamSource(dut, "scalars", pace=source_pace)
        self.rows = StreamSource(dut, "rows")
        self.sink = StreamSink(dut, "o", pace=sink_pace)
        self.counts = {"saturated": 0, "kept": 0, "issued": 0, "effectual_products": 0}
        self.expected = dict(self.counts)
        dut.tile_write__valid.value = 0
        dut.bias_write__valid.value = 0
        if self.pes > 1:
            dut.index.value = self.index

    async def start(self):
        await start(self.dut)
        cocotb.start_soon(self._count())

    async def _count(self):
        while True:
            await self.dut.clk.rising_edge
            for name in self.counts:
                self.counts[name] += int(self.dut[name].value)

    async def load(self, half, first_row, tiles, bias):
        """Write the tile of every lane, and other values into those of another PE."""
        dut = self.dut
        pes = [self.index] if self.pes == 1 else [self.index, self.index ^ 1]
        for pe in pes:
            for lane in range(self.lanes):
                values = tiles[lane] if pe == self.index else -1 - tiles[lane]
                for number, row in enumerate(values):
                    keep = pack((row != 0).astype(np.int64), 1)
                    dut.tile_write__valid.value = 1
                    if self.pes > 1:
                        dut.tile_write__pe.value = pe
                        dut.bias_write__pe.value = pe
                    dut.tile_write__lane.value = lane
                    dut.tile_write__row.value = first_row + number
                    dut.tile_write__vector.value = (
                        pack(row, self.fmt.width) | keep << TILE * self.fmt.width
                    )
                    dut.bias_write__valid.value = number == 0
                    dut.bias_write__lane.value = lane
                    dut.bias_write__half.value = half
                    dut.bias_write__vector.value = pack(
                        bias[lane] if pe == self.index else ~bias[lane], self.fmt.width
                    )
                    await dut.clk.rising_edge
        dut.tile_write__valid.value = 0
        dut.bias_write__valid.value = 0

    def random(self, *shape, density=1.0):
        values = self.rng.integers(self.fmt.lowest, self.fmt.highest, shape, endpoint=True)
        values.flat[:2] = [self.fmt.lowest, self.fmt.highest][: values.size]
        return np.where(self.rng.random(shape) < density, values, 0)

    async def product(self, *, rows, chunks, density, enable, function, shift):
        """Run one product with other parameters than the last, and check every result."""
        rng, dut, lanes = self.rng, self.dut, self.lanes
        counts = [int(rng.integers(1, 3)) for _ in range(chunks)]
        a = self.random(rows, sum(counts), TILE, density=density)
        b = self.random(sum(counts) * TILE, lanes, TILE, density=0.8)
        bias = self.random(lanes, TILE)
        given: dict[str, int] = {
            "bias_shift": int(rng.integers(0, 20)),
            "shift": shift,
            "function": int(function),
            "gelu_input_shift": int(rng.integers(0, 3)),
            "gelu_output_shift": int(rng.integers(0, 3)),
            "threshold": int(rng.integers(0, self.fmt.highest // 8)),
        }
        entry = {"entry": int(rng.integers(THRESHOLDS))}
        on = [lane for lane in range(lanes) if enable >> lane & 1]
        sums = exact_sums(a.reshape(rows, -1), b.reshape(len(b), -1), fmt=self.fmt)
        sums = sums.reshape(rows, lanes, TILE)[:, on]
        values, keep, saturated = epilogue(
            sums, bias=bias[on], fmt=self.fmt, **{**given, "function": function}
        )
        pairs = (a.reshape(rows, -1) != 0).astype(int) @ (b[:, on] != 0).reshape(len(b), -1)
        self.expected["saturated"] += saturated
        self.expected["kept"] += int(keep.sum())
        self.expected["effectual_products"] += int(pairs.sum())
        self.expected["issued"] += int(np.count_nonzero(a)) * len(on)

        dut.lane_enable.value = enable
        dut.parameters.value = pack_fields(EpilogueParameters(self.fmt), given | entry)
        base = int(rng.integers(0, 2**16)) * self.pes
        stride = lanes * self.pes
        check = cocotb.start_soon(self._check(values, keep, on, base, stride))
        first = 0
        half = int(rng.integers(2))
        for chunk, count in enumerate(counts):
            half = 1 - half
            first_row = half * SHAPE["tile_rows"] // 2
            final = chunk == chunks - 1
            part = b[first * TILE : (first + count) * TILE]
            await self.load(half, first_row, np.moveaxis(part, 1, 0), bias if final else ~bias)
            for row in range(rows):
                if final:
                    address = base + row * stride
                    row_fields = {"address": address, "half": half}
                    await self.rows.put(pack_fields(FinishedRow(), row_fields))
                vectors = a[row, first : first + count]
                tags = {"slot": row, "first": chunk == 0, "final": final}
                tokens, _ = stream_row(vectors, vectors != 0, tile_row=first_row, **tags)
                await self.source.put_all(self.payloads(tokens))
            first += count
            for _ in range(10):
                await dut.clk.rising_edge
            while dut.reading.value or not final and dut.draining.value:
                await dut.clk.rising_edge
        await check
        await dut.clk.rising_edge
        assert dut.idle.value
        assert dut.draining.value == 0

    def payloads(self, tokens):
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

    async def _check(self, values, keep, on, base, stride):
        for row in range(len(values)):
            for place, lane in enumerate(on):
                word = await self.sink.get()
                assert word & 0xFFFFFF == base + row * stride + lane * self.pes + self.index
                word >>= 24
                got = unpack(word, self.fmt.width, TILE)
                np.testing.assert_array_equal(got, values[row, place])
                bits = keep[row, place].astype(np.int64)
                assert word >> TILE * self.fmt.width == pack(bits, 1)

    async def finish(self):
        for _ in range(20):
            await self.dut.clk.rising_edge
            assert self.dut.idle.value
            assert not self.dut.o__valid.value
        if self.lane == "dot" or self.window:
            del self.counts["issued"], self.expected["issued"]
        assert self.counts == self.expected


@cocotb.test()
@cocotb.parametrize(pace=[(1.0, 1.0), (1.0, 0.3), (0.5, 1.0)])
async def matches_golden(dut, pace):
    """Products of one to three chunks, with any lanes and any function."""
    bench = Bench(dut, source_pace=pace[0], sink_pace=pace[1])
    await bench.start()
    for number, function in enumerate([*Activation, *Activation]):
        await bench.product(
            rows=int(bench.rng.integers(1, SHAPE["partial_sums"] + 1)),
            chunks=number % 3 + 1,
            density=0.05 if number % 2 else 0.5,
            enable=(1 << bench.lanes) - 1 if number < 3 else int(bench.rng.integers(1, 4)),
            function=function,
            shift=bench.fmt.frac_bits + int(bench.rng.integers(0, 5)),
        )
    await bench.finish()
    assert bench.counts["saturated"] > 0


@cocotb.test()
async def bursts_of_short_rows(dut):
    """Rows of one scalar finish faster than their sums leave."""
    bench = Bench(dut, sink_pace=0.5)
    await bench.start()
    for _ in range(3):
        await bench.product(
            rows=8,
            chunks=1,
            density=0.02,
            enable=(1 << bench.lanes) - 1,
            function=Activation.NONE,
            shift=bench.fmt.frac_bits,
        )
    await bench.finish()
