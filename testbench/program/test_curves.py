"""Threshold curves: what they hold, that files keep them, and what is refused."""

import json

import numpy as np
import pytest

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.presets import TINY
from acceltran.arch.threshold_curve import POINTS
from acceltran_sim.errors import InputError
from acceltran_sim.golden.controlled_encoder import encode_in_turn
from acceltran_sim.golden.encoder import SITES
from acceltran_sim.program.builder import build_in_turn
from acceltran_sim.program.calibration import calibrate
from acceltran_sim.program.curves import SCALED_BY_KEYS, curves_text, fit_curves, load_curves
from acceltran_sim.program.interpreter import interpret
from acceltran_sim.program.threshold_plan import ThresholdPlan
from testbench.harness.encoder_job import quantized, random_job, random_model


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(41)
    return random_model(rng, layers=2, heads=2, head_size=20, intermediate=50)


@pytest.fixture(scope="module")
def job():
    return random_job(np.random.default_rng(42), hidden=40, sequence=11, batch=3)


@pytest.fixture(scope="module")
def curves(model, job):
    return fit_curves(model, job)


@pytest.mark.parametrize("point", [0, 8, 16, 31])
def test_points_are_the_quantiles_of_sparsity(model, job, curves, point):
    observed = calibrate(model, job, sparsity=point / 32)
    for layer, quantiles in zip(curves.layers, observed.quantiles, strict=True):
        for site in set(SITES) - set(SCALED_BY_KEYS):
            assert layer[site][point] == quantiles[site]


def test_probabilities_are_scaled_by_keys(model, job, curves):
    lengths = job.lengths
    assert curves.elements["probabilities"] == np.mean(2 * lengths**2)
    assert curves.elements["query"] == np.mean(40 * lengths)
    # The mean of a row is 1.
    assert curves.layers[0]["probabilities"][0] < 1 < curves.layers[0]["probabilities"][-1]


def test_files_keep_all_bits(model, curves, tmp_path):
    path = tmp_path / "curves.json"
    path.write_text(curves_text(curves, model.config))
    assert load_curves(path, model.config, layers=2) == curves
    assert load_curves(path, model.config, layers=1).layers == curves.layers[:1]


def test_layers(model, job, curves):
    assert fit_curves(model, job, layers=1).layers == curves.layers[:1]
    with pytest.raises(InputError, match=r"^Layers must be from 1 to the model's 2, not 3$"):
        fit_curves(model, job, layers=3)


FALLING = [1.0] * (POINTS - 1) + [0.5]


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda c: c.update(format="x"), "must be JSON as acceltran profile writes it"),
        (lambda c: c.update(version=2), "version of {} must be 1, not 2"),
        (lambda c: c.update(segments=16), "segments of {} must be 32, not 16"),
        (lambda c: c["model"].update(heads=4), "heads of {} must be the model's 2, not 4"),
        (lambda c: c.update(model=3), "hidden of {} must be the model's 40, not None"),
        (lambda c: c["layers"].pop(), "must have curves of 2 layers, not 1"),
        (lambda c: c.update(layers="x"), "must have curves of 2 layers, not 'x'"),
        (lambda c: c["elements"].pop("key"), "elements of {} must have the sites query, key"),
        (lambda c: c["layers"][1].pop("key"), "layer 1 of {} must have the sites query, key"),
        (
            lambda c: c["elements"].update(key=0),
            "elements of key in {} must be at least 1, not 0",
        ),
        (
            lambda c: c["layers"][1].update(key=[0]),
            "Curve of key of layer 1 in {} must be a list of 33 numbers",
        ),
        (
            lambda c: c["layers"][0].update(key=[-1.0] * POINTS),
            "Curve of key of layer 0 in {} must hold finite numbers of at least 0, not -1.0",
        ),
        (
            lambda c: c["layers"][0].update(key=[float("nan")] * POINTS),
            "must hold finite numbers of at least 0, not nan",
        ),
        (
            lambda c: c["layers"][0].update(key=["1"] * POINTS),
            "must hold finite numbers of at least 0, not '1'",
        ),
        (
            lambda c: c["layers"][0].update(key=FALLING),
            "Curve of key of layer 0 in {} must not fall, as it does from 1.0 to 0.5",
        ),
    ],
)
def test_refuses_files(model, curves, tmp_path, spoil, message):
    path = tmp_path / "curves.json"
    content = json.loads(curves_text(curves, model.config))
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        load_curves(path, model.config, layers=2)
    assert message.format(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[1]", b"3"])
def test_refuses_garbage(model, tmp_path, content):
    path = tmp_path / "curves.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"curves\.json must be JSON as acceltran profile writes"):
        load_curves(path, model.config, layers=1)


def test_refuses_missing_files(model, tmp_path):
    with pytest.raises(InputError, match=r"x\.json must be readable: No such file or directory$"):
        load_curves(tmp_path / "x.json", model.config, layers=1)


def test_programs_and_encoders_agree(model, job, curves):
    """Programs run by the interpreter leave the output and the positions of the golden encoder."""
    encoder, raw = quantized(model, job, TINY)
    plan = ThresholdPlan(
        encoder=encoder, curves=curves, sparsity=0.7, mode=ThresholdMode.CLOSED_LOOP
    )
    encoders = [plan.job(int(length)) for length in job.lengths]
    programs = build_in_turn(TINY, encoders, raw, job.lengths)
    control = plan.control()
    golden = encode_in_turn(encoders, raw, job.lengths, plan.control())
    for program, expected in zip(programs, golden, strict=True):
        interpreter = interpret(
            TINY,
            program.base,
            program.image,
            program.program_address,
            128 * len(program.commands),
            control,
        )
        start = program.output_address - program.base
        output = program.output(bytes(interpreter.dram[start : start + program.output_size]))
        length = program.lengths[0]
        assert (output[:, :length] == expected.result.raw).all()
        assert control.positions == expected.positions


def test_plan_refuses_what_it_cannot_hold(model, job, curves):
    encoder, _ = quantized(model, job, TINY)
    given = {"encoder": encoder, "curves": curves, "mode": ThresholdMode.CURVE}
    with pytest.raises(InputError, match=r"^Sparsity must be at least 0 and below 1, not 1\.0$"):
        ThresholdPlan(**given, sparsity=1.0)
    rng = np.random.default_rng(43)
    deep = random_model(rng, layers=16, heads=1, head_size=16, intermediate=16)
    small = random_job(rng, hidden=16, sequence=3, batch=1)
    given["encoder"], _ = quantized(deep, small, TINY)
    with pytest.raises(InputError, match=r"^Layers with curves must be at most 15, not 16$"):
        ThresholdPlan(**given, sparsity=0.5)
