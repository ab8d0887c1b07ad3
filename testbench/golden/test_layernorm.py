"""Golden layer norm against float64, and the fields of its command."""

import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import LayerNormFields, least_input_exponent
from acceltran_sim.golden.layernorm import layer_norm

SCALES = ("input_exponent", "gamma_exponent", "beta_exponent", "output_exponent")
Q16 = FixedPoint(int_bits=4, frac_bits=16)


def unscaled(fmt, columns, eps=1e-12):
    """Fields for tensors that are all at the scale of the format itself."""
    scales = dict.fromkeys(SCALES, -fmt.frac_bits)
    return LayerNormFields.of(**{"fmt": fmt, "columns": columns, "eps": eps, **scales})


def exact(x, gamma, beta, eps):
    """Layer norm of real numbers."""
    deviation = x - x.mean(axis=-1, keepdims=True)
    variance = (deviation * deviation).mean(axis=-1, keepdims=True)
    return deviation / np.sqrt(variance + eps) * gamma + beta


def quantize(x, fmt, exponent):
    """Raw integers of reals, saturated."""
    return np.clip(np.rint(x * 2.0**-exponent), fmt.lowest, fmt.highest).astype(np.int64)


def worst_error(fmt, x, gamma, beta, eps=None):
    """Greatest error of rows of raw ``x`` at the format's own scale, in LSBs of the result.

    Without ``eps`` that of the command is the reference's too: it is an integer, at least 1.
    """
    unit = 2.0**-fmt.frac_bits
    columns = x.shape[-1]
    fields = unscaled(fmt, columns, 0.0 if eps is None else eps)
    if eps is None:
        eps = fields.epsilon * (unit / columns) ** 2
    result, _ = layer_norm(x, np.zeros_like(x), fmt=fmt, gamma=gamma, beta=beta, fields=fields)
    expected = exact(x * unit, gamma * unit, beta * unit, eps) / unit
    return np.abs(result - np.clip(expected, fmt.lowest, fmt.highest)).max()


@pytest.mark.parametrize("frac_bits", [8, 12, 16])
@pytest.mark.parametrize("columns", [40, 56, 96, 120, 128, 200, 384, 512, 768, 1000, 1024])
def test_error_is_below_one_lsb(frac_bits, columns):
    """Rows with a spread of 64 LSBs and more, a large mean, and |gamma| up to 1.5."""
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    rng = np.random.default_rng(columns)
    worst = 0.0
    for spread in (64, 2.0 ** (frac_bits / 2 + 3), 0.3 * 2**frac_bits, 2.5 * 2**frac_bits):
        for eps in (1e-12, 1e-5):
            mean = rng.uniform(-3, 3, (40, 1)) * 2**frac_bits
            x = quantize(mean + rng.normal(0, max(spread, 64), (40, columns)), fmt, 0)
            gamma = quantize(rng.uniform(0.5, 1.5, columns), fmt, -frac_bits)
            beta = quantize(rng.normal(0, 0.3, columns), fmt, -frac_bits)
            worst = max(worst, worst_error(fmt, x, gamma, beta, eps))
    assert worst <= 0.85


@pytest.mark.parametrize("columns", [96, 128, 384, 768, 1000])
def test_error_of_nearly_constant_rows(columns):
    """Rows with a spread of 16, 4 and 1 LSBs."""
    rng = np.random.default_rng(columns)
    gamma = quantize(rng.uniform(0.5, 1.5, columns), Q16, -16)
    beta = quantize(rng.normal(0, 0.3, columns), Q16, -16)
    mean = rng.uniform(-3, 3, (40, 1))
    x = quantize(mean + rng.normal(0, 2**-12, (40, columns)), Q16, -16)
    assert worst_error(Q16, x, gamma, beta) <= 0.76
    x = quantize(mean + rng.normal(0, 2**-14, (40, columns)), Q16, -16)
    assert worst_error(Q16, x, gamma, beta) <= 0.83
    x = rng.integers(-1, 1, (40, columns), endpoint=True)
    assert worst_error(Q16, x, gamma, beta) <= 1.4


@pytest.mark.parametrize("frac_bits", [8, 12, 16])
@pytest.mark.parametrize("columns", [1, 2, 40, 120, 768, 1024])
@pytest.mark.parametrize("magnitude", ["lowest", "highest", 12345 % 2047, 0])
def test_constant_row_gives_beta(frac_bits, columns, magnitude):
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    value = getattr(fmt, magnitude) if isinstance(magnitude, str) else magnitude
    rng = np.random.default_rng(columns)
    a = np.full((1, columns), value)
    gamma, beta = rng.integers(fmt.lowest, fmt.highest, (2, columns), endpoint=True)
    result, _ = layer_norm(a, a, fmt=fmt, gamma=gamma, beta=beta, fields=unscaled(fmt, columns))
    np.testing.assert_array_equal(result[0], beta)


@pytest.mark.parametrize("columns", [40, 768, 1000, 1023, 1024])
def test_one_outlier(columns):
    """The largest normalised value there is, ``sqrt(columns - 1)``."""
    rng = np.random.default_rng(columns)
    x = np.zeros((40, columns), np.int64)
    x[np.arange(40), rng.integers(0, columns, 40)] = [
        1, -1, Q16.lowest, Q16.highest, *rng.integers(64, Q16.highest, 36),
    ]  # fmt: skip
    gamma, beta = np.full(columns, 1 << 14), np.zeros(columns, np.int64)
    assert worst_error(Q16, x[2:], gamma, beta) <= 1.07
    assert worst_error(Q16, x, gamma, beta) <= 3.9


