#!/usr/bin/env python3
"""Fit the function tables of `acceltran.arch.function_tables` and write them as integers.

Each table is evaluated on every argument: the greatest error (in units of the result's LSB) and
whether the result is monotone are printed. With --check nothing is written, and the committed
files must be what the fit gives.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acceltran.arch.function_tables import FunctionTable
from acceltran_sim.golden.function_unit import evaluate

FOLDER = Path(__file__).resolve().parents[1] / "hdl" / "acceltran" / "arch" / "tables"
NODES = [math.cos((k + 0.5) * math.pi / 33) for k in range(33)]  # Chebyshev, in (-1, 1)
GUARD_BITS = 2


def rsqrt(x: float) -> float:
    """1/sqrt(1 + m) for x = m in [0, 1), 1/sqrt(2 (1 + m)) for x = 1 + m."""
    return 1 / math.sqrt(1 + x) if x < 1 else 1 / math.sqrt(2 * x)


def gelu_below_identity(x: float) -> float:
    """Return gelu(x) - x, which is even and tends to 0."""
    return -0.5 * x * math.erfc(x / math.sqrt(2))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to fit: the function, its argument, its result, and the effort spent on it."""

    function: Callable[[float], float]
    input_width: int
    input_frac_bits: int
    index_width: int
    output_frac_bits: int
    coefficient_guard_bits: int = 2
    """Bits that the linear term is finer than the result."""
    trimmed: bool = False
    """Leave out trailing segments where the function rounds to 0."""


def recipe_of(name: str, frac_bits: int) -> Recipe:
    """Return the recipe of the table ``name`` for elements of ``frac_bits`` fraction bits."""
    fine = frac_bits + 4
    match name:
        case "exp2":
            return Recipe(
                function=math.exp2,
                input_width=fine,
                input_frac_bits=fine,
                index_width=4,
                output_frac_bits=fine,
            )
        case "log2":
            return Recipe(
                function=lambda x: math.log2(1 + x),
                input_width=fine,
                input_frac_bits=fine,
                index_width=5,
                output_frac_bits=fine,
            )
        case "rsqrt":
            return Recipe(
                function=rsqrt,
                input_width=fine + 1,
                input_frac_bits=fine,
                index_width={8: 4, 12: 5, 16: 6}[frac_bits],
                output_frac_bits=fine + 1,
            )
        case _:
            return Recipe(
                function=gelu_below_identity,
                input_width=frac_bits + 3,
                input_frac_bits=frac_bits,
                index_width={8: 4, 12: 5, 16: 7}[frac_bits],
                output_frac_bits=frac_bits,
                coefficient_guard_bits=3,
                trimmed=True,
            )


def quadratic(function: Callable[[float], float], centre: float, half: float) -> tuple[float, ...]:
    """Coefficients of 1, x, x*x (x from ``centre``) of the near-minimax fit on +-``half``."""
    samples = [function(centre + half * node) for node in NODES]
    count = len(NODES)
    a0 = math.fsum(samples) / count
    a1 = 2 * math.fsum(y * t for y, t in zip(samples, NODES, strict=True)) / count
    a2 = 2 * math.fsum(y * (2 * t * t - 1) for y, t in zip(samples, NODES, strict=True)) / count
    return a0 - a2, a1 / half, 2 * a2 / half**2


