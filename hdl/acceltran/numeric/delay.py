"""Registers that bring values to the stage where they are used."""

from typing import Any

from amaranth import Module, Signal, Value

__all__ = ["delayed"]


def delayed(m: Module, value: Value, cycles: int, *, name: str, advance: Any = 1) -> Value:
    """Return ``value`` as it was ``cycles`` cycles with ``advance`` = 1 ago."""
    for cycle in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{cycle + 1}")
        with m.If(advance):
            m.d.sync += stage.eq(value)
        value = stage
    return value
