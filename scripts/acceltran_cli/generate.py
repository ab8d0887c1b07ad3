"""`acceltran generate`: the Verilog of a machine and what belongs to it."""

from pathlib import Path

import click

from acceltran.arch.config import AcceleratorConfig
from acceltran_cli.inputs import check_folder
from acceltran_cli.options import choose_config, set_option
from acceltran_cli.progress import stage
from acceltran_sim.errors import InputError

__all__ = ["generate", "write_machine"]


def write_machine(config: AcceleratorConfig, preset: str, folder: Path) -> None:
    """Write all files of a machine; InputError if the folder cannot be written to."""
    # Amaranth takes a moment to import: commands that need no Verilog do without.
    from acceltran.generate import write_outputs

    check_folder(folder)
    try:
        with stage("Generating Verilog"):
            write_outputs(config, preset, folder)
    except OSError as error:
        raise InputError(f"Output {folder} must be writable: {error.strerror or error}") from None


@click.command(
    short_help="Write Verilog, registers and commands of a machine.",
    epilog="""\b
Examples:
  acceltran generate tiny -o build/rtl/tiny
  acceltran generate tiny2 --set array.lanes=8 --set datapath.frac_bits=12 -o rtl
""",
)
@click.argument("preset")
@set_option
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write to.")
def generate(preset: str, settings: tuple[str, ...], output: str) -> None:
    """Write the machine PRESET to DIR.

    acceltran.v (top module acceltran), acceltran.json (configuration, ports, latencies, totals),
    acceltran.h (registers and commands for C), registers.md and lint.vlt.
    """
    config = choose_config(preset, settings)
    folder = Path(output)
    write_machine(config, preset, folder)
    click.echo(f"Wrote {preset} to {folder}: top module acceltran in acceltran.v")
