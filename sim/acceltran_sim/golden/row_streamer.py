"""Golden model of the row streamer: the effectual elements of one row."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

__all__ = ["Beat", "Token", "beats_of", "stream_row"]


@dataclass(frozen=True, kw_only=True)
class Token:
    """One scalar for the lanes; the fields are those of the hardware's ``Scalar``."""

    value: int
    row: int
    slot: int
    effectual: bool
    first: bool
    resume: bool
    last: bool
    final: bool
    context: bool = False


def stream_row(
    values: npt.NDArray[np.int64],
    keep: npt.NDArray[np.bool_],
    *,
    tile_row: int,
    slot: int,
    first: bool,
    final: bool,
    context: bool,
) -> tuple[list[Token], int]:
    """Tokens of one row job, and how many of its vectors are skipped.

    Parameters
    ----------
    values, keep : arrays of shape ``(vectors, tile)``
        Elements, and which of them are effectual.
    tile_row : int
        Row of the tile RAM that belongs to the first element.
    slot : int
        Where the row's unfinished sums are kept.
    first, final : bool
        The row's sums begin with this job; they are complete after it.
    context : bool
        Passed on.
    """
    count, tile = values.shape
    places = np.flatnonzero(keep)
    skipped = count - int(np.count_nonzero(keep.any(axis=1)))
    elements = [(int(values.flat[place]), int(place), True) for place in places]
    if not elements:
        elements = [(0, (count - 1) * tile, False)]
    tokens = [
        Token(
            value=value,
            row=tile_row + place,
            slot=slot,
            effectual=effectual,
            first=number == 0,
            resume=not first,
            last=number == len(elements) - 1,
            final=final,
            context=context,
        )
        for number, (value, place, effectual) in enumerate(elements)
    ]
    return tokens, skipped


@dataclass(frozen=True, kw_only=True)
class Beat:
    """Several scalars of a row for the lanes: what the hardware's ``ScalarBeat`` says.

    ``values`` and ``rows`` hold the effectual ones; ``row`` is that of the first.
    """

    values: tuple[int, ...]
    rows: tuple[int, ...]
    row: int
    slot: int
    first: bool
    resume: bool
    last: bool
    final: bool
    context: bool = False


def beats_of(tokens: Iterable[Token], *, tile: int, scalars_per_beat: int) -> list[Beat]:
    """Beats of the tokens of one row: those of one vector together, as many as fit."""
    beats = []
    for _, group in groupby(tokens, key=lambda token: token.row // tile):
        vector = list(group)
        for begin in range(0, len(vector), scalars_per_beat):
            part = vector[begin : begin + scalars_per_beat]
            effectual = [token for token in part if token.effectual]
            beats.append(
                Beat(
                    values=tuple(token.value for token in effectual),
                    rows=tuple(token.row for token in effectual),
                    row=part[0].row,
                    slot=part[0].slot,
                    first=part[0].first,
                    resume=part[0].resume,
                    last=part[-1].last,
                    final=part[0].final,
                    context=part[0].context,
                )
            )
    return beats
