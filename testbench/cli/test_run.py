"""`acceltran run` on the golden models: results, files and texts."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acceltran.arch.presets import TINY
from acceltran_sim.golden.encoder import encode
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.job import load_job
from acceltran_sim.program.quantize import quantize, quantize_model

PROGRAM = Path(sys.executable).with_name("acceltran")


def golden(model, inputs, **options):
    job = load_job(inputs, hidden_size=32)
    calibration = load_job(options.pop("calibration", inputs), hidden_size=32)
    encoder = quantize_model(load_model(model), calibration, fmt=TINY.fmt, **options)
    raw, _ = quantize(job.hidden, encoder.input_exponent, TINY.fmt)
    return encode(encoder, raw, job.lengths), 2.0**encoder.output_exponent


@pytest.mark.parametrize(
    "options,meaning",
    [
        ((), {}),
        (("--layers", 1), {"layers": 1}),
        (("--threshold", 0.3), {"threshold": 0.3}),
        (("--sparsity", "0.5"), {"sparsity": 0.5}),
        (("--threshold", 1e30), {"threshold": 1e30}),
        (("--order", "kjib", "--seed", 3, "--stall", 0.9), {}),
        (("--set", "array.lanes=8"), {}),
    ],
)
def test_output(acceltran, arguments, model, inputs, options, meaning):
    answer = acceltran(*arguments, *options)
    assert (answer.code, answer.stderr) == (0, "")
    expected, scale = golden(model, inputs, **meaning)
    with np.load(arguments[-1]) as y:
        assert set(y.files) == {"hidden", "raw", "scale"}
        assert y["raw"].dtype == np.int32 and y["hidden"].dtype == np.float32
        assert y["scale"].dtype == np.float64 and y["scale"].shape == () and y["scale"] == scale
        assert (y["raw"] == expected.raw).all() and not y["raw"][1, 4:].any()
        assert (y["hidden"] == (y["raw"] * y["scale"]).astype(np.float32)).all()


def test_calibration_decides_scales(acceltran, arguments, model, inputs, tmp_path):
    small = np.random.default_rng(3).normal(scale=0.1, size=(1, 5, 32)).astype(np.float32)
    np.savez(tmp_path / "c.npz", hidden=small)
    answer = acceltran(*arguments, "--calibration", tmp_path / "c.npz", "--json")
    expected, scale = golden(model, inputs, calibration=tmp_path / "c.npz")
    with np.load(arguments[-1]) as y:
        assert (y["raw"] == expected.raw).all() and y["scale"] == scale
    # The input is beyond the calibration's: the summary says how many of its values are clipped.
    saturated = json.loads(answer.stdout)["saturated"]
    assert saturated.pop("input") > 0
    assert saturated == expected.saturated


def test_presets_and_formats(acceltran, arguments):
    raw = {}
    for preset, bits in (("tiny", 16), ("edge", 16), ("tiny", 8)):
        options = ("--preset", preset, "--set", f"datapath.frac_bits={bits}")
        assert acceltran(*arguments, *options).code == 0
        with np.load(arguments[-1]) as y:
            raw[preset, bits] = y["raw"]
    assert (raw["tiny", 16] == raw["edge", 16]).all()
    assert np.abs(raw["tiny", 8]).max() < 2**11


def test_summary(acceltran, arguments, model, inputs):
    expected, scale = golden(model, inputs, sparsity=0.5)
    skipped = 1 - expected.products_effectual / expected.products_dense
    dense = sum(2 * (4 * n * 32**2 + 2 * n * 32 * 48 + 2 * n**2 * 32) for n in (9, 4))
    answer = acceltran(*arguments, "--sparsity", 0.5)
    assert answer.stdout == (
        "2 x 9 x 32, 2 layers, golden, tiny, 4.16\n"
        f"products     {dense:,} dense, {expected.products_effectual:,} effectual,"
        f" {skipped:.1%} skipped\n"
        "shapes       13 rows; tiles take 0.45 of 1 vectors per cycle and PE\n"
        "bound        72.7% of the multipliers at most\n"
        f"output       {arguments[-1]}\n"
    )
    content = json.loads(acceltran(*arguments, "--sparsity", 0.5, "--json").stdout)
    assert content.pop("fill").keys() == {
        *("rows_per_cluster", "clusters_with_rows", "tile_vectors", "multipliers"),
        *("clusters", "ports"),
    }
    assert content == {
        "model": str(model),
        "preset": "tiny",
        "backend": "golden",
        "batch": 2,
        "sequence": 9,
        "hidden": 32,
        "layers": 2,
        "number_format": "4.16",
        "scale": scale,
        "products_dense": dense,
        "products_effectual": expected.products_effectual,
        "products_skipped": skipped,
        "saturated": {},
        "output": str(arguments[-1]),
    }


def test_replaces_output_and_leaves_nothing_else(acceltran, arguments, tmp_path):
    arguments[-1].write_text("old")
    assert acceltran(*arguments).code == 0
    assert np.load(arguments[-1]).files == ["hidden", "raw", "scale"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", "y.npz"]


def test_from_any_folder(arguments, tmp_path):
    command = [PROGRAM, *arguments[:-1], "here.npz"]
    answer = subprocess.run(
        command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (tmp_path / "here.npz").is_file()


def test_progress_on_a_terminal(arguments):
    terminal, end = pty.openpty()
    command = [PROGRAM, *arguments]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, text=True, check=False)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert answer.returncode == 0
    assert "Golden models: " in shown and "\r" not in answer.stdout
