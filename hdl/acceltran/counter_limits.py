"""How far counters go in a cycle."""

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import COUNTERS, LANE_COUNTERS

__all__ = ["counter_widths", "node_limits"]


def node_limits(config: AcceleratorConfig) -> dict[str, int]:
    """Largest increment of each counter that a cluster has a part in."""
    array, tile = config.array, config.datapath.tile
    pes, streams = array.pes_per_cluster, config.streams
    lanes, ports = pes * config.lanes, config.softmax_ports
    return {
        **dict.fromkeys(LANE_COUNTERS, lanes),
        "multiplier_cycles": lanes * config.lane_multipliers,
        "products_effectual": lanes * tile,
        "activation_reads": 1 + pes * config.tile_ports + streams + ports + 2,
        "activation_writes": 1 + pes + ports + 1 + (pes if array.clusters > 1 else 0),
        "activation_skipped": streams,
        "saturated": 2 * pes * tile + tile,
    }


def counter_widths(config: AcceleratorConfig) -> tuple[tuple[str, int], ...]:
    """Width of each counter's increment, in the order of the register map."""
    bus_bytes = config.memory.axi_data_bits // 8 * config.memory.axi_masters
    limits = {
        "weight_reads": config.array.pes_per_cluster * config.tile_ports + 1,
        **dict.fromkeys(("dma_read_bytes", "dma_write_bytes"), bus_bytes),
        "weight_writes": config.memory.axi_masters,
        **{name: most * config.array.clusters for name, most in node_limits(config).items()},
    }
    return tuple((name, limits.get(name, 1).bit_length()) for name, _ in COUNTERS)
