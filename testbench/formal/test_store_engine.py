# amaranth: UnusedElaboratable=no
"""StoreEngine keeps the stream contract; that of its buffer port is VectorReader's."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from acceltran.arch.fixed_point import FixedPoint
from acceltran.memory.store_engine import StoreEngine
from acceltran.numeric.vector import Vector
from testbench.formal.stream_contract import prove_stream_contract


class FreePort(wiring.Component):
    """StoreEngine whose buffer port does anything."""

    request_ready: Any
    response_valid: Any
    response_vector: Any

    def __init__(self, dut: StoreEngine):
        self.dut = dut
        members = {name: member for name, member in dut.signature.members.items() if name != "port"}
        super().__init__({
            **members,
            "request_ready": In(1),
            "response_valid": In(1),
            "response_vector": In(Vector(dut.fmt, dut.tile)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name, member in dut.signature.members.items():
            outer: Any = getattr(self, name, None)
            inner: Any = getattr(dut, name)
            if name == "port":
                m.d.comb += [
                    inner.request.ready.eq(self.request_ready),
                    inner.response.valid.eq(self.response_valid),
                    inner.response.vector.eq(self.response_vector),
                ]
            elif member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m


def test_store_engine():
    fmt = FixedPoint(int_bits=4, frac_bits=8)
    prove_stream_contract(FreePort(StoreEngine(fmt=fmt, tile=4, data_bits=128)))
