"""Float run of an encoder that observes the range of every tensor."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran_sim.golden.encoder import SITES
from acceltran_sim.models.encoder_config import EncoderConfig
from acceltran_sim.models.encoder_model import EncoderModel, LayerWeights
from acceltran_sim.program.job import Job

__all__ = ["Calibration", "calibrate", "float_layers", "layer_tensors"]

Array = npt.NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What an unpruned float64 run saw, over valid rows and keys only; one entry per layer."""

    maxima: tuple[Mapping[str, float], ...]
    """Greatest magnitude of each tensor."""
    quantiles: tuple[Mapping[str, float], ...]
    """Magnitude below which the wanted part of each of ``SITES`` lies; empty without sparsity."""


def calibrate(model: EncoderModel, job: Job, *, sparsity: float | None = None) -> Calibration:
    """Run all layers of ``model`` on ``job``, and observe.

    Parameters
    ----------
    model : EncoderModel
        Encoder.
    job : Job
        Representative input.
    sparsity : float, optional
        Also take this quantile (``lower``) of the magnitudes of every tensor of ``SITES``.
    """
    maxima, quantiles = [], []
    for elements in float_layers(model, job):
        seen: dict[str, float] = {}
        magnitudes: dict[str, list[Array]] = {site: [] for site in SITES}
        for tensors in elements:
            for name, tensor in tensors.items():
                seen[name] = max(seen.get(name, 0.0), float(np.abs(tensor).max()))
            if sparsity is not None:
                for site in SITES:
                    magnitudes[site].append(np.abs(tensors[site]).ravel())
        maxima.append(seen)
        if sparsity is not None:
            quantiles.append({
                site: float(np.quantile(np.concatenate(parts), sparsity, method="lower"))
                for site, parts in magnitudes.items()
            })
    return Calibration(maxima=tuple(maxima), quantiles=tuple(quantiles))


def layer_tensors(model: EncoderModel, job: Job, layer: int) -> dict[str, Array]:
    """Tensors that a layer computes from valid rows, those of all batch elements one below the
    other; of those with heads or keys as columns nothing.
    """
    tensors: list[dict[str, Array]] = []
    for _, elements in zip(range(layer + 1), float_layers(model, job), strict=False):
        tensors = list(elements)
    return {
        name: np.concatenate([part[name] for part in tensors])
        for name, tensor in tensors[0].items()
        if tensor.ndim == 2
    }


def float_layers(model: EncoderModel, job: Job) -> Iterator[Iterator[dict[str, Array]]]:
    """Of each layer, of each batch element: all tensors by name, of valid rows and keys only.

    Each batch element of a layer must be consumed before the next layer is.
    """
    rows = [
        row[:length].astype(np.float64) for row, length in zip(job.hidden, job.lengths, strict=True)
    ]

    def run(layer: LayerWeights) -> Iterator[dict[str, Array]]:
        for b, x in enumerate(rows):
            tensors = _layer(x, layer, model.config)
            rows[b] = tensors["output_norm"]
            yield tensors

    for layer in model.layers:
        yield run(layer)


def _layer(x: Array, layer: LayerWeights, config: EncoderConfig) -> dict[str, Array]:
    def split(y: Array) -> Array:
        return y.reshape(len(x), config.heads, config.head_size).transpose(1, 0, 2)

    query = split(x @ layer.query + layer.query_bias)
    key = split(x @ layer.key + layer.key_bias)
    value = split(x @ layer.value + layer.value_bias)
    scores = query @ key.transpose(0, 2, 1)
    logits = scores / math.sqrt(config.head_size)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    context = probabilities @ value
    joined = context.transpose(1, 0, 2).reshape(x.shape)
    attention_output = joined @ layer.attention_output + layer.attention_output_bias
    attention_norm = _norm(
        x + attention_output, layer.attention_norm_gamma, layer.attention_norm_beta, config.eps
    )
    intermediate = attention_norm @ layer.intermediate + layer.intermediate_bias
    if config.activation == "gelu":
        activation = 0.5 * intermediate * (1 + _erf(intermediate * math.sqrt(0.5)))
    else:
        activation = np.maximum(intermediate, 0)
    output = activation @ layer.output + layer.output_bias
    output_norm = _norm(
        attention_norm + output, layer.output_norm_gamma, layer.output_norm_beta, config.eps
    )
    return {
        "input": x,
        "query": query,
        "key": key,
        "value": value,
        "scores": scores,
        "probabilities": probabilities,
        "context": context,
        "attention_output": attention_output,
        "attention_norm": attention_norm,
        "intermediate": intermediate,
        "activation": activation,
        "output": output,
        "output_norm": output_norm,
    }


def _norm(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    deviation = x - x.mean(axis=-1, keepdims=True)
    variance = (deviation * deviation).mean(axis=-1, keepdims=True)
    # A constant row with eps 0 is 0 / 0, which hardware takes for 0.
    sigma = np.sqrt(variance + eps)
    normal = np.divide(deviation, sigma, out=np.zeros_like(x), where=sigma > 0)
    return normal * gamma + beta
