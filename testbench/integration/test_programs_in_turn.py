# amaranth: UnusedElaboratable=no
"""Programs one after the other on one machine: what stays, and where they stop."""

import random

import pytest

from acceltran.arch.commands import COMMAND_BYTES, Opcode
from acceltran.arch.presets import TINY
from acceltran.arch.registers import ErrorCause, register_address
from acceltran_sim.program.command import Command
from acceltran_sim.rtl.simulator import ProgramCall, simulate, simulate_in_turn
from testbench.harness.encoder_job import simulator
from testbench.harness.small_job import SmallJob

LOADS = 4
"""Commands of the small job before its first product."""


@pytest.fixture
def job(request):
    random.seed(request.config.getoption("seed"))
    return SmallJob(TINY)


def without_waits(command: Command) -> Command:
    """The same for a program that loads nothing: waits for loads are met."""
    fields = {k: v for k, v in command.fields.items() if not k.startswith("wait0")}
    return Command(opcode=command.opcode, fields=fields)


def calls(job: SmallJob, *parts: list[Command]) -> tuple[bytes, list[ProgramCall]]:
    """Memory with these programs in it, and how to call them."""
    image = job.image_with([command for part in parts for command in part])
    starts = [sum(map(len, parts[:n])) for n in range(len(parts))]
    return image, [
        ProgramCall(address=job.program + COMMAND_BYTES * start, commands=len(part))
        for start, part in zip(starts, parts, strict=True)
    ]


def test_buffers_keep_their_contents(job):
    """Loads in one program and the rest in the next leave what one program leaves."""
    commands = job.commands
    end = Command(opcode=Opcode.END)
    loads = [*commands[1:LOADS], end]
    rest = [commands[0], without_waits(commands[LOADS]), *commands[LOADS + 1 :]]
    image, programs = calls(job, loads, rest)
    results = simulate_in_turn(simulator(TINY), programs, image=image, base=job.region[0])
    assert [run.error_cause for run in results] == [ErrorCause.NONE] * 2
    assert [run.commands_done for run in results] == [len(loads), len(rest)]
    expected = job.expected()
    for output in job.outputs:
        first = output - job.region[0]
        last = first + job.output_size
        assert results[-1].image[first:last] == expected[first:last]
    # Each program has its own counters.
    assert results[0].counters["multiplier_cycles"] == 0 < results[1].counters["multiplier_cycles"]
    assert results[0].counters["dma_write_bytes"] == 0 < results[1].counters["dma_write_bytes"]


def test_registers_around_a_program(job):
    scratch = register_address("REGION_LAST_HIGH")
    image, programs = calls(job, job.commands)
    call = ProgramCall(
        address=programs[0].address,
        commands=programs[0].commands,
        writes=[(scratch, 7), (scratch, 5)],
        reads=[scratch, register_address("COMMANDS_DONE"), scratch],
    )
    options = {"image": image, "base": job.region[0]}
    results = simulate_in_turn(simulator(TINY), [call, programs[0]], **options)
    assert [run.values for run in results] == [(5, programs[0].commands, 5), ()]
    alone = simulate(
        simulator(TINY), program=programs[0].address, commands=programs[0].commands, **options
    )
    assert results[1] == alone
    assert alone.image == job.expected()


def test_an_error_ends_the_run(job):
    end = Command(opcode=Opcode.END)
    bad = Command(opcode=Opcode.LOAD, fields={**job.commands[1].fields, "dram_address": 0})
    image, programs = calls(job, [end], [bad, end], [end])
    results = simulate_in_turn(simulator(TINY), programs, image=image, base=job.region[0])
    assert [run.error_cause for run in results] == [ErrorCause.NONE, ErrorCause.DRAM_REGION]
    assert results[1].error_command == 0
