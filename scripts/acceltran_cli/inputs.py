"""What a run starts from, read from files and checked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.fixed_point import FixedPoint
from acceltran_cli.progress import stage
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import QuantizedEncoder
from acceltran_sim.models.encoder_model import EncoderModel, load_model
from acceltran_sim.program.curves import fit_curves, load_curves
from acceltran_sim.program.job import Job, load_job
from acceltran_sim.program.quantize import quantize_model
from acceltran_sim.program.threshold_plan import ThresholdPlan

__all__ = [
    "check_folder",
    "check_output",
    "check_pruning",
    "load_calibration",
    "load_controlled_run",
    "load_run",
]


def check_pruning(threshold: float | None, sparsity: float | None) -> None:
    """Refuse a threshold together with a sparsity."""
    if threshold is not None and sparsity is not None:
        raise InputError(f"--threshold {threshold} must not be given with --sparsity {sparsity}")


def check_output(path: Path) -> None:
    """Refuse, before any work, a path that no file can be written to."""
    with _reachable(path):
        if path.is_dir():
            raise InputError(f"Output {path} must be writable: it is a folder")
        if path.exists() and not path.is_file():
            raise InputError(f"Output {path} must be a regular file")
        if not path.parent.is_dir():
            raise InputError(f"Output {path} must be writable: {path.parent} is not a folder")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"Output {path} must be writable: {path.parent} is not")


def check_folder(folder: Path) -> None:
    """Refuse, before any work, a folder that cannot be made or written to."""
    with _reachable(folder):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise InputError(f"Output {folder} must be writable: {there} is not a folder")
        if not os.access(there, os.W_OK):
            raise InputError(f"Output {folder} must be writable: {there} is not")


@contextmanager
def _reachable(path: Path) -> Iterator[None]:
    """Refuse a path that cannot even be looked at: too long, or in a folder of someone else."""
    try:
        yield
    except OSError as error:
        raise InputError(f"Output {path} must be writable: {error.strerror}") from None


def load_run(
    folder: str,
    inputs: str,
    *,
    fmt: FixedPoint,
    calibration: str | None,
    threshold: float | None,
    sparsity: float | None,
    layers: int | None,
) -> tuple[QuantizedEncoder, Job]:
    """Read model, input and calibration, and quantise the model."""
    check_pruning(threshold, sparsity)
    model, job, reference = _load(folder, inputs, calibration)
    with stage("Choosing scales"):
        encoder = quantize_model(
            model,
            reference,
            fmt=fmt,
            threshold=threshold or 0.0,
            sparsity=sparsity,
            layers=layers,
        )
    return encoder, job


def load_controlled_run(
    folder: str,
    inputs: str,
    *,
    fmt: FixedPoint,
    calibration: str | None,
    curves: str | None,
    sparsity: float,
    mode: ThresholdMode,
    layers: int | None,
) -> tuple[ThresholdPlan, Job]:
    """The same for thresholds that the machine finds; curves from a file, or fitted here."""
    model, job, reference = _load(folder, inputs, calibration)
    with stage("Choosing scales"):
        encoder = quantize_model(model, reference, fmt=fmt, layers=layers)
    depth = len(encoder.layers)
    if curves is not None:
        fitted = load_curves(curves, model.config, layers=depth)
    else:
        with stage("Fitting curves"):
            fitted = fit_curves(model, reference, layers=depth)
    return ThresholdPlan(encoder=encoder, curves=fitted, sparsity=sparsity, mode=mode), job


def load_calibration(path: str, model: EncoderModel) -> Job:
    """Read the input of a calibration run."""
    try:
        return load_job(path, hidden_size=model.config.hidden)
    except InputError as error:
        raise InputError(f"Calibration: {error}") from None


def _load(folder: str, inputs: str, calibration: str | None) -> tuple[EncoderModel, Job, Job]:
    """Model, input, and input of the calibration run."""
    with stage("Reading the model"):
        model = load_model(folder)
    job = load_job(inputs, hidden_size=model.config.hidden)
    return model, job, job if calibration is None else load_calibration(calibration, model)
