"""Third pass of softmax: logits become probabilities, and small ones are pruned."""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SoftmaxFormat
from acceltran.library import SharedComponent
from acceltran.numeric.delay import delayed
from acceltran.numeric.function_pipeline import FunctionPipeline
from acceltran.numeric.vector import Vector

__all__ = ["ProbabilityPipeline"]


class ProbabilityPipeline(SharedComponent):
    """Evaluate ``2 ** (logit - log_sum)``, rounded half up, and prune it.

    ``o`` belongs to the inputs given ``LATENCY`` cycles with ``advance`` = 1 ago: element ``k`` is
    the probability ``p`` and ``keep[k]`` is 1 if key ``k`` is valid, ``p >= threshold`` and ``p``
    is not 0, else both are 0. Everything stands still while ``advance`` is 0.

    Golden model: ``acceltran_sim.golden.softmax.softmax``, then ``golden.dynatran.prune``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of a probability.
    width : int
        Elements per cycle; at least 1.

    Members
    -------
    advance : ``In(1)``
    threshold : ``In(unsigned(fmt.width))``
        Pruning threshold, in units of one LSB. Static.
    keys : ``In(width)``
        Valid keys.
    logits : ``In(ArrayLayout(signed(logit_width), width))``
    log_sum : ``In(signed(logit_width + 1))``
        Logarithm of the sum of the row's powers. No logit of a valid key exceeds it by more than
        the function tables err.
    o : ``Out(Vector(fmt, width))``
    """

    LATENCY = 1 + FunctionPipeline.LATENCY + 4

    advance: Signal
    threshold: Signal
    keys: Signal
    logits: data.View
    log_sum: Signal
    o: data.View

    def __init__(self, *, fmt: FixedPoint, width: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        self.fmt = fmt
        self.width = width
        self.formats = SoftmaxFormat.of(fmt)
        super().__init__({
            "advance": In(1),
            "threshold": In(unsigned(fmt.width)),
            "keys": In(width),
            "logits": In(data.ArrayLayout(signed(self.formats.logit_width), width)),
            "log_sum": In(signed(self.formats.logit_width + 1)),
            "o": Out(Vector(fmt, width)),
        })

    def elaborate(self, platform):
        m = Module()
        formats = self.formats
        frac_bits = formats.logit_frac_bits
        extra = frac_bits - self.fmt.frac_bits - 1  # bits to drop before rounding, beside places
        # A greater exponent leaves nothing of a power, not even after rounding.
        far = (1 << (frac_bits + 1).bit_length()) - 1

        for k in range(self.width):
            m.submodules[f"exp2_{k}"] = exp2 = FunctionPipeline(table=formats.exp2)
            relative = Signal(signed(formats.logit_width + 2), name=f"relative_{k}")
            down = Signal(signed(formats.logit_width + 3 - frac_bits), name=f"down_{k}")
            places = Signal(range(far + 1), name=f"places_{k}")
            doubled = Signal(self.fmt.frac_bits + 2, name=f"doubled_{k}")
            rounded = Signal(self.fmt.frac_bits + 1, name=f"rounded_{k}")
            probability = Signal(self.fmt.width - 1, name=f"probability_{k}")
            keep = Signal(name=f"keep_{k}")
            m.d.comb += [
                exp2.advance.eq(self.advance),
                exp2.n.eq(relative[:frac_bits]),
                down.eq(-(relative >> frac_bits)),
                keep.eq((probability >= self.threshold) & (probability != 0)),
            ]
            wait = FunctionPipeline.LATENCY - 1
            shift = delayed(m, places, wait, name=f"shift_{k}", advance=self.advance)
            key = delayed(m, self.keys[k], wait + 4, name=f"key_{k}", advance=self.advance)
            with m.If(self.advance):
                m.d.sync += [
                    relative.eq(self.logits[k] - self.log_sum),
                    places.eq(Mux(down > far, far, down)),
                    doubled.eq((exp2.y >> extra) >> shift),
                    rounded.eq((doubled + 1) >> 1),
                    probability.eq(
                        Mux(
                            ~key,
                            0,
                            Mux(
                                rounded > formats.highest_probability,
                                formats.highest_probability,
                                rounded,
                            ),
                        )
                    ),
                    self.o.values[k].eq(Mux(keep, probability, 0)),
                    self.o.keep[k].eq(keep),
                ]

        return m
