"""Node of a bus that falls into one bus per group of clusters."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.tree import FAN_OUT, FAN_OUT_BITS
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite

__all__ = ["BusWrite", "ExchangeNode"]


class BusWrite(wiring.Signature):
    """Write into a vector buffer that cannot be held back.

    Members
    -------
    valid : ``Out(1)``
    write : ``Out(BufferWrite(fmt, tile))``
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        self.fmt = fmt
        self.tile = tile
        super().__init__({"valid": Out(1), "write": Out(BufferWrite(fmt, tile))})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BusWrite) and self.members == other.members


class ExchangeNode(SharedComponent):
    """Pass writes of larger groups up, and down those of the own group: turned here, or above.

    Latency is ``LATENCY`` cycle(s) up, down, and from branch to branch.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    branches : int
        Number of branches; from 1 to ``FAN_OUT``.

    Members
    -------
    turn : ``In(2)``
        Groups that the node turns round: 0 each branch by itself, 1 pairs of branches, 2 all
        branches, 3 none, for they are larger. Constant while data is under way; see ``turn_at``.
    from_branches, to_branches : ``In``, ``Out(BusWrite(fmt, tile)).array(branches)``
    to_parent, from_parent : ``Out``, ``In(BusWrite(fmt, tile))``
        Of writes that the node receives, at most one of a group is valid in a cycle; all bits of
        the others are 0.
    """

    LATENCY = 1

    turn: Signal
    from_branches: list[Any]
    to_branches: list[Any]
    to_parent: Any
    from_parent: Any

    def __init__(self, *, fmt: FixedPoint, tile: int, branches: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if not 1 <= branches <= FAN_OUT:
            raise ValueError(f"Number of branches must be from 1 to {FAN_OUT}, not {branches!r}")
        self.fmt = fmt
        self.tile = tile
        self.branches = branches
        super().__init__({
            "turn": In(2),
            "from_branches": In(BusWrite(fmt, tile)).array(branches),
            "to_branches": Out(BusWrite(fmt, tile)).array(branches),
            "to_parent": Out(BusWrite(fmt, tile)),
            "from_parent": In(BusWrite(fmt, tile)),
        })

    @staticmethod
    def turn_at(level: int, span: Value) -> Value:
        """Turn of the nodes of ``level``, from 1 on, where groups have ``2 ** span`` leaves."""
        smallest = FAN_OUT_BITS * (level - 1)  # span that the nodes turn round as single branches
        return Mux(span > smallest + FAN_OUT_BITS, 3, span - smallest)

    @classmethod
    def latency(cls, levels: int) -> int:
        """Cycles from branch to branch of a tree by its root; 0 without levels."""
        return cls.LATENCY * max(0, 2 * levels - 1)

    def elaborate(self, platform):
        m = Module()

        def bits(write) -> Value:
            return Cat(write.valid, write.write)

        own = [bits(write) for write in self.from_branches]
        width = len(own[0])
        pairs = []
        for place in range(0, self.branches, 2):
            pair = Signal(width, name=f"pair{place // 2}")
            m.d.comb += pair.eq(reduce(or_, own[place : place + 2]))
            pairs.append(pair)
        everyone = Signal(width)
        m.d.comb += everyone.eq(reduce(or_, pairs))
        # Nothing of smaller groups is left on its way when groups become larger.
        m.d.sync += bits(self.to_parent).eq(Mux(self.turn.all(), everyone, 0))

        # What is not common to all branches is chosen first.
        common = Signal(width)
        m.d.comb += common.eq(Mux(self.turn[0], bits(self.from_parent), everyone))
        for place, write in enumerate(self.to_branches):
            partial = Mux(self.turn[0], pairs[place // 2], own[place])
            m.d.sync += bits(write).eq(Mux(self.turn[1], common, partial))
        return m
