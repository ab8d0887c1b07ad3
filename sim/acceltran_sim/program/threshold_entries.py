"""Which entry of the threshold table is whose."""

from acceltran.arch.commands import THRESHOLDS
from acceltran_sim.golden.encoder import SITES

__all__ = ["LAYERS_OF_THRESHOLDS", "NO_THRESHOLD", "threshold_entry"]

NO_THRESHOLD = THRESHOLDS - 1
"""Entry that stays 0, for what is not pruned."""
LAYERS_OF_THRESHOLDS = (THRESHOLDS - 1) // len(SITES)
"""Layers whose thresholds the table holds at once."""


def threshold_entry(layer: int, site: str) -> int:
    """Entry of a site; layers further on take turns."""
    return layer % LAYERS_OF_THRESHOLDS * len(SITES) + SITES.index(site)
