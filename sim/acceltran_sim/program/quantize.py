"""From float weights, scales and a pruning target to the integers of the commands."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import COLUMNS_MAX, LayerNormFields
from acceltran.arch.softmax_format import softmax_constant
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import (
    SITES,
    Linear,
    Norm,
    QuantizedEncoder,
    QuantizedLayer,
)
from acceltran_sim.models.encoder_model import EncoderModel, LayerWeights
from acceltran_sim.program.calibration import calibrate
from acceltran_sim.program.job import Job
from acceltran_sim.program.scales import NORMS, PRODUCTS, LayerScales, choose_scales

__all__ = ["prune_all", "quantize", "quantize_model", "raw_threshold"]

ACTIVATIONS = {"gelu": Activation.GELU, "relu": Activation.RELU}


def quantize(
    x: npt.NDArray[np.floating], exponent: int, fmt: FixedPoint
) -> tuple[npt.NDArray[np.int64], int]:
    """Round ``x / 2 ** exponent`` half up and saturate; also return how many values that clips."""
    nearest = np.floor(np.ldexp(x.astype(np.float64), -exponent) + 0.5)
    clipped = np.clip(nearest, fmt.lowest, fmt.highest)
    return clipped.astype(np.int64), int(np.count_nonzero(clipped != nearest))


def prune_all(fmt: FixedPoint) -> int:
    """Raw threshold above every magnitude of ``fmt``."""
    return (1 << (fmt.width - 1)) + 1


def raw_threshold(threshold: float, exponent: int, fmt: FixedPoint) -> int:
    """Least raw magnitude that is kept; ``prune_all`` if no code reaches ``threshold``."""
    if threshold > math.ldexp(fmt.highest, exponent):
        return prune_all(fmt)
    return math.ceil(math.ldexp(threshold, -exponent))


def quantize_model(
    model: EncoderModel,
    calibration: Job,
    *,
    fmt: FixedPoint,
    threshold: float = 0.0,
    sparsity: float | None = None,
    layers: int | None = None,
) -> QuantizedEncoder:
    """Quantise the first layers of an encoder.

    Scales are those of the full depth: they depend on the model, the calibration and the format.

    Parameters
    ----------
    model : EncoderModel
        Encoder in float.
    calibration : Job
        Input of the float run that scales are chosen from.
    fmt : FixedPoint
        Number format.
    threshold : float
        DynaTran threshold of all sites, in real units; finite, at least 0.
    sparsity : float, optional
        Instead of ``threshold``: the part of each site's values to prune, 0 <= sparsity < 1.
    layers : int, optional
        Number of layers, 1 to all; default all.
    """
    if not (math.isfinite(threshold) and threshold >= 0):
        raise InputError(f"Threshold must be finite and at least 0, not {threshold}")
    if sparsity is not None and not 0 <= sparsity < 1:
        raise InputError(f"Sparsity must be at least 0 and below 1, not {sparsity}")
    if sparsity is not None and threshold:
        raise InputError(f"Threshold must not be given with a sparsity, not {threshold}")
    if model.config.hidden > COLUMNS_MAX:
        raise InputError(
            f"hidden_size of the model must be at most {COLUMNS_MAX}, not {model.config.hidden}"
        )
    depth = model.config.layers
    if layers is not None and not 1 <= layers <= depth:
        raise InputError(f"Layers must be from 1 to the model's {depth}, not {layers}")

    observed = calibrate(model, calibration, sparsity=sparsity)
    scales = choose_scales(model, observed, fmt)
    wanted: list[Mapping[str, float]] = [dict.fromkeys(SITES, threshold)] * depth
    if sparsity is not None:
        wanted = list(observed.quantiles)
    return QuantizedEncoder(
        fmt=fmt,
        layers=tuple(
            _layer(model, model.layers[n], scales[n], wanted[n], fmt)
            for n in range(layers or depth)
        ),
    )


def _layer(
    model: EncoderModel,
    weights: LayerWeights,
    scales: LayerScales,
    thresholds: Mapping[str, float],
    fmt: FixedPoint,
) -> QuantizedLayer:
    x, w = scales.activations, scales.weights

    def raw(name: str) -> npt.NDArray[np.int64]:
        return quantize(getattr(weights, name), w[name], fmt)[0]

    def linear(name: str, source: str) -> Linear:
        sums = x[source] + w[name]
        return Linear(
            matrix=raw(name),
            bias=raw(f"{name}_bias"),
            bias_shift=w[f"{name}_bias"] - sums,
            shift=x[name] - sums,
        )

    def norm(name: str, a: str) -> Norm:
        return Norm(
            gamma=raw(f"{name}_gamma"),
            beta=raw(f"{name}_beta"),
            fields=LayerNormFields.of(
                fmt=fmt,
                columns=model.config.hidden,
                eps=model.config.eps,
                input_exponent=x[a],
                gamma_exponent=w[f"{name}_gamma"],
                beta_exponent=w[f"{name}_beta"],
                output_exponent=x[name],
            ),
        )

    constant, shift = softmax_constant(model.config.head_size, -x["scores"], fmt)
    function = ACTIVATIONS[model.config.activation]
    uses_table = function == Activation.GELU
    parts: dict[str, Any] = {name: linear(name, source) for name, source in PRODUCTS}
    parts |= {name: norm(name, a) for name, a, _ in NORMS}
    return QuantizedLayer(
        heads=model.config.heads,
        score_shift=x["scores"] - x["query"] - x["key"],
        softmax_constant=constant,
        softmax_shift=shift,
        context_shift=x["context"] - x["probabilities"] - x["value"],
        function=function,
        gelu_input_shift=x["intermediate"] + fmt.frac_bits if uses_table else 0,
        gelu_output_shift=x["activation"] + fmt.frac_bits if uses_table else 0,
        thresholds={site: raw_threshold(thresholds[site], x[site], fmt) for site in SITES},
        exponents=dict(x),
        **parts,
    )