@pytest.mark.parametrize("frac_bits", [8, 12, 16])
def test_scales(frac_bits):
    """Tensors at scales of their own; the result's scale holds gamma times the largest value."""
    fmt = FixedPoint(int_bits=4, frac_bits=frac_bits)
    rng = np.random.default_rng(frac_bits)
    width = fmt.width
    for _ in range(30):
        columns, magnitude = int(rng.integers(20, 300)), 2.0 ** rng.integers(-6, 6)
        gammas = rng.uniform(0.5, 1, columns) * magnitude
        betas = rng.normal(0, 1, columns) * magnitude * 2.0 ** rng.integers(-8, 2)
        input_exponent = int(rng.integers(-frac_bits - 2, -frac_bits + 6))
        input_exponent = max(input_exponent, least_input_exponent(columns=columns, eps=1e-5))
        spread = 2.0 ** (input_exponent + width - 4)
        gamma_exponent = int(np.ceil(np.log2(gammas.max()))) + 1 - width
        beta_exponent = int(np.ceil(np.log2(np.abs(betas).max()))) + 1 - width
        output_exponent = int(np.log2(magnitude)) + 5 - width
        fields = LayerNormFields.of(
            fmt=fmt,
            columns=columns,
            eps=1e-5,
            input_exponent=input_exponent,
            gamma_exponent=gamma_exponent,
            beta_exponent=max(beta_exponent, gamma_exponent - frac_bits - 3),
            output_exponent=output_exponent,
        )
        gamma = quantize(gammas, fmt, gamma_exponent)
        beta = quantize(betas, fmt, max(beta_exponent, gamma_exponent - frac_bits - 3))
        a, b = quantize(rng.normal(0, spread, (2, 16, columns)), fmt, input_exponent)
        result, _ = layer_norm(a, b, fmt=fmt, gamma=gamma, beta=beta, fields=fields)
        expected = (
            exact(
                (a + b) * 2.0**input_exponent,
                gamma * 2.0**gamma_exponent,
                beta * 2.0 ** max(beta_exponent, gamma_exponent - frac_bits - 3),
                1e-5,
            )
            * 2.0**-output_exponent
        )
        assert np.abs(result - np.clip(expected, fmt.lowest, fmt.highest)).max() <= 0.8


def test_order_of_elements_does_not_matter():
    rng = np.random.default_rng(0)
    x = rng.integers(Q16.lowest, Q16.highest, (8, 200))
    gamma, beta = rng.integers(Q16.lowest, Q16.highest, (2, 200))
    order = rng.permutation(200)
    fields, zero = unscaled(Q16, 200), np.zeros_like(x)
    result, _ = layer_norm(x, zero, fmt=Q16, gamma=gamma, beta=beta, fields=fields)
    permuted, _ = layer_norm(
        x[:, order], zero, fmt=Q16, gamma=gamma[order], beta=beta[order], fields=fields
    )
    np.testing.assert_array_equal(permuted, result[:, order])


def test_rejects_shapes():
    x = np.zeros((2, 8), np.int64)
    with pytest.raises(
        ValueError,
        match=r"^Summands must both have 7 columns, not the shapes \(2, 8\), \(2, 8\)$",
    ):
        layer_norm(x, x, fmt=Q16, gamma=x[0], beta=x[0], fields=unscaled(Q16, 7))


@pytest.mark.parametrize(("columns", "eps"), [(128, 1e-12), (1024, 1e-5), (256, 0.1), (1, 1.0)])
def test_least_input_exponent(columns, eps):
    """One step finer is refused."""
    least = least_input_exponent(columns=columns, eps=eps)
    scales = {**dict.fromkeys(SCALES, -16), "fmt": Q16, "columns": columns, "eps": eps}
    assert LayerNormFields.of(**{**scales, "input_exponent": least}).epsilon < 1 << 60
    with pytest.raises(ValueError, match=rf"must be at least {least}, not {least - 1}$"):
        LayerNormFields.of(**{**scales, "input_exponent": least - 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": 0}, "Columns of a layer norm must be in 1..1024, not 0"),
        ({"columns": 1025}, "Columns of a layer norm must be in 1..1024, not 1025"),
        ({"eps": -1.0}, "Layer-norm eps must be finite and not negative, not -1.0"),
        ({"eps": float("nan")}, "Layer-norm eps must be finite and not negative, not nan"),
        (
            {"columns": 8, "eps": 1.0, "input_exponent": -40},
            (
                "Input exponent of a layer norm of 8 columns with eps 1.0 "
                "must be at least -26, not -40"
            ),
        ),
        (
            {"beta_exponent": -36},
            "Beta exponent of a layer norm must be at least -35, not -36",
        ),
        (
            {"beta_exponent": 0, "gamma_exponent": -16},
            "Gamma exponent of a layer norm must be at least -12 for a beta exponent of 0, not -16",
        ),
        (
            {"output_exponent": -36},
            "Output exponent of a layer norm must be at least -35, not -36",
        ),
        (
            {"output_exponent": 30},
            (
                "Gamma exponent of a layer norm must be at least -14 "
                "for an output exponent of 30, not -16"
            ),
        ),
    ],
)
def test_rejects_fields(change, message):
    scales = dict.fromkeys(SCALES, -16)
    with pytest.raises(ValueError) as error:
        LayerNormFields.of(**{"fmt": Q16, "columns": 128, "eps": 1e-12, **scales, **change})
    assert str(error.value) == message
