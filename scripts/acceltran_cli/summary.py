"""What a run says about itself, as text and as JSON."""

from dataclasses import asdict
from typing import Any

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.config import AcceleratorConfig
from acceltran_cli.controlled_run import ControlledRun
from acceltran_cli.encoder_run import EncoderRun
from acceltran_sim.program.fill import Fill
from acceltran_sim.program.threshold_plan import ThresholdPlan

__all__ = ["CLOCK_HZ", "control_report", "control_table", "report", "table"]

CLOCK_HZ = 700_000_000
"""Clock that times are given for: the paper's."""


def report(config: AcceleratorConfig, run: EncoderRun) -> dict[str, Any]:
    """Results of a run for JSON."""
    dense, effectual = run.products_dense, run.products_effectual
    content: dict[str, Any] = {
        "number_format": f"{config.datapath.int_bits}.{config.datapath.frac_bits}",
        "scale": 2.0**run.exponent,
        "products_dense": dense,
        "products_effectual": effectual,
        "products_skipped": 1 - effectual / dense,
        "saturated": dict(run.saturated),
        "fill": asdict(run.fill) | {"clusters": config.array.clusters, "ports": config.tile_ports},
    }
    if run.counters is not None:
        cycles = run.counters["cycles"]
        used = run.counters["multiplier_cycles"] / (config.multipliers * max(cycles, 1))
        content |= {
            "cycles": cycles,
            "clock_hz": CLOCK_HZ,
            "seconds": cycles / CLOCK_HZ,
            "multipliers": config.multipliers,
            "multiplier_utilisation": used,
            "counters": dict(run.counters),
            "rtl_equals_golden": True,
        }
    return content


def table(config: AcceleratorConfig, run: EncoderRun) -> list[str]:
    """Results of a run as lines of text."""
    content = report(config, run)
    rows = []
    if run.counters is not None:
        rows += [
            ("cycles", f"{content['cycles']:,} ({content['seconds'] * 1e3:.3f} ms at 700 MHz)"),
            (
                "multipliers",
                f"{config.multipliers}, used {content['multiplier_utilisation']:.1%} of the time",
            ),
        ]
    counts = f"{run.products_dense:,} dense, {run.products_effectual:,} effectual"
    rows.append(("products", f"{counts}, {content['products_skipped']:.1%} skipped"))
    rows += _fill_rows(config, run.fill)
    if run.counters is not None:
        read, written = run.counters["dma_read_bytes"], run.counters["dma_write_bytes"]
        rows.append(("DRAM", f"{read:,} bytes read, {written:,} bytes written"))
        if "load_cycles" in run.counters:
            load, store = run.counters["load_cycles"], run.counters["store_cycles"]
            rows.append(("buffers", f"loaded in {load:,} cycles, stored in {store:,}"))
    if run.saturated:
        clipped = ", ".join(f"{name} {count:,}" for name, count in run.saturated.items())
        rows.append(("saturated", clipped))
    if run.counters is not None:
        rows.append(("check", "RTL = golden, bit for bit"))
    return [f"{name:<12} {text}" for name, text in rows]


def _fill_rows(config: AcceleratorConfig, fill: Fill) -> list[tuple[str, str]]:
    """What the shapes of the job leave of the machine."""
    rows = "1 row" if fill.rows_per_cluster == 1 else f"{fill.rows_per_cluster} rows"
    tiles = f"tiles take {fill.tile_vectors:.2f} of {config.tile_ports} vectors per cycle and PE"
    filled = f"{fill.multipliers:.1%} of the multipliers at most"
    clusters = config.array.clusters
    if clusters > 1:
        filled += f"; {fill.clusters_with_rows} of {clusters} clusters have rows"
        rows += " of a cluster"
    return [("shapes", f"{rows}; {tiles}"), ("bound", filled)]


def control_report(plan: ThresholdPlan, controlled: ControlledRun) -> dict[str, Any]:
    """What jobs in turn achieved, for JSON."""
    return {
        "threshold_mode": ThresholdMode(plan.mode).name.lower(),
        "sparsity_target": plan.sparsity,
        "sparsity": {
            site: {"all": achieved.all_jobs, "last_half": achieved.last_half}
            for site, achieved in controlled.sparsity.items()
        },
    }


def control_table(plan: ThresholdPlan, controlled: ControlledRun) -> list[str]:
    """The same as lines of text: a site a line, its layers side by side."""
    lines = [f"{'sparsity':<12} of the last half of the jobs (of all), target {plan.sparsity:.1%}"]
    by_site: dict[str, list[str]] = {}
    for name, achieved in controlled.sparsity.items():
        site = name.split(".")[1]
        text = f"{achieved.last_half:.1%} ({achieved.all_jobs:.1%})"
        by_site.setdefault(site, []).append(text)
    return lines + [f"  {site:<15} {', '.join(texts)}" for site, texts in by_site.items()]
