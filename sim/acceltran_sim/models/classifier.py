"""Sentence classification around an encoder: tokens, embeddings, pooler, classifier, in float."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from acceltran_sim.errors import InputError
from acceltran_sim.models.encoder_config import load_config, positive_integer
from acceltran_sim.models.encoder_model import model_folder, tensor_prefix
from acceltran_sim.models.tensor_file import TensorFile

__all__ = ["BERT_TINY_SST2", "Classifier", "load_classifier"]

Array = npt.NDArray[np.float64]

BERT_TINY_SST2 = Path(__file__).parent / "bert_tiny_sst2"
"""Folder of the model that ships with the project."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """What the host computes before and after the encoder of a BERT sentence classifier."""

    tokenizer: BertWordPieceTokenizer
    words: Array
    positions: Array
    types: Array
    gamma: Array
    beta: Array
    eps: float
    pooler: Array
    pooler_bias: Array
    classifier: Array
    classifier_bias: Array
    labels: tuple[str, ...]
    """Name of each class."""

    def tokenize(self, sentence: str) -> list[int]:
        """Token numbers of a sentence, with [CLS] and [SEP]; cut to the model's positions."""
        ids = self.tokenizer.encode(sentence).ids
        limit = len(self.positions)
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]

    def embed(
        self, batch: Sequence[Sequence[int]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Input of the first encoder layer, [batch, longest, hidden], and the lengths."""
        lengths = np.array([len(ids) for ids in batch], dtype=np.int64)
        hidden = np.zeros((len(batch), lengths.max(), self.words.shape[1]), dtype=np.float32)
        for row, ids in zip(hidden, batch, strict=True):
            x = self.words[list(ids)] + self.positions[: len(ids)] + self.types[0]
            x = x - x.mean(axis=1, keepdims=True)
            x /= np.sqrt((x * x).mean(axis=1, keepdims=True) + self.eps)
            row[: len(ids)] = x * self.gamma + self.beta
        return hidden, lengths

    def logits(self, hidden: npt.NDArray[np.floating]) -> Array:
        """Logits [batch, classes] from the output of the last layer, [batch, sequence, hidden]."""
        pooled = np.tanh(hidden[:, 0].astype(np.float64) @ self.pooler + self.pooler_bias)
        return pooled @ self.classifier + self.classifier_bias


def load_classifier(folder: str | Path) -> Classifier:
    """Read tokenizer, embeddings, pooler and classifier of a BERT model folder."""
    path = model_folder(folder)
    config, content = load_config(path)
    if config.model_type != "bert":
        raise InputError(f"model_type of a classifier must be bert, not {config.model_type}")
    vocabulary = path / "vocab.txt"
    if not vocabulary.is_file():
        raise InputError(f"{vocabulary} must be a WordPiece vocabulary, one token a line")
    names = content.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    labels = tuple(str(names[key]) for key in sorted(names, key=int))
    hidden, classes = config.hidden, len(labels)
    with TensorFile(path / "model.safetensors") as tensors:
        prefix = tensor_prefix(tensors, config)
        embeddings = f"{prefix}embeddings."
        words, positions, types = (
            tensors.read(
                f"{embeddings}{name}_embeddings.weight",
                (positive_integer(content, key, default), hidden),
            )
            for name, key, default in (
                ("word", "vocab_size", 30522),
                ("position", "max_position_embeddings", 512),
                ("token_type", "type_vocab_size", 2),
            )
        )
        return Classifier(
            tokenizer=BertWordPieceTokenizer(str(vocabulary), lowercase=True),
            words=words,
            positions=positions,
            types=types,
            gamma=tensors.read(f"{embeddings}LayerNorm.weight", (hidden,)),
            beta=tensors.read(f"{embeddings}LayerNorm.bias", (hidden,)),
            eps=config.eps,
            pooler=tensors.read(f"{prefix}pooler.dense.weight", (hidden, hidden)).T,
            pooler_bias=tensors.read(f"{prefix}pooler.dense.bias", (hidden,)),
            classifier=tensors.read("classifier.weight", (classes, hidden)).T,
            classifier_bias=tensors.read("classifier.bias", (classes,)),
            labels=labels,
        )