def fit(name: str, frac_bits: int) -> tuple[FunctionTable, float, bool]:
    """Return the table, its greatest error in LSBs of the result, and whether it is monotone."""
    recipe = recipe_of(name, frac_bits)
    scale = 2.0**recipe.output_frac_bits
    offset_width = recipe.input_width - recipe.index_width
    step = 2.0**-recipe.input_frac_bits
    half = 2.0 ** (offset_width - 1) * step
    arguments = np.arange(1 << recipe.input_width, dtype=np.int64)
    exact = np.array([recipe.function(n * step) for n in range(1 << recipe.input_width)])
    segments = exact.reshape(1 << recipe.index_width, -1)
    segment_count = len(segments)
    if recipe.trimmed:
        segment_count = int(np.nonzero(np.abs(segments).max(axis=1) * scale > 0.5)[0].max()) + 1

    centres = [(2 * s + 1) * half for s in range(segment_count)]
    curves = [quadratic(recipe.function, centre, half) for centre in centres]
    # Fraction bits of c1 and c2: an LSB at the end of a segment is below the linear term's.
    c1_bits = math.ceil(recipe.output_frac_bits + recipe.coefficient_guard_bits + math.log2(half))
    c2_bits = math.ceil(c1_bits + math.log2(half))
    steepest = max(abs(curve[2]) for curve in curves)
    operand_shift = max(0, math.floor(recipe.input_frac_bits - c1_bits - math.log2(steepest)))
    operand_shift = min(operand_shift, offset_width - 2)
    square_shift = c2_bits + recipe.input_frac_bits - operand_shift - c1_bits
    product_shift = c1_bits + recipe.input_frac_bits - recipe.output_frac_bits - GUARD_BITS
    assert square_shift >= 0 and product_shift >= 0, (name, frac_bits)

    offset = np.arange(1 << offset_width, dtype=np.int64) - (1 << (offset_width - 1))
    c0, c1, c2 = [], [], []
    for segment, (_, slope, curvature) in zip(segments, curves, strict=False):
        bend = round(curvature * 2.0**c2_bits)
        square = (bend * (offset >> operand_shift)) >> square_shift
        choices = []
        for linear in range(round(slope * 2.0**c1_bits) - 2, round(slope * 2.0**c1_bits) + 3):
            error = segment * scale * 2**GUARD_BITS - (
                ((linear + square) * offset) >> product_shift
            )
            constant = math.floor((error.max() + error.min()) / 2 + 0.5)
            worst = max(error.max() - constant, constant - error.min())
            choices.append((worst, linear, constant + (1 << GUARD_BITS >> 1)))
        _, linear, constant = min(choices)
        c0.append(constant)
        c1.append(linear)
        c2.append(bend)

    def make(output_width: int, output_signed: bool) -> FunctionTable:
        return FunctionTable(
            name=name,
            frac_bits=frac_bits,
            input_width=recipe.input_width,
            input_frac_bits=recipe.input_frac_bits,
            offset_width=offset_width,
            segment_count=segment_count,
            output_width=output_width,
            output_signed=output_signed,
            output_frac_bits=recipe.output_frac_bits,
            operand_shift=operand_shift,
            square_shift=square_shift,
            product_shift=product_shift,
            guard_bits=GUARD_BITS,
            c0=tuple(c0),
            c1=tuple(c1),
            c2=tuple(c2),
        )

    result = evaluate(make(64, True), arguments)
    lowest, highest = int(result.min()), int(result.max())
    magnitude = max(highest.bit_length(), (-lowest - 1).bit_length() if lowest < 0 else 0, 1)
    table = make(magnitude + (lowest < 0), lowest < 0)
    steps = np.diff(result)
    monotone = bool((steps >= 0).all() or (steps <= 0).all())
    return table, float(np.abs(result - exact * scale).max()), monotone


def width(values: npt.ArrayLike) -> int:
    """Bits of a ROM column."""
    low, high = int(np.min(values)), int(np.max(values))
    return high.bit_length() if low >= 0 else max(high.bit_length(), (-low - 1).bit_length()) + 1


def encode(tables: list[FunctionTable]) -> str:
    """JSON with one line per field."""
    entries = []
    for table in tables:
        fields = {key: value for key, value in asdict(table).items() if key != "name"}
        lines = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in fields.items())
        entries.append(f"  {{\n{lines}\n  }}")
    return "[\n" + ",\n".join(entries) + "\n]\n"


def main() -> int:
    """Fit, report, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="functions to fit (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    args = parser.parse_args()
    different = []
    for name in args.names or ["exp2", "log2", "rsqrt", "gelu"]:
        tables = []
        for frac_bits in (8, 12, 16):
            table, error, monotone = fit(name, frac_bits)
            tables.append(table)
            widths = [width(c) for c in (table.c0, table.c1, table.c2)]
            print(
                f"{name:5s} {frac_bits:2d}: {table.segment_count:2d} segments, "
                f"ROM {table.segment_count * sum(widths)} bits "
                f"({'/'.join(map(str, widths))}), output {table.output_width} bits, "
                f"max error {error:.3f} LSB, {'' if monotone else 'not '}monotone"
            )
        text = encode(tables)
        path = FOLDER / f"{name}.json"
        print(f'    "{name}": "{hashlib.sha256(text.encode()).hexdigest()}",')
        if args.check:
            if path.read_text() != text:
                different.append(name)
        else:
            path.write_text(text)
    if different:
        print(f"differs from the committed file: {', '.join(different)}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
