"""One read for the equal reads of all clusters."""

from typing import Any

from amaranth import Module, Value, unsigned
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.join_node import JoinNode
from acceltran.distribution.tree import branches, spread, tree_levels
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort

__all__ = ["ReadCombiner"]


class ReadCombiner(SharedComponent):
    """Read once what every leaf asks for, and answer all leaves in the same cycle.

    All leaves ask for the same addresses in the same order; those of leaf 0 are used. A leaf may be
    up to ``LEAF_DEPTH`` requests ahead of the others. Throughput is one read per cycle. One leaf is
    connected through.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    leaves : int
        Number of leaves; at least 1.

    Members
    -------
    leaf_ports : ``Out(ReadPort(fmt, tile)).array(leaves)``
        As of a buffer, whose latency is longer by ``latency(leaves)``, and where a request may wait
        after it was taken.
    port : ``In(ReadPort(fmt, tile))``
        Port of the buffer.
    """

    LEAF_DEPTH = 4
    NODE_DEPTH = 2

    leaf_ports: list[Any]
    port: Any

    def __init__(self, *, fmt: FixedPoint, tile: int, leaves: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if leaves < 1:
            raise ValueError(f"Number of leaves must be at least 1, not {leaves!r}")
        self.fmt = fmt
        self.tile = tile
        self.leaves = leaves
        super().__init__({
            "leaf_ports": Out(ReadPort(fmt, tile)).array(leaves),
            "port": In(ReadPort(fmt, tile)),
        })

    @classmethod
    def latency(cls, leaves: int) -> int:
        """Cycles from all leaves' requests to their answers, beyond those of the buffer."""
        return (JoinNode.LATENCY + 1) * tree_levels(leaves)

    def elaborate(self, platform):
        m = Module()
        requests = [port.request for port in self.leaf_ports]
        level = 0
        while len(requests) > 1:
            level += 1
            joined = []
            for place, members in enumerate(branches(len(requests))):
                m.submodules[f"node_{level}_{place}"] = node = JoinNode(
                    shape=unsigned(0 if place else ADDRESS_WIDTH),
                    branches=len(members),
                    depth=self.LEAF_DEPTH if level == 1 else self.NODE_DEPTH,
                )
                for branch, member in zip([node.first, *node.others], members, strict=True):
                    request = requests[member]
                    m.d.comb += [
                        branch.payload.eq(request.payload),
                        branch.valid.eq(request.valid),
                        request.ready.eq(branch.ready),
                    ]
                joined.append(node.o)
            requests = joined
        m.d.comb += [
            self.port.request.payload.eq(requests[0].payload),
            self.port.request.valid.eq(requests[0].valid),
            requests[0].ready.eq(self.port.request.ready),
        ]

        response = self.port.response
        valids = spread(m, response.valid, self.leaves, name="valid")
        vectors = spread(m, Value.cast(response.vector), self.leaves, name="vector")
        for port, valid, vector in zip(self.leaf_ports, valids, vectors, strict=True):
            m.d.comb += [port.response.valid.eq(valid), port.response.vector.eq(vector)]
        return m
