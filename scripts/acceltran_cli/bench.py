"""`acceltran bench`: measurements on the generated Verilog."""

import click

from acceltran_cli.bench_encoder import encoder
from acceltran_cli.bench_product import product
from acceltran_cli.command_group import Commands

__all__ = ["bench"]


@click.group(
    cls=Commands,
    invoke_without_command=True,
    short_help="Measure products and encoders on the Verilog.",
    epilog="""\b
Examples:
  acceltran bench product --preset tiny --rows 512 --inner 256 --columns 128 --density 0.25
  acceltran bench encoder bert-tiny --preset tiny --inputs x.npz --sparsity 0.5
""",
)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure the machine: every figure comes from counters and signals of the Verilog."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


bench.add_command(product)
bench.add_command(encoder)
