"""`acceltran classify`: sentiment of sentences."""

import json

import click

from acceltran_cli.inputs import check_pruning
from acceltran_cli.options import (
    Choice,
    choose_config,
    preset_option,
    pruning_options,
    set_option,
)
from acceltran_cli.summary import report, table
from acceltran_sim.errors import InputError

__all__ = ["classify"]


@click.command(
    short_help="Tell the sentiment of sentences.",
    epilog="""\b
Examples:
  acceltran classify "a charming and often affecting journey"
  acceltran classify --sparsity 0.5 --json "a fine film" "a dull one"
""",
)
@click.argument("text", nargs=-1, required=True)
@preset_option(default="tiny")
@click.option(
    "--backend",
    type=Choice("golden", "rtl"),
    default="rtl",
    metavar="BACKEND",
    help="golden or rtl; default: rtl.",
)
@pruning_options
@set_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def classify(
    text: tuple[str, ...],
    preset_name: str,
    backend: str,
    threshold: float | None,
    sparsity: float | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Classify each TEXT with the BERT-Tiny that ships: its encoder runs on the machine.

    Scales, and the thresholds of --sparsity, come from 16 sentences that ship with the model.
    """
    # Tokenizers take a moment to import: other commands do without.
    from acceltran_cli.sentences import classify_tokens, shipped_classifier

    config = choose_config(preset_name, settings)
    check_pruning(threshold, sparsity)
    for sentence in text:
        if any("\ud800" <= character <= "\udfff" for character in sentence):
            raise InputError(f"TEXT must be UTF-8, not {sentence!r}")
    classifier = shipped_classifier()
    result = classify_tokens(
        config,
        classifier,
        [classifier.tokenize(sentence) for sentence in text],
        backend=backend,
        threshold=threshold or 0.0,
        sparsity=sparsity,
    )
    if as_json:
        sentences = [
            {
                "text": sentence,
                "label": label,
                "probabilities": dict(zip(classifier.labels, row.tolist(), strict=True)),
            }
            for sentence, label, row in zip(text, result.labels, result.probabilities, strict=True)
        ]
        content = {"sentences": sentences, "preset": preset_name, "backend": backend}
        click.echo(json.dumps(content | report(config, result.run), indent=2))
        return
    for sentence, label, row in zip(text, result.labels, result.probabilities, strict=True):
        click.echo(f"{label:<12} {row.max():6.1%}  {sentence}")
    click.echo("\n".join(table(config, result.run)))
