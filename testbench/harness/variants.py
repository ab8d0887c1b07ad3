"""Several variants of a component in one netlist, which is built much faster than one for each."""

from collections.abc import Mapping
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Variants"]


class Variants(wiring.Component):
    """Components beside each other; ports of each have its name and ``__`` before their own.

    Parameters
    ----------
    duts : mapping of str to component

    Members
    -------
    Under each name, those of the component.
    """

    def __init__(self, duts: Mapping[str, Any]):
        self.duts = dict(duts)
        super().__init__({name: Out(dut.signature) for name, dut in self.duts.items()})

    def elaborate(self, platform):
        m = Module()
        for name, dut in self.duts.items():
            m.submodules[name] = dut
            ports = dut.signature.flatten(getattr(self, name))
            for (_, member, inner), (_, _, outer) in zip(
                dut.signature.flatten(dut), ports, strict=True
            ):
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m
