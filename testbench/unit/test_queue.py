# amaranth: UnusedElaboratable=no
"""Queue: order, capacity, throughput, latency."""

import random

import cocotb
import pytest

from acceltran.memory.queue import Queue
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

WIDTH = 21


@pytest.mark.parametrize("depth", [1, 2, 4, 5, 12])
def test_queue(depth, request):
    dut = Queue(shape=WIDTH, depth=depth)
    simulate(
        dut,
        bench=__name__,
        parameters={"depth": depth, "latency": dut.latency},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("depth", [0, -1])
def test_rejects_depth(depth):
    with pytest.raises(ValueError, match=rf"^Queue depth must be at least 1, not {depth}$"):
        Queue(shape=WIDTH, depth=depth)


# What follows runs inside the simulator, once for each parametrisation of test_queue.


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.5, 0.3])
async def keeps_the_order(dut, source_pace, sink_pace):
    """What goes in comes out in order, whatever the pace."""
    payloads = [random.getrandbits(WIDTH) for _ in range(300)]
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    driver = cocotb.start_soon(source.put_all(payloads))
    assert await sink.get_all(len(payloads)) == payloads
    await driver
    await dut.clk.rising_edge
    assert dut.level.value == 0


@cocotb.test()
async def holds_depth_payloads(dut):
    """It takes ``depth`` payloads without giving one away, and no more."""
    depth = parameters()["depth"]
    dut.o__ready.value = 0
    dut.i__valid.value = 0
    await start(dut)
    dut.i__valid.value = 1
    for level in range(depth):
        await dut.clk.rising_edge
        assert dut.level.value == level
        assert dut.i__ready.value
    for _ in range(3):
        await dut.clk.rising_edge
        assert dut.level.value == depth
        assert not dut.i__ready.value


@cocotb.test()
async def passes_one_payload_per_cycle(dut):
    """From depth 2 on the stream does not stutter."""
    if parameters()["depth"] < 2:
        return
    dut.o__ready.value = 1
    dut.i__valid.value = 0
    await start(dut)
    dut.i__valid.value = 1
    for cycle in range(50):
        dut.i__payload.value = cycle
        await dut.clk.rising_edge
        assert dut.i__ready.value
        if cycle >= parameters()["latency"]:
            assert dut.o__valid.value
            assert dut.o__payload.value == cycle - parameters()["latency"]


@cocotb.test()
async def has_the_documented_latency(dut):
    """A payload accepted at one clock edge is offered at the ``latency``-th edge after it."""
    source = StreamSource(dut, "i")
    dut.o__ready.value = 0
    await start(dut)
    await source.put(1)
    for _ in range(parameters()["latency"] - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    await dut.clk.rising_edge
    assert dut.o__valid.value
