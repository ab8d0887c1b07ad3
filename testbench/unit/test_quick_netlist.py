# amaranth: UnusedElaboratable=no
"""Quick netlists are those of Amaranth, and what it refuses is refused."""

import gc
from typing import Any

import pytest
from amaranth import Cat, Const, Module, Signal, unsigned
from amaranth.back import rtlil  # type: ignore[attr-defined]  # missing from the stubs
from amaranth.hdl._ir import DriverConflict, Instance
from amaranth.hdl._nir import CombinationalCycle  # type: ignore[attr-defined]
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from acceltran.quick_netlist import quick_netlist


class Sample(wiring.Component):
    """Something of everything: operators, choices, registers, structures, instances."""

    i: Signal
    o: Signal
    s: Any

    def __init__(self):
        super().__init__({"i": In(8), "o": Out(8), "s": In(data.StructLayout({"a": 3, "b": 0}))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Module()
        middle, register, word = Signal(8), Signal(8, init=3), Signal(unsigned(16))
        inner.d.comb += middle.eq((self.i + 1) * 3)
        m.d.comb += [
            word.eq(Cat(middle, Const(0x12, 8))),
            self.o.eq(register ^ word.bit_select(self.s.a, 8)),
        ]
        with m.Switch(self.i):
            with m.Case("1-------"):
                m.d.sync += register.eq(middle)
            with m.Default():
                m.d.sync += register[2:4].eq(self.i)
        m.submodules.box = Instance("box", ("i", "a", self.i), ("o", "b", Signal(2)))
        # Bits of a signal that depend on other bits of it are no cycle.
        chain = Signal(4)
        m.d.comb += [chain[0].eq(self.i[0]), chain[1:].eq(chain[:-1])]
        m.d.sync += register[7].eq(chain[3])
        return m


def convert(component):
    return rtlil.convert(component, emit_src=False)


def lines(text):
    """Without wires that stand for fields and for other signals, and their order."""
    return sorted(text.splitlines())


def test_same_cells():
    plain = convert(Sample())
    with quick_netlist():
        quick = convert(Sample())
    cells = [line for line in plain.splitlines() if line.lstrip().startswith(("cell", "parameter"))]
    assert cells == [
        line for line in quick.splitlines() if line.lstrip().startswith(("cell", "parameter"))
    ]
    assert len(quick) < len(plain)
    assert set(lines(quick)) - set(lines(plain)) == set()


def cycle_of_cells(m, a, b):
    m.d.comb += [a.eq(~b), b.eq(a & 1)]


def cycle_of_signals(m, a, b):
    m.d.comb += [a.eq(b), b.eq(a)]


@pytest.mark.parametrize("connect", [cycle_of_cells, cycle_of_signals])
def test_refuses_cycles(connect):
    m, a, b = Module(), Signal(name="a"), Signal(name="b")
    connect(m, a, b)
    with quick_netlist(), pytest.raises(CombinationalCycle, match="signal a bit 0"):
        rtlil.convert(m, ports=[])


def test_refuses_two_drivers():
    m, a = Module(), Signal(2, name="a")
    for _ in range(2):
        m.submodules += Instance("box", ("o", "b", a))
    with quick_netlist(), pytest.raises(DriverConflict, match="Bit 0 of signal"):
        rtlil.convert(m, ports=[])


def test_many_outputs():
    """Amaranth itself takes no more than 65,536 bits of all outputs of an instance."""

    def convert(count):
        m, outputs = Module(), [Signal(40_000, name=f"o{n}") for n in range(count)]
        m.submodules += Instance("box", *(("o", one.name, one) for one in outputs))
        return rtlil.convert(m, ports=outputs)

    with quick_netlist():
        assert convert(2).count("wire width 40000 output") == 2
        with pytest.raises(ValueError, match="^A cell must have at most 1048576 bits$"):
            convert(30)


def test_leaves_all_as_it_was():
    before = rtlil.ModuleEmitter.sigspec, gc.isenabled()
    with pytest.raises(ZeroDivisionError), quick_netlist():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert (rtlil.ModuleEmitter.sigspec, gc.isenabled()) == before
