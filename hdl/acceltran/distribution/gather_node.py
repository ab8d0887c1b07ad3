"""Node of a tree of reads from single leaves."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Cat, Module, Mux
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.distribution.route_node import RouteNode
from acceltran.library import SharedComponent
from acceltran.memory.ports import ADDRESS_WIDTH, ReadPort

__all__ = ["GatherNode"]


class GatherNode(SharedComponent):
    """``RouteNode`` of requests, and the answers to them.

    No two branches answer in the same cycle: whoever asks one after another sees to that.
    ``LATENCY`` cycles are added to that of the leaf, half of them on the way of the request, which
    may wait there.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    address_bits, branches : int
        See ``RouteNode``.

    Members
    -------
    port : ``Out(ReadPort(fmt, tile))``
        What it reads as.
    branch_ports : ``In(ReadPort(fmt, tile)).array(branches)``
        What it reads from.
    """

    LATENCY = RouteNode.LATENCY + 1

    port: Any
    branch_ports: list[Any]

    def __init__(self, *, fmt: FixedPoint, tile: int, address_bits: int, branches: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        self.fmt = fmt
        self.tile = tile
        self.address_bits = address_bits
        self.branches = branches
        super().__init__({
            "port": Out(ReadPort(fmt, tile)),
            "branch_ports": In(ReadPort(fmt, tile)).array(branches),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.route = route = RouteNode(
            shape=ADDRESS_WIDTH, address_bits=self.address_bits, branches=self.branches
        )
        request, response = self.port.request, self.port.response
        m.d.comb += [
            route.i.payload.eq(request.payload),
            route.i.valid.eq(request.valid),
            request.ready.eq(route.i.ready),
        ]
        answers = []
        for source, port in zip(route.o, self.branch_ports, strict=True):
            m.d.comb += [
                port.request.payload.eq(source.payload),
                port.request.valid.eq(source.valid),
                source.ready.eq(port.request.ready),
            ]
            answer = Cat(port.response.valid, port.response.vector)
            answers.append(Mux(port.response.valid, answer, 0))
        m.d.sync += Cat(response.valid, response.vector).eq(reduce(or_, answers))
        return m
