"""First pass of softmax: scores become logits to base 2, and a row's largest is found."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import CONSTANT_WIDTH, SHIFT_WIDTH, SoftmaxFormat
from acceltran.library import SharedComponent
from acceltran.numeric.delay import delayed
from acceltran.numeric.product import product, product_latency
from acceltran.numeric.reduction import reduced, reduction_latency
from acceltran.numeric.row_word import RowWord

__all__ = ["LogitPipeline"]


class LogitPipeline(SharedComponent):
    """Scale scores to logits to base 2, ``(score * constant + 2 ** shift / 2) >> shift``.

    ``o`` is the word of ``LATENCY`` cycles ago with logits in place of scores. ``done`` is 1 for
    one cycle, ``maximum_latency(width)`` cycles after the last word of a row; ``maximum`` is then
    the greatest integer part (logit without its fraction bits) of the row's valid keys. One word
    per cycle; nothing ever waits.

    Golden model: ``acceltran_sim.golden.softmax.softmax``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of a score.
    width : int
        Elements of a word; at least 1.

    Members
    -------
    constant : ``In(CONSTANT_WIDTH)``
    shift : ``In(SHIFT_WIDTH)``
        Result of ``softmax_constant``. Static.
    i : ``In(RowWord(fmt.width, width))``
        Scores.
    o : ``Out(RowWord(logit_width, width))``
        Logits.
    done : ``Out(1)``
    maximum : ``Out(signed(exponent_width))``
    """

    LATENCY = product_latency(2) + 2

    constant: Signal
    shift: Signal
    i: data.View
    o: data.View
    done: Signal
    maximum: Signal

    def __init__(self, *, fmt: FixedPoint, width: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        self.fmt = fmt
        self.width = width
        self.formats = SoftmaxFormat.of(fmt)
        super().__init__({
            "constant": In(CONSTANT_WIDTH),
            "shift": In(SHIFT_WIDTH),
            "i": In(RowWord(fmt.width, width)),
            "o": Out(RowWord(self.formats.logit_width, width)),
            "done": Out(1),
            "maximum": Out(signed(self.formats.exponent_width)),
        })

    @staticmethod
    def maximum_latency(width: int) -> int:
        """Cycles from a row's last word to ``done``."""
        return LogitPipeline.LATENCY + reduction_latency(width) + 1

    def elaborate(self, platform):
        m = Module()
        formats = self.formats

        for name in ("valid", "first", "last", "keys"):
            m.d.comb += self.o[name].eq(delayed(m, self.i[name], self.LATENCY, name=name))

        for k in range(self.width):
            score = self.i.values[k]
            scaled = product(m, score, self.constant, name=f"scaled_{k}")
            doubled = Signal(signed(formats.logit_width + 1), name=f"doubled_{k}")
            logit = Signal(signed(formats.logit_width), name=f"logit_{k}")
            m.d.sync += [
                # One bit below the result is kept for rounding, in a stage of its own.
                doubled.eq((scaled << 1) >> self.shift),
                logit.eq((doubled + 1) >> 1),
            ]
            m.d.comb += self.o.values[k].eq(logit)

        lowest = -(1 << (formats.exponent_width - 1))
        exponents = []
        for k in range(self.width):
            exponent = Signal(signed(formats.exponent_width), name=f"exponent_{k}")
            value = self.o.values[k][formats.logit_frac_bits :].as_signed()
            m.d.comb += exponent.eq(Mux(self.o.keys[k], value, lowest))
            exponents.append(exponent)

        def greater(a, b):
            return Mux(a > b, a, b)

        greatest = reduced(m, exponents, greater, name="greatest")
        levels = reduction_latency(self.width)
        valid = delayed(m, self.o.valid, levels, name="greatest_valid")
        first = delayed(m, self.o.first, levels, name="greatest_first")
        last = delayed(m, self.o.last, levels, name="greatest_last")
        m.d.sync += self.done.eq(valid & last)
        with m.If(valid & (first | (greatest > self.maximum))):
            m.d.sync += self.maximum.eq(greatest)

        return m
