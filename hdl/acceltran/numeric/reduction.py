"""Balanced reduction of values, one register stage per level."""

from collections.abc import Callable, Sequence

from amaranth import Module, Signal, Value
from amaranth.utils import ceil_log2

__all__ = ["reduced", "reduction_latency"]


def reduction_latency(count: int) -> int:
    """Cycles that ``reduced`` takes for ``count`` values."""
    return ceil_log2(count)


def reduced(
    m: Module, values: Sequence[Value], operation: Callable[[Value, Value], Value], *, name: str
) -> Value:
    """Combine ``values`` pairwise by ``operation``, which must be associative."""
    level = 0
    while len(values) > 1:
        level += 1
        combined = []
        for place in range(0, len(values), 2):
            pair = values[place : place + 2]
            result = operation(*pair) if len(pair) == 2 else pair[0]
            stage = Signal(result.shape(), name=f"{name}_{level}_{place // 2}")
            m.d.sync += stage.eq(result)
            combined.append(stage)
        values = combined
    return values[0]
