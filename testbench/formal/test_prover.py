# amaranth: UnusedElaboratable=no
"""The prover itself: it refutes what breaks the contract, and uses what it is told."""

from typing import Any

import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from testbench.formal.stream_contract import prove_stream_contract


class Relay(SharedComponent):
    """Stream register with a fault in it, if so told."""

    enable: Signal
    pair: Any

    def __init__(self, *, fault: str):
        self.fault = fault
        self.spare, self.other = Signal(), Signal()
        super().__init__({
            "enable": In(1),
            "pair": Out(
                wiring.Signature({"i": In(stream.Signature(4)), "o": Out(stream.Signature(4))})
            ),
        })

    def elaborate(self, platform):
        m = Module()
        i, o = self.pair.i, self.pair.o
        m.d.comb += i.ready.eq(o.ready | ~o.valid)
        with m.If(i.ready):
            m.d.sync += [o.valid.eq(i.valid), o.payload.eq(i.payload)]
        match self.fault:
            case "withdraws":
                m.d.comb += i.ready.eq(1)
            case "changes":
                m.d.sync += o.payload.eq(i.payload)
            case "disabled":
                with m.If(~self.enable):
                    m.d.sync += o.valid.eq(0)
            case "unreachable":
                with m.If(self.spare):
                    m.d.sync += o.valid.eq(0)
                m.d.sync += [self.spare.eq(self.other), self.other.eq(self.spare)]
        return m


def test_accepts_a_register():
    prove_stream_contract(Relay(fault="none"))


@pytest.mark.parametrize("fault", ["withdraws", "changes", "disabled"])
def test_refutes_a_fault(fault):
    with pytest.raises(AssertionError, match="^No proof in 8 steps:"):
        prove_stream_contract(Relay(fault=fault))


def test_uses_assumptions():
    prove_stream_contract(Relay(fault="disabled"), assumptions=lambda dut: [dut.enable])


def test_proves_and_uses_invariants():
    with pytest.raises(AssertionError, match="^No proof in 8 steps:"):
        prove_stream_contract(Relay(fault="unreachable"))
    prove_stream_contract(
        Relay(fault="unreachable"), invariants=lambda dut: [~dut.spare & ~dut.other]
    )
    with pytest.raises(AssertionError, match="^No proof in 8 steps:"):
        prove_stream_contract(Relay(fault="none"), invariants=lambda dut: [~dut.pair.o.valid])
