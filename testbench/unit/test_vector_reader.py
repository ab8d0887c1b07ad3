# amaranth: UnusedElaboratable=no
"""VectorReader in front of a memory."""

import random

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.memory.vector_reader import VectorReader
from testbench.harness.read_ports import ReadMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

FORMAT = FixedPoint(int_bits=4, frac_bits=8)
TILE = 4
FULL_RATE_DEPTH = VectorBuffer.READ_LATENCY + VectorReader.FULL_RATE_DEPTH


@pytest.mark.parametrize("depth", [1, 8])
def test_vector_reader(depth, request):
    simulate(
        VectorReader(fmt=FORMAT, tile=TILE, depth=depth),
        bench=__name__,
        parameters={"depth": depth},
        seed=request.config.getoption("seed"),
    )


def test_full_rate_by_default():
    assert VectorReader(fmt=FORMAT, tile=TILE).depth >= FULL_RATE_DEPTH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 0}, "Vector size must be at least 1, not 0"),
        ({"depth": 0}, "Reader depth must be at least 1, not 0"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        VectorReader(**{"fmt": FORMAT, "tile": TILE, **change})


# What follows runs inside the simulator, once for each depth.


def content(address):
    """Something different at every address, as wide as a vector."""
    return address * 0x9E3779B97F4A7C15 % (1 << (FORMAT.width + 1) * TILE)


async def begin(dut, source_pace, sink_pace, memory_pace):
    source = StreamSource(dut, "addresses", pace=source_pace)
    sink = StreamSink(dut, "vectors", pace=sink_pace)
    memory = ReadMemory(
        dut,
        "port",
        content,
        field="vector",
        latency=VectorBuffer.READ_LATENCY,
        pace=memory_pace,
    )
    await start(dut)
    memory.start()
    return source, sink


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3], memory_pace=[1.0, 0.5])
async def answers_in_order(dut, source_pace, sink_pace, memory_pace):
    """Each address gives its vector, whoever stalls."""
    source, sink = await begin(dut, source_pace, sink_pace, memory_pace)
    addresses = [random.getrandbits(24) for _ in range(150)]
    driver = cocotb.start_soon(source.put_all(addresses))
    assert await sink.get_all(len(addresses)) == [content(address) for address in addresses]
    await driver


@cocotb.test()
async def has_the_documented_latency_and_rate(dut):
    """LATENCY cycles on top of the memory's; a vector per cycle if deep enough."""
    source, _ = await begin(dut, 1.0, 1.0, 1.0)
    for _ in range(3):
        await dut.clk.rising_edge
    driver = cocotb.start_soon(source.put_all(range(50)))
    await dut.clk.rising_edge  # the first address is taken at the next edge
    latency = VectorBuffer.READ_LATENCY + VectorReader.LATENCY
    for _ in range(latency - (parameters()["depth"] <= 4)):
        assert not dut.vectors__valid.value
        await dut.clk.rising_edge
    assert dut.vectors__valid.value
    if parameters()["depth"] >= FULL_RATE_DEPTH:
        dut.vectors__ready.value = 1
        for _ in range(40):
            await dut.clk.rising_edge
            assert dut.vectors__valid.value
    driver.cancel()
