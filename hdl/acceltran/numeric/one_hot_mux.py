"""Multiplexer with one bit of the selection for each of its inputs."""

from operator import or_
from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent

__all__ = ["OneHotMux"]


class OneHotMux(SharedComponent):
    """``o = values[n]`` where bit ``n`` of ``select`` is 1, and 0 without such a bit.

    At most one bit of ``select`` is 1. Combinational: an AND for each bit of the values, and a tree
    of ORs.

    Parameters
    ----------
    width : int
        Bits of a value; at least 1.
    count : int
        Number of values; at least 1.

    Members
    -------
    select : ``In(count)``
    values : ``In(ArrayLayout(unsigned(width), count))``
    o : ``Out(width)``
    """

    select: Signal
    values: Any
    o: Signal

    def __init__(self, *, width: int, count: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        if count < 1:
            raise ValueError(f"Number of values must be at least 1, not {count!r}")
        self.width = width
        self.count = count
        super().__init__({
            "select": In(count),
            "values": In(data.ArrayLayout(unsigned(width), count)),
            "o": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        terms: list[Any] = [Mux(self.select[n], self.values[n], 0) for n in range(self.count)]
        while len(terms) > 1:
            pairs = zip(terms[::2], terms[1::2], strict=False)
            terms = [*(or_(*pair) for pair in pairs), *terms[len(terms) & ~1 :]]
        m.d.comb += self.o.eq(terms[0])
        return m
