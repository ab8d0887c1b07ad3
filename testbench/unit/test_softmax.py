# amaranth: UnusedElaboratable=no
"""Softmax against its golden model, bit for bit."""

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import softmax_constant
from acceltran.compute.log_sum import LogSum
from acceltran.compute.logit_pipeline import LogitPipeline
from acceltran.compute.probability_pipeline import ProbabilityPipeline
from acceltran.compute.pruning_boundary import PruningBoundary
from acceltran.compute.softmax import Softmax
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.pruning_boundary import pruning_boundary
from acceltran_sim.golden.softmax import softmax
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack

Q4_16 = FixedPoint(int_bits=4, frac_bits=16)


# One value, some values, and a whole vector per cycle; each format once.
@pytest.mark.parametrize(
    ("frac_bits", "tile", "width", "sequence"),
    [(16, 16, 4, 1024), (12, 8, 8, 40), (8, 8, 1, 32)],
    ids=["q4.16", "q4.12", "q4.8"],
)
def test_softmax(frac_bits, tile, width, sequence, request):
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    simulate(
        Softmax(fmt=fmt, tile=tile, width=width, sequence=sequence),
        bench=__name__,
        parameters={"frac_bits": frac_bits, "tile": tile, "width": width, "sequence": sequence},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("tile", [0, -1])
def test_rejects_tile(tile):
    with pytest.raises(ValueError, match=rf"^Tile must be at least 1, not {tile}$"):
        Softmax(fmt=Q4_16, tile=tile, width=1, sequence=16)


@pytest.mark.parametrize("width", [0, 3, 32])
def test_rejects_width(width):
    with pytest.raises(ValueError, match=rf"^Width must divide the tile \(16\), not {width}$"):
        Softmax(fmt=Q4_16, tile=16, width=width, sequence=16)


@pytest.mark.parametrize("sequence", [0, 8, 40])
def test_rejects_sequence(sequence):
    with pytest.raises(
        ValueError, match=rf"^Sequence must be a multiple of the tile \(16\), not {sequence}$"
    ):
        Softmax(fmt=Q4_16, tile=16, width=4, sequence=sequence)


@pytest.mark.parametrize("part", [LogitPipeline, LogSum, ProbabilityPipeline])
def test_parts_reject_width(part):
    sequence = {"sequence": 16} if part is LogSum else {}
    with pytest.raises(ValueError, match=r"^Width must be at least 1, not 0$"):
        part(fmt=Q4_16, width=0, **sequence)


def test_log_sum_rejects_sequence():
    with pytest.raises(ValueError, match=r"^Sequence must be at least 1, not 0$"):
        LogSum(fmt=Q4_16, width=4, sequence=0)


def test_boundary_is_found_before_it_is_needed():
    """A boundary that is searched when a command is taken, before any of its vectors."""
    assert PruningBoundary.LATENCY <= Softmax.BOUNDARY_NEEDED


# What follows runs inside the simulator, once for each parametrisation of test_softmax.


def unit_under_test():
    p = parameters()
    fmt = FixedPoint(int_bits=4, frac_bits=p["frac_bits"])
    return Softmax(fmt=fmt, tile=p["tile"], width=p["width"], sequence=p["sequence"])


def boundary_of(threshold):
    return int(pruning_boundary(np.array(threshold), fmt=unit_under_test().fmt))


async def check(
    dut, scores, *, keys, d_head=64, coarser=0, threshold=0, paces=(1.0, 1.0), row_ends=None
):
    """Stream rows of scores through and compare with the model.

    The scale of the scores has ``coarser`` fraction bits less than the format. ``row_ends`` gets
    the cycle of each row's last result.
    """
    unit = unit_under_test()
    fmt, tile = unit.fmt, unit.tile
    constant, shift = softmax_constant(d_head, fmt.frac_bits - coarser, fmt)
    dut.constant.value = constant
    dut.shift.value = shift
    dut.keys.value = keys
    dut.boundary.value = boundary_of(threshold)
    dut.blocks.value = scores.shape[1] // tile
    source = StreamSource(dut, "i", pace=paces[0])
    sink = StreamSink(dut, "o", pace=paces[1])
    await start(dut)
    await dut.clk.rising_edge
    assert not dut.busy.value

    async def drive():
        for vector in scores.reshape(-1, tile):
            await source.put(pack(vector, fmt.width))

    driver = cocotb.start_soon(drive())
    p = softmax(scores, fmt=fmt, constant=constant, shift=shift, keys=keys)
    values, keep = (x.reshape(-1, tile) for x in prune(p, threshold))
    for count, (expected, kept) in enumerate(zip(values, keep, strict=True), start=1):
        raw = await sink.get()
        np.testing.assert_array_equal(unpack(raw, fmt.width, tile), expected)
        assert raw >> (fmt.width * tile) == pack(kept.astype(np.int64), 1)
        if row_ends is not None and count % (scores.shape[1] // tile) == 0:
            row_ends.append(get_sim_time("ns") / 10)
    await driver
    await dut.clk.rising_edge
    assert not dut.busy.value


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3], coarser=[-2, 0, 4])
async def matches_golden(dut, source_pace, sink_pace, coarser):
    """Rows of every kind come out as the model says, whatever the pace."""
    unit = unit_under_test()
    rng = np.random.default_rng([cocotb.RANDOM_SEED, coarser + 2])
    blocks = int(rng.integers(1, min(unit.sequence // unit.tile, 9), endpoint=True))
    shape = (24, blocks * unit.tile)
    spread = unit.fmt.highest / 2.0 ** rng.uniform(0, 8, (shape[0], 1))
    scores = np.clip(np.round(rng.normal(0, spread, shape)), unit.fmt.lowest, unit.fmt.highest)
    scores = scores.astype(np.int64)
    scores[:4] = np.array([[unit.fmt.lowest], [unit.fmt.highest], [0], [-1]])
    scores[4] = unit.fmt.lowest
    scores[4, 0] = unit.fmt.highest
    keys = int(rng.integers(1, shape[1], endpoint=True))
    threshold = int(2.0 ** rng.uniform(0, unit.fmt.frac_bits - 1))
    await check(
        dut,
        scores,
        keys=keys,
        d_head=int(rng.integers(1, 128)),
        coarser=coarser,
        threshold=threshold,
        paces=(source_pace, sink_pace),
    )


@cocotb.test()
@cocotb.parametrize(full=[False, True], missing=[0, 1])
async def longest_and_shortest_rows(dut, full, missing):
    """Rows of one vector, rows of the whole sequence; all keys valid, or all but one."""
    unit = unit_under_test()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    columns = unit.sequence if full else unit.tile
    scores = rng.integers(unit.fmt.lowest, unit.fmt.highest, (8, columns), endpoint=True)
    await check(dut, scores, keys=columns - missing)


@cocotb.test()
@cocotb.parametrize(keys=[0, 1])
async def masked_row_and_single_key(dut, keys):
    """Without a valid key all is 0; a single one has probability 1."""
    unit = unit_under_test()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    scores = rng.integers(unit.fmt.lowest, unit.fmt.highest, (6, 2 * unit.tile), endpoint=True)
    await check(dut, scores, keys=keys)


@cocotb.test()
@cocotb.parametrize(nudge=[-1, 0, 1])
async def prunes_below_the_threshold(dut, nudge):
    """A probability equal to the threshold survives, one below does not."""
    unit = unit_under_test()
    equal = (1 << unit.fmt.frac_bits) // unit.tile
    scores = np.zeros((2, unit.tile), dtype=np.int64)
    await check(dut, scores, keys=unit.tile, threshold=equal + nudge)


@cocotb.test()
@cocotb.parametrize(shift=[0, 1, 63], highest=[False, True])
async def any_constant_and_shift(dut, shift, highest):
    """Nothing overflows at the ends of the fields' ranges."""
    unit = unit_under_test()
    fmt, tile = unit.fmt, unit.tile
    constant = (1 << 21) - 1 if highest else 1 << 20
    scores = np.full((2, tile), fmt.lowest)
    scores[0, 1] = fmt.lowest + 1
    scores[1, ::2] = fmt.highest
    dut.constant.value, dut.shift.value = constant, shift
    dut.keys.value, dut.boundary.value, dut.blocks.value = tile, boundary_of(0), 1
    source, sink = StreamSource(dut, "i"), StreamSink(dut, "o")
    await start(dut)
    await dut.clk.rising_edge
    expected = softmax(scores, fmt=fmt, constant=constant, shift=shift, keys=tile)
    for row in scores:
        await source.put(pack(row, fmt.width))
    for row in expected:
        np.testing.assert_array_equal(unpack(await sink.get(), fmt.width, tile), row)


@cocotb.test()
@cocotb.parametrize(density=[1.0, 0.5, 0.1])
async def rows_overlap(dut, density):
    """A stream of long rows takes one pass for each, whatever part of them is pruned."""
    unit = unit_under_test()
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    rows, blocks = 12, unit.sequence // unit.tile
    one_pass = unit.sequence // unit.width
    scores = rng.integers(-100, 100, (rows, unit.sequence))
    constant, shift = softmax_constant(64, unit.fmt.frac_bits, unit.fmt)
    p = softmax(scores, fmt=unit.fmt, constant=constant, shift=shift, keys=unit.sequence)
    ends = []
    await check(
        dut,
        scores,
        keys=unit.sequence,
        threshold=int(np.quantile(p, 1 - density)),
        row_ends=ends,
    )
    if one_pass >= unit.latency(blocks) - one_pass:
        assert np.diff(ends)[unit.ROWS :].tolist() == [one_pass] * (rows - 1 - unit.ROWS)


@cocotb.test()
@cocotb.parametrize(full=[False, True], keeps=[False, True])
async def has_the_documented_latency(dut, full, keeps):
    """A row alone is offered latency(blocks) edges after its last vector was taken.

    It is so even if the boundary comes as late as it may.
    """
    unit = unit_under_test()
    blocks = unit.sequence // unit.tile if full else 1
    dut.constant.value, dut.shift.value = softmax_constant(64, unit.fmt.frac_bits, unit.fmt)
    dut.keys.value, dut.blocks.value = unit.sequence, blocks
    threshold = 0 if keeps else (2 << unit.fmt.frac_bits) - 1
    dut.boundary.value = boundary_of((2 << unit.fmt.frac_bits) - 1 if keeps else 0)
    dut.o__ready.value = 0
    source = StreamSource(dut, "i")
    await start(dut)
    await dut.clk.rising_edge

    async def set_boundary():
        await ClockCycles(dut.clk, unit.BOUNDARY_NEEDED)
        dut.boundary.value = boundary_of(threshold)

    for block in range(blocks):
        await source.put(0)
        if block == 0:
            cocotb.start_soon(set_boundary())
    for _ in range(unit.latency(blocks) - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
        assert dut.busy.value
    await dut.clk.rising_edge
    assert dut.o__valid.value
    keep = dut.o__payload.value.to_unsigned() >> unit.fmt.width * unit.tile
    assert keep == ((1 << unit.tile) - 1 if keeps else 0)
