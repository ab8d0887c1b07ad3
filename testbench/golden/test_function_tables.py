"""Function tables: errors on every argument, integrity of the files, the two evaluations agree."""

import math

import numpy as np
import pytest

from acceltran.arch import function_tables
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import FUNCTIONS, FunctionTable, load_table
from acceltran_sim.golden.function_unit import evaluate

FORMATS = [FixedPoint(int_bits=4, frac_bits=bits) for bits in (8, 12, 16)]


def rsqrt(x):
    return np.where(x < 1, 1 / np.sqrt(1 + x), 1 / np.sqrt(2 * np.maximum(x, 1)))


def gelu_below_identity(x):
    return np.array([-0.5 * v * math.erfc(v / math.sqrt(2)) for v in x.tolist()])


EXACT = {
    "exp2": np.exp2,
    "log2": lambda x: np.log2(1 + x),
    "rsqrt": rsqrt,
    "gelu": gelu_below_identity,
}

# Greatest error in LSBs of the result, measured on all arguments, for 8, 12 and 16 fraction bits.
BOUNDS = {
    "exp2": (0.84, 0.93, 1.72),
    "log2": (0.84, 0.94, 1.26),
    "rsqrt": (0.85, 1.10, 1.45),
    "gelu": (0.74, 0.95, 0.85),
}


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"q4.{fmt.frac_bits}")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_on_every_argument(name, fmt):
    table = load_table(name, fmt)
    n = np.arange(1 << table.input_width, dtype=np.int64)
    y = evaluate(table, n)
    exact = EXACT[name](n * 2.0**-table.input_frac_bits) * 2.0**table.output_frac_bits
    assert np.abs(y - exact).max() <= BOUNDS[name][FORMATS.index(fmt)]
    lowest = -(1 << (table.output_width - 1)) if table.output_signed else 0
    assert lowest <= y.min() and y.max() < lowest + (1 << table.output_width)
    if name != "gelu":
        steps = np.diff(y) * (-1 if name == "rsqrt" else 1)
        halves = np.split(np.append(steps, 0), 2 if name == "rsqrt" else 1)
        assert all((half[:-1] >= 0).all() for half in halves)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"q4.{fmt.frac_bits}")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_evaluations_agree(name, fmt):
    table = load_table(name, fmt)
    highest = (1 << table.input_width) - 1
    n = np.random.default_rng(1).integers(0, highest, 500, endpoint=True)
    n[:2] = 0, highest
    assert evaluate(table, n).tolist() == [table.evaluate_int(v) for v in n.tolist()]


def test_rejects_unknown_function():
    with pytest.raises(
        ValueError, match=r"^Function must be one of exp2, log2, rsqrt, gelu, not 'sin'$"
    ):
        load_table("sin", FORMATS[0])


def test_rejects_format_without_table():
    with pytest.raises(
        ValueError, match=r"^Fraction bits must be one of 8, 12, 16 for the table of 'exp2', not 9$"
    ):
        load_table("exp2", FixedPoint(int_bits=4, frac_bits=9))


def test_rejects_changed_file(monkeypatch):
    monkeypatch.setitem(function_tables.SHA256, "exp2", "0" * 64)
    function_tables._load.cache_clear()
    with pytest.raises(
        ValueError, match=r"^Table file of 'exp2' must have the SHA-256 0{64}, not [0-9a-f]{64}$"
    ):
        load_table("exp2", FORMATS[0])


@pytest.mark.parametrize("n", [-1, 4096])
def test_rejects_argument(n):
    with pytest.raises(ValueError, match=rf"^Argument must be in 0\.\.4095, not {n}$"):
        load_table("exp2", FORMATS[0]).evaluate_int(n)


def small(**changes):
    fields = {
        "name": "line",
        "frac_bits": 4,
        "input_width": 4,
        "input_frac_bits": 4,
        "offset_width": 3,
        "segment_count": 2,
        "output_width": 8,
        "output_signed": False,
        "output_frac_bits": 4,
        "operand_shift": 0,
        "square_shift": 0,
        "product_shift": 0,
        "guard_bits": 0,
        "c0": (1, 2),
        "c1": (1, 1),
        "c2": (0, 0),
    }
    return FunctionTable(**{**fields, **changes})


def test_rejects_coefficients():
    with pytest.raises(ValueError, match=r"^Coefficients must be 2 of a kind, not 1$"):
        small(c1=(1,))


@pytest.mark.parametrize("segment_count", [0, 3])
def test_rejects_segment_count(segment_count):
    zeros = (0,) * segment_count
    with pytest.raises(
        ValueError, match=rf"^Segment count must be in 1\.\.2, not {segment_count}$"
    ):
        small(segment_count=segment_count, c0=zeros, c1=zeros, c2=zeros)
