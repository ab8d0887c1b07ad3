# amaranth: UnusedElaboratable=no
"""KeepPacker against the keep bits of the golden model."""

import cocotb
import numpy as np
import pytest

from acceltran.memory.keep_packer import KeepPacker
from acceltran_sim.golden import compression as golden
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack


@pytest.mark.parametrize("tile", [16, 64])
def test_keep_packer(tile, request):
    simulate(
        KeepPacker(tile=tile),
        bench=__name__,
        parameters={"tile": tile},
        seed=request.config.getoption("seed"),
    )


def test_rejects_tile():
    rule = "Vector size must be a power of two from 2 to 64, not 3"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        KeepPacker(tile=3)


# What follows runs inside the simulator, once for each parametrisation of test_keep_packer.


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def matches_golden(dut, source_pace, sink_pace):
    """Words and number of ones of tensors of all lengths."""
    tile = parameters()["tile"]
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    dut.clear.value = 0
    await start(dut)
    for vectors in (1, 3, 4, 5, 40):
        values = rng.integers(0, 2, size=(vectors, tile))
        section = golden.compress(values, 20)[: golden.keep_bytes(vectors, tile)]
        dut.clear.value = 1
        await dut.clk.rising_edge
        dut.clear.value = 0
        payloads = [
            pack(keep, 1) | (place == vectors - 1) << tile for place, keep in enumerate(values)
        ]
        driver = cocotb.start_soon(source.put_all(payloads))
        for place in range(0, len(section), 8):
            assert await sink.get() == int.from_bytes(section[place : place + 8], "little")
        await driver
        for _ in range(2):
            await dut.clk.rising_edge
        assert dut.total.value == int(values.sum())


@cocotb.test()
async def has_the_documented_latency_and_rate(dut):
    """A word leaves LATENCY cycles after the item that completes it; one item per cycle."""
    per_word = 64 // parameters()["tile"]
    dut.o__ready.value = 1
    dut.i__valid.value = 0
    dut.i__payload.value = 1
    dut.clear.value = 0
    await start(dut)
    dut.i__valid.value = 1
    for cycle in range(40):
        await dut.clk.rising_edge
        assert dut.i__ready.value
        word = cycle - (per_word - 1) - KeepPacker.LATENCY
        assert dut.o__valid.value == (word >= 0 and word % per_word == 0)
