"""Model folders: what is accepted, what is refused, and the logits of the model that ships."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from acceltran_sim.errors import InputError
from acceltran_sim.models.classifier import BERT_TINY_SST2, load_classifier
from acceltran_sim.models.encoder_model import load_model
from testbench.golden.float_encoder import encode_float
from testbench.golden.models import random_tensors, write_model

CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
SHAPE: dict[str, Any] = {"layers": 2, "hidden": 24, "intermediate": 40}
QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def tensors():
    return random_tensors(np.random.default_rng(1), **SHAPE)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "model_type,prefix", [("bert", "bert."), ("bert", ""), ("roberta", "roberta."), ("roberta", "")]
)
def test_types_and_prefixes(tmp_path, dtype, model_type, prefix):
    tensors = random_tensors(np.random.default_rng(1), prefix=prefix, dtype=dtype, **SHAPE)
    tensors["cls.other"] = np.ones(3, np.int64)
    config = {**CONFIG, "model_type": model_type, "hidden_act": "relu", "layer_norm_eps": 1e-5}
    model = load_model(write_model(tmp_path, tensors, **config))
    assert model.config.activation == "relu" and model.config.eps == 1e-5
    assert model.config.head_size == 8 and len(model.layers) == 2
    for n, layer in enumerate(model.layers):
        name = f"{prefix}encoder.layer.{n}.intermediate.dense"
        assert layer.intermediate.dtype == np.float64
        assert (layer.intermediate == tensors[f"{name}.weight"].astype(float).T).all()
        assert (layer.intermediate_bias == tensors[f"{name}.bias"].astype(float)).all()


def test_names_of_old_checkpoints(tmp_path, tensors):
    names = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    old = {}
    for name, tensor in tensors.items():
        for new, former in names.items():
            name = name.replace(new, former)
        old[name] = tensor
    model = load_model(write_model(tmp_path, old, **CONFIG))
    gamma = tensors["bert.encoder.layer.1.output.LayerNorm.weight"]
    assert (model.layers[1].output_norm_gamma == gamma).all()


def test_defaults(tmp_path, tensors):
    config = write_model(tmp_path, tensors) / "config.json"
    config.write_text("{}")
    with pytest.raises(InputError, match=r"must have the shape \(768, 768\), not \(24, 24\)$"):
        load_model(tmp_path)
    assert load_model(write_model(tmp_path, tensors, **CONFIG)).config.eps == 1e-12


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("model_type", "gpt2", 'model_type of the model must be "bert" or "roberta", not \'gpt2\''),
        ("hidden_act", "silu", 'hidden_act of the model must be "gelu" or "relu", not \'silu\''),
        (
            "position_embedding_type",
            "relative_key",
            "position_embedding_type of the model must be \"absolute\", not 'relative_key'",
        ),
        ("is_decoder", True, "is_decoder of the model must be false, not True"),
        ("hidden_size", 0, "hidden_size of the model must be a positive integer, not 0"),
        ("hidden_size", "24", "hidden_size of the model must be a positive integer, not '24'"),
        (
            "num_hidden_layers",
            True,
            "num_hidden_layers of the model must be a positive integer, not True",
        ),
        (
            "num_attention_heads",
            5,
            "hidden_size of the model must be a multiple of num_attention_heads (5), not 24",
        ),
        (
            "layer_norm_eps",
            float("nan"),
            "layer_norm_eps of the model must be a finite number of at least 0, not nan",
        ),
        (
            "num_hidden_layers",
            3,
            (
                "{folder}/model.safetensors must hold the tensor"
                " bert.encoder.layer.2.attention.self.query.weight"
            ),
        ),
        (
            "intermediate_size",
            48,
            (
                "Tensor bert.encoder.layer.0.intermediate.dense.weight must have the shape"
                " (48, 24), not (40, 24)"
            ),
        ),
    ],
)
def test_refused_configurations(tmp_path, tensors, key, value, message):
    write_model(tmp_path, tensors, **{**CONFIG, key: value})
    with pytest.raises(InputError) as error:
        load_model(tmp_path)
    assert str(error.value) == message.format(folder=tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refused_values(tmp_path, tensors, value):
    tensors[QUERY][3, 4] = value
    write_model(tmp_path, tensors, **CONFIG)
    with pytest.raises(InputError) as error:
        load_model(tmp_path)
    assert str(error.value) == f"Tensor {QUERY} must be finite, not {value}"


def test_refused_dtype(tmp_path, tensors):
    tensors[QUERY] = tensors[QUERY].astype(np.float64)
    write_model(tmp_path, tensors, **CONFIG)
    with pytest.raises(InputError) as error:
        load_model(tmp_path)
    assert str(error.value) == f"Tensor {QUERY} must be F32, F16 or BF16, not F64"


def test_refused_files(tmp_path, tensors):
    missing = tmp_path / "none"
    with pytest.raises(InputError) as error:
        load_model(missing)
    assert str(error.value) == (
        f"Model must be a folder with config.json and model.safetensors: {missing}"
    )
    with pytest.raises(InputError, match=r"config.json must be readable: No such file"):
        load_model(tmp_path)
    write_model(tmp_path, tensors, **CONFIG)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    for size in (0, 5, 100, len(content) - 1):
        weights.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"must be a complete safetensors file"):
            load_model(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match=r"model.safetensors must be readable: No such file"):
        load_model(tmp_path)
    for text, rule in (("[", "must be JSON"), ("[]", "must hold a JSON object, not list")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=rf"{rule}$"):
            load_model(tmp_path)


def test_logits_of_the_model_that_ships():
    golden = np.load(BERT_TINY_SST2 / "golden_logits16.npz")
    classifier = load_classifier(BERT_TINY_SST2)
    model = load_model(BERT_TINY_SST2)
    batch = [ids[keep] for ids, keep in zip(golden["ids"], golden["mask"], strict=True)]
    hidden, lengths = classifier.embed(batch)
    assert hidden.shape == (16, lengths.max(), 128) and hidden.dtype == np.float32
    logits = classifier.logits(encode_float(model, hidden, lengths))
    assert np.abs(logits - golden["logits"]).max() < 2e-5
    assert classifier.labels == ("negative", "positive")


def test_tokens():
    golden = np.load(BERT_TINY_SST2 / "golden_sentence0.npz")
    classifier = load_classifier(BERT_TINY_SST2)
    ids = classifier.tokenize("It 's a charming and often affecting journey . ")
    assert ids == golden["ids"].tolist()
    assert len(classifier.tokenize("film " * 600)) == 512
    hidden, _ = classifier.embed([ids])
    assert np.abs(hidden - golden["X_0"]).max() < 1e-5


def test_labels_default(tmp_path):
    for name in ("model.safetensors", "vocab.txt"):
        (tmp_path / name).symlink_to(BERT_TINY_SST2 / name)
    config = json.loads((BERT_TINY_SST2 / "config.json").read_bytes())
    del config["id2label"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_classifier(tmp_path).labels == ("LABEL_0", "LABEL_1")
