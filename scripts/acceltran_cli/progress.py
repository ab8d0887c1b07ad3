"""Progress of long work, shown on a terminal only."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["stage"]


@contextmanager
def stage(
    name: str, total: int | None = None, unit: str = "steps"
) -> Iterator[Callable[[int, str], None]]:
    """Show that a stage of the work runs; yields a function of the steps done and a remark.

    Standard error has to be a terminal, else nothing is shown.
    """
    layout = None if total else "{desc} ..."
    shown = sys.stderr.isatty()
    # Terminals that programs open may have no size, which tqdm takes for "show nothing".
    columns = (os.get_terminal_size(sys.stderr.fileno()).columns if shown else 0) or 80
    with tqdm(
        desc=name,
        total=total,
        unit=f" {unit}",
        leave=False,
        file=sys.stderr,
        disable=not shown,
        bar_format=layout,
        ncols=columns,
        nrows=24,
    ) as bar:
        if not total:
            bar.refresh()

        def update(done: int, remark: str = "") -> None:
            bar.set_postfix_str(remark, refresh=False)
            bar.update(done - bar.n)

        yield update
