"""Run tables: figures into build/bench/, plots into docs/, and the table of targets and values."""

import json
import sys
from pathlib import Path

from acceltran_bench.plots import draw_all
from acceltran_bench.rows import HEADING
from acceltran_bench.tables import TABLES
from acceltran_sim.errors import InputError

RESULTS = Path("build/bench")
PLOTS = Path("docs")


def main(names: list[str]) -> None:
    """Run the tables of these names, or all; plots show all that has been measured so far."""
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise InputError(f"Table must be one of {', '.join(TABLES)}, not {unknown[0]}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    missed = 0
    for name in names or TABLES:
        print(f"\n{name}: {(TABLES[name].__doc__ or '').strip()}\n{HEADING}", flush=True)
        rows = []
        for row in TABLES[name]():
            print(row.text(), flush=True)
            rows.append(row.as_dict())
            missed += row.met is False
            (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    for path in draw_all(RESULTS, PLOTS):
        print(path)
    print(f"\n{missed} targets missed" if missed else "\nall targets met")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
