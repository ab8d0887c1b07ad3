"""Steps of the feed-forward network of a layer."""

from dataclasses import dataclass, replace
from typing import Any

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import QuantizedLayer
from acceltran_sim.program.layout import GroupLayout
from acceltran_sim.program.operation_steps import OperationSteps
from acceltran_sim.program.parts import Part, part_of, parts_within, pass_columns
from acceltran_sim.program.products import DEFAULT_ORDER, Product, most_inner, stream_count
from acceltran_sim.program.weights import Piece

__all__ = ["feed_forward"]

Pieces = dict[str, list[Piece]]


def feed_forward(
    steps: OperationSteps,
    layer: QuantizedLayer,
    pieces: Pieces,
    layout: GroupLayout,
    entries: dict[str, int],
) -> None:
    """Intermediate and output product of all rows, or of as many as fit at a time.

    On several clusters, the output product may be summed up in the lanes, a chunk of its inner
    dimension at a time. Between the columns of the intermediate product that are a chunk, and the
    chunk, other columns give the lanes work; the last chunk is done in parts of rows.
    """
    chain = _Chain.plan(steps, pieces, layout)
    if chain is None:
        step = layout.intermediate_rows
        for start in range(0, layout.rows, step):
            rows = min(step, layout.rows - start)
            whole = rows == layout.rows
            block = None if whole else [part_of(layout, 0, start, rows)]
            inner = layout.intermediate - start * steps.shape.intermediate_stride
            parts = block or steps.parts(layout, "intermediate")
            _intermediate(steps, layer, pieces, layout, entries, parts, inner)
            parts = block or steps.parts(layout, "output")
            _output(steps, layer, pieces, layout, parts, inner)
        return

    def chunk(number: int) -> None:
        parts = chain.parts(steps.config, layout, last=number == len(chain.chunks) - 1)
        inner = chain.chunks[number]

        def cut(product: Product, part: Part) -> Product:
            return chain.cut(product, part, inner, steps.shape.tile)

        _output(steps, layer, pieces, layout, parts, layout.intermediate, cut=cut)

    parts = steps.parts(layout, "intermediate")
    for n, columns in enumerate(chain.chunks):
        _intermediate(
            steps, layer, pieces, layout, entries, parts, layout.intermediate, columns=columns
        )
        if n:
            chunk(n - 1)
    chunk(len(chain.chunks) - 1)


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """Output products whose sums stay in the lanes from one to the next."""

    chunks: list[range]
    """Vectors of the inner dimension of each."""
    streams: list[int]
    """By round: rows at a time."""
    first_slots: list[int]
    """By round: where its sums begin in the lanes."""

    @classmethod
    def plan(cls, steps: OperationSteps, pieces: Pieces, layout: GroupLayout) -> "_Chain | None":
        """None where sums do not fit the lanes, and where weights or rows take turns."""
        config, shape = steps.config, steps.shape
        most, unit = most_inner(config), pass_columns(config)
        in_turn = layout.intermediate_rows < layout.rows or any(
            len(pieces[name]) > 1 for name in ("intermediate", "output")
        )
        # An intermediate product of several chunks has sums in the lanes itself.
        long = shape.hidden_blocks > most or unit > most
        if not steps.several or steps.order != DEFAULT_ORDER or in_turn or long:
            return None
        width, blocks = most // unit * unit, shape.intermediate_blocks
        chunks = [range(n, min(n + width, blocks)) for n in range(0, blocks, width)]
        streams = [
            stream_count(config, inner_vectors=width, columns=shape.hidden_blocks, rows=part.rows)
            for part in layout.rounds
        ]
        slots = [-(-part.rows // count) for part, count in zip(layout.rounds, streams, strict=True)]
        one_pass = config.lanes // max(streams) * config.array.pes_per_cluster
        fits = shape.hidden_blocks <= one_pass and sum(slots) <= config.datapath.partial_sums
        if len(chunks) == 1 or not fits:
            return None
        first_slots = [sum(slots[:n]) for n in range(len(slots))]
        return cls(chunks=chunks, streams=streams, first_slots=first_slots)

    def parts(self, config: AcceleratorConfig, layout: GroupLayout, *, last: bool) -> list[Part]:
        """All rows of each round, or, of the last chunk, parts that begin with a slot."""
        wholes = [
            part_of(layout, n, start, part.rows)
            for n, (start, part) in enumerate(zip(layout.first_rows, layout.rounds, strict=True))
        ]
        if not last:
            return wholes
        return [
            part
            for whole in wholes
            for part in parts_within(config, whole, multiple=self.streams[whole.round])
        ]

    def cut(self, product: Product, part: Part, inner: range, tile: int) -> Product:
        """Chunk of the product of a part of the rows."""
        streams = self.streams[part.round]
        slot = self.first_slots[part.round] + part.first_row // streams
        return replace(product.chunk(tile, inner), streams=streams, first_slot=slot)


def _intermediate(
    steps: OperationSteps,
    layer: QuantizedLayer,
    pieces: Pieces,
    layout: GroupLayout,
    entries: dict[str, int],
    parts: list[Part],
    target: int,
    columns: range | None = None,
) -> None:
    """Parts of the rows of the intermediate product, or of its columns; to rows from ``target``."""
    shape = steps.shape
    steps.linear(
        layout,
        layer.intermediate,
        pieces["intermediate"],
        (layout.hidden, shape.hidden_stride, shape.hidden_blocks),
        (target, shape.intermediate_stride),
        parts,
        entries["activation"],
        function=layer.function,
        gelu_input_shift=layer.gelu_input_shift,
        gelu_output_shift=layer.gelu_output_shift,
        columns=columns,
    )


def _output(
    steps: OperationSteps,
    layer: QuantizedLayer,
    pieces: Pieces,
    layout: GroupLayout,
    parts: list[Part],
    source: int,
    **options: Any,
) -> None:
    """Parts of the rows of the output product, whose operands begin at ``source``."""
    shape = steps.shape
    steps.linear(
        layout,
        layer.output,
        pieces["output"],
        (source, shape.intermediate_stride, shape.intermediate_blocks),
        (layout.output, shape.hidden_stride),
        parts,
        **options,
    )
