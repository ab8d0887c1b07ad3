"""What a group of batch elements goes through, as steps of a program."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from acceltran.arch.activation import Activation
from acceltran.arch.commands import THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import SITES, Linear, QuantizedLayer
from acceltran_sim.program.command import Command
from acceltran_sim.program.layout import GroupLayout, Shape
from acceltran_sim.program.parts import (
    Part,
    part_of,
    parts_of,
    parts_within,
    product_blocks,
)
from acceltran_sim.program.products import Product, product_commands
from acceltran_sim.program.rounds import SequenceTable
from acceltran_sim.program.steps import Step
from acceltran_sim.program.threshold_entries import NO_THRESHOLD, threshold_entry
from acceltran_sim.program.transfers import transfers
from acceltran_sim.program.weights import Piece

__all__ = ["EncoderSteps"]


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
        self._sequences = SequenceTable()

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
        self.load(layout, input_address, pieces[0][self.first_operation][0])
        self.run(layout, layers, pieces)
        self.store(layout, output_address)

    @property
    def first_operation(self) -> str:
        """What a layer begins with: clusters need the keys of all others next."""
        return "key" if self._several else "query"

    def load(self, layout: GroupLayout, address: int, piece: Piece | None = None) -> None:
        """Load the rows of a group, after ``piece``."""
        commands = list(transfers(self.config, layout, Opcode.LOAD, address))
        self.steps.append(Step(commands=lambda _: commands, piece=piece))

    def load_weights(self, pieces: Iterable[Piece]) -> None:
        """Load pieces of weights."""
        self.steps += [Step(commands=lambda _: [], piece=piece) for piece in pieces]

    def store(self, layout: GroupLayout, address: int) -> None:
        """Store the rows of a group."""
        commands = list(transfers(self.config, layout, Opcode.STORE, address))
        self.steps.append(Step(commands=lambda _: commands))

    def run(
        self,
        layout: GroupLayout,
        layers: Sequence[QuantizedLayer],
        pieces: Sequence[dict[str, list[Piece]]],
    ) -> None:
        """All layers of a group whose rows are in the buffers."""
        for n, (layer, weights) in enumerate(zip(layers, pieces, strict=True)):
            self._layer(n, layer, weights, layout)

    def _enter(self, layout: GroupLayout, part: Part) -> None:
        """Give the clusters the sequences that the rows belong to, unless they have them."""
        if self._several:
            commands = list(self._sequences.give(layout.rounds[part.round]))
            if commands:
                self.steps.append(Step(commands=lambda _: commands))

    def _parts(self, layout: GroupLayout, operation: str) -> list[Part]:
        return list(parts_of(self.config, layout, operation))

    def _own(self, part: Part) -> dict[str, Any]:
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
    ) -> None:
        shape = self.shape
        entries = {site: threshold_entry(number, site) for site in SITES}

        def set_thresholds(*sites: str) -> None:
            """Just ahead of the commands that need them: a program begins with work."""
            for site in sites:
                entry = entries[site]
                fields = layer.controls.get(site, {"value": layer.thresholds[site]})
                if self._thresholds[entry] != fields:
                    self._thresholds[entry] = fields
                    self._add(Opcode.THRESHOLD, **{**fields, "index": entry})

        hidden = (layout.hidden, shape.hidden_stride, shape.hidden_blocks)

        def project(name: str, columns: range | None = None) -> None:
            target = (getattr(layout, name), shape.attention_stride)
            set_thresholds(name)
            self._linear(
                layout,
                getattr(layer, name),
                pieces[name],
                hidden,
                target,
                self._parts(layout, name),
                entries[name],
                share=self._several and name != "query",
                columns=columns,
            )

        # On several clusters, other work stands between key and value, which take long to reach
        # all of them; half of the value gives the lanes work while the first scores are in softmax.
        half = -(-shape.heads // 2) * shape.head_blocks
        early_value, late_value = range(half), range(half, shape.attention_blocks)
        if self._several:
            project("key")
            project("query")
            project("value", early_value)
        else:
            for name in ("query", "key", "value"):
                project(name)
        context = (layout.context, shape.attention_stride, shape.attention_blocks)
        target = (layout.attention_output, shape.hidden_stride)

        def attention_output(parts: list[Part]) -> None:
            if parts:
                linear = layer.attention_output
                self._linear(layout, linear, pieces["attention_output"], context, target, parts)

        # Rows of earlier rounds give the lanes work while the last one is in softmax, and while its
        # last context is on the way to the buffer.
        left = self._parts(layout, "attention_output")
        early = sum(part.row + part.rows <= layout.first_rows[-1] for part in left)

        def before_last(n: int, of: int) -> None:
            start, end = (round(early * k / (of + 1)) for k in (n, n + 1))
            attention_output(left[: end - start])
            del left[: end - start]

        set_thresholds("probabilities", "context")
        self._attention(
            layer,
            layout,
            entries,
            lambda: project("value", late_value) if self._several else None,
            before_last,
        )
        attention_output(left)
        set_thresholds("attention_norm")
        self._norm("attention_norm", layer, pieces, layout, target[0], entries)

        set_thresholds("activation", "output_norm")
        step = layout.intermediate_rows
        for start in range(0, layout.rows, step):
            rows = min(step, layout.rows - start)
            whole = rows == layout.rows
            block = None if whole else [part_of(layout, 0, start, rows)]
            inner = layout.intermediate - start * shape.intermediate_stride
            self._linear(
                layout,
                layer.intermediate,
                pieces["intermediate"],
                hidden,
                (inner, shape.intermediate_stride),
                block or self._parts(layout, "intermediate"),
                entries["activation"],
                function=layer.function,
                gelu_input_shift=layer.gelu_input_shift,
                gelu_output_shift=layer.gelu_output_shift,
            )
            source = (inner, shape.intermediate_stride, shape.intermediate_blocks)
            target = (layout.output, shape.hidden_stride)
            last = block or self._parts(layout, "output")
            self._linear(layout, layer.output, pieces["output"], source, target, last)
        self._norm("output_norm", layer, pieces, layout, layout.output, entries)

    def _linear(
        self,
        layout: GroupLayout,
        linear: Linear,
        pieces: list[Piece],
        source: tuple[int, int, int],
        target: tuple[int, int],
        parts: list[Part],
        threshold: int = NO_THRESHOLD,
        function: Activation = Activation.NONE,
        gelu_input_shift: int = 0,
        gelu_output_shift: int = 0,
        *,
        share: bool = False,
        columns: range | None = None,
    ) -> None:
        """Product with a weight matrix: source is base, stride and blocks; target base, stride.

        Of the result, only the blocks ``columns`` are computed, if given. ``share`` gives the
        result, which has rows for all clusters of a group, to all of them.
        """
        for piece, column, width, part in product_blocks(self.config, pieces, parts, columns):
            stride = layout.rounds[part.round].rows * target[1]
            shared = {"share": 1, "share_stride": stride} if share else {}
            self._enter(layout, part)

            def commands(
                base: int,
                piece: Piece = piece,
                column: int = column,
                width: int = width,
                part: Part = part,
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
                    columns=width,
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
                return product_commands(self.config, product, self.order, all_rows=part.all_rows)

            self.steps.append(Step(commands=commands, piece=piece))

    def _attention(
        self,
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
                if done == 0:
                    before_contexts()
                last = [item for item in items if item[0].round == items[-1][0].round]
                if items[done] in last:
                    before_last(last.index(items[done]), len(last))
                slot = layout.scores[done % slots]
                self._context(layer, layout, items[done], slot, entries)

    def _scores(
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        item: tuple[Part, int],
        slot: int,
        entries: dict[str, int],
    ) -> None:
        whole, head = item
        parts = parts_within(whole, "scores") if self._several else [whole]
        shape, keys = self.shape, layout.rounds[whole.round].keys
        stride, column = shape.attention_stride, head * shape.head_blocks
        own_keys = int(self._several)
        self._enter(layout, whole)
        for part in parts:
            own = self._own(part)
            place = slot + (part.row - whole.row) * shape.score_stride(keys)
            self._product(
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
            self._add(
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
        self,
        layer: QuantizedLayer,
        layout: GroupLayout,
        item: tuple[Part, int],
        slot: int,
        entries: dict[str, int],
    ) -> None:
        whole, head = item
        parts = parts_within(whole, "context") if self._several else [whole]
        shape, keys = self.shape, layout.rounds[whole.round].keys
        stride, column = shape.attention_stride, head * shape.head_blocks
        own_keys = int(self._several)
        self._enter(layout, whole)
        for part in parts:
            place = slot + (part.row - whole.row) * shape.score_stride(keys)
            self._product(
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
                    own_keys=own_keys,
                    **self._own(part),
                ),
                part.all_rows,
            )

    def _product(self, product: Product, all_rows: int) -> None:
        commands = list(product_commands(self.config, product, self.order, all_rows=all_rows))
        self.steps.append(Step(commands=lambda _: commands))

    def _norm(
        self,
        name: str,
        layer: QuantizedLayer,
        pieces: dict[str, list[Piece]],
        layout: GroupLayout,
        a_base: int,
        entries: dict[str, int],
    ) -> None:
        """Layer norm of a tensor plus the hidden state, in the place of the hidden state."""
        shape = self.shape
        stride = shape.hidden_stride
        for part in self._parts(layout, name):
            self._enter(layout, part)
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
