"""Measure closed loops: sentences of SST-2 as jobs in turn, at several target sparsities.

Writes build/bench/closed_loop.json and prints, for every tensor that is pruned, its sparsity over
the last half of the jobs: with the loops closed, and from the curves alone.

Usage: python scripts/closed_loop.py [SENTENCES.tsv]

All sentences run on the golden models; the first of them also on the Verilog of tiny, which has to
agree in every bit. SENTENCES.tsv has a header and a sentence before each tab, as GLUE's SST-2 does;
without it, the 16 sentences that ship are taken four times each.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.presets import preset
from acceltran_cli.controlled_run import ControlledRun, run_controlled
from acceltran_cli.sentences import shipped_classifier
from acceltran_sim.errors import InputError
from acceltran_sim.models.classifier import BERT_TINY_SST2, Classifier
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.curves import fit_curves
from acceltran_sim.program.job import Job
from acceltran_sim.program.quantize import quantize_model
from acceltran_sim.program.threshold_plan import ThresholdPlan

SENTENCES = 64
ON_VERILOG = 8
TARGETS = (0.3, 0.5, 0.7)
WITHIN = 0.02
PRESET = "tiny"
OUTPUT = Path("build/bench/closed_loop.json")


def shipped_sentences() -> list[list[int]]:
    """Token numbers of the sentences that the curves are fitted to."""
    with np.load(BERT_TINY_SST2 / "golden_logits16.npz") as known:
        return [ids[keep].tolist() for ids, keep in zip(known["ids"], known["mask"], strict=True)]


def read_sentences(classifier: Classifier, path: Path) -> list[list[int]]:
    """Token numbers of the first sentences of a file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1 : 1 + SENTENCES]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be readable text: {error}") from None
    if len(lines) < SENTENCES:
        raise InputError(f"{path} must hold at least {SENTENCES} sentences, not {len(lines)}")
    return [classifier.tokenize(line.partition("\t")[0].strip()) for line in lines]


def measure(
    plan_of: Any, job: Job, *, backend: str, target: float, mode: ThresholdMode
) -> ControlledRun:
    """Run all jobs at a target."""
    return run_controlled(preset(PRESET), plan_of(target, mode), job, backend=backend)


def main(arguments: list[str]) -> None:
    """Run all, print a table."""
    classifier = shipped_classifier()
    shipped = shipped_sentences()
    if arguments:
        tokens = read_sentences(classifier, Path(arguments[0]))
    else:
        print("No sentences are given: the 16 that ship are taken four times each.")
        tokens = shipped * (SENTENCES // len(shipped))
    jobs = Job(**dict(zip(("hidden", "lengths"), classifier.embed(tokens), strict=True)))
    reference = Job(**dict(zip(("hidden", "lengths"), classifier.embed(shipped), strict=True)))
    model = load_model(BERT_TINY_SST2)
    encoder = quantize_model(model, reference, fmt=preset(PRESET).fmt)
    curves = fit_curves(model, reference)

    def plan_of(target: float, mode: ThresholdMode) -> ThresholdPlan:
        return ThresholdPlan(encoder=encoder, curves=curves, sparsity=target, mode=mode)

    rows = []
    print("| target | tensor | closed loop | off by | curve alone | off by |")
    print("|---|---|---|---|---|---|")
    for target in TARGETS:
        loop, curve = (
            measure(plan_of, jobs, backend="golden", target=target, mode=mode)
            for mode in (ThresholdMode.CLOSED_LOOP, ThresholdMode.CURVE)
        )
        for site, achieved in loop.sparsity.items():
            row = {
                "target": target,
                "tensor": site,
                "closed_loop": achieved.last_half,
                "closed_loop_all": achieved.all_jobs,
                "curve": curve.sparsity[site].last_half,
            }
            rows.append(row)
            print(
                f"| {target:.0%} | {site} | {row['closed_loop']:.1%}"
                f" | {row['closed_loop'] - target:+.1%} | {row['curve']:.1%}"
                f" | {row['curve'] - target:+.1%} |",
                flush=True,
            )
    worst = {
        name: max(abs(row[name] - row["target"]) for row in rows)
        for name in ("closed_loop", "curve")
    }
    few = Job(hidden=jobs.hidden[:ON_VERILOG], lengths=jobs.lengths[:ON_VERILOG])
    verilog = [
        measure(plan_of, few, backend="rtl", target=target, mode=ThresholdMode.CLOSED_LOOP)
        for target in TARGETS
    ]
    content = {
        "sentences": len(tokens),
        "source": arguments[0] if arguments else "shipped",
        "rows": rows,
        "worst": worst,
        "limit": WITHIN,
        "verilog": [
            {
                "target": target,
                "jobs": ON_VERILOG,
                "cycles": (result.run.counters or {})["cycles"],
                "bits_equal": True,  # or the run would have failed
            }
            for target, result in zip(TARGETS, verilog, strict=True)
        ],
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(content, indent=2) + "\n")
    print(
        f"\nWorst: closed loop {worst['closed_loop']:.1%} (limit {WITHIN:.0%}),"
        f" curve alone {worst['curve']:.1%}. Verilog of {PRESET} equal in every bit"
        f" over {ON_VERILOG} jobs at each target.\n{OUTPUT}"
    )
    if worst["closed_loop"] > WITHIN:
        sys.exit("The closed loop misses its limit")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"Error: {error}")
