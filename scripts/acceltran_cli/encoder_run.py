"""One run of an encoder: on the golden models, and on the generated Verilog if so wanted."""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.registers import ErrorCause
from acceltran_cli.failures import InternalError, MachineError
from acceltran_cli.progress import stage
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import EncoderResult, QuantizedEncoder, encode
from acceltran_sim.program.assembler import format_command
from acceltran_sim.program.builder import build, build_resident
from acceltran_sim.program.command import Command
from acceltran_sim.program.fill import Fill, fill
from acceltran_sim.program.image import Program
from acceltran_sim.program.job import Job
from acceltran_sim.program.products import DEFAULT_ORDER
from acceltran_sim.program.quantize import quantize
from acceltran_sim.rtl.machine import find_simulator, make_simulator
from acceltran_sim.rtl.simulator import (
    ProgramCall,
    SimulationError,
    SimulationResult,
    simulate_in_turn,
)

__all__ = [
    "EncoderRun",
    "Prepared",
    "compare",
    "prepare",
    "ready_simulator",
    "run_encoder",
    "simulate_programs",
    "simulator_failures",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderRun:
    """What a run computed and what it took."""

    raw: npt.NDArray[np.int32]
    """[batch, sequence, hidden]; 0 at and beyond each length."""
    exponent: int
    """Raw integers stand for ``raw * 2 ** exponent``."""
    saturated: Mapping[str, int]
    """Values clipped, by ``<layer>.<tensor>``, and those of ``input``."""
    products_dense: int
    products_effectual: int
    counters: Mapping[str, int] | None
    """Counters of the machine; None if only the golden models ran."""
    fill: Fill
    """What the shapes of the job leave of the machine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Programs of a run, which one machine executes one after the other."""

    programs: Sequence[Program]
    """One, or with buffers that stay: what loads, what counts, and what stores."""
    clipped: int
    """Values of the input that are clipped."""

    @property
    def resident(self) -> bool:
        """Hidden states are in the buffers when the program that counts begins and ends."""
        return len(self.programs) > 1

    @property
    def measured(self) -> int:
        """Number of the program that counts."""
        return int(self.resident)

    def output(self, results: Sequence[SimulationResult]) -> npt.NDArray[np.int32]:
        """Raw result [batch, sequence, hidden] that the programs have left in memory."""
        program = self.programs[-1]
        start = program.output_address - program.base
        return program.output(results[-1].image[start : start + program.output_size])

    def counters(self, results: Sequence[SimulationResult]) -> dict[str, int]:
        """Counters of the program that counts, and cycles of the others."""
        counters = dict(results[self.measured].counters)
        if self.resident:
            counters["load_cycles"] = results[0].counters["cycles"]
            counters["store_cycles"] = results[-1].counters["cycles"]
        return counters


def prepare(
    config: AcceleratorConfig,
    encoder: QuantizedEncoder,
    job: Job,
    *,
    order: str = DEFAULT_ORDER,
    resident: bool = False,
) -> Prepared:
    """Build the programs of a run."""
    raw, _ = quantize(job.hidden, encoder.input_exponent, encoder.fmt)
    clipped = sum(
        quantize(hidden[:length], encoder.input_exponent, encoder.fmt)[1]
        for hidden, length in zip(job.hidden, job.lengths, strict=True)
    )
    if resident:
        programs = build_resident(config, encoder, raw, job.lengths, order=order)
    else:
        programs = [build(config, encoder, raw, job.lengths, order=order)]
    return Prepared(programs=programs, clipped=clipped)


def run_encoder(
    config: AcceleratorConfig,
    encoder: QuantizedEncoder,
    job: Job,
    *,
    backend: str,
    order: str = DEFAULT_ORDER,
    resident: bool = False,
    seed: int = 0,
    stall: float = 0.0,
) -> EncoderRun:
    """Run ``encoder`` on ``job``. The Verilog's result has to equal the golden one in every bit.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    encoder : QuantizedEncoder
        Layers to run.
    job : Job
        Input.
    backend : str
        ``golden`` or ``rtl``.
    order : str
        Tile loops of every product, outermost first.
    resident : bool
        Weights, input and output stay in the buffers; what loads and stores them does not count.
    seed, stall
        As of ``simulate``.

    Raises
    ------
    InputError
        For a job that the machine cannot run; golden refuses the same jobs as rtl.
    MachineError
        If the machine stops with an error.
    InternalError
        If Verilog and golden models differ, or the simulator fails.
    """
    with stage("Building the program"):
        prepared = prepare(config, encoder, job, order=order, resident=resident)
    results = None
    if backend == "rtl":
        results = simulate_programs(config, prepared.programs, seed=seed, stall=stall)
    golden = _golden(encoder, job)
    if results is not None:
        compare(prepared.output(results), golden.raw)
    saturated = {"input": prepared.clipped} if prepared.clipped else {}
    commands = prepared.programs[prepared.measured].commands
    return EncoderRun(
        raw=golden.raw,
        exponent=encoder.output_exponent,
        saturated=saturated | dict(golden.saturated),
        products_dense=golden.products_dense,
        products_effectual=golden.products_effectual,
        counters=None if results is None else prepared.counters(results),
        fill=fill(config, commands, golden.products_effectual / golden.products_dense),
    )


def _golden(encoder: QuantizedEncoder, job: Job) -> EncoderResult:
    """Run element by element and layer by layer, so that progress shows."""
    x, _ = quantize(job.hidden, encoder.input_exponent, encoder.fmt)
    result = np.zeros(x.shape, dtype=np.int32)
    saturated: Counter[str] = Counter()
    dense = effectual = 0
    depth = len(encoder.layers)
    with stage("Golden models", len(x) * depth, "layers") as update:
        for b, length in enumerate(job.lengths):
            rows = x[b : b + 1, :length]
            for n, layer in enumerate(encoder.layers):
                single = dataclasses.replace(encoder, layers=(layer,))
                part = encode(single, rows, job.lengths[b : b + 1])
                rows = part.raw
                dense += part.products_dense
                effectual += part.products_effectual
                saturated.update({
                    f"{n}.{name.removeprefix('0.')}": count
                    for name, count in part.saturated.items()
                })
                update(b * depth + n + 1, "")
            result[b, :length] = rows[0]
    return EncoderResult(
        raw=result, saturated=saturated, products_dense=dense, products_effectual=effectual
    )


@contextmanager
def simulator_failures() -> Iterator[None]:
    """Failures of the simulator itself as bugs of ours."""
    try:
        yield
    except SimulationError as error:
        raise InternalError(str(error)) from error


def ready_simulator(config: AcceleratorConfig) -> Path:
    """Simulator of a machine, compiled if it is not known yet."""
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            raise InputError(f"The backend rtl needs {tool}, which this machine lacks")
    simulator = find_simulator(config)
    if simulator is None:
        # Amaranth takes a moment to import: runs of a machine that is known do without.
        from acceltran.generate import generate_verilog

        with stage("Generating Verilog"):
            verilog = generate_verilog(config)
        with stage("Compiling the simulator, once for each machine"):
            simulator = make_simulator(config, verilog)
    return simulator


def check_outcome(result: SimulationResult, commands: Sequence[Command]) -> None:
    """Raise MachineError if the machine stopped with an error."""
    if result.error_cause != ErrorCause.NONE:
        index = result.error_command
        text = format_command(commands[index]) if index < len(commands) else "beyond the program"
        raise MachineError(result.error_cause, index, text)


def simulate_programs(
    config: AcceleratorConfig,
    programs: Sequence[Program],
    *,
    calls: Sequence[ProgramCall] | None = None,
    **options: Any,
) -> list[SimulationResult]:
    """Run programs one after the other on the Verilog.

    ``calls`` are those of the programs, by default without reads and writes; ``options`` are those
    of ``simulate_in_turn``. Raises as ``run_encoder``.
    """
    if calls is None:
        calls = [
            ProgramCall(address=program.program_address, commands=len(program.commands))
            for program in programs
        ]
    with simulator_failures():
        simulator = ready_simulator(config)
        with stage("RTL", sum(call.commands for call in calls), "commands") as update:
            results = simulate_in_turn(
                simulator,
                calls,
                image=programs[0].image,
                base=programs[0].base,
                progress=lambda done, cycles: update(done, f"{cycles:,} cycles"),
                **options,
            )
    check_outcome(results[-1], programs[len(results) - 1].commands)
    return results


def compare(
    raw: npt.NDArray[np.int32], golden: npt.NDArray[np.int32], *, first_element: int = 0
) -> None:
    """Raise InternalError unless both are equal; batch elements count from ``first_element``."""
    differ = np.argwhere(raw != golden)
    if len(differ):
        b, row, column = (int(index) for index in differ[0])
        raise InternalError(
            f"RTL and golden models differ in {len(differ)} of {golden.size} values, the first at"
            f" batch {first_element + b}, row {row}, column {column}: {raw[b, row, column]}, not"
            f" {golden[b, row, column]}"
        )
