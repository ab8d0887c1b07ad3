"""Rows of the tables of `make bench`."""

import pytest

from acceltran.arch.config import ConfigError
from acceltran_bench.measure import row
from acceltran_bench.rows import Row


@pytest.mark.parametrize(
    ("target", "met", "end"),
    [
        ({"at_least": 0.98}, True, "0.985  >= 0.980"),
        ({"at_least": 0.99}, False, "0.985  >= 0.990  missed"),
        ({"at_most": 1.05}, True, "0.985  <= 1.050"),
        ({"at_most": 0.9}, False, "0.985  <= 0.900  missed"),
        ({}, None, "0.985"),
    ],
)
def test_targets(target, met, end):
    measured = row("thing", lambda: (0.985, {"bits_equal": True}), **target)
    assert measured.met is met
    assert " ".join(measured.text().split()) == " ".join(f"thing {end}".split())
    assert measured.as_dict() == {
        "what": "thing",
        "value": 0.985,
        "at_least": None,
        "at_most": None,
        "note": "",
        "figures": {"bits_equal": True},
        "met": met,
        **target,
    }


def test_machines_that_cannot_be_built():
    def refuse():
        raise ConfigError("x must be 0 in this version, not 8")

    missing = row("thing", refuse, at_least=1.5)
    assert missing == Row(
        what="thing", at_least=1.5, note="not yet: x must be 0 in this version, not 8"
    )
    assert missing.met is None and missing.text().endswith("-  " + missing.note)


def test_differences_are_errors():
    with pytest.raises(RuntimeError, match="thing: RTL and golden models differ"):
        row("thing", lambda: (1.0, {"bits_equal": False}))
