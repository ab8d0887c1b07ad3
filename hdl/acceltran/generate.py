# amaranth: UnusedElaboratable=no
"""Write the Verilog of a machine, and what its users need beside it."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import COUNTERS, REGISTERS, counter_address
from acceltran.compute.epilogue import Epilogue
from acceltran.compute.lane_kinds import make_lane
from acceltran.documents import c_header, registers_markdown
from acceltran.library import Library, signature_ports
from acceltran.lint_waivers import LINT_WAIVERS
from acceltran.memory.ram import Ram
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.netlist_summary import RAM, summarise
from acceltran.top import AccelTran

__all__ = ["generate_verilog", "write_outputs"]

TOP = "acceltran"


def _header(config: AcceleratorConfig) -> str:
    lines = [f"AccelTran {metadata.version('acceltran')}, generated Verilog. Configuration:"]
    for group, fields in config.as_dict().items():
        values = ", ".join(f"{name} = {value}" for name, value in fields.items())
        lines.append(f"  {group}: {values}")
    return "".join(f"// {line}\n" for line in lines)


def generate_verilog(config: AcceleratorConfig) -> str:
    """Verilog of the machine, top module ``acceltran``; the same for the same configuration."""
    return _convert(config, Library())


def _convert(config: AcceleratorConfig, library: Library) -> str:
    return _header(config) + library.convert_verilog(AccelTran(config=config), name=TOP)


def _latencies(config: AcceleratorConfig) -> dict[str, int]:
    """Cycles from input to output of the units on the way of a product."""
    datapath = config.datapath
    lane = make_lane(
        lane=datapath.lane,
        weight_window=datapath.weight_window,
        multipliers=config.lane_multipliers,
        fmt=config.fmt,
        tile=datapath.tile,
        inner=config.limits.inner,
        tile_rows=datapath.tile_rows,
        partial_sums=datapath.partial_sums,
    )
    return {
        "lane": lane.LATENCY,
        "epilogue": Epilogue.LATENCY,
        "buffer_read": VectorBuffer.READ_LATENCY,
    }


def _sidecar(
    config: AcceleratorConfig, preset: str, verilog: str, classes: Mapping[str, type]
) -> dict[str, Any]:
    summary = summarise(verilog, TOP)
    summaries = {TOP: AccelTran, RAM: Ram, **classes}
    return {
        "name": TOP,
        "version": metadata.version("acceltran"),
        "preset": preset,
        "configuration": config.as_dict(),
        "ports": {
            name: {"width": len(signal), "direction": direction.name.lower()}
            for name, (signal, direction) in signature_ports(AccelTran(config=config)).items()
        },
        "registers": {register.name: register.address for register in REGISTERS},
        "counters": {name: counter_address(name) for name, _ in COUNTERS},
        "latencies": _latencies(config),
        "totals": {
            "lane_multipliers": config.multipliers,
            "multipliers": summary["multiplications"],
            "memories": summary["memory_count"],
            "memory_bits": summary["memory_bits"],
        },
        "memories": summary["memories"],
        "name_map": summary["instances"],
        "modules": {
            name: {"instances": count, "purpose": (summaries[name].__doc__ or "").splitlines()[0]}
            for name, count in summary["modules"].items()
        },
    }


def write_outputs(config: AcceleratorConfig, preset: str, folder: Path) -> list[Path]:
    """Write ``acceltran.v``, ``.json``, ``.h``, ``registers.md`` and ``lint.vlt`` into ``folder``.

    Byte-identical for the same input, whatever the folder. Returns the paths.
    """
    library = Library()
    verilog = _convert(config, library)
    sidecar = _sidecar(config, preset, verilog, library.classes)
    texts = {
        "acceltran.v": verilog,
        "acceltran.json": json.dumps(sidecar, indent=2) + "\n",
        "acceltran.h": c_header(),
        "registers.md": registers_markdown(),
        "lint.vlt": LINT_WAIVERS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in texts.items():
        path = folder / name
        path.write_text(text)
        paths.append(path)
    return paths
