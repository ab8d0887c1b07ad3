"""Golden model of encoder jobs whose thresholds the machine finds itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from acceltran_sim.golden.encoder import SITES, EncoderResult, QuantizedEncoder, encode
from acceltran_sim.golden.threshold_control import ThresholdControl

__all__ = ["ControlledResult", "encode_in_turn"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlledResult:
    """What one job computes, and where its loops are afterwards."""

    result: EncoderResult
    sparsity: Mapping[str, tuple[int, int]]
    """By ``<layer>.<site>``: elements that are 0, and elements."""
    positions: Mapping[int, int]
    """By entry of the threshold table, after END."""


def encode_in_turn(
    encoders: Iterable[QuantizedEncoder],
    raw: npt.NDArray[np.integer],
    lengths: npt.NDArray[np.integer],
    control: ThresholdControl,
) -> Iterable[ControlledResult]:
    """Run one job for each batch element, with the encoder of the same place."""
    for b, encoder in enumerate(encoders):
        layers = tuple(
            replace(
                layer,
                thresholds={site: control.threshold(layer.controls[site]) for site in SITES},
            )
            for layer in encoder.layers
        )
        job = replace(encoder, layers=layers)
        rows = slice(0, int(lengths[b]))
        result = encode(job, raw[b : b + 1, rows], lengths[b : b + 1], keep_tensors=True)
        sparsity = {}
        for n, layer in enumerate(layers):
            for site in SITES:
                tensor = result.tensors[f"0.{n}.{site}"]
                kept = int(np.count_nonzero(tensor))
                control.count(layer.controls[site]["index"], kept)
                sparsity[f"{n}.{site}"] = (tensor.size - kept, tensor.size)
        control.end()
        yield ControlledResult(
            result=replace(result, tensors={}),
            sparsity=sparsity,
            positions=dict(control.positions),
        )
