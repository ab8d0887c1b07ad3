# amaranth: UnusedElaboratable=no
"""Cycles of WindowLane against its schedule; what it computes is checked in test_lane.py."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.window_lane import WindowLane
from acceltran_sim.golden.row_streamer import beats_of, stream_row
from acceltran_sim.golden.weight_window import WindowSchedule, shared_stream_cycles
from testbench.harness.beats import pack_scalars
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.vectors import pack

TILE = 16
INNER = 128
SHAPE = {"tile": TILE, "inner": 1024, "tile_rows": INNER, "partial_sums": 8}


def build(window: int) -> WindowLane:
    return WindowLane(window=window, fmt=FixedPoint(int_bits=4, frac_bits=8), **SHAPE)


@pytest.mark.parametrize("window", [8, 16])
def test_window_lane(window, request):
    simulate(
        build(window),
        bench=__name__,
        parameters={"window": window},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("window", [0, 4, 32])
def test_rejects(window):
    with pytest.raises(ValueError, match=f"^Window must be 8 or 16, not {window}$"):
        build(window)


def product_beats(rng, *, rows, density, final=True, slots=SHAPE["partial_sums"]):
    """Beats of rows with random effectual elements, and how many scalars they hold."""
    beats = []
    for row in range(rows):
        keep = rng.random((INNER // TILE, TILE)) < density
        values = keep * rng.integers(1, 1 << 11, keep.shape)
        tags = {"tile_row": 0, "slot": row % slots, "first": True, "final": final, "context": False}
        tokens, _ = stream_row(values, keep, **tags)
        beats += beats_of(tokens, tile=TILE, scalars_per_beat=WindowLane.SCALARS_PER_BEAT)
    return beats, sum(len(beat.rows) for beat in beats)


@pytest.mark.parametrize(("window", "speed_up"), [(8, 1.55), (16, 1.70)])
def test_speed_up_at_half_the_weights(window, speed_up):
    """By the schedule that the lane is checked against, with weights at random places."""
    cycles = scalars = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        beats, count = product_beats(rng, rows=40, density=0.5)
        lane = WindowSchedule(rng.random((INNER, TILE)) < 0.5, window=window)
        cycles += shared_stream_cycles([lane], beats)
        scalars += count
    assert scalars / cycles >= speed_up


# What follows runs inside the simulator, once for each parametrisation of test_window_lane.


async def measure(dut, keep, beats):
    """Cycles from the first beat until the lane is empty, and products issued."""
    lane = build(**parameters())
    layout = lane.scalars.payload.shape()
    dut.enable.value = 1
    dut.sums__ready.value = 1
    dut.scalars__valid.value = 0
    dut.tile_write__valid.value = 0
    await start(dut)
    for row, bits in enumerate(keep.astype(np.int64)):
        dut.tile_write__valid.value = 1
        dut.tile_write__row.value = row
        dut.tile_write__values.value = pack(bits * (row + 1), lane.fmt.width)
        dut.tile_write__keep.value = pack(bits, 1)
        await dut.clk.rising_edge
    dut.tile_write__valid.value = 0
    words = iter([pack_scalars(layout, beat, fmt=lane.fmt, tile=TILE) for beat in beats])
    word = next(words)
    cycles = products = 0
    while True:
        dut.scalars__valid.value = word is not None
        dut.scalars__payload.value = word or 0
        await dut.clk.rising_edge
        products += int(dut.effectual_products.value)
        if word is None and dut.empty.value:
            return cycles, products
        cycles += 1
        if word is not None and dut.scalars__ready.value:
            word = next(words, None)


@cocotb.test()
@cocotb.parametrize(weights=[1.0, 0.5, 0.25, 0.0], activations=[1.0, 0.5, 0.02])
async def takes_the_cycles_of_its_schedule(dut, weights, activations):
    """Cycle by cycle, from dense rows to rows of one scalar that finish faster than they leave."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    keep = rng.random((INNER, TILE)) < weights
    beats, _ = product_beats(rng, rows=12, density=activations)
    schedule = WindowSchedule(keep, window=parameters()["window"])
    cycles = shared_stream_cycles([schedule], beats)
    pairs = sum(int(keep[list(beat.rows)].sum()) for beat in beats)
    assert await measure(dut, keep, beats) == (cycles, pairs)
    assert schedule.products == pairs


@cocotb.test()
@cocotb.parametrize(dense=[0, 7, 15])
async def is_bound_by_the_densest_column(dut, dense):
    """One dense column takes as long as if all were; the others do not lengthen it."""
    keep = np.zeros((INNER, TILE), dtype=bool)
    keep[:, dense] = True
    beats, scalars = product_beats(np.random.default_rng(1), rows=6, density=0.5)
    cycles, products = await measure(dut, keep, beats)
    assert products == scalars
    assert scalars < cycles <= scalars + build(**parameters()).LATENCY


@cocotb.test()
async def skips_rows_of_the_tile_without_weights(dut):
    """Scalars without any weight leave as fast as they come."""
    keep = np.zeros((INNER, TILE), dtype=bool)
    beats, _ = product_beats(np.random.default_rng(1), rows=6, density=1.0)
    cycles, products = await measure(dut, keep, beats)
    assert products == 0
    assert cycles <= len(beats) + build(**parameters()).LATENCY


@cocotb.test()
@cocotb.parametrize(slots=[1, 2, 3])
async def waits_for_what_it_resumes(dut, slots):
    """Rows of one scalar that resume what rows just before have left take the schedule's time."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    keep = rng.random((INNER, TILE)) < 0.5
    beats = []
    for row in range(24):
        value = np.array([[1] + [0] * (TILE - 1)])
        tags = {
            "tile_row": 0,
            "slot": row % slots,
            "first": row < slots,
            "final": row >= 24 - slots,
            "context": False,
        }
        tokens, _ = stream_row(value, value != 0, **tags)
        beats += beats_of(tokens, tile=TILE, scalars_per_beat=WindowLane.SCALARS_PER_BEAT)
    cycles = shared_stream_cycles([WindowSchedule(keep, window=parameters()["window"])], beats)
    pairs = sum(int(keep[list(beat.rows)].sum()) for beat in beats)
    assert await measure(dut, keep, beats) == (cycles, pairs)
