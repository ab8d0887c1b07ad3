# amaranth: UnusedElaboratable=no
"""Compress against the values of the golden model, bit for bit."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.sparsity.compress import Compress
from acceltran_sim.golden import compression as golden
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack


@pytest.mark.parametrize(("frac_bits", "tile"), [(16, 16), (12, 16), (8, 8)])
def test_compress(frac_bits, tile, request):
    dut = Compress(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), tile=tile)
    simulate(
        dut,
        bench=__name__,
        parameters={"width": 4 + frac_bits, "tile": tile, "words": dut.words},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("tile", [1, 12, 128])
def test_rejects_tile(tile):
    rule = f"Vector size must be a power of two from 2 to 64, not {tile}"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        Compress(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=tile)


# What follows runs inside the simulator, once for each parametrisation of test_compress.


def random_tensor(rng, vectors, density):
    """Raw values with corners."""
    width, tile = parameters()["width"], parameters()["tile"]
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    values = rng.integers(low, high, size=(vectors, tile), endpoint=True)
    values[rng.random(values.shape) < 0.1] = low
    values[rng.random(values.shape) < 0.1] = -1
    values[rng.random(values.shape) >= density] = 0
    return values


def value_words(values) -> list[int]:
    """Words of the value section."""
    width, tile = parameters()["width"], parameters()["tile"]
    section = golden.compress(values, width)[golden.keep_bytes(len(values), tile) :]
    return [
        int.from_bytes(section[place : place + 8], "little") for place in range(0, len(section), 8)
    ]


def item(vector, end) -> int:
    """Payload of a vector."""
    width, tile = parameters()["width"], parameters()["tile"]
    keep = pack((vector != 0).astype(np.int64), 1)
    return pack(vector, width) | keep << width * tile | end << (width + 1) * tile


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def matches_golden(dut, source_pace, sink_pace):
    """Tensors of all densities, one after the other."""
    words = parameters()["words"]
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    tensors = [
        random_tensor(rng, int(rng.integers(1, 40)), density)
        for density in [0.5, 1.0, 0.0, 0.05, 0.9, 0.0, 1.0, 0.02, 0.5, 0.3]
    ]
    payloads = [
        item(vector, place == len(values) - 1)
        for values in tensors
        for place, vector in enumerate(values)
    ]
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    driver = cocotb.start_soon(source.put_all(payloads))
    bits = (words - 1).bit_length()
    for values in tensors:
        expected = value_words(values)
        while expected:
            raw = await sink.get()
            count = (raw >> 64 * words + bits & (1 << bits) - 1) + 1
            received = [raw >> 64 * n & (1 << 64) - 1 for n in range(count)]
            assert received == expected[:words]
            expected = expected[words:]
    await driver
    for _ in range(20):
        await dut.clk.rising_edge
        assert not dut.o__valid.value


@cocotb.test()
async def has_the_documented_latency_and_rate(dut):
    """A group leaves LATENCY cycles after the vector that completes it; one vector per cycle."""
    width, tile, words = (parameters()[name] for name in ("width", "tile", "words"))
    per_group = words * 64 // (width * tile)
    dut.o__ready.value = 1
    dut.i__payload.value = item(np.ones(tile, dtype=np.int64), 0)
    dut.i__valid.value = 0
    await start(dut)
    dut.i__valid.value = 1
    for cycle in range(40 * per_group):
        await dut.clk.rising_edge
        assert dut.i__ready.value
        group = cycle - (per_group - 1) - Compress.LATENCY
        assert dut.o__valid.value == (group >= 0 and group % per_group == 0)
