"""Shape of the trees of all networks, and plain registers in that shape.

Leaves are taken ``FAN_OUT`` at a time, in order, into nodes, these again, and so on up to the root.
All leaves are equally far from it; the last node of a level may have fewer branches.
"""

from amaranth import Module, Signal, Value
from amaranth.utils import ceil_log2

__all__ = ["FAN_OUT", "FAN_OUT_BITS", "branches", "level_sizes", "spread", "tree_levels"]

FAN_OUT_BITS = 2
FAN_OUT = 1 << FAN_OUT_BITS
"""Most branches of a node."""


def tree_levels(leaves: int) -> int:
    """Levels of nodes above ``leaves`` leaves; none above one."""
    return -(-ceil_log2(leaves) // FAN_OUT_BITS)


def level_sizes(leaves: int) -> list[int]:
    """Nodes of each level, leaves first, root last."""
    return [-(-leaves // FAN_OUT**level) for level in range(tree_levels(leaves) + 1)]


def branches(count: int) -> list[range]:
    """Which of ``count`` leaves or nodes each node above them has."""
    return [range(first, min(first + FAN_OUT, count)) for first in range(0, count, FAN_OUT)]


def spread(m: Module, value: Value, leaves: int, *, name: str) -> list[Value]:
    """Bring ``value`` to every leaf, ``tree_levels(leaves)`` cycles later."""
    copies = [value]
    for level, size in reversed(list(enumerate(level_sizes(leaves)))[1:]):
        stages = [Signal(value.shape(), name=f"{name}_{level}_{node}") for node in range(size)]
        m.d.sync += [stage.eq(copies[node // FAN_OUT]) for node, stage in enumerate(stages)]
        copies = stages
    return [copies[leaf // FAN_OUT] for leaf in range(leaves)]
