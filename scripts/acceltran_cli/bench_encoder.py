"""`acceltran bench encoder`: a run of encoder layers, operation by operation."""

import json
from collections.abc import Mapping
from typing import Any

import click

from acceltran.arch.config import AcceleratorConfig
from acceltran_cli.encoder_run import (
    prepare,
    simulate_programs,
)
from acceltran_cli.failures import InternalError
from acceltran_cli.inputs import load_run
from acceltran_cli.options import (
    choose_config,
    inputs_option,
    memory_latency_option,
    model_options,
    preset_option,
    pruning_options,
    resident_option,
    rtl_options,
    set_option,
)
from acceltran_cli.progress import stage
from acceltran_sim.bench.activity import activities, by_operation, ideal_cycles, timeline
from acceltran_sim.bench.lane_cycles import lane_cycles
from acceltran_sim.golden.encoder import QuantizedEncoder, encode
from acceltran_sim.program.interpreter import Interpreter
from acceltran_sim.program.job import Job
from acceltran_sim.program.operations import operations
from acceltran_sim.program.products import check_order
from acceltran_sim.program.quantize import quantize

__all__ = ["encoder", "measure_encoder"]


@click.command(
    short_help="Measure a run of encoder layers, operation by operation.",
    epilog="""\b
Examples:
  acceltran bench encoder bert-tiny --preset tiny --inputs x.npz
  acceltran bench encoder bert-tiny --preset medium --inputs x.npz --sparsity 0.5 --layers 1 --json
""",
)
@click.argument("model")
@preset_option(required=True)
@inputs_option
@pruning_options
@model_options
@memory_latency_option
@resident_option
@set_option
@rtl_options
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON, with all commands' times.")
def encoder(
    model: str,
    preset_name: str,
    inputs: str,
    threshold: float | None,
    sparsity: float | None,
    calibration: str | None,
    layers: int | None,
    order: str,
    memory_latency: int,
    resident: bool,
    settings: tuple[str, ...],
    seed: int,
    stall: float,
    as_json: bool,
) -> None:
    """Run the encoder of MODEL on X.npz, as acceltran run does, and tell where the time goes.

    An operation is at work from the end of the command before it in its queue, at the earliest,
    to its own end; the lanes' cycles are counted in that time.
    """
    config = choose_config(preset_name, settings)
    check_order(order)
    quantized, job = load_run(
        model,
        inputs,
        fmt=config.fmt,
        calibration=calibration,
        threshold=threshold,
        sparsity=sparsity,
        layers=layers,
    )
    figures = measure_encoder(
        config,
        quantized,
        job,
        order=order,
        memory_latency=memory_latency,
        seed=seed,
        stall=stall,
        resident=resident,
    )
    content = {
        "model": model,
        "preset": preset_name,
        "multipliers": config.multipliers,
        "lengths": job.lengths.tolist(),
        "seed": seed,
        **figures,
    }
    click.echo(json.dumps(content, indent=2) if as_json else "\n".join(_table(content)))
    if not content["bits_equal"]:
        raise InternalError("RTL and golden models differ")


def measure_encoder(
    config: AcceleratorConfig,
    quantized: QuantizedEncoder,
    job: Job,
    *,
    order: str,
    memory_latency: int,
    seed: int,
    stall: float,
    resident: bool = False,
) -> dict[str, Any]:
    """Run an encoder on the Verilog; figures of the whole and of each operation."""
    with stage("Building the program"):
        prepared = prepare(config, quantized, job, order=order, resident=resident)
    programs, measured = prepared.programs, prepared.measured
    runs = simulate_programs(
        config, programs, latency=memory_latency, seed=seed, stall=stall, trace=True
    )
    with stage("Golden models"):
        golden = encode(
            quantized, quantize(job.hidden, quantized.input_exponent, config.fmt)[0], job.lengths
        )
        interpreter = Interpreter(config, programs[0].base, programs[0].image)
        for program in programs:
            interpreter.run(program.commands)
    commands = programs[measured].commands
    before = [command for program in programs[:measured] for command in program.commands]
    names = operations([*before, *commands], programs[0].weights)[len(before) :]
    parts = activities(commands, names, runs[measured].times, interpreter.products)
    ideal = sum(ideal_cycles(config, work) for work in interpreter.products)
    counters = prepared.counters(runs)
    busy, stalls = lane_cycles(counters)
    cycles = counters["cycles"]
    read, written = counters["dma_read_bytes"], counters["dma_write_bytes"]
    raw = prepared.output(runs)
    return {
        "cycles": cycles,
        **{name: counters[name] for name in ("load_cycles", "store_cycles") if resident},
        "products_dense": golden.products_dense,
        "products_effectual": golden.products_effectual,
        "multiplier_cycles": counters["multiplier_cycles"],
        "ideal_cycles": ideal,
        "efficiency": ideal / cycles,
        "busy": busy,
        "stalls": stalls,
        "dram_bytes": read + written,
        "bandwidth_bound_cycles": -(-max(read, written) * 8 // config.memory.axi_data_bits),
        "bits_equal": bool((raw == golden.raw).all()),
        "operations": by_operation(config, parts),
        "timeline": list(timeline(parts)),
    }


def _table(content: Mapping[str, Any]) -> list[str]:
    heads = ("commands", "start", "end", "cycles", "of ideal")
    ideal = f"ideal {content['ideal_cycles']:,.0f} ({content['efficiency']:.1%})"
    lines = [f"{content['cycles']:,} cycles, {ideal}"]
    if "load_cycles" in content:
        loaded = f"loaded in {content['load_cycles']:,} cycles"
        lines.append(f"buffers {loaded}, stored in {content['store_cycles']:,}")
    lines += [
        "",
        f"{'operation':<17}" + "".join(f"{head:>10}" for head in heads) + "  lanes",
    ]
    for name, figures in content["operations"].items():
        line = f"{name:<17}" + "".join(f"{figures[key]:>10,}" for key in heads[:-1])
        if "efficiency" in figures:
            line += f"{figures['efficiency']:>10.1%}  {_shares(figures)}"
        lines.append(line)
    lines += ["", f"{'all lanes':<17}{_shares(content)}"]
    if content["bits_equal"]:
        lines.append("RTL = golden, bit for bit")
    return lines


def _shares(figures: Mapping[str, Any]) -> str:
    total = figures["busy"] + sum(figures["stalls"].values())
    parts = {"busy": figures["busy"], **figures["stalls"]}
    return ", ".join(f"{value / total:.1%} {name}" for name, value in parts.items() if value)
