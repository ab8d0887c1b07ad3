"""`acceltran bench` on the Verilog of the smallest machine."""

import json

import pytest

from acceltran.arch.presets import TINY
from acceltran_sim.program.operations import OPERATIONS

LANES = TINY.array.lanes
KEYS = [
    *("preset", "multipliers", "rows", "inner", "columns", "seed", "cycles", "products_dense"),
    *("products_effectual", "multiplier_cycles", "ideal_cycles", "efficiency", "busy", "stalls"),
    *("dram_bytes", "bandwidth_bound_cycles", "bits_equal"),
]


@pytest.fixture
def product(acceltran):
    """`bench product` on `tiny`: options in, figures out."""

    def call(rows, inner, columns, density, *options):
        shape = ("--rows", rows, "--inner", inner, "--columns", columns, "--density", density)
        answer = acceltran("bench", "product", "--preset", "tiny", *shape, *options, "--json")
        assert (answer.code, answer.stderr) == (0, "")
        figures = json.loads(answer.stdout)
        assert list(figures) == KEYS
        assert figures["bits_equal"] is True
        assert figures["products_dense"] == rows * inner * columns
        assert figures["busy"] + sum(figures["stalls"].values()) == LANES * figures["cycles"]
        assert figures["busy"] * 16 == figures["multiplier_cycles"]
        assert figures["efficiency"] == figures["ideal_cycles"] / figures["cycles"]
        return figures

    return call


def test_dense_product_in_buffers(product):
    figures = product(64, 64, 128, 1)
    assert figures["products_effectual"] == figures["products_dense"] == 64 * 64 * 128
    assert figures["multiplier_cycles"] == figures["products_dense"]
    assert figures["ideal_cycles"] == figures["products_dense"] / 64
    assert figures["efficiency"] > 0.85
    # Nothing but the commands, of which END is one.
    assert figures["dram_bytes"] <= 4 * 128


@pytest.mark.parametrize("operands", ["buffers", "dram"])
def test_sparse_product_of_odd_sizes(product, operands):
    options = ("--weight-density", 0.5, "--masks", "clustered", "--operands", operands)
    figures = product(37, 50, 83, 0.3, *options, "--seed", 3, "--order", "kijb")
    assert 0.05 < figures["products_effectual"] / figures["products_dense"] < 0.3
    # Columns are computed in whole vectors; without a window, weights that are zero count.
    columns = 96
    assert figures["multiplier_cycles"] % columns == 0
    assert figures["multiplier_cycles"] * 83 / columns / 64 == figures["ideal_cycles"]
    moved = (37 * 4 + 50 * 6 + 37 * 6) * 40
    if operands == "dram":
        assert moved <= figures["dram_bytes"] < moved + 40 * 128
        assert figures["bandwidth_bound_cycles"] * 16 >= (37 * 4 + 50 * 6) * 40
    else:
        assert figures["dram_bytes"] < 40 * 128


def test_slow_memory(product):
    options = ("--operands", "dram", "--memory-latency")
    fast, slow = (product(16, 32, 16, 0.5, *options, latency) for latency in (1, 300))
    assert slow["cycles"] > fast["cycles"] + 300
    assert {**slow, "cycles": 0, "efficiency": 0, "stalls": 0}.items() >= {
        "ideal_cycles": fast["ideal_cycles"],
        "dram_bytes": fast["dram_bytes"],
    }.items()


