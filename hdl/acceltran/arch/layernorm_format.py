"""Widths of the layer-norm datapath, and the fields of its command."""

from dataclasses import dataclass
from fractions import Fraction

from acceltran.arch.commands import BODIES, Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import FunctionTable, load_table

__all__ = ["RECIPROCAL_WIDTH", "LayerNormFields", "LayerNormFormat", "least_input_exponent"]

RECIPROCAL_WIDTH = 34
EPSILON_WIDTH = next(f.width for f in BODIES[Opcode.LAYERNORM] if f.name == "epsilon")
COLUMNS_MAX = 1024
BETA_SHIFT_MAX = 31
OUTPUT_SHIFT_MAX = 63


def ceil_log2(x: int) -> int:
    """Bits that count ``x`` things."""
    return (x - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class LayerNormFormat:
    """Fraction bits inside layer norm, chosen for at most 1 LSB of error in the result.

    ``LayerNormFormat.of(fmt)`` gives those of an element format.
    """

    element_width: int
    """Bits of an element."""
    mantissa_frac_bits: int
    """Fraction bits of the variance's mantissa, the argument of the root table."""
    root_frac_bits: int
    """Fraction bits of the reciprocal root, and of the mantissa of 1/sigma."""
    normal_frac_bits: int
    """Fraction bits of a deviation from the mean, scaled by the exponent of 1/sigma."""
    result_frac_bits: int
    """Fraction bits of the normalised value, before gamma."""
    guard_bits: int
    """Bits below an element's LSB that the mean carries."""
    table: FunctionTable
    """Reciprocal square root."""

    @classmethod
    def of(cls, fmt: FixedPoint) -> "LayerNormFormat":
        """Return the format for elements of ``fmt``."""
        table = load_table("rsqrt", fmt)
        return cls(
            element_width=fmt.width,
            mantissa_frac_bits=table.input_frac_bits,
            root_frac_bits=table.output_frac_bits,
            normal_frac_bits=fmt.frac_bits + 4,
            result_frac_bits=fmt.frac_bits + 3,
            guard_bits=fmt.frac_bits,
            table=table,
        )

    @property
    def mean_width(self) -> int:
        """Bits of the mean of sums of two elements, with guard bits."""
        return self.element_width + 1 + self.guard_bits

    def total_width(self, hidden: int) -> int:
        """Bits of the sum of a row of ``hidden`` sums of two elements."""
        return self.element_width + 1 + ceil_log2(hidden)

    def squares_width(self, hidden: int) -> int:
        """Bits of the sum of their squares, which is not negative."""
        return 2 * self.element_width + ceil_log2(hidden) + 1

    def normal_width(self, hidden: int) -> int:
        """Bits of a scaled deviation, which is below ``sqrt(hidden)``."""
        return self.normal_frac_bits + -(-ceil_log2(hidden) // 2) + 1

    def result_width(self, hidden: int) -> int:
        """Bits of a normalised value, which is below ``sqrt(hidden)``."""
        return self.result_frac_bits + -(-ceil_log2(hidden) // 2) + 1


def least_input_exponent(*, columns: int, eps: float) -> int:
    """Finest scale of the input, ``2 ** exponent``, at which ``eps`` can be represented."""
    exponent = -64
    while _epsilon(columns, eps, exponent) >> EPSILON_WIDTH:
        exponent += 1
    return exponent


def _epsilon(columns: int, eps: float, input_exponent: int) -> int:
    exact = Fraction(eps) * columns**2 * Fraction(4) ** -input_exponent
    return max(1, round(exact))


@dataclass(frozen=True, kw_only=True)
class LayerNormFields:
    """What a LAYERNORM command says about the arithmetic; names are those of its fields.

    ``LayerNormFields.of`` computes them from the scales of the tensors.
    """

    columns: int
    """Elements of a row."""
    epsilon: int
    """``eps * columns ** 2`` in units of the input's LSB squared, at least 1."""
    reciprocal: int
    """``2 ** reciprocal_shift / columns``, rounded, with 34 significant bits."""
    reciprocal_shift: int
    """Exponent of ``reciprocal``."""
    beta_shift: int
    """Left shift that aligns beta with the product of gamma and the normalised value; 0..31."""
    output_shift: int
    """Right shift from the sum of both to the result, half up; 0..63."""

    @classmethod
    def of(
        cls,
        *,
        fmt: FixedPoint,
        columns: int,
        eps: float,
        input_exponent: int,
        gamma_exponent: int,
        beta_exponent: int,
        output_exponent: int,
    ) -> "LayerNormFields":
        """Return the fields for tensors whose raw integers stand for ``raw * 2 ** exponent``.

        Both summands have the exponent ``input_exponent``. Raises ValueError if the hardware
        cannot represent the scales; each message says which scale has to become coarser.
        """
        if not 1 <= columns <= COLUMNS_MAX:
            raise ValueError(f"Columns of a layer norm must be in 1..{COLUMNS_MAX}, not {columns}")
        if not 0 <= eps < float("inf"):
            raise ValueError(f"Layer-norm eps must be finite and not negative, not {eps!r}")
        epsilon = _epsilon(columns, eps, input_exponent)
        if epsilon >> EPSILON_WIDTH:
            least = least_input_exponent(columns=columns, eps=eps)
            raise ValueError(
                f"Input exponent of a layer norm of {columns} columns with eps {eps} must be at "
                f"least {least}, not {input_exponent}"
            )
        product_exponent = gamma_exponent - LayerNormFormat.of(fmt).result_frac_bits
        beta_shift = beta_exponent - product_exponent
        if beta_shift < 0:
            raise ValueError(
                f"Beta exponent of a layer norm must be at least {product_exponent}, "
                f"not {beta_exponent}"
            )
        if beta_shift > BETA_SHIFT_MAX:
            raise ValueError(
                f"Gamma exponent of a layer norm must be at least "
                f"{gamma_exponent + beta_shift - BETA_SHIFT_MAX} for a beta exponent of "
                f"{beta_exponent}, not {gamma_exponent}"
            )
        output_shift = output_exponent - product_exponent
        if output_shift < 0:
            raise ValueError(
                f"Output exponent of a layer norm must be at least {product_exponent}, "
                f"not {output_exponent}"
            )
        if output_shift > OUTPUT_SHIFT_MAX:
            raise ValueError(
                f"Gamma exponent of a layer norm must be at least "
                f"{gamma_exponent + output_shift - OUTPUT_SHIFT_MAX} for an output exponent of "
                f"{output_exponent}, not {gamma_exponent}"
            )
        reciprocal_shift = RECIPROCAL_WIDTH - 1 + ceil_log2(columns)
        return cls(
            columns=columns,
            epsilon=epsilon,
            reciprocal=((1 << reciprocal_shift) + columns // 2) // columns,
            reciprocal_shift=reciprocal_shift,
            beta_shift=beta_shift,
            output_shift=output_shift,
        )
