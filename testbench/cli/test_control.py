"""`acceltran profile`, and `run` with thresholds that the machine finds."""

import json

import numpy as np
import pytest

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.presets import TINY
from acceltran_sim.golden.controlled_encoder import encode_in_turn
from acceltran_sim.golden.encoder import SITES
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.curves import fit_curves, load_curves
from acceltran_sim.program.job import load_job
from acceltran_sim.program.quantize import quantize, quantize_model
from acceltran_sim.program.threshold_plan import ThresholdPlan

MODES = {
    "--closed-loop": ThresholdMode.CLOSED_LOOP,
    "--open-loop": ThresholdMode.CURVE,
}


@pytest.fixture
def inputs(tmp_path):
    """Four batch elements."""
    hidden = np.random.default_rng(3).normal(size=(4, 9, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", hidden=hidden, lengths=np.array([9, 4, 7, 5]))
    return tmp_path / "x.npz"


@pytest.fixture
def curves(acceltran, model, inputs, tmp_path):
    """Curves fitted to the input."""
    path = tmp_path / "curves.json"
    answer = acceltran("profile", model, "--calibration", inputs, "-o", path)
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.stdout == f"16 curves of 2 layers from 4 inputs: {path}\n"
    return path


def golden(model, inputs, mode):
    network = load_model(model)
    job = load_job(inputs, hidden_size=32)
    plan = ThresholdPlan(
        encoder=quantize_model(network, job, fmt=TINY.fmt),
        curves=fit_curves(network, job),
        sparsity=0.5,
        mode=mode,
    )
    raw, _ = quantize(job.hidden, plan.encoder.input_exponent, TINY.fmt)
    encoders = [plan.job(int(length)) for length in job.lengths]
    return list(encode_in_turn(encoders, raw, job.lengths, plan.control()))


def test_profile(acceltran, model, inputs, curves, tmp_path):
    network = load_model(model)
    fitted = fit_curves(network, load_job(inputs, hidden_size=32))
    assert load_curves(curves, network.config, layers=2) == fitted
    shallow = tmp_path / "one.json"
    arguments = ("profile", model, "--calibration", inputs, "-o", shallow)
    assert acceltran(*arguments, "--layers", 1).code == 0
    assert len(json.loads(shallow.read_text())["layers"]) == 1


@pytest.mark.parametrize("option", MODES)
def test_run(acceltran, arguments, model, inputs, curves, option):
    """What is written and reported is what the golden models say, with and without a file."""
    expected = golden(model, inputs, MODES[option])
    outputs = []
    for more in ((), ("--curves", curves)):
        answer = acceltran(*arguments, "--sparsity", 0.5, option, *more, "--json")
        assert (answer.code, answer.stderr) == (0, "")
        with np.load(arguments[-1]) as y:
            for b, job in enumerate(expected):
                rows = job.result.raw.shape[1]
                assert (y["raw"][b, :rows] == job.result.raw[0]).all()
                assert not y["raw"][b, rows:].any()
        outputs.append(json.loads(answer.stdout))
    assert outputs[0] == outputs[1]
    content = outputs[0]
    assert content["threshold_mode"] == MODES[option].name.lower()
    assert content["sparsity_target"] == 0.5
    assert set(content["sparsity"]) == {f"{n}.{site}" for n in range(2) for site in SITES}
    for site, achieved in content["sparsity"].items():
        for name, jobs in (("all", expected), ("last_half", expected[2:])):
            zeros, elements = (sum(job.sparsity[site][n] for job in jobs) for n in range(2))
            assert achieved[name] == zeros / elements
    assert content["products_effectual"] == sum(j.result.products_effectual for j in expected)


def test_table(acceltran, arguments):
    answer = acceltran(*arguments, "--sparsity", 0.25, "--closed-loop")
    lines = answer.stdout.splitlines()
    assert lines[4] == "sparsity     of the last half of the jobs (of all), target 25.0%"
    assert [line.split()[0] for line in lines[5:-1]] == list(SITES)


def test_rtl(acceltran, arguments):
    """The Verilog agrees in every bit and position, or the run fails."""
    rtl = [*arguments[:-2], "--backend", "rtl", *arguments[-2:]]
    answers = [
        acceltran(*run, "--sparsity", 0.5, "--closed-loop", "--json") for run in (arguments, rtl)
    ]
    assert [(answer.code, answer.stderr) for answer in answers] == [(0, "")] * 2
    golden, verilog = (json.loads(answer.stdout) for answer in answers)
    assert verilog["sparsity"] == golden["sparsity"]
    assert verilog["rtl_equals_golden"] and verilog["cycles"] > 0
    with np.load(arguments[-1]) as y:
        assert y["counter_products_effectual"] == golden["products_effectual"]


@pytest.mark.parametrize(
    "options,message",
    [
        (("--closed-loop",), "--closed-loop must be given with --sparsity"),
        (("--open-loop",), "--open-loop must be given with --sparsity"),
        (
            ("--sparsity", 0.5, "--closed-loop", "--open-loop"),
            "--closed-loop must not be given with --open-loop",
        ),
        (
            ("--sparsity", 0.5, "--curves", "c.json"),
            "--curves c.json must be given with --closed-loop or --open-loop",
        ),
        (
            ("--sparsity", 0.5, "--threshold", 1, "--closed-loop"),
            "--threshold 1.0 must not be given with --sparsity 0.5",
        ),
        (
            ("--sparsity", 1, "--closed-loop"),
            "Sparsity must be at least 0 and below 1, not 1.0",
        ),
        (
            ("--sparsity", 0.5, "--closed-loop", "--curves", "no.json"),
            "no.json must be readable: No such file or directory",
        ),
    ],
)
def test_refusals(acceltran, arguments, options, message):
    answer = acceltran(*arguments, *options)
    assert (answer.code, answer.stdout, answer.stderr) == (2, "", f"Error: {message}\n")
    assert not arguments[-1].exists()


def test_profile_refusals(acceltran, model, inputs, tmp_path):
    path = tmp_path / "curves.json"
    start = ("profile", model, "--calibration", inputs, "-o", path)
    answer = acceltran(*start, "--layers", 3)
    assert answer.stderr == "Error: Layers must be from 1 to the model's 2, not 3\n"
    answer = acceltran("profile", model, "--calibration", "no.npz", "-o", path)
    assert answer.stderr == (
        "Error: Calibration: no.npz must be readable: No such file or directory\n"
    )
    answer = acceltran("profile", model, "-o", path)
    assert answer.stderr == "Error: --calibration must be given\n"
    assert not path.exists()
