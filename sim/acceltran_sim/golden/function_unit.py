"""Golden model of the piecewise quadratic function unit."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.function_tables import FunctionTable

__all__ = ["evaluate"]


def evaluate(table: FunctionTable, n: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Evaluate ``table`` at every element of ``n``, as ``FunctionTable.evaluate_int`` defines.

    Parameters
    ----------
    table : FunctionTable
        Coefficients.
    n : int64 array of any shape
        Raw arguments in ``[0, 2 ** table.input_width)``.
    """
    segment = n >> table.offset_width
    inside = segment < table.segment_count
    segment = np.where(inside, segment, 0)
    offset = (n & ((1 << table.offset_width) - 1)) - (1 << (table.offset_width - 1))
    c0, c1, c2 = (np.array(c, dtype=np.int64)[segment] for c in (table.c0, table.c1, table.c2))
    square = (c2 * (offset >> table.operand_shift)) >> table.square_shift
    linear = ((c1 + square) * offset) >> table.product_shift
    return np.where(inside, (c0 + linear) >> table.guard_bits, 0)
