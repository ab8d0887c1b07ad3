# amaranth: UnusedElaboratable=no
"""WaitGate: its latency and throughput, and that counts are looked at when they change.

What waits mean is tested with ``CommandQueue``.
"""

from itertools import pairwise

import cocotb
import pytest

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS
from acceltran.control.command_word import QueuedCommand
from acceltran.control.wait_gate import WaitGate
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

BODY, THRESHOLD = 12, 1
LAYOUT = QueuedCommand(BODY, THRESHOLD)


@pytest.mark.parametrize("stage", range(3))
def test_wait_gate(stage, request):
    simulate(
        WaitGate(body_width=BODY, threshold_width=THRESHOLD, stage=stage),
        bench=__name__,
        parameters={"stage": stage},
        seed=request.config.getoption("seed"),
    )


def test_rejects_stages():
    with pytest.raises(ValueError, match=r"^Stage must be 0, 1 or 2, not 3$"):
        WaitGate(body_width=BODY, threshold_width=THRESHOLD, stage=3)


def command(body: int, count: int, everywhere: int = 0, stage: int = 0) -> int:
    """Command that waits for ``count`` signals of semaphore 3."""
    unused = {"enable": 0, "semaphore": 0, "everywhere": 0, "rows": 0, "final": 0, "count": 1}
    waits = [unused] * 3
    waits.append({
        "enable": 1,
        "semaphore": 3,
        "everywhere": everywhere,
        "rows": int(stage == 1),
        "final": int(stage == 2),
        "count": count,
    })
    return LAYOUT.const({"header": {"waits": waits}, "body": body}).as_bits()


async def begin(dut) -> StreamSource:
    dut.stop.value = 0
    dut.counts.value = dut.everywhere.value = 0
    dut.o__ready.value = 0
    source = StreamSource(dut, "i")
    await start(dut)
    return source


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_the_documented_latency(dut):
    """A command accepted at one edge is offered at the LATENCY-th edge after it."""
    source = await begin(dut)
    await source.put(command(5, 0))
    for _ in range(WaitGate.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
        assert not dut.waiting.value
    await dut.clk.rising_edge
    assert not dut.waiting.value
    assert dut.o__valid.value


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_the_documented_throughput(dut):
    """Commands whose waits are met follow one another every LATENCY + 1 cycles."""
    source = await begin(dut)
    driver = cocotb.start_soon(source.put_all(command(body, 0) for body in range(5)))
    dut.o__ready.value = 1
    offers = []
    for cycle in range(5 * (WaitGate.LATENCY + 1) + 2):
        await dut.clk.rising_edge
        if dut.o__valid.value:
            offers.append(cycle)
    assert [late - early for early, late in pairwise(offers)] == [WaitGate.LATENCY + 1] * 4
    await driver


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(short_by=[0, 1, 1 << 15], everywhere=[0, 1])
async def reports_waiting(dut, short_by, everywhere):
    """``waiting`` while a wait is not met, and only then; half the range ahead is not met."""
    source = await begin(dut)
    counts, others = dut.counts, dut.everywhere
    if everywhere:
        counts, others = others, counts
    wanted = 500
    count = wanted - short_by & (1 << SEMAPHORE_COUNT_BITS) - 1
    counts.value = count << 3 * SEMAPHORE_COUNT_BITS
    others.value = (wanted - (short_by == 0)) << 3 * SEMAPHORE_COUNT_BITS
    await source.put(command(5, wanted, everywhere))
    for _ in range(2 * WaitGate.LATENCY):
        await dut.clk.rising_edge
    assert dut.o__valid.value == (short_by == 0)
    assert dut.waiting.value == (short_by != 0)
    counts.value = wanted << 3 * SEMAPHORE_COUNT_BITS
    for _ in range(WaitGate.LATENCY):
        await dut.clk.rising_edge
    assert dut.o__valid.value
    assert not dut.waiting.value


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stage=range(3))
async def leaves_waits_of_later_stages(dut, stage):
    """A wait for what comes later is met elsewhere."""
    source = await begin(dut)
    await source.put(command(5, 1, stage=stage))
    for _ in range(2 * WaitGate.LATENCY):
        await dut.clk.rising_edge
    assert bool(dut.o__valid.value) == (stage > parameters()["stage"])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_its_offer_when_stopped(dut):
    """Stop withdraws nothing, and holds what is not offered yet."""
    source = await begin(dut)
    sink = StreamSink(dut, "o")
    commands = [command(body, 0) for body in range(2)]
    driver = cocotb.start_soon(source.put_all(commands))
    for _ in range(WaitGate.LATENCY + 1):
        await dut.clk.rising_edge
    assert dut.o__valid.value
    dut.stop.value = 1
    for _ in range(3):
        await dut.clk.rising_edge
        assert dut.o__valid.value
    assert await sink.get() == commands[0]
    for _ in range(3 * WaitGate.LATENCY):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    await driver
