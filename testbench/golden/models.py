"""Model folders with random weights, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

__all__ = ["random_tensors", "write_model"]


def random_tensors(
    rng: np.random.Generator,
    *,
    layers: int,
    hidden: int,
    intermediate: int,
    prefix: str = "bert.",
    outliers: int = 0,
    dtype: Any = np.float32,
) -> dict[str, np.ndarray]:
    """Encoder tensors as Hugging Face names them; ``outliers`` channels of the norms are 9 x."""
    tensors = {}
    for n in range(layers):
        layer = f"{prefix}encoder.layer.{n}."
        for name, outputs, inputs in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", intermediate, hidden),
            ("output.dense", hidden, intermediate),
        ):
            tensors[f"{layer}{name}.weight"] = rng.normal(size=(outputs, inputs)) / inputs**0.5
            tensors[f"{layer}{name}.bias"] = rng.normal(scale=0.1, size=outputs)
        for name in ("attention.output", "output"):
            gamma = rng.uniform(0.5, 1.5, size=hidden)
            gamma[rng.choice(hidden, size=outliers, replace=False)] *= 9
            tensors[f"{layer}{name}.LayerNorm.weight"] = gamma
            tensors[f"{layer}{name}.LayerNorm.bias"] = rng.normal(scale=0.2, size=hidden)
    return {name: tensor.astype(dtype) for name, tensor in tensors.items()}


def write_model(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    """Write a model folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder
