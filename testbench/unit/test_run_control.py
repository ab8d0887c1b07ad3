"""RunControl: what starts, stops and resets the core, and when."""

import random

import cocotb

from acceltran.arch import registers
from acceltran.arch.registers import ErrorCause
from acceltran.control.run_control import Failure, RunControl
from testbench.harness.simulate import simulate, start

LONG = RunControl.PATIENCE + 10
BUSY, DONE, ERROR, RESETTING = (
    registers.STATUS_BUSY,
    registers.STATUS_DONE,
    registers.STATUS_ERROR,
    registers.STATUS_RESETTING,
)


def test_run_control(request):
    simulate(
        RunControl(),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


# What follows runs inside the simulator. An input that is set right after an edge is seen at the
# next one, and what it does shows at the one after that.


class Bench:
    """Inputs at rest, and strobes."""

    def __init__(self, dut):
        self.dut = dut

    async def begin(self) -> None:
        for name in ("start", "soft_reset", "watchdog", "progress", "failure", "oldest", "ended"):
            self.dut[name].value = 0
        self.dut.quiet.value = 1
        await start(self.dut)
        await self.cycles(2)

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await self.dut.clk.rising_edge

    async def strobe(self, name: str, value: int = 1) -> None:
        """Set an input for a cycle; returns when its consequence shows."""
        self.dut[name].value = value
        await self.cycles(1)
        self.dut[name].value = 0
        await self.cycles(1)

    async def fail(self, cause: int, command: int) -> None:
        value = Failure().const({"valid": 1, "cause": cause, "command": command})
        await self.strobe("failure", value.as_bits())

    def shows(self, **expected: int) -> None:
        for name, value in expected.items():
            assert self.dut[name].value == value, name

    async def wait_for(self, name: str, most: int = 10) -> int:
        """Cycles until a strobe is seen."""
        for count in range(most):
            if self.dut[name].value:
                return count
            await self.cycles(1)
        raise AssertionError(f"{name} never came")

    async def enter(self, state: str) -> None:
        """From rest to a state of the machine."""
        dut = self.dut
        if state == "idle":
            return
        await self.strobe("start")
        self.shows(core_start=1, running=1, status=BUSY, core_stop=0)
        if state == "running":
            return
        dut.quiet.value = 0
        if state == "ending":
            await self.strobe("ended")
            self.shows(status=BUSY, core_stop=1, finished=0)
            return
        if state == "resetting":
            await self.strobe("soft_reset")
            self.shows(status=BUSY | RESETTING, core_stop=1)
            return
        await self.fail(ErrorCause.BUFFER_ADDRESS, 77)
        self.shows(status=BUSY, core_stop=1, failed=0, error_command=77)
        if state == "failed":
            dut.quiet.value = 1
            await self.cycles(2)
            self.shows(status=ERROR, failed=1)

    async def is_at_rest(self, status: int = 0) -> None:
        await self.cycles(3)
        self.shows(status=status, core_stop=0, core_reset=0, running=0, core_start=0)


STATES = ["idle", "running", "ending", "failing", "failed", "resetting"]


@cocotb.test()
async def ends(dut):
    """Start a cycle after the strobe; stop, reset and interrupt after the end, once quiet."""
    bench = Bench(dut)
    await bench.begin()
    await bench.enter("running")
    await bench.cycles(1)
    bench.shows(core_start=0, running=1)
    dut.quiet.value = 0
    await bench.strobe("ended")
    bench.shows(core_stop=1, core_reset=0, running=1)
    await bench.cycles(50)
    bench.shows(core_stop=1, core_reset=0, running=1, finished=0)
    dut.quiet.value = 1
    await bench.cycles(2)
    bench.shows(core_reset=1, finished=1, failed=0, running=0, status=DONE)
    await bench.cycles(1)
    bench.shows(core_reset=1, finished=0, core_stop=0, status=DONE)
    await bench.cycles(1)
    bench.shows(core_reset=0, status=DONE)
    await bench.strobe("start")
    bench.shows(core_start=1, status=BUSY)


@cocotb.test()
@cocotb.parametrize(end=["ended", "failure"])
async def loses_patience(dut, end):
    """Ports that never become quiet delay the interrupt by PATIENCE cycles."""
    bench = Bench(dut)
    await bench.begin()
    await bench.enter("running")
    dut.quiet.value = 0
    if end == "ended":
        await bench.strobe("ended")
        assert await bench.wait_for("finished", LONG) == RunControl.PATIENCE + 1
        bench.shows(status=DONE, core_reset=1)
    else:
        await bench.fail(ErrorCause.AXI_READ, 3)
        assert await bench.wait_for("failed", LONG) == RunControl.PATIENCE + 1
        bench.shows(status=ERROR, core_reset=0)
    await bench.strobe("soft_reset")
    assert await bench.wait_for("core_reset", LONG) == RunControl.PATIENCE + 1
    await bench.is_at_rest()


@cocotb.test()
async def first_failure_counts(dut):
    """Cause and command stay until soft reset, whatever fails, starts or ends afterwards."""
    bench = Bench(dut)
    await bench.begin()
    await bench.enter("running")
    dut.quiet.value = 0
    await bench.fail(ErrorCause.AXI_READ, 123_456)
    for _ in range(3):
        await bench.fail(ErrorCause.ILLEGAL_COMMAND, 5)
        await bench.strobe("ended")
    dut.quiet.value = 1
    await bench.cycles(2)
    bench.shows(failed=1, finished=0, status=ERROR)
    await bench.cycles(1)
    for _ in range(3):
        await bench.fail(ErrorCause.ILLEGAL_COMMAND, 5)
        await bench.strobe("ended")
        await bench.strobe("start")
        bench.shows(
            status=ERROR,
            error_cause=ErrorCause.AXI_READ,
            error_command=123_456,
            failed=0,
            core_start=0,
            core_stop=1,
        )
    await bench.strobe("soft_reset")
    await bench.is_at_rest()
    bench.shows(error_cause=ErrorCause.NONE, error_command=0)


@cocotb.test()
async def failure_beats_end(dut):
    """A failure that comes with the end, or a cycle after it, is not lost."""
    bench = Bench(dut)
    for late in (0, 1):
        await bench.begin()
        await bench.enter("running")
        dut.ended.value = 1
        await bench.cycles(late)
        dut.failure.value = Failure().const({"valid": 1, "cause": 2, "command": 9}).as_bits()
        dut.ended.value = 1 - late
        await bench.cycles(1)
        dut.ended.value = 0
        dut.failure.value = 0
        await bench.cycles(2)
        bench.shows(failed=1, finished=0, error_cause=2, error_command=9)
        await bench.strobe("soft_reset")
        await bench.is_at_rest()


@cocotb.test()
@cocotb.parametrize(limit=[1, 5, 100])
async def watchdog_expires(dut, limit):
    """After so many cycles without progress, and not while there is some."""
    bench = Bench(dut)
    await bench.begin()
    dut.watchdog.value = limit
    dut.oldest.value = 42
    await bench.cycles(2 * limit)  # time before the start does not count
    dut.progress.value = 1
    await bench.enter("running")
    for _ in range(20):
        dut.progress.value = 1
        await bench.cycles(1)
        dut.progress.value = 0
        await bench.cycles(random.randint(0, limit - 1))
        bench.shows(core_stop=0)
    dut.progress.value = 1
    await bench.cycles(1)
    dut.progress.value = 0
    assert await bench.wait_for("core_stop", limit + 10) == limit + 2
    dut.oldest.value = 43
    await bench.cycles(3)
    bench.shows(status=ERROR, error_cause=ErrorCause.WATCHDOG, error_command=42)


@cocotb.test()
async def watchdog_can_be_off(dut):
    """0 means never."""
    bench = Bench(dut)
    await bench.begin()
    await bench.enter("running")
    await bench.cycles(3000)
    bench.shows(status=BUSY, core_stop=0)


@cocotb.test()
@cocotb.parametrize(state=STATES, hung=[False, True])
async def soft_reset_from(dut, state, hung):
    """From every state to rest: the core is reset once the ports are quiet, or after PATIENCE."""
    bench = Bench(dut)
    await bench.begin()
    await bench.enter(state)
    dut.quiet.value = 0
    await bench.strobe("soft_reset")
    assert int(dut.status.value) & RESETTING
    bench.shows(core_stop=1, core_reset=0, failed=0, finished=0)
    await bench.cycles(20)
    assert int(dut.status.value) & RESETTING
    if hung:
        await bench.wait_for("core_reset", LONG)
    else:
        dut.quiet.value = 1
        await bench.cycles(2)
    bench.shows(core_reset=1, status=0, failed=0, finished=0, running=0)
    await bench.is_at_rest()
    dut.quiet.value = 1
    await bench.strobe("start")
    bench.shows(core_start=1, status=BUSY, error_cause=0)


@cocotb.test()
@cocotb.parametrize(state=["running", "ending", "failing", "failed", "resetting"])
async def ignores_start(dut, state):
    """A start in any state but idle does nothing, then or later."""
    bench = Bench(dut)
    await bench.begin()
    await bench.enter(state)
    if state == "running":
        await bench.cycles(1)
    before = int(dut.status.value)
    for _ in range(3):
        await bench.strobe("start")
        bench.shows(core_start=0, status=before)
    dut.quiet.value = 1
    for _ in range(10):
        await bench.cycles(1)
        bench.shows(core_start=0)


@cocotb.test()
async def soft_reset_beats_start(dut):
    """Written together, they are a soft reset."""
    bench = Bench(dut)
    await bench.begin()
    dut.start.value = 1
    await bench.strobe("soft_reset")
    dut.start.value = 0
    bench.shows(core_start=0, status=RESETTING)
    await bench.is_at_rest()
