# amaranth: UnusedElaboratable=no
"""RegionCheck: what passes, what does not, and that nothing passes after an error."""

import random

import cocotb

from acceltran.memory.region_check import RegionCheck
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSink, StreamSource

TOP = (1 << 64) - 1


def test_region_check(request):
    simulate(RegionCheck(), bench=__name__, parameters={}, seed=request.config.getoption("seed"))


# What follows runs inside the simulator.


async def passes(dut, first: int, last: int, address: int, words: int) -> bool:
    """Reset, offer one request, and say whether it comes out unchanged."""
    dut.rst.value = 1
    dut.region_first.value = first
    dut.region_last.value = last
    await dut.clk.rising_edge
    dut.rst.value = 0
    source, sink = StreamSource(dut, "i"), StreamSink(dut, "o", pace=0.5)
    receiver = cocotb.start_soon(sink.get())
    await source.put(address | words << 64)
    errors = 0
    for _ in range(20):
        await dut.clk.rising_edge
        errors += int(dut.error.value)
    if receiver.done():
        assert receiver.result() == address | words << 64
        assert errors == 0
        assert dut.i__ready.value
        return True
    receiver.cancel()
    assert errors == 1
    assert not dut.i__ready.value
    return False


@cocotb.test()
async def judges(dut):
    """Corners of the region and of the address space, and random requests."""
    await start(dut)
    assert await passes(dut, 64, 127, 64, 8)
    assert not await passes(dut, 64, 127, 64, 9)
    assert not await passes(dut, 64, 126, 64, 8)
    assert not await passes(dut, 64, 127, 56, 8)
    assert await passes(dut, 64, 127, 120, 1)
    assert not await passes(dut, 64, 127, 128, 1)
    assert not await passes(dut, 64, 127, 68, 1)
    assert await passes(dut, 0, TOP, TOP - 7, 1)
    assert not await passes(dut, 0, TOP, TOP - 7, 2)
    assert not await passes(dut, 0, TOP, TOP - 15, (1 << 36) - 1)
    assert not await passes(dut, 128, 64, 64, 1)
    for _ in range(100):
        first, last = random.getrandbits(10), random.getrandbits(10)
        address, words = random.getrandbits(10) & ~7, random.randint(1, 60)
        inside = address >= first and address + 8 * words - 1 <= last
        assert await passes(dut, first, last, address, words) == inside


@cocotb.test()
async def has_the_documented_latency(dut):
    """A request is offered LATENCY cycles after it was taken."""
    dut.region_first.value = 0
    dut.region_last.value = TOP
    source = StreamSource(dut, "i")
    await start(dut)
    await source.put(1 << 64)
    for _ in range(RegionCheck.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    await dut.clk.rising_edge
    assert dut.o__valid.value
