"""Stream of vectors from a stream of addresses."""

from typing import Any

from amaranth import Module, Signal, unsigned
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort
from acceltran.memory.queue import Queue
from acceltran.numeric.vector import Vector

__all__ = ["VectorReader"]


class VectorReader(SharedComponent):
    """Read a buffer: one vector for each address, in order, with back-pressure.

    No more than ``depth`` vectors are asked for and not yet taken, so that every answer finds room.

    Latency is ``LATENCY`` cycles more than the buffer's. Neither stream sees the handshake of the
    port, nor of the other, in the same cycle. Throughput is one vector per cycle where
    ``depth`` is at least ``FULL_RATE_DEPTH`` more than the buffer's latency and no other reader
    wants the same bank.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    depth : int
        Vectors under way and waiting; at least 1.

    Members
    -------
    addresses : ``In(stream.Signature(unsigned(ADDRESS_WIDTH)))``
        What to read.
    vectors : ``Out(stream.Signature(Vector(fmt, tile)))``
        What was read.
    port : ``In(ReadPort(fmt, tile))``
        Port of the buffer.
    """

    LATENCY = 3
    FULL_RATE_DEPTH = 3

    addresses: stream.Interface
    vectors: stream.Interface
    port: Any

    def __init__(self, *, fmt: FixedPoint, tile: int, depth: int = 8):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if depth < 1:
            raise ValueError(f"Reader depth must be at least 1, not {depth!r}")
        self.fmt = fmt
        self.tile = tile
        self.depth = depth
        super().__init__({
            "addresses": In(stream.Signature(unsigned(ADDRESS_WIDTH))),
            "vectors": Out(stream.Signature(Vector(fmt, tile))),
            "port": In(ReadPort(fmt, tile)),
        })
        self.credits = Signal(range(depth + 1), init=depth)

    def elaborate(self, platform):
        m = Module()
        m.submodules.asking = asking = Queue(shape=unsigned(ADDRESS_WIDTH), depth=2)
        m.submodules.queue = queue = Queue(shape=Vector(self.fmt, self.tile), depth=self.depth)

        credits = self.credits
        asked, taken = Signal(), Signal()
        m.d.comb += [
            asking.i.payload.eq(self.addresses.payload),
            asking.i.valid.eq(self.addresses.valid),
            self.addresses.ready.eq(asking.i.ready),
            self.port.request.payload.eq(asking.o.payload),
            self.port.request.valid.eq(asking.o.valid & (credits != 0)),
            asking.o.ready.eq(self.port.request.ready & (credits != 0)),
            asked.eq(self.port.request.valid & self.port.request.ready),
            taken.eq(self.vectors.valid & self.vectors.ready),
            queue.i.valid.eq(self.port.response.valid),
            queue.i.payload.eq(self.port.response.vector),
            self.vectors.valid.eq(queue.o.valid),
            self.vectors.payload.eq(queue.o.payload),
            queue.o.ready.eq(self.vectors.ready),
        ]
        m.d.sync += credits.eq(credits - asked + taken)
        return m
