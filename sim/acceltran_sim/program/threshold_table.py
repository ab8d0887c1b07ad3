"""How the host writes and reads the threshold table."""

from collections.abc import Iterator

from acceltran.arch.registers import register_address
from acceltran.arch.threshold_curve import point_address, position_address
from acceltran_sim.golden.threshold_control import ThresholdControl

__all__ = ["TABLE_DATA", "address_write", "table_writes"]

TABLE_ADDRESS = register_address("THRESHOLD_ADDRESS")
TABLE_DATA = register_address("THRESHOLD_DATA")
"""Register to read positions from, one after the other, after ``address_write``."""


def table_writes(control: ThresholdControl) -> Iterator[tuple[int, int]]:
    """Registers and their values that bring all curves and positions to the machine."""
    for entry, points in control.curves.items():
        yield TABLE_ADDRESS, point_address(entry, 0)
        for value in (*points, control.positions[entry]):
            yield TABLE_DATA, value


def address_write() -> tuple[int, int]:
    """Register and its value that make the position of entry 0 the next to be read."""
    return TABLE_ADDRESS, position_address(0)
