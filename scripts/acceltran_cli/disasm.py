"""`acceltran disasm`: programs as text."""

from pathlib import Path

import click

from acceltran_cli.encoder_run import prepare
from acceltran_cli.inputs import load_run
from acceltran_cli.options import (
    choose_config,
    model_options,
    preset_option,
    pruning_options,
    set_option,
)
from acceltran_sim.errors import InputError
from acceltran_sim.program.assembler import decode_program, disassemble
from acceltran_sim.program.products import check_order

__all__ = ["disasm"]


@click.command(
    short_help="Print a program as text.",
    epilog="""\b
Examples:
  acceltran disasm bert-tiny --preset tiny --inputs x.npz
  acceltran disasm --binary program.bin
""",
)
@click.argument("model", required=False)
@click.option("--binary", metavar="FILE", help="Commands as the machine fetches them.")
@preset_option()
@click.option("--inputs", metavar="X.npz", help="Input, as of acceltran run.")
@pruning_options
@model_options
@set_option
def disasm(
    model: str | None,
    binary: str | None,
    preset_name: str | None,
    inputs: str | None,
    threshold: float | None,
    sparsity: float | None,
    calibration: str | None,
    layers: int | None,
    order: str,
    settings: tuple[str, ...],
) -> None:
    """Print the program that acceltran run executes for MODEL and X.npz, or that FILE holds.

    A line is an opcode and its fields that are not zero; after=semaphore:count is what it waits
    for, with * in all clusters and with r before the rows of a product, signal=semaphore what it
    counts once complete.
    """
    if binary is not None:
        if model is not None:
            raise InputError(f"MODEL {model} must not be given with --binary {binary}")
        try:
            content = Path(binary).read_bytes()
        except OSError as error:
            raise InputError(f"{binary} must be readable: {error.strerror}") from None
        click.echo(disassemble(decode_program(content)), nl=False)
        return
    for name, value in (("MODEL", model), ("--preset", preset_name), ("--inputs", inputs)):
        if value is None:
            raise InputError(f"{name} must be given unless --binary is")
    assert model is not None and preset_name is not None and inputs is not None
    config = choose_config(preset_name, settings)
    check_order(order)
    encoder, job = load_run(
        model,
        inputs,
        fmt=config.fmt,
        calibration=calibration,
        threshold=threshold,
        sparsity=sparsity,
        layers=layers,
    )
    [program] = prepare(config, encoder, job, order=order).programs
    click.echo(disassemble(program.commands), nl=False)
