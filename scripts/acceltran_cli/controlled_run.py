"""Encoder jobs one after the other, whose thresholds the machine finds itself."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from acceltran.arch.config import AcceleratorConfig
from acceltran_cli.encoder_run import (
    EncoderRun,
    compare,
    simulate_programs,
)
from acceltran_cli.failures import InternalError
from acceltran_cli.progress import stage
from acceltran_sim.golden.controlled_encoder import ControlledResult, encode_in_turn
from acceltran_sim.program.builder import build_in_turn
from acceltran_sim.program.fill import fill
from acceltran_sim.program.image import Program
from acceltran_sim.program.job import Job
from acceltran_sim.program.products import DEFAULT_ORDER
from acceltran_sim.program.quantize import quantize
from acceltran_sim.program.threshold_plan import ThresholdPlan
from acceltran_sim.program.threshold_table import TABLE_DATA, address_write, table_writes
from acceltran_sim.rtl.simulator import ProgramCall, SimulationResult

__all__ = ["ControlledRun", "SiteSparsity", "run_controlled"]


@dataclass(frozen=True, kw_only=True)
class SiteSparsity:
    """Part of a tensor's elements that are 0, over several jobs."""

    all_jobs: float
    last_half: float
    """Over the later half of the jobs, one more if they are odd."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlledRun:
    """All jobs as one run, and what became of each site."""

    run: EncoderRun
    sparsity: Mapping[str, SiteSparsity]
    """By ``<layer>.<site>``."""


def run_controlled(
    config: AcceleratorConfig,
    plan: ThresholdPlan,
    job: Job,
    *,
    backend: str,
    order: str = DEFAULT_ORDER,
    seed: int = 0,
    stall: float = 0.0,
) -> ControlledRun:
    """Run each batch element as a job; parameters and failures as of ``run_encoder``.

    The Verilog's results and the positions of its loops after every job have to equal the golden
    ones.
    """
    fmt, exponent = plan.encoder.fmt, plan.encoder.input_exponent
    raw, _ = quantize(job.hidden, exponent, fmt)
    encoders = [plan.job(int(length)) for length in job.lengths]
    with stage("Building the programs"):
        programs = build_in_turn(config, encoders, raw, job.lengths, order=order)
    results = []
    with stage("Golden models", len(encoders), "jobs") as update:
        for result in encode_in_turn(encoders, raw, job.lengths, plan.control()):
            results.append(result)
            update(len(results), "")
    counters = None
    if backend == "rtl":
        runs = _simulate(config, plan, programs, seed, stall)
        _compare(programs, runs, results)
        counters = dict(sum((Counter(run.counters) for run in runs), start=Counter()))
        counters = {name: counters.get(name, 0) for name in runs[0].counters}
    saturated: Counter[str] = Counter()
    saturated["input"] = sum(
        quantize(hidden[:length], exponent, fmt)[1]
        for hidden, length in zip(job.hidden, job.lengths, strict=True)
    )
    output = np.zeros(raw.shape, dtype=np.int32)
    for b, result in enumerate(results):
        saturated.update(result.result.saturated)
        output[b, : job.lengths[b]] = result.result.raw[0]
    dense = sum(result.result.products_dense for result in results)
    effectual = sum(result.result.products_effectual for result in results)
    return ControlledRun(
        run=EncoderRun(
            raw=output,
            exponent=plan.encoder.output_exponent,
            saturated={name: count for name, count in saturated.items() if count},
            products_dense=dense,
            products_effectual=effectual,
            counters=counters,
            fill=fill(
                config,
                chain.from_iterable(program.commands for program in programs),
                effectual / dense,
            ),
        ),
        sparsity={
            site: SiteSparsity(
                all_jobs=_sparsity(results, site),
                last_half=_sparsity(results[len(results) // 2 :], site),
            )
            for site in results[0].sparsity
        },
    )


def _sparsity(results: Sequence[ControlledResult], site: str) -> float:
    zeros, elements = (sum(result.sparsity[site][n] for result in results) for n in range(2))
    return zeros / elements


def _simulate(
    config: AcceleratorConfig,
    plan: ThresholdPlan,
    programs: Sequence[Program],
    seed: int,
    stall: float,
) -> list[SimulationResult]:
    control = plan.control()
    calls = [
        ProgramCall(
            address=program.program_address,
            commands=len(program.commands),
            writes=[*([] if n else table_writes(control)), address_write()],
            reads=[TABLE_DATA] * len(control.curves),
        )
        for n, program in enumerate(programs)
    ]
    return simulate_programs(config, programs, calls=calls, seed=seed, stall=stall)


def _compare(
    programs: Sequence[Program],
    runs: Sequence[SimulationResult],
    results: Sequence[ControlledResult],
) -> None:
    for b, raw in enumerate(_outputs(programs, runs[-1].image)):
        length = programs[b].lengths[0]
        compare(raw[:, :length], results[b].result.raw, first_element=b)
        expected = tuple(results[b].positions.values())
        if runs[b].values != expected:
            raise InternalError(
                f"RTL and golden models differ in the positions after job {b}:"
                f" {list(runs[b].values)}, not {list(expected)}"
            )


def _outputs(programs: Sequence[Program], image: bytes) -> Iterator[np.ndarray]:
    for program in programs:
        start = program.output_address - program.base
        yield program.output(image[start : start + program.output_size])
