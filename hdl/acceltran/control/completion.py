"""Commands that are under way in the clusters."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.commands import SEMAPHORES
from acceltran.control.command_word import COMMAND_INDEX_WIDTH
from acceltran.control.semaphores import SemaphoreSignal
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue

__all__ = ["Completion", "Issued"]


class Issued(data.StructLayout):
    """Layout of what is remembered of a command: its index, and the semaphore that it signals."""

    def __init__(self):
        super().__init__({
            "index": COMMAND_INDEX_WIDTH,
            "signal_enable": 1,
            "signal": range(SEMAPHORES),
        })


class Completion(SharedComponent):
    """Remember the commands that went to one queue of all clusters, until all have completed them.

    Parameters
    ----------
    depth : int
        Commands under way; at least 1.

    Members
    -------
    i : ``In(stream.Signature(Issued()))``
        Commands in order, as they are issued.
    begun : ``In(1)``
        Strobe: the first cluster begins with a command; for the trace of a simulator only.
    done : ``In(1)``
        The oldest command is complete in all clusters.
    signal : ``Out(SemaphoreSignal())``
        Its signal, a cycle later.
    idle : ``Out(1)``
        No command is under way, and no signal is.
    oldest : ``Out(COMMAND_INDEX_WIDTH)``
        Index of the oldest command, if there is one.
    """

    i: stream.Interface
    begun: Signal
    done: Signal
    signal: Any
    idle: Signal
    oldest: Signal

    def __init__(self, *, depth: int):
        if depth < 1:
            raise ValueError(f"Number of commands must be at least 1, not {depth!r}")
        self.depth = depth
        super().__init__({
            "i": In(stream.Signature(Issued())),
            "begun": In(1),
            "done": In(1),
            "signal": Out(SemaphoreSignal()),
            "idle": Out(1),
            "oldest": Out(COMMAND_INDEX_WIDTH),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.issued = issued = Queue(shape=Issued(), depth=self.depth)
        connect(m, flipped(self.i), issued.i)
        oldest: Any = issued.o.payload
        m.d.comb += [
            issued.o.ready.eq(self.done),
            self.oldest.eq(oldest.index),
            self.idle.eq((issued.level == 0) & ~self.signal.valid),
        ]
        m.d.sync += [
            self.signal.valid.eq(self.done & oldest.signal_enable),
            self.signal.semaphore.eq(oldest.signal),
        ]
        return m
