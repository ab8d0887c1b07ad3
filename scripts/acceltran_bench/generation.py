"""What it costs to write the Verilog of a machine: whole processes of `acceltran generate`."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from acceltran_bench.rows import Row

__all__ = ["Generation", "generate", "generation"]

TARGETS = {"edge": (10.0, 1024.0, 4.0), "server": (20.0, 2048.0, 6.0)}
"""Most seconds, MiB of memory and MB of Verilog."""
MORE_PES = 512
MOST_GROWTH = 2.5


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What one process took, the tools that it calls included."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    """Of the largest process."""
    verilog_mb: float


def generate(preset: str, *settings: str) -> Generation | str:
    """Run `acceltran generate`; returns its complaint if it fails."""
    command = [str(Path(sys.executable).with_name("acceltran")), "generate", preset]
    command += [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as complaint:
        start = time.monotonic()
        process = subprocess.Popen(
            [*command, "-o", folder], stdout=subprocess.DEVNULL, stderr=complaint
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode:
            complaint.seek(0)
            return complaint.read().strip()
        return Generation(
            seconds=seconds,
            cpu_seconds=used.ru_utime + used.ru_stime,
            peak_mib=used.ru_maxrss / 1024,
            verilog_mb=Path(folder, "acceltran.v").stat().st_size / 1e6,
        )


def generation() -> Iterator[Row]:
    """Time, memory and text of the largest machines, and how they grow with the PEs."""
    generate("tiny")  # compiles what is kept between runs
    edge = {}
    cases = [(name, (), targets) for name, targets in TARGETS.items()]
    cases += [("edge", (f"array.pes={MORE_PES}",), (None, None, None))]
    for preset, settings, (most_seconds, most_mib, most_mb) in cases:
        what = " ".join(("generate", preset, *settings))
        result = generate(preset, *settings)
        if isinstance(result, str):
            yield Row(what=what, note=f"not yet: {result.removeprefix('Error: ')}")
            continue
        if preset == "edge":
            edge[settings] = result.cpu_seconds
        figures = {"preset": preset, "settings": settings, **asdict(result)}
        for name, value, most in (
            ("seconds", result.seconds, most_seconds),
            ("CPU seconds", result.cpu_seconds, None),
            ("MiB of memory", result.peak_mib, most_mib),
            ("MB of Verilog", result.verilog_mb, most_mb),
        ):
            yield Row(what=f"{what}: {name}", value=value, at_most=most, figures=figures)
    if len(edge) == 2:
        few, many = edge.values()
        what = f"generate edge: CPU seconds with {MORE_PES} PEs over those with 64"
        yield Row(what=what, value=many / few, at_most=MOST_GROWTH)
