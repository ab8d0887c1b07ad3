"""Reads from the leaves of a tree."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.leaf_address import check_leaf_addresses
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort

__all__ = ["LeafReads"]


class LeafReads(SharedComponent):
    """Read from one leaf after the other; answers come in the order of the requests.

    An address is ``leaf << address_bits | address within the leaf``. Throughput is one read per
    cycle as long as the leaf stays the same and no more than ``MOST_DUE`` answers are due: a
    request for another leaf waits for the answers of the one before. A leaf that does not exist
    answers zero.

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
    port : ``Out(ReadPort(fmt, tile))``
    leaf_port : ``In(ReadPort(fmt, tile))``
        Of all leaves that exist.
    out_of_range : ``Out(1)``
        A request for a leaf that does not exist was taken in the cycle before.
    """

    MOST_DUE = 63

    port: Any
    leaf_port: Any
    out_of_range: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, leaves: int, address_bits: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        check_leaf_addresses(leaves, address_bits)
        self.fmt = fmt
        self.tile = tile
        self.leaves = leaves
        self.address_bits = address_bits
        self.due = Signal(range(self.MOST_DUE + 1))  # answers; a proof needs to see it
        super().__init__({
            "port": Out(ReadPort(fmt, tile)),
            "leaf_port": In(ReadPort(fmt, tile)),
            "out_of_range": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        request, response = self.port.request, self.port.response
        onward, answer = self.leaf_port.request, self.leaf_port.response
        leaf = Signal(ADDRESS_WIDTH - self.address_bits)
        asked = Signal.like(leaf)  # leaf whose answers are due
        due = self.due
        inside, may_ask, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            leaf.eq(request.payload[self.address_bits :]),
            inside.eq(leaf < self.leaves),
            may_ask.eq((due == 0) | (inside & (leaf == asked) & (due != self.MOST_DUE))),
            onward.payload.eq(request.payload),
            onward.valid.eq(request.valid & inside & may_ask),
            request.ready.eq((onward.ready | ~inside) & may_ask),
            taken.eq(onward.valid & onward.ready),
            response.valid.eq(answer.valid | self.out_of_range),
            Value.cast(response.vector).eq(Mux(answer.valid, Value.cast(answer.vector), 0)),
        ]
        m.d.sync += [
            self.out_of_range.eq(request.valid & ~inside & may_ask),
            due.eq(due + taken - answer.valid),
        ]
        with m.If(taken):
            m.d.sync += asked.eq(leaf)
        return m
