"""Second pass of softmax: the logarithm of the sum of a row's powers."""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SoftmaxFormat
from acceltran.library import SharedComponent
from acceltran.numeric.delay import delayed
from acceltran.numeric.function_pipeline import FunctionPipeline
from acceltran.numeric.reduction import reduced, reduction_latency
from acceltran.numeric.row_word import RowWord

__all__ = ["LogSum"]


class LogSum(SharedComponent):
    """Sum ``2 ** (logit - maximum)`` over the valid keys of a row, and take ``log2`` of it.

    Each power is truncated to the sum's fraction bits; the sum of a row is exact. ``done`` is 1 for
    one cycle, ``latency(width)`` cycles after the last word of a row, and ``result`` is then that
    row's. One word per cycle, rows back to back; nothing ever waits. The result of a row without
    valid key means nothing.

    Golden model: ``acceltran_sim.golden.softmax.softmax``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of scores and probabilities.
    width : int
        Elements of a word; at least 1.
    sequence : int
        Keys of the longest row; at least 1.

    Members
    -------
    i : ``In(RowWord(logit_width, width))``
        Logits.
    maximum : ``In(signed(exponent_width))``
        Greatest integer part in the row; given with every word of it.
    done : ``Out(1)``
    result : ``Out(unsigned(result_width))``
        ``log2`` of the sum, with the fraction bits of a logit; not negative, for the greatest key's
        own power is at least 1.
    """

    i: data.View
    maximum: Signal
    done: Signal
    result: Signal

    def __init__(self, *, fmt: FixedPoint, width: int, sequence: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        if sequence < 1:
            raise ValueError(f"Sequence must be at least 1, not {sequence!r}")
        self.fmt = fmt
        self.width = width
        self.sequence = sequence
        self.formats = SoftmaxFormat.of(fmt)
        super().__init__({
            "i": In(RowWord(self.formats.logit_width, width)),
            "maximum": In(signed(self.formats.exponent_width)),
            "done": Out(1),
            "result": Out(unsigned(self.result_width)),
        })

    @property
    def result_width(self) -> int:
        """Bits of ``result``."""
        octaves = self.formats.sum_width(self.sequence) - self.formats.sum_frac_bits
        return octaves.bit_length() + self.formats.logit_frac_bits

    @staticmethod
    def latency(width: int) -> int:
        """Cycles from a row's last word to ``done``."""
        power = FunctionPipeline.LATENCY + 1
        logarithm = 2 + FunctionPipeline.LATENCY + 1
        return power + reduction_latency(width) + 1 + logarithm

    def elaborate(self, platform):
        m = Module()
        formats = self.formats
        frac_bits, sum_frac_bits = formats.logit_frac_bits, formats.sum_frac_bits
        sum_width = formats.sum_width(self.sequence)

        # A greater distance leaves nothing of a power.
        far = (1 << (sum_frac_bits + 1).bit_length()) - 1
        powers = []
        for k in range(self.width):
            logit = self.i.values[k]
            m.submodules[f"exp2_{k}"] = exp2 = FunctionPipeline(table=formats.exp2)
            difference = Signal(unsigned(formats.exponent_width), name=f"difference_{k}")
            distance = Signal(range(far + 1), name=f"distance_{k}")
            power = Signal(sum_frac_bits + 1, name=f"power_{k}")
            m.d.comb += [
                exp2.advance.eq(1),
                exp2.n.eq(logit[:frac_bits]),
                # Of valid keys; what others give is dropped below.
                difference.eq(self.maximum - logit[frac_bits:].as_signed()),
            ]
            m.d.sync += distance.eq(Mux(difference > far, far, difference))
            wait = FunctionPipeline.LATENCY - 1
            places = delayed(m, distance, wait, name=f"places_{k}")
            key = delayed(m, self.i.valid & self.i.keys[k], wait + 1, name=f"key_{k}")
            m.d.sync += power.eq(Mux(key, (exp2.y << (sum_frac_bits - frac_bits)) >> places, 0))
            powers.append(power)

        word_sum = reduced(m, powers, lambda a, b: a + b, name="partial")
        wait = FunctionPipeline.LATENCY + 1 + reduction_latency(self.width)
        valid = delayed(m, self.i.valid, wait, name="valid")
        first = delayed(m, self.i.first, wait, name="first")
        last = delayed(m, self.i.last, wait, name="last")
        row_sum = Signal(sum_width)
        row_done = Signal()
        m.d.sync += row_done.eq(valid & last)
        with m.If(valid):
            m.d.sync += row_sum.eq(Mux(first, 0, row_sum) + word_sum)

        # The sum is at least 1: its leading one is among the integer bits.
        integer = row_sum[sum_frac_bits:]
        octave = Signal(range(len(integer)))
        octave_sum = Signal(sum_width)
        m.d.sync += [octave.eq(0), octave_sum.eq(row_sum)]
        for place in range(1, len(integer)):
            with m.If(integer[place]):
                m.d.sync += octave.eq(place)

        m.submodules.log2 = log2 = FunctionPipeline(table=formats.log2)
        fraction = Signal(frac_bits)
        m.d.sync += fraction.eq((octave_sum >> octave)[sum_frac_bits - frac_bits : sum_frac_bits])
        m.d.comb += [log2.advance.eq(1), log2.n.eq(fraction)]
        exponent = delayed(m, octave, 1 + FunctionPipeline.LATENCY, name="exponent")
        m.d.sync += self.result.eq((exponent << frac_bits) + log2.y)
        m.d.comb += self.done.eq(delayed(m, row_done, 3 + FunctionPipeline.LATENCY, name="done"))

        return m
