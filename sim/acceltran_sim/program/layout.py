"""Where the tensors of a group of batch elements lie in the activation buffer of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.errors import InputError
from acceltran_sim.program.rounds import Round, rounds_of, spans

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
    """Bases of tensors, in vectors, for rounds whose rows follow one another.

    The hidden state stays in its place through all layers. The rest of the buffer holds query, key,
    value and scores, then what the feed-forward network needs. The context takes the place of the
    query head by head, the attention output that of the network's output if the context is not
    there. If there is room, attention output and feed-forward network have places of their own, so
    that they wait for nothing that others still read. Key and value have the rows of all clusters
    that share a sequence.
    """

    shape: Shape
    rounds: tuple[Round, ...]
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
        """Rows of all rounds."""
        return sum(part.rows for part in self.rounds)

    @property
    def context(self) -> int:
        """Base of the context."""
        return self.query

    @property
    def first_rows(self) -> tuple[int, ...]:
        """Row of the group at which each round begins."""
        return tuple(sum(part.rows for part in self.rounds[:n]) for n in range(len(self.rounds)))

    @property
    def first_key_rows(self) -> tuple[int, ...]:
        """Row of key and value at which each round begins."""
        ends = [part.key_rows for part in self.rounds]
        return tuple(sum(ends[:n]) for n in range(len(ends)))


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


def group_elements(
    config: AcceleratorConfig, shape: Shape, lengths: Sequence[int], *, at_once: bool = False
) -> list[GroupLayout]:
    """Share a batch, in order, among groups of rounds that each fit the activation buffers.

    A sequence takes as few clusters as it fits, unless there are more than the batch can use.
    InputError for an element that does not fit alone, or ``at_once`` if there are several groups.
    """
    clusters, capacity = config.array.clusters, config.cluster_vectors
    buffer, holds = "the activation buffer", f"vectors, the buffer holds {capacity}"
    parts: list[Round] = []
    for span in spans(clusters, len(lengths)):
        parts = rounds_of(clusters, span, lengths)
        groups = _groups(shape, parts, capacity)
        if clusters > 1:
            buffer = f"the activation buffers of {1 << span} clusters"
            holds = f"vectors of each, they hold {capacity}"
        if groups is None:
            continue
        if at_once and len(groups) > 1:
            least = _least_vectors(shape, parts, whole=True)
            raise InputError(
                f"A batch of {len(lengths)} must fit {buffer} at once: it needs {least} {holds}"
            )
        return groups
    part = next(part for part in parts if _groups(shape, [part], capacity) is None)
    least = _least_vectors(shape, [part], whole=False)
    raise InputError(f"A sequence of {part.keys} rows must fit {buffer}: it needs {least} {holds}")


def _groups(shape: Shape, parts: Sequence[Round], capacity: int) -> list[GroupLayout] | None:
    groups: list[GroupLayout] = []
    for part in parts:
        if groups:
            wider = _layout(shape, (*groups[-1].rounds, part), capacity, whole=True)
            if wider is not None:
                groups[-1] = wider
                continue
        alone = _layout(shape, (part,), capacity, whole=False)
        if alone is None:
            return None
        groups.append(alone)
    return groups


def _least_vectors(shape: Shape, rounds: Sequence[Round], *, whole: bool) -> int:
    """Vectors that a group needs; unless ``whole``, its rows may take turns."""
    rows, longest = sum(part.rows for part in rounds), max(part.rows for part in rounds)
    key_rows, keys = sum(part.key_rows for part in rounds), max(part.keys for part in rounds)
    score_rows = longest if whole else min(longest, shape.tile)
    feed_rows = rows if whole else min(rows, shape.tile)
    attention = (rows + 2 * key_rows) * shape.attention_stride
    attention += 2 * score_rows * shape.score_stride(keys)
    feed = rows * shape.hidden_stride + feed_rows * shape.intermediate_stride
    return rows * shape.hidden_stride + max(attention, feed)


def _layout(
    shape: Shape, rounds: tuple[Round, ...], capacity: int, *, whole: bool
) -> GroupLayout | None:
    """Layout of a group, or None; ``whole`` asks for all rows at a time."""
    if _least_vectors(shape, rounds, whole=whole) > capacity:
        return None
    rows, longest = sum(part.rows for part in rounds), max(part.rows for part in rounds)
    arena = rows * shape.hidden_stride
    query = rows * shape.attention_stride
    key = sum(part.key_rows for part in rounds) * shape.attention_stride
    score_stride = shape.score_stride(max(part.keys for part in rounds))

    left_for_scores = capacity - arena - query - 2 * key
    slots = max(2, min(SLOTS, left_for_scores // (longest * score_stride)))
    score_rows = min(longest, left_for_scores // (slots * score_stride))
    left_for_feed = capacity - arena - rows * shape.hidden_stride
    intermediate_rows = min(rows, left_for_feed // shape.intermediate_stride)
    scores = arena + query + 2 * key
    intermediate = arena
    output = arena + intermediate_rows * shape.intermediate_stride
    attention_output = max(output, arena + query)
    # Apart from what others still read, if there is room.
    free = scores + slots * score_rows * score_stride
    if free + rows * shape.hidden_stride <= capacity:
        attention_output = free
        free += rows * shape.hidden_stride
    if free + rows * (shape.intermediate_stride + shape.hidden_stride) <= capacity:
        intermediate = free
        output = free + rows * shape.intermediate_stride
    return GroupLayout(
        shape=shape,
        rounds=rounds,
        hidden=0,
        query=arena,
        key=arena + query,
        value=arena + query + key,
        scores=tuple(scores + n * score_rows * score_stride for n in range(slots)),
        score_rows=score_rows,
        attention_output=attention_output,
        intermediate=intermediate,
        intermediate_rows=intermediate_rows,
        output=output,
    )
