"""Tickets: groups of rows whose results are awaited together."""

from amaranth import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from acceltran.compute.drain import TICKETS
from acceltran.library import SharedComponent
from acceltran.pe import CONTEXTS

__all__ = ["Tickets"]


class Tickets(SharedComponent):
    """Give tickets to the rows of commands, and tell when all results of a command are written.

    Rows that one command has in one context get a ticket. Tickets are given in turn, and free again
    in that order, once no more rows will get them and their results are written. ``done`` comes in
    the same cycle as the end of the last ``pending``; all else is a cycle late.

    Members
    -------
    enter, context : ``In(1)``
        Take a ticket, only while ``free``; context of its rows.
    leave, finish : ``In(1)``
        No more rows get the ticket taken last, and, with ``finish``, no more rows are of its
        command; not both at a time.
    offered : ``In(TICKETS)``
        Bit t: a row with ticket t is not yet seen in ``pending``.
    pending : ``In(TICKETS)``
        Bit t: results of rows with ticket t are not all written, or such rows not all read.
    current : ``Out(range(TICKETS))``
        The ticket taken last.
    free : ``Out(1)``
        A ticket can be taken.
    closed : ``Out(1)``
        Results of rows before those with ``current`` are under way.
    busy : ``Out(2)``
        Bit c: rows of context c have tickets.
    done : ``Out(1)``
        Strobe: all results of the oldest command are written, and its rows are read.
    """

    enter: Signal
    context: Signal
    leave: Signal
    finish: Signal
    offered: Signal
    pending: Signal
    current: Signal
    free: Signal
    closed: Signal
    busy: Signal
    done: Signal

    def __init__(self):
        super().__init__({
            "enter": In(1),
            "context": In(1),
            "leave": In(1),
            "finish": In(1),
            "offered": In(TICKETS),
            "pending": In(TICKETS),
            "current": Out(range(TICKETS), init=TICKETS - 1),  # pyright: ignore[reportCallIssue]
            "free": Out(1),
            "closed": Out(1),
            "busy": Out(CONTEXTS),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        live, closed, ends, contexts = (
            Signal(TICKETS, name=name) for name in ("live", "closed_tickets", "ends", "contexts")
        )
        oldest, following = Signal(range(TICKETS)), Signal(range(TICKETS))
        written = Signal()
        m.d.comb += [
            following.eq(self.current + 1),
            self.free.eq(~live.bit_select(following, 1)),
            self.closed.eq((live & closed).any()),
            *(
                self.busy[c].eq((live & (contexts if c else ~contexts)).any())
                for c in range(CONTEXTS)
            ),
            written.eq((live & closed & ~self.pending & ~self.offered).bit_select(oldest, 1)),
            self.done.eq(written & ends.bit_select(oldest, 1)),
        ]
        with m.If(self.enter):
            m.d.sync += self.current.eq(following)
        m.d.sync += oldest.eq(Mux(written, oldest + 1, oldest))
        for ticket in range(TICKETS):
            with m.If(written & (oldest == ticket)):
                m.d.sync += live[ticket].eq(0)
            with m.If(self.enter & (following == ticket)):
                m.d.sync += [
                    live[ticket].eq(1),
                    closed[ticket].eq(0),
                    contexts[ticket].eq(self.context),
                ]
            with m.If((self.leave | self.finish) & (self.current == ticket)):
                m.d.sync += [closed[ticket].eq(1), ends[ticket].eq(self.finish)]
        return m
