"""Rules that the fields of a MATMUL keep."""

from acceltran.arch.commands import LOOPS
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command
from acceltran_sim.program.ordering import ProgramError
from acceltran_sim.program.products import stream_counts

__all__ = ["check_product"]


def check_product(config: AcceleratorConfig, c: Command) -> int:
    """Slots of each stream that a product uses; ProgramError if it breaks a rule."""
    datapath = config.datapath
    order = "".join(LOOPS[c[f"order{n}"]] for n in range(len(LOOPS)))
    if sorted(order) != sorted(LOOPS):
        raise ProgramError(f"The order must name each loop once, not {order}")
    for name in ("inner_vectors", "columns", "rows", "batches", "row_tile", "inner_tile"):
        if not c[name]:
            raise ProgramError(f"{name} must be at least 1")
    banks = config.array.pes_per_cluster
    for name in ("c_base", "c_row_stride", "share_stride"):
        if c[name] % banks:
            raise ProgramError(f"{name} must be a multiple of {banks}")
    if c["inner_vectors"] * datapath.tile > config.limits.inner:
        raise ProgramError(f"The sum must not be longer than {config.limits.inner}")
    if c["inner_tile"] * datapath.tile > datapath.tile_rows // 2:
        raise ProgramError(f"A tile must not have more than {datapath.tile_rows // 2} rows")
    words = -(-(c["c_first"] + c["columns"]) // banks) - c["c_first"] // banks
    tiles = {"b": c["batches"], "i": -(-c["rows"] // c["row_tile"])}
    if c["streams"] not in stream_counts(config.streams):
        raise ProgramError(
            f"streams must be a power of two up to {config.streams}, not {c['streams']}"
        )
    tiles["j"] = -(-words // (config.lanes // c["streams"]))
    stay = c["keep_sums"] or c["resume_sums"]
    if stay and max(tiles.values()) > 1:
        raise ProgramError("Sums that stay in the lanes must be of one row tile and column pass")
    if not stay and c["inner_vectors"] <= c["inner_tile"]:
        return 0
    slots = -(-c["row_tile"] // c["streams"])
    for loop in order[order.index("k") + 1 :]:
        slots *= tiles[loop]
    if c["first_slot"] + slots > datapath.partial_sums:
        raise ProgramError(
            f"{datapath.partial_sums} partial sums must be enough, not {c['first_slot'] + slots}"
        )
    return slots
