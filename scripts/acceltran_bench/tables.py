"""What `make bench` measures, and what has to come out."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from acceltran.arch.presets import preset
from acceltran_bench.generation import generation
from acceltran_bench.measure import encoder_run, product, real_product, row, shipped_sentences
from acceltran_bench.rows import Row
from acceltran_cli.sentences import classify_tokens, shipped_classifier
from acceltran_sim.models.classifier import BERT_TINY_SST2

__all__ = ["TABLES"]

ROWS = 512
SPARSE = {0.5: 0.98, 0.25: 0.97, 0.1: 0.94}
"""Parts of the ideal to reach at densities, with operands in the buffers."""
FROM_DRAM = {
    0.5: (0.94, {"rows": 1024, "inner": 256, "columns": 1024}),
    0.25: (0.92, {"rows": 2048, "inner": 256, "columns": 1024}),
    0.1: (0.85, {"rows": 1024, "inner": 512, "columns": 2048}),
}
"""The same with operands and result in DRAM, and shapes for which bandwidth allows it: feed-forward
products of BERT-Mini, 8 and 16 sentences of 128 tokens, and of BERT-Small, 8 sentences."""
BUS_BOUND: dict[str, Any] = {"rows": 32, "inner": 512, "columns": 2048}
"""A shape whose weights take longer to load than its products at a density up to 0.5."""
CLUSTERED_LOSS = 0.03
DENSITIES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.05)


def dense() -> Iterator[Row]:
    """Use of the multipliers by dense products."""

    def measure(preset: str, columns: int) -> tuple[float, dict[str, Any]]:
        figures = product(preset, rows=ROWS, inner=256, columns=columns, density=1.0)
        used = figures["multiplier_cycles"] / (figures["multipliers"] * figures["cycles"])
        return used, figures

    for name, columns, target in (("tiny", 128, 0.98), ("tiny2", 128, 0.97), ("medium", 512, 0.97)):
        yield row(
            f"dense product, {name}, {ROWS} x 256 x {columns}: multipliers used",
            lambda name=name, columns=columns: measure(name, columns),
            at_least=target,
        )


def sparse() -> Iterator[Row]:
    """Sparse products of one PE, operands in the buffers."""

    def measure(density: float, masks: str) -> tuple[float, dict[str, Any]]:
        figures = product("tiny", rows=ROWS, inner=256, columns=128, density=density, masks=masks)
        return figures["efficiency"], figures

    for density, target in SPARSE.items():
        iid = row(
            f"density {density}, iid, tiny, {ROWS} x 256 x 128: part of the ideal",
            lambda density=density: measure(density, "iid"),
            at_least=target,
        )
        yield iid
        assert iid.value is not None
        yield row(
            f"density {density}, clustered, tiny, {ROWS} x 256 x 128: part of the ideal",
            lambda density=density: measure(density, "clustered"),
            at_least=iid.value - CLUSTERED_LOSS,
        )


def dram() -> Iterator[Row]:
    """Sparse products of `medium`, operands and result in DRAM."""
    for density, (target, shape) in FROM_DRAM.items():
        figures = product("medium", from_dram=True, density=density, **shape)
        bus = figures["bandwidth_bound_cycles"] / figures["cycles"]
        size = " x ".join(map(str, shape.values()))
        yield row(
            f"density {density}, medium, {size}, DRAM (bus {bus:.0%}): part of the ideal",
            lambda figures=figures: (figures["efficiency"], figures),
            at_least=target,
        )
    for density in FROM_DRAM:
        figures = product("medium", from_dram=True, density=density, **BUS_BOUND)
        size = " x ".join(map(str, BUS_BOUND.values()))
        yield row(
            f"density {density}, medium, {size}, DRAM: cycles over those of the bus alone",
            lambda figures=figures: (
                figures["cycles"] / figures["bandwidth_bound_cycles"],
                figures,
            ),
            at_most=1.05,
        )


def window() -> Iterator[Row]:
    """Gain from skipping zero weights."""
    shape: dict[str, Any] = {"rows": ROWS, "inner": 256, "columns": 128, "weight_density": 0.5}
    for masks in ("iid", "clustered"):
        for density in (1.0, 0.5):
            without = product("tiny", density=density, masks=masks, **shape)

            def measure(
                size: int, density: float = density, masks: str = masks, without: Any = without
            ) -> tuple[float, dict[str, Any]]:
                setting = f"datapath.weight_window={size}"
                figures = product("tiny", setting, density=density, masks=masks, **shape)
                return without["cycles"] / figures["cycles"], figures

            for size, target in ((8, 1.55), (16, 1.70)):
                yield row(
                    f"weight density 0.5, density {density}, {masks}, window {size}: gain over 0",
                    lambda size=size, measure=measure: measure(size),
                    at_least=target if masks == "iid" else None,
                )


def context() -> Iterator[Row]:
    """Products of attention probabilities and values."""

    def measure() -> tuple[float, dict[str, Any]]:
        figures = encoder_run(
            "medium", sparsity=0.9, batch=4, sequence=128, sites=("probabilities",)
        )
        return figures["operations"]["context"]["efficiency"], figures

    yield row(
        "S.V, head size 64, 4 x 128 rows, S pruned to 10 %, medium: part of the ideal",
        measure,
        at_least=0.85,
    )


def layer() -> Iterator[Row]:
    """A whole layer: cycles over those that its products need."""
    for name, target in (("tiny", None), ("tiny2", None), ("medium", 1.05)):
        figures = encoder_run(name, sparsity=0.5, batch=4, sequence=128)
        what = f"BERT-Tiny layer, 4 x 128 rows, 50 % pruned, {name}: cycles over"
        yield Row(
            what=f"{what} ideal",
            value=figures["cycles"] / figures["ideal_cycles"],
            at_most=target,
            figures=figures,
        )
        # Zeros of the second factor cost cycles without a window.
        both = figures["products_effectual"] / figures["multipliers"]
        yield Row(what=f"{what} those of both factors", value=figures["cycles"] / both)


def curves() -> Iterator[Row]:
    """Speed-up against density."""
    shape: dict[str, Any] = {"rows": ROWS, "inner": 256, "columns": 128}
    series: dict[str, Callable[[float], dict[str, Any]]] = {
        "iid": lambda density: product("tiny", density=density, **shape),
        "clustered": lambda density: product("tiny", density=density, masks="clustered", **shape),
        "real": lambda density: real_product("tiny", density, ROWS),
        "dot lane": lambda density: product("tiny", "datapath.lane=dot", density=density, **shape),
    }
    for size in (0, 8, 16):
        series[f"window {size}"] = lambda density, size=size: product(
            "tiny",
            f"datapath.weight_window={size}",
            density=density,
            weight_density=0.5,
            **shape,
        )

    def measure(name: str, density: float) -> tuple[float, dict[str, Any]]:
        figures = {"series": name, **series[name](density)}
        speed_up = figures["products_dense"] / figures["multipliers"] / figures["cycles"]
        return speed_up, figures

    for name in series:
        for density in DENSITIES:
            line = row(
                f"{name}, density {density}: speed-up over all multipliers at work on all products",
                lambda name=name, density=density: measure(name, density),
            )
            yield line
            if line.value is None:
                break


def sentences() -> Iterator[Row]:
    """The 16 sentences that ship, pruned: cycles saved, and labels that stay."""
    classifier = shipped_classifier()
    with np.load(BERT_TINY_SST2 / "golden_logits16.npz") as known:
        labels = [classifier.labels[n] for n in known["logits"].argmax(axis=1)]
    for name in ("tiny", "tiny2"):
        config = preset(name)
        dense = 0
        for sparsity in (0.0, 0.25, 0.5, 0.75, 0.9):
            result = classify_tokens(
                config, classifier, shipped_sentences(), backend="rtl", sparsity=sparsity
            )
            counters = result.run.counters
            assert counters is not None
            dense = dense or counters["cycles"]
            same = sum(a == b for a, b in zip(result.labels, labels, strict=True))
            ideal = result.run.products_effectual / config.multipliers
            yield Row(
                what=f"16 sentences, {name}, {sparsity:.0%} pruned, {same} labels kept: speed-up",
                value=dense / counters["cycles"],
                figures={
                    "preset": name,
                    "sparsity": sparsity,
                    "products_dense": result.run.products_dense,
                    "products_effectual": result.run.products_effectual,
                    "cycles": counters["cycles"],
                    "ideal_cycles": ideal,
                    "same_label": same,
                    "counters": dict(counters),
                },
            )


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "product": dense,
    "sparse": sparse,
    "dram": dram,
    "context": context,
    "window": window,
    "layer": layer,
    "curves": curves,
    "sentences": sentences,
    "generate": generation,
}
