"""`acceltran presets`, `--version` and help."""

import importlib.metadata
import json

import pytest

from acceltran.arch.config import field_names
from acceltran.arch.presets import DESCRIPTIONS, PRESETS


def test_json(acceltran):
    answer = acceltran("presets", "--json")
    assert (answer.code, answer.stderr) == (0, "")
    content = json.loads(answer.stdout)
    assert list(content["presets"]) == list(PRESETS)
    tiny = content["presets"]["tiny"]
    assert tiny["description"] == DESCRIPTIONS["tiny"]
    assert tiny["config"] == PRESETS["tiny"].as_dict()
    assert (tiny["clusters"], tiny["multipliers"]) == (1, 64)
    assert list(content["fields"]) == field_names()
    assert content["fields"]["array.lanes"] == {
        "description": "MAC lanes per PE.",
        "default": 4,
        "lowest": 1,
        "highest": 128,
    }
    assert content["fields"]["datapath.tile"]["power_of_two"]
    assert content["fields"]["datapath.lane"]["choices"] == ["broadcast", "dot"]


def test_text(acceltran):
    text = acceltran("presets").stdout
    for name in [*DESCRIPTIONS.values(), *field_names()]:
        assert name in text
    row = next(line for line in text.splitlines() if line.startswith("array.pes "))
    assert row.split()[1:] == ["1", "2", "4", "64", "512", "1", "to", "1024"]


def test_version(acceltran):
    answer = acceltran("--version")
    assert answer.stdout == f"acceltran {importlib.metadata.version('acceltran')}\n"


@pytest.mark.parametrize(
    "words", [(), ("--help",), ("run", "--help"), ("generate", "--help"), ("classify", "--help")]
)
def test_help(acceltran, words):
    answer = acceltran(*words)
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.stdout.startswith("Usage: acceltran ") and "Example" in answer.stdout
