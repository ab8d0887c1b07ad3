"""Single measurements that tables are made of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np

from acceltran.arch.config import AcceleratorConfig, ConfigError
from acceltran_bench.rows import Row
from acceltran_cli.bench_encoder import measure_encoder
from acceltran_cli.bench_product import measure_product
from acceltran_cli.options import choose_config
from acceltran_cli.sentences import shipped_classifier
from acceltran_sim.bench.product_job import ProductJob
from acceltran_sim.golden.encoder import SITES
from acceltran_sim.models.classifier import BERT_TINY_SST2
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.calibration import layer_tensors
from acceltran_sim.program.job import Job
from acceltran_sim.program.products import DEFAULT_ORDER
from acceltran_sim.program.quantize import quantize, quantize_model

__all__ = ["encoder_run", "product", "real_product", "row", "shipped_sentences", "text_job"]


def row(what: str, measure: Callable[[], tuple[float, dict[str, Any]]], **target: Any) -> Row:
    """A row with what ``measure`` says: value and figures, or why the machine cannot be built."""
    try:
        value, figures = measure()
    except ConfigError as error:
        return Row(what=what, note=f"not yet: {error}", **target)
    if not figures["bits_equal"]:
        raise RuntimeError(f"{what}: RTL and golden models differ")
    return Row(what=what, value=value, figures=figures, **target)


def _measured(job: ProductJob, preset: str) -> dict[str, Any]:
    figures = measure_product(job, memory_latency=20, seed=0)
    config = job.config
    return {"preset": preset, "multipliers": config.multipliers, **figures}


def product(preset: str, *settings: str, **shape: Any) -> dict[str, Any]:
    """Figures of a random product; ``shape`` as of ``ProductJob.random``."""
    job = ProductJob.random(choose_config(preset, settings), **shape)
    return {**shape, "settings": settings, **_measured(job, preset)}


def shipped_sentences() -> list[list[int]]:
    """Token numbers of the 16 sentences that ship with the classifier."""
    with np.load(BERT_TINY_SST2 / "golden_logits16.npz") as known:
        return [ids[keep].tolist() for ids, keep in zip(known["ids"], known["mask"], strict=True)]


def text_job(sentences: Sequence[Sequence[int]]) -> Job:
    """Input of the first layer of the shipped classifier."""
    hidden, lengths = shipped_classifier().embed(sentences)
    return Job(hidden=hidden, lengths=lengths)


def real_product(preset: str, density: float, rows: int) -> dict[str, Any]:
    """Figures of a feed-forward product of the shipped classifier, pruned to a density."""
    config = choose_config(preset, ())
    model = load_model(BERT_TINY_SST2)
    activation = layer_tensors(model, text_job(shipped_sentences()), 0)["activation"][:rows]
    kept = np.abs(activation) >= np.quantile(np.abs(activation), 1 - density)
    job = ProductJob(
        config,
        _integers(np.where(kept, activation, 0), config),
        _integers(model.layers[0].output, config),
    )
    return {"density": density, **_measured(job, preset)}


def _integers(x: Any, config: AcceleratorConfig) -> Any:
    exponent = math.ceil(math.log2(np.abs(x).max() / config.fmt.highest))
    return quantize(x, exponent, config.fmt)[0]


def encoder_run(
    preset: str, *, sparsity: float, batch: int, sequence: int, sites: Sequence[str] = SITES
) -> dict[str, Any]:
    """Figures of the first layer of the shipped classifier on text that fills all rows.

    The tensors of ``sites`` are pruned.
    """
    config = choose_config(preset, ())
    words = cycle(token for sentence in shipped_sentences() for token in sentence)
    job = text_job([list(islice(words, sequence)) for _ in range(batch)])
    encoder = quantize_model(
        load_model(BERT_TINY_SST2), job, fmt=config.fmt, sparsity=sparsity, layers=1
    )
    (layer,) = encoder.layers
    thresholds = {site: layer.thresholds[site] if site in sites else 0 for site in SITES}
    encoder = replace(encoder, layers=(replace(layer, thresholds=thresholds),))
    figures = measure_encoder(
        config, encoder, job, order=DEFAULT_ORDER, memory_latency=20, seed=0, stall=0.0
    )
    return {
        "preset": preset,
        "multipliers": config.multipliers,
        "sparsity": sparsity,
        "batch": batch,
        "sequence": sequence,
        **figures,
    }
