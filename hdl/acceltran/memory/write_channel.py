"""Write streams of beats through one AXI4 write port."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.axi4 import Axi4Write, constants
from acceltran.memory.burst_splitter import BurstSplitter, check_bursts
from acceltran.memory.queue import Queue
from acceltran.memory.transfer import WORD_BITS, Beat, TransferRequest

__all__ = ["WriteChannel"]


class WriteChannel(SharedComponent):
    """Write DRAM through one AXI4 port.

    ``beats`` carries the words of the requests, in order and in their places on the bus: the first
    word of a request is in place ``address / 8 mod words``. A burst is issued only when all its
    beats are queued, so that it never waits for data, and data never leaves before its address.

    While ``stop`` is 1, and for good after an error response, no burst is issued, and what is left
    of those under way is sent with all strobes 0. An offer on the bus stays until it is taken.

    With enough data and a memory that takes it, a beat moves every cycle.

    Parameters
    ----------
    data_bits : int
        Width of the AXI data bus: 64, 128, 256, 512 or 1024.
    queue : int
        Beats that are queued; at least ``burst_beats``.
    burst_beats : int
        Beats of the longest burst; see ``BurstSplitter``.

    Members
    -------
    request : ``In(stream.Signature(TransferRequest()))``
    beats : ``In(stream.Signature(Beat(data_bits // 64)))``
    axi : ``Out(Axi4Write(data_bits))``
    stop : ``In(1)``
    quiet : ``Out(1)``
        No burst is offered or under way.
    idle : ``Out(1)``
        All requests that were taken are written, and memory has answered.
    error : ``Out(1)``
        Strobe: an error response has arrived.
    write_bytes : ``Out``
        Bytes of the beat that left in this cycle, or 0.
    """

    OUTSTANDING = 15
    """Bursts without response at most."""
    ADDRESSED = 4
    """Bursts at most whose addresses are ahead of their data."""

    request: stream.Interface
    beats: stream.Interface
    axi: Any
    stop: Signal
    quiet: Signal
    idle: Signal
    error: Signal
    write_bytes: Signal

    def __init__(self, *, data_bits: int, queue: int, burst_beats: int = 16):
        check_bursts(data_bits, burst_beats)
        if queue < burst_beats:
            raise ValueError(f"Queue must hold a burst ({burst_beats} beats), not {queue!r}")
        self.data_bits = data_bits
        self.queue = queue
        self.burst_beats = burst_beats
        self.words = data_bits // WORD_BITS
        super().__init__({
            "request": In(stream.Signature(TransferRequest())),
            "beats": In(stream.Signature(Beat(self.words))),
            "axi": Out(Axi4Write(data_bits)),
            "stop": In(1),
            "quiet": Out(1),
            "idle": Out(1),
            "error": Out(1),
            "write_bytes": Out(range(data_bits // 8 + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        axi = self.axi
        halted, failed = Signal(), Signal()
        m.d.comb += halted.eq(self.stop | failed)

        m.submodules.split = split = BurstSplitter(
            data_bits=self.data_bits, burst_beats=self.burst_beats
        )
        m.submodules.queue = queue = Queue(shape=Beat(self.words), depth=self.queue)
        m.submodules.lengths = lengths = Queue(shape=8, depth=self.ADDRESSED)
        wiring.connect(m, wiring.flipped(self.request), split.i)
        wiring.connect(m, wiring.flipped(self.beats), queue.i)

        # Offer the address of a burst whose beats are all queued.
        burst = split.o.payload
        queued = Signal(range(self.queue + 1))  # beats that no issued burst has claimed
        outstanding = Signal(range(self.OUTSTANDING + 1))
        grant, answered = Signal(), Signal()
        m.d.comb += [
            *constants(axi, "aw", self.data_bits),
            grant.eq(
                split.o.valid
                & (queued > burst.length)
                & (outstanding != self.OUTSTANDING)
                & (lengths.level < self.ADDRESSED - 1)
                & (~axi.awvalid | axi.awready)
                & ~halted
            ),
            split.o.ready.eq(grant),
            lengths.i.valid.eq(axi.awvalid & axi.awready),
            lengths.i.payload.eq(axi.awlen),
            answered.eq(axi.bvalid & axi.bready),
        ]
        m.d.sync += [
            queued.eq(queued + (queue.i.valid & queue.i.ready) - Mux(grant, burst.length + 1, 0)),
            outstanding.eq(outstanding + grant - answered),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(grant):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(burst.address),
                axi.awlen.eq(burst.length),
            ]

        # Send the beats of bursts whose addresses were taken.
        sent = Signal(8)  # beats of the present burst
        load = Signal()
        beat = queue.o.payload
        from_first, to_last = Signal(self.words), Signal(self.words)
        m.d.comb += [
            load.eq(lengths.o.valid & queue.o.valid & (~axi.wvalid | axi.wready)),
            queue.o.ready.eq(load),
            lengths.o.ready.eq(load & (sent == lengths.o.payload)),
        ]
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(load):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wlast.eq(lengths.o.ready),
                axi.wdata.eq(beat.data),
                sent.eq(Mux(lengths.o.ready, 0, sent + 1)),
            ]
            for word in range(self.words):
                strobe = from_first[word] & to_last[word] & ~halted
                m.d.sync += axi.wstrb.word_select(word, 8).eq(strobe.replicate(8))
        with m.Switch(beat.first):
            for first in range(self.words):
                with m.Case(first):
                    m.d.comb += from_first.eq((1 << self.words) - (1 << first))
        with m.Switch(beat.last):
            for last in range(self.words):
                with m.Case(last):
                    m.d.comb += to_last.eq((2 << last) - 1)

        m.d.comb += [
            axi.bready.eq(1),
            self.quiet.eq(outstanding == 0),
            self.idle.eq(self.quiet & split.idle),
            self.error.eq(failed & ~self._last(m, failed)),
            self.write_bytes.eq(Mux(axi.wvalid & axi.wready, self.data_bits // 8, 0)),
        ]
        with m.If(answered & axi.bresp[1]):
            m.d.sync += failed.eq(1)
        return m

    @staticmethod
    def _last(m: Module, signal: Signal) -> Signal:
        last = Signal.like(signal, name_suffix="_last")
        m.d.sync += last.eq(signal)
        return last
