"""A cluster's node, with a reset of its own."""

from typing import Any

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring

from acceltran.arch.config import AcceleratorConfig
from acceltran.library import SharedComponent
from acceltran.node_core import NodeCore, node_signature

__all__ = ["ClusterNode"]


class ClusterNode(SharedComponent):
    """Cluster with its queues and buffer, reset a cycle after the rest of the machine.

    So nothing in it sees a reset that has come a long way. Parameters and members are those of
    ``NodeCore``.
    """

    def __init__(self, *, config: AcceleratorConfig):
        self.config = config
        super().__init__(node_signature(config))

    def elaborate(self, platform):
        m = Module()
        reset = Signal(init=1)
        m.domains.node = ClockDomain(local=True)
        m.d.comb += [ClockSignal("node").eq(ClockSignal()), ResetSignal("node").eq(reset)]
        m.d.sync += reset.eq(0)
        core = NodeCore(config=self.config)
        m.submodules.core = DomainRenamer("node")(core)
        for path, member, inner in core.signature.flatten(core):
            outer: Any = self
            for step in path:
                outer = outer[step] if isinstance(step, int) else getattr(outer, step)
            if member.flow == wiring.In:
                m.d.comb += inner.eq(outer)
            else:
                m.d.comb += outer.eq(inner)
        return m
