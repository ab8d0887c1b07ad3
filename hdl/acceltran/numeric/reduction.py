"""Balanced reduction of values, one register stage per level."""

from collections.abc import Callable, Sequence
from functools import reduce

from amaranth import Module, Signal, Value

__all__ = ["reduced", "reduction_latency"]


def reduction_latency(count: int, *, fan_in: int = 2) -> int:
    """Cycles that ``reduced`` takes for ``count`` values."""
    levels = 0
    while fan_in**levels < count:
        levels += 1
    return levels


def reduced(
    m: Module,
    values: Sequence[Value],
    operation: Callable[[Value, Value], Value],
    *,
    name: str,
    fan_in: int = 2,
) -> Value:
    """Combine ``values``, ``fan_in`` at a time, by ``operation``, which must be associative."""
    level = 0
    while len(values) > 1:
        level += 1
        combined = []
        for place in range(0, len(values), fan_in):
            result = reduce(operation, values[place : place + fan_in])
            stage = Signal(result.shape(), name=f"{name}_{level}_{place // fan_in}")
            m.d.sync += stage.eq(result)
            combined.append(stage)
        values = combined
    return values[0]
