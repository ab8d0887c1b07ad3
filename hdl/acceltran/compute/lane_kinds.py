# amaranth: UnusedElaboratable=no
"""Which lane a configuration asks for."""

from typing import Any

from acceltran.compute.broadcast_lane import BroadcastLane
from acceltran.compute.dot_lane import DotLane
from acceltran.compute.lane import Lane
from acceltran.compute.window_lane import WindowLane

__all__ = ["LANES", "make_lane", "scalars_per_beat"]

LANES: dict[str, type[Lane]] = {"broadcast": BroadcastLane, "dot": DotLane}


def make_lane(
    *, lane: str, weight_window: int, tile: int, multipliers: int | None = None, **parameters: Any
) -> Lane:
    """Lane of kind ``lane``; a broadcast lane with a ``weight_window`` is a ``WindowLane``.

    Only a broadcast lane without one can have fewer multipliers than a tile has columns.
    """
    parameters["tile"] = tile
    if weight_window:
        return WindowLane(window=weight_window, **parameters)
    if multipliers not in (None, tile):
        return BroadcastLane(multipliers=multipliers, **parameters)
    return LANES[lane](**parameters)


def scalars_per_beat(weight_window: int) -> int:
    """Scalars that lanes with this weight window take at a time."""
    return WindowLane.SCALARS_PER_BEAT if weight_window else Lane.SCALARS_PER_BEAT
