"""The logarithm from which on probabilities survive pruning."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.softmax_format import SEARCH_BELOW, SEARCH_STEPS, SoftmaxFormat
from acceltran.library import SharedComponent
from acceltran.numeric.function_pipeline import FunctionPipeline

__all__ = ["PruningBoundary"]


class PruningBoundary(SharedComponent):
    """Find the least logarithm to base 2 whose probability is at least a threshold, and not 0.

    So softmax units compare logarithms and need not raise 2 to those whose probability would be
    pruned. The ``log2`` table says of the threshold nearly where that is; successive powers from
    just below are compared with it.

    ``boundary`` is that of the threshold given with ``start`` from ``LATENCY`` cycles later on,
    until the next ``start``, which may come at any time.

    Golden model: ``acceltran_sim.golden.pruning_boundary.pruning_boundary``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of a probability.

    Members
    -------
    start : ``In(1)``
    threshold : ``In(unsigned(fmt.width))``
        Pruning threshold, in units of one LSB.
    boundary : ``Out(signed(boundary_width))``
        Least logarithm that is kept, with ``logit_frac_bits``; ``no_survivor`` if none is.
    """

    LATENCY = 5 + 2 * FunctionPipeline.LATENCY + SEARCH_STEPS

    start: Signal
    threshold: Signal
    boundary: Signal

    def __init__(self, *, fmt: FixedPoint):
        self.fmt = fmt
        self.formats = SoftmaxFormat.of(fmt)
        super().__init__({
            "start": In(1),
            "threshold": In(unsigned(fmt.width)),
            "boundary": Out(signed(self.formats.boundary_width)),
        })

    def elaborate(self, platform):
        m = Module()
        formats = self.formats
        frac_bits = formats.logit_frac_bits
        m.submodules.log2 = log2 = FunctionPipeline(table=formats.log2)
        m.submodules.exp2 = exp2 = FunctionPipeline(table=formats.exp2)

        # Cycle of the search, 0 when none is under way.
        cycle = Signal(range(self.LATENCY + 1))
        with m.If(self.start):
            m.d.sync += cycle.eq(1)
        with m.Elif(cycle != 0):
            m.d.sync += cycle.eq(Mux(cycle == self.LATENCY, 0, cycle + 1))

        # Half an LSB below the threshold a probability is rounded up to it.
        halves = Signal(self.fmt.frac_bits + 1)
        none = Signal()
        with m.If(self.start):
            m.d.sync += [
                halves.eq(Mux(self.threshold == 0, 1, (self.threshold << 1) - 1)),
                none.eq(self.threshold > formats.highest_probability),
            ]
        octave = Signal(range(len(halves)))
        level = Signal(frac_bits + 1)
        m.d.sync += octave.eq(0)
        for place in range(1, len(halves)):
            with m.If(halves[place]):
                m.d.sync += octave.eq(place)
        m.d.sync += level.eq((halves << frac_bits) >> octave)

        guess = Signal(frac_bits)
        tried, found = Signal(frac_bits), Signal(frac_bits)
        m.d.comb += [
            log2.advance.eq(1),
            log2.n.eq(level[:frac_bits]),
            guess.eq(Mux(log2.y < SEARCH_BELOW, 0, log2.y - SEARCH_BELOW)),
            exp2.advance.eq(1),
            exp2.n.eq(tried),
        ]
        guessed = 3 + FunctionPipeline.LATENCY
        compared = guessed + 1 + FunctionPipeline.LATENCY
        with m.If(cycle == guessed):
            m.d.sync += [tried.eq(guess), found.eq(guess)]
        with m.If((cycle > guessed) & (cycle < guessed + SEARCH_STEPS)):
            m.d.sync += tried.eq(tried + 1)
        # Powers grow, so those below the level come first.
        with m.If((cycle >= compared) & (cycle < compared + SEARCH_STEPS)):
            m.d.sync += found.eq(found + (exp2.y < level))
        with m.If(cycle == self.LATENCY - 1):
            m.d.sync += self.boundary.eq(
                Mux(
                    none,
                    formats.no_survivor,
                    Cat(found, octave - self.fmt.frac_bits - 1).as_signed(),
                )
            )
        return m
