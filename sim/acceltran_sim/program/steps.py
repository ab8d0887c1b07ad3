"""Steps of a program, and the loads of weights in between."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from acceltran.arch.commands import Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import WEIGHT
from acceltran_sim.program.timeline import Timeline
from acceltran_sim.program.weights import Piece, WeightBuffer

__all__ = ["Step", "emit"]

PREFETCH = 4
"""Pieces of weights that are loaded ahead of the command that needs them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Commands, and the weights that they need."""

    commands: Callable[[int], Iterable[Command]]
    """The commands, given the place of ``piece`` in the weight buffer."""
    piece: Piece | None = None


def emit(
    config: AcceleratorConfig,
    steps: Sequence[Step],
    addresses: Mapping[Piece, int],
    buffer: WeightBuffer,
) -> list[Command]:
    """Commands of all steps in order, with waits, and END.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    steps : sequence of Step
        What to do.
    addresses : mapping from Piece to int
        Where the weights lie in DRAM.
    buffer : WeightBuffer
        Weights that are in the machine already, to which those that are loaded are added.
    """
    timeline = Timeline(config)
    for n, step in enumerate(steps):
        base = 0
        if step.piece is not None:
            place = buffer.base(step.piece)
            if place is None:
                place = buffer.place(step.piece, keep=set())
                assert place is not None
                timeline.add(_load(step.piece, addresses[step.piece], place))
            base = place
        for command in step.commands(base):
            timeline.add(command)
        for piece, place in _prefetch(buffer, steps, n + 1):
            timeline.add(_load(piece, addresses[piece], place))
    timeline.add(Command(opcode=Opcode.END))
    return timeline.commands


def _prefetch(
    buffer: WeightBuffer, steps: Sequence[Step], start: int
) -> Iterator[tuple[Piece, int]]:
    """Place the next pieces; yield those that must be loaded, with their places."""
    coming: set[Piece] = set()
    for n in range(start, len(steps)):
        piece = steps[n].piece
        if piece is None or piece in coming:
            continue
        if buffer.base(piece) is None:
            place = buffer.place(piece, keep=coming)
            if place is None:
                return
            yield piece, place
        coming.add(piece)
        if len(coming) == PREFETCH:
            return


def _load(piece: Piece, address: int, base: int) -> Command:
    return Command(
        opcode=Opcode.LOAD,
        fields={
            "dram_address": address,
            "buffer": WEIGHT,
            "base": base,
            "vectors": piece.size,
            "row_vectors": piece.columns,
            "row_stride": piece.columns,
        },
    )
