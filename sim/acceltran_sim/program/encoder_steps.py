"""What a group of batch elements goes through, as steps of a program."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from acceltran.arch.activation import Activation
from acceltran.arch.commands import THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import SITES, Linear, QuantizedLayer
from acceltran_sim.program.command import Command
from acceltran_sim.program.layout import GroupLayout, Shape
from acceltran_sim.program.products import Product, product_commands
from acceltran_sim.program.steps import Step
from acceltran_sim.program.threshold_entries import NO_THRESHOLD, threshold_entry
from acceltran_sim.program.weights import Piece

__all__ = ["EncoderSteps"]

MOST_PARTS, LEAST_PART = 8, 16
"""Parts that rows are cut into, and rows that each of them has at least."""
MOST_PARTS_OF_CLUSTERS = 1
"""The same for each round of several clusters: each part of a product loads all of its tiles."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Consecutive rows of a group. Those of several clusters belong to one round."""

    round: int
    row: int
    rows: int
    first_row: int
    """Place of the first row among those that a cluster owns."""
    key_row: int
    """Place of the first row of a group's first cluster in key and value."""


class EncoderSteps:
    """Collects the steps of groups, one after the other.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    shape : Shape
        Sizes of a layer.
    order : str
        Tile loops of every product.

    Members
    -------
    steps : list of Step
        All steps so far.
    """

    def __init__(self, config: AcceleratorConfig, shape: Shape, order: str):
        self.config = config
        self.shape = shape
        self.order = order
        self.steps: list[Step] = []
        self._thresholds: list[Mapping[str, int]] = [{"value": 0}] * THRESHOLDS
        self._several = config.array.clusters > 1
        # By group of clusters: rows of a cluster, and length of the sequence.
        self._sequences: dict[int, tuple[int, int]] = {}

    def add_group(
        self,
        layout: GroupLayout,
        layers: Sequence[QuantizedLayer],
        pieces: Sequence[dict[str, list[Piece]]],
        input_address: int,
        output_address: int,
    ) -> None:
        """Steps of one group: load its rows, all layers, store its rows."""
        # The first product needs its weights and a part of the rows.
        first = pieces[0][self.first_operation][0]
        self.load(layout, input_address, first)
        self.run(layout, layers, pieces)
        self.store(layout, output_address)

    @property
    def first_operation(self) -> str:
        """What a layer begins with: clusters need the keys of all others next."""
        return "key" if self._several else "query"

    def load(self, layout: GroupLayout, address: int, piece: Piece | None = None) -> None:
        """Load the rows of a group, after ``piece``."""
        self._transfer(Opcode.LOAD, layout, address, piece)

    def store(self, layout: GroupLayout, address: int) -> None:
        """Store the rows of a group."""
        self._transfer(Opcode.STORE, layout, address)

    def run(
        self,
        layout: GroupLayout,
        layers: Sequence[QuantizedLayer],
        pieces: Sequence[dict[str, list[Piece]]],
    ) -> None:
        """All layers of a group whose rows are in the buffers."""
        parts = list(self._parts(layout))
        for n, (layer, weights) in enumerate(zip(layers, pieces, strict=True)):
            self._layer(n, layer, weights, layout, parts)

    def _transfer(
        self, opcode: Opcode, layout: GroupLayout, address: int, piece: Piece | None = None
    ) -> None:
        blocks, stride = self.shape.hidden_blocks, self.shape.hidden_stride

        def command(dram_row: int, cluster: int, row: int, rows: int) -> Command:
            offset = cluster << self.config.cluster_address_bits
            return Command(
                opcode=opcode,
                fields={
                    "dram_address": address + dram_row * blocks * self.config.vector_bytes,
                    "base": offset + layout.hidden + row * stride,
                    "vectors": rows * blocks,
                    "row_vectors": blocks,
                    "row_stride": stride,
                },
            )

        if self._several:
            commands = []
            start = 0
            for first_row, part in zip(layout.first_rows, layout.rounds, strict=True):
                for cluster, element, row, rows in part.shares():
                    dram_row = start + sum(part.lengths[:element]) + row
                    commands.append(command(dram_row, cluster, first_row, rows))
                start += sum(part.lengths)
        else:
            commands = [command(part.row, 0, part.row, part.rows) for part in self._parts(layout)]
        self.steps.append(Step(commands=lambda _: commands, piece=piece))

    def _parts(self, layout: GroupLayout) -> Iterator[_Part]:
        """Parts of rows: while one is loaded, normalised or stored, the next one multiplies."""
        if not self._several:
            for row, rows in _cut(layout.rows, MOST_PARTS):
                yield _part(layout, 0, row, rows)
            return
        for n, (start, part) in enumerate(zip(layout.first_rows, layout.rounds, strict=True)):
            for row, rows in _cut(part.rows, MOST_PARTS_OF_CLUSTERS):
                yield _part(layout, n, start + row, rows)

    def _enter(self, layout: GroupLayout, number: int) -> None:
        """Give the sequences of a round to the clusters, unless they have them."""
        if not self._several:
            return
        part = layout.rounds[number]
        sequences = dict.fromkeys(self._sequences, (0, 0))
        sequences |= {group: (part.rows, length) for group, length in enumerate(part.lengths)}
        for group, (rows, length) in sequences.items():
            if self._sequences.get(group) != (rows, length):
                fields = {"group": group, "span": part.span, "rows": rows, "length": length}
                self._add(Opcode.SEQUENCE, **fields)
        self._sequences = sequences

    def _own(self, part: _Part) -> dict[str, int]:
        """Fields of a command whose rows are those of ``part``."""
        return {"own_rows": 1, "first_row": part.first_row} if self._several else {}

    def _add(self, opcode: Opcode, **fields: int) -> None:
        command = Command(opcode=opcode, fields=fields)
        self.steps.append(Step(commands=lambda _: [command]))

    def _layer(
        self,
        number: int,
        layer: QuantizedLayer,
        pieces: dict[str, list[Piece]],
        layout: GroupLayout,
        parts: list[_Part],
    ) -> None:
        shape = self.shape
        entries = {site: threshold_entry(number, site) for site in SITES}
        for site, entry in entries.items():
            fields = layer.controls.get(site, {"value": layer.thresholds[site]})
            if self._thresholds[entry] != fields:
                self._thresholds[entry] = fields
                self._add(Opcode.THRESHOLD, **{**fields, "index": entry})

        hidden = (layout.hidden, shape.hidden_stride, shape.hidden_blocks)
        names = ("key", "value", "query") if self._several else ("query", "key", "value")
        for name in names:
            target = (getattr(layout, name), shape.attention_stride)
            share = self._several and name != "query"
            self._linear(
                layout,
                getattr(layer, name),
                pieces[name],
                hidden,
                target,
                parts,
                entries[name],
                share=share,
            )
        context = (layout.context, shape.attention_stride, shape.attention_blocks)
        target = (layout.attention_output, shape.hidden_stride)

        def attention_output(parts: list[_Part]) -> None:
            if parts:
                linear = layer.attention_output
                self._linear(layout, linear, pieces["attention_output"], context, target, parts)

        # Rows of earlier rounds give the lanes work while the last one is in softmax.
        early = [part for part in parts if part.row + part.rows <= layout.first_rows[-1]]
        self._attention(
            layer,
            layout,
            entries,
            lambda n, of: attention_output(
                early[len(early) * n // of : len(early) * (n + 1) // of]
            ),
        )
        attention_output(parts[len(early) :])
        self._norm("attention_norm", layer, pieces, layout, target[0], parts, entries)

        step = layout.intermediate_rows
        for start in range(0, layout.rows, step):
            rows = min(step, layout.rows - start)
            whole = rows == layout.rows
            inner_parts = parts if whole else [_part(layout, 0, start, rows)]
            inner = layout.intermediate - start * shape.intermediate_stride
            self._linear(
                layout,
                layer.intermediate,
                pieces["intermediate"],
                hidden,
                (inner, shape.intermediate_stride),
                inner_parts,
                entries["activation"],
                function=layer.function,
                gelu_input_shift=layer.gelu_input_shift,
                gelu_output_shift=layer.gelu_output_shift,
            )
            source = (inner, shape.intermediate_stride, shape.intermediate_blocks)
            target = (layout.output, shape.hidden_stride)
            self._linear(layout, layer.output, pieces["output"], source, target, inner_parts)
        self._norm("output_norm", layer, pieces, layout, layout.output, parts, entries)

    def _linear(
        self,
        layout: GroupLayout,
        linear: Linear,
        pieces: list[Piece],
        source: tuple[int, int, int],
        target: tuple[int, int],
        parts: list[_Part],
        threshold: int = NO_THRESHOLD,
        function: Activation = Activation.NONE,
        gelu_input_shift: int = 0,
        gelu_output_shift: int = 0,
        *,
        share: bool = False,
    ) -> None:
        """Product with a weight matrix: source is base, stride and blocks; target base, stride.

        ``share`` gives the result, which has rows for all clusters of a group, to all of them.
        """
        for piece, column, columns, part in self._blocks(pieces, parts):
            stride = layout.rounds[part.round].rows * target[1]
            shared = {"share": 1, "share_stride": stride} if share else {}
            self._enter(layout, part.round)

            def commands(
                base: int,
                piece: Piece = piece,
                column: int = column,
                columns: int = columns,
                part: _Part = part,
                shared: dict[str, int] = shared,
            ) -> Iterator[Command]:
                row = part.key_row if share else part.row
                product = Product(
                    a_base=source[0] + part.row * source[1],
                    a_row_stride=source[1],
                    inner_vectors=source[2],
                    b_source=OperandSource.WEIGHT,
                    b_base=base + column,
                    b_row_stride=piece.columns,
                    b_rows=piece.matrix_rows,
                    c_base=target[0] + row * target[1],
                    c_row_stride=target[1],
                    c_first=piece.first + column,
                    columns=columns,
                    rows=part.rows,
                    bias_base=base + piece.matrix_rows * piece.columns + column,
                    bias_shift=linear.bias_shift,
                    shift=linear.shift,
                    function=function,
                    gelu_input_shift=gelu_input_shift,
                    gelu_output_shift=gelu_output_shift,
                    threshold=threshold,
                    **self._own(part),
                    **shared,
                )
                return product_commands(self.config, product, self.order)

            self.steps.append(Step(commands=commands, piece=piece))

    def _blocks(
        self, pieces: list[Piece], parts: list[_Part]
    ) -> Iterator[tuple[Piece, int, int, _Part]]:
        """Cut a product: piece, first column in it, columns, rows.

        Rows are in parts in the first and the last column pass only, where the product would
        otherwise wait for all of its input, and who reads its result for all of that; fewer
        tiles are loaded in between.
        """
        unit = self.config.array.lanes * self.config.array.pes_per_cluster
        total = pieces[-1].first + pieces[-1].columns
        last = (total - 1) // unit * unit
        whole = [
            replace(together[0], rows=sum(part.rows for part in together))
            for _, group in groupby(parts, key=lambda part: part.round)
            for together in [list(group)]
        ]
        for piece in pieces:
            end = piece.first + piece.columns
            inside = {cut for cut in (unit, last) if piece.first < cut < end}
            cuts = sorted({piece.first, end} | (inside if len(parts) > len(whole) else set()))
            for start, stop in pairwise(cuts):
                at_edge = start < unit or stop > last
                for part in parts if at_edge else whole:
                    yield piece, start - piece.first, stop - start, part

    def _attention(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        entries: dict[str, int],
        before_last: Callable[[int, int], None],
    ) -> None:
        """Scores, softmax and context of all heads; scores run ahead, so that softmax overlaps.

        ``before_last(n, of)`` adds steps in front of context ``n`` of the last round's ``of``.
        """
        items = [
            (_part(layout, n, start + row, min(layout.score_rows, part.rows - row)), head)
            for n, (start, part) in enumerate(zip(layout.first_rows, layout.rounds, strict=True))
            for row in range(0, part.rows, layout.score_rows)
            for head in range(self.shape.heads)
        ]
        slots = len(layout.scores)
        # Scores may overwrite those whose context was computed before the last one.
        ahead = max(1, slots - 2)
        for n in range(len(items) + ahead):
            if n < len(items):
                self._scores(layer, layout, items[n], layout.scores[n % slots], entries)
            if n >= ahead:
                done = n - ahead
                last = [item for item in items if item[0].round == items[-1][0].round]
                if items[done] in last:
                    before_last(last.index(items[done]), len(last))
                slot = layout.scores[done % slots]
                self._context(layer, layout, items[done], slot, entries)

    def _scores(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        item: tuple[_Part, int],
        slot: int,
        entries: dict[str, int],
    ) -> None:
        part, head = item
        shape, keys = self.shape, layout.rounds[part.round].keys
        stride, column = shape.attention_stride, head * shape.head_blocks
        own, own_keys = self._own(part), {"own_keys": 1} if self._several else {}
        self._enter(layout, part.round)
        self._product(
            Product(
                a_base=layout.query + part.row * stride + column,
                a_row_stride=stride,
                inner_vectors=shape.head_blocks,
                b_source=OperandSource.ACTIVATION_TRANSPOSED,
                b_base=layout.key + layout.first_key_rows[part.round] * stride + column,
                b_row_stride=stride,
                b_rows=keys,
                c_base=slot,
                c_row_stride=shape.score_stride(keys),
                c_first=0,
                columns=shape.blocks(keys),
                rows=part.rows,
                shift=layer.score_shift,
                threshold=NO_THRESHOLD,
                **own,
                **own_keys,
            )
        )
        self._add(
            Opcode.SOFTMAX,
            source_base=slot,
            source_row_stride=shape.score_stride(keys),
            target_base=slot,
            target_row_stride=shape.score_stride(keys),
            rows=part.rows,
            blocks=shape.blocks(keys),
            keys=keys,
            constant=layer.softmax_constant,
            shift=layer.softmax_shift,
            threshold=entries["probabilities"],
            **own,
            **own_keys,
        )

    def _context(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        item: tuple[_Part, int],
        slot: int,
        entries: dict[str, int],
    ) -> None:
        part, head = item
        shape, keys = self.shape, layout.rounds[part.round].keys
        stride, column = shape.attention_stride, head * shape.head_blocks
        self._enter(layout, part.round)
        self._product(
            Product(
                a_base=slot,
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
                **self._own(part),
                **({"own_keys": 1} if self._several else {}),
            )
        )

    def _product(self, product: Product) -> None:
        commands = list(product_commands(self.config, product, self.order))
        self.steps.append(Step(commands=lambda _: commands))

    def _norm(
        self,
        name: str,
        layer: QuantizedLayer,
        pieces: dict[str, list[Piece]],
        layout: GroupLayout,
        a_base: int,
        parts: list[_Part],
        entries: dict[str, int],
    ) -> None:
        """Layer norm of a tensor plus the hidden state, in the place of the hidden state."""
        shape = self.shape
        stride = shape.hidden_stride
        for part in parts:
            self._enter(layout, part.round)
            place = layout.hidden + part.row * stride
            fields = {
                **vars(getattr(layer, name).fields),
                **self._own(part),
                "a_base": a_base + part.row * stride,
                "a_row_stride": stride,
                "b_base": place,
                "b_row_stride": stride,
                "target_base": place,
                "target_row_stride": stride,
                "rows": part.rows,
                "blocks": shape.hidden_blocks,
                "threshold": entries[name],
            }

            def commands(base: int, fields: dict[str, int] = fields) -> list[Command]:
                where = {"gamma_base": base, "beta_base": base + shape.hidden_blocks}
                return [Command(opcode=Opcode.LAYERNORM, fields=fields | where)]

            self.steps.append(Step(commands=commands, piece=pieces[name][0]))


def _part(layout: GroupLayout, number: int, row: int, rows: int) -> _Part:
    """Rows of a group from ``row`` on, which belong to round ``number``."""
    first_row = row - layout.first_rows[number]
    return _Part(
        round=number,
        row=row,
        rows=rows,
        first_row=first_row,
        key_row=layout.first_key_rows[number] + first_row,
    )


def _cut(rows: int, most_parts: int) -> Iterator[tuple[int, int]]:
    """First row and rows of equal parts."""
    parts = min(most_parts, rows // LEAST_PART) or 1
    size = -(-rows // parts)
    for row in range(0, rows, size):
        yield row, min(size, rows - row)
