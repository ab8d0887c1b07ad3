"""A power-of-two scale for every tensor."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import (
    BETA_SHIFT_MAX,
    OUTPUT_SHIFT_MAX,
    LayerNormFormat,
    least_input_exponent,
)
from acceltran.arch.softmax_format import softmax_constant
from acceltran_sim.errors import InputError
from acceltran_sim.models.encoder_model import EncoderModel, LayerWeights
from acceltran_sim.program.calibration import Calibration

__all__ = ["PRODUCTS", "LayerScales", "activation_exponent", "choose_scales", "weight_exponent"]

SHIFT_MAX = 63
GELU_SHIFT_MAX = 31

PRODUCTS = (
    ("query", "input"),
    ("key", "input"),
    ("value", "input"),
    ("attention_output", "context"),
    ("intermediate", "attention_norm"),
    ("output", "activation"),
)
"""Products with a weight matrix: name of matrix and result, and the tensor it is applied to."""
NORMS = (
    ("attention_norm", "input", "attention_output"),
    ("output_norm", "attention_norm", "output"),
)
"""Layer norms: name, and the two summands."""


@dataclass(frozen=True, kw_only=True)
class LayerScales:
    """Exponents of one layer: a raw integer stands for ``raw * 2 ** exponent``."""

    activations: Mapping[str, int]
    """By tensor."""
    weights: Mapping[str, int]
    """By field of ``LayerWeights``."""


def _ceil_log2(x: float) -> int:
    mantissa, exponent = math.frexp(x)
    return exponent - 1 if mantissa == 0.5 else exponent


def activation_exponent(maximum: float, fmt: FixedPoint) -> int:
    """Least exponent at which ``maximum`` leaves one bit of headroom."""
    return _ceil_log2(maximum) - (fmt.width - 2) if maximum else -fmt.frac_bits


def weight_exponent(maximum: float, fmt: FixedPoint) -> int:
    """Least exponent at which ``maximum`` fits."""
    if not maximum:
        return -fmt.frac_bits
    exponent = _ceil_log2(maximum) - (fmt.width - 1)
    return exponent if maximum <= math.ldexp(fmt.highest, exponent) else exponent + 1


def choose_scales(
    model: EncoderModel, calibration: Calibration, fmt: FixedPoint
) -> tuple[LayerScales, ...]:
    """Choose the scale of every tensor of all layers.

    Each tensor gets the finest scale at which what the calibration saw fits; then scales are made
    coarser until every command can represent its shifts. InputError if that does not help.
    """
    layers = [
        _Layer(model, weights, maxima, fmt)
        for weights, maxima in zip(model.layers, calibration.maxima, strict=True)
    ]
    # A rule only ever makes a scale coarser; few rounds settle all of them.
    for _ in range(64):
        before = [(dict(layer.activations), dict(layer.weights)) for layer in layers]
        # Ties come first: a shift depends on scales that they may have made coarser.
        for n, layer in enumerate(layers):
            layer.tie()
            if n:
                _tie((layers[n - 1].activations, "output_norm"), (layer.activations, "input"))
        for layer in layers:
            layer.apply_rules()
        if before == [(layer.activations, layer.weights) for layer in layers]:
            break
    for n, layer in enumerate(layers):
        for rule in layer.broken_rules():
            raise InputError(f"Tensors of layer {n} must be representable: {rule}")
    return tuple(
        LayerScales(activations=layer.activations, weights=layer.weights) for layer in layers
    )


def _tie(*places: tuple[dict[str, int], str]) -> None:
    """Give tensors the coarsest of their scales."""
    coarsest = max(exponents[name] for exponents, name in places)
    for exponents, name in places:
        exponents[name] = coarsest


def _coarsen(exponents: dict[str, int], name: str, least: int) -> None:
    exponents[name] = max(exponents[name], least)


class _Layer:
    """Exponents of one layer while they are being chosen."""

    def __init__(
        self,
        model: EncoderModel,
        weights: LayerWeights,
        maxima: Mapping[str, float],
        fmt: FixedPoint,
    ):
        self.config = model.config
        self.fmt = fmt
        self.result_frac_bits = LayerNormFormat.of(fmt).result_frac_bits
        self.maxima = maxima
        self.activations = {
            name: activation_exponent(maximum, fmt) for name, maximum in maxima.items()
        }
        # Probabilities have the format's own scale, a context is never larger than the values.
        self.activations["probabilities"] = -fmt.frac_bits
        self.activations["context"] = self.activations["value"]
        if self.config.activation == "relu":
            self.activations["intermediate"] = self.activations["activation"]
        self.weights = {
            name: weight_exponent(float(np.abs(tensor).max()), fmt)
            for name, tensor in vars(weights).items()
        }

    def tie(self) -> None:
        """Give tensors that are added, or passed on unscaled, one scale."""
        x = self.activations
        _tie((x, "value"), (x, "context"))
        if self.config.activation == "relu":
            _tie((x, "intermediate"), (x, "activation"))
        for _, a, b in NORMS:
            _tie((x, a), (x, b))

    def apply_rules(self) -> None:
        """Make scales coarser until every shift of a command can be represented."""
        x, w, fmt = self.activations, self.weights, self.fmt
        for name, source in PRODUCTS:
            bias = f"{name}_bias"
            _coarsen(w, name, x[name] - x[source] - SHIFT_MAX)
            _coarsen(w, name, w[bias] - x[source] - SHIFT_MAX)
            _coarsen(w, bias, x[source] + w[name])
            _coarsen(x, name, x[source] + w[name])
        _coarsen(x, "query", x["scores"] - x["key"] - SHIFT_MAX)
        _coarsen(x, "scores", x["query"] + x["key"])
        if self._score_shift() > SHIFT_MAX:
            _coarsen(x, "scores", x["scores"] + self._score_shift() - SHIFT_MAX)
        if self.config.activation == "gelu":
            for name in ("intermediate", "activation"):
                _coarsen(x, name, -fmt.frac_bits)
        least = least_input_exponent(columns=self.config.hidden, eps=self.config.eps)
        for name, a, b in NORMS:
            _coarsen(x, a, least)
            _coarsen(x, b, least)
            gamma, beta = f"{name}_gamma", f"{name}_beta"
            _coarsen(w, gamma, w[beta] + self.result_frac_bits - BETA_SHIFT_MAX)
            _coarsen(w, gamma, x[name] + self.result_frac_bits - OUTPUT_SHIFT_MAX)
            _coarsen(w, beta, w[gamma] - self.result_frac_bits)
            _coarsen(x, name, w[gamma] - self.result_frac_bits)

    def _score_shift(self) -> int:
        # The shift follows the scale one to one; the reference scale is always representable.
        reference = self.fmt.frac_bits
        _, shift = softmax_constant(self.config.head_size, reference, self.fmt)
        return shift - reference - self.activations["scores"]

    def broken_rules(self) -> Iterator[str]:
        """Rules that no coarser scale mends, as sentences."""
        x, w = self.activations, self.weights
        if self._score_shift() < 0:
            yield f"query times key reaches {self.maxima['scores']:.3g}, too much for softmax"
        if self.config.activation == "gelu":
            for name in ("intermediate", "activation"):
                if x[name] + self.fmt.frac_bits > GELU_SHIFT_MAX:
                    yield f"the {name} of GELU reaches {self.maxima[name]:.3g}"
        for name, source in PRODUCTS:
            for result in (x[name], w[f"{name}_bias"]):
                if not 0 <= result - x[source] - w[name] <= SHIFT_MAX:
                    yield f"{name} reaches {self.maxima[name]:.3g}"
        for name, _, _ in NORMS:
            shift = x[name] - w[f"{name}_gamma"] + self.result_frac_bits
            if not 0 <= shift <= OUTPUT_SHIFT_MAX:
                yield f"{name} reaches {self.maxima[name]:.3g}"
