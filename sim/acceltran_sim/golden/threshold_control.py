"""Golden model of thresholds that follow a curve or a closed loop."""

from collections.abc import Mapping, Sequence

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.threshold_curve import POSITION_BITS, POSITION_MAX, SEGMENT_BITS

__all__ = ["ThresholdControl", "curve_value", "next_position", "scaled_threshold"]


def curve_value(points: Sequence[int], position: int) -> int:
    """Value of a piecewise linear curve at ``position / 2 ** POSITION_BITS``, rounded down."""
    segment, offset = divmod(position, 1 << SEGMENT_BITS)
    low, high = points[segment], points[segment + 1]
    return low + (((high - low) * offset) >> SEGMENT_BITS)


def scaled_threshold(value: int, *, scale: int, scale_shift: int, fmt: FixedPoint) -> int:
    """``value * scale / 2 ** scale_shift``, rounded down; too large a result prunes all."""
    return min((value * scale) >> scale_shift, (1 << fmt.width) - 1)


def next_position(
    position: int, *, target: int, elements: int, kept: int, gain: int, gain_shift: int
) -> int:
    """Position after a matrix of ``elements`` elements of which ``kept`` were kept.

    The position moves by ``gain / 2 ** gain_shift`` for each element that is pruned too few or too
    many, rounded half up, and stays in its range: ``err = target * elements - zeros``, where
    ``target`` is a sparsity in units of a position.
    """
    error = target * elements - ((elements - kept) << POSITION_BITS)
    step = (((error * gain) >> gain_shift) + 1) >> 1
    return min(max(position + step, 0), POSITION_MAX)


class ThresholdControl:
    """Curves and positions, which stay from program to program, and what a program does with them.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element.
    curves : mapping from int to sequence of int
        Points of the curve of each entry that has one.
    positions : mapping from int to int
        Position of each entry that has one.

    Members
    -------
    positions : dict from int to int
        Positions now.
    """

    def __init__(
        self,
        fmt: FixedPoint,
        curves: Mapping[int, Sequence[int]],
        positions: Mapping[int, int],
    ):
        self.fmt = fmt
        self.curves = dict(curves)
        self.positions = dict(positions)
        self._loops: dict[int, dict[str, int]] = {}
        self._kept: dict[int, int] = {}

    def threshold(self, fields: Mapping[str, int]) -> int:
        """Execute a THRESHOLD with these fields; returns the entry's threshold.

        KeyError for an entry whose curve or position, if it takes part, is not known.
        """
        mode = fields.get("mode", ThresholdMode.FIXED)
        if mode == ThresholdMode.FIXED:
            return min(fields.get("value", 0), (1 << self.fmt.width) - 1)
        entry, position = fields.get("index", 0), fields["target"]
        if mode == ThresholdMode.CLOSED_LOOP:
            position = self.positions[entry]
            self._loops[entry] = dict(fields)
        return scaled_threshold(
            curve_value(self.curves[entry], position),
            scale=fields["scale"],
            scale_shift=fields["scale_shift"],
            fmt=self.fmt,
        )

    def count(self, entry: int, kept: int) -> None:
        """Elements that were kept of what was written with an entry."""
        self._kept[entry] = self._kept.get(entry, 0) + kept

    def end(self) -> None:
        """END of a program: move the loops that it closed."""
        for entry, fields in self._loops.items():
            self.positions[entry] = next_position(
                self.positions[entry],
                target=fields["target"],
                elements=fields["elements"],
                kept=self._kept.get(entry, 0),
                gain=fields["gain"],
                gain_shift=fields["gain_shift"],
            )
        self._loops, self._kept = {}, {}
