# amaranth: UnusedElaboratable=no
"""CommandQueue and its WaitGate: order, waits, signals, stop."""

import random

import cocotb
import pytest
from cocotb.triggers import ReadOnly

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES
from acceltran.control.command_queue import CommandQueue
from acceltran.control.command_word import QueuedCommand
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSink, StreamSource

BODY, THRESHOLD = 40, 20
IN_FLIGHT = 3
LAYOUT = QueuedCommand(BODY, THRESHOLD)


def test_command_queue(request):
    simulate(
        CommandQueue(body_width=BODY, threshold_width=THRESHOLD, in_flight=IN_FLIGHT),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects_depth():
    with pytest.raises(ValueError, match=r"^Queue depth must be at least 1, not 0$"):
        CommandQueue(body_width=BODY, threshold_width=THRESHOLD, depth=0)


def test_rejects_in_flight():
    with pytest.raises(ValueError, match=r"^Commands in flight must be at least 1, not 0$"):
        CommandQueue(body_width=BODY, threshold_width=THRESHOLD, in_flight=0)


def command(index: int, waits=(), signal: int | None = None) -> int:
    padded = [*waits, *[None] * (4 - len(waits))]
    return LAYOUT.const({
        "header": {
            "index": index,
            "signal_enable": int(signal is not None),
            "signal": signal or 0,
            "waits": [
                {"enable": 0, "semaphore": 5, "everywhere": 0, "rows": 0, "count": 77}
                if wait is None
                else {
                    "enable": 1,
                    "semaphore": wait[0],
                    "everywhere": 0,
                    "rows": 1,
                    "count": wait[1],
                }
                for wait in padded
            ],
        },
        "body": random.getrandbits(BODY),
        "threshold": random.getrandbits(THRESHOLD),
    }).as_bits()


def set_counts(dut, counts: dict[int, int]) -> None:
    mask = (1 << SEMAPHORE_COUNT_BITS) - 1
    dut.counts.value = sum(
        (counts.get(index, 0) & mask) << (index * SEMAPHORE_COUNT_BITS)
        for index in range(SEMAPHORES)
    )


async def begin(dut) -> None:
    dut.done.value = 0
    dut.stop.value = 0
    dut.i__valid.value = 0
    dut.o__ready.value = 0
    set_counts(dut, {})
    dut.everywhere.value = 0
    await start(dut)


async def complete(dut) -> tuple[int, int] | None:
    """Finish the oldest command; return the semaphore that is signalled, if any."""
    dut.done.value = 1
    await dut.clk.rising_edge
    dut.done.value = 0
    await dut.clk.rising_edge
    return dut.signal__semaphore.value.to_unsigned() if dut.signal__valid.value else None


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(source_pace=[1.0, 0.3], sink_pace=[1.0, 0.3])
async def passes_commands_in_order(dut, source_pace, sink_pace):
    """Without waits, all come out as they went in; each completion signals its semaphore."""
    await begin(dut)
    signals = [random.choice([None, *range(SEMAPHORES)]) for _ in range(40)]
    commands = [command(index, signal=signal) for index, signal in enumerate(signals)]
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    driver = cocotb.start_soon(source.put_all(commands))
    for index, (sent, signal) in enumerate(zip(commands, signals, strict=True)):
        assert await sink.get() == sent
        await dut.clk.rising_edge
        assert dut.busy.value
        assert dut.oldest.value == index
        assert await complete(dut) == signal
    await driver
    for _ in range(2):
        await dut.clk.rising_edge
    assert dut.idle.value


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def waits_for_every_semaphore(dut):
    """A command starts when the last of its four waits is met, not before."""
    await begin(dut)
    waits = [(0, 3), (7, 1), (15, 200), (2, 5)]
    source = StreamSource(dut, "i")
    dut.o__ready.value = 1
    await source.put(command(3, waits))
    counts = {semaphore: count - 1 for semaphore, count in waits}
    order = random.sample(waits, len(waits))
    for semaphore, count in order:
        set_counts(dut, counts)
        for _ in range(12):
            await dut.clk.rising_edge
            assert not dut.o__valid.value
        assert dut.waiting.value
        assert dut.oldest.value == 3
        counts[semaphore] = count
    set_counts(dut, counts)
    for _ in range(12):
        await dut.clk.rising_edge
        if dut.o__valid.value:
            return
    raise AssertionError("the command never started")


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(ahead=[0, 1, 100, (1 << 15) - 1])
async def compares_modulo(dut, ahead):
    """A count that has passed the wanted one and wrapped still meets it."""
    await begin(dut)
    wanted = (1 << SEMAPHORE_COUNT_BITS) - 1
    source = StreamSource(dut, "i")
    sink = StreamSink(dut, "o")
    set_counts(dut, {4: wanted + ahead})
    await source.put(command(0, [(4, wanted)]))
    await sink.get()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def keeps_at_most_in_flight(dut):
    """The engine never has more than in_flight unfinished commands."""
    await begin(dut)
    source = StreamSource(dut, "i")
    driver = cocotb.start_soon(source.put_all(command(index) for index in range(8)))
    dut.o__ready.value = 1
    taken = 0

    async def count():
        nonlocal taken
        while True:
            await dut.clk.rising_edge
            taken += int(bool(dut.o__valid.value))

    counter = cocotb.start_soon(count())
    for _ in range(80):
        await dut.clk.rising_edge
    assert taken == IN_FLIGHT
    assert dut.oldest.value == 0
    await complete(dut)
    for _ in range(20):
        await dut.clk.rising_edge
    assert taken == IN_FLIGHT + 1
    assert dut.oldest.value == 1
    counter.cancel()
    driver.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def stops(dut):
    """After stop no further command is offered."""
    await begin(dut)
    source = StreamSource(dut, "i")
    dut.o__ready.value = 1
    dut.stop.value = 1
    await source.put(command(0))
    for _ in range(20):
        await dut.clk.rising_edge
        await ReadOnly()
        assert not dut.o__valid.value
        await dut.clk.falling_edge


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(signal=[None, 6])
async def is_idle_when_nothing_is_left(dut, signal):
    """Not while a command is queued, waits or is under way, nor before its signal is out."""
    await begin(dut)
    source = StreamSource(dut, "i")
    await dut.clk.rising_edge
    assert dut.idle.value
    await source.put(command(0, [(1, 1)], signal))
    dut.o__ready.value = 1
    for _ in range(15):
        await dut.clk.rising_edge
        assert not dut.idle.value
        assert not dut.busy.value
    set_counts(dut, {1: 1})
    for _ in range(15):
        await dut.clk.rising_edge
        assert not dut.idle.value
    assert dut.busy.value
    assert await complete(dut) == signal
    assert bool(dut.idle.value) == (signal is None)
    await dut.clk.rising_edge
    assert dut.idle.value
    assert not dut.signal__valid.value
