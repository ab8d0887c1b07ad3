"""Third pass of softmax: logits become probabilities, but for those that are pruned."""

from amaranth import Module, Mux, Signal, signed
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
    """Evaluate ``2 ** (logit - log_sum)``, rounded half up, where it survives pruning.

    ``o`` belongs to the inputs given ``LATENCY`` cycles with ``advance`` = 1 ago: ``keep[k]`` is 1
    if key ``k`` is valid and its logit is at least ``least``, and element ``k`` is then the
    probability, else 0. What is not kept stops at the first stage: nothing behind it changes, the
    power before is looked up again. Everything stands still while ``advance`` is 0.

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
    keys : ``In(width)``
        Valid keys.
    logits : ``In(ArrayLayout(signed(logit_width), width))``
    log_sum : ``In(signed(logit_width + 1))``
        Logarithm of the sum of the row's powers. No logit of a valid key exceeds it by more than
        the function tables err.
    least : ``In(signed(logit_width + 2))``
        Least logit that is kept: ``log_sum`` and the boundary of pruning (``PruningBoundary``).
    o : ``Out(Vector(fmt, width))``
    """

    LATENCY = 1 + FunctionPipeline.LATENCY + 3

    advance: Signal
    keys: Signal
    logits: data.View
    log_sum: Signal
    least: Signal
    o: data.View

    def __init__(self, *, fmt: FixedPoint, width: int):
        if width < 1:
            raise ValueError(f"Width must be at least 1, not {width!r}")
        self.fmt = fmt
        self.width = width
        self.formats = SoftmaxFormat.of(fmt)
        super().__init__({
            "advance": In(1),
            "keys": In(width),
            "logits": In(data.ArrayLayout(signed(self.formats.logit_width), width)),
            "log_sum": In(signed(self.formats.logit_width + 1)),
            "least": In(signed(self.formats.logit_width + 2)),
            "o": Out(Vector(fmt, width)),
        })

    def elaborate(self, platform):
        m = Module()
        formats = self.formats
        frac_bits = formats.logit_frac_bits
        extra = frac_bits - self.fmt.frac_bits - 1  # bits to drop before rounding, beside places

        for k in range(self.width):
            m.submodules[f"exp2_{k}"] = exp2 = FunctionPipeline(table=formats.exp2)
            # Of those that are kept, which are between the lowest boundary and 0.
            relative = Signal(signed(formats.boundary_width), name=f"relative_{k}")
            places = Signal(range(self.fmt.frac_bits + 2), name=f"places_{k}")
            doubled = Signal(self.fmt.frac_bits + 2, name=f"doubled_{k}")
            rounded = Signal(self.fmt.frac_bits + 1, name=f"rounded_{k}")
            probability = Signal(self.fmt.width - 1, name=f"probability_{k}")
            survives = Signal(name=f"survives_{k}")
            m.d.comb += [
                survives.eq(self.keys[k] & (self.logits[k] >= self.least)),
                exp2.advance.eq(self.advance),
                exp2.n.eq(relative[:frac_bits]),
                probability.eq(
                    Mux(
                        rounded > formats.highest_probability,
                        formats.highest_probability,
                        rounded,
                    )
                ),
            ]
            wait = FunctionPipeline.LATENCY - 1
            shift = delayed(m, places, wait, name=f"shift_{k}", advance=self.advance)
            keep = delayed(m, survives, wait + 4, name=f"keep_{k}", advance=self.advance)
            with m.If(self.advance & survives):
                m.d.sync += relative.eq(self.logits[k] - self.log_sum)
            with m.If(self.advance):
                m.d.sync += [
                    places.eq(-(relative >> frac_bits)),
                    doubled.eq((exp2.y >> extra) >> shift),
                    rounded.eq((doubled + 1) >> 1),
                    self.o.values[k].eq(Mux(keep, probability, 0)),
                    self.o.keep[k].eq(keep),
                ]

        return m
