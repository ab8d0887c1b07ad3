# amaranth: UnusedElaboratable=no
"""What `acceltran.generate` writes: files, ports, totals, and Verilog that every tool accepts."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from acceltran.arch import registers
from acceltran.arch.commands import (
    BODIES,
    COMMAND_BYTES,
    HEADER,
    SEMAPHORES,
    THRESHOLDS,
    Opcode,
    OperandSource,
)
from acceltran.arch.config import AcceleratorConfig, override
from acceltran.arch.presets import MEDIUM, TINY, TINY2
from acceltran.compute.lane_kinds import scalars_per_beat
from acceltran.distribution.tree import FAN_OUT, FAN_OUT_BITS, tree_levels
from acceltran.generate import generate_verilog, write_outputs
from acceltran.library import Library
from acceltran.top import AccelTran
from testbench.harness.lint import lint_modules, yosys_check

CONFIGS = {
    "tiny": TINY,
    "tiny2": TINY2,
    "medium": MEDIUM,
    "tiny-4.8": override(TINY, {"datapath.frac_bits": "8"}),
    "tiny-4.12": override(TINY, {"datapath.frac_bits": "12"}),
    "tiny-dot": override(TINY, {"datapath.lane": "dot"}),
    "tiny-window": override(TINY, {"datapath.weight_window": "16"}),
    "clusters": override(TINY, {"array.pes": "8", "array.pes_per_cluster": "1"}),
}
FILES = ["acceltran.v", "acceltran.json", "acceltran.h", "registers.md", "lint.vlt"]

# Address channels of AXI4: width by name; all but `ready` come from the master.
ADDRESS_CHANNEL = {
    **{"id": 1, "addr": 64, "len": 8, "size": 3, "burst": 2, "lock": 1},
    **{"cache": 4, "prot": 3, "qos": 4, "region": 4, "valid": 1},
}


def expected_ports(data_bits: int) -> dict[str, tuple[str, int]]:
    """Ports as the AXI specification names them."""
    outputs = {f"m_axi_a{way}{name}": n for way in "rw" for name, n in ADDRESS_CHANNEL.items()}
    outputs |= {f"m_axi_{name}": 1 for name in ("wlast", "wvalid", "bready", "rready")}
    outputs |= {"m_axi_wdata": data_bits, "m_axi_wstrb": data_bits // 8}
    outputs |= {f"s_axil_{name}ready": 1 for name in ("aw", "w", "ar")}
    outputs |= {"s_axil_bresp": 2, "s_axil_bvalid": 1}
    outputs |= {"s_axil_rdata": 32, "s_axil_rresp": 2, "s_axil_rvalid": 1, "irq": 1}
    inputs = {"aclk": 1, "aresetn": 1}
    inputs |= {f"m_axi_{name}ready": 1 for name in ("aw", "w", "ar")}
    inputs |= {"m_axi_bid": 1, "m_axi_bresp": 2, "m_axi_bvalid": 1}
    inputs |= {"m_axi_rid": 1, "m_axi_rdata": data_bits, "m_axi_rresp": 2}
    inputs |= {"m_axi_rlast": 1, "m_axi_rvalid": 1}
    for way in "rw":
        inputs |= {f"s_axil_a{way}addr": 12, f"s_axil_a{way}prot": 3, f"s_axil_a{way}valid": 1}
    inputs |= {"s_axil_wdata": 32, "s_axil_wstrb": 4, "s_axil_wvalid": 1}
    inputs |= {"s_axil_bready": 1, "s_axil_rready": 1}
    return {
        **{name: ("input", width) for name, width in inputs.items()},
        **{name: ("output", width) for name, width in outputs.items()},
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Contents of the files of a machine by name, written once."""

    @cache
    def write(name: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("generate") / "some where" / "else"
        paths = write_outputs(CONFIGS[name], name, folder)
        assert paths == [folder / file for file in FILES]
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
        return {path.name: path.read_text() for path in paths}

    return write


@pytest.fixture(params=CONFIGS)
def machine(request, written) -> tuple[AcceleratorConfig, dict[str, str]]:
    return CONFIGS[request.param], written(request.param)


SCRIPT = """
import sys
from pathlib import Path
from acceltran.arch.presets import PRESETS
from acceltran.generate import write_outputs
write_outputs(PRESETS[sys.argv[1]], sys.argv[1], Path("here"))
"""


@pytest.mark.parametrize("preset", ["tiny", "tiny2"])
def test_same_bytes_from_another_process(preset, written, tmp_path):
    """Another folder, another hash seed, and nothing generated before in the process."""
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, preset], cwd=tmp_path, env=environment, check=True
    )
    expected = written(preset)
    for file in FILES:
        assert (tmp_path / "here" / file).read_bytes() == expected[file].encode(), file


