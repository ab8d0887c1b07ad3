"""Repack 64-bit words from pieces of one size into pieces of another."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.transfer import WORD_BITS, Beat

__all__ = ["Gearbox"]


class Gearbox(SharedComponent):
    """Repack a transfer's words from pieces of ``in_words`` into pieces of ``out_words`` places.

    The valid words of the incoming pieces, in order, are laid into the places of the outgoing
    ones: the first word of a transfer into place ``offset``, each following word into the next.
    A piece whose ``end`` is set closes the transfer; the outgoing piece with its last word has
    ``end`` set too, and the next transfer begins with a new piece. Invalid words are undefined.

    Latency is ``LATENCY`` cycles from the piece that completes an outgoing one. On the narrower
    side a piece moves every cycle, except one cycle at each end of a transfer.

    Parameters
    ----------
    in_words, out_words : int
        Words of an incoming and of an outgoing piece; at least 1.

    Members
    -------
    offset : ``In(range(out_words))``
        Place of a transfer's first word. Constant from before the transfer's first piece is
        offered until its last one has left.
    i : ``In(stream.Signature(Beat(in_words)))``
    o : ``Out(stream.Signature(Beat(out_words)))``
    idle : ``Out(1)``
        Nothing is held.
    """

    LATENCY = 2

    offset: Signal
    i: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self, *, in_words: int, out_words: int):
        if in_words < 1:
            raise ValueError(f"Words of an incoming piece must be at least 1, not {in_words!r}")
        if out_words < 1:
            raise ValueError(f"Words of an outgoing piece must be at least 1, not {out_words!r}")
        self.in_words = in_words
        self.out_words = out_words
        super().__init__({
            "offset": In(range(out_words)),
            "i": In(stream.Signature(Beat(in_words))),
            "o": Out(stream.Signature(Beat(out_words))),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        capacity = self.in_words + self.out_words - 1

        # Stage 1: bring the first valid word to place 0.
        piece = Signal(WORD_BITS * self.in_words)
        piece_count = Signal(range(self.in_words + 1))
        piece_end = Signal()
        piece_valid = Signal()
        put = Signal()
        m.d.comb += self.i.ready.eq(put | ~piece_valid)
        with m.If(self.i.ready):
            m.d.sync += piece_valid.eq(self.i.valid)
            with m.Switch(self.i.payload.first):
                for first in range(self.in_words):
                    with m.Case(first):
                        m.d.sync += piece.eq(self.i.payload.data.as_value()[first * WORD_BITS :])
            m.d.sync += [
                piece_count.eq(self.i.payload.last - self.i.payload.first + 1),
                piece_end.eq(self.i.payload.end),
            ]

        # Stage 2: append it to the words that are held.
        held = Signal(WORD_BITS * capacity)
        count = Signal(range(capacity + 1))  # places in use, those before the offset included
        closed = Signal()  # the transfer's last word is held
        fresh = Signal(init=1)  # the next piece is a transfer's first
        leading = Signal(init=1)  # the next outgoing piece is a transfer's first
        full, take = Signal(), Signal()
        kept = Signal.like(count)  # places in use once the outgoing piece has left
        place = Signal.like(count)  # where the next word goes
        m.d.comb += [
            full.eq(count >= self.out_words),
            self.o.valid.eq(full | closed),
            take.eq(self.o.valid & self.o.ready),
            kept.eq(Mux(take, Mux(full, count - self.out_words, 0), count)),
            place.eq(Mux(fresh, self.offset, kept)),
            put.eq(piece_valid & ~closed & (kept < self.out_words)),
            self.idle.eq(~piece_valid & fresh & ~closed),
            self.o.payload.data.eq(held),
            self.o.payload.first.eq(Mux(leading, self.offset, 0)),
            self.o.payload.end.eq(closed & (~full | (count == self.out_words))),
            self.o.payload.last.eq(Mux(full, self.out_words - 1, count - 1)),
        ]
        remaining = Signal.like(held)
        m.d.comb += remaining.eq(Mux(take, held >> (WORD_BITS * self.out_words), held))
        m.d.sync += [count.eq(kept), held.eq(remaining)]
        with m.If(take):
            m.d.sync += leading.eq(self.o.payload.end)
            with m.If(self.o.payload.end):
                m.d.sync += closed.eq(0)
        with m.If(put):
            m.d.sync += [
                count.eq(place + piece_count),
                fresh.eq(piece_end),
                closed.eq(piece_end),
            ]
            with m.Switch(place):
                for below in range(self.out_words):
                    with m.Case(below):
                        m.d.sync += held[below * WORD_BITS :].eq(piece)
        return m
