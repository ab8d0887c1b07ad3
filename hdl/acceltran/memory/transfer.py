"""What DMA engines and AXI channels exchange: requests, beats, and the port that joins them."""

from amaranth import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.memory.axi4 import ADDRESS_BITS

__all__ = ["WORD_BITS", "WORD_COUNT_BITS", "Beat", "DramReadPort", "TransferRequest"]

WORD_BITS = 64
"""DRAM is read and written in words of 8 bytes."""
WORD_COUNT_BITS = 36
"""Enough for 2^24 vectors of the widest layout, and for 2^32 commands."""


class TransferRequest(data.StructLayout):
    """Layout of a request to move consecutive words.

    Members
    -------
    address : ``unsigned(64)``
        Byte address, a multiple of 8.
    words : ``unsigned(WORD_COUNT_BITS)``
        Words of 8 bytes; at least 1.
    """

    def __init__(self):
        super().__init__({
            "address": unsigned(ADDRESS_BITS),
            "words": unsigned(WORD_COUNT_BITS),
        })


class Beat(data.StructLayout):
    """Layout of up to ``words`` consecutive words, the valid ones being ``first`` to ``last``.

    Members
    -------
    data : ``ArrayLayout(64, words)``
    first, last : ``range(words)``
        Lowest and highest valid word; ``first <= last``.
    end : ``unsigned(1)``
        This is the last piece of its transfer.
    """

    def __init__(self, words: int):
        self.words = words
        super().__init__({
            "data": data.ArrayLayout(WORD_BITS, words),
            "first": range(words),
            "last": range(words),
            "end": 1,
        })


class DramReadPort(wiring.Signature):
    """Port of a client that reads DRAM, as the channel sees it.

    The channel has ``Out(DramReadPort(...))``, the client ``In(DramReadPort(...))``.

    Parameters
    ----------
    words : int
        Words of a beat: the width of the AXI data bus over 64.

    Members
    -------
    request : ``In(stream.Signature(TransferRequest()))``
    beats : ``Out(stream.Signature(Beat(words)))``
        The words of all requests, in order. Words keep their place on the bus, so that the first
        and the last beat of a request may be partial; ``end`` marks the latter.
    completed : ``Out(1)``
        Strobe: the last beat of a request has arrived from memory (it may still be queued).
    error : ``Out(1)``
        Strobe: a beat with an error response has arrived.
    """

    def __init__(self, words: int):
        self.words = words
        super().__init__({
            "request": In(stream.Signature(TransferRequest())),
            "beats": Out(stream.Signature(Beat(words))),
            "completed": Out(1),
            "error": Out(1),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DramReadPort) and self.words == other.words
