"""The golden encoder against float encoders: accuracy, scales, lengths, pruning, counts."""

import math
from dataclasses import replace

import numpy as np
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran_sim.golden.encoder import SITES, encode
from acceltran_sim.models.classifier import BERT_TINY_SST2
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.job import Job
from acceltran_sim.program.quantize import prune_all, quantize, quantize_model
from testbench.golden.float_encoder import encode_float
from testbench.golden.models import random_tensors, write_model

Q16, Q12, Q8 = (FixedPoint(int_bits=4, frac_bits=bits) for bits in (16, 12, 8))


def random_job(rng, *, batch, sequence, hidden):
    values = rng.normal(size=(batch, sequence, hidden)).astype(np.float32)
    lengths = rng.integers(1, sequence + 1, size=batch)
    lengths[0] = sequence
    return Job(hidden=values, lengths=lengths)


def run(model, job, *, fmt=Q16, calibration=None, keep_tensors=False, **options):
    encoder = quantize_model(model, calibration or job, fmt=fmt, **options)
    raw, _ = quantize(job.hidden, encoder.input_exponent, fmt)
    result = encode(encoder, raw, job.lengths, keep_tensors=keep_tensors)
    return encoder, result, np.ldexp(result.raw.astype(float), encoder.output_exponent)


def random_model(folder, *, layers=1, hidden=72, heads=3, intermediate=200, **options):
    activation = options.pop("activation", "gelu")
    tensors = random_tensors(
        np.random.default_rng(7),
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        **options,
    )
    config = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "hidden_act": activation,
    }
    return load_model(write_model(folder, tensors, **config))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("outliers", [0, 4])
def test_accuracy(tmp_path, layers, outliers, activation):
    model = random_model(tmp_path, layers=layers, outliers=outliers, activation=activation)
    job = random_job(np.random.default_rng(layers), batch=3, sequence=37, hidden=72)
    _, result, y = run(model, job)
    reference = encode_float(model, job.hidden, job.lengths)
    assert not result.saturated
    error = np.sqrt(np.square(y - reference).sum() / np.square(reference).sum())
    assert error <= 1e-4, error
    for row, length in zip(result.raw, job.lengths, strict=True):
        assert not row[length:].any()


@pytest.mark.parametrize(
    "fmt,largest,mean", [(Q16, 1e-4, 1.6e-5), (Q12, 1.6e-3, 2.5e-4), (Q8, 2.2e-2, 4e-3)]
)
def test_bert_tiny(fmt, largest, mean):
    golden = np.load(BERT_TINY_SST2 / "golden_sentence0.npz")
    job = Job(hidden=golden["X_0"], lengths=np.array([12]))
    encoder, result, y = run(load_model(BERT_TINY_SST2), job, fmt=fmt, keep_tensors=True)
    assert not result.saturated
    error = np.abs(y - golden["LN2_1"])
    assert error.max() <= largest and error.mean() <= mean, (error.max(), error.mean())
    names = {"query": "Q", "key": "K", "value": "V", "probabilities": "P", "context": "C"}
    names |= {"attention_output": "AO", "attention_norm": "LN1", "activation": "G", "output": "F2"}
    for n, layer in enumerate(encoder.layers):
        for name, letters in names.items():
            tensor = np.ldexp(result.tensors[f"0.{n}.{name}"].astype(float), layer.exponents[name])
            reference = golden[f"{letters}_{n}"][0]
            assert np.abs(tensor - reference).max() <= 4 * largest * max(1, abs(reference).max())


def test_one_sentence_calibrates_others():
    golden = np.load(BERT_TINY_SST2 / "golden_sentence0.npz")
    model = load_model(BERT_TINY_SST2)
    calibration = Job(hidden=golden["X_0"], lengths=np.array([12]))
    short = Job(hidden=golden["X_0"][:, :3], lengths=np.array([3]))
    _, result, y = run(model, short, calibration=calibration)
    assert not result.saturated
    assert np.abs(y - encode_float(model, short.hidden, short.lengths)).max() <= 1e-4


def test_scales(tmp_path):
    model = random_model(tmp_path, layers=2, outliers=4)
    job = random_job(np.random.default_rng(3), batch=2, sequence=9, hidden=72)
    encoder = quantize_model(model, job, fmt=Q16)
    reference = encode_float(model, job.hidden, job.lengths)
    top = np.abs(reference).max()
    assert encoder.output_exponent == math.ceil(math.log2(top / 2**18))
    first, second = (layer.exponents for layer in encoder.layers)
    assert first["output_norm"] == second["input"]
    for e in (first, second):
        assert e["context"] == e["value"] and e["probabilities"] == -16
        assert e["input"] == e["attention_output"] and e["attention_norm"] == e["output"]
        assert e["intermediate"] >= -16 and e["activation"] >= -16
    shallow = quantize_model(model, job, fmt=Q16, layers=1)
    assert shallow.layers[0].exponents == first
    assert (shallow.layers[0].query.matrix == encoder.layers[0].query.matrix).all()


def test_zero_and_extreme_weights(tmp_path):
    """All-zero tensors, tiny weights and large ones have scales that the commands can carry."""
    rng = np.random.default_rng(5)
    job = random_job(rng, batch=1, sequence=5, hidden=72)
    model = random_model(tmp_path)
    weights = model.layers[0]
    zeros = {name: np.zeros_like(tensor) for name, tensor in vars(weights).items()}
    for layer in (
        replace(weights, **zeros),
        replace(weights, query=weights.query * 1e-9, query_bias=weights.query_bias * 0),
        replace(weights, output=weights.output * 1e-30),
        replace(weights, value=weights.value * 1e6, attention_norm_gamma=zeros["output_bias"]),
        replace(weights, intermediate=weights.intermediate * 30),
    ):
        changed = replace(model, layers=(layer,))
        _, result, y = run(changed, job)
        reference = encode_float(changed, job.hidden, job.lengths)
        scale = max(np.abs(reference).max(), 1)
        assert np.abs(y - reference).max() <= 2e-3 * scale


