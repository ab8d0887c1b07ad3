"""The whole accelerator in a bench: its memory, its host, and its rules at rest."""

import itertools
import random
from typing import Any

from cocotb.clock import Clock
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from acceltran.arch import registers
from testbench.harness.axi_memory import OKAY, AxiMemory

__all__ = ["Machine"]


class Pins:
    """Port ``m_axi`` of the top module under the names that benches of units use."""

    def __init__(self, dut: Any):
        self._dut = dut
        self.clk = dut.aclk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dut, name.replace("m_axi__", "m_axi_"))

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class Machine:
    """Clock, memory and host of the top module ``dut``; registers by name.

    Parameters
    ----------
    dut
        ``AccelTran``.
    pace, latency
        As of ``AxiMemory``; with a pace below 1 the host stalls as well.
    """

    def __init__(self, dut: Any, *, pace: float = 1.0, latency: int = 3):
        self.dut = dut
        self.memory = AxiMemory(Pins(dut), "m_axi", pace=pace, latency=latency)
        self.host: Any = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        if pace < 1:
            for channel in (
                self.host.write_if.aw_channel,
                self.host.write_if.w_channel,
                self.host.write_if.b_channel,
                self.host.read_if.ar_channel,
                self.host.read_if.r_channel,
            ):
                channel.set_pause_generator(random.random() >= pace for _ in itertools.count())

    async def power_up(self) -> None:
        """Run the clock and hold reset for some cycles."""
        Clock(self.dut.aclk, 10, unit="ns").start()
        self.dut.aresetn.value = 0
        await self.cycles(4)
        self.dut.aresetn.value = 1
        await self.cycles(2)

    async def cycles(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count):
            await self.dut.aclk.rising_edge

    async def read(self, name: str) -> int:
        """Value of a register."""
        return await self._read(registers.register_address(name))

    async def read_counter(self, name: str) -> int:
        """Value of a counter."""
        address = registers.counter_address(name)
        low = await self._read(address)
        return low | await self._read(address + 4) << 32

    async def _read(self, address: int) -> int:
        answer = await self.host.read(address, 4)
        assert answer.resp == OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, name: str, value: int) -> None:
        """Set a register, or its LOW and HIGH parts where it has two."""
        parts = {name: value}
        if name in ("PROGRAM", "REGION_FIRST", "REGION_LAST"):
            parts = {f"{name}_LOW": value & 0xFFFFFFFF, f"{name}_HIGH": value >> 32}
        for part, word in parts.items():
            answer = await self.host.write(
                registers.register_address(part), word.to_bytes(4, "little")
            )
            assert answer.resp == OKAY

    async def start(self) -> None:
        """Write the start bit."""
        await self.write("CONTROL", registers.CONTROL_START | registers.CONTROL_INTERRUPT_ENABLE)

    async def soft_reset(self) -> None:
        """Write the soft reset bit, and wait until it is done."""
        await self.write(
            "CONTROL", registers.CONTROL_SOFT_RESET | registers.CONTROL_INTERRUPT_ENABLE
        )
        while await self.read("STATUS") & registers.STATUS_RESETTING:
            pass

    async def interrupted(self, most: int) -> None:
        """Wait for the interrupt, for at most so many cycles."""
        for _ in range(most):
            if self.dut.irq.value:
                return
            await self.dut.aclk.rising_edge
        raise AssertionError(f"no interrupt within {most} cycles")

    async def run(self, *, program: int, commands: int, region: tuple[int, int], most: int) -> None:
        """Run a program until the interrupt."""
        await self.write("PROGRAM", program)
        await self.write("PROGRAM_COMMANDS", commands)
        await self.write("REGION_FIRST", region[0])
        await self.write("REGION_LAST", region[1])
        await self.start()
        await self.interrupted(most)

    async def acknowledge(self) -> int:
        """Clear the interrupt; returns what it was."""
        cause = await self.read("INTERRUPT")
        await self.write("INTERRUPT", cause)
        await self.cycles(3)
        assert not self.dut.irq.value
        return cause
