# amaranth: UnusedElaboratable=no
"""CommandFetch with its read channel: commands in order, prefetch, flush, errors."""

import random
from typing import Any

import cocotb
import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.control.command_fetch import CommandFetch
from acceltran.control.command_word import CommandWord
from acceltran.memory.axi4 import Axi4Read
from acceltran.memory.read_channel import ReadChannel
from testbench.harness.axi_memory import OKAY, SLVERR, AxiMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink

INPUTS = {"start": 1, "flush": 1, "program": 64, "commands": 32} | {
    "region_first": 64,
    "region_last": 64,
}
OUTPUTS = {"busy": 1, "done": 1, "dram_error": 1, "error_index": 32}


class FetchPath(wiring.Component):
    """CommandFetch and its read channel, one AXI port outside."""

    o: stream.Interface
    axi: Any
    axi_error: Signal

    def __init__(self, *, data_bits: int):
        self.data_bits = data_bits
        super().__init__({
            **{name: In(width) for name, width in INPUTS.items()},
            **{name: Out(width) for name, width in OUTPUTS.items()},
            "o": Out(stream.Signature(CommandWord())),
            "axi": Out(Axi4Read(data_bits)),
            "axi_error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch = fetch = CommandFetch(data_bits=self.data_bits)
        m.submodules.channel = channel = ReadChannel(
            data_bits=self.data_bits, queues=(32,), burst_beats=16
        )
        wiring.connect(m, wiring.flipped(self.o), fetch.o)
        wiring.connect(m, wiring.flipped(self.axi), channel.axi)
        wiring.connect(m, fetch.port, channel.clients[0])
        m.d.comb += [getattr(fetch, name).eq(getattr(self, name)) for name in INPUTS]
        m.d.comb += [getattr(self, name).eq(getattr(fetch, name)) for name in OUTPUTS]
        m.d.comb += self.axi_error.eq(channel.clients[0].error)
        return m


@pytest.mark.parametrize("data_bits", [64, 1024])
def test_command_fetch(data_bits, request):
    simulate(
        FetchPath(data_bits=data_bits),
        bench=__name__,
        parameters={"data_bits": data_bits},
        seed=request.config.getoption("seed"),
    )


def test_rejects_data_bits():
    rule = "AXI data width must be 64, 128, 256, 512 or 1024 bits, not 32"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        CommandFetch(data_bits=32)


# What follows runs inside the simulator, once for each parametrisation of test_command_fetch.


async def begin(dut, *, program, commands, first=0, last=(1 << 64) - 1, reset=True):
    """Idle inputs, reset, start."""
    dut.start.value = 0
    dut.flush.value = 0
    dut.region_first.value = first
    dut.region_last.value = last
    if reset:
        await start(dut)
    dut.program.value = program
    dut.commands.value = commands
    dut.start.value = 1
    await dut.clk.rising_edge
    dut.start.value = 0


def command_at(memory, address) -> int:
    """Command as it lies in memory."""
    return int.from_bytes(memory.dump(address, 128), "little")


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.3], sink_pace=[1.0, 0.2], latency=[0, 20])
async def fetches(dut, pace, sink_pace, latency):
    """All commands in order, with their indices; then done."""
    program = 64 * random.randrange(100)
    memory = AxiMemory(dut, pace=pace, latency=latency)
    memory.load(program, random.randbytes(128 * 20))
    sink = StreamSink(dut, "o", pace=sink_pace)
    for run, count in enumerate([9, 20, 1]):
        await begin(dut, program=program, commands=count, reset=run == 0)
        for index in range(count):
            expected = command_at(memory, program + 128 * index) << 32 | index
            assert await sink.get() == expected
        await dut.clk.rising_edge
        assert not dut.busy.value


@cocotb.test()
async def strobes_done_once(dut):
    """With the last command, or at once if there is none."""
    AxiMemory(dut)
    dut.o__ready.value = 1
    for run, count in enumerate([3, 0]):
        await begin(dut, program=0, commands=count, reset=run == 0)
        taken = done = 0
        for _ in range(200):
            await dut.clk.rising_edge
            taken += int(dut.o__valid.value)
            if int(dut.done.value):
                done += 1
                assert taken == count
        assert done == 1
        assert not dut.busy.value


@cocotb.test()
async def fetches_ahead_but_not_too_far(dut):
    """Without a taker AHEAD commands are read; each command takes 16 words of the bus."""
    memory = AxiMemory(dut)
    dut.o__ready.value = 0
    await begin(dut, program=0, commands=50)
    for _ in range(200):
        await dut.clk.rising_edge
    beats = 128 * 8 // parameters()["data_bits"]
    assert memory.read_beats >= 2 * beats
    assert memory.read_beats <= CommandFetch.AHEAD * beats


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5])
async def flushes(dut, pace):
    """The program is abandoned at any time, and the next one is fetched from its begin."""
    memory = AxiMemory(dut, pace=pace, latency=10)
    memory.load(0, random.randbytes(128 * 40))
    sink = StreamSink(dut, "o")
    for run in range(8):
        await begin(dut, program=0, commands=20, reset=run == 0)
        for _ in range(random.choice([4, 20, 60])):
            await dut.clk.rising_edge
        dut.flush.value = 1
        await dut.clk.rising_edge
        dut.flush.value = 0
        await dut.clk.rising_edge
        while int(dut.busy.value):
            assert not dut.o__valid.value
            await dut.clk.rising_edge
        assert memory.outstanding == 0
        await begin(dut, program=128 * 20, commands=3, reset=False)
        for index in range(3):
            expected = command_at(memory, 128 * (20 + index)) << 32 | index
            assert await sink.get() == expected
        await dut.clk.rising_edge


@cocotb.test()
async def refuses_what_is_outside_the_region(dut):
    """A strobe instead of the first burst."""
    memory = AxiMemory(dut)
    dut.o__ready.value = 1
    for first, last, commands in [(4096, 4096 + 3 * 128 - 1, 4), (4104, 8191, 1)]:
        await begin(dut, program=4096, commands=commands, first=first, last=last)
        errors = 0
        for _ in range(30):
            await dut.clk.rising_edge
            errors += int(dut.dram_error.value)
        assert errors == 1
    assert not memory.bursts


@cocotb.test()
@cocotb.parametrize(bad=[0, 5])
async def names_the_command_that_failed(dut, bad):
    """The error index is that of the command whose beat failed, however far ahead it is."""
    AxiMemory(dut, latency=5, respond=lambda address: SLVERR if address // 128 == bad else OKAY)
    dut.o__ready.value = 1
    await begin(dut, program=0, commands=9)
    for _ in range(400):
        await dut.clk.rising_edge
        if int(dut.axi_error.value):
            assert dut.error_index.value == bad
            return
    raise AssertionError("no error was reported")
