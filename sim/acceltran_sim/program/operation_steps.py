"""Steps of single operations: products, layer norms, and what clusters must know before."""

from collections.abc import Callable, Iterator
from typing import Any

from acceltran.arch.activation import Activation
from acceltran.arch.commands import Opcode, OperandSource
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import Linear, QuantizedLayer
from acceltran_sim.program.command import Command
from acceltran_sim.program.layout import GroupLayout, Shape
from acceltran_sim.program.parts import Part, parts_of, product_blocks
from acceltran_sim.program.products import Product, product_commands
from acceltran_sim.program.rounds import SequenceTable
from acceltran_sim.program.steps import Step
from acceltran_sim.program.threshold_entries import NO_THRESHOLD
from acceltran_sim.program.weights import Piece

__all__ = ["OperationSteps"]


class OperationSteps:
    """Collects the steps of operations, one after the other.

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
    several : bool
        The machine has several clusters.
    steps : list of Step
        All steps so far.
    """

    def __init__(self, config: AcceleratorConfig, shape: Shape, order: str):
        self.config = config
        self.shape = shape
        self.order = order
        self.several = config.array.clusters > 1
        self.steps: list[Step] = []
        self._sequences = SequenceTable()

    def enter(self, layout: GroupLayout, part: Part) -> None:
        """Give the clusters the sequences that the rows belong to, unless they have them."""
        if self.several:
            commands = list(self._sequences.give(layout.rounds[part.round]))
            if commands:
                self.steps.append(Step(commands=lambda _: commands))

    def parts(self, layout: GroupLayout, operation: str) -> list[Part]:
        """Parts that the rows of a group are cut into."""
        return list(parts_of(self.config, layout, operation))

    def own(self, part: Part) -> dict[str, Any]:
        """Fields of a command whose rows are those of ``part``."""
        return {"own_rows": 1, "first_row": part.first_row} if self.several else {}

    def add(self, opcode: Opcode, **fields: int) -> None:
        """A command that needs no weights."""
        command = Command(opcode=opcode, fields=fields)
        self.steps.append(Step(commands=lambda _: [command]))

    def product(self, product: Product, all_rows: int) -> None:
        """Product of activations."""
        commands = list(product_commands(self.config, product, self.order, all_rows=all_rows))
        self.steps.append(Step(commands=lambda _: commands))

    def linear(
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
        cut: Callable[[Product, Part], Product] = lambda product, _: product,
    ) -> None:
        """Product with a weight matrix: source is base, stride and blocks; target base, stride.

        Of the result, only the blocks ``columns`` are computed, if given. ``share`` gives the
        result, which has rows for all clusters of a group, to all of them. ``cut`` gives what is
        to be computed of the product of a part of the rows.
        """
        for piece, column, width, part in product_blocks(self.config, pieces, parts, columns):
            stride = layout.rounds[part.round].rows * target[1]
            shared = {"share": 1, "share_stride": stride} if share else {}
            self.enter(layout, part)

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
                    **self.own(part),
                    **shared,
                )
                return product_commands(
                    self.config, cut(product, part), self.order, all_rows=part.all_rows
                )

            self.steps.append(Step(commands=commands, piece=piece))

    def norm(
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
        for part in self.parts(layout, name):
            self.enter(layout, part)
            place = layout.hidden + part.row * stride
            fields = {
                **vars(getattr(layer, name).fields),
                **self.own(part),
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
