"""What every MAC lane has in common: its ports and its parameters."""

from typing import Any

from amaranth import Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.library import SharedComponent

__all__ = ["HALVES", "Lane", "LaneSignature", "Scalar", "ScalarBeat", "TileWrite", "scalar_layout"]

HALVES = 2
"""Tiles that a lane's tile RAM holds: one in use, one being loaded."""


class Scalar(data.StructLayout):
    """Layout of one element of a row, with tags that say where it belongs.

    Members
    -------
    value : ``signed(fmt.width)``
        The element; not 0 if ``effectual``.
    row : ``range(tile_rows)``
        Row of the lane's tile that it multiplies.
    slot : ``range(partial_sums)``
        Where the row's unfinished sums are kept; the same in all scalars of a row.
    effectual : ``1``
        The scalar has a product. If 0, only the tags count.
    first, last : ``1``
        The scalar begins, or ends, its row (of this chunk of the inner dimension).
    resume : ``1``
        With ``first``: sums go on from those in ``slot``, not from 0.
    final : ``1``
        With ``last``: sums are finished and leave the lane, instead of going to ``slot``.
    context : ``1``
        Which of two settings of the cluster the row belongs to; lanes ignore it.
    """

    def __init__(self, fmt: FixedPoint, tile_rows: int, partial_sums: int):
        super().__init__({
            "value": signed(fmt.width),
            "row": range(tile_rows),
            "slot": range(partial_sums),
            "effectual": unsigned(1),
            "first": unsigned(1),
            "resume": unsigned(1),
            "last": unsigned(1),
            "final": unsigned(1),
            "context": unsigned(1),
        })


class ScalarBeat(data.StructLayout):
    """Layout of several elements of a row, all of one block of ``tile`` rows of the lane's tile.

    Members
    -------
    values : ``ArrayLayout(signed(fmt.width), scalars_per_beat)``
        The elements.
    index : ``ArrayLayout(range(tile), scalars_per_beat)``
        Rows that they multiply, within the block.
    row : ``range(tile_rows)``
        Row that the first of them multiplies; its upper bits are the block.
    effectual : ``unsigned(scalars_per_beat)``
        Which elements are there, the lowest places first. If 0, only the tags count.
    slot, first, resume, last, final, context
        As in ``Scalar``, of the beat.
    """

    def __init__(
        self,
        fmt: FixedPoint,
        *,
        tile: int,
        tile_rows: int,
        partial_sums: int,
        scalars_per_beat: int,
    ):
        super().__init__({
            "values": data.ArrayLayout(signed(fmt.width), scalars_per_beat),
            "index": data.ArrayLayout(unsigned(exact_log2(tile)), scalars_per_beat),
            "row": range(tile_rows),
            "slot": range(partial_sums),
            "effectual": unsigned(scalars_per_beat),
            "first": unsigned(1),
            "resume": unsigned(1),
            "last": unsigned(1),
            "final": unsigned(1),
            "context": unsigned(1),
        })


def scalar_layout(
    fmt: FixedPoint, *, tile: int, tile_rows: int, partial_sums: int, scalars_per_beat: int
) -> Scalar | ScalarBeat:
    """Layout of what rows consist of: ``Scalar``, or ``ScalarBeat`` if several come at a time."""
    if scalars_per_beat == 1:
        return Scalar(fmt, tile_rows, partial_sums)
    return ScalarBeat(
        fmt,
        tile=tile,
        tile_rows=tile_rows,
        partial_sums=partial_sums,
        scalars_per_beat=scalars_per_beat,
    )


class TileWrite(wiring.Signature):
    """Write port of a lane's tile, as the lane sees it: one row a cycle, never refused.

    Members
    -------
    valid : ``Out(1)``
        Write a row in this cycle.
    row : ``Out(range(tile_rows))``
    values : ``Out(ArrayLayout(signed(fmt.width), tile))``
    keep : ``Out(unsigned(tile))``
        Bit ``k`` is 1 if element ``k`` is not 0.
    """

    def __init__(self, fmt: FixedPoint, tile: int, tile_rows: int):
        super().__init__({
            "valid": Out(1),
            "row": Out(range(tile_rows)),
            "values": Out(data.ArrayLayout(signed(fmt.width), tile)),
            "keep": Out(unsigned(tile)),
        })


