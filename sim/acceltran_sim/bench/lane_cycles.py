"""What the lanes did in each cycle, from the counters."""

from collections.abc import Mapping

__all__ = ["lane_cycles"]


def lane_cycles(counters: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """Lane-cycles that issued products, and the others by cause; all lanes and cycles together."""
    stalls = {
        name.removeprefix("stall_"): value
        for name, value in counters.items()
        if name.startswith("stall_")
    }
    return counters["busy_lanes"], stalls | {"idle": counters["idle_lanes"]}
