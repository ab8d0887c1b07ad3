# amaranth: UnusedElaboratable=no
"""The Verilog of every unit passes Verilator's lint and Yosys' checks."""

import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.pruning_boundary import PruningBoundary
from acceltran.control.kept_counter import KeptCounter
from acceltran.control.kept_totals import KeptTotals
from acceltran.control.lane_accounts import LaneAccounts
from acceltran.control.localizer import Localizer
from acceltran.control.threshold_control import ThresholdControl
from acceltran.control.vector_engine import VectorEngine
from acceltran.distribution.barrier_node import BarrierNode
from acceltran.distribution.exchange_gate import ExchangeGate
from acceltran.distribution.exchange_node import ExchangeNode
from acceltran.distribution.leaf_reads import LeafReads
from acceltran.library import Library
from acceltran.lint_waivers import LINT_WAIVERS
from acceltran.memory.ram import Ram
from testbench.formal.test_stream_contract import UNITS
from testbench.harness.lint import verilator_lint, yosys_check

LATCH = """
module top(input enable, input d, output reg q);
  always @* if (enable) q = d;
endmodule
"""

LOOP = """
module inverter(input d, output q);
  assign q = ~d;
endmodule
module top(input d, output q);
  wire back;
  inverter inner(.d(d & back), .q(q));
  assign back = q;
endmodule
"""

UNDRIVEN = """
module top(input d, output q, output forgotten);
  assign q = d;
endmodule
"""

NODE = {"fmt": FixedPoint(int_bits=1, frac_bits=2), "tile": 1}

# Units without streams, which have no contract to prove, and those with a proof of their own.
MORE_UNITS = {
    "barrier_node": lambda: BarrierNode(branches=3, most=5),
    "exchange_gate": lambda: ExchangeGate(**NODE, clusters=7, branches=3),
    "exchange_node": lambda: ExchangeNode(**NODE, branches=3),
    "leaf_reads": lambda: LeafReads(**NODE, leaves=5, address_bits=21),
    "kept_counter": lambda: KeptCounter(most=16, width=28),
    "lane_accounts": lambda: LaneAccounts(lanes=4, streams=2, pes=2),
    "pruning_boundary": lambda: PruningBoundary(fmt=FixedPoint(int_bits=4, frac_bits=8)),
    "ram": lambda: Ram(width=20, depth=100),
    "kept_totals": lambda: KeptTotals(most=(32, 16)),
    "localizer": lambda: Localizer(threshold_width=20, clusters=4),
    "threshold_control": lambda: ThresholdControl(fmt=FixedPoint(int_bits=4, frac_bits=16)),
    "vector_engine": lambda: VectorEngine(
        fmt=FixedPoint(int_bits=4, frac_bits=8),
        tile=4,
        width=2,
        norm_width=4,
        sequence=24,
        hidden=16,
        units=2,
    ),
}
ALL_UNITS = {**UNITS, **MORE_UNITS}


@pytest.mark.parametrize("unit", ALL_UNITS)
def test_units(unit):
    text = Library(check_instances=True).convert_verilog(ALL_UNITS[unit](), name=unit)
    verilator_lint(text, unit, LINT_WAIVERS)
    yosys_check(text, unit)


def test_refuses_latches():
    with pytest.raises(AssertionError, match="LATCH"):
        verilator_lint(LATCH, "top", LINT_WAIVERS)
    with pytest.raises(AssertionError, match="dlatch"):
        yosys_check(LATCH, "top")


def test_refuses_loops():
    with pytest.raises(AssertionError, match="UNOPTFLAT"):
        verilator_lint(LOOP, "top", LINT_WAIVERS)
    with pytest.raises(AssertionError, match="problems in 'check -assert'"):
        yosys_check(LOOP, "top")


def test_refuses_unknown_modules():
    text = "module top(input d); missing missing(.d(d)); endmodule"
    with pytest.raises(AssertionError, match="missing"):
        yosys_check(text, "top")


def test_refuses_undriven_outputs():
    with pytest.raises(AssertionError, match="UNDRIVEN"):
        verilator_lint(UNDRIVEN, "top", LINT_WAIVERS)
