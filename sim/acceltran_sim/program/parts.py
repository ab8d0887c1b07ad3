"""Rows that one command works on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.layout import GroupLayout
from acceltran_sim.program.weights import Piece

__all__ = ["Part", "part_of", "parts_of", "parts_within", "pass_columns", "product_blocks"]

MOST_PARTS, LEAST_PART = 8, 16
"""Parts that rows are cut into, and rows that each of them has at least."""
PASS_WORDS = 2
"""Words of columns that parts of rows of several clusters work on at a time."""
LEAST_PART_OF_CLUSTER = 8
"""Rows of a part on one of several clusters, which have few rows."""
NARROW = ("value", "context")
"""Operations there with few columns, which rows of all streams share: a part has a row for each, so
that few commands stand between the loads of their tiles."""
WHOLE = ("output",)
"""Operations that are not cut there: every part of a product of several chunks loads its tiles,
unless its sums stay in the lanes."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Consecutive rows of a group. Those of several clusters belong to one round."""

    round: int
    row: int
    rows: int
    first_row: int
    """Place of the first row among those that a cluster owns."""
    key_row: int
    """Place of the first row of a sequence's first cluster in key and value."""
    all_rows: int
    """Rows of all parts of this one's round that follow one another."""


def part_of(layout: GroupLayout, number: int, row: int, rows: int) -> Part:
    """Rows of a group from ``row`` on, which belong to round ``number``."""
    first_row = row - layout.first_rows[number]
    return Part(
        round=number,
        row=row,
        rows=rows,
        first_row=first_row,
        key_row=layout.first_key_rows[number] + first_row,
        all_rows=rows,
    )


def parts_of(config: AcceleratorConfig, layout: GroupLayout, operation: str) -> Iterator[Part]:
    """Parts of all rows: while one is loaded, normalised or stored, the next one multiplies."""
    if config.array.clusters == 1:
        for row, rows in _cut(layout.rows, MOST_PARTS):
            yield part_of(layout, 0, row, rows)
        return
    for n, (start, part) in enumerate(zip(layout.first_rows, layout.rounds, strict=True)):
        yield from parts_within(config, part_of(layout, n, start, part.rows), operation)


def parts_within(
    config: AcceleratorConfig, part: Part, operation: str = "", multiple: int = 1
) -> Iterator[Part]:
    """Parts of the rows that several clusters work on together, each but the last one a
    ``multiple``.
    """
    most = 1 if operation in WHOLE else MOST_PARTS
    least = LEAST_PART_OF_CLUSTER
    if operation in NARROW:
        least = max(least, config.streams)
    for row, rows in _cut(part.rows, most, least, multiple):
        yield replace(
            part,
            row=part.row + row,
            rows=rows,
            first_row=part.first_row + row,
            key_row=part.key_row + row,
        )


def product_blocks(
    config: AcceleratorConfig,
    pieces: Sequence[Piece],
    parts: Sequence[Part],
    columns: range | None = None,
) -> Iterator[tuple[Piece, int, int, Part]]:
    """Cut a product, or those ``columns`` of it: piece, first column in it, columns, rows.

    Rows are in parts in the first and the last column pass only, where the product would
    otherwise wait for all of its input, and who reads its result for all of that; fewer
    tiles are loaded in between.
    """
    unit = pass_columns(config)
    several = config.array.clusters > 1
    total = pieces[-1].first + pieces[-1].columns
    last = (total - 1) // unit * unit
    whole = [
        replace(together[0], rows=sum(part.rows for part in together))
        for _, group in groupby(parts, key=lambda part: part.round)
        for together in [list(group)]
    ]
    for piece in pieces:
        first, end = piece.first, piece.first + piece.columns
        if columns is not None:
            first, end = max(first, columns.start), min(end, columns.stop)
            if first >= end:
                continue
        inside = {cut for cut in (unit, last) if first < cut < end}
        if several and piece.matrix_rows * 2 <= config.datapath.tile_rows:
            inside = set(range(first + unit, end, unit))
        cuts = sorted({first, end} | (inside if len(parts) > len(whole) else set()))
        for start, stop in pairwise(cuts):
            at_edge = start < unit or stop > last or several
            for part in parts if at_edge else whole:
                yield piece, start - piece.first, stop - start, part


def pass_columns(config: AcceleratorConfig) -> int:
    """Columns that the rows of a product are cut into parts for."""
    # On several clusters, a part begins with the tile that the one before has ended with.
    words = PASS_WORDS if config.array.clusters > 1 else config.lanes
    return words * config.array.pes_per_cluster


def _cut(
    rows: int, most_parts: int, least: int = LEAST_PART, multiple: int = 1
) -> Iterator[tuple[int, int]]:
    """First row and rows of equal parts, each but the last one a ``multiple``."""
    parts = min(most_parts, rows // least) or 1
    size = -(-rows // (parts * multiple)) * multiple
    for row in range(0, rows, size):
        yield row, min(size, rows - row)
