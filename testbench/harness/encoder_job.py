"""Encoder jobs for benches of the whole machine: random models, inputs, and runs of the Verilog."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.presets import TINY, TINY2
from acceltran.arch.registers import ErrorCause
from acceltran.generate import generate_verilog
from acceltran_sim.golden.encoder import QuantizedEncoder, encode
from acceltran_sim.models.encoder_config import EncoderConfig
from acceltran_sim.models.encoder_model import EncoderModel, LayerWeights
from acceltran_sim.program.builder import build
from acceltran_sim.program.image import Program
from acceltran_sim.program.job import Job
from acceltran_sim.program.products import DEFAULT_ORDER
from acceltran_sim.program.quantize import quantize, quantize_model
from acceltran_sim.rtl.machine import blocks_of, make_simulator
from acceltran_sim.rtl.simulator import build_simulator, simulate

__all__ = ["check_job", "check_rtl", "quantized", "random_job", "random_model", "simulator"]

Lengths = npt.NDArray[np.integer]


def random_model(
    rng: np.random.Generator,
    *,
    layers: int,
    heads: int,
    head_size: int,
    intermediate: int,
    activation: str = "gelu",
) -> EncoderModel:
    """Encoder with normal weights whose products keep the variance of their input."""
    hidden = heads * head_size
    weights = []
    for _ in range(layers):
        fields: dict[str, Any] = {}
        for name, inputs, outputs in (
            ("query", hidden, hidden),
            ("key", hidden, hidden),
            ("value", hidden, hidden),
            ("attention_output", hidden, hidden),
            ("intermediate", hidden, intermediate),
            ("output", intermediate, hidden),
        ):
            fields[name] = rng.normal(size=(inputs, outputs)) / inputs**0.5
            fields[f"{name}_bias"] = rng.normal(scale=0.1, size=outputs)
        for name in ("attention_norm", "output_norm"):
            fields[f"{name}_gamma"] = rng.uniform(0.5, 1.5, size=hidden)
            fields[f"{name}_beta"] = rng.normal(scale=0.2, size=hidden)
        weights.append(LayerWeights(**fields))
    config = EncoderConfig(
        layers=layers, hidden=hidden, heads=heads, intermediate=intermediate, activation=activation
    )
    return EncoderModel(config=config, layers=tuple(weights))


def random_job(rng: np.random.Generator, *, hidden: int, sequence: int, batch: int) -> Job:
    """Normal input, a fifth of it 0, with ragged lengths of which one is ``sequence``."""
    lengths = rng.integers(1, sequence + 1, size=batch)
    lengths[rng.integers(batch)] = sequence
    values = rng.normal(size=(batch, sequence, hidden)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    return Job(hidden=values, lengths=lengths)


def quantized(
    model: EncoderModel, job: Job, config: AcceleratorConfig, **options: Any
) -> tuple[QuantizedEncoder, npt.NDArray[np.int64]]:
    """Encoder and raw input, with scales from the job itself; ``options`` of quantize_model."""
    encoder = quantize_model(model, job, fmt=config.fmt, **options)
    return encoder, quantize(job.hidden, encoder.input_exponent, config.fmt)[0]


@cache
def simulator(config: AcceleratorConfig) -> Path:
    """Compiled Verilog of a machine, made when first needed; presets are used for longer."""
    verilog = generate_verilog(config)
    if config in (TINY, TINY2):
        return make_simulator(config, verilog)
    return build_simulator(
        verilog,
        axi_data_bits=config.memory.axi_data_bits,
        axi_prefixes=config.memory.axi_prefixes,
        blocks=blocks_of(config, verilog),
        runs="short",
    )


def check_rtl(
    config: AcceleratorConfig,
    encoder: QuantizedEncoder,
    raw: npt.NDArray[np.integer],
    lengths: Lengths,
    *,
    order: str = DEFAULT_ORDER,
    **simulation: Any,
) -> npt.NDArray[np.int32]:
    """Run on the Verilog; assert that all it leaves behind is what the golden encoder says.

    That is the output in every bit, the counts of products, of clipped values and of bytes
    written, and that no other byte of memory has changed. Returns the output. ``simulation``: as
    of ``simulate``.
    """
    golden = encode(encoder, raw, lengths)
    program = build(config, encoder, raw, lengths, order=order)
    limits: dict[str, Any] = {"max_cycles": 10_000_000, "watchdog": 100_000}
    run = simulate(
        simulator(config),
        image=program.image,
        base=program.base,
        program=program.program_address,
        commands=len(program.commands),
        **limits | simulation,
    )
    assert run.error_cause == ErrorCause.NONE, (run.error_cause, run.error_command)
    assert run.commands_done == len(program.commands)
    start = program.output_address - program.base
    end = start + program.output_size
    result = program.output(run.image[start:end])
    differ = np.argwhere(result != golden.raw)
    assert not len(differ), f"{len(differ)} of {result.size} differ, the first at {differ[0]}"
    assert golden.raw.any()
    assert run.image[:start] == program.image[:start] and run.image[end:] == program.image[end:]
    assert run.counters["products_effectual"] == golden.products_effectual
    assert run.counters["saturated"] == sum(golden.saturated.values())
    assert run.counters["dma_write_bytes"] == _bytes_written(program)
    return result


def _bytes_written(program: Program) -> int:
    """Bytes of the bus words that the stores of a program touch."""
    config = program.config
    word = config.memory.axi_data_bits // 8
    written = 0
    for command in program.commands:
        if command.opcode == Opcode.STORE:
            first = command["dram_address"]
            end = first + command["vectors"] * config.vector_bytes
            written += -(-end // word) * word - first // word * word
    return written


def check_job(
    config: AcceleratorConfig,
    model: EncoderModel,
    job: Job,
    *,
    order: str = DEFAULT_ORDER,
    seed: int = 0,
    stall: float = 0.0,
    latency: int = 20,
    **options: Any,
) -> npt.NDArray[np.int32]:
    """Quantise ``model`` with ``options`` of quantize_model, and ``check_rtl`` it on ``job``."""
    encoder, raw = quantized(model, job, config, **options)
    return check_rtl(
        config, encoder, raw, job.lengths, order=order, seed=seed, stall=stall, latency=latency
    )
