"""Hold a command until its semaphores have counted."""

from amaranth import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES, WAITS
from acceltran.control.command_word import QueuedCommand
from acceltran.library import SharedComponent

__all__ = ["WaitGate"]


class WaitGate(SharedComponent):
    """Pass commands on in order, each once all of its waits are met.

    A wait is met when ``counts[semaphore] - count``, modulo ``2 ** SEMAPHORE_COUNT_BITS`` and read
    as a signed number, is not negative; with ``everywhere``, ``everywhere[semaphore] - count``.

    Latency is ``LATENCY`` cycles for a command whose waits are met; throughput is one command
    in ``LATENCY + 1`` cycles.

    Parameters
    ----------
    body_width, threshold_width : int
        Shape of the commands: ``QueuedCommand(body_width, threshold_width)``.
    stage : int
        What is held back: 0 the start of a command, 1 the rows of a product, 2 those that end
        the inner dimension. Waits of later stages are met elsewhere. Default: 2.

    Members
    -------
    counts, everywhere : ``In(ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES))``
        Signals of this cluster, and those of all clusters.
    stop : ``In(1)``
        Offer no command that is not offered yet.
    i : ``In(stream.Signature(QueuedCommand(body_width, threshold_width)))``
    o : ``Out(stream.Signature(QueuedCommand(body_width, threshold_width)))``
    waiting : ``Out(1)``
        A command was held in the cycle before because a wait was not met.
    """

    LATENCY = 4

    counts: data.View
    everywhere: data.View
    stop: Signal
    i: stream.Interface
    o: stream.Interface
    waiting: Signal

    def __init__(self, *, body_width: int, threshold_width: int, stage: int = 2):
        if stage not in range(3):
            raise ValueError(f"Stage must be 0, 1 or 2, not {stage!r}")
        self.body_width = body_width
        self.threshold_width = threshold_width
        self.stage = stage
        payload = QueuedCommand(body_width, threshold_width)
        super().__init__({
            "counts": In(data.ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES)),
            "everywhere": In(data.ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES)),
            "stop": In(1),
            "i": In(stream.Signature(payload)),
            "o": Out(stream.Signature(payload)),
            "waiting": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        met, met_before = Signal(WAITS), Signal(WAITS)
        counts, everywhere = (
            Array(source[index] for index in range(SEMAPHORES))
            for source in (self.counts, self.everywhere)
        )
        waits = [self.o.payload.header.waits[index] for index in range(WAITS)]
        chosen = [Signal(SEMAPHORE_COUNT_BITS, name=f"count_{index}") for index in range(WAITS)]
        ahead = [Signal(SEMAPHORE_COUNT_BITS, name=f"ahead_{index}") for index in range(WAITS)]
        for index, wait in enumerate(waits):
            later = [wait.rows | wait.final, wait.final, 0][self.stage]
            m.d.sync += chosen[index].eq(
                Mux(wait.everywhere, everywhere[wait.semaphore], counts[wait.semaphore])
            )
            m.d.comb += [
                ahead[index].eq(chosen[index] - wait.count),
                # Counts only grow, so a wait once met stays met.
                met[index].eq(met_before[index] | ~wait.enable | ~ahead[index][-1] | later),
            ]
        m.d.sync += self.waiting.eq(0)

        with m.FSM():
            with m.State("take"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += met_before.eq(0)
                with m.If(self.i.valid):
                    m.d.sync += Value.cast(self.o.payload).eq(self.i.payload)
                    m.next = "choose"
            with m.State("choose"):
                m.next = "wait"
            with m.State("wait"):
                m.d.sync += [met_before.eq(met), self.waiting.eq(~met.all())]
                with m.If(met_before.all() & ~self.stop):
                    m.next = "offer"
            with m.State("offer"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "take"
        return m
