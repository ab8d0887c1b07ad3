"""Piecewise quadratic tables of the functions that hardware evaluates, as committed integers."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from acceltran.arch.fixed_point import FixedPoint

__all__ = ["FUNCTIONS", "FunctionTable", "load_table"]

# The tables are data, not the output of a fit at build time: two machines must never generate
# different bits. `scripts/fit_tables.py` writes the files and prints these digests.
SHA256 = {
    "exp2": "09b107229da8825ffee76ecfe7fd660c255afb092356bf8efc1f99824ad6698f",
    "log2": "744f65d79cbef4f7dfa462cebee8b74922f80e552b0f6a8c66be42e3bfc7dbd6",
    "rsqrt": "a3ec958b2ac9a9eeee669153fa02c43a417a40608c0dca9406147882a0fb4984",
    "gelu": "8201fe1a9e9885170383f1940cbb5f340f6e1eb4f27edf0f4ec04806193b4d6d",
}

FUNCTIONS = tuple(SHA256)
"""Names that ``load_table`` knows: ``2**x``, ``log2(1 + x)``, ``1/sqrt(x)``, ``gelu(x) - x``."""


@dataclass(frozen=True, kw_only=True)
class FunctionTable:
    """A function of ``n`` in ``[0, 2 ** input_width)`` as quadratic polynomials, one per segment.

    ``n`` stands for ``n * 2 ** -input_frac_bits`` and the result for
    ``y * 2 ** -output_frac_bits``. ``evaluate_int`` has the equation.
    """

    name: str
    """Function that is approximated."""
    frac_bits: int
    """Fraction bits of the element format that the table serves."""
    input_width: int
    """Bits of the argument (unsigned)."""
    input_frac_bits: int
    """Fraction bits of the argument."""
    offset_width: int
    """Low bits of the argument that are the offset in a segment; those above are its index."""
    segment_count: int
    """Segments in the table; the function is 0 beyond them."""
    output_width: int
    """Bits of the result, sign included if ``output_signed``."""
    output_signed: bool
    """Whether results can be negative."""
    output_frac_bits: int
    """Fraction bits of the result."""
    operand_shift: int
    """Low bits of the offset that the quadratic product ignores."""
    square_shift: int
    """Right shift of the quadratic product."""
    product_shift: int
    """Right shift of the linear product."""
    guard_bits: int
    """Bits below the result's LSB that ``c0`` and the linear product carry."""
    c0: tuple[int, ...]
    """Constant coefficients; half an LSB of the result is folded in, for rounding."""
    c1: tuple[int, ...]
    """Linear coefficients."""
    c2: tuple[int, ...]
    """Quadratic coefficients."""

    def __post_init__(self) -> None:
        for coefficients in (self.c0, self.c1, self.c2):
            if len(coefficients) != self.segment_count:
                raise ValueError(
                    f"Coefficients must be {self.segment_count} of a kind, not {len(coefficients)}"
                )
        if not 0 < self.segment_count <= 1 << self.index_width:
            raise ValueError(
                f"Segment count must be in 1..{1 << self.index_width}, not {self.segment_count!r}"
            )

    @property
    def index_width(self) -> int:
        """Bits of the argument that select the segment."""
        return self.input_width - self.offset_width

    @property
    def slope_range(self) -> tuple[int, int]:
        """Least and greatest ``c1 + q`` (see ``evaluate_int``)."""
        ends = (-(1 << (self.offset_width - 1)), (1 << (self.offset_width - 1)) - 1)
        slopes = [
            c1 + ((c2 * (end >> self.operand_shift)) >> self.square_shift)
            for c1, c2 in zip(self.c1, self.c2, strict=True)
            for end in ends
        ]
        return min(*slopes, 0), max(*slopes, 0)

    def evaluate_int(self, n: int) -> int:
        """Evaluate the function: the one definition that every model and the hardware follow.

        ::

            s = n >> offset_width                                   # segment
            d = n % 2 ** offset_width - 2 ** (offset_width - 1)     # offset from its centre
            q = (c2[s] * (d >> operand_shift)) >> square_shift
            y = (c0[s] + (((c1[s] + q) * d) >> product_shift)) >> guard_bits

        Shifts are arithmetic (floor); ``y = 0`` if ``s >= segment_count``.
        """
        if not 0 <= n < 1 << self.input_width:
            raise ValueError(f"Argument must be in 0..{(1 << self.input_width) - 1}, not {n!r}")
        segment = n >> self.offset_width
        if segment >= self.segment_count:
            return 0
        offset = (n & ((1 << self.offset_width) - 1)) - (1 << (self.offset_width - 1))
        square = (self.c2[segment] * (offset >> self.operand_shift)) >> self.square_shift
        linear = ((self.c1[segment] + square) * offset) >> self.product_shift
        return (self.c0[segment] + linear) >> self.guard_bits


def load_table(name: str, fmt: FixedPoint) -> FunctionTable:
    """Return the committed table of the function ``name`` for elements of format ``fmt``."""
    if name not in FUNCTIONS:
        raise ValueError(f"Function must be one of {', '.join(FUNCTIONS)}, not {name!r}")
    tables = _load(name)
    if fmt.frac_bits not in tables:
        raise ValueError(
            f"Fraction bits must be one of {', '.join(map(str, tables))} for the table of "
            f"{name!r}, not {fmt.frac_bits!r}"
        )
    return tables[fmt.frac_bits]


@cache
def _load(name: str) -> dict[int, FunctionTable]:
    content = (files("acceltran.arch") / "tables" / f"{name}.json").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise ValueError(
            f"Table file of {name!r} must have the SHA-256 {SHA256[name]}, not {digest}"
        )
    tables = [_decode(name, entry) for entry in json.loads(content)]
    return {table.frac_bits: table for table in tables}


def _decode(name: str, entry: dict[str, Any]) -> FunctionTable:
    coefficients = {key: tuple(entry[key]) for key in ("c0", "c1", "c2")}
    return FunctionTable(**{**entry, **coefficients, "name": name})
