# amaranth: UnusedElaboratable=no
"""LayerNorm against its golden model, bit for bit."""

from dataclasses import asdict

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import LayerNormFields
from acceltran.compute.layer_norm import SHORT_ROW, LayerNorm
from acceltran.compute.normalizer import Normalizer
from acceltran.compute.row_position import RowPosition
from acceltran.compute.row_statistics import LayerNormParameters, RowStatistics
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.layernorm import layer_norm
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack


# Each format once, each with a tile, a width and a limit of its own.
@pytest.mark.parametrize(
    ("frac_bits", "tile", "width", "hidden"), [(16, 16, 4, 1024), (12, 8, 8, 240), (8, 16, 1, 48)]
)
def test_layer_norm(frac_bits, tile, width, hidden, request):
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    simulate(
        LayerNorm(fmt=fmt, tile=tile, width=width, hidden=hidden),
        bench=__name__,
        parameters={"frac_bits": frac_bits, "tile": tile, "width": width, "hidden": hidden},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("unit", "change", "message"),
    [
        (LayerNorm, {"tile": 0}, "Tile must be at least 1, not 0"),
        (RowPosition, {"tile": 0}, "Tile must be at least 1, not 0"),
        (LayerNorm, {"width": 3}, "Width must divide the tile (16), not 3"),
        (LayerNorm, {"width": 0}, "Width must divide the tile (16), not 0"),
        (RowPosition, {"width": 3}, "Width must divide the tile (16), not 3"),
        (Normalizer, {"width": 0}, "Width must be at least 1, not 0"),
        (LayerNorm, {"hidden": 0}, "Hidden size must be in 1..1024, not 0"),
        (LayerNorm, {"hidden": 1025}, "Hidden size must be in 1..1024, not 1025"),
        (Normalizer, {"hidden": 1025}, "Hidden size must be in 1..1024, not 1025"),
        (RowStatistics, {"hidden": 1025}, "Hidden size must be in 1..1024, not 1025"),
        (RowPosition, {"hidden": 0}, "Hidden size must be at least 1, not 0"),
    ],
)
def test_rejects_parameters(unit, change, message):
    fmt = FixedPoint(int_bits=4, frac_bits=16)
    known = {
        LayerNorm: {"fmt": fmt, "tile": 16, "width": 4, "hidden": 64},
        Normalizer: {"fmt": fmt, "width": 4, "hidden": 64},
        RowStatistics: {"fmt": fmt, "hidden": 64},
        RowPosition: {"tile": 16, "width": 4, "hidden": 64},
    }
    with pytest.raises(ValueError) as error:
        unit(**{**known[unit], **change})
    assert str(error.value) == message


# What follows runs inside the simulator, once for each parametrisation of test_layer_norm.


