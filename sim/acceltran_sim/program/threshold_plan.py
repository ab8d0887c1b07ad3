"""What the machine is told so that its thresholds follow curves or close loops."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from acceltran.arch.commands import ThresholdMode
from acceltran.arch.threshold_curve import POSITION_BITS, POSITION_MAX
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import SITES, QuantizedEncoder, QuantizedLayer
from acceltran_sim.golden.threshold_control import ThresholdControl
from acceltran_sim.program.curves import SCALED_BY_KEYS, Curves
from acceltran_sim.program.quantize import raw_threshold
from acceltran_sim.program.threshold_entries import LAYERS_OF_THRESHOLDS, threshold_entry

__all__ = ["ThresholdPlan"]

GAIN = 0.5
"""How far a loop moves for a batch element of average size, as a part of its error."""
GAIN_RANGE = (0.03125, 2.0)
"""The same for the smallest and the largest batch elements: it grows with their size."""
FACTOR_BITS = 16


@dataclass(frozen=True, kw_only=True)
class ThresholdPlan:
    """Curves of an encoder, and the sparsity that each site is to have."""

    encoder: QuantizedEncoder
    curves: Curves
    sparsity: float
    """0 <= sparsity < 1."""
    mode: ThresholdMode
    """``CURVE`` or ``CLOSED_LOOP``."""

    def __post_init__(self):
        if not 0 <= self.sparsity < 1:
            raise InputError(f"Sparsity must be at least 0 and below 1, not {self.sparsity}")
        depth = len(self.encoder.layers)
        if depth > LAYERS_OF_THRESHOLDS:
            raise InputError(
                f"Layers with curves must be at most {LAYERS_OF_THRESHOLDS}, not {depth}"
            )

    @property
    def target(self) -> int:
        """The sparsity as a position on a curve."""
        return min(round(math.ldexp(self.sparsity, POSITION_BITS)), POSITION_MAX)

    def control(self) -> ThresholdControl:
        """Golden model with the table as the host writes it before the first job."""
        fmt = self.encoder.fmt
        most = (1 << fmt.width) - 1
        curves = {
            threshold_entry(n, site): [
                min(math.ceil(math.ldexp(point, -layer.exponents[site])), most)
                if site in SCALED_BY_KEYS
                else raw_threshold(point, layer.exponents[site], fmt)
                for point in self.curves.layers[n][site]
            ]
            for n, layer in enumerate(self.encoder.layers)
            for site in SITES
        }
        return ThresholdControl(fmt, curves, dict.fromkeys(curves, self.target))

    def job(self, length: int) -> QuantizedEncoder:
        """The encoder with the commands of a batch element of ``length`` valid rows."""
        return replace(
            self.encoder,
            layers=tuple(
                replace(
                    layer,
                    controls={site: self._fields(n, layer, site, length) for site in SITES},
                )
                for n, layer in enumerate(self.encoder.layers)
            ),
        )

    def _fields(
        self, number: int, layer: QuantizedLayer, site: str, length: int
    ) -> Mapping[str, int]:
        elements = _elements(layer, site, length)
        scale, scale_shift = _factor(1 / length if site in SCALED_BY_KEYS else 1.0)
        least, most = GAIN_RANGE
        part = min(max(GAIN * elements / self.curves.elements[site], least), most)
        gain, gain_shift = _factor(part / elements)
        return {
            "index": threshold_entry(number, site),
            "mode": self.mode,
            "target": self.target,
            "scale": scale,
            "scale_shift": scale_shift,
            "elements": elements,
            "gain": gain,
            "gain_shift": gain_shift - 1,
        }


def _elements(layer: QuantizedLayer, site: str, length: int) -> int:
    """Valid elements of a site's tensor."""
    if site == "probabilities":
        return layer.heads * length * length
    if site == "activation":
        return length * layer.intermediate.matrix.shape[1]
    return length * layer.hidden


def _factor(x: float) -> tuple[int, int]:
    """``x``, above 0, as an integer of ``FACTOR_BITS`` bits and a right shift."""
    shift = FACTOR_BITS - math.frexp(x)[1]
    factor = round(math.ldexp(x, shift))
    if factor >> FACTOR_BITS:
        return factor >> 1, shift - 1
    return factor, shift
