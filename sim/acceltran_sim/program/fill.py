"""How many of a machine's multipliers the products of a program can fill at best."""

from collections.abc import Iterable
from dataclasses import dataclass

from acceltran.arch.commands import BODIES, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.localizer import Localizer
from acceltran_sim.golden.loop_nest import tiles
from acceltran_sim.program.command import Command

__all__ = ["Fill", "fill"]


@dataclass(frozen=True, kw_only=True)
class Fill:
    """What small shapes leave of a machine."""

    rows_per_cluster: int
    """Most rows that a cluster has at a time."""
    clusters_with_rows: int
    """Clusters that ever have rows."""
    tile_vectors: float
    """Vectors of tiles that each PE has to load per cycle, so that its lanes never wait."""
    multipliers: float
    """Part of the multipliers that can be busy."""


def fill(config: AcceleratorConfig, commands: Iterable[Command], density: float) -> Fill:
    """Bound of the products of programs, if this part of every row operand is not zero.

    They take at least as long as the lanes of the cluster that has the most rows work, and as
    their tiles take to load, on ``tile_ports`` of each PE, of which a word of columns uses one:

        cycles = max(sum of rows / streams * inner * density over all tiles,
                     sum of words * inner / min(tile_ports, words) over all tiles that are loaded)

    and need ``rows * columns * inner * density`` products of a scalar and a vector.
    """
    array, tile = config.array, config.datapath.tile
    beats = tile / config.lane_multipliers
    clusters = [Localizer(n) for n in range(array.clusters)]
    most, busy = 0, set()
    work = loads = cycles = needed = 0.0
    for command in commands:
        if command.opcode == Opcode.SEQUENCE:
            for cluster in clusters:
                cluster.sequence(command.fields)
        if command.opcode != Opcode.MATMUL:
            continue
        rows = [cluster.rows(command.fields) for cluster in clusters]
        most = max(most, *rows)
        busy |= {n for n, count in enumerate(rows) if count}
        c = {field.name: command[field.name] for field in BODIES[Opcode.MATMUL]}
        c["valid_rows"] = max(rows)
        for part in tiles(c, banks=array.pes_per_cluster, lanes=config.lanes, tile=tile):
            inner, words = part["inner_count"] * tile, part["word_count"]
            work += part["row_count"] / c["streams"] * inner * density * beats
            if part["reload"]:
                loads += words * inner
                cycles += words * inner / min(config.tile_ports, words)
        needed += sum(rows) * c["batches"] * c["columns"] * c["inner_vectors"] * tile * density
    cycles = max(cycles, work)
    return Fill(
        rows_per_cluster=most,
        clusters_with_rows=len(busy),
        tile_vectors=loads / work if work else 0.0,
        multipliers=needed * tile / (cycles * config.multipliers) if cycles else 0.0,
    )
