# amaranth: UnusedElaboratable=no
"""Decompress against the golden model, bit for bit."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.sparsity.decompress import Decompress
from acceltran_sim.golden import compression as golden
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack


@pytest.mark.parametrize(("frac_bits", "tile"), [(16, 16), (12, 16), (8, 8)])
def test_decompress(frac_bits, tile, request):
    dut = Decompress(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), tile=tile)
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
        Decompress(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=tile)


# What follows runs inside the simulator, once for each parametrisation of test_decompress.


def keep_payloads(values):
    """Payloads of the keep items of a tensor."""
    tile = parameters()["tile"]
    return [
        pack((vector != 0).astype(np.int64), 1) | (place == len(values) - 1) << tile
        for place, vector in enumerate(values)
    ]


def group_payloads(values, rng):
    """Payloads of the groups of a tensor, with up to one more than it needs."""
    width, tile, words = (parameters()[name] for name in ("width", "tile", "words"))
    section = golden.compress(values, width)[golden.keep_bytes(len(values), tile) :]
    size = 8 * words
    count = max(1, -(-len(section) // size) + int(rng.integers(2)))
    section += rng.bytes(count * size - len(section))
    bits = (words - 1).bit_length()
    return [
        int.from_bytes(section[size * n : size * (n + 1)], "little")
        | (n == count - 1) << 64 * words + 2 * bits
        for n in range(count)
    ]


@cocotb.test()
@cocotb.parametrize(keep_pace=[1.0, 0.5], group_pace=[1.0, 0.3], sink_pace=[1.0, 0.4])
async def matches_golden(dut, keep_pace, group_pace, sink_pace):
    """Tensors of all densities, one after the other."""
    width, tile = parameters()["width"], parameters()["tile"]
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    tensors = []
    for density in [0.5, 1.0, 0.0, 0.05, 0.9, 0.0, 1.0, 0.02, 0.5, 0.3]:
        low, high = -(1 << width - 1), (1 << width - 1) - 1
        shape = (int(rng.integers(1, 40)), tile)
        values = rng.integers(low, high, size=shape, endpoint=True)
        values[rng.random(shape) >= density] = 0
        tensors.append(values)
    keeps = StreamSource(dut, "keeps", pace=keep_pace)
    groups = StreamSource(dut, "groups", pace=group_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    drivers = [
        cocotb.start_soon(keeps.put_all(raw for t in tensors for raw in keep_payloads(t))),
        cocotb.start_soon(groups.put_all(raw for t in tensors for raw in group_payloads(t, rng))),
    ]
    for values in tensors:
        for vector in values:
            np.testing.assert_array_equal(unpack(await sink.get(), width, tile), vector)
    for driver in drivers:
        await driver
    for _ in range(5):
        await dut.clk.rising_edge
    assert dut.idle.value


@cocotb.test()
async def has_the_documented_latency_and_rate(dut):
    """Full vectors leave LATENCY cycles after their keep bits, one per cycle."""
    width, tile, words = (parameters()[name] for name in ("width", "tile", "words"))
    dut.o__ready.value = 1
    dut.keeps__valid.value = 0
    dut.groups__valid.value = 1
    dut.groups__payload.value = (1 << 64 * words) - 1
    await start(dut)
    for _ in range(4):
        await dut.clk.rising_edge
    dut.keeps__payload.value = (1 << tile) - 1
    dut.keeps__valid.value = 1
    for cycle in range(60):
        await dut.clk.rising_edge
        assert dut.keeps__ready.value
        assert dut.o__valid.value == (cycle >= Decompress.LATENCY)
    assert dut.o__payload.value.to_unsigned() == (1 << tile * width) - 1
