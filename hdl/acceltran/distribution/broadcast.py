"""Bring a value to many places through a tree of registers."""

from collections.abc import Sequence

from amaranth import Module, Signal, Value

__all__ = ["FAN_OUT", "broadcast", "tree_levels"]

FAN_OUT = 4
"""Children of a node of any tree."""


def tree_levels(leaves: int) -> int:
    """Levels of a tree with ``leaves`` leaves; each takes a cycle."""
    levels, reach = 0, 1
    while reach < leaves:
        levels, reach = levels + 1, reach * FAN_OUT
    return levels


def broadcast(m: Module, value: Value, leaves: int, *, name: str) -> Sequence[Value]:
    """Bring ``value`` to each of ``leaves`` places, ``tree_levels(leaves)`` cycles later."""
    level = tree_levels(leaves)
    values: Sequence[Value] = [value]
    while level:
        level -= 1
        count = -(-leaves // FAN_OUT**level)
        stages = [Signal(value.shape(), name=f"{name}_{level}_{n}") for n in range(count)]
        m.d.sync += [stage.eq(values[n // FAN_OUT]) for n, stage in enumerate(stages)]
        values = stages
    return values
