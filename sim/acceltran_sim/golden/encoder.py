"""Golden model of a whole encoder: every bit that the machine computes, and no cycle."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import LayerNormFields
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.gelu import gelu, relu
from acceltran_sim.golden.layernorm import layer_norm
from acceltran_sim.golden.product import product
from acceltran_sim.golden.softmax import softmax

__all__ = [
    "SITES",
    "EncoderResult",
    "Linear",
    "Norm",
    "QuantizedEncoder",
    "QuantizedLayer",
    "encode",
]

Integers = npt.NDArray[np.int64]

SITES = (
    "query",
    "key",
    "value",
    "probabilities",
    "context",
    "attention_norm",
    "activation",
    "output_norm",
)
"""Tensors of a layer that DynaTran prunes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """``x @ matrix + bias`` in raw integers."""

    matrix: Integers
    """[inputs, outputs]."""
    bias: Integers
    """[outputs]."""
    bias_shift: int
    """Left shift that aligns the bias with the sums."""
    shift: int
    """Right shift from the sums to the result."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """Parameters of a layer norm in raw integers."""

    gamma: Integers
    beta: Integers
    fields: LayerNormFields


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedLayer:
    """One encoder layer as the commands describe it."""

    heads: int
    query: Linear
    key: Linear
    value: Linear
    score_shift: int
    """Right shift of query times key."""
    softmax_constant: int
    softmax_shift: int
    context_shift: int
    """Right shift of probabilities times value."""
    attention_output: Linear
    attention_norm: Norm
    intermediate: Linear
    function: Activation
    gelu_input_shift: int
    gelu_output_shift: int
    output: Linear
    output_norm: Norm
    thresholds: Mapping[str, int]
    """Raw threshold of each of ``SITES``."""
    controls: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By site, fields of a THRESHOLD command that the machine finds the threshold with instead."""
    exponents: Mapping[str, int]
    """Scale of each activation tensor: raw integers stand for ``raw * 2 ** exponent``."""

    @property
    def hidden(self) -> int:
        """Elements of a row of the layer's input."""
        return self.query.matrix.shape[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedEncoder:
    """Encoder layers and their number format."""

    fmt: FixedPoint
    layers: tuple[QuantizedLayer, ...]

    @property
    def input_exponent(self) -> int:
        """Scale of the first layer's input, as an exponent of two."""
        return self.layers[0].exponents["input"]

    @property
    def output_exponent(self) -> int:
        """Scale of the last layer's output, as an exponent of two."""
        return self.layers[-1].exponents["output_norm"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderResult:
    """What a run computes."""

    raw: npt.NDArray[np.int32]
    """[batch, sequence, hidden]; 0 at and beyond each length."""
    saturated: Mapping[str, int]
    """Values clipped, by ``<layer>.<tensor>``; tensors without any are left out."""
    products_dense: int
    """Products of all matrix products over valid rows and keys."""
    products_effectual: int
    """Those of them whose factors are both not zero."""
    tensors: Mapping[str, Integers] = field(default_factory=dict)
    """On request, every tensor by ``<batch element>.<layer>.<name>``; heads are the first axis."""


def encode(
    encoder: QuantizedEncoder,
    raw: npt.NDArray[np.integer],
    lengths: npt.NDArray[np.integer],
    *,
    keep_tensors: bool = False,
) -> EncoderResult:
    """Run all layers on raw input [batch, sequence, hidden] with the given valid lengths."""
    run = _Run(encoder.fmt)
    result = np.zeros(raw.shape, dtype=np.int32)
    for b, length in enumerate(lengths):
        x = np.asarray(raw[b, :length], dtype=np.int64)
        for n, layer in enumerate(encoder.layers):
            run.place = f"{n}"
            tensors = run.layer(layer, x)
            x = tensors["output_norm"]
            if keep_tensors:
                run.tensors.update({f"{b}.{n}.{name}": t for name, t in tensors.items()})
        result[b, :length] = x
    return EncoderResult(
        raw=result,
        saturated={name: count for name, count in run.saturated.items() if count},
        products_dense=run.dense,
        products_effectual=run.effectual,
        tensors=run.tensors,
    )


class _Run:
    """Counts, and the operations that count."""

    def __init__(self, fmt: FixedPoint):
        self.fmt = fmt
        self.place = ""
        self.saturated: Counter[str] = Counter()
        self.dense = 0
        self.effectual = 0
        self.tensors: dict[str, Integers] = {}

    def layer(self, layer: QuantizedLayer, x: Integers) -> dict[str, Integers]:
        """All tensors of one layer for the valid rows ``x`` of one batch element."""
        rows = len(x)
        tensors = {"input": x}
        thresholds = layer.thresholds

        def split(y: Integers) -> Integers:
            return y.reshape(rows, layer.heads, -1).transpose(1, 0, 2)

        for name, linear in (("query", layer.query), ("key", layer.key), ("value", layer.value)):
            y = self.linear(name, x, linear)
            tensors[name], _ = prune(split(y), thresholds[name])
        scores = self.product(
            "scores", tensors["query"], tensors["key"].transpose(0, 2, 1), layer.score_shift
        )
        probabilities = np.stack([
            softmax(
                head,
                fmt=self.fmt,
                constant=layer.softmax_constant,
                shift=layer.softmax_shift,
                keys=rows,
            )
            for head in scores
        ])
        probabilities, _ = prune(probabilities, thresholds["probabilities"])
        context = self.product("context", probabilities, tensors["value"], layer.context_shift)
        context, _ = prune(context, thresholds["context"])
        joined = context.transpose(1, 0, 2).reshape(rows, -1)
        attention_output = self.linear("attention_output", joined, layer.attention_output)
        attention_norm = self.norm("attention_norm", attention_output, x, layer)
        intermediate = self.linear("intermediate", attention_norm, layer.intermediate)
        activation = self.activation(intermediate, layer)
        output = self.linear("output", activation, layer.output)
        output_norm = self.norm("output_norm", output, attention_norm, layer)
        return tensors | {
            "scores": scores,
            "probabilities": probabilities,
            "context": context,
            "attention_output": attention_output,
            "attention_norm": attention_norm,
            "intermediate": intermediate,
            "activation": activation,
            "output": output,
            "output_norm": output_norm,
        }

    def linear(self, name: str, x: Integers, linear: Linear) -> Integers:
        return self.product(
            name, x, linear.matrix, linear.shift, bias=linear.bias, bias_shift=linear.bias_shift
        )

    def product(
        self,
        name: str,
        a: Integers,
        b: Integers,
        shift: int,
        *,
        bias: Integers | int = 0,
        bias_shift: int = 0,
    ) -> Integers:
        values, saturated = product(
            a, b, bias=bias, bias_shift=bias_shift, shift=shift, fmt=self.fmt
        )
        self.saturated[f"{self.place}.{name}"] += saturated
        self.dense += values.size * a.shape[-1]
        factors = np.count_nonzero(a, axis=-2) * np.count_nonzero(b, axis=-1)
        self.effectual += int(factors.sum())
        return values

    def activation(self, x: Integers, layer: QuantizedLayer) -> Integers:
        if layer.function == Activation.GELU:
            x, saturated = gelu(
                x,
                fmt=self.fmt,
                input_shift=layer.gelu_input_shift,
                output_shift=layer.gelu_output_shift,
            )
            self.saturated[f"{self.place}.activation"] += saturated
        elif layer.function == Activation.RELU:
            x = relu(x)
        return prune(x, layer.thresholds["activation"])[0]

    def norm(self, name: str, a: Integers, b: Integers, layer: QuantizedLayer) -> Integers:
        parameters: Norm = getattr(layer, name)
        values, saturated = layer_norm(
            a,
            b,
            fmt=self.fmt,
            gamma=parameters.gamma,
            beta=parameters.beta,
            fields=parameters.fields,
        )
        self.saturated[f"{self.place}.{name}"] += saturated
        return prune(values, layer.thresholds[name])[0]
