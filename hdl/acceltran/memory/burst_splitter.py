"""Cut transfers into AXI4 bursts."""

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, is_bus_width
from acceltran.memory.transfer import WORD_BITS, WORD_COUNT_BITS, TransferRequest

__all__ = ["Burst", "BurstSplitter", "check_bursts"]

PAGE_BYTES = 4096


def check_bursts(data_bits: int, burst_beats: int) -> None:
    """Raise ValueError unless a bus of this width can have bursts of this size."""
    if not is_bus_width(data_bits):
        raise ValueError(
            f"AXI data width must be 64, 128, 256, 512 or 1024 bits, not {data_bits!r}"
        )
    largest = min(256, PAGE_BYTES * 8 // data_bits)
    if burst_beats not in [1 << k for k in range(9)] or burst_beats > largest:
        raise ValueError(
            f"Beats of a burst must be a power of two up to {largest}, not {burst_beats!r}"
        )


class Burst(data.StructLayout):
    """Layout of an incrementing burst of full-width beats.

    Members
    -------
    address : ``unsigned(64)``
        Byte address of the first beat, a multiple of the bytes of a beat.
    length : ``unsigned(8)``
        Beats less one, as on the bus.
    first : ``range(words)``
        First word of the first beat that belongs to the transfer.
    last : ``range(words)``
        Last word of the last beat that belongs to the transfer.
    end : ``unsigned(1)``
        Last burst of its transfer.
    """

    def __init__(self, words: int):
        super().__init__({
            "address": unsigned(ADDRESS_BITS),
            "length": unsigned(8),
            "first": range(words),
            "last": range(words),
            "end": 1,
        })


class BurstSplitter(SharedComponent):
    """Cut transfers into incrementing bursts that never cross a multiple of their longest size.

    Bursts end at addresses that are multiples of ``burst_beats`` beats, which divide 4 KiB, or at
    the end of the transfer. Together they cover the transfer once, rounded out to whole beats.

    The first burst of a transfer is offered 2 cycles after the request was taken (``LATENCY``),
    further ones at one per cycle. The next request is taken once the last burst has left.

    Parameters
    ----------
    data_bits : int
        Width of the AXI data bus: 64, 128, 256, 512 or 1024.
    burst_beats : int
        Beats of the longest burst: a power of two up to 256, at most 4 KiB.

    Members
    -------
    i : ``In(stream.Signature(TransferRequest()))``
    o : ``Out(stream.Signature(Burst(data_bits // 64)))``
    idle : ``Out(1)``
        No request is being worked on.
    """

    LATENCY = 2

    i: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self, *, data_bits: int, burst_beats: int):
        check_bursts(data_bits, burst_beats)
        self.data_bits = data_bits
        self.burst_beats = burst_beats
        super().__init__({
            "i": In(stream.Signature(TransferRequest())),
            "o": Out(stream.Signature(Burst(data_bits // WORD_BITS))),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        # A block is what the longest burst covers. All places below count words.
        beat_bits = exact_log2(self.data_bits // WORD_BITS)
        block_bits = beat_bits + exact_log2(self.burst_beats)
        busy = Signal()
        block = Signal(ADDRESS_BITS - 3 - block_bits)
        begin = Signal(block_bits)  # where the transfer begins in the present block
        end = Signal(WORD_COUNT_BITS + 1)  # last word of the transfer, from the block's start

        final = Signal()
        end_beat = Signal(range(self.burst_beats))
        begin_word = self.i.payload.address[3:]
        m.d.comb += [
            self.i.ready.eq(~busy),
            self.idle.eq(~busy & ~self.o.valid),
            final.eq(end[block_bits:] == 0),
            end_beat.eq(Mux(final, end[beat_bits:block_bits], self.burst_beats - 1)),
        ]

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & ~busy):
            m.d.sync += [
                busy.eq(1),
                block.eq(begin_word[block_bits:]),
                begin.eq(begin_word[:block_bits]),
                end.eq(begin_word[:block_bits] + (self.i.payload.words - 1)[:WORD_COUNT_BITS]),
            ]
        with m.Elif(busy & (self.o.ready | ~self.o.valid)):
            m.d.sync += [
                busy.eq(~final),
                block.eq(block + 1),
                begin.eq(0),
                end[block_bits:].eq(end[block_bits:] - 1),
                self.o.valid.eq(1),
                self.o.payload.address.eq(Cat(Const(0, 3 + beat_bits), begin[beat_bits:], block)),
                self.o.payload.length.eq(end_beat - begin[beat_bits:]),
                self.o.payload.first.eq(begin[:beat_bits]),
                self.o.payload.last.eq(Mux(final, end[:beat_bits], (1 << beat_bits) - 1)),
                self.o.payload.end.eq(final),
            ]
        return m
