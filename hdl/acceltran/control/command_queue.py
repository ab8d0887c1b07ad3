"""A queue of commands in front of an engine."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, QueuedCommand
from acceltran.control.semaphores import SemaphoreSignal
from acceltran.control.wait_gate import WaitGate
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["CommandQueue"]


class CommandQueue(SharedComponent):
    """Hold commands, start them in order when their waits are met, signal when they are done.

    The engine may take the next command while it works on earlier ones, at most ``in_flight``
    together, and tells with ``done`` that the oldest has completed.

    Parameters
    ----------
    body_width, threshold_width : int
        Shape of the commands: ``QueuedCommand(body_width, threshold_width)``.
    depth : int
        Commands that wait in front of the gate; at least 1.
    in_flight : int
        Commands that the engine may have at a time; at least 1. With more than 4, none is done in
        the cycle after it was taken.
    stage : int
        See ``WaitGate``.

    Members
    -------
    counts, everywhere : ``In(ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES))``
        See ``WaitGate``.
    stop : ``In(1)``
        Start no further command.
    i : ``In(stream.Signature(QueuedCommand(body_width, threshold_width)))``
    o : ``Out(stream.Signature(QueuedCommand(body_width, threshold_width)))``
        Commands to the engine.
    done : ``In(1)``
        The oldest command that the engine has taken is complete.
    signal : ``Out(SemaphoreSignal())``
    busy : ``Out(1)``
        The engine works on a command.
    waiting : ``Out(1)``
        The next command waits for a semaphore.
    idle : ``Out(1)``
        No command is held or under way, and no signal is.
    oldest : ``Out(COMMAND_INDEX_WIDTH)``
        Index of the oldest command that is under way, or else of the one that waits to start.
    """

    counts: data.View
    everywhere: data.View
    stop: Signal
    i: stream.Interface
    o: stream.Interface
    done: Signal
    signal: Any
    busy: Signal
    waiting: Signal
    idle: Signal
    oldest: Signal

    def __init__(
        self,
        *,
        body_width: int,
        threshold_width: int,
        depth: int = 4,
        in_flight: int = 4,
        stage: int = 2,
    ):
        if depth < 1:
            raise ValueError(f"Queue depth must be at least 1, not {depth!r}")
        if in_flight < 1:
            raise ValueError(f"Commands in flight must be at least 1, not {in_flight!r}")
        self.body_width = body_width
        self.threshold_width = threshold_width
        self.depth = depth
        self.in_flight = in_flight
        self.stage = stage
        payload = QueuedCommand(body_width, threshold_width)
        super().__init__({
            "counts": In(data.ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES)),
            "everywhere": In(data.ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES)),
            "stop": In(1),
            "i": In(stream.Signature(payload)),
            "o": Out(stream.Signature(payload)),
            "done": In(1),
            "signal": Out(SemaphoreSignal()),
            "busy": Out(1),
            "waiting": Out(1),
            "idle": Out(1),
            "oldest": Out(COMMAND_INDEX_WIDTH),
        })

    def elaborate(self, platform):
        m = Module()
        shape = {"body_width": self.body_width, "threshold_width": self.threshold_width}
        m.submodules.queue = queue = Queue(shape=QueuedCommand(**shape), depth=self.depth)
        m.submodules.gate = gate = WaitGate(**shape, stage=self.stage)
        flight_layout = data.StructLayout({
            "index": COMMAND_INDEX_WIDTH,
            "signal_enable": 1,
            "signal": range(SEMAPHORES),
        })
        m.submodules.flight = flight = Queue(shape=flight_layout, depth=self.in_flight)

        wiring.connect(m, wiring.flipped(self.i), queue.i)
        wiring.connect(m, queue.o, gate.i)
        header = gate.o.payload.header
        both = Signal()
        # A place in `flight` is free before the command is offered: its level only sinks until
        # the offer is taken.
        m.d.comb += [
            gate.counts.eq(self.counts),
            gate.everywhere.eq(self.everywhere),
            gate.stop.eq(self.stop),
            Value.cast(self.o.payload).eq(gate.o.payload),
            self.o.valid.eq(gate.o.valid & flight.i.ready),
            both.eq(self.o.valid & self.o.ready),
            gate.o.ready.eq(both),
            flight.i.valid.eq(both),
            flight.i.payload.index.eq(header.index),
            flight.i.payload.signal_enable.eq(header.signal_enable),
            flight.i.payload.signal.eq(header.signal),
            flight.o.ready.eq(self.done),
            self.busy.eq(flight.level != 0),
            self.waiting.eq(gate.waiting),
            self.oldest.eq(Mux(self.busy, flight.o.payload.index, header.index)),
        ]
        m.d.sync += [
            self.signal.valid.eq(self.done & flight.o.payload.signal_enable),
            self.signal.semaphore.eq(flight.o.payload.signal),
        ]
        m.d.comb += self.idle.eq(
            (queue.level == 0) & gate.i.ready & ~self.busy & ~self.signal.valid
        )
        return m
