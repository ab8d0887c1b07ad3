"""Where the tensors of a group of batch elements lie in the activation buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.errors import InputError

__all__ = ["GroupLayout", "Shape", "check_limits", "group_elements"]

SLOTS = 4
"""Score matrices that may be under way at once."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a layer in vectors. Rows of the activation buffer begin at bank 0."""

    tile: int
    banks: int
    hidden: int
    heads: int
    intermediate: int

    @classmethod
    def of(
        cls, config: AcceleratorConfig, *, hidden: int, heads: int, intermediate: int
    ) -> "Shape":
        """Shape of a model on a machine."""
        return cls(
            tile=config.datapath.tile,
            banks=config.array.pes_per_cluster,
            hidden=hidden,
            heads=heads,
            intermediate=intermediate,
        )

    def blocks(self, elements: int) -> int:
        """Vectors that hold so many elements."""
        return -(-elements // self.tile)

    def stride(self, blocks: int) -> int:
        """Vectors from row to row, for rows of so many vectors."""
        return -(-blocks // self.banks) * self.banks

    @property
    def head_size(self) -> int:
        """Elements of a head."""
        return self.hidden // self.heads

    @property
    def head_blocks(self) -> int:
        """Vectors of a head: each head is padded to whole vectors."""
        return self.blocks(self.head_size)

    @property
    def hidden_blocks(self) -> int:
        """Vectors of a row of hidden states."""
        return self.blocks(self.hidden)

    @property
    def attention_blocks(self) -> int:
        """Vectors of a row of query, key, value and context."""
        return self.heads * self.head_blocks

    @property
    def intermediate_blocks(self) -> int:
        """Vectors of a row inside the feed-forward network."""
        return self.blocks(self.intermediate)

    @property
    def hidden_stride(self) -> int:
        """Vectors from row to row of hidden states."""
        return self.stride(self.hidden_blocks)

    @property
    def attention_stride(self) -> int:
        """Vectors from row to row of query, key, value and context."""
        return self.stride(self.attention_blocks)

    @property
    def intermediate_stride(self) -> int:
        """Vectors from row to row inside the feed-forward network."""
        return self.stride(self.intermediate_blocks)

    def score_stride(self, keys: int) -> int:
        """Vectors from row to row of scores."""
        return self.stride(self.blocks(keys))


@dataclass(frozen=True, kw_only=True)
class GroupLayout:
    """Bases of tensors, in vectors, for a group whose valid rows follow one another.

    The hidden state stays in its place through all layers. The rest of the buffer holds query, key,
    value and scores, then what the feed-forward network needs. The context takes the place of the
    query head by head, the attention output that of the network's output if the context is not
    there.
    """

    shape: Shape
    lengths: tuple[int, ...]
    hidden: int
    query: int
    key: int
    value: int
    scores: tuple[int, ...]
    """Base of each slot for scores."""
    score_rows: int
    """Rows of a slot: the rows of one head are done in blocks of so many."""
    attention_output: int
    intermediate: int
    intermediate_rows: int
    """Rows that the feed-forward network works on at a time."""
    output: int

    @property
    def rows(self) -> int:
        """Valid rows of all elements."""
        return sum(self.lengths)

    @property
    def context(self) -> int:
        """Base of the context."""
        return self.query

    @property
    def first_rows(self) -> tuple[int, ...]:
        """Row of the group at which each element begins."""
        return tuple(sum(self.lengths[:n]) for n in range(len(self.lengths)))


def check_limits(
    config: AcceleratorConfig, *, hidden: int, heads: int, intermediate: int, sequence: int
) -> None:
    """Raise InputError for a job beyond the limits of the machine."""
    limits = config.limits
    shape = Shape.of(config, hidden=hidden, heads=heads, intermediate=intermediate)
    for thing, value, limit, name in (
        ("Sequence", sequence, limits.sequence, "sequence"),
        ("Hidden size", hidden, limits.hidden, "hidden"),
        (
            "Hidden size with heads padded to whole vectors",
            shape.attention_blocks * shape.tile,
            limits.inner,
            "inner",
        ),
        (
            "Intermediate size padded to whole vectors",
            shape.intermediate_blocks * shape.tile,
            limits.inner,
            "inner",
        ),
    ):
        if value > limit:
            raise InputError(f"{thing} must be at most limits.{name} ({limit}), not {value}")


def group_elements(shape: Shape, lengths: Sequence[int], capacity: int) -> list[GroupLayout]:
    """Share a batch, in order, among groups that each fit a buffer of ``capacity`` vectors.

    InputError for an element that does not fit alone.
    """
    groups: list[GroupLayout] = []
    for length in lengths:
        if groups:
            wider = _layout(shape, (*groups[-1].lengths, length), capacity, whole=True)
            if wider is not None:
                groups[-1] = wider
                continue
        alone = _layout(shape, (length,), capacity, whole=False)
        if alone is None:
            raise InputError(
                f"A sequence of {length} rows must fit the activation buffer: it needs"
                f" {_least_vectors(shape, length)} vectors, the buffer holds {capacity}"
            )
        groups.append(alone)
    return groups


def _least_vectors(shape: Shape, length: int) -> int:
    rows = min(length, shape.tile)
    attention = 3 * length * shape.attention_stride + 2 * rows * shape.score_stride(length)
    feed = length * shape.hidden_stride + rows * shape.intermediate_stride
    return length * shape.hidden_stride + max(attention, feed)


def _layout(
    shape: Shape, lengths: tuple[int, ...], capacity: int, *, whole: bool
) -> GroupLayout | None:
    """Layout of a group, or None; ``whole`` asks for all rows at a time."""
    rows, longest = sum(lengths), max(lengths)
    arena = rows * shape.hidden_stride
    attention = rows * shape.attention_stride
    score_stride = shape.score_stride(longest)

    left_for_scores = capacity - arena - 3 * attention
    slots = max(2, min(SLOTS, left_for_scores // (longest * score_stride)))
    score_rows = min(longest, left_for_scores // (slots * score_stride))
    left_for_feed = capacity - arena - rows * shape.hidden_stride
    intermediate_rows = min(rows, left_for_feed // shape.intermediate_stride)
    least_scores = longest if whole else min(longest, shape.tile)
    least_intermediate = rows if whole else min(rows, shape.tile)
    if score_rows < least_scores or intermediate_rows < least_intermediate:
        return None
    scores = arena + 3 * attention
    output = arena + intermediate_rows * shape.intermediate_stride
    attention_output = max(output, arena + attention)
    # Apart from what attention still reads, if there is room.
    behind_scores = scores + slots * score_rows * score_stride
    if behind_scores + rows * shape.hidden_stride <= capacity:
        attention_output = behind_scores
    return GroupLayout(
        shape=shape,
        lengths=lengths,
        hidden=0,
        query=arena,
        key=arena + attention,
        value=arena + 2 * attention,
        scores=tuple(scores + n * score_rows * score_stride for n in range(slots)),
        score_rows=score_rows,
        attention_output=attention_output,
        intermediate=arena,
        intermediate_rows=intermediate_rows,
        output=output,
    )
