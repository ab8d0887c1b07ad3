"""The part of a model folder's ``config.json`` that an encoder depends on."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceltran_sim.errors import InputError

__all__ = ["EncoderConfig", "load_config"]

MODEL_TYPES = ("bert", "roberta")
ACTIVATIONS = ("gelu", "relu")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of an encoder; the defaults are those of Hugging Face's ``BertConfig``."""

    model_type: str = "bert"
    """``bert`` or ``roberta``: the same encoder under another prefix."""
    layers: int = 12
    """Encoder layers."""
    hidden: int = 768
    """Elements of a token's hidden state."""
    heads: int = 12
    """Attention heads."""
    intermediate: int = 3072
    """Elements between the two products of the feed-forward network."""
    activation: str = "gelu"
    """``gelu`` or ``relu``."""
    eps: float = 1e-12
    """Added to the variance in layer norms."""

    @property
    def head_size(self) -> int:
        """Elements of a head."""
        return self.hidden // self.heads


def load_config(folder: Path) -> tuple[EncoderConfig, dict[str, Any]]:
    """Read and check ``config.json``; also return all of it. InputError for what is unsupported."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} must be readable: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} must be JSON") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, not {type(content).__name__}")

    _check_choice(content, "model_type", MODEL_TYPES, "bert")
    _check_choice(content, "hidden_act", ACTIVATIONS, "gelu")
    _check_choice(content, "position_embedding_type", ("absolute",), "absolute")
    for key in ("is_decoder", "add_cross_attention"):
        _check_choice(content, key, (False,), False)
    default = EncoderConfig()
    config = EncoderConfig(
        model_type=content.get("model_type", default.model_type),
        layers=positive_integer(content, "num_hidden_layers", default.layers),
        hidden=positive_integer(content, "hidden_size", default.hidden),
        heads=positive_integer(content, "num_attention_heads", default.heads),
        intermediate=positive_integer(content, "intermediate_size", default.intermediate),
        activation=content.get("hidden_act", default.activation),
        eps=_epsilon(content, default.eps),
    )
    if config.hidden % config.heads:
        raise InputError(
            f"hidden_size of the model must be a multiple of num_attention_heads"
            f" ({config.heads}), not {config.hidden}"
        )
    return config, content


def positive_integer(content: dict[str, Any], key: str, default: int) -> int:
    """Value of ``key``, which must be an integer of at least 1."""
    value = content.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{key} of the model must be a positive integer, not {value!r}")
    return value


def _epsilon(content: dict[str, Any], default: float) -> float:
    value = content.get("layer_norm_eps", default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise InputError(
            f"layer_norm_eps of the model must be a finite number of at least 0, not {value!r}"
        )
    return float(value)


def _check_choice(
    content: dict[str, Any], key: str, choices: tuple[Any, ...], default: Any
) -> None:
    value = content.get(key, default)
    if not any(
        value is choice or (isinstance(value, str) and value == choice) for choice in choices
    ):
        listed = " or ".join(json.dumps(choice) for choice in choices)
        raise InputError(f"{key} of the model must be {listed}, not {value!r}")
