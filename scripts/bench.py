"""Measure what pruning saves: the 16 sentences that ship, on the Verilog, at several sparsities.

Writes build/bench/sparsity.json and prints the table. Cycles come from the machine's counters.
"""

import json
from pathlib import Path

import numpy as np

from acceltran.arch.presets import preset
from acceltran_cli.sentences import classify_tokens, shipped_classifier
from acceltran_sim.models.classifier import BERT_TINY_SST2

PRESETS = ("tiny", "tiny2")
SPARSITIES = (0.0, 0.25, 0.5, 0.75, 0.9)
OUTPUT = Path("build/bench/sparsity.json")


def main() -> None:
    """Run all, print a line per run."""
    classifier = shipped_classifier()
    with np.load(BERT_TINY_SST2 / "golden_logits16.npz") as known:
        sentences = [ids[keep] for ids, keep in zip(known["ids"], known["mask"], strict=True)]
        labels = [classifier.labels[n] for n in known["logits"].argmax(axis=1)]
    rows = []
    print("| machine | pruned | products left | cycles | speed-up | of ideal | same label |")
    print("|---|---|---|---|---|---|---|")
    for name in PRESETS:
        config = preset(name)
        for sparsity in SPARSITIES:
            result = classify_tokens(
                config, classifier, sentences, backend="rtl", sparsity=sparsity
            )
            run = result.run
            assert run.counters is not None
            row = {
                "preset": name,
                "sparsity": sparsity,
                "products_dense": run.products_dense,
                "products_effectual": run.products_effectual,
                "cycles": run.counters["cycles"],
                # A multiplier does one product per cycle.
                "ideal_cycles": run.products_effectual / config.multipliers,
                "same_label": sum(a == b for a, b in zip(result.labels, labels, strict=True)),
                "sentences": len(labels),
                "counters": dict(run.counters),
            }
            rows.append(row)
            dense = next(r for r in rows if r["preset"] == name)
            print(
                f"| {name} | {sparsity:.0%} | {run.products_effectual / run.products_dense:.1%}"
                f" | {row['cycles']:,} | {dense['cycles'] / row['cycles']:.2f}"
                f" | {row['ideal_cycles'] / row['cycles']:.0%}"
                f" | {row['same_label']} of {row['sentences']} |",
                flush=True,
            )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\n{OUTPUT}")


if __name__ == "__main__":
    main()
