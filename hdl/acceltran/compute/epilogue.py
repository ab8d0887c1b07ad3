"""What follows the sums of a matrix product."""

from typing import Any

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.compute.activation_pipeline import ActivationPipeline
from acceltran.compute.sum_rounder import SumRounder
from acceltran.library import SharedComponent
from acceltran.memory.queue import Queue
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.delay import delayed
from acceltran.numeric.vector import Vector
from acceltran.sparsity.dynatran import DynaTran

__all__ = ["Epilogue", "EpilogueInput", "EpilogueOutput"]


class EpilogueInput(data.StructLayout):
    """Layout of what the epilogue takes.

    Members
    -------
    sums : ``ArrayLayout(signed(sum_width), tile)``
        Exact sums; ``sum_width`` is ``acceltran.arch.sums.sum_width``.
    bias : ``ArrayLayout(signed(fmt.width), tile)``
    tag : ``unsigned(tag_width)``
        Whatever the user wants to know with the result.
    """

    def __init__(self, fmt: FixedPoint, tile: int, inner: int, tag_width: int):
        super().__init__({
            "sums": data.ArrayLayout(signed(sum_width(fmt=fmt, inner=inner)), tile),
            "bias": data.ArrayLayout(signed(fmt.width), tile),
            "tag": unsigned(tag_width),
        })


class EpilogueOutput(data.StructLayout):
    """Layout of what the epilogue makes.

    Members
    -------
    vector : ``Vector(fmt, tile)``
    tag : ``unsigned(tag_width)``
        That of the sums.
    saturated : ``range(2 * tile + 1)``
        Values clipped when sums were rounded, plus values clipped by GELU's own rounding.
    """

    def __init__(self, fmt: FixedPoint, tile: int, tag_width: int):
        super().__init__({
            "vector": Vector(fmt, tile),
            "tag": unsigned(tag_width),
            "saturated": range(2 * tile + 1),
        })


