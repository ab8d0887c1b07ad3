"""What a group of batch elements goes through, as steps of a program."""

from collections.abc import Iterable, Mapping, Sequence

from acceltran.arch.commands import THRESHOLDS, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import SITES, QuantizedLayer
from acceltran_sim.program.attention_steps import attention
from acceltran_sim.program.feed_forward_steps import feed_forward
from acceltran_sim.program.layout import GroupLayout, Shape
from acceltran_sim.program.operation_steps import OperationSteps
from acceltran_sim.program.parts import Part
from acceltran_sim.program.steps import Step
from acceltran_sim.program.threshold_entries import threshold_entry
from acceltran_sim.program.transfers import transfers
from acceltran_sim.program.weights import Piece

__all__ = ["EncoderSteps"]


class EncoderSteps(OperationSteps):
    """Collects the steps of groups, one after the other.

    Parameters
    ----------
    config, shape, order
        As in ``OperationSteps``.
    """

    def __init__(self, config: AcceleratorConfig, shape: Shape, order: str):
        super().__init__(config, shape, order)
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
        # The first product needs its weights and a part of the rows.
        self.load(layout, input_address, pieces[0][self.first_operation][0])
        self.run(layout, layers, pieces)
        self.store(layout, output_address)

    @property
    def first_operation(self) -> str:
        """What a layer begins with: clusters need the keys of all others next."""
        return "key" if self.several else "query"

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
                    self.add(Opcode.THRESHOLD, **{**fields, "index": entry})

        hidden = (layout.hidden, shape.hidden_stride, shape.hidden_blocks)

        def project(name: str, columns: range | None = None) -> None:
            target = (getattr(layout, name), shape.attention_stride)
            set_thresholds(name)
            self.linear(
                layout,
                getattr(layer, name),
                pieces[name],
                hidden,
                target,
                self.parts(layout, name),
                entries[name],
                share=self.several and name != "query",
                columns=columns,
            )

        # On several clusters, other work stands between key and scores, which take long to reach
        # all of them, and between the halves of the value and contexts; the value gives the lanes
        # work while the first scores are in softmax.
        half = -(-shape.heads // 2) * shape.head_blocks

        def project_value() -> None:
            if self.several:
                project("value", range(half))
                project("value", range(half, shape.attention_blocks))

        for name in ("key", "query") if self.several else ("query", "key", "value"):
            project(name)
        context = (layout.context, shape.attention_stride, shape.attention_blocks)
        target = (layout.attention_output, shape.hidden_stride)

        def attention_output(parts: list[Part]) -> None:
            if parts:
                linear = layer.attention_output
                self.linear(layout, linear, pieces["attention_output"], context, target, parts)

        # Rows of earlier rounds give the lanes work while the last one is in softmax, and while its
        # last context is on the way to the buffer.
        left = self.parts(layout, "attention_output")
        early = sum(part.row + part.rows <= layout.first_rows[-1] for part in left)

        def before_last(n: int, of: int) -> None:
            start, end = (round(early * k / (of + 1)) for k in (n, n + 1))
            attention_output(left[: end - start])
            del left[: end - start]

        set_thresholds("probabilities", "context")
        attention(
            self,
            layer,
            layout,
            entries,
            project_value,
            before_last,
        )
        attention_output(left)
        set_thresholds("attention_norm")
        self.norm("attention_norm", layer, pieces, layout, target[0], entries)

        set_thresholds("activation", "output_norm")
        feed_forward(self, layer, pieces, layout, entries)
        self.norm("output_norm", layer, pieces, layout, layout.output, entries)
