"""`acceltran bench product`: one matrix product with random data of a given density."""

import json
from collections.abc import Mapping
from typing import Any

import click

from acceltran.arch.config import AcceleratorConfig
from acceltran_cli.encoder_run import check_outcome, ready_simulator, simulator_failures
from acceltran_cli.failures import InternalError
from acceltran_cli.options import (
    Choice,
    Integer,
    Real,
    choose_config,
    memory_latency_option,
    preset_option,
    set_option,
)
from acceltran_cli.progress import stage
from acceltran_sim.bench.lane_cycles import lane_cycles
from acceltran_sim.bench.masks import MASKS
from acceltran_sim.bench.product_job import MeasuredProduct, ProductJob
from acceltran_sim.program.products import DEFAULT_ORDER, check_order
from acceltran_sim.rtl.simulator import (
    ProgramCall,
    SimulationResult,
    simulate_in_turn,
)

__all__ = ["measure_product", "product"]

LARGEST = (1 << 16) - 1
"""Largest size that a command can name."""


@click.command(
    short_help="Measure one product.",
    epilog="""\b
Examples:
  acceltran bench product --preset tiny --rows 512 --inner 256 --columns 128 --density 0.25
  acceltran bench product --preset medium --rows 512 --inner 768 --columns 768 --density 0.1 \\
      --masks clustered --operands dram --json
""",
)
@preset_option(required=True)
@click.option("--rows", required=True, type=Integer(1, LARGEST), metavar="M", help="Rows of A.")
@click.option(
    "--inner", required=True, type=Integer(1, LARGEST), metavar="K", help="Columns of A, rows of B."
)
@click.option(
    "--columns", required=True, type=Integer(1, LARGEST), metavar="N", help="Columns of B."
)
@click.option(
    "--density", required=True, type=Real(0, 1), metavar="D", help="Part of A that is not zero."
)
@click.option(
    "--weight-density",
    default=1.0,
    type=Real(0, 1),
    metavar="W",
    help="Part of B that is not zero; default: 1.",
)
@click.option(
    "--masks",
    default="iid",
    type=Choice(*MASKS),
    metavar="KIND",
    help="iid: each element on its own. clustered: dense rows and columns, and runs. Default: iid.",
)
@click.option(
    "--order",
    default=DEFAULT_ORDER,
    metavar="ORDER",
    help="Tile loops, outermost first: b batch, i rows, j columns, k inner dimension;"
    f" default: {DEFAULT_ORDER}.",
)
@click.option(
    "--operands",
    default="buffers",
    type=Choice("buffers", "dram"),
    metavar="PLACE",
    help="buffers: A and B are on chip and the result stays there. dram: loads and stores count;"
    " pieces of B and of the result take turns in the buffers. Default: buffers.",
)
@memory_latency_option
@click.option(
    "--seed",
    default=0,
    type=Integer(0, (1 << 63) - 1),
    metavar="N",
    help="Of the data; default: 0.",
)
@set_option
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def product(
    preset_name: str,
    rows: int,
    inner: int,
    columns: int,
    density: float,
    weight_density: float,
    masks: str,
    order: str,
    operands: str,
    memory_latency: int,
    seed: int,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Multiply A [M, K] by B [K, N] with random data on the Verilog and compare with golden."""
    config = choose_config(preset_name, settings)
    check_order(order)
    job = ProductJob.random(
        config,
        rows=rows,
        inner=inner,
        columns=columns,
        density=density,
        weight_density=weight_density,
        masks=masks,
        order=order,
        from_dram=operands == "dram",
        seed=seed,
    )
    figures = measure_product(job, memory_latency=memory_latency, seed=seed)
    content = {
        "preset": preset_name,
        "multipliers": config.multipliers,
        "rows": rows,
        "inner": inner,
        "columns": columns,
        "seed": seed,
        **figures,
    }
    click.echo(json.dumps(content, indent=2) if as_json else "\n".join(_table(content)))
    if not content["bits_equal"]:
        raise InternalError("RTL and golden models differ")


def measure_product(job: ProductJob, *, memory_latency: int, seed: int) -> dict[str, Any]:
    """Run a product on the Verilog; figures of the part that counts."""
    config = job.config
    built = job.build()
    results = _simulate(config, built, memory_latency, seed)
    counters = results[built.measured].counters
    busy, stalls = lane_cycles(counters)
    cycles = counters["cycles"]
    read, written = counters["dma_read_bytes"], counters["dma_write_bytes"]
    result = job.result(built, results[-1].image)
    return {
        "cycles": cycles,
        "products_dense": job.a.shape[0] * job.a.shape[1] * job.b.shape[1],
        "products_effectual": job.products_effectual,
        "multiplier_cycles": counters["multiplier_cycles"],
        "ideal_cycles": job.ideal_cycles,
        "efficiency": job.ideal_cycles / cycles,
        "busy": busy,
        "stalls": stalls,
        "dram_bytes": read + written,
        # Both directions of the bus move at the same time.
        "bandwidth_bound_cycles": -(-max(read, written) * 8 // config.memory.axi_data_bits),
        "bits_equal": bool((result == job.golden()).all()),
    }


def _simulate(
    config: AcceleratorConfig, built: MeasuredProduct, memory_latency: int, seed: int
) -> list[SimulationResult]:
    with simulator_failures():
        simulator = ready_simulator(config)
    calls = [
        ProgramCall(address=address, commands=len(program))
        for address, program in zip(built.addresses, built.programs, strict=True)
    ]
    total = sum(call.commands for call in calls)
    with simulator_failures(), stage("RTL", total, "commands") as update:
        results = simulate_in_turn(
            simulator,
            calls,
            image=built.image,
            base=built.memory.image.base,
            latency=memory_latency,
            seed=seed,
            progress=lambda done, cycles: update(done, f"{cycles:,} cycles"),
        )
    check_outcome(results[-1], built.programs[len(results) - 1])
    return results


def _table(content: Mapping[str, Any]) -> list[str]:
    lost = {name: value for name, value in content["stalls"].items() if value}
    total = content["busy"] + sum(content["stalls"].values())
    lines = {
        "product": f"{content['rows']} x {content['inner']} x {content['columns']},"
        f" {content['products_effectual'] / content['products_dense']:.1%} effectual",
        "cycles": f"{content['cycles']:,}, ideal {content['ideal_cycles']:,.0f}"
        f" ({content['efficiency']:.1%})",
        "lanes": f"{content['busy'] / total:.1%} busy"
        + "".join(f", {value / total:.1%} {name}" for name, value in lost.items()),
        "DRAM": f"{content['dram_bytes']:,} bytes, at least"
        f" {content['bandwidth_bound_cycles']:,} cycles",
    }
    if content["bits_equal"]:
        lines["check"] = "RTL = golden, bit for bit"
    return [f"{name:<12} {text}" for name, text in lines.items()]