class Epilogue(SharedComponent):
    """Turn the sums of ``tile`` columns into a vector.

    In this order: add ``bias << bias_shift``, round half up by ``shift``, saturate, apply the
    activation function, prune with ``threshold``.

    Latency is ``LATENCY`` cycles; throughput is one vector per cycle. ``i.ready`` does not depend
    on ``o.ready`` in the same cycle.

    Golden model: ``acceltran_sim.golden.epilogue.epilogue``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of bias and result.
    tile : int
        Elements per vector; at least 1.
    inner : int
        Longest sum of products.
    tag_width : int
        Bits of the tag; at least 1.

    Members
    -------
    bias_shift, shift : ``In(unsigned(6))``
        Shifts. These and all other settings change only while ``empty`` is 1, at least one cycle
        before the first vector that they are for is accepted.
    function : ``In(Activation)``
        Activation function.
    gelu_input_shift, gelu_output_shift : ``In(unsigned(5))``
        See ``ActivationPipeline``.
    threshold : ``In(unsigned(fmt.width))``
        See ``DynaTran``.
    empty : ``Out(1)``
        No vector is under way.
    i : ``In(stream.Signature(EpilogueInput(fmt, tile, inner, tag_width)))``
        Finished sums.
    o : ``Out(stream.Signature(EpilogueOutput(fmt, tile, tag_width)))``
        Vectors, in order.
    """

    LATENCY = SumRounder.LATENCY + ActivationPipeline.LATENCY + DynaTran.LATENCY + 1

    bias_shift: Signal
    shift: Signal
    function: Signal
    gelu_input_shift: Signal
    gelu_output_shift: Signal
    threshold: Signal
    empty: Signal
    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, fmt: FixedPoint, tile: int, inner: int, tag_width: int):
        if tile < 1:
            raise ValueError(f"Tile must be at least 1, not {tile!r}")
        if inner < 1:
            raise ValueError(f"Inner dimension must be at least 1, not {inner!r}")
        if tag_width < 1:
            raise ValueError(f"Tag width must be at least 1, not {tag_width!r}")
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.tag_width = tag_width
        super().__init__({
            "bias_shift": In(unsigned(6)),
            "shift": In(unsigned(6)),
            "function": In(Activation),
            "gelu_input_shift": In(unsigned(5)),
            "gelu_output_shift": In(unsigned(5)),
            "threshold": In(unsigned(fmt.width)),
            "empty": Out(1),
            "i": In(stream.Signature(EpilogueInput(fmt, tile, inner, tag_width))),
            "o": Out(stream.Signature(EpilogueOutput(fmt, tile, tag_width))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.dynatran = dynatran = DynaTran(fmt=self.fmt, lanes=self.tile)
        m.submodules.results = results = Queue(
            shape=EpilogueOutput(self.fmt, self.tile, self.tag_width), depth=2
        )
        advance = Signal()
        sums: Any = self.i.payload
        m.d.comb += [advance.eq(dynatran.i.ready), self.i.ready.eq(advance)]

        # See SumRounder.
        sum_shift, bias_left, sum_right = Signal(6), Signal(6), Signal(6)
        bias_first = Signal()
        m.d.comb += bias_first.eq(self.bias_shift < self.shift)
        m.d.sync += [
            sum_shift.eq(Mux(bias_first, self.bias_shift, self.shift)),
            bias_left.eq(Mux(bias_first, 0, self.bias_shift - self.shift)),
            sum_right.eq(Mux(bias_first, self.shift - self.bias_shift, 0)),
        ]

        clipped_sums = Signal(self.tile)
        clipped_results = Signal(self.tile)
        for k in range(self.tile):
            m.submodules[f"rounder{k}"] = rounder = SumRounder(fmt=self.fmt, inner=self.inner)
            m.submodules[f"activation{k}"] = activation = ActivationPipeline(fmt=self.fmt)
            m.d.comb += [
                rounder.advance.eq(advance),
                rounder.sum.eq(sums.sums[k]),
                rounder.bias.eq(sums.bias[k]),
                rounder.sum_shift.eq(sum_shift),
                rounder.bias_left.eq(bias_left),
                rounder.sum_right.eq(sum_right),
                clipped_sums[k].eq(rounder.saturated),
                activation.advance.eq(advance),
                activation.function.eq(self.function),
                activation.input_shift.eq(self.gelu_input_shift),
                activation.output_shift.eq(self.gelu_output_shift),
                activation.x.eq(rounder.y),
                clipped_results[k].eq(activation.saturated),
                dynatran.i.payload[k].eq(activation.y),
            ]

        # What travels beside the elements.
        depth = SumRounder.LATENCY + ActivationPipeline.LATENCY
        occupied = Signal(depth)
        with m.If(advance):
            m.d.sync += occupied.eq((occupied << 1) | self.i.valid)
        tag = delayed(m, sums.tag, depth + DynaTran.LATENCY, name="tag", advance=advance)
        sums_clipped = delayed(
            m,
            count_ones(clipped_sums),
            ActivationPipeline.LATENCY + DynaTran.LATENCY,
            name="sums_clipped",
            advance=advance,
        )
        results_clipped = delayed(
            m,
            count_ones(clipped_results),
            DynaTran.LATENCY,
            name="results_clipped",
            advance=advance,
        )
        gathered: Any = results.i.payload
        m.d.comb += [
            dynatran.threshold.eq(self.threshold),
            dynatran.i.valid.eq(occupied[-1]),
            dynatran.o.ready.eq(results.i.ready),
            results.i.valid.eq(dynatran.o.valid),
            gathered.vector.eq(dynatran.o.payload),
            gathered.tag.eq(tag),
            gathered.saturated.eq(sums_clipped + results_clipped),
            self.empty.eq(~occupied.any() & ~dynatran.o.valid & (results.level == 0)),
        ]
        m.d.comb += [
            self.o.valid.eq(results.o.valid),
            self.o.payload.eq(results.o.payload),
            results.o.ready.eq(self.o.ready),
        ]
        return m