def test_product_as_text(acceltran):
    answer = acceltran(
        *("bench", "product", "--preset", "tiny", "--rows", 16, "--inner", 16, "--columns", 16),
        *("--density", 0),
    )
    lines = [line.split()[0] for line in answer.stdout.splitlines()]
    assert lines == ["product", "cycles", "lanes", "DRAM", "check"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--rows": 0}, "--rows must be from 1 to 65535, not 0"),
        ({"--density": 1.5}, "--density must be from 0 to 1, not 1.5"),
        ({"--density": "nan"}, "--density must be from 0 to 1, not nan"),
        ({"--weight-density": -1}, "--weight-density must be from 0 to 1, not -1.0"),
        ({"--masks": "square"}, "--masks must be one of iid, clustered, not square"),
        ({"--operands": "disk"}, "--operands must be one of buffers, dram, not disk"),
        ({"--memory-latency": 0}, "--memory-latency must be from 1 to 10000, not 0"),
        ({"--preset": "edge"}, "A single product is measured on machines of 1 cluster, not 16"),
        ({"--order": "bijj"}, "Loop order must be a permutation of bijk, not 'bijj'"),
        (
            {"--inner": 1025},
            "Inner dimension padded to whole vectors must be at most limits.inner (1024), not 1040",
        ),
        (
            {"--rows": 9000},
            (
                "9000 rows of 2 vectors and the result's of 1 must fit the activation buffer: they"
                " need 27000 vectors, it holds 26214"
            ),
        ),
        (
            {"--inner": 1000, "--columns": 500},
            (
                "1000 rows of 32 vectors must fit the weight buffer: they need 32000 vectors, it"
                " holds 26214"
            ),
        ),
    ],
)
def test_refusals(acceltran, options, message):
    shape = {"--preset": "tiny", "--rows": 8, "--inner": 32, "--columns": 16, "--density": 0.5}
    words = [word for option in (shape | options).items() for word in option]
    answer = acceltran("bench", "product", *words)
    assert (answer.code, answer.stdout, answer.stderr) == (2, "", f"Error: {message}\n")


def test_unknown_bench(acceltran):
    answer = acceltran("bench", "everything")
    message = "Error: Command must be one of encoder, product, not everything\n"
    assert (answer.code, answer.stderr) == (2, message)


def test_resident_encoder(acceltran, model, inputs):
    arguments = ("bench", "encoder", model, "--preset", "tiny", "--inputs", inputs)
    answer = acceltran(*arguments, "--resident", "--json")
    assert (answer.code, answer.stderr) == (0, "")
    figures = json.loads(answer.stdout)
    assert figures["bits_equal"] is True and figures["load_cycles"] > figures["store_cycles"] > 0
    assert list(figures["operations"]) == [n for n in OPERATIONS if n not in ("load", "store")]
    assert figures["busy"] + sum(figures["stalls"].values()) == LANES * figures["cycles"]


def test_encoder(acceltran, model, inputs):
    arguments = ("bench", "encoder", model, "--preset", "tiny", "--inputs", inputs)
    answer = acceltran(*arguments, "--sparsity", 0.5, "--stall", 0.3, "--json")
    assert (answer.code, answer.stderr) == (0, "")
    figures = json.loads(answer.stdout)
    assert figures["bits_equal"] is True
    assert list(figures["operations"]) == list(OPERATIONS)
    assert figures["busy"] + sum(figures["stalls"].values()) == LANES * figures["cycles"]

    timeline = figures["timeline"]
    assert [part["command"] for part in timeline] == sorted(p["command"] for p in timeline)
    for queue in ("load", "store", "product", "vector"):
        end = 0
        for part in (part for part in timeline if part["queue"] == queue):
            assert end <= part["start"] <= part["end"] <= figures["cycles"]
            assert part["given"] <= part["start"]
            end = part["end"]
    # What reads a result starts after it: the order of the operations of a layer.
    first = {part["operation"]: part for part in reversed(timeline)}
    for before, after in (("load", "query"), ("scores", "softmax"), ("softmax", "context")):
        assert first[before]["end"] <= first[after]["end"]

    products = [name for name in OPERATIONS if "ideal_cycles" in figures["operations"][name]]
    assert products == [
        *("query", "key", "value", "scores", "context"),
        *("attention_output", "intermediate", "output"),
    ]
    parts = [figures["operations"][name] for name in products]
    for part in parts:
        assert part["busy"] + sum(part["stalls"].values()) == LANES * part["cycles"]
    ideal = sum(part["ideal_cycles"] for part in parts)
    assert ideal == pytest.approx(figures["ideal_cycles"])
    # All lanes' work is some product's.
    busy = sum(part["busy"] for part in parts)
    assert busy == figures["busy"] == pytest.approx(LANES * ideal)
    for name, part in figures["operations"].items():
        assert part["commands"] == sum(command["operation"] == name for command in timeline)
