"""Start, end, failure and reset of a program."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.arch.registers import (
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_RESETTING,
    ErrorCause,
)
from acceltran.control.command_word import COMMAND_INDEX_WIDTH
from acceltran.library import SharedComponent

__all__ = ["CAUSE_WIDTH", "Failure", "RunControl"]

CAUSE_WIDTH = 3


class Failure(data.StructLayout):
    """Something went wrong: why, and in which command."""

    def __init__(self):
        super().__init__({
            "valid": unsigned(1),
            "cause": unsigned(CAUSE_WIDTH),
            "command": unsigned(COMMAND_INDEX_WIDTH),
        })


class RunControl(SharedComponent):
    """Take the core through programs, and bring it to rest after each, however it ends.

    A program that ends or fails is stopped: no new burst is issued, and the bursts under way are
    completed, for at most ``PATIENCE`` cycles. After an end the core is reset (memories keep their
    contents), so that the next program finds it idle. After a failure the core stays stopped until
    ``soft_reset``, which from any state stops and resets the core in the same way. The first
    failure counts; one that comes with the end, or before the ports are quiet, counts more than it.

    Latency: ``core_start`` and ``core_stop`` rise a cycle after what they follow; ``finished``,
    ``failed`` and ``core_reset`` a cycle after the ports are quiet, and at the earliest in the
    second cycle of ``core_stop``. ``core_reset`` lasts two cycles: clusters are reset a cycle after
    the core, which must not hear what they still say. A watchdog of n has expired when n cycles
    without ``progress`` have passed since the start or the last one.

    Members
    -------
    start, soft_reset : ``In(1)``
        Strobes of the host. ``start`` while busy or failed, or with ``soft_reset``, or in a
        reset, is ignored.
    watchdog : ``In(32)``
        Cycles without ``progress`` after which a program has failed; 0: never.
    progress : ``In(1)``
    failure : ``In(Failure())``
        Of the core.
    oldest : ``In(COMMAND_INDEX_WIDTH)``
        Command that a watchdog failure is charged to.
    ended : ``In(1)``
        Strobe: the program has reached its end.
    quiet : ``In(1)``
        No burst is under way.
    core_start, core_stop, core_reset : ``Out(1)``
    running : ``Out(1)``
        Between start and interrupt.
    finished, failed : ``Out(1)``
        Strobes for the interrupt.
    status : ``Out(4)``
        The STATUS register.
    error_cause : ``Out(CAUSE_WIDTH)``
    error_command : ``Out(COMMAND_INDEX_WIDTH)``
    """

    PATIENCE = 4096

    start: Signal
    soft_reset: Signal
    watchdog: Signal
    progress: Signal
    failure: Any
    oldest: Signal
    ended: Signal
    quiet: Signal
    core_start: Signal
    core_stop: Signal
    core_reset: Signal
    running: Signal
    finished: Signal
    failed: Signal
    status: Signal
    error_cause: Signal
    error_command: Signal

    def __init__(self):
        super().__init__({
            "start": In(1),
            "soft_reset": In(1),
            "watchdog": In(32),
            "progress": In(1),
            "failure": In(Failure()),
            "oldest": In(COMMAND_INDEX_WIDTH),
            "ended": In(1),
            "quiet": In(1),
            "core_start": Out(1),
            "core_stop": Out(1),
            "core_reset": Out(1),
            "running": Out(1),
            "finished": Out(1),
            "failed": Out(1),
            "status": Out(4),
            "error_cause": Out(CAUSE_WIDTH),
            "error_command": Out(COMMAND_INDEX_WIDTH),
        })

    def elaborate(self, platform):
        m = Module()
        done, error, resetting = Signal(), Signal(), Signal()
        patience = Signal(range(self.PATIENCE + 1))
        idle_cycles = Signal(32)
        expired = Signal()
        settled = Signal()
        clearing = Signal()
        m.d.comb += [
            settled.eq(self.quiet | (patience == 0)),
            expired.eq((self.watchdog != 0) & (idle_cycles >= self.watchdog)),
        ]
        bits = {
            STATUS_BUSY: self.running,
            STATUS_DONE: done,
            STATUS_ERROR: error,
            STATUS_RESETTING: resetting,
        }
        m.d.comb += self.status.eq(Cat(bits[1 << n] for n in range(len(bits))))
        m.d.sync += [
            self.core_start.eq(0),
            self.finished.eq(0),
            self.failed.eq(0),
            self.core_reset.eq(clearing),
            clearing.eq(0),
        ]
        with m.If(patience != 0):
            m.d.sync += patience.eq(patience - 1)

        def stop(state: str) -> None:
            # A cycle passes before the ports can tell that they are not quiet.
            m.d.sync += [self.core_stop.eq(1), patience.eq(self.PATIENCE)]
            m.next = state

        def fail(cause: Any, command: Any) -> None:
            m.d.sync += [self.error_cause.eq(cause), self.error_command.eq(command)]
            stop("failing")

        with m.FSM(init="idle") as states:
            with m.State("idle"):
                m.d.sync += [idle_cycles.eq(0), self.core_stop.eq(0)]
                with m.If(self.soft_reset):
                    stop("resetting")
                with m.Elif(self.start & ~self.core_reset):
                    m.d.sync += [self.core_start.eq(1), self.running.eq(1), done.eq(0)]
                    m.next = "running"
            with m.State("running"):
                m.d.sync += idle_cycles.eq(Mux(self.progress, 0, idle_cycles + 1))
                with m.If(self.soft_reset):
                    stop("resetting")
                with m.Elif(self.failure.valid):
                    fail(self.failure.cause, self.failure.command)
                with m.Elif(self.ended):
                    stop("ending")
                with m.Elif(expired):
                    fail(ErrorCause.WATCHDOG, self.oldest)
            with m.State("ending"):
                with m.If(self.soft_reset):
                    stop("resetting")
                with m.Elif(self.failure.valid):
                    fail(self.failure.cause, self.failure.command)
                with m.Elif(settled):
                    m.d.sync += [
                        self.core_reset.eq(1),
                        clearing.eq(1),
                        self.running.eq(0),
                        self.finished.eq(1),
                        done.eq(1),
                    ]
                    m.next = "idle"
            with m.State("failing"):
                with m.If(self.soft_reset):
                    stop("resetting")
                with m.Elif(settled):
                    m.d.sync += [self.running.eq(0), self.failed.eq(1), error.eq(1)]
                    m.next = "failed"
            with m.State("failed"), m.If(self.soft_reset):
                stop("resetting")
            with m.State("resetting"), m.If(settled):
                m.d.sync += [
                    self.core_reset.eq(1),
                    clearing.eq(1),
                    self.running.eq(0),
                    done.eq(0),
                    error.eq(0),
                    self.error_cause.eq(ErrorCause.NONE),
                    self.error_command.eq(0),
                ]
                m.next = "idle"
        m.d.comb += resetting.eq(states.ongoing("resetting"))
        return m
