# amaranth: UnusedElaboratable=no
"""BurstSplitter: bursts cover each transfer once and never cross a boundary."""

import random

import cocotb
import pytest

from acceltran.memory.burst_splitter import BurstSplitter
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource


@pytest.mark.parametrize(("data_bits", "burst_beats"), [(64, 1), (128, 16), (1024, 32)])
def test_burst_splitter(data_bits, burst_beats, request):
    simulate(
        BurstSplitter(data_bits=data_bits, burst_beats=burst_beats),
        bench=__name__,
        parameters={"words": data_bits // 64, "burst_beats": burst_beats},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("data_bits", [32, 96, 2048])
def test_rejects_data_bits(data_bits):
    rule = f"AXI data width must be 64, 128, 256, 512 or 1024 bits, not {data_bits}"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        BurstSplitter(data_bits=data_bits, burst_beats=16)


@pytest.mark.parametrize(
    ("data_bits", "burst_beats", "largest"), [(64, 0, 256), (64, 512, 256), (512, 24, 64)]
)
def test_rejects_burst_beats(data_bits, burst_beats, largest):
    rule = f"Beats of a burst must be a power of two up to {largest}, not {burst_beats}"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        BurstSplitter(data_bits=data_bits, burst_beats=burst_beats)


# What follows runs inside the simulator, once for each parametrisation of test_burst_splitter.


def model(address: int, words: int, beat_words: int, burst_beats: int):
    """Bursts as (address, length, first, last, end)."""
    block = beat_words * burst_beats
    word, stop = address // 8, address // 8 + words
    bursts = []
    while word < stop:
        limit = min(stop, (word // block + 1) * block)
        first_beat, last_beat = word // beat_words, (limit - 1) // beat_words
        bursts.append((
            first_beat * beat_words * 8,
            last_beat - first_beat,
            word % beat_words,
            (limit - 1) % beat_words,
            limit == stop,
        ))
        word = limit
    return bursts


def decode(raw: int, beat_words: int):
    """Fields of a Burst payload."""
    bits = beat_words.bit_length() - 1
    mask = beat_words - 1
    address, length, raw = raw & (1 << 64) - 1, raw >> 64 & 0xFF, raw >> 72
    return address, length, raw & mask, raw >> bits & mask, bool(raw >> 2 * bits)


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def matches_model(dut, source_pace, sink_pace):
    """Random and extreme transfers are cut as the model says."""
    words, beats = parameters()["words"], parameters()["burst_beats"]
    block = words * beats
    requests = [
        (
            8 * random.randrange(4 * block) + random.choice([0, 1 << 40]),
            random.randint(1, 4 * block),
        )
        for _ in range(60)
    ]
    requests += [(0, 1), (8 * (block - 1), 1), (8 * (block - 1), 2), (0, block), (0, block + 1)]
    expected = [burst for request in requests for burst in model(*request, words, beats)]
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    driver = cocotb.start_soon(source.put_all(address | count << 64 for address, count in requests))
    for burst in expected:
        assert decode(await sink.get(), words) == burst
    await driver
    await dut.clk.rising_edge
    assert dut.idle.value


@cocotb.test()
async def has_the_documented_latency(dut):
    """Bursts follow their request after LATENCY cycles, one per cycle."""
    words, beats = parameters()["words"], parameters()["burst_beats"]
    dut.o__ready.value = 1
    source = StreamSource(dut, "i")
    await start(dut)
    await source.put(4 * words * beats << 64)
    for _ in range(BurstSplitter.LATENCY - 1):
        assert not dut.o__valid.value
        await dut.clk.rising_edge
    for _ in range(4):
        await dut.clk.rising_edge
        assert dut.o__valid.value
    await dut.clk.rising_edge
    assert not dut.o__valid.value
