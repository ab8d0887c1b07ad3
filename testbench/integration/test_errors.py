# amaranth: UnusedElaboratable=no
"""Every way in which a program fails: clean stop, right cause and command, and a good job next."""

import random
from typing import Any

import cocotb
import pytest

from acceltran.arch import registers
from acceltran.arch.commands import COMMAND_BYTES
from acceltran.arch.presets import TINY2
from acceltran.arch.registers import ErrorCause
from acceltran.control.run_control import RunControl
from acceltran.top import AccelTran
from acceltran_sim.rtl.simulator import simulate as simulate_program
from testbench.harness.axi_memory import OKAY
from testbench.harness.encoder_job import simulator
from testbench.harness.failing_programs import CASES, CONFIG, PRODUCT, changed
from testbench.harness.machine import Machine
from testbench.harness.simulate import simulate
from testbench.harness.small_job import SmallJob, matmul

MOST = 20_000
"""Cycles that no run here takes."""


def test_errors(request):
    simulate(
        AccelTran(config=CONFIG),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({}, ErrorCause.NONE),
        ({"c_base": 17}, ErrorCause.ILLEGAL_COMMAND),
        ({"c_row_stride": 3}, ErrorCause.ILLEGAL_COMMAND),
        ({"c_base": TINY2.activation_vectors - 6}, ErrorCause.BUFFER_ADDRESS),
    ],
)
def test_errors_of_two_banks(fields, cause, request):
    """Results begin in bank 0, and end where both banks do."""
    random.seed(request.config.getoption("seed"))
    job = SmallJob(TINY2)
    commands = changed(job, PRODUCT, **fields)
    run = simulate_program(
        simulator(TINY2),
        image=job.image_with(commands),
        base=job.region[0],
        program=job.program,
        commands=len(commands),
        max_cycles=MOST,
    )
    assert run.error_cause == cause
    if fields:
        assert run.error_command == PRODUCT
        assert run.image == job.image_with(commands)
    else:
        assert run.image == job.expected()


# What follows runs inside the simulator.


async def begin(dut: Any, *, pace: float = 1.0) -> tuple[Machine, SmallJob]:
    machine = Machine(dut, pace=pace)
    await machine.power_up()
    return machine, SmallJob(CONFIG)


async def run_well(machine: Machine, job: SmallJob) -> None:
    """Run the small job: it ends, and every byte of memory is as it should be."""
    start = job.region[0]
    memory = machine.memory
    memory.respond = lambda address: OKAY
    memory.load(start, job.image_with(job.commands))
    await machine.write("WATCHDOG", registers.WATCHDOG_DEFAULT)
    await machine.run(program=job.program, commands=len(job.commands), region=job.region, most=MOST)
    assert await machine.read("STATUS") == registers.STATUS_DONE
    assert await machine.acknowledge() == registers.INTERRUPT_DONE
    assert await machine.read("ERROR_CAUSE") == ErrorCause.NONE
    assert await machine.read("COMMANDS_DONE") == len(job.commands)
    assert memory.dump(start, len(job.image)) == job.expected()
    assert all(job.is_output(address) for address in memory.written)
    assert not memory.outstanding


async def stays_quiet(machine: Machine) -> None:
    """No burst is begun, and none is under way."""
    issued = len(machine.memory.bursts)
    assert not machine.memory.outstanding
    await machine.cycles(100)
    assert len(machine.memory.bursts) == issued


async def fall_silent(machine: Machine, address: int) -> None:
    while all(address != place for _, place, _ in machine.memory.bursts):
        await machine.cycles(1)
    machine.memory.silent = True


@cocotb.test()
@cocotb.parametrize(case=list(CASES))
async def fails(dut, case):
    """Clean stop, sticky cause and command, interrupt; after a soft reset all is well."""
    pace = random.choice([1.0, 0.4])
    machine, job = await begin(dut, pace=pace)
    memory = machine.memory
    wrong = CASES[case](job)
    start = job.region[0]
    memory.load(start, job.image_with(wrong.commands))
    memory.respond = wrong.respond
    settings = {
        "PROGRAM": job.program,
        "PROGRAM_COMMANDS": len(wrong.commands),
        "REGION_FIRST": start,
        "REGION_LAST": job.region[1],
        **wrong.registers,
    }
    for name, value in settings.items():
        await machine.write(name, value)
    if wrong.silent_at is not None:
        cocotb.start_soon(fall_silent(machine, wrong.silent_at))
    await machine.start()
    await machine.interrupted(MOST)

    async def check() -> None:
        assert await machine.read("STATUS") == registers.STATUS_ERROR
        cause = ErrorCause(await machine.read("ERROR_CAUSE"))
        assert (cause, await machine.read("ERROR_COMMAND")) == (wrong.cause, wrong.command)
        assert await machine.read("COMMANDS_DONE") < len(job.commands) + 3
        assert await machine.read_counter("cycles") > 0

    await check()
    assert await machine.acknowledge() == registers.INTERRUPT_ERROR
    if wrong.silent_at is None:
        await stays_quiet(machine)
    await machine.start()  # ignored
    await machine.cycles(20)
    await check()
    assert all(job.is_output(address) for address in memory.written)

    await machine.soft_reset()
    assert await machine.read("STATUS") == 0
    assert await machine.read("ERROR_CAUSE") == ErrorCause.NONE
    assert await machine.read("ERROR_COMMAND") == 0
    if wrong.silent_at is not None:
        memory.reset()
    await run_well(machine, job)


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.4], latency=[0, 40])
async def soft_reset_at_any_time(dut, pace, latency):
    """Transactions under way are completed, nothing else happens, and the next job is right."""
    machine, job = await begin(dut, pace=pace)
    memory = machine.memory
    memory.latency = latency
    await run_well(machine, job)
    longest = await machine.read_counter("cycles")
    for _ in range(10):
        memory.load(job.region[0], job.image_with(job.commands))
        await machine.start()
        await machine.cycles(random.randint(1, longest))
        await machine.soft_reset()
        pending = await machine.read("INTERRUPT")
        assert pending in (0, registers.INTERRUPT_DONE)  # it may have been done before
        await machine.write("INTERRUPT", pending)
        assert await machine.read("STATUS") == 0
        await stays_quiet(machine)
        assert all(job.is_output(address) for address in memory.written)
        if random.random() < 0.5:
            await run_well(machine, job)
    await run_well(machine, job)


