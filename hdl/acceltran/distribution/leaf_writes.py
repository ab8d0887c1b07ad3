"""Writes to the leaves of a tree."""

from amaranth import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.leaf_address import check_leaf_addresses
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite

__all__ = ["LeafWrites"]


class LeafWrites(SharedComponent):
    """Pass on each write to a leaf that exists, at once, and drop the others.

    An address is ``leaf << address_bits | address within the leaf``.

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
    o : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
    out_of_range : ``Out(1)``
        A write was dropped in the cycle before.
    """

    i: stream.Interface
    o: stream.Interface
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
            "o": Out(stream.Signature(BufferWrite(fmt, tile))),
            "out_of_range": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        inside = Signal()
        m.d.comb += [
            inside.eq(self.i.payload.address[self.address_bits :] < self.leaves),
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & inside),
            self.i.ready.eq(self.o.ready | ~inside),
        ]
        m.d.sync += self.out_of_range.eq(self.i.valid & ~inside)
        return m
