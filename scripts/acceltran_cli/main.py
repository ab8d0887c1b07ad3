"""The `acceltran` command: its commands, and what users see when something is wrong.

Exit codes: 0 done, 1 a bug of ours, 2 bad input or usage, 3 the machine stopped with an error.
"""

import atexit
import gc
import importlib.metadata
import re
import sys
from collections.abc import Sequence

import click

from acceltran.arch.config import ConfigError
from acceltran_cli.bench import bench
from acceltran_cli.classify import classify
from acceltran_cli.command_group import Commands
from acceltran_cli.demo import demo
from acceltran_cli.disasm import disasm
from acceltran_cli.failures import InternalError, MachineError
from acceltran_cli.generate import generate
from acceltran_cli.options import nearest, parameter_name
from acceltran_cli.presets import presets
from acceltran_cli.profile import profile
from acceltran_cli.run import run
from acceltran_sim.errors import InputError

__all__ = ["main"]

DONE, BUG, BAD_INPUT, MACHINE_ERROR = 0, 1, 2, 3
INTERRUPTED = 130


@click.group(
    cls=Commands,
    invoke_without_command=True,
    epilog="""\b
Examples:
  acceltran demo
  acceltran generate tiny -o build/rtl/tiny
  acceltran classify "a charming and often affecting journey"
  acceltran run --help
""",
)
@click.version_option(importlib.metadata.version("acceltran"), message="acceltran %(version)s")
@click.option("--traceback", is_flag=True, hidden=True)
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:
    """Generate transformer accelerators in Verilog, and run models on them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (run, generate, presets, profile, classify, disasm, bench, demo):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    atexit.register(gc.freeze)  # at the end nothing is worth collecting
    try:
        cli.main(arguments, prog_name="acceltran", standalone_mode=False)
    except click.ClickException as error:
        return _complain(_usage(error), BAD_INPUT)
    except (InputError, ConfigError) as error:
        return _complain(str(error), BAD_INPUT)
    except MachineError as error:
        return _complain(str(error), MACHINE_ERROR)
    except (click.Abort, KeyboardInterrupt):
        return _complain("Interrupted", INTERRUPTED)
    except Exception as error:
        if "--traceback" in arguments[:1]:
            raise
        if isinstance(error, OSError):  # disks that are full, terminals that are gone
            return _complain(str(error), BUG)
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, InternalError):
            text = str(error)
        hint = "this is a bug; acceltran --traceback COMMAND ... shows where"
        return _complain(f"{text.rstrip('.')} ({hint})", BUG)
    return DONE


def _complain(text: str, code: int) -> int:
    """Print one line, whatever a message quotes from files or arguments."""
    line = " ".join(text.split())
    click.echo(f"Error: {''.join(c if c.isprintable() else '?' for c in line)}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    """Say in one sentence what click says in several lines."""
    if isinstance(error, click.MissingParameter):
        return f"{parameter_name(error.param)} must be given"
    if isinstance(error, click.NoSuchOption):
        known = [
            name
            for param in (error.ctx.command.params if error.ctx else [])
            for name in param.opts
            if name.startswith("--") and not getattr(param, "hidden", False)
        ]
        close = f"; the nearest is {nearest(error.option_name, known)}" if known else ""
        return f"{error.option_name} is not an option of {_path(error)}{close}"
    if isinstance(error, click.BadOptionUsage):
        takes = "must be given a value" if "requires" in error.message else "takes no value"
        return f"{error.option_name} {takes}"
    extra = re.match(r"Got unexpected extra arguments? \((.*)\)", error.message, re.DOTALL)
    if extra and isinstance(error, click.UsageError):
        return f"{_path(error)} takes no further argument: {extra[1]}"
    return error.format_message()


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "acceltran"