def test_same_verilog_again(written):
    assert generate_verilog(TINY) == written("tiny")["acceltran.v"]


def test_shared_modules_stand_for_all_their_instances(written):
    text = Library(check_instances=True).convert_verilog(AccelTran(config=TINY2), name="acceltran")
    assert written("tiny2")["acceltran.v"].endswith(text)


def test_header(machine):
    config, files = machine
    text = files["acceltran.v"]
    comment = [line.removeprefix("//") for line in text.splitlines() if line.startswith("//")]
    assert comment[0] == (
        f" AccelTran {metadata.version('acceltran')}, generated Verilog. Configuration:"
    )
    groups = dict(line.strip().split(": ") for line in comment[1:6])
    for group, fields in config.as_dict().items():
        values = dict(pair.split(" = ") for pair in groups[group].split(", "))
        assert values == {name: str(value) for name, value in fields.items()}
    assert text.startswith("//") and str(Path.cwd()) not in text


def test_ports(machine):
    config, files = machine
    body = files["acceltran.v"].partition("\nmodule acceltran(")[2].partition("endmodule")[0]
    listed = re.findall(r"\w+", body.partition(");")[0])
    found = {
        name: (way, int(high or 0) + 1)
        for way, high, name in re.findall(
            r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE
        )
    }
    ports = expected_ports(config.memory.axi_data_bits)
    assert found == ports
    assert sorted(listed) == sorted(ports)
    sidecar = json.loads(files["acceltran.json"])
    assert sidecar["ports"] == {
        name: {"width": width, "direction": way} for name, (way, width) in ports.items()
    }


def test_sidecar(machine):
    config, files = machine
    sidecar = json.loads(files["acceltran.json"])
    assert sidecar["name"] == "acceltran"
    assert CONFIGS[sidecar["preset"]] == config
    assert sidecar["version"] == metadata.version("acceltran")
    assert sidecar["configuration"] == config.as_dict()
    assert sidecar["registers"] == {r.name: r.address for r in registers.REGISTERS}
    assert sidecar["counters"]["dma_write_bytes"] == 0x1C8
    assert all(cycles > 0 for cycles in sidecar["latencies"].values())

    pes, lanes = config.array.pes, config.lanes
    assert sidecar["totals"]["lane_multipliers"] == pes * lanes * 16
    assert sidecar["totals"]["multipliers"] >= 2 * pes * lanes * 16  # two parts of a product each
    memories = sidecar["memories"]
    bits = {name: m["width"] * m["depth"] * m["count"] for name, m in memories.items()}
    vectors = {
        "activation_buffer": config.activation_vectors,
        "weight_buffer": config.weight_vectors,
    }
    for buffer, count in vectors.items():
        for ram, width in (("value_ram", 16 * config.fmt.width), ("mask_ram", 16)):
            found = [n for name, n in bits.items() if buffer in name and name.endswith(ram)]
            assert found == [count * width]
    in_lanes = {name: n for name, n in bits.items() if ".lane" in name}
    sums = sum(n for name, n in in_lanes.items() if name.endswith("sums_ram"))
    sum_width = 2 * config.fmt.width + (config.limits.inner - 1).bit_length() + 1
    assert sums == pes * lanes * config.datapath.partial_sums * 16 * sum_width
    tiles = sum(in_lanes.values()) - sums
    keeps = scalars_per_beat(config.datapath.weight_window)  # one copy per scalar of a beat
    assert tiles == pes * lanes * config.datapath.tile_rows * 16 * (config.fmt.width + keeps)
    assert sidecar["totals"]["memory_bits"] == sum(bits.values())
    assert sidecar["totals"]["memories"] == sum(m["count"] for m in memories.values())


