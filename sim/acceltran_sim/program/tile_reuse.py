"""Products that begin with the tile that the one before has ended with."""

from collections.abc import Iterator

from acceltran.arch.commands import BODIES, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.loop_nest import tiles
from acceltran_sim.program.command import Command

__all__ = ["edge_tiles"]

OPERAND = (
    *("b_base", "b_source", "b_row_stride", "b_rows", "own_keys", "first_key"),
    *("inner_vectors", "c_first", "columns", "streams", "bias_enable", "bias_base"),
)
PLACE = ("word", "word_count", "inner_first", "inner_count", "b_address", "final")


def edge_tiles(
    config: AcceleratorConfig, command: Command
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All that the first and the last tile of a MATMUL are made of."""
    c = {field.name: command[field.name] for field in BODIES[Opcode.MATMUL]}
    c["valid_rows"] = c["rows"]
    walk = list(
        tiles(
            c,
            banks=config.array.pes_per_cluster,
            lanes=config.lanes,
            tile=config.datapath.tile,
        )
    )

    def made_of(place: dict[str, int]) -> Iterator[int]:
        yield from (c[name] for name in OPERAND)
        yield from (place[name] for name in PLACE)

    return tuple(made_of(walk[0])), tuple(made_of(walk[-1]))
