"""Read compressed tensors: what to ask for, and how to spread it out."""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS
from acceltran.memory.gearbox import Gearbox
from acceltran.memory.keep_unpacker import KeepUnpacker
from acceltran.memory.ports import ADDRESS_WIDTH
from acceltran.memory.queue import Queue
from acceltran.memory.transfer import WORD_BITS, Beat, TransferRequest
from acceltran.sparsity.compress import check_tile, group_size
from acceltran.sparsity.decompress import Decompress, KeepItem
from acceltran.sparsity.prefix_count import prefix_counts

__all__ = ["CompressedReader", "CompressedTensor", "SectionRequest"]


class CompressedTensor(data.StructLayout):
    """Byte address and number of vectors (not 0) of a compressed tensor."""

    def __init__(self):
        super().__init__({"address": unsigned(ADDRESS_BITS), "vectors": unsigned(ADDRESS_WIDTH)})


class SectionRequest(data.StructLayout):
    """Request for a part of the keep bits (``values = 0``) or of the values."""

    def __init__(self):
        super().__init__({"request": TransferRequest(), "values": 1})


class CompressedReader(SharedComponent):
    """Ask for the sections of a compressed tensor, and put its vectors together.

    The keep bits are asked for at once, the values in chunks: as many words as the keep bits of
    ``CHUNK`` vectors say, and never a word twice. ``asked`` tells that the tensor's last request
    has been taken; its user then closes the groups, with an extra one if need be.

    Golden model: ``acceltran_sim.golden.compression.decompress``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; a power of two from 2 to 64.
    beat_words : int
        Words of a beat of keep bits.

    Members
    -------
    tensor : ``In(stream.Signature(CompressedTensor()))``
        The next one is taken when all requests for this one have been.
    request : ``Out(stream.Signature(SectionRequest()))``
    asked : ``Out(1)``
    keeps : ``In(stream.Signature(Beat(beat_words)))``
    groups : ``In(stream.Signature(Beat(words)))``
        The values, packed; see ``Decompress``.
    o : ``Out(stream.Signature(ArrayLayout(signed(fmt.width), tile)))``
        Vectors.
    idle : ``Out(1)``
        Nothing is under way.
    """

    CHUNK = 64
    CHUNKS_COUNTED = 4
    """Chunks that are counted ahead of the requests for their values, at most."""

    tensor: stream.Interface
    request: stream.Interface
    asked: Signal
    keeps: stream.Interface
    groups: stream.Interface
    o: stream.Interface
    idle: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, beat_words: int):
        check_tile(tile)
        self.fmt = fmt
        self.tile = tile
        self.beat_words = beat_words
        self.words = group_size(fmt, tile) * fmt.width // WORD_BITS
        super().__init__({
            "tensor": In(stream.Signature(CompressedTensor())),
            "request": Out(stream.Signature(SectionRequest())),
            "asked": Out(1),
            "keeps": In(stream.Signature(Beat(beat_words))),
            "groups": In(stream.Signature(Beat(self.words))),
            "o": Out(stream.Signature(data.ArrayLayout(signed(fmt.width), tile))),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.gearbox = gearbox = Gearbox(in_words=self.beat_words, out_words=1)
        m.submodules.unpacker = unpacker = KeepUnpacker(tile=self.tile)
        m.submodules.waiting = waiting = Queue(shape=KeepItem(self.tile), depth=2 * self.CHUNK)
        m.submodules.decompress = decompress = Decompress(fmt=self.fmt, tile=self.tile)
        chunk_layout = data.StructLayout({"count": range(self.CHUNK * self.tile + 1), "end": 1})
        m.submodules.chunks = chunks = Queue(shape=chunk_layout, depth=self.CHUNKS_COUNTED)
        wiring.connect(m, wiring.flipped(self.keeps), gearbox.i)
        wiring.connect(m, gearbox.o, unpacker.words)
        wiring.connect(m, waiting.o, decompress.keeps)
        wiring.connect(m, wiring.flipped(self.groups), decompress.groups)
        wiring.connect(m, decompress.o, wiring.flipped(self.o))

        # Keep bits wait for their values, and are counted.
        item, counted = unpacker.o, Signal()
        ones_valid, ones_end = Signal(), Signal()
        ones = Signal(range(self.tile + 1))
        total = prefix_counts(m, item.payload.keep, self.tile)[-1]
        m.d.comb += [
            waiting.i.payload.eq(item.payload),
            waiting.i.valid.eq(item.valid & (~ones_valid | counted)),
            item.ready.eq(waiting.i.ready & (~ones_valid | counted)),
        ]
        with m.If(~ones_valid | counted):
            m.d.sync += [
                ones_valid.eq(item.valid & waiting.i.ready),
                ones_end.eq(item.payload.end),
                ones.eq(total),
            ]
        sum_count = Signal(range(self.CHUNK * self.tile + 1))
        sum_vectors = Signal(range(self.CHUNK))
        complete = Signal()
        m.d.comb += [
            complete.eq(ones_end | (sum_vectors == self.CHUNK - 1)),
            chunks.i.valid.eq(ones_valid & complete),
            chunks.i.payload.count.eq(sum_count + ones),
            chunks.i.payload.end.eq(ones_end),
            counted.eq(ones_valid & (~complete | chunks.i.ready)),
        ]
        with m.If(counted):
            m.d.sync += [
                sum_count.eq(Mux(complete, 0, sum_count + ones)),
                sum_vectors.eq(Mux(complete, 0, sum_vectors + 1)),
            ]

        # Ask for the keep bits, then for the words of each chunk that were not asked for before.
        per_word = exact_log2(WORD_BITS // self.tile)
        address = Signal(ADDRESS_BITS)
        vectors = Signal(ADDRESS_WIDTH)
        bits = Signal(range(self.CHUNK * self.tile * self.fmt.width + 1))
        last_bit = Signal(range(WORD_BITS))  # place in its word of the last bit asked for
        need = Signal(range(self.CHUNK * self.tile * self.fmt.width + WORD_BITS))
        final = Signal()
        keep_words = Signal(ADDRESS_WIDTH + 1)
        request = self.request.payload
        m.d.comb += [
            request.request.address.eq(address),
            unpacker.vectors.payload.eq(self.tensor.payload.vectors),
            self.idle.eq(self.asked & decompress.idle & (waiting.level == 0)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [
                    self.asked.eq(1),
                    self.tensor.ready.eq(unpacker.vectors.ready),
                    unpacker.vectors.valid.eq(self.tensor.valid),
                ]
                m.d.sync += [
                    address.eq(self.tensor.payload.address),
                    vectors.eq(self.tensor.payload.vectors),
                    last_bit.eq(WORD_BITS - 1),
                ]
                with m.If(self.tensor.valid & self.tensor.ready):
                    m.next = "ROUND"
            with m.State("ROUND"):
                m.d.sync += keep_words.eq((vectors + ((1 << per_word) - 1)) >> per_word)
                m.next = "KEEPS"
            with m.State("KEEPS"):
                m.d.comb += [self.request.valid.eq(1), request.request.words.eq(keep_words)]
                with m.If(self.request.ready):
                    m.d.sync += address.eq(address + (keep_words << 3))
                    m.next = "CHUNK"
            with m.State("CHUNK"):
                m.d.comb += chunks.o.ready.eq(1)
                m.d.sync += [
                    bits.eq(chunks.o.payload.count * self.fmt.width),
                    final.eq(chunks.o.payload.end),
                ]
                with m.If(chunks.o.valid):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += need.eq(bits + last_bit)
                m.next = "VALUES"
            with m.State("VALUES"):
                words = need[exact_log2(WORD_BITS) :]
                m.d.comb += [
                    self.request.valid.eq(words != 0),
                    request.values.eq(1),
                    request.request.words.eq(words),
                ]
                with m.If(self.request.ready | (words == 0)):
                    m.d.sync += [last_bit.eq(need), address.eq(address + (words << 3))]
                    m.next = "CHUNK"
                    with m.If(final):
                        m.next = "IDLE"
        return m
