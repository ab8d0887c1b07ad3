"""`acceltran profile`: threshold curves of a model."""

from pathlib import Path

import click

from acceltran_cli.inputs import check_output, load_calibration
from acceltran_cli.options import Integer
from acceltran_cli.progress import stage
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.curves import curves_text, fit_curves
from acceltran_sim.program.job import write_whole

__all__ = ["profile"]


@click.command(
    short_help="Fit threshold curves of a model.",
    epilog="""\b
Examples:
  acceltran profile bert-tiny --calibration c.npz -o curves.json
  acceltran run bert-tiny --preset tiny --backend rtl --inputs x.npz -o y.npz \\
      --sparsity 0.5 --closed-loop --curves curves.json
""",
)
@click.argument("model")
@click.option(
    "--calibration",
    required=True,
    metavar="C.npz",
    help="Representative input: hidden and, optionally, lengths.",
)
@click.option("-o", "--output", required=True, metavar="CURVES.json", help="File to write.")
@click.option("--layers", type=Integer(), metavar="N", help="Curves of N layers; default: all.")
def profile(model: str, calibration: str, output: str, layers: int | None) -> None:
    """Fit curves of MODEL: threshold over sparsity, of every tensor that is pruned.

    CURVES.json holds 33 points for each, quantiles of the magnitudes in an unpruned float run.
    """
    path = Path(output)
    check_output(path)
    with stage("Reading the model"):
        encoder = load_model(model)
    job = load_calibration(calibration, encoder)
    with stage("Fitting curves"):
        curves = fit_curves(encoder, job, layers=layers)
    write_whole(path, curves_text(curves, encoder.config).encode())
    count, depth = sum(map(len, curves.layers)), len(curves.layers)
    click.echo(f"{count} curves of {depth} layers from {len(job.lengths)} inputs: {output}")
