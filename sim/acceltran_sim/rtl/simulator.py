"""Compile generated Verilog with Verilator, and run programs on it."""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acceltran.arch import registers
from acceltran_sim.rtl.verilator import activate, cache_folder

__all__ = ["SimulationError", "SimulationResult", "build_simulator", "simulate"]

DRIVER = Path(__file__).with_name("driver.cpp")
BINARY = "acceltran_simulator"

FLAGS = (
    # Not -O3: it inlines every module, and the larger code is a sixth slower.
    *("--cc", "--exe", "--build", "-j", "2", "-Wno-fatal"),
    *("--x-assign", "unique", "--x-initial", "unique"),
    # A level in CFLAGS would also hold for the large part that runs once, at the start. At -O2 the
    # compiler takes twice the time for code that is a sixth faster: it pays after 20 M cycles.
    *("-MAKEFLAGS", "OPT_FAST=-O1 OPT_GLOBAL=-O2"),
)


class SimulationError(RuntimeError):
    """The simulator itself failed: a fault of the generated Verilog or of this package."""


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What a program left behind.

    ``error_cause`` is ``ErrorCause.NONE`` for a program that reached its END.
    """

    image: bytes
    """Memory after the run."""
    counters: dict[str, int]
    """Counters of the register map by name."""
    error_cause: registers.ErrorCause
    error_command: int
    commands_done: int


def build_simulator(verilog: str, *, axi_data_bits: int) -> Path:
    """Compile ``verilog`` (top module ``acceltran``) and return the simulator's path.

    Compiled simulators are kept in the user's cache folder, one for each netlist. Processes that
    ask for the same one at the same time compile it once.
    """
    verilator = activate()
    made_of = "\0".join([verilog, DRIVER.read_text(), str(verilator.parent.parent), *FLAGS])
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    home = cache_folder() / "simulators" / digest
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / BINARY).exists():
            _compile(verilator, verilog, axi_data_bits, home)
    return home / BINARY


def _compile(verilator: Path, verilog: str, axi_data_bits: int, home: Path) -> None:
    """Fill a draft and rename it, so that ``home`` is complete or absent."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="draft-") as draft:
        source = Path(draft) / "acceltran.v"
        source.write_text(verilog)
        command = [
            verilator,
            *FLAGS,
            *("--top-module", "acceltran", "--Mdir", draft, "-o", BINARY),
            *("-CFLAGS", f"-DAXI_DATA_BITS={axi_data_bits}"),
            source,
            DRIVER,
        ]
        build = subprocess.run(command, capture_output=True, text=True, check=False)
        if build.returncode:
            raise SimulationError(f"Verilator failed:\n{(build.stdout + build.stderr)[-4000:]}")
        finished = Path(draft) / "finished"
        finished.mkdir()
        (Path(draft) / BINARY).rename(finished / BINARY)
        finished.rename(home)


def simulate(
    simulator: Path,
    *,
    image: bytes,
    base: int,
    program: int,
    commands: int,
    seed: int = 0,
    stall: float = 0.0,
    latency: int = 20,
    max_cycles: int = 1 << 40,
    watchdog: int = registers.WATCHDOG_DEFAULT,
    region: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationResult:
    """Run the program at byte address ``program`` of the memory ``image``, which lies at ``base``.

    Parameters
    ----------
    simulator : Path
        What ``build_simulator`` returned.
    commands : int
        Length of the program, END included.
    seed : int
        Of random contents of on-chip memories and of stalls.
    stall : float
        Probability that a side of an AXI channel is not ready in a cycle, both ports.
    latency : int
        Cycles from an AXI address to its first data.
    max_cycles : int
        Give up with SimulationError after so many.
    watchdog : int
        Cycles without progress after which the machine stops itself.
    region : pair of int
        First and last byte that transfers may touch; default: the image.
    progress : callable
        Called now and then with the number of commands done and of cycles.
    """
    first, last = region or (base, base + len(image) - 1)
    address = registers.register_address
    writes = {
        "PROGRAM_LOW": program & 0xFFFFFFFF,
        "PROGRAM_HIGH": program >> 32,
        "PROGRAM_COMMANDS": commands,
        "REGION_FIRST_LOW": first & 0xFFFFFFFF,
        "REGION_FIRST_HIGH": first >> 32,
        "REGION_LAST_LOW": last & 0xFFFFFFFF,
        "REGION_LAST_HIGH": last >> 32,
        "WATCHDOG": watchdog,
        "CONTROL": registers.CONTROL_START | registers.CONTROL_INTERRUPT_ENABLE,
    }
    reads = ["STATUS", "ERROR_CAUSE", "ERROR_COMMAND", "COMMANDS_DONE"]
    with tempfile.TemporaryDirectory(prefix="acceltran-") as name:
        folder = Path(name)
        (folder / "image").write_bytes(image)
        options = {
            "image": folder / "image",
            "image_out": folder / "image_out",
            "results": folder / "results",
            "base": base,
            "seed": seed,
            "stall": stall,
            "latency": latency,
            "cycles": max_cycles,
            "progress_register": address("COMMANDS_DONE"),
            "writes": ",".join(f"{address(name)}:{value}" for name, value in writes.items()),
            "reads": ",".join(
                [f"{address(name)}:1" for name in reads]
                + [f"{registers.COUNTER_BASE}:{2 * len(registers.COUNTERS)}"]
            ),
        }
        command = [str(simulator), *(f"{key}={value}" for key, value in options.items())]
        command += ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (1 << 31) + 1}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            assert process.stdout and process.stderr
            for line in process.stdout:
                if progress and line.startswith("progress "):
                    _, done, cycles = line.split()
                    progress(int(done), int(cycles))
            complaint = process.stderr.read()
        if process.returncode:
            raise SimulationError(f"The simulator failed: {complaint.strip()}")
        rows = [line.split() for line in (folder / "results").read_text().splitlines()]
        interrupted = rows[0] == ["interrupt", "1"]
        values = {int(where): int(value) for where, value in rows[1:]}
        cause = registers.ErrorCause(values[address("ERROR_CAUSE")])
        if not interrupted:
            raise SimulationError(f"The machine raised no interrupt within {max_cycles} cycles")
        counters = {}
        for counter, _ in registers.COUNTERS:
            low = registers.counter_address(counter)
            counters[counter] = values[low] | values[low + 4] << 32
        return SimulationResult(
            image=(folder / "image_out").read_bytes(),
            counters=counters,
            error_cause=cause,
            error_command=values[address("ERROR_COMMAND")],
            commands_done=values[address("COMMANDS_DONE")],
        )
