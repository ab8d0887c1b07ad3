"""Node of a tree that brings each item of a stream to one leaf."""

from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.distribution.tree import FAN_OUT, FAN_OUT_BITS
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.queue import Queue

__all__ = ["RouteNode"]


class RouteNode(SharedComponent):
    """Hold up to ``DEPTH`` items, and pass each on to the branch that its address names, in order.

    An address is ``branch << address_bits | address within the branch``. Latency is ``LATENCY``
    cycle(s), throughput one item per cycle.

    Parameters
    ----------
    shape : shape-like
        Shape of an item; its lowest ``ADDRESS_WIDTH`` bits are the address.
    address_bits : int
        Bits of an address within a branch; from 1 to ``ADDRESS_WIDTH``.
    branches : int
        Number of branches; from 1 to ``FAN_OUT``. Items are for these only.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape)).array(branches)``
        With the address within the branch.
    """

    DEPTH = 2
    LATENCY = 1

    i: stream.Interface
    o: list[stream.Interface]

    def __init__(self, *, shape, address_bits: int, branches: int):
        if not 1 <= address_bits <= ADDRESS_WIDTH:
            raise ValueError(
                f"Address bits of a branch must be from 1 to {ADDRESS_WIDTH}, not {address_bits!r}"
            )
        if not 1 <= branches <= FAN_OUT:
            raise ValueError(f"Number of branches must be from 1 to {FAN_OUT}, not {branches!r}")
        self.shape = shape
        self.address_bits = address_bits
        self.branches = branches
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)).array(branches),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(shape=self.shape, depth=self.DEPTH)
        item = Value.cast(queue.o.payload)
        branch = Signal(FAN_OUT_BITS)
        m.d.comb += [
            queue.i.payload.eq(self.i.payload),
            queue.i.valid.eq(self.i.valid),
            self.i.ready.eq(queue.i.ready),
            branch.eq(item[self.address_bits : ADDRESS_WIDTH]),
        ]
        above = Const(0, ADDRESS_WIDTH - self.address_bits)
        for number, out in enumerate(self.o):
            m.d.comb += Value.cast(out.payload).eq(
                Cat(item[: self.address_bits], above, item[ADDRESS_WIDTH:])
            )
            with m.If(branch == number):
                m.d.comb += [out.valid.eq(queue.o.valid), queue.o.ready.eq(out.ready)]
        return m