@pytest.mark.parametrize("magnitude", [0.0, 1e-38, 1e-12, 30])
def test_inputs_of_any_magnitude(tmp_path, magnitude):
    """The input's scale follows the tensor that it is added to, however small it is itself."""
    model = random_model(tmp_path, layers=2)
    job = random_job(np.random.default_rng(6), batch=2, sequence=7, hidden=72)
    job = replace(job, hidden=(job.hidden * magnitude).astype(np.float32))
    _, result, y = run(model, job)
    reference = encode_float(model, job.hidden, job.lengths)
    error = np.sqrt(np.square(y - reference).sum() / np.square(reference).sum())
    assert error <= 1e-3, error


def test_batch_mates_do_not_matter(tmp_path):
    model = random_model(tmp_path)
    job = random_job(np.random.default_rng(2), batch=3, sequence=20, hidden=72)
    _, together, _ = run(model, job)
    for b, length in enumerate(job.lengths):
        alone = Job(hidden=job.hidden[b : b + 1, :length], lengths=job.lengths[b : b + 1])
        _, result, _ = run(model, alone, calibration=job)
        assert (result.raw[0] == together.raw[b, :length]).all()


def test_counts(tmp_path):
    model = random_model(tmp_path, layers=2)
    job = random_job(np.random.default_rng(2), batch=2, sequence=11, hidden=72)
    _, result, _ = run(model, job, keep_tensors=True, threshold=0.3)
    h, f = 72, 200
    dense = sum(4 * n * h * h + 2 * n * h * f + 2 * n * n * h for n in job.lengths.tolist())
    assert result.products_dense == 2 * dense
    assert 0 < result.products_effectual < result.products_dense
    encoder = quantize_model(model, job, fmt=Q16, threshold=0.3)
    effectual = 0
    for b in range(2):
        for n, layer in enumerate(encoder.layers):

            def tensor(name, b=b, n=n):
                return result.tensors[f"{b}.{n}.{name}"] != 0

            def count(x, y):
                return int((x.astype(int) @ y.astype(int)).sum())

            for name in ("query", "key", "value"):
                effectual += count(tensor("input"), getattr(layer, name).matrix != 0)
            effectual += count(tensor("query"), tensor("key").swapaxes(1, 2))
            effectual += count(tensor("probabilities"), tensor("value"))
            context = tensor("context").swapaxes(0, 1).reshape(-1, h)
            effectual += count(context, layer.attention_output.matrix != 0)
            effectual += count(tensor("attention_norm"), layer.intermediate.matrix != 0)
            effectual += count(tensor("activation"), layer.output.matrix != 0)
    assert result.products_effectual == effectual


def test_threshold(tmp_path):
    model = random_model(tmp_path)
    job = random_job(np.random.default_rng(4), batch=2, sequence=16, hidden=72)
    encoder, result, _ = run(model, job, threshold=0.05, keep_tensors=True)
    for site in SITES:
        exponent = encoder.layers[0].exponents[site]
        assert encoder.layers[0].thresholds[site] == math.ceil(0.05 * 2.0**-exponent)
        tensor = np.abs(result.tensors[f"0.0.{site}"]) * 2.0**exponent
        assert ((tensor == 0) | (tensor >= 0.05)).all() and tensor.any()
    for huge in (1e9, 1e300):
        encoder, result, _ = run(model, job, threshold=huge)
        assert set(encoder.layers[0].thresholds.values()) == {prune_all(Q16)}
        assert not result.raw.any()


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_sparsity(tmp_path, sparsity):
    model = random_model(tmp_path)
    job = random_job(np.random.default_rng(4), batch=3, sequence=24, hidden=72)
    encoder, _, _ = run(model, job, sparsity=sparsity)
    for site in SITES:
        _, dense, _ = run(model, job, keep_tensors=True)
        values = np.concatenate([dense.tensors[f"{b}.0.{site}"].ravel() for b in range(3)])
        pruned = np.mean(np.abs(values) < encoder.layers[0].thresholds[site])
        ties = np.mean(values == 0)
        assert abs(pruned - sparsity) <= 0.01 + ties


def test_sparsity_is_a_quantile_of_the_unpruned_calibration_run(tmp_path):
    """Of a whole tensor of a layer, valid rows only; for the first and for the last tensor."""
    model = random_model(tmp_path, layers=2)
    rng = np.random.default_rng(8)
    job = random_job(rng, batch=1, sequence=6, hidden=72)
    calibration = random_job(rng, batch=3, sequence=24, hidden=72)
    encoder, _, _ = run(model, job, calibration=calibration, sparsity=0.7)
    valid = np.arange(24) < calibration.lengths[:, np.newaxis]
    weights = model.layers[0]
    query = calibration.hidden[valid].astype(float) @ weights.query + weights.query_bias
    last = encode_float(model, calibration.hidden, calibration.lengths)[valid]
    for layer, site, tensor in ((0, "query", query), (1, "output_norm", last)):
        threshold = np.quantile(np.abs(tensor), 0.7, method="lower")
        exponent = encoder.layers[layer].exponents[site]
        assert encoder.layers[layer].thresholds[site] == math.ceil(threshold * 2.0**-exponent)
