"""Shape of the tree of clusters, and so of all networks.

Leaves are taken ``FAN_OUT`` at a time, in order, into nodes, these again, and so on up to the root.
All leaves are equally far from it; the last node of a level may have fewer branches.
"""

from amaranth.utils import ceil_log2

__all__ = ["FAN_OUT", "FAN_OUT_BITS", "leaves_of_branches", "tree_levels"]

FAN_OUT_BITS = 2
FAN_OUT = 1 << FAN_OUT_BITS
"""Most branches of a node."""


def tree_levels(leaves: int) -> int:
    """Levels of nodes above ``leaves`` leaves; none above one."""
    return -(-ceil_log2(leaves) // FAN_OUT_BITS)


def leaves_of_branches(leaves: int, level: int) -> list[int]:
    """How many of the ``leaves`` below a node of ``level``, from 1 on, each branch has."""
    most = FAN_OUT ** (level - 1)
    return [min(most, leaves - first) for first in range(0, leaves, most)]
