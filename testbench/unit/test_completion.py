# amaranth: UnusedElaboratable=no
"""Completion: commands in order, their signals, and what is the oldest."""

import random

import cocotb
import pytest

from acceltran.arch.commands import SEMAPHORES
from acceltran.control.completion import Completion, Issued
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSource

DEPTH = 6


def test_completion(request):
    simulate(
        Completion(depth=DEPTH),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects_depth():
    with pytest.raises(ValueError, match=r"^Number of commands must be at least 1, not 0$"):
        Completion(depth=0)


# What follows runs inside the simulator.


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(source_pace=[1.0, 0.3], pace=[1.0, 0.2])
async def signals_what_is_complete(dut, source_pace, pace):
    """Each command's signal follows its completion by a cycle, in order; no more than DEPTH fit."""
    commands = [
        {
            "index": 3 * n,
            "signal_enable": random.getrandbits(1),
            "signal": random.randrange(SEMAPHORES),
        }
        for n in range(60)
    ]
    dut.done.value = 0
    source = StreamSource(dut, "i", pace=source_pace)
    await start(dut)
    assert dut.idle.value
    cocotb.start_soon(source.put_all(pack_fields(Issued(), command) for command in commands))
    issued = finished = before = known = 0
    signal = None
    while finished < len(commands) or signal is not None:
        await dut.clk.rising_edge
        assert bool(dut.signal__valid.value) == (signal is not None)
        if signal is not None:
            assert dut.signal__semaphore.value == signal
        assert bool(dut.idle.value) == (issued == finished and signal is None)
        if known > finished:
            assert dut.oldest.value == commands[finished]["index"]
        signal = None
        if dut.done.value:
            command = commands[finished]
            signal = command["signal"] if command["signal_enable"] else None
            finished += 1
        issued += int(dut.i__valid.value and dut.i__ready.value)
        assert issued - finished <= DEPTH
        known, before = before, issued  # what is taken is held from the next cycle on
        dut.done.value = known > finished and random.random() < pace
