"""Steps of attention between projections and output: scores, softmax and context of all heads."""

from collections.abc import Callable, Iterator

from acceltran.arch.commands import Opcode, OperandSource
from acceltran_sim.golden.encoder import QuantizedLayer
from acceltran_sim.program.layout import GroupLayout
from acceltran_sim.program.operation_steps import OperationSteps
from acceltran_sim.program.parts import Part, part_of, parts_within
from acceltran_sim.program.products import Product
from acceltran_sim.program.threshold_entries import NO_THRESHOLD

__all__ = ["attention"]


def attention(
    steps: OperationSteps,
    layer: QuantizedLayer,
    layout: GroupLayout,
    entries: dict[str, int],
    before_contexts: Callable[[], None],
    before_last: Callable[[int, int], None],
) -> None:
    """Scores, softmax and context of all heads; scores run ahead, so that softmax overlaps.

    ``before_contexts()`` adds steps in front of the first context, ``before_last(n, of)`` in
    front of context ``n`` of the last round's ``of``.
    """
    items = [
        (part_of(layout, n, start + row, min(layout.score_rows, part.rows - row)), head)
        for n, (start, part) in enumerate(zip(layout.first_rows, layout.rounds, strict=True))
        for row in range(0, part.rows, layout.score_rows)
        for head in range(steps.shape.heads)
    ]
    slots = len(layout.scores)
    # Scores may overwrite those whose context was computed before the last one.
    ahead = max(1, slots - 2)
    for n in range(len(items) + ahead):
        if n < len(items):
            _scores(steps, layer, layout, items[n], layout.scores[n % slots], entries)
        if n >= ahead:
            done = n - ahead
            if done == 0:
                before_contexts()
            last = [item for item in items if item[0].round == items[-1][0].round]
            if items[done] in last:
                before_last(last.index(items[done]), len(last))
            slot = layout.scores[done % slots]
            _context(steps, layer, layout, items[done], slot, entries)


def _parts(
    steps: OperationSteps, layout: GroupLayout, whole: Part, operation: str, slot: int
) -> Iterator[tuple[Part, int]]:
    """Parts of the rows of a head, and the places of their scores."""
    stride = steps.shape.score_stride(layout.rounds[whole.round].keys)
    steps.enter(layout, whole)
    for part in parts_within(steps.config, whole, operation) if steps.several else [whole]:
        yield part, slot + (part.row - whole.row) * stride


def _scores(
    steps: OperationSteps,
    layer: QuantizedLayer,
    layout: GroupLayout,
    item: tuple[Part, int],
    slot: int,
    entries: dict[str, int],
) -> None:
    whole, head = item
    shape, keys = steps.shape, layout.rounds[whole.round].keys
    stride, column = shape.attention_stride, head * shape.head_blocks
    own_keys = int(steps.several)
    for part, place in _parts(steps, layout, whole, "scores", slot):
        own = steps.own(part)
        steps.product(
            Product(
                a_base=layout.query + part.row * stride + column,
                a_row_stride=stride,
                inner_vectors=shape.head_blocks,
                b_source=OperandSource.ACTIVATION_TRANSPOSED,
                b_base=layout.key + layout.first_key_rows[part.round] * stride + column,
                b_row_stride=stride,
                b_rows=keys,
                c_base=place,
                c_row_stride=shape.score_stride(keys),
                c_first=0,
                columns=shape.blocks(keys),
                rows=part.rows,
                shift=layer.score_shift,
                threshold=NO_THRESHOLD,
                own_keys=own_keys,
                **own,
            ),
            part.all_rows,
        )
        steps.add(
            Opcode.SOFTMAX,
            source_base=place,
            source_row_stride=shape.score_stride(keys),
            target_base=place,
            target_row_stride=shape.score_stride(keys),
            rows=part.rows,
            blocks=shape.blocks(keys),
            keys=keys,
            constant=layer.softmax_constant,
            shift=layer.softmax_shift,
            threshold=entries["probabilities"],
            **own,
            own_keys=own_keys,
        )


def _context(
    steps: OperationSteps,
    layer: QuantizedLayer,
    layout: GroupLayout,
    item: tuple[Part, int],
    slot: int,
    entries: dict[str, int],
) -> None:
    whole, head = item
    shape, keys = steps.shape, layout.rounds[whole.round].keys
    stride, column = shape.attention_stride, head * shape.head_blocks
    for part, place in _parts(steps, layout, whole, "context", slot):
        steps.product(
            Product(
                a_base=place,
                a_row_stride=shape.score_stride(keys),
                inner_vectors=shape.blocks(keys),
                b_source=OperandSource.ACTIVATION,
                b_base=layout.value + layout.first_key_rows[part.round] * stride + column,
                b_row_stride=stride,
                b_rows=keys,
                c_base=layout.context + part.row * stride,
                c_row_stride=stride,
                c_first=column,
                columns=shape.head_blocks,
                rows=part.rows,
                shift=layer.context_shift,
                threshold=entries["context"],
                own_keys=int(steps.several),
                **steps.own(part),
            ),
            part.all_rows,
        )
