"""Reads of the activation buffers of all clusters."""

from operator import or_
from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.leaf_address import check_leaf_addresses
from acceltran.distribution.router import Router
from acceltran.distribution.tree import FAN_OUT
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort
from acceltran.numeric.reduction import reduced, reduction_latency

__all__ = ["Gather"]


class Gather(SharedComponent):
    """Read from the leaf that the address names; answers come in the order of the requests.

    An address is ``leaf << address_bits | address within the leaf``. Throughput is one read per
    cycle as long as the leaf stays the same and no more than ``MOST_DUE`` answers are due: a
    request for another leaf waits for the answers of the one before.

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
        As of a buffer, whose latency is longer by ``latency(leaves)``, and where a request may wait
        after it was taken. A leaf that does not exist answers zero.
    leaf_ports : ``In(ReadPort(fmt, tile)).array(leaves)``
        Ports of the buffers.
    out_of_range : ``Out(1)``
        A request for a leaf that does not exist was taken in the cycle before.
    """

    MOST_DUE = 63

    port: Any
    leaf_ports: list[Any]
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
            "port": Out(ReadPort(fmt, tile)),
            "leaf_ports": In(ReadPort(fmt, tile)).array(leaves),
            "out_of_range": Out(1),
        })

    @classmethod
    def latency(cls, leaves: int) -> int:
        """Cycles from a request to its answer, beyond those of the buffer."""
        return Router.latency(leaves) + reduction_latency(leaves, fan_in=FAN_OUT)

    def elaborate(self, platform):
        m = Module()
        m.submodules.router = router = Router(shape=ADDRESS_WIDTH, leaves=self.leaves)
        request, response = self.port.request, self.port.response
        leaf = Signal(ADDRESS_WIDTH - self.address_bits)
        asked = Signal.like(leaf)  # leaf whose answers are due
        due = Signal(range(self.MOST_DUE + 1))
        inside, outside, may_ask, taken = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            leaf.eq(request.payload[self.address_bits :]),
            inside.eq(leaf < self.leaves),
            may_ask.eq((due == 0) | (inside & (leaf == asked) & (due != self.MOST_DUE))),
            router.i.payload.leaf.eq(leaf),
            router.i.payload.item.eq(request.payload[: self.address_bits]),
            router.i.valid.eq(request.valid & inside & may_ask),
            request.ready.eq((router.i.ready | ~inside) & may_ask),
            taken.eq(router.i.valid & router.i.ready),
            outside.eq(request.valid & ~inside & may_ask),
        ]
        m.d.sync += self.out_of_range.eq(outside)

        answers = []
        for source, port in zip(router.o, self.leaf_ports, strict=True):
            m.d.comb += [
                port.request.payload.eq(source.payload),
                port.request.valid.eq(source.valid),
                source.ready.eq(port.request.ready),
            ]
            answer = Cat(port.response.valid, port.response.vector)
            answers.append(Mux(port.response.valid, answer, 0))
        answer = reduced(m, answers, or_, name="answer", fan_in=FAN_OUT)
        m.d.comb += [
            Cat(response.valid, response.vector).eq(answer | self.out_of_range),
        ]
        with m.If(taken):
            m.d.sync += asked.eq(leaf)
        m.d.sync += due.eq(due + taken - answer[0])
        return m
