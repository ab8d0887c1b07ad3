# amaranth: UnusedElaboratable=no
"""RegisterFile through an independent AXI4-Lite master."""

import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from acceltran.arch import registers as map_
from acceltran.control.register_file import RegisterFile
from testbench.harness.simulate import simulate, start

COUNTERS = 5
CONSTANTS = (("CONFIG_ARRAY", 0x01040001), ("CONFIG_FORMAT", 0x00101004))
OKAY, SLVERR = 0, 2


def test_register_file(request):
    simulate(
        RegisterFile(constants=CONSTANTS, counters=COUNTERS),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects_counters():
    with pytest.raises(ValueError, match=r"^Number of counters must be at least 1, not 0$"):
        RegisterFile(constants=CONSTANTS, counters=0)


async def begin(dut) -> Any:
    for name in ("status", "finished", "failed", "error_cause", "error_command"):
        dut[name].value = 0
    dut.commands_done.value = 0
    dut.total.value = 0
    dut.table_value.value = 0
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
    await start(dut)
    await dut.clk.rising_edge
    return master


async def read(master: Any, name: str) -> int:
    answer = await master.read(map_.register_address(name), 4)
    assert answer.resp == OKAY
    return int.from_bytes(answer.data, "little")


async def write(master: Any, name: str, value: int) -> None:
    answer = await master.write(map_.register_address(name), value.to_bytes(4, "little"))
    assert answer.resp == OKAY


def pause(master: Any) -> None:
    """Stall every channel at random."""
    for channel in (
        master.write_if.aw_channel,
        master.write_if.w_channel,
        master.write_if.b_channel,
        master.read_if.ar_channel,
        master.read_if.r_channel,
    ):
        channel.set_pause_generator(random.random() < 0.5 for _ in itertools.count())


@cocotb.test()
@cocotb.parametrize(stalls=[False, True])
async def keeps_what_is_written(dut, stalls):
    """Every RW register holds its own value, all bits of it, and reaches its port."""
    master = await begin(dut)
    if stalls:
        pause(master)
    others = ("CONTROL", "THRESHOLD_DATA")
    names = [r.name for r in map_.REGISTERS if r.access == "RW" and r.name not in others]
    values = {name: random.getrandbits(32) for name in names}
    for name, value in values.items():
        await write(master, name, value)
    for name, value in values.items():
        assert await read(master, name) == value
    assert dut.program.value == values["PROGRAM_LOW"] | values["PROGRAM_HIGH"] << 32
    assert dut.region_last.value == values["REGION_LAST_LOW"] | values["REGION_LAST_HIGH"] << 32
    assert dut.commands.value == values["PROGRAM_COMMANDS"]
    assert dut.watchdog.value == values["WATCHDOG"]


@cocotb.test()
async def reads_constants_and_inputs(dut):
    """Read-only registers show constants and ports, and ignore writes."""
    master = await begin(dut)
    dut.status.value = 0b1010
    dut.error_cause.value = 6
    dut.error_command.value = 0x12345678
    dut.commands_done.value = 99
    expected = {
        "ID": map_.IDENTIFIER,
        "VERSION": map_.VERSION,
        **dict(CONSTANTS),
        "STATUS": 0b1010,
        "ERROR_CAUSE": 6,
        "ERROR_COMMAND": 0x12345678,
        "COMMANDS_DONE": 99,
    }
    for name, value in expected.items():
        await write(master, name, 0xFFFFFFFF)
        assert await read(master, name) == value, name
    assert await read(master, "REGION_LAST_LOW") == 0xFFFFFFFF  # as after reset
    assert await read(master, "WATCHDOG") == map_.WATCHDOG_DEFAULT


@cocotb.test()
@cocotb.parametrize(stalls=[False, True])
async def opens_a_window_on_the_threshold_table(dut, stalls):
    """Writes go to one word after the other; a read shows the word at the address."""
    master = await begin(dut)
    if stalls:
        pause(master)
    table: dict[int, int] = {}

    async def serve():
        while True:
            await dut.clk.rising_edge
            address = dut.table_address.value.to_unsigned()
            if dut.table_write.value:
                table[address] = dut.table_data.value.to_unsigned()
            dut.table_value.value = table.get(address, 0)

    server = cocotb.start_soon(serve())
    values = {place: random.getrandbits(32) for place in (*range(64, 70), *range(128, 131))}
    for place, value in values.items():
        if place - 1 not in values:
            await write(master, "THRESHOLD_ADDRESS", place)
        await write(master, "THRESHOLD_DATA", value)
    assert await read(master, "THRESHOLD_ADDRESS") == 131
    assert table == values
    for place, value in values.items():
        await write(master, "THRESHOLD_ADDRESS", place)
        assert await read(master, "THRESHOLD_DATA") == value
        assert await read(master, "THRESHOLD_ADDRESS") == place + 1
    await write(master, "THRESHOLD_ADDRESS", 64)
    assert [await read(master, "THRESHOLD_DATA") for _ in range(6)] == list(values.values())[:6]
    server.cancel()


@cocotb.test()
async def honours_byte_strobes(dut):
    """A narrow write leaves the other bytes of a register alone."""
    master = await begin(dut)
    await write(master, "PROGRAM_LOW", 0x44332211)
    await master.write(map_.register_address("PROGRAM_LOW") + 2, b"\xaa")
    assert await read(master, "PROGRAM_LOW") == 0x44AA2211


@cocotb.test()
async def refuses_unknown_addresses(dut):
    """SLVERR for an address that is no register, either way."""
    master = await begin(dut)
    for address in (0x01C, 0x058, map_.COUNTER_BASE + 8 * COUNTERS, 0xFFC):
        assert (await master.read(address, 4)).resp == SLVERR
        assert (await master.write(address, bytes(4))).resp == SLVERR


@cocotb.test()
async def strobes_start_and_reset(dut):
    """CONTROL pulses for one cycle each and reads back the interrupt enable only."""
    master = await begin(dut)
    pulses = {"start": 0, "soft_reset": 0}

    async def watch():
        while True:
            await dut.clk.rising_edge
            for name in pulses:
                pulses[name] += int(dut[name].value)

    watcher = cocotb.start_soon(watch())
    await write(master, "CONTROL", map_.CONTROL_START)
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    assert pulses == {"start": 1, "soft_reset": 0}
    await write(master, "CONTROL", map_.CONTROL_SOFT_RESET | map_.CONTROL_INTERRUPT_ENABLE)
    assert await read(master, "CONTROL") == map_.CONTROL_INTERRUPT_ENABLE
    assert pulses == {"start": 1, "soft_reset": 1}
    watcher.cancel()


@cocotb.test()
async def raises_and_clears_the_interrupt(dut):
    """Each bit is set by its strobe, cleared by writing 1, and gated by the enable."""
    master = await begin(dut)
    for strobe, bit in (("finished", map_.INTERRUPT_DONE), ("failed", map_.INTERRUPT_ERROR)):
        await write(master, "CONTROL", 0)
        dut[strobe].value = 1
        await dut.clk.rising_edge
        dut[strobe].value = 0
        assert await read(master, "INTERRUPT") == bit
        assert not dut.interrupt.value
        await write(master, "CONTROL", map_.CONTROL_INTERRUPT_ENABLE)
        await dut.clk.rising_edge
        assert dut.interrupt.value
        await write(master, "INTERRUPT", 3 ^ bit)
        assert await read(master, "INTERRUPT") == bit
        await write(master, "INTERRUPT", bit)
        assert await read(master, "INTERRUPT") == 0
        await dut.clk.rising_edge
        assert not dut.interrupt.value


@cocotb.test()
async def freezes_a_counter(dut):
    """The high word is of the moment at which the low word was read."""
    master = await begin(dut)
    totals = [0x1_0000_0000 * (index + 1) + index for index in range(COUNTERS)]
    growth = 0

    async def serve():
        while True:
            await dut.clk.rising_edge
            dut.total.value = totals[dut.counter.value.to_unsigned() % COUNTERS] + growth

    server = cocotb.start_soon(serve())
    for index in range(COUNTERS):
        growth = 0
        address = map_.COUNTER_BASE + 8 * index
        low = int.from_bytes((await master.read(address, 4)).data, "little")
        growth = 1 << 33
        high = int.from_bytes((await master.read(address + 4, 4)).data, "little")
        assert low | high << 32 == totals[index]
    server.cancel()
