"""Top level: the accelerator with its AXI ports."""

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import LANE_COUNTERS
from acceltran.control.axi4_lite import Axi4LiteSignature
from acceltran.control.counters import Counters
from acceltran.control.register_file import ADDRESS_WIDTH, RegisterFile
from acceltran.control.run_control import RunControl
from acceltran.core import Core
from acceltran.counter_limits import counter_widths
from acceltran.memory.axi4 import Axi4, prefixed
from acceltran.numeric.delay import delayed

__all__ = ["AccelTran"]


class AccelTran(wiring.Component):
    """The accelerator: AXI4 master to DRAM, AXI4-Lite slave for the host, interrupt.

    The host writes address and length of a program and the start bit; the accelerator fetches and
    executes the commands and raises the interrupt. See ``acceltran.arch.registers`` and
    ``acceltran.arch.commands``.

    Source: S. Tuli and N. K. Jha, "AccelTran", IEEE TCAD 2023.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.

    Members
    -------
    aclk, aresetn : ``In(1)``
        Clock, and reset: synchronous, active low.
    m_axi_* : ``Axi4(axi_data_bits)``
        Of several masters, ``m_axi0_*``, ``m_axi1_*`` and so on.
    s_axil_* : ``Axi4LiteSignature(address_width=12)``, as its slave
    irq : ``Out(1)``
        Level; cleared by writing INTERRUPT.
    """

    aclk: Signal
    aresetn: Signal
    irq: Signal

    def __init__(self, *, config: AcceleratorConfig):
        self.config = config
        slave = Axi4LiteSignature(address_width=ADDRESS_WIDTH).flip()
        super().__init__({
            "aclk": In(1),
            "aresetn": In(1),
            **{
                name: member
                for prefix in self.config.memory.axi_prefixes
                for name, member in prefixed(prefix, Axi4(config.memory.axi_data_bits)).items()
            },
            **prefixed("s_axil_", slave),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        array, datapath = self.config.array, self.config.datapath
        widths = counter_widths(self.config)
        m.domains.sync = ClockDomain(local=True)
        m.domains.core = ClockDomain(local=True)
        core_reset = Signal(init=1)
        m.d.comb += [
            ClockSignal().eq(self.aclk),
            ResetSignal().eq(~self.aresetn),
            ClockSignal("core").eq(self.aclk),
            ResetSignal("core").eq(core_reset | ~self.aresetn),
        ]
        m.submodules.registers = registers = RegisterFile(
            constants=(
                (
                    "CONFIG_ARRAY",
                    array.pes | array.lanes << 16 | array.pes_per_cluster << 24,
                ),
                (
                    "CONFIG_FORMAT",
                    datapath.int_bits | datapath.frac_bits << 8 | datapath.tile << 16,
                ),
            ),
            counters=len(widths),
        )
        m.submodules.control = control = RunControl()
        m.submodules.counters = counters = Counters(widths=widths)
        core = Core(config=self.config)
        m.submodules.core = DomainRenamer("core")(core)

        for prefix, axi in zip(self.config.memory.axi_prefixes, core.axi, strict=True):
            self._connect(m, prefix, axi)
        self._connect(m, "s_axil_", registers.bus)
        m.d.sync += core_reset.eq(control.core_reset)
        m.d.comb += [
            control.start.eq(registers.start),
            control.soft_reset.eq(registers.soft_reset),
            control.watchdog.eq(registers.watchdog),
            control.progress.eq(core.progress),
            control.failure.eq(core.failure),
            control.oldest.eq(core.oldest),
            control.ended.eq(core.ended),
            control.quiet.eq(core.quiet),
            core.table_address.eq(registers.table_address),
            core.table_write.eq(registers.table_write),
            core.table_data.eq(registers.table_data),
            registers.table_value.eq(core.table_value),
            core.start.eq(control.core_start),
            core.stop.eq(control.core_stop),
            core.program.eq(registers.program),
            core.commands.eq(registers.commands),
            core.region_first.eq(registers.region_first),
            core.region_last.eq(registers.region_last),
            registers.status.eq(control.status),
            registers.finished.eq(control.finished),
            registers.failed.eq(control.failed),
            registers.error_cause.eq(control.error_cause),
            registers.error_command.eq(control.error_command),
            counters.clear.eq(control.core_start),
            counters.index.eq(registers.counter),
            registers.total.eq(counters.total),
            counters.increments.cycles.eq(control.running),
            self.irq.eq(registers.interrupt),
        ]
        # Counters of the core are late, and so is the time in which lanes are accounted for.
        counting = delayed(m, control.running, core.count_latency, name="counting")
        for name, _ in widths:
            if name != "cycles":
                increment = getattr(core.increments, name)
                if name in LANE_COUNTERS:
                    # Busy, stalled and idle add up to all lanes in each cycle that is counted.
                    increment = Mux(counting, increment, 0)
                m.d.comb += getattr(counters.increments, name).eq(increment)
        with m.If(control.core_start):
            m.d.sync += registers.commands_done.eq(0)
        with m.Else():
            m.d.sync += registers.commands_done.eq(registers.commands_done + core.completed)
        return m

    def _connect(self, m: Module, prefix: str, inner) -> None:
        """Connect ports ``prefix`` + name with the bus ``inner`` of a submodule."""
        for name, member in inner.signature.members.items():
            port = getattr(self, f"{prefix}{name}")
            if member.flow == In:
                m.d.comb += getattr(inner, name).eq(port)
            else:
                m.d.comb += port.eq(getattr(inner, name))
