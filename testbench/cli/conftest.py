"""A small model, its input, and the command line as a function."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from acceltran_cli.main import main
from testbench.golden.models import random_tensors, write_model

HIDDEN, HEADS, INTERMEDIATE, LAYERS = 32, 2, 48, 2


@dataclass
class Answer:
    """What a call of the command line left behind."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def acceltran(capsys) -> Callable[..., Answer]:
    """The command line: arguments in, exit code and texts out."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        texts = capsys.readouterr()
        return Answer(code, texts.out, texts.err)

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """Folder of a model of two small layers."""
    tensors = random_tensors(
        np.random.default_rng(1), layers=LAYERS, hidden=HIDDEN, intermediate=INTERMEDIATE
    )
    return write_model(
        tmp_path_factory.mktemp("cli") / "model",
        tensors,
        model_type="bert",
        num_hidden_layers=LAYERS,
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE,
    )


@pytest.fixture
def inputs(tmp_path) -> Path:
    """Input of two batch elements, one of them shorter."""
    hidden = np.random.default_rng(2).normal(size=(2, 9, HIDDEN)).astype(np.float32)
    np.savez(tmp_path / "x.npz", hidden=hidden, lengths=np.array([9, 4]))
    return tmp_path / "x.npz"


@pytest.fixture
def arguments(model, inputs, tmp_path) -> list[object]:
    """A run that succeeds; the last argument is its output."""
    options = ["--preset", "tiny", "--backend", "golden", "--inputs", inputs]
    return ["run", model, *options, "-o", tmp_path / "y.npz"]
