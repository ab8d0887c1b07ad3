"""Cut commands for all clusters down to what is one cluster's own."""

from typing import Any

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.commands import ADDRESS, COUNT, Opcode
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import QueuedCommand
from acceltran.control.node_command import NodeCommand, NodeKind
from acceltran.control.product_command import ProductCommand
from acceltran.control.vector_command import VectorCommand
from acceltran.library import SharedComponent

__all__ = ["SHARE", "Localizer"]

SHARE = 1 << (ADDRESS - 1)
"""Bit of the address of a result that is written to all clusters of the group."""


class Localizer(SharedComponent):
    """Keep what SEQUENCE says of this cluster, and apply it to the commands behind it.

    Cluster ``index`` holds sequence ``group`` if ``index >> span == group``. Its place in the group
    is ``p = index % 2**span``; it owns ``own = clamp(length - p * rows, 0, rows)`` rows and has
    ``keys = length``; both are 0 at first. In commands

    * with ``own_rows``, ``rows`` is ``clamp(own - first_row, 0, rows)``, or of a product
      ``valid_rows``,
    * with ``own_keys``, ``b_rows`` is ``clamp(keys - first_key, 0, b_rows)``, and ``keys`` of a
      softmax the smaller of both,
    * with ``share``, ``c_base`` is ``(c_base + p * share_stride) | SHARE``.

    Latency is ``LATENCY`` cycles; throughput one command in ``LATENCY + 1``.

    Parameters
    ----------
    threshold_width : int
        Of the commands: see ``NodeCommand``.
    clusters : int
        Clusters of the machine; at least 1.

    Members
    -------
    index : ``In(range(max(2, clusters)))``
        Number of this cluster.
    i : ``In(stream.Signature(NodeCommand(threshold_width)))``
    product : ``Out(stream.Signature(QueuedCommand(ProductCommand().size, threshold_width)))``
    vector : ``Out(stream.Signature(QueuedCommand(VectorCommand().size, threshold_width)))``
    """

    LATENCY = 4

    index: Signal
    i: stream.Interface
    product: stream.Interface
    vector: stream.Interface

    def __init__(self, *, threshold_width: int, clusters: int):
        if clusters < 1:
            raise ValueError(f"Number of clusters must be at least 1, not {clusters!r}")
        self.threshold_width = threshold_width
        self.clusters = clusters
        bodies = {"product": ProductCommand().size, "vector": VectorCommand().size}
        super().__init__({
            "index": In(range(max(2, clusters))),
            "i": In(stream.Signature(NodeCommand(threshold_width))),
            **{
                name: Out(stream.Signature(QueuedCommand(width, threshold_width)))
                for name, width in bodies.items()
            },
        })

    def elaborate(self, platform):
        m = Module()
        held: Any = Signal(NodeCommand(self.threshold_width))
        bits = held.command.body
        matmul, sequence, softmax, layer_norm = (
            data.View(command_layout(opcode), bits[start : start + command_layout(opcode).size])
            for opcode, start in (
                (Opcode.MATMUL, 0),
                (Opcode.SEQUENCE, 0),
                (Opcode.SOFTMAX, 1),
                (Opcode.LAYERNORM, 1),
            )
        )
        is_norm = bits[0]

        # What this cluster owns.
        span_bits = ceil_log2(self.clusters)
        own, keys, place = Signal(COUNT), Signal(COUNT), Signal(span_bits)
        here, seat = Signal(), Signal(span_bits)
        for span in range(span_bits + 1):
            with m.If(sequence.span == span):
                m.d.comb += [
                    here.eq(self.index >> span == sequence.group),
                    seat.eq(self.index[:span]),
                ]

        # Where the rows of this cluster begin, or where it writes what it shares.
        factor = Signal(ADDRESS)
        offset = Signal(max(ADDRESS, COUNT + span_bits))
        left_rows, left_keys = Signal(signed(COUNT + 1)), Signal(signed(COUNT + 1))
        valid_rows, valid_keys = Signal(COUNT), Signal(COUNT)
        own_rows, rows, first_row = Signal(), Signal(COUNT), Signal(COUNT)
        own_keys, most_keys, first_key = Signal(), Signal(COUNT), Signal(COUNT)
        is_sequence = held.kind == NodeKind.SEQUENCE
        product, vector = self.product.payload, self.vector.payload

        def clamped(left: Value, most: Value) -> Value:
            return Mux(left < 0, 0, Mux(left < most, left, most)[:COUNT])

        with m.FSM():
            with m.State("take"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += held.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "select"
            with m.State("select"):
                with m.If(is_sequence):
                    m.d.sync += factor.eq(sequence.rows)
                    with m.If(here):
                        m.d.sync += place.eq(seat)
                with m.Else():
                    m.d.sync += factor.eq(matmul.share_stride)
                with m.If(held.kind == NodeKind.PRODUCT):
                    m.d.sync += [
                        own_rows.eq(matmul.own_rows),
                        rows.eq(matmul.rows),
                        first_row.eq(matmul.first_row),
                        own_keys.eq(matmul.own_keys),
                        most_keys.eq(matmul.b_rows),
                        first_key.eq(matmul.first_key),
                    ]
                with m.Elif(is_norm):
                    m.d.sync += [
                        own_rows.eq(layer_norm.own_rows),
                        rows.eq(layer_norm.rows),
                        first_row.eq(layer_norm.first_row),
                    ]
                with m.Else():
                    m.d.sync += [
                        own_rows.eq(softmax.own_rows),
                        rows.eq(softmax.rows),
                        first_row.eq(softmax.first_row),
                        own_keys.eq(softmax.own_keys),
                        most_keys.eq(softmax.keys),
                        first_key.eq(0),
                    ]
                m.next = "multiply"
            with m.State("multiply"):
                m.d.sync += [
                    offset.eq(factor * place),
                    left_rows.eq(own - first_row),
                    left_keys.eq(keys - first_key),
                ]
                m.next = "clamp"
            with m.State("clamp"):
                m.d.sync += [
                    valid_rows.eq(Mux(own_rows, clamped(left_rows, rows), rows)),
                    valid_keys.eq(Mux(own_keys, clamped(left_keys, most_keys), most_keys)),
                ]
                m.next = "offer"
                with m.If(is_sequence):
                    with m.If(here):
                        m.d.sync += [
                            own.eq(clamped(sequence.length - offset, sequence.rows)),
                            keys.eq(sequence.length),
                        ]
                    m.next = "take"
            with m.State("offer"):
                with m.If(held.kind == NodeKind.PRODUCT):
                    m.d.comb += self.product.valid.eq(1)
                    with m.If(self.product.ready):
                        m.next = "take"
                with m.Else():
                    m.d.comb += self.vector.valid.eq(1)
                    with m.If(self.vector.ready):
                        m.next = "take"

        for target in (product, vector):
            m.d.comb += [
                Value.cast(target.header).eq(held.command.header),
                target.threshold.eq(held.command.threshold),
            ]
        order = data.View(ProductCommand(), product.body)
        for name in ProductCommand().members:
            if name != "valid_rows":
                m.d.comb += order[name].eq(matmul[name])
        m.d.comb += [order.valid_rows.eq(valid_rows), order.b_rows.eq(valid_keys)]
        with m.If(matmul.share):
            m.d.comb += order.c_base.eq((matmul.c_base + offset) | SHARE)
        operation = data.View(VectorCommand(), vector.body)
        m.d.comb += Value.cast(operation).eq(bits)
        with m.If(is_norm):
            m.d.comb += operation.body.layernorm.rows.eq(valid_rows)
        with m.Else():
            m.d.comb += [
                operation.body.softmax.rows.eq(valid_rows),
                operation.body.softmax.keys.eq(valid_keys),
            ]
        return m
