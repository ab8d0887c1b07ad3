# amaranth: UnusedElaboratable=no
"""Transposer against NumPy."""

import cocotb
import numpy as np
import pytest

from acceltran.memory.transposer import Transposer
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack


@pytest.mark.parametrize(("width", "tile"), [(12, 5), (20, 16)])
def test_transposer(width, tile, request):
    simulate(
        Transposer(width=width, tile=tile),
        bench=__name__,
        parameters={"width": width, "tile": tile},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "Element width must be at least 1, not 0"),
        ({"tile": 1}, "Vector size must be at least 2, not 1"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Transposer(**{"width": 20, "tile": 16, **change})


# What follows runs inside the simulator, once for each size.


def random_blocks(count):
    """Blocks of random elements: what enters and what leaves."""
    width, tile = parameters()["width"], parameters()["tile"]
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    blocks = rng.integers(-(1 << (width - 1)), 1 << (width - 1), (count, tile, tile))
    rows = [pack(row, width) for row in blocks.reshape(-1, tile)]
    columns = [pack(column, width) for column in blocks.transpose(0, 2, 1).reshape(-1, tile)]
    return rows, columns


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5, 0.3], sink_pace=[1.0, 0.5, 0.3])
async def transposes(dut, source_pace, sink_pace):
    """Every block leaves transposed, the last one included, whoever stalls."""
    rows, columns = random_blocks(7)
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    driver = cocotb.start_soon(source.put_all(rows))
    assert await sink.get_all(len(columns)) == columns
    await driver


@cocotb.test()
async def transposes_after_a_pause(dut):
    """A block that begins while the one before it is leaving by itself is not disturbed."""
    tile = parameters()["tile"]
    rows, columns = random_blocks(tile + 2)
    source = StreamSource(dut, "i")
    sink = StreamSink(dut, "o")
    await start(dut)

    async def drive():
        for number in range(tile + 2):
            await source.put_all(rows[number * tile : (number + 1) * tile])
            for _ in range(number):
                await dut.clk.rising_edge

    driver = cocotb.start_soon(drive())
    assert await sink.get_all(len(columns)) == columns
    await driver


@cocotb.test()
async def has_the_documented_latency_and_rate(dut):
    """The first column is offered LATENCY cycles after the last row; then one each cycle."""
    tile = parameters()["tile"]
    rows, columns = random_blocks(3)
    source = StreamSource(dut, "i")
    await start(dut)
    dut.o__ready.value = 1
    driver = cocotb.start_soon(source.put_all(rows))
    for _ in range(tile + Transposer.LATENCY):
        assert not dut.o__valid.value
        await dut.clk.rising_edge
    for column in columns:
        assert dut.o__valid.value
        assert dut.o__payload.value.to_unsigned() == column
        await dut.clk.rising_edge
    await driver
