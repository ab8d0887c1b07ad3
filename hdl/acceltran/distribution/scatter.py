"""Writes to the activation buffers of all clusters."""

from operator import add

from amaranth import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.leaf_address import check_leaf_addresses
from acceltran.distribution.route_node import RouteNode
from acceltran.distribution.router import Router
from acceltran.distribution.tree import FAN_OUT, level_sizes, tree_levels
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, BufferWrite
from acceltran.numeric.reduction import reduced

__all__ = ["Scatter"]


class Scatter(SharedComponent):
    """Bring each write to the leaf that its address names; the writes to a leaf in order.

    An address is ``leaf << address_bits | address within the leaf``. Latency is ``latency(leaves)``
    cycles, throughput one write per cycle. One leaf is connected through.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    leaves : int
        Number of leaves; at least 1.
    address_bits : int
        Bits of an address within a leaf; from 1 to ``ADDRESS_WIDTH``, and the others number all
        leaves.

    Members
    -------
    i : ``In(stream.Signature(BufferWrite(fmt, tile)))``
    o : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(leaves)``
        With the address within the leaf.
    busy : ``Out(1)``
        A write was taken that its leaf has not. Falls ``tree_levels(leaves)`` cycles late.
    out_of_range : ``Out(1)``
        A write to a leaf that does not exist was taken, and dropped, in the cycle before.
    """

    i: stream.Interface
    o: list[stream.Interface]
    busy: Signal
    out_of_range: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, leaves: int, address_bits: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        check_leaf_addresses(leaves, address_bits)
        self.fmt = fmt
        self.tile = tile
        self.leaves = leaves
        self.address_bits = address_bits
        super().__init__({
            "i": In(stream.Signature(BufferWrite(fmt, tile))),
            "o": Out(stream.Signature(BufferWrite(fmt, tile))).array(leaves),
            "busy": Out(1),
            "out_of_range": Out(1),
        })

    @classmethod
    def latency(cls, leaves: int) -> int:
        """Cycles from taking a write to offering it."""
        return Router.latency(leaves)

    def elaborate(self, platform):
        m = Module()
        shape = BufferWrite(self.fmt, self.tile)
        m.submodules.router = router = Router(shape=shape, leaves=self.leaves)
        leaf = Signal(ADDRESS_WIDTH - self.address_bits)
        inside, taken = Signal(), Signal()
        m.d.comb += [
            leaf.eq(self.i.payload.address[self.address_bits :]),
            inside.eq(leaf < self.leaves),
            router.i.payload.leaf.eq(leaf),
            router.i.payload.item.address.eq(self.i.payload.address[: self.address_bits]),
            router.i.payload.item.vector.eq(self.i.payload.vector),
            router.i.valid.eq(self.i.valid & inside),
            self.i.ready.eq(router.i.ready | ~inside),
            taken.eq(router.i.valid & router.i.ready),
        ]
        m.d.sync += self.out_of_range.eq(self.i.valid & ~inside)

        accepted = []
        for number, (source, out) in enumerate(zip(router.o, self.o, strict=True)):
            strobe = Signal(name=f"accepted{number}")
            m.d.comb += [
                out.payload.eq(source.payload),
                out.valid.eq(source.valid),
                source.ready.eq(out.ready),
                strobe.eq(out.valid & out.ready),
            ]
            accepted.append(strobe)
        # Held by nodes, or accepted by leaves so that the strobes are still on their way.
        nodes, levels = sum(level_sizes(self.leaves)[1:]), tree_levels(self.leaves)
        most = RouteNode.DEPTH * nodes + levels * self.leaves
        count = Signal(range(most + 1))
        m.d.sync += count.eq(
            count + taken - reduced(m, accepted, add, name="accepted", fan_in=FAN_OUT)
        )
        m.d.comb += self.busy.eq(count != 0)
        return m
