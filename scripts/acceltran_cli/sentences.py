"""Sentences through the classifier that ships with the project."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_cli.encoder_run import EncoderRun, run_encoder
from acceltran_cli.progress import stage
from acceltran_sim.models.classifier import BERT_TINY_SST2, Classifier, load_classifier
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.job import Job
from acceltran_sim.program.quantize import quantize_model

__all__ = ["Classification", "classify_tokens", "shipped_classifier"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Classification:
    """What the classifier says, and the run of its encoder."""

    labels: tuple[str, ...]
    """Most probable class of each sentence."""
    probabilities: npt.NDArray[np.float64]
    """[sentences, classes]."""
    hidden: npt.NDArray[np.float64]
    """Output of the encoder, [sentences, longest, hidden]."""
    run: EncoderRun


def shipped_classifier() -> Classifier:
    """The classifier that ships with the project."""
    with stage("Reading the model"):
        return load_classifier(BERT_TINY_SST2)


def classify_tokens(
    config: AcceleratorConfig,
    classifier: Classifier,
    sentences: Sequence[Sequence[int]],
    *,
    backend: str,
    threshold: float = 0.0,
    sparsity: float | None = None,
) -> Classification:
    """Classify sentences given as token numbers; all of them are one batch.

    Embeddings, pooler and classifier run on the host in float, the encoder on the backend. Its
    scales are chosen from 16 sentences that ship with the model: they do not depend on the input.
    """
    with np.load(BERT_TINY_SST2 / "golden_logits16.npz") as known:
        reference = [ids[keep] for ids, keep in zip(known["ids"], known["mask"], strict=True)]
    with stage("Choosing scales"):
        encoder = quantize_model(
            load_model(BERT_TINY_SST2),
            _embed(classifier, reference),
            fmt=config.fmt,
            threshold=threshold,
            sparsity=sparsity,
        )
    run = run_encoder(config, encoder, _embed(classifier, sentences), backend=backend)
    hidden = np.ldexp(run.raw.astype(np.float64), run.exponent)
    logits = classifier.logits(hidden)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return Classification(
        labels=tuple(classifier.labels[n] for n in probabilities.argmax(axis=1)),
        probabilities=probabilities,
        hidden=hidden,
        run=run,
    )


def _embed(classifier: Classifier, sentences: Sequence[Sequence[int]]) -> Job:
    hidden, lengths = classifier.embed(sentences)
    return Job(hidden=hidden, lengths=lengths)
