"""Ports of the on-chip vector buffers.

Read ports are written as the buffer sees them: the buffer has ``Out(ReadPort(...))``, whoever
reads has ``In(ReadPort(...))``. A write port is a ``stream.Signature(BufferWrite(...))``: ``In`` at
the buffer, ``Out`` at whoever writes.
"""

from amaranth import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import ADDRESS
from acceltran.arch.fixed_point import FixedPoint
from acceltran.numeric.vector import Vector

__all__ = ["ADDRESS_WIDTH", "BufferWrite", "MaskReadPort", "ReadPort", "ReadResponse"]

ADDRESS_WIDTH = ADDRESS
"""Bits of a flat address: one vector of a buffer, the bank in its low bits."""


class BufferWrite(data.StructLayout):
    """Layout of one write into a vector buffer.

    A write is visible to every read whose request is taken in a later cycle than the write.

    Members
    -------
    address : ``unsigned(ADDRESS_WIDTH)``
        Flat address.
    vector : ``Vector(fmt, tile)``
        What to write; its keep bits are stored as they are given.
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        super().__init__({"address": unsigned(ADDRESS_WIDTH), "vector": Vector(fmt, tile)})


class ReadResponse(wiring.Signature):
    """Answer to the read of a vector, which cannot be held back.

    Members
    -------
    valid : ``Out(1)``
    vector : ``Out(Vector(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        self.fmt = fmt
        self.tile = tile
        super().__init__({"valid": Out(1), "vector": Out(Vector(fmt, tile))})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadResponse) and self.members == other.members


class ReadPort(wiring.Signature):
    """Port that reads whole vectors.

    Members
    -------
    request : ``In(stream.Signature(unsigned(ADDRESS_WIDTH)))``
        Flat address.
    response : ``Out(ReadResponse(fmt, tile))``
        Answers, in the order of the requests, each a fixed number of cycles after its request was
        taken (``READ_LATENCY`` of the buffer).
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        self.fmt = fmt
        self.tile = tile
        super().__init__({
            "request": In(stream.Signature(unsigned(ADDRESS_WIDTH))),
            "response": Out(ReadResponse(fmt, tile)),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadPort) and self.members == other.members


class MaskReadPort(wiring.Signature):
    """Port that reads the keep bits of vectors, and leaves their values alone.

    Members
    -------
    request : ``In(stream.Signature(unsigned(ADDRESS_WIDTH)))``
        Flat address.
    response : ``valid`` ``Out(1)`` and ``keep`` ``Out(tile)``
        As in ``ReadPort``.
    """

    def __init__(self, tile: int):
        self.tile = tile
        super().__init__({
            "request": In(stream.Signature(unsigned(ADDRESS_WIDTH))),
            "response": Out(wiring.Signature({"valid": Out(1), "keep": Out(tile)})),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskReadPort) and self.members == other.members