class Bench:
    """Drives batches of rows through the device and compares each with the golden model."""

    def __init__(self, dut, *, source_pace=1.0, affine_pace=1.0, sink_pace=1.0):
        self.dut = dut
        self.fmt = FixedPoint(int_bits=4, frac_bits=parameters()["frac_bits"])
        self.tile = parameters()["tile"]
        self.hidden = parameters()["hidden"]
        self.source = StreamSource(dut, "i", pace=source_pace)
        self.affine = StreamSource(dut, "affine", pace=affine_pace)
        self.sink = StreamSink(dut, "o", pace=sink_pace)
        self.clipped = 0
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)

    async def count_clipped(self):
        """Add up what the device counts."""
        while True:
            await self.dut.clk.rising_edge
            self.clipped += int(self.dut.saturated.value)

    def elements(self, *shape):
        """Random raw elements of the full range."""
        return self.rng.integers(self.fmt.lowest, self.fmt.highest, shape, endpoint=True)

    def fields(self, columns, eps=1e-5, **exponents):
        """Fields for tensors at the format's own scale, but for those given."""
        scales = ("input_exponent", "gamma_exponent", "beta_exponent", "output_exponent")
        known = {**dict.fromkeys(scales, -self.fmt.frac_bits), **exponents}
        return LayerNormFields.of(**{"fmt": self.fmt, "columns": columns, "eps": eps, **known})

    def set_static(self, fields, threshold):
        """Set what must not change while rows are under way; return the vectors of a row."""
        blocks = -(-fields.columns // self.tile)
        self.dut.fields.value = LayerNormParameters().const({**asdict(fields)}).as_bits()
        self.dut.blocks.value = blocks
        self.dut.threshold.value = threshold
        return blocks

    def vectors(self, rows, padding):
        """Rows as packed vectors, padded with ``padding`` elements."""
        count, columns = rows.shape
        padded = np.full((count, -(-columns // self.tile) * self.tile), padding)
        padded[:, :columns] = rows
        return [pack(v, self.fmt.width) for v in padded.reshape(-1, self.tile)]

    def join(self, low, high):
        """Payloads of two vectors each."""
        return [p | q << self.fmt.width * self.tile for p, q in zip(low, high, strict=True)]

    async def check(self, a, b, gamma, beta, fields, threshold=0):
        """Run rows ``a + b``; what lies beyond their columns must not matter."""
        blocks = self.set_static(fields, threshold)
        summands = self.join(self.vectors(a, self.fmt.lowest), self.vectors(b, self.fmt.lowest))
        gamma_vectors, beta_vectors = (self.vectors(g[np.newaxis], 99) for g in (gamma, beta))
        replayed = self.join(gamma_vectors, beta_vectors) * len(a)
        tasks = [
            cocotb.start_soon(self.source.put_all(summands)),
            cocotb.start_soon(self.affine.put_all(replayed)),
        ]
        self.clipped = 0
        z, clipped = layer_norm(a, b, fmt=self.fmt, gamma=gamma, beta=beta, fields=fields)
        values, keep = prune(z, threshold)
        width = self.fmt.width
        for row in range(len(a)):
            raw = await self.sink.get_all(blocks)
            result = np.concatenate([unpack(v, width, self.tile) for v in raw])
            mask = np.concatenate([unpack(v >> width * self.tile, 1, self.tile) for v in raw])
            np.testing.assert_array_equal(result[: fields.columns], values[row])
            np.testing.assert_array_equal(mask[: fields.columns] != 0, keep[row])
            assert not result[fields.columns :].any() and not mask[fields.columns :].any()
        for task in tasks:
            await task
        await self.dut.clk.rising_edge
        assert self.clipped == clipped


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(
    paces=[(1.0, 1.0, 1.0), (0.3, 1.0, 1.0), (1.0, 0.3, 1.0), (1.0, 1.0, 0.3), (0.5, 0.5, 0.5)]
)
async def matches_golden(dut, paces):
    """Random rows of many lengths, spreads and scales come out as the model says."""
    bench = Bench(dut, source_pace=paces[0], affine_pace=paces[1], sink_pace=paces[2])
    fmt, rng = bench.fmt, bench.rng
    bench.set_static(bench.fields(1), 0)
    await start(dut)
    cocotb.start_soon(bench.count_clipped())
    for columns in (1, 2, 3, 17, 40, 48, 7, 56, 96, 100, 200, 384, 1000):
        if columns > bench.hidden:
            break
        fields = bench.fields(
            columns,
            gamma_exponent=int(rng.integers(-fmt.frac_bits - 3, -fmt.frac_bits + 3)),
            beta_exponent=int(rng.integers(-fmt.frac_bits - 5, -fmt.frac_bits + 3)),
            output_exponent=int(rng.integers(-fmt.frac_bits - 3, -fmt.frac_bits + 3)),
        )
        spread = 2.0 ** rng.integers(0, fmt.width - 1)
        a, b = np.clip(rng.normal(0, spread, (2, 8, columns)), fmt.lowest, fmt.highest).astype(int)
        gamma = bench.elements(columns) // 2
        beta = bench.elements(columns) // int(rng.integers(1, 50))
        threshold = int(rng.integers(0, fmt.highest // 2))
        await bench.check(a, b, gamma, beta, fields, threshold)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def matches_golden_at_corners(dut):
    """Constant rows, extreme rows, rows of one LSB, outliers, saturation, extreme shifts."""
    bench = Bench(dut)
    fmt, rng, hidden = bench.fmt, bench.rng, bench.hidden
    bench.set_static(bench.fields(1), 0)
    await start(dut)
    cocotb.start_soon(bench.count_clipped())
    for columns in (1, 2, bench.tile, hidden - 1, hidden):
        rows = [
            np.zeros(columns),
            np.full(columns, fmt.lowest),
            np.full(columns, fmt.highest),
            np.full(columns, 123),
            np.where(np.arange(columns) % 2, fmt.lowest, fmt.highest),
            np.where(np.arange(columns) < columns // 2, fmt.lowest, fmt.highest),
            np.where(np.arange(columns) == columns // 3, fmt.highest, 0),
            np.where(np.arange(columns) == columns // 3, fmt.highest, fmt.lowest),
            np.where(np.arange(columns) == 0, 1, 0),
            np.where(np.arange(columns) == columns - 1, -1, 0),
            rng.integers(-1, 1, columns, endpoint=True),
            rng.integers(fmt.lowest, fmt.highest, columns),
        ]
        a = np.array(rows, dtype=np.int64)
        beta = bench.elements(columns)
        for b in (a, np.zeros_like(a)):
            gamma = bench.elements(columns)
            await bench.check(a, b, gamma, beta, bench.fields(columns, eps=0.0))
        gamma = np.where(np.arange(columns) % 2, fmt.lowest, fmt.highest)
        for scales in (
            {"eps": 1e9, "input_exponent": 0},
            {"beta_exponent": 31 - 2 * fmt.frac_bits - 3},
            {"beta_exponent": -2 * fmt.frac_bits - 3},
            {"output_exponent": -2 * fmt.frac_bits - 3},
            {"output_exponent": 63 - 2 * fmt.frac_bits - 3},
        ):
            await bench.check(a[4:], a[4:], gamma, beta, bench.fields(columns, **scales))
        # Results half an LSB around the greatest and the least element.
        small = rng.integers(-3, 3, columns, endpoint=True)
        limits = np.where(small > 0, fmt.highest, fmt.lowest)
        coarse = dict.fromkeys(("beta_exponent", "output_exponent"), 1 - fmt.frac_bits)
        await bench.check(a[4:6], a[4:6], small, limits, bench.fields(columns, **coarse))
        for threshold in (1, fmt.highest, -fmt.lowest):
            await bench.check(a, a, gamma, beta, bench.fields(columns), threshold)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def has_the_documented_latency(dut):
    """A row's first vector is offered at the LATENCY-th edge after its last one was accepted."""
    bench = Bench(dut)
    latency = LayerNorm(
        fmt=bench.fmt, tile=bench.tile, width=parameters()["width"], hidden=bench.hidden
    ).LATENCY
    blocks = bench.set_static(bench.fields(3 * bench.tile), 0)
    await start(dut)
    affine = cocotb.start_soon(bench.affine.put_all([0] * blocks))
    await bench.source.put_all([0] * blocks)
    for _ in range(latency - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    await dut.clk.rising_edge
    assert dut.o__valid.value
    await bench.sink.get_all(blocks)
    await affine


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def overlaps_rows(dut):
    """Rows that are not too short follow one another without a gap, at full rate."""
    bench = Bench(dut)
    blocks = bench.set_static(bench.fields(min(SHORT_ROW, bench.hidden)), 0)
    words = blocks * bench.tile // parameters()["width"]
    await start(dut)
    rows = 12
    cocotb.start_soon(bench.source.put_all([0] * blocks * rows))
    cocotb.start_soon(bench.affine.put_all([0] * blocks * rows))
    bench.sink._ready.value = 1
    ends, cycle, count = [], 0, 0
    while count < blocks * rows:
        await dut.clk.rising_edge
        cycle += 1
        if dut.o__valid.value:
            count += 1
            if count % blocks == 0:
                ends.append(cycle)
    assert set(np.diff(ends).tolist()) == {words}
