"""A component whose buffer ports do anything, for proofs about its other streams."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from acceltran.numeric.vector import Vector

__all__ = ["FreePorts"]


def _is_read_port(member: wiring.Member) -> bool:
    return member.is_signature and "response" in member.signature.members


class FreePorts(wiring.Component):
    """``dut`` whose ``ReadPort`` members are left free: any handshake, any answer at any time.

    What ``dut`` asks on them is no concern here; it is ``VectorReader`` that asks.

    Parameters
    ----------
    dut : component
        Has attributes ``fmt`` and ``tile``, of all its ports.

    Members
    -------
    Those of ``dut``, with ``_ready``, ``_valid`` and ``_vector`` for each read port.
    """

    def __init__(self, dut: Any):
        self.dut = dut
        members: dict[str, wiring.Member] = {}
        for name, member in dut.signature.members.items():
            if not _is_read_port(member):
                members[name] = member
                continue
            free = {"ready": In(1), "valid": In(1), "vector": In(Vector(dut.fmt, dut.tile))}
            for part, shape in free.items():
                members[f"{name}_{part}"] = shape.array(*member.dimensions)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = self.dut
        for name, member in dut.signature.members.items():
            if _is_read_port(member):
                self._set_free(m, name, member)
                continue
            inner, outer = getattr(dut, name), getattr(self, name)
            if not member.is_signature:
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
            elif member.dimensions:
                for outside, inside in zip(outer, inner, strict=True):
                    wiring.connect(m, wiring.flipped(outside), inside)
            else:
                wiring.connect(m, wiring.flipped(outer), inner)
        return m

    def _set_free(self, m: Module, name: str, member: wiring.Member) -> None:
        """Drive the port, or each of a row of ports, from this component's own members."""
        ports: Any = getattr(self.dut, name)
        parts: list[Any] = [
            getattr(self, f"{name}_{part}") for part in ("ready", "valid", "vector")
        ]
        if not member.dimensions:
            ports, parts = [ports], [[part] for part in parts]
        for port, ready, valid, vector in zip(ports, *parts, strict=True):
            m.d.comb += [
                port.request.ready.eq(ready),
                port.response.valid.eq(valid),
                port.response.vector.eq(vector),
            ]
