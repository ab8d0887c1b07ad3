"""Plots of the README, drawn from build/bench/*.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl  # pyright: ignore[reportMissingImports]
from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

__all__ = ["draw_all"]

STYLE: Any = {
    "svg.hashsalt": "acceltran",  # the same file for the same figures
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLOURS = {
    "query": "#4477aa",
    "key": "#66ccee",
    "value": "#228833",
    "scores": "#ccbb44",
    "softmax": "#ee6677",
    "context": "#aa3377",
    "attention_output": "#332288",
    "attention_norm": "#994455",
    "intermediate": "#117733",
    "output": "#999933",
    "output_norm": "#882255",
    "load": "#bbbbbb",
    "store": "#777777",
}
QUEUES = ("load", "product", "vector", "store")


def draw_all(results: Path, folder: Path) -> Iterator[Path]:
    """Draw what there are results for; yields the files written."""
    mpl.rcParams.update(STYLE)
    for name, draw, tables in (
        ("speedup", _speed_up, ("curves",)),
        ("timeline", _timeline, ("layer",)),
        ("stalls", _stalls, ("product", "sparse", "dram", "layer")),
    ):
        rows = [row for table in tables for row in _rows(results / f"{table}.json")]
        rows = [row for row in rows if row["figures"]]
        if rows:
            figure = draw(rows)
            path = folder / f"bench_{name}.svg"
            figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
            yield path


def _rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


def _speed_up(rows: list[dict[str, Any]]) -> Figure:
    """Speed-up against density, and the ideal."""
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        figures = row["figures"]
        series.setdefault(figures["series"], []).append((figures["density"], row["value"]))
    densities = sorted({density for points in series.values() for density, _ in points})
    ideals = [("ideal", 1, "k-")]
    if any(name.startswith("window") for name in series):
        ideals.append(("ideal, half of the weights", 2, "k:"))
    for name, factor, style in ideals:
        axes.plot(densities, [factor / d for d in densities], style, linewidth=1, label=name)
    labels = {
        "iid": "broadcast lane, iid",
        "clustered": "broadcast lane, clustered",
        "real": "broadcast lane, masks of the trained model",
        "dot lane": "the paper's dot-product lane, iid",
    }
    for name, points in series.items():
        x, y = zip(*sorted(points), strict=True)
        label = labels.get(name, f"{name}, half of the weights, iid")
        axes.plot(x, y, marker="o", markersize=4, linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = (0.05, 0.1, 0.25, 0.5, 1)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks((1, 2, 5, 10, 20, 40), ["1", "2", "5", "10", "20", "40"])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set_xlabel("density of the activations")
    axes.set_ylabel("speed-up over dense")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _timeline(rows: list[dict[str, Any]]) -> Figure:
    """Who is busy when in one encoder layer, on the largest machine that was measured."""
    figures = rows[-1]["figures"]
    figure = Figure(figsize=(10, 2.6))
    axes = figure.subplots()
    drawn = set()
    for part in figures["timeline"]:
        operation = part["operation"]
        axes.broken_barh(
            [(part["start"], part["end"] - part["start"])],
            (len(QUEUES) - 1 - QUEUES.index(part["queue"]) - 0.4, 0.8),
            color=COLOURS[operation],
            linewidth=0,
            label=None if operation in drawn else operation.replace("_", " "),
        )
        drawn.add(operation)
    axes.set_yticks(range(len(QUEUES)), list(reversed(QUEUES)))
    axes.set_xlim(0, figures["cycles"])
    axes.set_xlabel(
        f"cycle; BERT-Tiny layer, {figures['batch']} x {figures['sequence']} rows,"
        f" {figures['sparsity']:.0%} pruned, {figures['preset']}"
    )
    axes.legend(frameon=False, fontsize=8, ncols=7, loc="upper center", bbox_to_anchor=(0.5, 1.35))
    return figure


def _stalls(rows: list[dict[str, Any]]) -> Figure:
    """Lane-cycles that are lost, by cause."""
    figure = Figure(figsize=(9, 0.3 * len(rows) + 1.2))
    axes = figure.subplots()
    causes = list(rows[0]["figures"]["stalls"])
    left = [0.0] * len(rows)
    names = [row["what"].rsplit(":", 1)[0] for row in rows]
    for cause in causes:
        shares = []
        for row in rows:
            busy, stalls = row["figures"]["busy"], row["figures"]["stalls"]
            shares.append(100 * stalls[cause] / (busy + sum(stalls.values())))
        axes.barh(names, shares, left=left, label=cause, height=0.7)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("lane-cycles without a product, %")
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=len(causes),
        loc="lower center",
        bbox_to_anchor=(0.3, 1),
    )
    return figure
