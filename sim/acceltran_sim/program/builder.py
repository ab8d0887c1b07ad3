"""From a quantised encoder and its input to a program and a memory image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.activation import Activation
from acceltran.arch.commands import THRESHOLDS, Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import SITES, Linear, QuantizedEncoder, QuantizedLayer
from acceltran_sim.program.assembler import encode_program
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import WEIGHT
from acceltran_sim.program.image import Image, Program
from acceltran_sim.program.layout import GroupLayout, Shape, check_limits, group_elements
from acceltran_sim.program.products import DEFAULT_ORDER, Product, check_order, product_commands
from acceltran_sim.program.timeline import Timeline
from acceltran_sim.program.vectors import pack_vectors, rows_to_vectors
from acceltran_sim.program.weights import Piece, WeightBuffer, layer_pieces

__all__ = ["DEFAULT_BASE", "build"]

DEFAULT_BASE = 0x8000_0000
PREFETCH = 2
"""Pieces of weights that are loaded ahead of the command that needs them."""
NO_THRESHOLD = THRESHOLDS - 1
"""Entry of the threshold table that stays 0, for what is not pruned."""
LAYERS_OF_THRESHOLDS = (THRESHOLDS - 1) // len(SITES)
"""Layers whose thresholds the table holds at once."""


def build(
    config: AcceleratorConfig,
    encoder: QuantizedEncoder,
    raw: npt.NDArray[np.integer],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    *,
    order: str = DEFAULT_ORDER,
    base: int = DEFAULT_BASE,
) -> Program:
    """Build the program that runs ``encoder`` on one machine.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    encoder : QuantizedEncoder
        Layers to run, in the machine's number format.
    raw : integer array [batch, sequence, hidden]
        Raw input, in the scale of the first layer's input.
    lengths : [batch]
        Valid rows.
    order : str
        Tile loops of every product, outermost first.
    base : int
        Address of the memory image.

    Raises
    ------
    InputError
        For a job beyond the limits or the buffers of the machine.
    """
    if encoder.fmt != config.fmt:
        raise ValueError(f"Format of the encoder must be {config.fmt}, not {encoder.fmt}")
    check_order(order)
    first = encoder.layers[0]
    batch, sequence, hidden = raw.shape
    sizes = {
        "hidden": first.hidden,
        "heads": first.heads,
        "intermediate": first.intermediate.matrix.shape[1],
    }
    check_limits(config, sequence=sequence, **sizes)
    shape = Shape.of(config, **sizes)
    rows = tuple(int(length) for length in lengths)
    capacity = config.activation_vectors // config.array.clusters
    groups = group_elements(shape, rows, capacity)

    image = Image(base)
    valid = np.concatenate([raw[b, :length] for b, length in enumerate(rows)])
    vectors = rows_to_vectors(valid, shape.tile)
    input_address = image.append(pack_vectors(vectors, config))
    layers = [layer_pieces(config, shape, layer) for layer in encoder.layers]
    addresses = {
        piece: image.append(pack_vectors(piece.vectors, config))
        for pieces in layers
        for parts in pieces.values()
        for piece in parts
    }
    output_address = image.reserve(vectors.shape[0] * shape.hidden_blocks * config.vector_bytes)

    builder = _Builder(config, shape, addresses, order)
    done = 0
    for _, layout in groups:
        offset = done * shape.hidden_blocks * config.vector_bytes
        builder.group(
            layout, encoder.layers, layers, input_address + offset, output_address + offset
        )
        done += layout.rows
    builder.emit()
    builder.timeline.add(Command(opcode=Opcode.END))
    commands = tuple(builder.timeline.commands)
    program_address = image.append(encode_program(commands))
    return Program(
        config=config,
        commands=commands,
        base=base,
        image=image.content(),
        program_address=program_address,
        output_address=output_address,
        lengths=rows,
        sequence=sequence,
        hidden=hidden,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step:
    """Commands, and the weights that they need; their base is the argument."""

    commands: Callable[[int], Iterator[Command] | list[Command]]
    piece: Piece | None = None


class _Builder:
    """Collects steps in program order, then emits their commands with the loads in between."""

    def __init__(
        self, config: AcceleratorConfig, shape: Shape, addresses: dict[Piece, int], order: str
    ):
        self.config = config
        self.shape = shape
        self.addresses = addresses
        self.order = order
        self.timeline = Timeline(config)
        self.steps: list[_Step] = []
        self.thresholds = [0] * THRESHOLDS

    def emit(self) -> None:
        """Emit all steps; a piece of weights is loaded a little before its first use."""
        buffer = WeightBuffer(self.config.weight_vectors)
        for n, step in enumerate(self.steps):
            for piece, base in self._fetch(buffer, n):
                self.timeline.add(self._load(piece, base))
            base = buffer.base(step.piece) if step.piece is not None else 0
            assert base is not None
            for command in step.commands(base):
                self.timeline.add(command)
        self.steps = []

    def _fetch(self, buffer: WeightBuffer, step: int) -> Iterator[tuple[Piece, int]]:
        """Place the pieces of a step and of the next ones; yield those that must be loaded."""
        coming: set[Piece] = set()
        most = PREFETCH + (self.steps[step].piece is not None)
        for later in self.steps[step:]:
            if later.piece is None or later.piece in coming:
                continue
            if buffer.base(later.piece) is None:
                base = buffer.place(later.piece, keep=coming)
                if base is None:
                    return
                yield later.piece, base
            coming.add(later.piece)
            if len(coming) == most:
                return

    def _load(self, piece: Piece, base: int) -> Command:
        return Command(
            opcode=Opcode.LOAD,
            fields={
                "dram_address": self.addresses[piece],
                "buffer": WEIGHT,
                "base": base,
                "vectors": piece.size,
                "row_vectors": piece.columns,
                "row_stride": piece.columns,
            },
        )

    def group(
        self,
        layout: GroupLayout,
        layers: Sequence[QuantizedLayer],
        pieces: Sequence[dict[str, list[Piece]]],
        input_address: int,
        output_address: int,
    ) -> None:
        """Steps of one group: load its rows, all layers, store its rows."""
        parts = list(_row_parts(layout.rows))
        self._transfer(Opcode.LOAD, layout, input_address, parts)
        for n, (layer, weights) in enumerate(zip(layers, pieces, strict=True)):
            self._layer(n, layer, weights, layout, parts)
        self._transfer(Opcode.STORE, layout, output_address, parts)

    def _transfer(
        self, opcode: Opcode, layout: GroupLayout, address: int, parts: list[tuple[int, int]]
    ) -> None:
        blocks, stride = self.shape.hidden_blocks, self.shape.hidden_stride
        for row, rows in parts:
            self._add(
                opcode,
                dram_address=address + row * blocks * self.config.vector_bytes,
                base=layout.hidden + row * stride,
                vectors=rows * blocks,
                row_vectors=blocks,
                row_stride=stride,
            )

    def _add(self, opcode: Opcode, **fields: int) -> None:
        command = Command(opcode=opcode, fields=fields)
        self.steps.append(_Step(commands=lambda _: [command]))

    def _layer(
        self,
        number: int,
        layer: QuantizedLayer,
        pieces: dict[str, list[Piece]],
        layout: GroupLayout,
        parts: list[tuple[int, int]],
    ) -> None:
        shape = self.shape
        first_entry = number % LAYERS_OF_THRESHOLDS * len(SITES)
        entries = {site: first_entry + n for n, site in enumerate(SITES)}
        for site, entry in entries.items():
            if self.thresholds[entry] != layer.thresholds[site]:
                self.thresholds[entry] = layer.thresholds[site]
                self._add(Opcode.THRESHOLD, index=entry, value=layer.thresholds[site])

        hidden = (layout.hidden, shape.hidden_stride, shape.hidden_blocks)
        for name in ("query", "key", "value"):
            target = (getattr(layout, name), shape.attention_stride)
            linear = getattr(layer, name)
            self._linear(linear, pieces[name], hidden, target, parts, entries[name])
        self._attention(layer, layout, entries)
        context = (layout.context, shape.attention_stride, shape.attention_blocks)
        target = (layout.attention_output, shape.hidden_stride)
        self._linear(layer.attention_output, pieces["attention_output"], context, target, parts)
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
        for piece in pieces:
            for row, rows in parts:

                def commands(
                    base: int, piece: Piece = piece, row: int = row, rows: int = rows
                ) -> Iterator[Command]:
                    product = Product(
                        a_base=source[0] + row * source[1],
                        a_row_stride=source[1],
                        inner_vectors=source[2],
                        b_source=OperandSource.WEIGHT,
                        b_base=base,
                        b_row_stride=piece.columns,
                        b_rows=piece.matrix_rows,
                        c_base=target[0] + row * target[1],
                        c_row_stride=target[1],
                        c_first=piece.first,
                        columns=piece.columns,
                        rows=rows,
                        bias_base=base + piece.matrix_rows * piece.columns,
                        bias_shift=linear.bias_shift,
                        shift=linear.shift,
                        function=function,
                        gelu_input_shift=gelu_input_shift,
                        gelu_output_shift=gelu_output_shift,
                        threshold=threshold,
                    )
                    return product_commands(self.config, product, self.order)

                self.steps.append(_Step(commands=commands, piece=piece))

    def _attention(
        self, layer: QuantizedLayer, layout: GroupLayout, entries: dict[str, int]
    ) -> None:
        """Scores, softmax and context of all heads; scores run ahead, so that softmax overlaps."""
        items = [
            (element, head, row, min(layout.score_rows, length - row))
            for element, length in enumerate(layout.lengths)
            for row in range(0, length, layout.score_rows)
            for head in range(self.shape.heads)
        ]
        slots = len(layout.scores)
        for n in range(len(items) + slots - 1):
            if n < len(items):
                self._scores(layer, layout, items[n], layout.scores[n % slots], entries)
            if n >= slots - 1:
                done = n - slots + 1
                self._context(layer, layout, items[done], layout.scores[done % slots], entries)

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
        self.steps.append(_Step(commands=lambda _: commands))

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

            self.steps.append(_Step(commands=commands, piece=pieces[name][0]))


def _row_parts(rows: int) -> Iterator[tuple[int, int]]:
    """Two halves, so that one is in a layer norm while the other one multiplies."""
    half = -(-rows // 2)
    size = half if rows >= 32 else rows
    for row in range(0, rows, size):
        yield row, min(size, rows - row)
