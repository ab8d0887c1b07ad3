"""Scales of single values, rounding, and refusals."""

import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.errors import InputError
from acceltran_sim.models.classifier import BERT_TINY_SST2
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.job import Job
from acceltran_sim.program.quantize import prune_all, quantize, quantize_model, raw_threshold
from acceltran_sim.program.scales import activation_exponent, weight_exponent

FMT = FixedPoint(int_bits=4, frac_bits=16)


@pytest.mark.parametrize(
    "maximum,activation,weight",
    [
        (0.0, -16, -16),
        (1.0, -18, -18),
        (1.0000001, -17, -18),
        ((2**19 - 1) / 2**19, -18, -19),
        ((2**19 - 0.5) / 2**19, -18, -18),
        (2.0**-100, -118, -118),
        (42.7, -12, -13),
    ],
)
def test_exponents(maximum, activation, weight):
    assert activation_exponent(maximum, FMT) == activation
    assert weight_exponent(maximum, FMT) == weight
    if maximum:
        assert maximum * 2.0**-activation <= 2**18 < 2 * maximum * 2.0**-activation
        assert maximum * 2.0**-weight <= 2**19 - 1


def test_quantize_rounds_half_up_and_saturates():
    x = np.array([0.5, -0.5, 1.5, -1.5, 1e9, -1e9, 0.0])
    raw, clipped = quantize(x, 0, FMT)
    assert raw.tolist() == [1, 0, 2, -1, 2**19 - 1, -(2**19), 0] and clipped == 2


@pytest.mark.parametrize(
    "threshold,exponent,raw",
    [
        (0.0, -16, 0),
        (1.0, -16, 65536),
        (1.00001, -16, 65537),
        (2**19 - 1, 0, 2**19 - 1),
        (2**19 - 0.5, 0, 2**19 + 1),
        (1e308, -300, 2**19 + 1),
    ],
)
def test_raw_threshold(threshold, exponent, raw):
    assert raw_threshold(threshold, exponent, FMT) == raw
    assert prune_all(FMT) == 2**19 + 1


@pytest.mark.parametrize(
    "options,message",
    [
        ({"threshold": -0.1}, "Threshold must be finite and at least 0, not -0.1"),
        ({"threshold": float("inf")}, "Threshold must be finite and at least 0, not inf"),
        ({"sparsity": 1.0}, "Sparsity must be at least 0 and below 1, not 1.0"),
        ({"sparsity": float("nan")}, "Sparsity must be at least 0 and below 1, not nan"),
        (
            {"sparsity": 0.5, "threshold": 0.1},
            "Threshold must not be given with a sparsity, not 0.1",
        ),
        ({"layers": 0}, "Layers must be from 1 to the model's 2, not 0"),
        ({"layers": 3}, "Layers must be from 1 to the model's 2, not 3"),
    ],
)
def test_refused(options, message):
    model = load_model(BERT_TINY_SST2)
    job = Job(hidden=np.ones((1, 2, 128), np.float32), lengths=np.array([2]))
    with pytest.raises(InputError) as error:
        quantize_model(model, job, fmt=FMT, **options)
    assert str(error.value) == message


def test_values_beyond_softmax_are_refused():
    model = load_model(BERT_TINY_SST2)
    hidden = np.random.default_rng(1).normal(scale=1e12, size=(1, 4, 128)).astype(np.float32)
    with pytest.raises(InputError, match=r"^Tensors of layer 0 must be representable: query times"):
        quantize_model(model, Job(hidden=hidden, lengths=np.array([4])), fmt=FMT)
