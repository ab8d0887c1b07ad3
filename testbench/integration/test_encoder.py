# amaranth: UnusedElaboratable=no
"""Whole encoders on the generated Verilog equal the golden encoder in every bit."""

from itertools import permutations

import numpy as np
import pytest

from acceltran.arch.config import override
from acceltran.arch.presets import MEDIUM, TINY, TINY2
from acceltran_sim.golden.encoder import encode
from acceltran_sim.models.classifier import BERT_TINY_SST2, load_classifier
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.builder import build
from acceltran_sim.program.job import Job
from acceltran_sim.program.products import DEFAULT_ORDER
from acceltran_sim.program.quantize import quantize
from testbench.harness.encoder_job import (
    check_job,
    check_rtl,
    quantized,
    random_job,
    random_model,
)

TINIES = {"tiny": TINY, "tiny2": TINY2}
SPARSITIES = (None, 0.5, 0.9)
STALLS = (0.0, 0.3)

VARIANTS = {
    "4.8": override(TINY, {"datapath.frac_bits": "8"}),
    "4.12": override(TINY, {"datapath.frac_bits": "12"}),
    "dot": override(TINY, {"datapath.lane": "dot"}),
    "window8": override(TINY, {"datapath.weight_window": "8"}),
    "window16": override(TINY2, {"datapath.weight_window": "16", "datapath.frac_bits": "12"}),
    "narrow 4.8": override(TINY, {"datapath.multipliers": "4", "datapath.frac_bits": "8"}),
    "wide": override(TINY, {"datapath.tile": "8", "array.lanes": "2"}),
}
CLUSTERS = override(TINY2, {"array.pes": "10", "array.lanes": "2", "array.softmax_units": "4"})
"""Five clusters of two PEs, whose softmax has two ports."""

SENTENCES = (
    "a gripping , funny film",
    "dull",
    "the plot is thin but the two leads are so good together that it hardly matters",
)


@pytest.fixture(scope="module")
def sentences():
    """A batch of sentences of different lengths as input of BERT-Tiny."""
    classifier = load_classifier(BERT_TINY_SST2)
    hidden, lengths = classifier.embed([classifier.tokenize(text) for text in SENTENCES])
    assert len(set(lengths)) == len(SENTENCES)
    return Job(hidden=hidden, lengths=lengths)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("name", TINIES)
def test_bert_tiny(name, sparsity, sentences):
    check_job(TINIES[name], load_model(BERT_TINY_SST2), sentences, sparsity=sparsity)


def test_bert_tiny_on_medium(sentences):
    job = Job(hidden=sentences.hidden[:1, :8], lengths=sentences.lengths[:1].clip(max=8))
    check_job(MEDIUM, load_model(BERT_TINY_SST2), job)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", TINIES)
