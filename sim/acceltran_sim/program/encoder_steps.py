"""What a group of batch elements goes through, as steps of a program."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

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

    def add_group(
        self,
        layout: GroupLayout,
        layers: Sequence[QuantizedLayer],
        pieces: Sequence[dict[str, list[Piece]]],
        input_address: int,
        output_address: int,
    ) -> None:
        """Steps of one group: load its rows, all layers, store its rows."""
        parts = list(_row_parts(layout.rows))
        # The first product needs its weights and a part of the rows.
        first = pieces[0]["query"][0]
        self._transfer(Opcode.LOAD, layout, input_address, parts, piece=first)
        for n, (layer, weights) in enumerate(zip(layers, pieces, strict=True)):
            self._layer(n, layer, weights, layout, parts)
        self._transfer(Opcode.STORE, layout, output_address, parts)

    def _transfer(
        self,
        opcode: Opcode,
        layout: GroupLayout,
        address: int,
        parts: list[tuple[int, int]],
        piece: Piece | None = None,
    ) -> None:
        blocks, stride = self.shape.hidden_blocks, self.shape.hidden_stride
        commands = [
            Command(
                opcode=opcode,
                fields={
                    "dram_address": address + row * blocks * self.config.vector_bytes,
                    "base": layout.hidden + row * stride,
                    "vectors": rows * blocks,
                    "row_vectors": blocks,
                    "row_stride": stride,
                },
            )
            for row, rows in parts
        ]
        self.steps.append(Step(commands=lambda _: commands, piece=piece))

    def _add(self, opcode: Opcode, **fields: int) -> None:
        command = Command(opcode=opcode, fields=fields)
        self.steps.append(Step(commands=lambda _: [command]))

    def _layer(
        self,
        number: int,
        layer: QuantizedLayer,
        pieces: dict[str, list[Piece]],
        layout: GroupLayout,
        parts: list[tuple[int, int]],
    ) -> None:
        shape = self.shape
        entries = {site: threshold_entry(number, site) for site in SITES}
        for site, entry in entries.items():
            fields = layer.controls.get(site, {"value": layer.thresholds[site]})
            if self._thresholds[entry] != fields:
                self._thresholds[entry] = fields
                self._add(Opcode.THRESHOLD, **{**fields, "index": entry})

        hidden = (layout.hidden, shape.hidden_stride, shape.hidden_blocks)
        for name in ("query", "key", "value"):
            target = (getattr(layout, name), shape.attention_stride)
            linear = getattr(layer, name)
            self._linear(linear, pieces[name], hidden, target, parts, entries[name])
        context = (layout.context, shape.attention_stride, shape.attention_blocks)
        target = (layout.attention_output, shape.hidden_stride)

        def attention_output(parts: list[tuple[int, int]]) -> None:
            if parts:
                linear = layer.attention_output
                self._linear(linear, pieces["attention_output"], context, target, parts)

        # Rows of earlier elements give the lanes work while the last element is in softmax.
        early = [part for part in parts if sum(part) <= layout.first_rows[-1]]
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
            inner_parts = parts if whole else [(start, rows)]
            inner = layout.intermediate - start * shape.intermediate_stride
            self._linear(
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
            self._linear(layer.output, pieces["output"], source, target, inner_parts)
        self._norm("output_norm", layer, pieces, layout, layout.output, parts, entries)

    def _linear(
        self,
        linear: Linear,
        pieces: list[Piece],
        source: tuple[int, int, int],
        target: tuple[int, int],
        parts: list[tuple[int, int]],
        threshold: int = NO_THRESHOLD,
        function: Activation = Activation.NONE,
        gelu_input_shift: int = 0,
        gelu_output_shift: int = 0,
    ) -> None:
        """Product with a weight matrix: source is base, stride and blocks; target base, stride."""
        for piece, column, columns, row, rows in self._blocks(pieces, parts):

            def commands(
                base: int,
                piece: Piece = piece,
                column: int = column,
                columns: int = columns,
                row: int = row,
                rows: int = rows,
            ) -> Iterator[Command]:
                product = Product(
                    a_base=source[0] + row * source[1],
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
                    rows=rows,
                    bias_base=base + piece.matrix_rows * piece.columns + column,
                    bias_shift=linear.bias_shift,
                    shift=linear.shift,
                    function=function,
                    gelu_input_shift=gelu_input_shift,
                    gelu_output_shift=gelu_output_shift,
                    threshold=threshold,
                )
                return product_commands(self.config, product, self.order)

            self.steps.append(Step(commands=commands, piece=piece))

    def _blocks(
        self, pieces: list[Piece], parts: list[tuple[int, int]]
    ) -> Iterator[tuple[Piece, int, int, int, int]]:
        """Cut a product: piece, first column in it, columns, first row, rows.

        Rows are in parts in the first and the last column pass only, where the product would
        otherwise wait for all of its input, and who reads its result for all of that; fewer
        tiles are loaded in between.
        """
        unit = self.config.array.lanes * self.config.array.pes_per_cluster
        total = pieces[-1].first + pieces[-1].columns
        last = (total - 1) // unit * unit
        whole = [(parts[0][0], sum(rows for _, rows in parts))]
        for piece in pieces:
            end = piece.first + piece.columns
            inside = {cut for cut in (unit, last) if piece.first < cut < end}
            cuts = sorted({piece.first, end} | (inside if len(parts) > 1 else set()))
            for start, stop in pairwise(cuts):
                at_edge = start < unit or stop > last
                for row, rows in parts if at_edge else whole:
                    yield piece, start - piece.first, stop - start, row, rows

    def _attention(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        entries: dict[str, int],
        before_last: Callable[[int, int], None],
    ) -> None:
        """Scores, softmax and context of all heads; scores run ahead, so that softmax overlaps.

        ``before_last(n, of)`` adds steps in front of context ``n`` of the last element's ``of``.
        """
        items = [
            (element, head, row, min(layout.score_rows, length - row))
            for element, length in enumerate(layout.lengths)
            for row in range(0, length, layout.score_rows)
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
                last = [item for item in items if item[0] == items[-1][0]]
                if items[done] in last:
                    before_last(last.index(items[done]), len(last))
                slot = layout.scores[done % slots]
                self._context(layer, layout, items[done], slot, entries)

    def _scores(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        item: tuple[int, int, int, int],
        slot: int,
        entries: dict[str, int],
    ) -> None:
        element, head, row, rows = item
        shape, keys = self.shape, layout.lengths[element]
        start, stride = layout.first_rows[element], shape.attention_stride
        column = head * shape.head_blocks
        self._product(
            Product(
                a_base=layout.query + (start + row) * stride + column,
                a_row_stride=stride,
                inner_vectors=shape.head_blocks,
                b_source=OperandSource.ACTIVATION_TRANSPOSED,
                b_base=layout.key + start * stride + column,
                b_row_stride=stride,
                b_rows=keys,
                c_base=slot,
                c_row_stride=shape.score_stride(keys),
                c_first=0,
                columns=shape.blocks(keys),
                rows=rows,
                shift=layer.score_shift,
                threshold=NO_THRESHOLD,
            )
        )
        self._add(
            Opcode.SOFTMAX,
            source_base=slot,
            source_row_stride=shape.score_stride(keys),
            target_base=slot,
            target_row_stride=shape.score_stride(keys),
            rows=rows,
            blocks=shape.blocks(keys),
            keys=keys,
            constant=layer.softmax_constant,
            shift=layer.softmax_shift,
            threshold=entries["probabilities"],
        )

    def _context(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        item: tuple[int, int, int, int],
        slot: int,
        entries: dict[str, int],
    ) -> None:
        element, head, row, rows = item
        shape, keys = self.shape, layout.lengths[element]
        start, stride = layout.first_rows[element], shape.attention_stride
        column = head * shape.head_blocks
        self._product(
            Product(
                a_base=slot,
                a_row_stride=shape.score_stride(keys),
                inner_vectors=shape.blocks(keys),
                b_source=OperandSource.ACTIVATION,
                b_base=layout.value + start * stride + column,
                b_row_stride=stride,
                b_rows=keys,
                c_base=layout.context + (start + row) * stride,
                c_row_stride=stride,
                c_first=column,
                columns=shape.head_blocks,
                rows=rows,
                shift=layer.context_shift,
                threshold=entries["context"],
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
        parts: list[tuple[int, int]],
        entries: dict[str, int],
    ) -> None:
        """Layer norm of a tensor plus the hidden state, in the place of the hidden state."""
        shape = self.shape
        stride = shape.hidden_stride
        for row, rows in parts:
            place = layout.hidden + row * stride
            fields = {
                **vars(getattr(layer, name).fields),
                "a_base": a_base + row * stride,
                "a_row_stride": stride,
                "b_base": place,
                "b_row_stride": stride,
                "target_base": place,
                "target_row_stride": stride,
                "rows": rows,
                "blocks": shape.hidden_blocks,
                "threshold": entries[name],
            }

            def commands(base: int, fields: dict[str, int] = fields) -> list[Command]:
                where = {"gamma_base": base, "beta_base": base + shape.hidden_blocks}
                return [Command(opcode=Opcode.LAYERNORM, fields=fields | where)]

            self.steps.append(Step(commands=commands, piece=pieces[name][0]))


def _row_parts(rows: int) -> Iterator[tuple[int, int]]:
    """Parts of rows: while one is loaded, normalised or stored, the next one multiplies."""
    parts = min(MOST_PARTS, rows // LEAST_PART) or 1
    size = -(-rows // parts)
    for row in range(0, rows, size):
        yield row, min(size, rows - row)
