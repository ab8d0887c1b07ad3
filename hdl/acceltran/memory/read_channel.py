"""Serve several readers from one AXI4 read port."""

from typing import Any

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.axi4 import Axi4Read, constants
from acceltran.memory.burst_splitter import BurstSplitter, check_bursts
from acceltran.memory.queue import Queue
from acceltran.memory.transfer import WORD_BITS, Beat, DramReadPort

__all__ = ["ReadChannel"]


class ReadChannel(SharedComponent):
    """Read DRAM for several clients through one AXI4 port.

    Each client has a queue of beats. A burst is issued only when its client's queue has room for
    all of it, so read data is never held back on the bus, and a client that stalls never blocks
    another one. Bursts of a client are issued in order; among clients, lower indices go first.
    All bursts have id 0, so memory answers in order.

    While ``stop`` is 1, and for good after an error response, no burst is issued; those under way
    are completed. An address offered on the bus stays offered until it is taken.

    With enough requests and a memory that answers within ``queue - burst_beats`` cycles, a beat
    moves every cycle.

    Parameters
    ----------
    data_bits : int
        Width of the AXI data bus: 64, 128, 256, 512 or 1024.
    queues : tuple of int
        Beats that each client's queue holds; each at least ``burst_beats``.
    burst_beats : int
        Beats of the longest burst; see ``BurstSplitter``.

    Members
    -------
    clients : ``Out(DramReadPort(data_bits // 64)).array(len(queues))``
    axi : ``Out(Axi4Read(data_bits))``
    stop : ``In(1)``
    quiet : ``Out(1)``
        No burst is offered or under way.
    read_bytes : ``Out``
        Bytes of the beat that arrived in this cycle, or 0.
    """

    OUTSTANDING = 16
    """Bursts under way at most."""

    clients: Any
    axi: Any
    stop: Signal
    quiet: Signal
    read_bytes: Signal

    def __init__(self, *, data_bits: int, queues: tuple[int, ...], burst_beats: int = 16):
        check_bursts(data_bits, burst_beats)
        if not queues or min(queues) < burst_beats:
            raise ValueError(
                f"Queues must hold a burst ({burst_beats} beats) for at least one client,"
                f" not {queues!r}"
            )
        self.data_bits = data_bits
        self.queues = tuple(queues)
        self.burst_beats = burst_beats
        self.words = data_bits // WORD_BITS
        super().__init__({
            "clients": Out(DramReadPort(self.words)).array(len(queues)),
            "axi": Out(Axi4Read(data_bits)),
            "stop": In(1),
            "quiet": Out(1),
            "read_bytes": Out(range(data_bits // 8 + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        clients = range(len(self.queues))

        # What is known of each burst under way, in order.
        pending_layout = data.StructLayout({
            "client": range(len(self.queues)),
            "first": range(self.words),
            "last": range(self.words),
            "end": 1,
        })
        m.submodules.pending = pending = Queue(shape=pending_layout, depth=self.OUTSTANDING)
        halted, failed = Signal(), Signal()
        m.d.comb += halted.eq(self.stop | failed)

        # Offer a burst of the first client whose queue has room for it.
        m.d.comb += constants(self.axi, "ar", self.data_bits)
        may_load = Signal()
        m.d.comb += may_load.eq(~halted & pending.i.ready & (~self.axi.arvalid | self.axi.arready))
        with m.If(self.axi.arready):
            m.d.sync += self.axi.arvalid.eq(0)
        grants = []
        taken: Any = Const(0)
        for n in clients:
            m.submodules[f"split_{n}"] = split = BurstSplitter(
                data_bits=self.data_bits, burst_beats=self.burst_beats
            )
            wiring.connect(m, wiring.flipped(self.clients[n].request), split.i)
            burst = split.o.payload
            room = Signal(range(self.queues[n] + 1), init=self.queues[n], name=f"room_{n}")
            able = Signal(name=f"able_{n}")
            grant = Signal(name=f"grant_{n}")
            m.d.comb += [
                able.eq(split.o.valid & (room > burst.length)),
                grant.eq(able & may_load & ~taken),
                split.o.ready.eq(grant),
            ]
            taken = taken | able
            grants.append(grant)
            with m.If(grant):
                m.d.sync += [
                    self.axi.arvalid.eq(1),
                    self.axi.araddr.eq(burst.address),
                    self.axi.arlen.eq(burst.length),
                ]
                m.d.comb += [
                    pending.i.valid.eq(1),
                    pending.i.payload.client.eq(n),
                    pending.i.payload.first.eq(burst.first),
                    pending.i.payload.last.eq(burst.last),
                    pending.i.payload.end.eq(burst.end),
                ]
            port = self.clients[n].beats
            m.d.sync += room.eq(room - Mux(grant, burst.length + 1, 0) + (port.valid & port.ready))

        # Register each beat with what belongs to it.
        leading = Signal(init=1)  # the next beat is the first of its burst
        arrived, arrived_client = Signal(), Signal(range(len(self.queues)))
        bad = Signal()
        beat = Signal(Beat(self.words))
        head = pending.o.payload
        m.d.comb += [
            self.axi.rready.eq(pending.o.valid),
            pending.o.ready.eq(self.axi.rvalid & self.axi.rlast),
            self.quiet.eq((pending.level == 0) & ~self.axi.arvalid & ~arrived),
        ]
        m.d.sync += [
            arrived.eq(self.axi.rvalid & self.axi.rready),
            arrived_client.eq(head.client),
            bad.eq(self.axi.rresp[1]),
            beat.data.eq(self.axi.rdata),
            beat.first.eq(Mux(leading, head.first, 0)),
            beat.last.eq(Mux(self.axi.rlast, head.last, self.words - 1)),
            beat.end.eq(self.axi.rlast & head.end),
        ]
        with m.If(self.axi.rvalid & self.axi.rready):
            m.d.sync += leading.eq(self.axi.rlast)
        with m.If(arrived & bad):
            m.d.sync += failed.eq(1)
        m.d.comb += self.read_bytes.eq(Mux(arrived, self.data_bits // 8, 0))

        for n in clients:
            m.submodules[f"queue_{n}"] = queue = Queue(shape=Beat(self.words), depth=self.queues[n])
            mine = Signal(name=f"mine_{n}")
            port = self.clients[n]
            m.d.comb += [
                mine.eq(arrived & (arrived_client == n)),
                queue.i.valid.eq(mine),
                queue.i.payload.eq(beat),
                port.completed.eq(mine & beat.end),
                port.error.eq(mine & bad),
            ]
            wiring.connect(m, queue.o, wiring.flipped(port.beats))
        return m
