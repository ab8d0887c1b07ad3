"""Encoder weights from a model folder as Hugging Face writes it."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acceltran_sim.errors import InputError
from acceltran_sim.models.encoder_config import EncoderConfig, load_config
from acceltran_sim.models.tensor_file import TensorFile

__all__ = ["EncoderModel", "LayerWeights", "load_model", "model_folder", "tensor_prefix"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWeights:
    """Parameters of one encoder layer; matrices are [inputs, outputs]."""

    query: Array
    query_bias: Array
    key: Array
    key_bias: Array
    value: Array
    value_bias: Array
    attention_output: Array
    attention_output_bias: Array
    attention_norm_gamma: Array
    attention_norm_beta: Array
    intermediate: Array
    intermediate_bias: Array
    output: Array
    output_bias: Array
    output_norm_gamma: Array
    output_norm_beta: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderModel:
    """An encoder: its shape and the weights of its layers, float64."""

    config: EncoderConfig
    """Shape."""
    layers: tuple[LayerWeights, ...]
    """One entry per layer, the first one first."""


def model_folder(folder: str | Path) -> Path:
    """Return ``folder`` as a path; InputError if it is not a folder."""
    path = Path(folder)
    if not os.path.isdir(path):  # noqa: PTH112, a path that is too long is none
        raise InputError(f"Model must be a folder with config.json and model.safetensors: {path}")
    return path


def load_model(folder: str | Path) -> EncoderModel:
    """Read the encoder of a BERT or RoBERTa model folder.

    ``config.json`` and ``model.safetensors`` (F32, F16 or BF16) are read; keys missing in the
    configuration take Hugging Face's defaults. Only the encoder's tensors are needed, under the
    prefix ``bert.`` or ``roberta.`` or none; other tensors are ignored. Everything else raises
    InputError with one sentence that names the value and the rule.
    """
    path = model_folder(folder)
    config, _ = load_config(path)
    with TensorFile(path / "model.safetensors") as tensors:
        prefix = tensor_prefix(tensors, config)
        layers = tuple(
            _layer(tensors, f"{prefix}encoder.layer.{n}.", config) for n in range(config.layers)
        )
    return EncoderModel(config=config, layers=layers)


def tensor_prefix(tensors: TensorFile, config: EncoderConfig) -> str:
    """Prefix of the encoder's tensors: the model type's, unless only bare names are there."""
    probe = "encoder.layer.0.attention.self.query.weight"
    named = f"{config.model_type}."
    return named if named + probe in tensors.names or probe not in tensors.names else ""


def _layer(tensors: TensorFile, prefix: str, config: EncoderConfig) -> LayerWeights:
    hidden, inner = config.hidden, config.intermediate
    weights: dict[str, Array] = {}
    for field, name, inputs, outputs in (
        ("query", "attention.self.query", hidden, hidden),
        ("key", "attention.self.key", hidden, hidden),
        ("value", "attention.self.value", hidden, hidden),
        ("attention_output", "attention.output.dense", hidden, hidden),
        ("intermediate", "intermediate.dense", hidden, inner),
        ("output", "output.dense", inner, hidden),
    ):
        weights[field] = tensors.read(f"{prefix}{name}.weight", (outputs, inputs)).T
        weights[f"{field}_bias"] = tensors.read(f"{prefix}{name}.bias", (outputs,))
    for field, name in (("attention_norm", "attention.output"), ("output_norm", "output")):
        # Checkpoints converted from TensorFlow, bert-base-uncased among them, say gamma and beta.
        norm = f"{prefix}{name}.LayerNorm."
        old = f"{norm}gamma" in tensors.names and f"{norm}weight" not in tensors.names
        gamma, beta = ("gamma", "beta") if old else ("weight", "bias")
        weights[f"{field}_gamma"] = tensors.read(norm + gamma, (hidden,))
        weights[f"{field}_beta"] = tensors.read(norm + beta, (hidden,))
    return LayerWeights(**weights)
