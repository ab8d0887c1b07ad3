# amaranth: UnusedElaboratable=no
"""KeepUnpacker against the keep bits of the golden model."""

import cocotb
import numpy as np
import pytest

from acceltran.memory.keep_unpacker import KeepUnpacker
from acceltran_sim.golden import compression as golden
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack


@pytest.mark.parametrize("tile", [16, 64])
def test_keep_unpacker(tile, request):
    simulate(
        KeepUnpacker(tile=tile),
        bench=__name__,
        parameters={"tile": tile},
        seed=request.config.getoption("seed"),
    )


def test_rejects_tile():
    rule = "Vector size must be a power of two from 2 to 64, not 3"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        KeepUnpacker(tile=3)


# What follows runs inside the simulator, once for each parametrisation of test_keep_unpacker.


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def matches_golden(dut, source_pace, sink_pace):
    """Keep bits of tensors of all lengths, one after the other."""
    tile = parameters()["tile"]
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    vectors = StreamSource(dut, "vectors")
    words = StreamSource(dut, "words", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    tensors = [rng.integers(0, 2, size=(count, tile)) for count in (1, 3, 4, 5, 8, 40)]
    sections = [golden.compress(t, 20)[: golden.keep_bytes(len(t), tile)] for t in tensors]
    drivers = [
        cocotb.start_soon(vectors.put_all(len(tensor) for tensor in tensors)),
        cocotb.start_soon(
            words.put_all(
                int.from_bytes(section[place : place + 8], "little")
                for section in sections
                for place in range(0, len(section), 8)
            )
        ),
    ]
    for tensor in tensors:
        for place, keep in enumerate(tensor):
            assert await sink.get() == pack(keep, 1) | (place == len(tensor) - 1) << tile
    for driver in drivers:
        await driver


@cocotb.test()
async def has_the_documented_latency_and_rate(dut):
    """Items leave LATENCY cycles after their word, one per cycle."""
    dut.o__ready.value = 1
    dut.words__valid.value = 0
    vectors = StreamSource(dut, "vectors")
    await start(dut)
    await vectors.put(100)
    dut.words__valid.value = 1
    for cycle in range(60):
        await dut.clk.rising_edge
        assert dut.o__valid.value == (cycle >= KeepUnpacker.LATENCY)
