"""Softmax of whole rows, pruned."""

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import CONSTANT_WIDTH, SHIFT_WIDTH, SoftmaxFormat
from acceltran.compute.log_sum import LogSum
from acceltran.compute.logit_pipeline import LogitPipeline
from acceltran.compute.probability_pipeline import ProbabilityPipeline
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue
from acceltran.memory.row_buffer import RowBuffer
from acceltran.numeric.vector import Vector

__all__ = ["Scores", "Softmax"]


class Scores(data.StructLayout):
    """Layout of a vector of scores.

    Members
    -------
    values : ``ArrayLayout(signed(fmt.width), tile)``
        Raw scores; those of keys that are not valid are ignored.
    """

    def __init__(self, fmt: FixedPoint, tile: int):
        super().__init__({"values": data.ArrayLayout(signed(fmt.width), tile)})


class Softmax(SharedComponent):
    """Softmax of rows of up to ``sequence`` scores, with DynaTran on the probabilities.

    A row is ``blocks`` vectors of scores, and becomes as many vectors of probabilities with
    ``fmt.frac_bits`` fraction bits: that of key ``k`` is
    ``exp(score[k] * scale) / sum(exp(score[:keys] * scale))`` for ``k < keys`` and 0 beyond; 1 is
    ``2 ** fmt.frac_bits`` or the highest number of ``fmt``. Those below a threshold are pruned.
    The sum is exact, so the order of keys does not matter. The greatest error is 0.63 LSB.

    Each row passes three times, ``width`` values per cycle: for its maximum, for the sum of powers,
    for the probabilities. Up to ``ROWS`` rows are in work, in different passes at the same time, so
    that a long row takes ``blocks * tile / width`` cycles. A row alone in the unit is first offered
    ``latency(blocks)`` cycles after its last vector was taken. Pruning changes none of these: the
    third pass compares every logit with ``boundary``, and only survivors go on to become powers.

    Golden model: ``acceltran_sim.golden.softmax.softmax``, then ``golden.dynatran.prune``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of scores and probabilities.
    tile : int
        Elements of a vector.
    width : int
        Values per cycle of each pass; divides ``tile``.
    sequence : int
        Keys of the longest row; a multiple of ``tile``.

    Members
    -------
    constant : ``In(CONSTANT_WIDTH)``
    shift : ``In(SHIFT_WIDTH)``
        Result of ``acceltran.arch.softmax_format.softmax_constant``.
    keys : ``In(range(sequence + 1))``
        Valid keys of each row.
    blocks : ``In(range(sequence // tile + 1))``
        Vectors of a row; at least 1. This and the three above are set at least one cycle before the
        first vector of a row is offered, and are static while ``busy``.
    boundary : ``In(signed(boundary_width))``
        Boundary of the pruning threshold (``PruningBoundary``). It is static from
        ``BOUNDARY_NEEDED`` cycles after the first vector of the first row was taken, while
        ``busy``.
    i : ``In(stream.Signature(Scores(fmt, tile)))``
        Rows of scores.
    o : ``Out(stream.Signature(Vector(fmt, tile)))``
        Rows of pruned probabilities, in order.
    busy : ``Out(1)``
        A vector was taken, and not all results of its row were.
    """

    ROWS = 4
    BOUNDARY_NEEDED = LogitPipeline.maximum_latency(1) + LogSum.latency(1) + 2 * RowBuffer.LATENCY

    constant: Signal
    shift: Signal
    keys: Signal
    blocks: Signal
    boundary: Signal
    i: stream.Interface
    o: stream.Interface
    busy: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, width: int, sequence: int):
        if tile < 1:
            raise ValueError(f"Tile must be at least 1, not {tile!r}")
        if width < 1 or tile % width:
            raise ValueError(f"Width must divide the tile ({tile}), not {width!r}")
        if sequence < tile or sequence % tile:
            raise ValueError(f"Sequence must be a multiple of the tile ({tile}), not {sequence!r}")
        self.fmt = fmt
        self.tile = tile
        self.width = width
        self.sequence = sequence
        super().__init__({
            "constant": In(CONSTANT_WIDTH),
            "shift": In(SHIFT_WIDTH),
            "keys": In(range(sequence + 1)),
            "blocks": In(range(sequence // tile + 1)),
            "boundary": In(signed(SoftmaxFormat.of(fmt).boundary_width)),
            "i": In(stream.Signature(Scores(fmt, tile))),
            "o": Out(stream.Signature(Vector(fmt, tile))),
            "busy": Out(1),
        })

    def latency(self, blocks: int) -> int:
        """Cycles from taking a row's last vector, alone in the unit, to offering its first."""
        words = self.tile // self.width
        first_pass = words + LogitPipeline.maximum_latency(self.width)
        second_pass = RowBuffer.LATENCY + blocks * words - 1 + LogSum.latency(self.width)
        third_pass = RowBuffer.LATENCY + words - 1 + ProbabilityPipeline.LATENCY + 1
        return first_pass + second_pass + third_pass

    def elaborate(self, platform):
        m = Module()
        formats = SoftmaxFormat.of(self.fmt)
        words = self.tile // self.width
        m.submodules.rows = rows = RowBuffer(
            element_width=formats.logit_width,
            width=self.width,
            words=self.sequence // self.width,
            rows=self.ROWS,
        )
        m.submodules.scaler = scaler = LogitPipeline(fmt=self.fmt, width=self.width)
        m.submodules.adder = adder = LogSum(fmt=self.fmt, width=self.width, sequence=self.sequence)
        m.submodules.output = output = ProbabilityPipeline(fmt=self.fmt, width=self.width)

        def row_registers(like: Signal, name: str) -> Array:
            return Array(Signal.like(like, name=f"{name}_{k}") for k in range(self.ROWS))

        m.d.sync += rows.last_word.eq(self.blocks * words - 1)
        self._add_split(m, rows, scaler)

        # First pass: logits and, behind them, their maximum.
        maximum = row_registers(scaler.maximum, "maximum")
        scaled_row = Signal(range(self.ROWS))
        m.d.comb += [
            scaler.constant.eq(self.constant),
            scaler.shift.eq(self.shift),
            rows.i.eq(scaler.o),
            rows.start[0].eq(scaler.done),
            rows.advance[0].eq(1),
        ]
        with m.If(scaler.done):
            m.d.sync += [maximum[scaled_row].eq(scaler.maximum), scaled_row.eq(scaled_row + 1)]

        # Second pass: sum of powers relative to the maximum, and its logarithm.
        log_sum = row_registers(output.log_sum, "log_sum")
        summed_row = Signal(range(self.ROWS))
        m.d.sync += adder.maximum.eq(maximum[rows.next_row[0]])
        m.d.comb += [adder.i.eq(rows.words_out[0]), rows.start[1].eq(adder.done)]
        frac_bits = formats.logit_frac_bits
        exponent = maximum[summed_row] + adder.result[frac_bits:]
        with m.If(adder.done):
            m.d.sync += [
                log_sum[summed_row].eq(Cat(adder.result[:frac_bits], exponent).as_signed()),
                summed_row.eq(summed_row + 1),
            ]

        # Third pass: probabilities of what is kept.
        advance = Signal()
        m.d.comb += [
            rows.advance[1].eq(advance),
            output.advance.eq(advance),
            output.keys.eq(rows.words_out[1].keys),
            output.logits.eq(rows.words_out[1].values),
        ]
        with m.If(advance):
            m.d.sync += [
                output.log_sum.eq(log_sum[rows.next_row[1]]),
                output.least.eq(log_sum[rows.next_row[1]] + self.boundary),
            ]
        under_way = self._add_join(m, output, rows.words_out[1].valid, advance)
        m.d.comb += self.busy.eq(rows.in_use | under_way)
        return m

    def _add_split(self, m: Module, rows: RowBuffer, scaler: LogitPipeline) -> None:
        """Take vectors and give them to the first pass word by word."""
        words = self.tile // self.width
        vector = Signal(self.tile * self.fmt.width)
        held, first, last = Signal(), Signal(), Signal()
        word = Signal(range(words))
        block = Signal.like(self.blocks)
        keys_left = Signal.like(self.keys)
        is_first, is_last, take = Signal(), Signal(), Signal()
        m.d.comb += [
            is_first.eq(block == 0),
            is_last.eq(block == self.blocks - 1),
            # A row that has begun has room for all its words.
            self.i.ready.eq((~held | (word == words - 1)) & (~is_first | rows.claimable)),
            take.eq(self.i.valid & self.i.ready),
            rows.claim.eq(take & is_first),
            scaler.i.valid.eq(held),
            scaler.i.first.eq(first & (word == 0)),
            scaler.i.last.eq(last & (word == words - 1)),
            scaler.i.values.as_value().eq(vector),
        ]
        m.d.comb += [scaler.i.keys[k].eq(keys_left > k) for k in range(self.width)]
        with m.If(held):
            m.d.sync += [
                vector.eq(vector >> (self.width * self.fmt.width)),
                keys_left.eq(Mux(keys_left > self.width, keys_left - self.width, 0)),
                word.eq(Mux(word == words - 1, 0, word + 1)),
                held.eq(word != words - 1),
            ]
        with m.If(take):
            m.d.sync += [
                vector.eq(self.i.payload.values.as_value()),
                held.eq(1),
                first.eq(is_first),
                last.eq(is_last),
                block.eq(Mux(is_last, 0, block + 1)),
            ]
            with m.If(is_first):
                m.d.sync += keys_left.eq(self.keys)

    def _add_join(
        self, m: Module, output: ProbabilityPipeline, valid: Value, advance: Signal
    ) -> Value:
        """Collect words to vectors and offer them; return whether any are under way."""
        words = self.tile // self.width
        m.submodules.queue = queue = Queue(shape=Vector(self.fmt, self.tile), depth=2)
        occupied = Signal(output.LATENCY)
        word = Signal(range(words))
        parts = [Signal(Vector(self.fmt, self.width), name=f"part_{k}") for k in range(words - 1)]
        parts.append(output.o)
        m.d.comb += [
            advance.eq(~queue.i.valid | queue.i.ready),
            queue.i.valid.eq(occupied[-1] & (word == words - 1)),
            queue.i.payload.values.as_value().eq(Cat(part.values.as_value() for part in parts)),
            queue.i.payload.keep.eq(Cat(part.keep for part in parts)),
            self.o.valid.eq(queue.o.valid),
            self.o.payload.eq(queue.o.payload),
            queue.o.ready.eq(self.o.ready),
        ]
        with m.If(advance):
            m.d.sync += occupied.eq(Cat(valid, occupied))
            with m.If(occupied[-1]):
                m.d.sync += word.eq(Mux(word == words - 1, 0, word + 1))
                m.d.sync += [a.eq(b) for a, b in zip(parts, parts[1:], strict=False)]
        return valid | occupied.any() | (word != 0) | queue.o.valid