class LaneSignature(wiring.Signature):
    """Ports of a MAC lane; see ``Lane``."""

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        inner: int,
        tile_rows: int,
        partial_sums: int,
        scalars_per_beat: int,
    ):
        scalars = scalar_layout(
            fmt,
            tile=tile,
            tile_rows=tile_rows,
            partial_sums=partial_sums,
            scalars_per_beat=scalars_per_beat,
        )
        sums = data.ArrayLayout(signed(sum_width(fmt=fmt, inner=inner)), tile)
        super().__init__({
            "enable": In(1),
            "tile_write": In(TileWrite(fmt, tile, tile_rows)),
            "scalars": In(stream.Signature(scalars)),
            "sums": Out(stream.Signature(sums)),
            "issued": Out(1),
            "effectual_products": Out(range(tile + 1)),
            "reading": Out(HALVES),
            "empty": Out(1),
        })


class Lane(SharedComponent):
    """Base of the MAC lanes: ``sums[j] = seed[j] + sum_k a[k] * B[k, j]``, exact.

    A row is the scalars ``a[k]`` from one marked ``first`` to one marked ``last`` (which may be
    the same); it names each row ``k`` of the tile ``B`` at most once. ``seed`` is 0, or with
    ``resume`` the sums that an earlier row left in ``slot``. Sums of a ``final`` row leave through
    ``sums`` in the order of the rows, those of others go to ``slot``. All lanes give the same
    bits, because integer sums do not depend on order.

    Rules for the user:

    * A row of the tile is written in an earlier cycle than that in which the first scalar that
      names it is accepted, and not again before its last scalar is accepted and ``reading`` of
      its half is 0 (``BroadcastLane`` reads as it accepts: its ``reading`` is always 0).
    * ``enable`` changes only while ``empty`` is 1.

    Rows may use a slot one directly after the other: a lane waits where it must. ``scalars.ready``
    depends on no input but ``enable``. Finished sums wait in one register, while the lane works
    on; it stands still when the next sums are finished before they are taken.

    Parameters
    ----------
    fmt : FixedPoint
        Format of scalars and tile elements.
    tile : int
        Columns of the tile; a power of two, at least 4. As many multipliers, unless a kind of lane
        has a parameter for them.
    inner : int
        Longest sum: products that one sum may have over all its chunks.
    tile_rows : int
        Rows of the tile RAM; a multiple of ``tile``.
    partial_sums : int
        Rows whose unfinished sums the lane holds; at least 2.
    multiplier_stages : int
        Register stages of a product; at least 1.

    Members
    -------
    enable : ``In(1)``
        If 0, scalars are accepted and ignored.
    tile_write : ``In(TileWrite(fmt, tile, tile_rows))``
        Rows of the tile.
    scalars : ``In(stream.Signature(scalar_layout(...)))``
        Rows of scalars, ``SCALARS_PER_BEAT`` at a time.
    sums : ``Out(stream.Signature(ArrayLayout(signed(sum_width), tile)))``
        Sums of the final rows, where ``sum_width`` is ``acceltran.arch.sums.sum_width``.
    issued : ``Out(1)``
        Strobe: the multipliers were given products, one each, unless the lane has each multiplier
        pick its own.
    effectual_products : ``Out(range(tile + 1))``
        With ``issued``: how many of these products have two non-zero factors; else 0.
    reading : ``Out(2)``
        Bit h: scalars have been accepted whose rows, of half h of the tile RAM, are still to be
        read.
    empty : ``Out(1)``
        No scalar is under way and no sums wait.
    """

    SCALARS_PER_BEAT = 1
    """Scalars that the lane takes at a time."""

    enable: Signal
    tile_write: Any
    scalars: stream.Interface
    sums: stream.Interface
    issued: Signal
    effectual_products: Signal
    reading: Signal
    empty: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        inner: int,
        tile_rows: int,
        partial_sums: int,
        multiplier_stages: int = 2,
    ):
        if tile < 4 or tile & (tile - 1):
            raise ValueError(f"Tile must be a power of two of at least 4, not {tile!r}")
        if inner < 1:
            raise ValueError(f"Inner dimension must be at least 1, not {inner!r}")
        if tile_rows < tile or tile_rows % tile:
            raise ValueError(f"Tile rows must be a multiple of the tile {tile}, not {tile_rows!r}")
        if partial_sums < 2:
            raise ValueError(f"Partial sums must be at least 2, not {partial_sums!r}")
        if multiplier_stages < 1:
            raise ValueError(f"Multiplier stages must be at least 1, not {multiplier_stages!r}")
        self.fmt = fmt
        self.tile = tile
        self.inner = inner
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.multiplier_stages = multiplier_stages
        self.sum_width = sum_width(fmt=fmt, inner=inner)
        super().__init__(
            LaneSignature(
                fmt=fmt,
                tile=tile,
                inner=inner,
                tile_rows=tile_rows,
                partial_sums=partial_sums,
                scalars_per_beat=self.SCALARS_PER_BEAT,
            )
        )

    @property
    def LATENCY(self) -> int:
        """Cycles from accepting the last scalar of a row to offering its sums."""
        raise NotImplementedError
