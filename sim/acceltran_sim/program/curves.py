"""Threshold curves: fitted in float, kept as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acceltran.arch.threshold_curve import POINTS, SEGMENTS
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import SITES
from acceltran_sim.models.encoder_config import EncoderConfig
from acceltran_sim.models.encoder_model import EncoderModel
from acceltran_sim.program.calibration import float_layers
from acceltran_sim.program.job import Job

__all__ = ["SCALED_BY_KEYS", "Curves", "curves_text", "fit_curves", "load_curves"]

FORMAT = "acceltran threshold curves"
VERSION = 1
SIZES = ("hidden", "heads", "intermediate")
SCALED_BY_KEYS = ("probabilities",)
"""Sites whose curve is of magnitude times keys: a row of probabilities has the sum 1, so that what
is small depends on how many share it."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Threshold of each site as a function of sparsity, in real units."""

    layers: tuple[Mapping[str, tuple[float, ...]], ...]
    """By layer and site, the threshold at the sparsities 0, 1/32 ... 1."""
    elements: Mapping[str, float]
    """By site, elements of the tensor of a batch element, on average."""


def fit_curves(model: EncoderModel, job: Job, *, layers: int | None = None) -> Curves:
    """Take quantiles (``lower``) of the magnitudes of an unpruned float64 run on ``job``.

    InputError unless ``layers`` is from 1 to the model's depth; default: all.
    """
    depth = model.config.layers
    if layers is not None and not 1 <= layers <= depth:
        raise InputError(f"Layers must be from 1 to the model's {depth}, not {layers}")
    sparsities = np.arange(POINTS) / SEGMENTS
    curves = []
    elements: dict[str, float] = {}
    for _, tensors_of_layer in zip(range(layers or depth), float_layers(model, job), strict=False):
        magnitudes: dict[str, list[Any]] = {site: [] for site in SITES}
        for tensors in tensors_of_layer:
            for site, parts in magnitudes.items():
                factor = tensors[site].shape[-1] if site in SCALED_BY_KEYS else 1
                parts.append(factor * np.abs(tensors[site]).ravel())
        curves.append({
            site: tuple(np.quantile(np.concatenate(parts), sparsities, method="lower").tolist())
            for site, parts in magnitudes.items()
        })
        elements = {site: sum(map(len, parts)) / len(parts) for site, parts in magnitudes.items()}
    return Curves(layers=tuple(curves), elements=elements)


def curves_text(curves: Curves, config: EncoderConfig) -> str:
    """JSON of the curves of a model."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": {name: getattr(config, name) for name in SIZES},
        "segments": SEGMENTS,
        "unit": "threshold in real units at sparsity 0, 1/32 ... 1; of probabilities: times keys",
        "elements": dict(curves.elements),
        "layers": [
            {site: list(points) for site, points in layer.items()} for layer in curves.layers
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def load_curves(path: str | Path, config: EncoderConfig, *, layers: int) -> Curves:
    """Read what ``curves_text`` wrote, for at least ``layers`` layers of the model of ``config``.

    InputError, with one sentence, for everything else.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} must be readable: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} must be JSON as acceltran profile writes it") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} must be JSON as acceltran profile writes it")
    for key, wanted in (("version", VERSION), ("segments", SEGMENTS)):
        if content.get(key) != wanted:
            raise InputError(f"{key} of {path} must be {wanted}, not {content.get(key)!r}")
    sizes = content.get("model")
    for name in SIZES:
        found = sizes.get(name) if isinstance(sizes, dict) else None
        if found != getattr(config, name):
            raise InputError(
                f"{name} of {path} must be the model's {getattr(config, name)}, not {found!r}"
            )
    elements = _by_site(content.get("elements"), f"elements of {path}")
    for site, count in elements.items():
        if not _is_number(count) or count < 1:
            raise InputError(f"elements of {site} in {path} must be at least 1, not {count!r}")
    found = content.get("layers")
    if not isinstance(found, list) or len(found) < layers:
        count = len(found) if isinstance(found, list) else found
        raise InputError(f"{path} must have curves of {layers} layers, not {count!r}")
    return Curves(
        layers=tuple(
            {
                site: _points(points, f"Curve of {site} of layer {n} in {path}")
                for site, points in _by_site(layer, f"layer {n} of {path}").items()
            }
            for n, layer in enumerate(found[:layers])
        ),
        elements=elements,
    )


def _by_site(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or set(content) != set(SITES):
        raise InputError(f"{where} must have the sites {', '.join(SITES)}")
    return {site: content[site] for site in SITES}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _points(content: Any, where: str) -> tuple[float, ...]:
    if not isinstance(content, list) or len(content) != POINTS:
        raise InputError(f"{where} must be a list of {POINTS} numbers")
    for value in content:
        if not _is_number(value) or value < 0:
            raise InputError(f"{where} must hold finite numbers of at least 0, not {value!r}")
    for low, high in zip(content, content[1:], strict=False):
        if high < low:
            raise InputError(f"{where} must not fall, as it does from {low} to {high}")
    return tuple(float(value) for value in content)
