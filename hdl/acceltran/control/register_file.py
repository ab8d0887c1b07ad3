"""The registers that the host sees, over AXI4-Lite."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from acceltran.arch import registers as map_
from acceltran.control.axi4_lite import Axi4LiteSignature
from acceltran.library import SharedComponent

__all__ = ["ADDRESS_WIDTH", "RegisterFile"]

ADDRESS_WIDTH = 12
OKAY, SLVERR = 0, 2
PAIRS = {
    "program": ("PROGRAM_LOW", "PROGRAM_HIGH"),
    "region_first": ("REGION_FIRST_LOW", "REGION_FIRST_HIGH"),
    "region_last": ("REGION_LAST_LOW", "REGION_LAST_HIGH"),
}


class RegisterFile(SharedComponent):
    """AXI4-Lite slave with the registers of ``acceltran.arch.registers``.

    Reads take ``LATENCY`` cycles from address to data, writes 2 from address and data to
    response; one of each at a time. Byte strobes are honoured. An address that is no register
    answers SLVERR; writes to read-only registers are ignored. THRESHOLD_DATA is a window into the
    threshold table, which every access moves on; it is written as a whole word.

    Parameters
    ----------
    constants : tuple of (str, int)
        Values of the constant registers by name.
    counters : int
        Number of counters.

    Members
    -------
    bus : ``In(Axi4LiteSignature(address_width=12))``
    start, soft_reset : ``Out(1)``
        Strobes.
    program, region_first, region_last : ``Out(64)``
    commands, watchdog : ``Out(32)``
    status : ``In(4)``
        STATUS as it reads.
    finished, failed : ``In(1)``
        Strobes that raise the interrupt's two bits.
    error_cause, error_command, commands_done : ``In(32)``
    counter : ``Out(range(counters))``
    total : ``In(64)``
        Value of ``counter``, a cycle later.
    table_address : ``Out(32)``
        THRESHOLD_ADDRESS.
    table_write : ``Out(1)``
        Strobe: write ``table_data`` there.
    table_data : ``Out(32)``
    table_value : ``In(32)``
        The word there, at most ``LATENCY`` cycles later.
    interrupt : ``Out(1)``
    """

    LATENCY = 4

    bus: Any
    start: Signal
    soft_reset: Signal
    program: Signal
    region_first: Signal
    region_last: Signal
    commands: Signal
    watchdog: Signal
    status: Signal
    finished: Signal
    failed: Signal
    error_cause: Signal
    error_command: Signal
    commands_done: Signal
    counter: Signal
    total: Signal
    table_address: Signal
    table_write: Signal
    table_data: Signal
    table_value: Signal
    interrupt: Signal

    def __init__(self, *, constants: tuple[tuple[str, int], ...], counters: int):
        if counters < 1:
            raise ValueError(f"Number of counters must be at least 1, not {counters!r}")
        self.constants = constants
        self.counters = counters
        # amaranth-stubs do not know `init` of a port
        everywhere = Out(64, init=(1 << 64) - 1)  # type: ignore[call-arg]
        patience = Out(32, init=map_.WATCHDOG_DEFAULT)  # type: ignore[call-arg]
        super().__init__({
            "bus": In(Axi4LiteSignature(address_width=ADDRESS_WIDTH)),
            "start": Out(1),
            "soft_reset": Out(1),
            "program": Out(64),
            "region_first": Out(64),
            "region_last": everywhere,
            "commands": Out(32),
            "watchdog": patience,
            "status": In(4),
            "finished": In(1),
            "failed": In(1),
            "error_cause": In(32),
            "error_command": In(32),
            "commands_done": In(32),
            "counter": Out(range(max(2, counters))),
            "total": In(64),
            "table_address": Out(32),
            "table_write": Out(1),
            "table_data": Out(32),
            "table_value": In(32),
            "interrupt": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        pending = Signal(2)  # the INTERRUPT register
        enable = Signal()
        stored: dict[str, Any] = {
            "PROGRAM_COMMANDS": self.commands,
            "WATCHDOG": self.watchdog,
            "THRESHOLD_ADDRESS": self.table_address,
        }
        for name, (low, high) in PAIRS.items():
            pair = getattr(self, name)
            stored |= {low: pair[:32], high: pair[32:]}
        m.d.sync += self.interrupt.eq(enable & pending.any())

        # Writes: address and data are taken in any order, then answered.
        address, data, strobes = Signal(ADDRESS_WIDTH), Signal(32), Signal(4)
        has_address, has_data, write = Signal(), Signal(), Signal()
        bus = self.bus
        m.d.comb += [
            bus.awready.eq(~has_address),
            bus.wready.eq(~has_data),
            write.eq(has_address & has_data & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), has_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [data.eq(bus.wdata), strobes.eq(bus.wstrb), has_data.eq(1)]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        bits = Signal(32)
        m.d.comb += bits.eq(Cat(strobe.replicate(8) for strobe in strobes))
        cleared = Signal(2)
        m.d.sync += [self.start.eq(0), self.soft_reset.eq(0), self.table_write.eq(0)]
        with m.If(self.table_write):
            m.d.sync += self.table_address.eq(self.table_address + 1)
        with m.If(write):
            m.d.sync += [
                has_address.eq(0),
                has_data.eq(0),
                bus.bvalid.eq(1),
                bus.bresp.eq(Mux(self._is_register(address), OKAY, SLVERR)),
            ]
            with m.Switch(address[2:]):
                for name, target in stored.items():
                    with m.Case(map_.register_address(name) >> 2):
                        m.d.sync += target.eq((target & ~bits) | (data & bits))
                with m.Case(map_.register_address("CONTROL") >> 2), m.If(strobes[0]):
                    m.d.sync += [
                        self.start.eq((data & map_.CONTROL_START).any()),
                        self.soft_reset.eq((data & map_.CONTROL_SOFT_RESET).any()),
                        enable.eq((data & map_.CONTROL_INTERRUPT_ENABLE).any()),
                    ]
                with m.Case(map_.register_address("THRESHOLD_DATA") >> 2):
                    m.d.sync += [self.table_write.eq(1), self.table_data.eq(data)]
                with m.Case(map_.register_address("INTERRUPT") >> 2), m.If(strobes[0]):
                    m.d.comb += cleared.eq(data[:2])
        m.d.sync += pending.eq((pending & ~cleared) | Cat(self.finished, self.failed))

        # Reads: the counter's total is fetched meanwhile.
        target, frozen = Signal(ADDRESS_WIDTH), Signal(32)
        wait = Signal(2)
        m.d.comb += [
            bus.arready.eq((wait == 0) & ~bus.rvalid),
            self.counter.eq((target - map_.COUNTER_BASE) >> 3),
        ]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [target.eq(bus.araddr), wait.eq(1)]
        with m.If((wait != 0) & (wait != 3)):
            m.d.sync += wait.eq(wait + 1)
        constants = {"ID": map_.IDENTIFIER, "VERSION": map_.VERSION, **dict(self.constants)}
        values = {
            **constants,
            **stored,
            "CONTROL": Mux(enable, map_.CONTROL_INTERRUPT_ENABLE, 0),
            "STATUS": self.status,
            "INTERRUPT": pending,
            "ERROR_CAUSE": self.error_cause,
            "ERROR_COMMAND": self.error_command,
            "COMMANDS_DONE": self.commands_done,
            "THRESHOLD_DATA": self.table_value,
        }
        with m.If(wait == 3):
            m.d.sync += [
                wait.eq(0),
                bus.rvalid.eq(1),
                bus.rdata.eq(0),
                bus.rresp.eq(Mux(self._is_register(target), OKAY, SLVERR)),
            ]
            with m.Switch(target[2:]):
                for name, value in values.items():
                    with m.Case(map_.register_address(name) >> 2):
                        m.d.sync += bus.rdata.eq(value)
            with m.If(target[2:] == map_.register_address("THRESHOLD_DATA") >> 2):
                m.d.sync += self.table_address.eq(self.table_address + 1)
            with m.If(self._is_counter(target)):
                m.d.sync += bus.rdata.eq(Mux(target[2], frozen, self.total[:32]))
                with m.If(~target[2]):
                    m.d.sync += frozen.eq(self.total[32:])
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return m

    def _is_counter(self, address: Signal):
        last = map_.COUNTER_BASE + 8 * self.counters
        return (address >= map_.COUNTER_BASE) & (address < last)

    def _is_register(self, address: Signal):
        found = self._is_counter(address)
        for register in map_.REGISTERS:
            found |= address[2:] == register.address >> 2
        return found
