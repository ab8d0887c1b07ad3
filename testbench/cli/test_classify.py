"""`acceltran classify` on the golden models."""

import json

import numpy as np
import pytest

from acceltran_sim.models.classifier import BERT_TINY_SST2, load_classifier


def test_text(acceltran):
    answer = acceltran("classify", "--backend", "golden", "a fine film", "a dull mess")
    assert (answer.code, answer.stderr) == (0, "")
    first, second, *summary = answer.stdout.splitlines()
    assert first.split(maxsplit=3)[0] == "positive" and first.endswith("%  a fine film")
    assert second.split()[0] == "negative" and second.endswith("%  a dull mess")
    assert [line.split()[0] for line in summary] == ["products", "shapes", "bound"]


@pytest.mark.parametrize("options", [(), ("--sparsity", 0.3), ("--threshold", 0.01)])
def test_json(acceltran, options):
    golden = np.load(BERT_TINY_SST2 / "golden_logits16.npz")
    classifier = load_classifier(BERT_TINY_SST2)
    sentences = [
        classifier.tokenizer.decode(ids[keep].tolist())
        for ids, keep in zip(golden["ids"], golden["mask"], strict=True)
    ]
    arguments = ("classify", "--backend", "golden", "--json", *options)
    content = json.loads(acceltran(*arguments, *sentences).stdout)
    powers = np.exp(golden["logits"])
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = [list(sentence["probabilities"].values()) for sentence in content["sentences"]]
    assert [sentence["text"] for sentence in content["sentences"]] == sentences
    assert np.abs(np.array(found) - expected).max() < (0.3 if options else 1e-4)
    assert bool(content["products_skipped"] > 0.01) == bool(options)
