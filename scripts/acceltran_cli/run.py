"""`acceltran run`: encoder layers of a model, on the golden models or on the generated Verilog."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from acceltran.arch.commands import ThresholdMode
from acceltran_cli.controlled_run import run_controlled
from acceltran_cli.encoder_run import run_encoder
from acceltran_cli.inputs import check_output, check_pruning, load_controlled_run, load_run
from acceltran_cli.options import (
    Choice,
    choose_config,
    control_options,
    inputs_option,
    model_options,
    preset_option,
    pruning_options,
    resident_option,
    rtl_options,
    set_option,
)
from acceltran_cli.summary import control_report, control_table, report, table
from acceltran_sim.errors import InputError
from acceltran_sim.program.job import result_arrays, write_arrays
from acceltran_sim.program.products import check_order

__all__ = ["run"]


@click.command(
    short_help="Run encoder layers of a model.",
    epilog="""\b
Examples:
  acceltran run bert-tiny --preset tiny --backend rtl --inputs x.npz -o y.npz
  acceltran run bert-tiny --preset tiny --backend golden --inputs x.npz -o y.npz \\
      --calibration c.npz --sparsity 0.5 --set datapath.frac_bits=12
""",
)
@click.argument("model")
@preset_option(required=True)
@click.option(
    "--backend",
    required=True,
    type=Choice("golden", "rtl"),
    metavar="BACKEND",
    help="golden: the models in NumPy. rtl: the generated Verilog, compared with golden.",
)
@inputs_option
@click.option("-o", "--output", required=True, metavar="Y.npz", help="File to write.")
@pruning_options
@control_options
@model_options
@resident_option
@set_option
@rtl_options
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
def run(
    model: str,
    preset_name: str,
    backend: str,
    inputs: str,
    output: str,
    threshold: float | None,
    sparsity: float | None,
    closed_loop: bool,
    open_loop: bool,
    curves: str | None,
    calibration: str | None,
    layers: int | None,
    order: str,
    resident: bool,
    settings: tuple[str, ...],
    seed: int,
    stall: float,
    as_json: bool,
) -> None:
    """Run the encoder of MODEL, a folder with config.json and model.safetensors (BERT or RoBERTa).

    X.npz holds hidden, float32 [batch, sequence, hidden], and may hold lengths, int32 or int64
    [batch]. Y.npz gets hidden, raw and scale (hidden = raw * scale) and, with rtl, counter_<name>.
    """
    config = choose_config(preset_name, settings)
    check_order(order)
    path = Path(output)
    check_output(path)
    mode = _mode(sparsity, closed_loop=closed_loop, open_loop=open_loop, curves=curves)
    check_pruning(threshold, sparsity)
    if resident and mode is not None:
        raise InputError("--resident must not be given with --closed-loop or --open-loop")
    files: dict[str, Any] = {"fmt": config.fmt, "calibration": calibration, "layers": layers}
    how: dict[str, Any] = {"backend": backend, "order": order, "seed": seed, "stall": stall}
    controlled = plan = None
    if mode is None:
        encoder, job = load_run(model, inputs, threshold=threshold, sparsity=sparsity, **files)
        result = run_encoder(config, encoder, job, resident=resident, **how)
    else:
        assert sparsity is not None
        plan, job = load_controlled_run(
            model, inputs, curves=curves, sparsity=sparsity, mode=mode, **files
        )
        encoder = plan.encoder
        controlled = run_controlled(config, plan, job, **how)
        result = controlled.run
    arrays: dict[str, Any] = dict(result_arrays(result.raw, result.exponent))
    if result.counters is not None:
        counters = {**result.counters, "products_dense": result.products_dense}
        arrays |= {f"counter_{name}": np.uint64(value) for name, value in counters.items()}
    write_arrays(path, arrays)

    batch, sequence, hidden = result.raw.shape
    depth = len(encoder.layers)
    if as_json:
        content = {
            "model": model,
            "preset": preset_name,
            "backend": backend,
            "batch": batch,
            "sequence": sequence,
            "hidden": hidden,
            "layers": depth,
            **report(config, result),
            **(control_report(plan, controlled) if plan and controlled else {}),
            "output": output,
        }
        click.echo(json.dumps(content, indent=2))
        return
    layers_text = "1 layer" if depth == 1 else f"{depth} layers"
    fmt = f"{config.datapath.int_bits}.{config.datapath.frac_bits}"
    click.echo(f"{batch} x {sequence} x {hidden}, {layers_text}, {backend}, {preset_name}, {fmt}")
    click.echo("\n".join(table(config, result)))
    if plan and controlled:
        click.echo("\n".join(control_table(plan, controlled)))
    click.echo(f"{'output':<12} {output}")


def _mode(
    sparsity: float | None, *, closed_loop: bool, open_loop: bool, curves: str | None
) -> ThresholdMode | None:
    """How the machine finds thresholds; None: it is given them."""
    if closed_loop and open_loop:
        raise InputError("--closed-loop must not be given with --open-loop")
    if not (closed_loop or open_loop):
        if curves is not None:
            raise InputError(f"--curves {curves} must be given with --closed-loop or --open-loop")
        return None
    if sparsity is None:
        name = "--closed-loop" if closed_loop else "--open-loop"
        raise InputError(f"{name} must be given with --sparsity")
    return ThresholdMode.CLOSED_LOOP if closed_loop else ThresholdMode.CURVE
