"""How the sequences of a batch are spread over the clusters of a machine, and over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acceltran.arch.commands import Opcode
from acceltran_sim.program.command import Command

__all__ = ["Round", "SequenceTable", "rounds_of", "spans"]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Batch elements that run at a time, each on a group of clusters of its own.

    A machine of one cluster has a round for each element.
    """

    lengths: tuple[int, ...]
    """Valid rows of the elements: element n runs on group n."""
    span: int
    """Clusters of a group, as a power of two."""

    @property
    def keys(self) -> int:
        """Rows of the longest element."""
        return max(self.lengths)

    @property
    def rows(self) -> int:
        """Rows that a cluster owns, the last ones of a group fewer or none."""
        return -(-self.keys >> self.span)

    @property
    def key_rows(self) -> int:
        """Rows of all clusters of a group."""
        return self.rows << self.span

    def shares(self) -> Iterator[tuple[int, int, int, int]]:
        """Clusters that own rows: cluster, element, first row in the element, and rows.

        First parts of all elements come first.
        """
        for place in range(1 << self.span):
            first = place * self.rows
            for element, length in enumerate(self.lengths):
                rows = min(self.rows, length - first)
                if rows > 0:
                    yield (element << self.span) + place, element, first, rows


def spans(clusters: int, batch: int) -> Iterator[int]:
    """Spans that may serve a batch, the best first: the largest whose groups suffice for a round of
    all elements, and wider ones.
    """
    most = clusters.bit_length() - 1
    best = max(n for n in range(most + 1) if clusters >> n >= min(batch, clusters))
    yield from range(best, most + 1)


def rounds_of(clusters: int, span: int, lengths: Sequence[int]) -> list[Round]:
    """Deal a batch, in order, to as few rounds as possible."""
    groups = clusters >> span
    return [
        Round(lengths=tuple(lengths[n : n + groups]), span=span)
        for n in range(0, len(lengths), groups)
    ]


class SequenceTable:
    """Which sequence each group of clusters has been given last."""

    def __init__(self):
        # Rows of a cluster, and length, by group.
        self._given: dict[int, tuple[int, int]] = {}

    def give(self, part: Round) -> Iterator[Command]:
        """Commands that give the clusters the sequences of a round; groups without one own nothing,
        and what a group has already is left out.
        """
        wanted = dict.fromkeys(self._given, (0, 0))
        wanted |= {group: (part.rows, length) for group, length in enumerate(part.lengths)}
        for group, (rows, length) in wanted.items():
            if self._given.get(group) != (rows, length):
                fields = {"group": group, "span": part.span, "rows": rows, "length": length}
                yield Command(opcode=Opcode.SEQUENCE, fields=fields)
        self._given = wanted