def test_random_layers(name, seed, pytestconfig):
    """Sizes that fill no vector, tile or pass; every sparsity with and without stalls."""
    rng = np.random.default_rng([pytestconfig.getoption("seed"), seed])
    head_size = int(rng.integers(20, 65))
    heads = int(rng.integers(-(-40 // head_size), 200 // head_size + 1))
    intermediate = int(rng.integers(30, 260))
    model = random_model(
        rng,
        layers=1,
        heads=heads,
        head_size=head_size,
        intermediate=intermediate + (intermediate % 16 == 0),
        activation=("gelu", "relu")[seed % 2],
    )
    batch, sequence = int(rng.integers(1, 4)), int(rng.integers(1, 68))
    check_job(
        TINIES[name],
        model,
        random_job(rng, hidden=heads * head_size, sequence=sequence, batch=batch),
        sparsity=SPARSITIES[seed % 3],
        seed=seed,
        stall=STALLS[(seed // 3 + (name == "tiny")) % 2],
        latency=int(rng.choice([1, 20, 200])),
    )


@pytest.mark.parametrize("seed", range(8))
def test_clusters(seed):
    """Sequences on groups of clusters, in rounds; some clusters own few rows, or none."""
    rng = np.random.default_rng([14, seed])
    heads, head_size = int(rng.integers(1, 4)), int(rng.integers(16, 40))
    model = random_model(
        rng, layers=2, heads=heads, head_size=head_size, intermediate=int(rng.integers(30, 150))
    )
    batch, sequence = int(rng.integers(1, 7)), int(rng.integers(1, 50))
    check_job(
        CLUSTERS,
        model,
        random_job(rng, hidden=heads * head_size, sequence=sequence, batch=batch),
        sparsity=SPARSITIES[seed % 3],
        seed=seed,
        stall=STALLS[seed % 2],
        latency=int(rng.choice([1, 20, 200])),
    )


@pytest.mark.parametrize("seed", range(4))
def test_clusters_keep_sums(seed):
    """The output product is summed up in the lanes, a few chunks for all rounds in turn."""
    rng = np.random.default_rng([15, seed])
    hidden = int(rng.integers(16, 33))
    model = random_model(
        rng, layers=1, heads=1, head_size=hidden, intermediate=int(rng.integers(150, 400))
    )
    job = random_job(
        rng, hidden=hidden, sequence=int(rng.integers(9, 30)), batch=int(rng.integers(1, 8))
    )
    encoder, raw = quantized(model, job, CLUSTERS, sparsity=SPARSITIES[seed % 3])
    assert any(c["keep_sums"] for c in build(CLUSTERS, encoder, raw, job.lengths).commands)
    check_rtl(CLUSTERS, encoder, raw, job.lengths, seed=seed, stall=STALLS[seed % 2])


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, sparsity):
    """Other formats, and the other lane: the bits of a format do not depend on the lane."""
    rng = np.random.default_rng(5)
    model = random_model(rng, layers=1, heads=2, head_size=33, intermediate=140)
    job = random_job(rng, hidden=66, sequence=21, batch=2)
    config = VARIANTS[variant]
    result = check_job(config, model, job, sparsity=sparsity, stall=0.1)
    if config.fmt == TINY.fmt:
        assert (result == check_job(TINY, model, job, sparsity=sparsity)).all()


@pytest.fixture(scope="module")
def long_product():
    """A small layer whose last product is summed up in more than one tile."""
    rng = np.random.default_rng(9)
    model = random_model(rng, layers=1, heads=2, head_size=20, intermediate=500)
    job = random_job(rng, hidden=40, sequence=21, batch=2)
    return *quantized(model, job, TINY, sparsity=0.5), job.lengths


@pytest.mark.parametrize("order", ["".join(order) for order in permutations(DEFAULT_ORDER)])
def test_orders(order, long_product):
    check_rtl(TINY, *long_product, order=order)


def test_nothing_else_matters(long_product):
    """Machine, lane, stalls, memory latency, contents of memories, and order change no bit."""
    machines = {**TINIES, "dot": VARIANTS["dot"]}
    results = [
        check_rtl(
            machines[name], *long_product, order=order, seed=seed, stall=stall, latency=latency
        )
        for name, order, seed, stall, latency in (
            ("tiny", "bijk", 1, 0.0, 1),
            ("tiny", "kjib", 2, 0.5, 100),
            ("tiny2", "bijk", 3, 0.5, 1),
            ("tiny2", "kijb", 4, 0.0, 100),
            ("dot", "jkbi", 5, 0.2, 20),
        )
    ]
    for result in results:
        assert (result == results[0]).all()


@pytest.mark.parametrize("name", TINIES)
def test_batch_mates(name):
    """A batch element alone gives the bits that it gives among others."""
    rng = np.random.default_rng(11)
    model = random_model(rng, layers=2, heads=3, head_size=20, intermediate=90)
    job = random_job(rng, hidden=60, sequence=19, batch=3)
    encoder, raw = quantized(model, job, TINIES[name], sparsity=0.5)
    together = check_rtl(TINIES[name], encoder, raw, job.lengths)
    for b, length in enumerate(job.lengths):
        alone = check_rtl(TINIES[name], encoder, raw[b : b + 1, :length], job.lengths[b : b + 1])
        assert (alone[0] == together[b, :length]).all()


def test_padding_is_never_read(long_product):
    """What lies beyond a sequence's length changes no bit."""
    encoder, raw, lengths = long_product
    other = raw.copy()
    for b, length in enumerate(lengths):
        other[b, length:] = 12345
    result = check_rtl(TINY, encoder, other, lengths)
    assert (result == encode(encoder, raw, lengths).raw).all()


@pytest.mark.parametrize("name", TINIES)
def test_saturation(name):
    """Input far beyond what the scales were chosen for clips as in the golden encoder."""
    rng = np.random.default_rng(12)
    model = random_model(rng, layers=1, heads=2, head_size=24, intermediate=100)
    job = random_job(rng, hidden=48, sequence=30, batch=2)
    encoder, _ = quantized(model, job, TINIES[name])
    raw, clipped = quantize(8 * job.hidden, encoder.input_exponent, TINY.fmt)
    assert clipped and sum(encode(encoder, raw, job.lengths).saturated.values()) > 100
    check_rtl(TINIES[name], encoder, raw, job.lengths)


def test_largest_job():
    """The largest layer that tiny is made for."""
    rng = np.random.default_rng(13)
    model = random_model(rng, layers=1, heads=4, head_size=64, intermediate=1024)
    job = Job(hidden=rng.normal(size=(1, 128, 256)).astype(np.float32), lengths=np.array([128]))
    check_job(TINY, model, job)
