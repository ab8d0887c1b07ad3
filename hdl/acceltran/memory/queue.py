"""First-in first-out queue between two streams."""

from itertools import pairwise

from amaranth import Array, Module, Mux, Shape, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram

__all__ = ["Queue"]


class Queue(SharedComponent):
    """Hold up to ``depth`` payloads of a stream, and pass them on in order.

    Neither stream sees the other's handshake in the same cycle, so a queue of depth 2 cuts every
    path. Depths above ``SHALLOW`` lie in a ``Ram``.

    Latency is ``latency`` cycle(s) into an empty queue: 1 for shallow ones, 2 for those in a
    ``Ram``. Throughput is one payload per cycle from depth 2 (in a ``Ram``: 4) on.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.
    depth : int
        Payloads that fit; at least 1.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape))``
    level : ``Out(range(depth + 1))``
        Payloads taken and not yet passed on.
    """

    SHALLOW = 4

    i: stream.Interface
    o: stream.Interface
    level: Signal

    def __init__(self, *, shape, depth: int):
        if depth < 1:
            raise ValueError(f"Queue depth must be at least 1, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    @property
    def latency(self) -> int:
        """Cycles from taking a payload into an empty queue to offering it."""
        return 1 if self.depth <= self.SHALLOW else 1 + Ram.LATENCY

    def elaborate(self, platform):
        m = Module()

        put, take = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(self.level < self.depth),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += self.level.eq(self.level + put - take)

        if self.depth <= self.SHALLOW:
            self._add_registers(m, put, take)
        else:
            self._add_memory(m, put, take)
        return m

    def _add_registers(self, m: Module, put: Signal, take: Signal) -> None:
        """Shift towards the output, so that it comes from a register."""
        payload = Value.cast(self.i.payload)
        places = [Signal(payload.shape(), name=f"place_{k}") for k in range(self.depth)]
        end = Signal.like(self.level)
        m.d.comb += [
            end.eq(self.level - take),
            self.o.valid.eq(self.level != 0),
            Value.cast(self.o.payload).eq(places[0]),
        ]
        with m.If(take):
            m.d.sync += [place.eq(behind) for place, behind in pairwise(places)]
        with m.If(put):
            m.d.sync += Array(places)[end].eq(payload)

    def _add_memory(self, m: Module, put: Signal, take: Signal) -> None:
        """Read ahead: the memory's output register holds the oldest payload."""
        m.submodules.ram = ram = Ram(width=Shape.cast(self.shape).width, depth=self.depth)
        stored = Signal.like(self.level)  # payloads that wait in the memory to be fetched
        fetch = Signal()
        head, tail = Signal(range(self.depth)), Signal(range(self.depth))

        def following(place: Signal) -> Value:
            return Mux(place == self.depth - 1, 0, place + 1)

        m.d.comb += [
            fetch.eq((stored != 0) & (~self.o.valid | take)),
            ram.write_enable.eq(put),
            ram.write_address.eq(tail),
            ram.write_data.eq(self.i.payload),
            ram.read_enable.eq(fetch),
            ram.read_address.eq(head),
            Value.cast(self.o.payload).eq(ram.read_data),
        ]
        m.d.sync += [
            stored.eq(stored + put - fetch),
            self.o.valid.eq(fetch | (self.o.valid & ~take)),
        ]
        with m.If(put):
            m.d.sync += tail.eq(following(tail))
        with m.If(fetch):
            m.d.sync += head.eq(following(head))
