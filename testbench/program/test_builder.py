"""Programs run by the interpreter equal the golden encoder in every bit."""

from typing import Any

import numpy as np
import pytest

from acceltran.arch.commands import COMMAND_BYTES, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.presets import MEDIUM, TINY, TINY2
from acceltran_sim.golden.encoder import QuantizedEncoder, encode
from acceltran_sim.models.classifier import BERT_TINY_SST2
from acceltran_sim.models.encoder_config import EncoderConfig
from acceltran_sim.models.encoder_model import EncoderModel, LayerWeights, load_model
from acceltran_sim.program.builder import build
from acceltran_sim.program.image import Program
from acceltran_sim.program.interpreter import interpret
from acceltran_sim.program.job import Job
from acceltran_sim.program.quantize import quantize, quantize_model


def random_model(rng, *, layers, heads, head_size, intermediate, activation="gelu"):
    hidden = heads * head_size

    def matrix(inputs, outputs):
        return rng.normal(size=(inputs, outputs)) / inputs**0.5

    weights = []
    for _ in range(layers):
        fields = {}
        for name, inputs, outputs in (
            ("query", hidden, hidden),
            ("key", hidden, hidden),
            ("value", hidden, hidden),
            ("attention_output", hidden, hidden),
            ("intermediate", hidden, intermediate),
            ("output", intermediate, hidden),
        ):
            fields[name] = matrix(inputs, outputs)
            fields[f"{name}_bias"] = rng.normal(scale=0.1, size=outputs)
        for name in ("attention_norm", "output_norm"):
            fields[f"{name}_gamma"] = rng.uniform(0.5, 1.5, size=hidden)
            fields[f"{name}_beta"] = rng.normal(scale=0.2, size=hidden)
        weights.append(LayerWeights(**fields))
    config = EncoderConfig(
        layers=layers,
        hidden=hidden,
        heads=heads,
        intermediate=intermediate,
        activation=activation,
    )
    return EncoderModel(config=config, layers=tuple(weights))


def random_job(rng, *, hidden, sequence, batch):
    lengths = rng.integers(1, sequence + 1, size=batch)
    lengths[rng.integers(batch)] = sequence
    values = rng.normal(size=(batch, sequence, hidden)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    return Job(hidden=values, lengths=lengths)


def quantized(model, job, config, **options) -> tuple[QuantizedEncoder, np.ndarray]:
    encoder = quantize_model(model, job, fmt=config.fmt, **options)
    return encoder, quantize(job.hidden, encoder.input_exponent, config.fmt)[0]


def run(program: Program):
    size = len(program.commands) * COMMAND_BYTES
    machine = interpret(program.config, program.base, program.image, program.program_address, size)
    start = program.output_address - program.base
    return program.output(bytes(machine.dram[start : start + program.output_size])), machine


def check(config: AcceleratorConfig, model, job, order="bijk", **options) -> Program:
    encoder, raw = quantized(model, job, config, **options)
    golden = encode(encoder, raw, job.lengths)
    program = build(config, encoder, raw, job.lengths, order=order)
    result, machine = run(program)
    assert (result == golden.raw).all()
    assert golden.raw.any()
    assert machine.products_effectual == golden.products_effectual
    outside = bytearray(program.image)
    start = program.output_address - program.base
    outside[start : start + program.output_size] = machine.dram[start : start + program.output_size]
    assert outside == machine.dram
    return program


def with_format(config, frac_bits):
    return config.replace(datapath={"frac_bits": frac_bits}, buffers={"mask_kib": 4096})


@pytest.mark.parametrize("seed", range(24))
def test_random_shapes(seed):
    rng = np.random.default_rng(seed)
    config = with_format((TINY, TINY2)[seed % 2], (8, 12, 16)[seed // 2 % 3])
    head_size = int(rng.choice([20, 24, 32, 33, 47, 64]))
    heads = int(rng.integers(max(1, -(-40 // head_size)), 200 // head_size + 1))
    model = random_model(
        rng,
        layers=int(rng.integers(1, 3)),
        heads=heads,
        head_size=head_size,
        intermediate=int(rng.integers(30, 700)),
        activation=("gelu", "relu")[int(rng.integers(2))],
    )
    job = random_job(
        rng,
        hidden=heads * head_size,
        sequence=int(rng.integers(1, 68)),
        batch=int(rng.integers(1, 4)),
    )
    options: dict[str, Any] = ({}, {"threshold": 0.05}, {"sparsity": 0.5})[int(rng.integers(3))]
    check(config, model, job, **options)


def test_bert_tiny():
    golden = np.load(BERT_TINY_SST2 / "golden_sentence0.npz")
    job = Job(hidden=golden["X_0"], lengths=np.array([12]))
    program = check(TINY, load_model(BERT_TINY_SST2), job)
    assert program.commands[-1].opcode == Opcode.END
    assert check(MEDIUM, load_model(BERT_TINY_SST2), job).commands
