"""Random points of the authors' design space, and small machines with the same freedom."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from acceltran.arch.config import AcceleratorConfig, ConfigError, override
from acceltran.arch.presets import preset

__all__ = ["large_points", "small_points"]

CHOICES: dict[str, tuple[Any, ...]] = {
    "array.pes": (64, 128, 256, 512, 1024),
    "array.pes_per_cluster": (4, 8, 16),
    "array.lanes": (8, 12, 16, 24, 32, 64, 128),
    "array.softmax_units": (2, 4, 8, 16, 32, 64),
    "array.softmax_width": (1, 2, 4, 8),
    "datapath.tile": (8, 16, 32),
    "datapath.multipliers": (1, 16),
    "datapath.frac_bits": (8, 12, 16),
    "datapath.partial_sums": (8, 16, 32),
    "buffers.activation_kib": (4096, 8192, 16384, 32768, 65536),
    "buffers.weight_kib": (8192, 16384, 32768, 65536, 131072),
    "memory.axi_data_bits": (128, 256, 512, 1024),
    "memory.axi_masters": (1, 2, 4),
}
SMALL: dict[str, tuple[Any, ...]] = {
    "array.pes": (1, 2, 4),
    "array.pes_per_cluster": (1, 2),
    "array.lanes": (1, 2, 3, 4, 6),
    "array.softmax_units": (1, 2),
    "array.softmax_width": (1, 2, 4, 8),
    "datapath.tile": (8, 16, 32),
    "datapath.multipliers": (1, 4, 16),
    "datapath.frac_bits": (8, 12, 16),
    "datapath.lane": ("broadcast", "broadcast", "dot"),
    "datapath.weight_window": (0, 0, 8),
    "datapath.partial_sums": (16, 64),
    "buffers.activation_kib": (512, 1024),
    "buffers.weight_kib": (512, 1024),
    "memory.axi_data_bits": (64, 128, 256),
    "memory.axi_masters": (1, 2),
}


def _points(
    seed: int, base: str, choices: dict[str, tuple[Any, ...]]
) -> Iterator[AcceleratorConfig]:
    rng = np.random.default_rng(seed)
    while True:
        settings = {name: str(rng.choice(values)) for name, values in choices.items()}
        try:
            yield override(preset(base), settings)
        except ConfigError:  # combinations that break a rule
            continue


def large_points(seed: int) -> Iterator[AcceleratorConfig]:
    """Machines of the authors' design space; buffers share the mask buffer that they need."""
    return _points(seed, "edge", CHOICES)


def small_points(seed: int) -> Iterator[AcceleratorConfig]:
    """Machines that can be simulated whole."""
    return _points(seed, "tiny", SMALL)
