"""In which order the operands of a product should arrive from DRAM."""

from collections.abc import Sequence

__all__ = ["arrival_order"]


def arrival_order(
    rows: Sequence[int],
    columns: Sequence[int],
    *,
    row_time: float,
    column_time: float,
    work_time: float,
    most_columns: int,
) -> list[bool]:
    """Order of the parts of A (True) and of B (False) that leaves the multipliers idle least.

    What has come of A times what has come of B can be multiplied. A product ends no sooner than
    ``t + w`` for any part, where ``t`` is when the part has come and ``w`` the work that waits for
    it or for a later one. An order is a path through a grid, from nothing to all; of each
    point's two predecessors, the better one counts.

    Beyond the work no order takes less than ``row_time * column_time / work_time``, that is
    ``inner * cycles_per_vector ** 2 * multipliers / (tile ** 2 * density)`` cycles, if there are
    at least ``column_time / work_time`` rows and ``row_time / work_time`` columns.

    Parameters
    ----------
    rows, columns : sequence of int
        Sizes of the parts, in the order in which those of an operand arrive.
    row_time, column_time : float
        Cycles until a row of A or a column of B has come.
    work_time : float
        Cycles per element of C.
    most_columns : int
        Parts of B that may come before all rows are there; at least 1.

    Returns
    -------
    list of bool
        One for each part: of A or not.
    """
    heights, widths = _sums(rows), _sums(columns)
    all_work = heights[-1] * widths[-1] * work_time
    ends: dict[tuple[int, int], float] = {(0, 0): all_work}
    came_by: dict[tuple[int, int], bool] = {}
    for i, height in enumerate(heights):
        for j, width in enumerate(widths):
            if (i or j) and (i == len(rows) or j <= most_columns):
                time = height * row_time + width * column_time
                choices = []
                for is_row, before in ((True, (i - 1, j)), (False, (i, j - 1))):
                    if before in ends:
                        left = all_work - heights[before[0]] * widths[before[1]] * work_time
                        choices.append((max(ends[before], time + left), left, is_row))
                ends[i, j], _, came_by[i, j] = min(choices)
    order = []
    i, j = len(rows), len(columns)
    while i or j:
        is_row = came_by[i, j]
        order.append(is_row)
        i, j = (i - 1, j) if is_row else (i, j - 1)
    return order[::-1]


def _sums(parts: Sequence[int]) -> list[int]:
    """Sizes of the first 0, 1, 2 ... parts together."""
    sums = [0]
    for part in parts:
        sums.append(sums[-1] + part)
    return sums
