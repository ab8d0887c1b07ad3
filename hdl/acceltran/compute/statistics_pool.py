"""Statistics of several rows at the same time."""

from amaranth import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.row_statistics import LayerNormParameters, RowScale, RowStatistics, RowSums
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["StatisticsPool"]


class StatisticsPool(SharedComponent):
    """Deal rows to ``units`` of ``RowStatistics`` in turn, and collect in the same order.

    Latency is ``LATENCY`` cycles; throughput is ``units`` rows per ``RowStatistics.LATENCY``
    cycles. While no more than ``capacity`` rows have entered and not left, ``i`` is ready.

    Golden model: ``acceltran_sim.golden.layernorm.layer_norm``.

    Parameters
    ----------
    fmt, hidden
        As of ``RowStatistics``.
    units : int
        Rows at a time; at least 1.

    Members
    -------
    fields : ``In(LayerNormParameters())``
        Static while a row is under way.
    i : ``In(stream.Signature(RowSums(fmt, hidden)))``
    o : ``Out(stream.Signature(RowScale(fmt, hidden)))``
    """

    WAITING = 3
    """Rows that a unit works on, or has waiting."""
    LATENCY = 1 + RowStatistics.LATENCY

    fields: data.View
    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, fmt: FixedPoint, hidden: int, units: int):
        if units < 1:
            raise ValueError(f"Number of statistics units must be at least 1, not {units!r}")
        self.fmt = fmt
        self.hidden = hidden
        self.units = units
        super().__init__({
            "fields": In(LayerNormParameters()),
            "i": In(stream.Signature(RowSums(fmt, hidden))),
            "o": Out(stream.Signature(RowScale(fmt, hidden))),
        })

    @property
    def capacity(self) -> int:
        """Rows that may be inside."""
        return self.units * self.WAITING

    def elaborate(self, platform):
        m = Module()
        dealing, collecting = (
            Signal(range(max(2, self.units)), name=name) for name in ("dealing", "collecting")
        )
        queues, results = [], []
        for number in range(self.units):
            queue = Queue(shape=RowSums(self.fmt, self.hidden), depth=self.WAITING)
            unit = RowStatistics(fmt=self.fmt, hidden=self.hidden)
            m.submodules[f"queue{number}"], m.submodules[f"unit{number}"] = queue, unit
            wiring.connect(m, queue.o, unit.i)
            m.d.comb += [
                unit.fields.eq(self.fields),
                queue.i.payload.eq(self.i.payload),
                queue.i.valid.eq(self.i.valid & (dealing == number)),
                unit.o.ready.eq(self.o.ready & (collecting == number)),
            ]
            queues.append(queue.i)
            results.append(unit.o)
        m.d.comb += [
            self.i.ready.eq(Array(queue.ready for queue in queues)[dealing]),
            self.o.valid.eq(Array(result.valid for result in results)[collecting]),
            Value.cast(self.o.payload).eq(
                Array(Value.cast(result.payload) for result in results)[collecting]
            ),
        ]
        for stream_, turn in ((self.i, dealing), (self.o, collecting)):
            with m.If(stream_.valid & stream_.ready):
                m.d.sync += turn.eq(Mux(turn == self.units - 1, 0, turn + 1))
        return m
