"""`acceltran demo`: what the project does, in a few lines."""

from pathlib import Path

import click
import numpy as np

from acceltran.arch.presets import DESCRIPTIONS, preset
from acceltran_cli.generate import write_machine
from acceltran_cli.summary import table

__all__ = ["demo"]

PRESET = "tiny"
REFERENCE = "it 's a charming and often affecting journey ."
"""The sentence whose hidden states ship with the model."""
SENTENCES = (
    "a warm , funny and beautifully acted film",
    "the plot is a mess and the jokes are dull",
    "not a bad idea , but it never comes alive",
)


@click.command(short_help="Generate a machine and classify a few sentences on it.")
def demo() -> None:
    """Write the machine tiny to build/rtl/tiny and run BERT-Tiny on its Verilog.

    Every bit is compared with the golden models, and the last hidden state of a sentence with what
    PyTorch computes.
    """
    # Tokenizers take a moment to import: other commands do without.
    from acceltran_cli.sentences import classify_tokens, shipped_classifier
    from acceltran_sim.models.classifier import BERT_TINY_SST2

    config = preset(PRESET)
    folder = Path("build/rtl") / PRESET
    write_machine(config, PRESET, folder)
    click.echo(f"Verilog in {folder}: {DESCRIPTIONS[PRESET]}")

    click.echo("BERT-Tiny, its encoder on this Verilog, which is compiled once (a minute or two):")
    classifier = shipped_classifier()
    with np.load(BERT_TINY_SST2 / "golden_sentence0.npz") as known:
        ids = known["ids"].tolist()
        expected = known["LN2_1"][0]
    tokens = [ids, *(classifier.tokenize(sentence) for sentence in SENTENCES)]
    result = classify_tokens(config, classifier, tokens, backend="rtl")

    error = np.abs(result.hidden[0, : len(ids)] - expected)
    for text, label, row in zip(
        (REFERENCE, *SENTENCES), result.labels, result.probabilities, strict=True
    ):
        click.echo(f"{label:<12} {row.max():6.1%}  {text}")
    click.echo("\n".join(table(config, result.run)))
    click.echo(
        f"{'PyTorch':<12} hidden state of the first sentence:"
        f" error {error.max():.1e} at most, {error.mean():.1e} on average"
    )
