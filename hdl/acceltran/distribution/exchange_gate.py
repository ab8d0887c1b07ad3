"""Where vectors that a cluster shares with its group get on the bus."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.exchange_node import BusWrite
from acceltran.distribution.tree import FAN_OUT
from acceltran.library import SharedComponent
from acceltran.memory.ports import BufferWrite

__all__ = ["ExchangeGate", "Turns"]


class Turns(wiring.Signature):
    """Whose turn it is, as it comes from the root of the tree.

    Members
    -------
    span : ``Out(range(ceil_log2(clusters) + 1))``
        Cluster g belongs to group ``g >> span``.
    cycle : ``Out(range(clusters))``
        Goes up by one each cycle, and round.
    """

    def __init__(self, clusters: int):
        super().__init__({
            "span": Out(range(ceil_log2(clusters) + 1)),
            "cycle": Out(ceil_log2(clusters)),
        })


class ExchangeGate(SharedComponent):
    """Let each cluster of a group send in one cycle of ``2 ** span``, and never two at a time.

    Whoever is ready has the turn of the cycle before. A write shows in the cycle it was taken in.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    clusters : int
        Clusters of the machine; at least 2.
    branches : int
        Clusters here; from 1 to ``FAN_OUT``.

    Members
    -------
    index : ``In(range(clusters))``
        Number of the first cluster, a multiple of ``FAN_OUT``.
    turns : ``In(Turns(clusters))``
    sends : ``In(stream.Signature(BufferWrite(fmt, tile))).array(branches)``
    writes : ``Out(BusWrite(fmt, tile)).array(branches)``
        All bits are 0 if nothing was taken.
    """

    index: Signal
    turns: Any
    sends: list[stream.Interface]
    writes: list[Any]

    def __init__(self, *, fmt: FixedPoint, tile: int, clusters: int, branches: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if clusters < 2:
            raise ValueError(f"Number of clusters must be at least 2, not {clusters!r}")
        if not 1 <= branches <= FAN_OUT:
            raise ValueError(f"Number of branches must be from 1 to {FAN_OUT}, not {branches!r}")
        self.fmt = fmt
        self.tile = tile
        self.clusters = clusters
        self.branches = branches
        super().__init__({
            "index": In(range(clusters)),
            "turns": In(Turns(clusters)),
            "sends": In(stream.Signature(BufferWrite(fmt, tile))).array(branches),
            "writes": Out(BusWrite(fmt, tile)).array(branches),
        })

    def elaborate(self, platform):
        m = Module()
        places = Signal.like(self.turns.cycle)  # bits of a cluster's number that are its place
        m.d.comb += places.eq((1 << self.turns.span) - 1)
        for branch, (send, write) in enumerate(zip(self.sends, self.writes, strict=True)):
            other_place = (self.turns.cycle ^ (self.index | branch)) & places
            m.d.sync += send.ready.eq(other_place == 0)
            m.d.comb += [
                write.valid.eq(send.valid & send.ready),
                write.write.eq(Mux(write.valid, Value.cast(send.payload), 0)),
            ]
        return m