@cocotb.test()
async def hung_memory_does_not_hold_a_soft_reset(dut):
    """A running program whose memory is silent is reset within PATIENCE."""
    machine, job = await begin(dut)
    memory = machine.memory
    memory.load(job.region[0], job.image_with(job.commands))
    silence = cocotb.start_soon(fall_silent(machine, job.weights))
    await machine.write("PROGRAM", job.program)
    await machine.write("PROGRAM_COMMANDS", len(job.commands))
    await machine.start()
    await silence
    before = memory.cycle
    await machine.soft_reset()
    assert RunControl.PATIENCE <= memory.cycle - before < RunControl.PATIENCE + 100
    assert await machine.read("STATUS") == 0
    memory.reset()
    await run_well(machine, job)


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.4])
async def ignores_start_while_busy(dut, pace):
    """A second start changes nothing."""
    machine, job = await begin(dut, pace=pace)
    memory = machine.memory
    memory.load(job.region[0], job.image_with(job.commands))
    await machine.write("PROGRAM", job.program)
    await machine.write("PROGRAM_COMMANDS", len(job.commands))
    await machine.start()
    for _ in range(5):
        assert await machine.read("STATUS") == registers.STATUS_BUSY
        await machine.start()
        await machine.cycles(40)
    await machine.interrupted(MOST)
    assert await machine.acknowledge() == registers.INTERRUPT_DONE
    assert await machine.read("COMMANDS_DONE") == len(job.commands)
    assert memory.dump(job.region[0], len(job.image)) == job.expected()
    await stays_quiet(machine)
    assert await machine.read("STATUS") == registers.STATUS_DONE


@cocotb.test()
async def soft_reset_at_rest_is_harmless(dut):
    """Before any program, after one, and twice; counters keep the last run."""
    machine, job = await begin(dut)
    await machine.soft_reset()
    await machine.soft_reset()
    await run_well(machine, job)
    cycles = await machine.read_counter("cycles")
    await machine.soft_reset()
    assert await machine.read("STATUS") == 0
    assert await machine.read_counter("cycles") == cycles
    assert await machine.read("PROGRAM_LOW") == job.program
    await stays_quiet(machine)
    await run_well(machine, job)


@cocotb.test()
async def start_clears_counters(dut):
    """Each run is counted by itself."""
    machine, job = await begin(dut)
    runs = []
    for _ in range(2):
        await run_well(machine, job)
        runs.append({name: await machine.read_counter(name) for name, _ in registers.COUNTERS})
        machine.memory.written.clear()
    assert runs[0] == runs[1]
    assert runs[0]["dma_write_bytes"] == 2 * job.output_size
    assert runs[0]["cycles"] > runs[0]["busy_product"] > 0


@cocotb.test()
@cocotb.parametrize(rubbish=[bytes(COMMAND_BYTES), bytes([0xFF]) * COMMAND_BYTES])
async def ignores_what_is_behind_the_end(dut, rubbish):
    """Memory behind END is no command, even if the program is said to be longer."""
    machine, job = await begin(dut)
    machine.memory.load(job.region[0], job.image_with([*job.commands, rubbish, rubbish]))
    await machine.run(
        program=job.program, commands=len(job.commands) + 2, region=job.region, most=MOST
    )
    assert await machine.acknowledge() == registers.INTERRUPT_DONE
    await run_well(machine, job)


@cocotb.test()
@cocotb.parametrize(order=["bijk", "kbij", "ikjb", "jbki"], rows=[8, 9])
async def partial_sums_that_fit(dut, order, rows):
    """A product may use all partial sums, and one more row only where the order allows it."""
    machine, job = await begin(dut)
    commands = list(job.commands)
    old = commands[PRODUCT]
    commands[PRODUCT] = matmul(
        order,
        **{**old.fields, "rows": rows, "c_base": 300}
        | {f"order{n}": "bijk".index(loop) for n, loop in enumerate(order)},
    )
    machine.memory.load(job.region[0], job.image_with(commands))
    await machine.run(program=job.program, commands=len(commands), region=job.region, most=MOST)
    fits = rows == 8 or order.index("k") > order.index("i")
    expected = registers.INTERRUPT_DONE if fits else registers.INTERRUPT_ERROR
    assert await machine.acknowledge() == expected
    assert await machine.read("ERROR_COMMAND") == (0 if fits else PRODUCT)
