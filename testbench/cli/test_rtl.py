"""`acceltran run` and `classify` on the Verilog of the smallest machine."""

import dataclasses
import json

import numpy as np
import pytest

from acceltran_cli import encoder_run
from acceltran_sim.program.builder import build


@pytest.fixture
def rtl(arguments):
    """A run on the Verilog."""
    return [*arguments[:-2], "--backend", "rtl", *arguments[-2:]]


def arrays(path):
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--sparsity", 0.5, "--stall", 0.6, "--seed", 5),
        ("--threshold", 1e9, "--order", "kijb"),
        ("--layers", 1, "--order", "jikb", "--stall", 0.9),
    ],
)
def test_equals_golden(acceltran, arguments, rtl, options):
    content = json.loads(acceltran(*arguments, *options, "--json").stdout)
    expected = arrays(arguments[-1])
    answer = acceltran(*rtl, *options, "--json")
    assert (answer.code, answer.stderr) == (0, "")
    summary = json.loads(answer.stdout)
    assert summary["rtl_equals_golden"] is True
    result = arrays(rtl[-1])
    for name, array in expected.items():
        assert (result[name] == array).all() and result[name].dtype == array.dtype
    counters = {name: int(result[f"counter_{name}"]) for name in summary["counters"]}
    assert counters == summary["counters"]
    assert counters["cycles"] == summary["cycles"] > 0
    assert counters["products_effectual"] == content["products_effectual"]
    assert counters["multiplier_cycles"] >= counters["products_effectual"]
    assert result["counter_products_dense"] == content["products_dense"]
    assert counters["dma_write_bytes"] == 13 * 2 * 40


def test_resident(acceltran, arguments, rtl):
    acceltran(*arguments)
    expected = arrays(arguments[-1])
    answer = acceltran(*rtl, "--resident", "--json")
    assert (answer.code, answer.stderr) == (0, "")
    summary, result = json.loads(answer.stdout), arrays(rtl[-1])
    assert (result["raw"] == expected["raw"]).all()
    counters = summary["counters"]
    assert result["counter_cycles"] == counters["cycles"] == summary["cycles"]
    for name in ("load_cycles", "store_cycles"):
        assert result[f"counter_{name}"] == counters[name] > 0
    # Nothing but commands is read, and nothing is written.
    assert counters["dma_read_bytes"] % 128 == 0 and counters["dma_write_bytes"] == 0
    assert counters["products_effectual"] == summary["products_effectual"]


def test_machine_error(acceltran, rtl, monkeypatch):
    def spoil(*args, **options):
        program = build(*args, **options)
        image = bytearray(program.image)
        start = program.program_address - program.base
        image[start + 5 * 128] = 0xFF
        return dataclasses.replace(program, image=bytes(image))

    monkeypatch.setattr(encoder_run, "build", spoil)
    answer = acceltran(*rtl)
    assert (answer.code, answer.stdout) == (3, "")
    assert answer.stderr.startswith(
        "Error: The machine stopped with ILLEGAL_COMMAND at command 5: "
    )
    assert not rtl[-1].exists()


def test_classify(acceltran, rtl):
    answer = acceltran("classify", "a fine film")
    assert (answer.code, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("positive ") and lines[0].endswith("a fine film")
    assert [line.split()[0] for line in lines[1:]] == [
        "cycles",
        "multipliers",
        "products",
        "shapes",
        "bound",
        "DRAM",
        "check",
    ]
    assert lines[-1].endswith("RTL = golden, bit for bit")
