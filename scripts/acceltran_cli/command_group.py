"""Groups of commands whose complaints are one sentence."""

import click

from acceltran_sim.errors import InputError

__all__ = ["Commands"]


class Commands(click.Group):
    """Commands by name, with a complaint of one sentence for a name that is not there."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look up the command that ``args`` begin with."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            raise InputError(f"Command must be one of {', '.join(known)}, not {args[0]}")
        return super().resolve_command(ctx, args)