def test_name_map(machine):
    config, files = machine
    sidecar = json.loads(files["acceltran.json"])
    modules = re.findall(r"^module (\w+)", files["acceltran.v"], re.MULTILINE)
    assert sorted(modules) == sorted(sidecar["modules"])
    assert {"acceltran", "acceltran_ram", *sidecar["name_map"].values()} == set(modules)
    assert all(module["purpose"].endswith(".") for module in sidecar["modules"].values())

    def several(name: str, count: int) -> str:
        return f"{name}[0-{count - 1}]" if count > 1 else f"{name}0"

    clusters = "clusters"
    for level in range(tree_levels(config.array.clusters), 0, -1):
        branches = min(FAN_OUT, config.array.clusters >> FAN_OUT_BITS * (level - 1))
        clusters += "." + several("tree" if level > 1 else "node", branches)
    pe = several("pe", config.array.pes_per_cluster)
    lane = sidecar["name_map"][f"core.{clusters}.core.cluster.{pe}.{several('lane', config.lanes)}"]
    assert sidecar["modules"][lane]["instances"] == config.array.pes * config.lanes


def header_values() -> dict[str, int]:
    """Every definition of `acceltran.h`."""
    values = {f"REG_{r.name}": r.address for r in registers.REGISTERS}
    for n, (name, _) in enumerate(registers.COUNTERS):
        values[f"COUNTER_{name.upper()}"] = 0x100 + 8 * n
    values |= {
        "IDENTIFIER": 0x41435452,
        "VERSION": registers.VERSION,
        "WATCHDOG_DEFAULT": registers.WATCHDOG_DEFAULT,
        **{"CONTROL_START": 1, "CONTROL_SOFT_RESET": 2, "CONTROL_INTERRUPT_ENABLE": 4},
        **{"STATUS_BUSY": 1, "STATUS_DONE": 2, "STATUS_ERROR": 4, "STATUS_RESETTING": 8},
        **{"INTERRUPT_DONE": 1, "INTERRUPT_ERROR": 2},
        "COMMAND_BYTES": COMMAND_BYTES,
        "SEMAPHORES": SEMAPHORES,
        "THRESHOLDS": THRESHOLDS,
    }
    for prefix, members in (
        ("ERROR", registers.ErrorCause),
        ("OPCODE", Opcode),
        ("SOURCE", OperandSource),
    ):
        values |= {f"{prefix}_{member.name}": int(member) for member in members}
    layouts = {"COMMAND": HEADER, **{opcode.name: fields for opcode, fields in BODIES.items()}}
    for prefix, fields in layouts.items():
        for field in fields:
            values[f"{prefix}_{field.name.upper()}_OFFSET"] = field.offset
            values[f"{prefix}_{field.name.upper()}_WIDTH"] = field.width
    return values


def test_c_header(written, tmp_path):
    """It compiles without a warning, twice in a unit, and defines exactly the expected values."""
    text = written("tiny")["acceltran.h"]
    (tmp_path / "acceltran.h").write_text(text)
    expected = header_values()
    defined = re.findall(r"^#define ACCELTRAN_(\w+) +\S", text, re.MULTILINE)
    assert sorted(defined) == sorted(expected)
    checks = [
        f'static_assert(ACCELTRAN_{name} == {value}, "{name}");' for name, value in expected.items()
    ]
    include = '#include "acceltran.h"'
    (tmp_path / "check.cpp").write_text("\n".join([include, include, *checks, ""]))
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    tool = subprocess.run(
        [*command, "check.cpp"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (tool.returncode, tool.stderr) == (0, "")


def test_register_tables(written):
    """Every register, counter, cause, command and field has a row, and all rows are complete."""
    lines = written("tiny")["registers.md"].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    for register in registers.REGISTERS:
        row = [f"`0x{register.address:03x}`", f"`{register.name}`", register.access, register.doc]
        assert rows.count(row) == 1
    for n, (name, doc) in enumerate(registers.COUNTERS):
        assert rows.count([f"`0x{0x100 + 8 * n:03x}`", f"`{name}`", doc]) == 1
    for cause in registers.ErrorCause:
        assert sum(row[:2] == [str(cause.value), f"`{cause.name}`"] for row in rows) == 1
    for opcode, fields in BODIES.items():
        start = lines.index(f"## {opcode.name} ({opcode.value})")
        for n, field in enumerate(fields):
            last = field.offset + field.width - 1
            bits = f"{last}:{field.offset}" if field.width > 1 else f"{last}"
            assert lines[start + 4 + n] == f"| {bits} | `{field.name}` | {field.doc} |"


def test_verilator_lint(machine):
    _, files = machine
    lint_modules(files["acceltran.v"], files["lint.vlt"])


@pytest.mark.parametrize("name", ["tiny", "tiny2", "tiny-dot"])
def test_yosys_check(name, written):
    """No latch, no loop, no undriven or doubly driven wire in the flattened machine."""
    yosys_check(written(name)["acceltran.v"], "acceltran")
