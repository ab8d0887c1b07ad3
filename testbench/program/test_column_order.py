"""Sorted columns change the time that lanes take, and no bit of a result."""

from dataclasses import replace

import numpy as np

from acceltran.arch.config import override
from acceltran.arch.presets import TINY
from acceltran_sim.golden.encoder import encode
from acceltran_sim.golden.row_streamer import Beat
from acceltran_sim.golden.weight_window import WindowSchedule, shared_stream_cycles
from acceltran_sim.program.builder import build
from acceltran_sim.program.column_order import sort_columns
from testbench.harness.encoder_job import quantized, random_job, random_model
from testbench.program.test_builder import check_encoder

WINDOW = override(TINY, {"datapath.weight_window": "8"})
MATRICES = ("query", "key", "value", "attention_output", "intermediate", "output")


def pruned_encoder(seed=3):
    """Encoder whose columns differ in density, and its input."""
    rng = np.random.default_rng(seed)
    model = random_model(rng, layers=2, heads=3, head_size=24, intermediate=130)
    layers = []
    for weights in model.layers:
        masked = {}
        for name in MATRICES:
            matrix = getattr(weights, name)
            masked[name] = matrix * (rng.random(matrix.shape) < rng.random(matrix.shape[1]))
        layers.append(replace(weights, **masked))
    model = replace(model, layers=tuple(layers))
    job = random_job(rng, hidden=72, sequence=19, batch=2)
    return *quantized(model, job, WINDOW, sparsity=0.3), job.lengths


def test_golden_result_is_the_same():
    encoder, raw, lengths = pruned_encoder()
    ordered = replace(encoder, layers=tuple(sort_columns(layer) for layer in encoder.layers))
    before, after = encode(encoder, raw, lengths), encode(ordered, raw, lengths)
    assert (before.raw == after.raw).all()
    assert before.products_effectual == after.products_effectual
    assert before.saturated == after.saturated


def test_program_gives_the_golden_result():
    encoder, raw, lengths = pruned_encoder()
    program = check_encoder(WINDOW, encoder, raw, lengths)
    assert program.image != build(TINY, encoder, raw, lengths).image


def test_columns_of_a_head_and_of_the_intermediate_layer_are_sorted():
    encoder, _, _ = pruned_encoder()
    layer = sort_columns(encoder.layers[0])

    def density(*names):
        return sum(np.count_nonzero(getattr(layer, name).matrix, axis=0) for name in names)

    for counts, groups in (
        (density("query", "key"), layer.heads),
        (density("value"), layer.heads),
        (density("intermediate"), 1),
    ):
        for part in np.split(counts, groups):
            assert (np.diff(part) <= 0).all()


def test_lanes_gain():
    """Four lanes on one stream, columns of clustered density: by the schedule of the lanes."""
    encoder, _, _ = pruned_encoder()
    cycles = []
    for layer in (encoder.layers[0], sort_columns(encoder.layers[0])):
        keep = layer.intermediate.matrix[:, :128] != 0
        rows = range(len(keep) // 4 * 4)
        beats = [
            Beat(
                values=(1,) * 4,
                rows=tuple(rows[first : first + 4]),
                row=first,
                slot=0,
                first=first == 0,
                resume=False,
                last=first == rows[-4],
                final=True,
                context=False,
            )
            for first in rows[::4]
        ]
        total = 0
        for first in range(0, 128, 64):
            lanes = [
                WindowSchedule(keep[:, column : column + 16], window=8)
                for column in range(first, first + 64, 16)
            ]
            total += shared_stream_cycles(lanes, beats * 4)
        cycles.append(total)
    assert cycles[1] < 0.8 * cycles[0]
