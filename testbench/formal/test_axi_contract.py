# amaranth: UnusedElaboratable=no
"""AXI4 masters keep the handshake rules: what is offered stays offered, unchanged, until taken."""

from typing import Any

import pytest
from amaranth import Cat, Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from acceltran.memory.read_channel import ReadChannel
from acceltran.memory.write_channel import WriteChannel
from testbench.formal.stream_contract import prove_stream_contract

UNITS = {
    "read_channel": lambda: ReadChannel(data_bits=64, queues=(4, 4), burst_beats=4),
    "write_channel": lambda: WriteChannel(data_bits=64, queue=4, burst_beats=4),
}
CHANNELS = {
    "ar": ("addr", "len", "size", "burst", "id"),
    "aw": ("addr", "len", "size", "burst", "id"),
    "w": ("data", "strb", "last"),
}


@pytest.mark.parametrize("unit", UNITS)
def test_axi_contract(unit):
    prove_stream_contract(AxiAsStreams(UNITS[unit]()))


class AxiAsStreams(wiring.Component):
    """Component whose AXI output channels are given the form of streams."""

    def __init__(self, dut: Any):
        self.dut = dut
        self.channels = {
            channel: [f"{channel}{name}" for name in names]
            for channel, names in CHANNELS.items()
            if f"{channel}valid" in dut.axi.signature.members
        }
        members = {name: member for name, member in dut.signature.members.items() if name != "axi"}
        for channel, names in self.channels.items():
            width = sum(len(getattr(dut.axi, name)) for name in names)
            members[channel] = Out(stream.Signature(width))
        self.inputs = [
            name
            for name, member in dut.axi.signature.members.items()
            if member.flow == wiring.In and name[:-5] not in CHANNELS
        ]
        members |= {name: dut.axi.signature.members[name] for name in self.inputs}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name in dut.signature.members:
            if name != "axi":
                _join(m, getattr(self, name), getattr(dut, name), dut.signature.members[name])
        for channel, names in self.channels.items():
            port = getattr(self, channel)
            m.d.comb += [
                port.valid.eq(getattr(dut.axi, f"{channel}valid")),
                Value.cast(port.payload).eq(Cat(getattr(dut.axi, name) for name in names)),
                getattr(dut.axi, f"{channel}ready").eq(port.ready),
            ]
        m.d.comb += [getattr(dut.axi, name).eq(getattr(self, name)) for name in self.inputs]
        return m


def _join(m: Module, outer: Any, inner: Any, member: Any) -> None:
    if member.is_port:
        m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
    elif member.dimensions:
        for one, other in zip(outer, inner, strict=True):
            wiring.connect(m, wiring.flipped(one), other)
    else:
        wiring.connect(m, wiring.flipped(outer), inner)
