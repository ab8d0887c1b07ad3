"""Buffer of whole rows that are written once and read twice."""

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram
from acceltran.numeric.row_word import RowWord

__all__ = ["RowBuffer"]


class RowBuffer(SharedComponent):
    """Hold ``rows`` rows, each in a memory of its own, for two readers one after the other.

    A row is claimed, then written word by word. Each reader reads rows in order, a row as soon as
    it was told to (``start``), one word per cycle with ``advance`` = 1. Reader 1 must not be
    started for a row before reader 0 has read it all; when reader 1 has read a row its memory is
    free again. So writing and the two reads of different rows go on at the same time.

    Latency is ``LATENCY`` cycles from ``start`` to the first word of the row.

    Parameters
    ----------
    element_width : int
        Bits of an element.
    width : int
        Elements of a word; at least 1.
    words : int
        Words of the longest row; at least 1.
    rows : int
        Rows that fit; a power of two, at least 2.

    Members
    -------
    last_word : ``In(range(words))``
        Words of every row, less one. Static.
    claimable : ``Out(1)``
        There is room for another row.
    claim : ``In(1)``
        Take room for a row; only while ``claimable``.
    i : ``In(RowWord(element_width, width))``
        Word to write. The rows are those claimed, in order.
    start : ``In(2)``
        Bit ``n``: another row is there for reader ``n``.
    advance : ``In(2)``
        Bit ``n``: reader ``n`` moves on by a word. Else its output stays.
    words_out : array of 2 ``Out(RowWord(element_width, width))``
        Words of reader ``n``.
    next_row : array of 2 ``Out(range(rows))``
        Number of the memory that the next of ``words_out`` is from; it counts rows modulo ``rows``.
    in_use : ``Out(1)``
        At least one row is claimed and not read twice yet.
    """

    LATENCY = 1 + Ram.LATENCY + 1

    last_word: Signal
    claimable: Signal
    claim: Signal
    i: data.View
    start: Signal
    advance: Signal
    words_out: list
    next_row: list
    in_use: Signal

    def __init__(self, *, element_width: int, width: int, words: int, rows: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        if words < 1:
            raise ValueError(f"Words must be at least 1, not {words!r}")
        if rows < 2 or rows & (rows - 1):
            raise ValueError(f"Rows must be a power of two and at least 2, not {rows!r}")
        self.element_width = element_width
        self.width = width
        self.words = words
        self.rows = rows
        super().__init__({
            "last_word": In(range(words)),
            "claimable": Out(1),
            "claim": In(1),
            "i": In(RowWord(element_width, width)),
            "start": In(2),
            "advance": In(2),
            "words_out": Out(RowWord(element_width, width)).array(2),
            "next_row": Out(range(rows)).array(2),
            "in_use": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        word_width = self.width * (self.element_width + 1)
        rams = [Ram(width=word_width, depth=max(2, self.words)) for _ in range(self.rows)]
        for row, ram in enumerate(rams):
            m.submodules[f"row_{row}"] = ram

        occupied = Signal(self.rows)
        claim_row = Signal(range(self.rows))
        m.d.comb += [
            self.claimable.eq(~occupied.bit_select(claim_row, 1)),
            self.in_use.eq(occupied.any()),
        ]
        with m.If(self.claim):
            m.d.sync += [
                occupied.bit_select(claim_row, 1).eq(1),
                claim_row.eq(claim_row + 1),
            ]

        write_row, write_address = Signal(range(self.rows)), Signal.like(rams[0].write_address)
        with m.If(self.i.valid):
            m.d.sync += write_address.eq(write_address + 1)
            with m.If(self.i.last):
                m.d.sync += [write_address.eq(0), write_row.eq(write_row + 1)]
        for row, ram in enumerate(rams):
            m.d.comb += [
                ram.write_enable.eq(self.i.valid & (write_row == row)),
                ram.write_address.eq(write_address),
                ram.write_data.eq(Cat(self.i.keys, self.i.values.as_value())),
            ]

        readers = [self._add_reader(m, rams, n) for n in range(2)]
        for row, ram in enumerate(rams):
            (read_0, address_0), (read_1, address_1) = (
                (reads[row], address) for reads, address, _ in readers
            )
            m.d.comb += [
                ram.read_enable.eq(read_0 | read_1),
                ram.read_address.eq(Mux(read_1, address_1, address_0)),
            ]
        # The memory's output register may be overwritten only once its last word has left it.
        with m.If(readers[1][2]):
            m.d.sync += occupied.bit_select(self.next_row[1], 1).eq(0)
        return m

    def _add_reader(self, m: Module, rams: list[Ram], n: int) -> tuple[Signal, Signal, Signal]:
        """Return which memory is read, at what address, and the strobe that a row has been."""
        row = Signal(range(self.rows), name=f"row{n}")
        address = Signal.like(rams[0].read_address, name=f"address{n}")
        waiting = Signal(range(self.rows + 1), name=f"waiting{n}")
        reads = Signal(self.rows, name=f"reads{n}")
        issue, finish, left = Signal(), Signal(), Signal()
        advance = self.advance[n]
        m.d.comb += [
            issue.eq((waiting != 0) & advance),
            finish.eq(issue & (address == self.last_word)),
            reads.eq(issue << row),
        ]
        m.d.sync += waiting.eq(waiting + self.start[n] - finish)
        with m.If(issue):
            m.d.sync += address.eq(address + 1)
        with m.If(finish):
            m.d.sync += [address.eq(0), row.eq(row + 1)]

        # Two stages: the memory's own register, and one behind the choice among memories.
        valid, first, last = (Signal(name=f"{s}{n}") for s in ("valid", "first", "last"))
        word = self.words_out[n]
        stored = Array(ram.read_data for ram in rams)[self.next_row[n]]
        m.d.comb += left.eq(valid & last & advance)
        with m.If(advance):
            m.d.sync += [
                valid.eq(issue),
                first.eq(address == 0),
                last.eq(finish),
                self.next_row[n].eq(row),
                word.valid.eq(valid),
                word.first.eq(first),
                word.last.eq(last),
                Cat(word.keys, word.values.as_value()).eq(stored),
            ]
        return reads, address, left
