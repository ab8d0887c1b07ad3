"""Encoder in float64, written straight from its definition: the reference of accuracy tests."""

import math

import numpy as np

from acceltran_sim.models.encoder_model import EncoderModel

__all__ = ["encode_float"]

ERF = np.vectorize(math.erf, otypes=[np.float64])


def encode_float(model: EncoderModel, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Output of the last layer, [batch, sequence, hidden]; zero beyond the lengths."""
    result = np.zeros(hidden.shape)
    for b, n in enumerate(lengths):
        x = hidden[b, :n].astype(np.float64)
        for layer in model.layers:
            x = encoder_layer(x, layer, model.config)
        result[b, :n] = x
    return result


def encoder_layer(x, w, config):
    """One layer on the valid rows of one batch element."""
    n, d = len(x), config.head_size
    q = np.einsum("nh,ho->no", x, w.query) + w.query_bias
    k = np.einsum("nh,ho->no", x, w.key) + w.key_bias
    v = np.einsum("nh,ho->no", x, w.value) + w.value_bias
    context = np.empty((n, config.hidden))
    for start in range(0, config.hidden, d):
        part = slice(start, start + d)
        scores = np.einsum("id,jd->ij", q[:, part], k[:, part]) / math.sqrt(d)
        weights = np.exp(scores - scores.max(axis=1)[:, None])
        weights /= weights.sum(axis=1)[:, None]
        context[:, part] = weights @ v[:, part]
    attended = np.einsum("nh,ho->no", context, w.attention_output) + w.attention_output_bias
    x = norm(x + attended, w.attention_norm_gamma, w.attention_norm_beta, config.eps)
    inner = np.einsum("nh,ho->no", x, w.intermediate) + w.intermediate_bias
    if config.activation == "gelu":
        inner = inner * (1 + ERF(inner / math.sqrt(2))) / 2
    else:
        inner = np.where(inner > 0, inner, 0)
    y = np.einsum("nh,ho->no", inner, w.output) + w.output_bias
    return norm(x + y, w.output_norm_gamma, w.output_norm_beta, config.eps)


def norm(x, gamma, beta, eps):
    """Layer norm of every row."""
    deviation = x - x.mean(axis=1)[:, None]
    return deviation / np.sqrt(np.var(x, axis=1)[:, None] + eps) * gamma + beta
