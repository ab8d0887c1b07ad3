"""Counting ones before each place."""

from amaranth import Const, Module, Signal, Value
from amaranth.hdl import ValueLike

__all__ = ["prefix_counts"]


def prefix_counts(m: Module, bits: ValueLike, width: int) -> list[Value]:
    """Values of the number of ones in ``bits[:k]`` for k from 0 to ``width``.

    Combinational, ``ceil(log2(width))`` additions deep.
    """
    flags = Signal(width)
    m.d.comb += flags.eq(bits)
    counts: list[Signal] = []
    for place in range(width):
        count = Signal(1, name=f"count_{place}")
        m.d.comb += count.eq(flags[place])
        counts.append(count)
    span = 1
    while span < width:
        for place in range(width):
            if place & span:
                below = place // span * span - 1
                total = Signal(range(2 * span + 1), name=f"count_{span}_{place}")
                m.d.comb += total.eq(counts[place] + counts[below])
                counts[place] = total
        span *= 2
    return [Const(0, 1), *counts]
