"""Programs run by the interpreter equal the golden encoder in every bit."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from acceltran.arch.commands import COMMAND_BYTES, WAITS, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.presets import MEDIUM, TINY, TINY2
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import encode
from acceltran_sim.models.classifier import BERT_TINY_SST2
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.builder import build, build_resident
from acceltran_sim.program.command import Command
from acceltran_sim.program.footprint import footprint
from acceltran_sim.program.image import Program
from acceltran_sim.program.interpreter import Interpreter, ProgramError, interpret
from acceltran_sim.program.job import Job
from acceltran_sim.program.ordering import OrderChecker
from acceltran_sim.program.quantize import quantize
from testbench.harness.encoder_job import quantized, random_job, random_model


def run(program: Program):
    size = len(program.commands) * COMMAND_BYTES
    machine = interpret(program.config, program.base, program.image, program.program_address, size)
    start = program.output_address - program.base
    return program.output(bytes(machine.dram[start : start + program.output_size])), machine


def check(config: AcceleratorConfig, model, job, order="bijk", **options) -> Program:
    encoder, raw = quantized(model, job, config, **options)
    return check_encoder(config, encoder, raw, job.lengths, order)


def check_encoder(config, encoder, raw, lengths, order="bijk") -> Program:
    golden = encode(encoder, raw, lengths)
    program = build(config, encoder, raw, lengths, order=order)
    result, machine = run(program)
    assert (result == golden.raw).all()
    assert golden.raw.any()
    assert machine.products_effectual == golden.products_effectual
    assert machine.saturated == sum(golden.saturated.values())
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


def small(config, **fields):
    """A machine with little memory, so that weights, scores and rows take turns."""
    return config.replace(**fields)


SHAPE: dict[str, Any] = {"heads": 3, "head_size": 20, "intermediate": 150}


@pytest.mark.parametrize("config", [TINY, TINY2], ids=["tiny", "tiny2"])
@pytest.mark.parametrize("weight_kib", [16, 20, 28, 60, 120])
def test_weights_take_turns(config, weight_kib):
    """Pieces of less than a column pass, ring reuse, and weights that stay for the next group."""
    rng = np.random.default_rng(weight_kib)
    config = small(config, buffers={"weight_kib": weight_kib, "activation_kib": 24})
    model = random_model(rng, layers=2, **SHAPE)
    job = random_job(rng, hidden=60, sequence=21, batch=4)
    check(config, model, job)


@pytest.mark.parametrize("config", [TINY, TINY2], ids=["tiny", "tiny2"])
@pytest.mark.parametrize("activation_kib", [66, 75, 100, 200])
def test_rows_take_turns(config, activation_kib):
    """Blocks of scores and of the feed-forward network, groups of one and of several elements."""
    rng = np.random.default_rng(activation_kib)
    config = small(config, buffers={"activation_kib": activation_kib})
    model = random_model(rng, layers=2, **{**SHAPE, "intermediate": 500})
    job = random_job(rng, hidden=60, sequence=67, batch=3)
    check(config, model, job)


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("bijk")])
def test_orders(order):
    rng = np.random.default_rng(3)
    config = small(
        (TINY, TINY2)[order < "j"], datapath={"tile_rows": 64, "partial_sums": 16, "frac_bits": 12}
    )
    model = random_model(rng, layers=1, **SHAPE)
    program = check(config, model, random_job(rng, hidden=60, sequence=40, batch=1), order)
    for command in program.commands:
        if command.opcode == Opcode.MATMUL:
            assert "".join("bijk"[command[f"order{n}"]] for n in range(4)) == order


def test_many_layers_share_the_threshold_table():
    rng = np.random.default_rng(8)
    model = random_model(rng, layers=17, heads=1, head_size=24, intermediate=32)
    job = random_job(rng, hidden=24, sequence=9, batch=2)
    config = small(TINY, buffers={"activation_kib": 16})
    program = check(config, model, job, sparsity=0.3)
    assert sum(command.opcode == Opcode.THRESHOLD for command in program.commands) > 128


def test_counts_that_lie_far_back(monkeypatch):
    """Waits for commands long complete move up, so that a count never seems to be in the future."""
    monkeypatch.setattr("acceltran_sim.program.timeline.OLDEST", 3)
    rng = np.random.default_rng(8)
    model = random_model(rng, layers=2, **SHAPE)
    config = small(TINY, buffers={"activation_kib": 40})
    check(config, model, random_job(rng, hidden=60, sequence=30, batch=4))


@pytest.fixture(scope="module")
def small_program():
    rng = np.random.default_rng(1)
    model = random_model(rng, layers=2, **SHAPE)
    config = small(TINY2, buffers={"weight_kib": 40, "activation_kib": 60})
    return check(config, model, random_job(rng, hidden=60, sequence=40, batch=3), threshold=0.02)


def run_commands(program, commands):
    machine = Interpreter(program.config, program.base, program.image)
    machine.run(commands)


def test_every_wait_is_needed(small_program):
    commands = list(small_program.commands)
    waits = 0
    for n, command in enumerate(commands):
        for slot in range(WAITS):
            if command[f"wait{slot}_enable"]:
                waits += 1
                fields = {**command.fields, f"wait{slot}_enable": 0}
                changed = [*commands]
                changed[n] = Command(opcode=command.opcode, fields=fields)
                checker = OrderChecker(small_program.config)
                with pytest.raises(ProgramError, match=r"^A command must wait before"):
                    follow(checker, changed, small_program.config)
    assert waits > 100


def follow(checker, commands, config):
    """Only the order of a program, without arithmetic."""
    for command in commands:
        checker.start(command)
        if command.opcode == Opcode.THRESHOLD:
            checker.set_threshold(command["index"])
        for access in footprint(command, config):
            if access.write:
                checker.write(access.buffer, access.vectors)
            else:
                checker.read(access.buffer, access.vectors, stage=access.stage)
        if command.opcode in (Opcode.MATMUL, Opcode.SOFTMAX, Opcode.LAYERNORM):
            checker.use_threshold(command["threshold"])


@pytest.mark.parametrize(
    "opcode,field,change,message",
    [
        (Opcode.LOAD, "base", 1 << 20, "beyond the buffer's"),
        (Opcode.LOAD, "dram_address", 1 << 30, "must lie inside the region"),
        (Opcode.MATMUL, "a_base", 1000, r"was never written"),
        (Opcode.MATMUL, "c_base", 1, "c_base must be a multiple of 2"),
        (Opcode.MATMUL, "inner_tile", 200, "must not have more than 128 rows"),
        (Opcode.MATMUL, "order0", 1, "must name each loop once"),
        (Opcode.MATMUL, "wait0_count", 300, "A wait must be met by earlier commands"),
        (Opcode.LAYERNORM, "columns", 16, "columns must need"),
        (Opcode.SOFTMAX, "signal", 1, "of one queue only|must wait|must be met"),
    ],
)
def test_broken_programs(small_program, opcode, field, change, message):
    commands = list(small_program.commands)
    n = next(
        n for n, c in enumerate(commands) if c.opcode == opcode and ("wait" not in field or c.waits)
    )
    fields = {**commands[n].fields, field: commands[n][field] + change}
    commands[n] = Command(opcode=opcode, fields=fields)
    with pytest.raises(ProgramError, match=message):
        run_commands(small_program, commands)


def test_end(small_program):
    commands = small_program.commands
    with pytest.raises(ProgramError, match=r"^A program must end with END$"):
        run_commands(small_program, commands[:-1])
    with pytest.raises(ProgramError, match=r"END must be the last command$"):
        run_commands(small_program, [*commands, commands[-1]])


@pytest.mark.parametrize(
    "fields,sequence,model,message",
    [
        ({}, 513, {}, "Sequence must be at most limits.sequence (512), not 513"),
        (
            {},
            4,
            {"heads": 8, "head_size": 65},
            "Hidden size must be at most limits.hidden (512), not 520",
        ),
        (
            {},
            4,
            {"heads": 100, "head_size": 5},
            (
                "Hidden size with heads padded to whole vectors must be at most"
                " limits.inner (1024), not 1600"
            ),
        ),
        (
            {},
            4,
            {"intermediate": 1025},
            (
                "Intermediate size padded to whole vectors must be at most limits.inner (1024),"
                " not 1040"
            ),
        ),
        (
            {"buffers": {"activation_kib": 16}},
            40,
            {},
            (
                "A sequence of 40 rows must fit the activation buffer: it needs 976 vectors,"
                " the buffer holds 408"
            ),
        ),
        (
            {"buffers": {"weight_kib": 16}},
            4,
            {"intermediate": 500},
            (
                "A column of the output matrix must fit the weight buffer: it needs 501 vectors,"
                " the buffer holds 409"
            ),
        ),
    ],
)
def test_refused_jobs(fields, sequence, model, message):
    rng = np.random.default_rng(1)
    config = small(TINY, **fields)
    sizes = {**SHAPE, **model}
    encoder_model = random_model(rng, layers=1, **sizes)
    job = random_job(rng, hidden=encoder_model.config.hidden, sequence=sequence, batch=1)
    encoder, raw = quantized(encoder_model, job, config)
    with pytest.raises(InputError) as error:
        build(config, encoder, raw, job.lengths)
    assert str(error.value) == message


def test_refused_arguments():
    rng = np.random.default_rng(1)
    model = random_model(rng, layers=1, **SHAPE)
    job = random_job(rng, hidden=60, sequence=4, batch=1)
    encoder, raw = quantized(model, job, TINY)
    with pytest.raises(InputError, match=r"^Loop order must be a permutation of bijk, not 'bikk'$"):
        build(TINY, encoder, raw, job.lengths, order="bikk")
    with pytest.raises(ValueError, match=r"^Base must be a multiple of 64, not 8$"):
        build(TINY, encoder, raw, job.lengths, base=8)
    with pytest.raises(ValueError, match=r"^Format of the encoder must be .*frac_bits=12.*16\)$"):
        build(with_format(TINY, 12), encoder, raw, job.lengths)


def test_saturation():
    rng = np.random.default_rng(1)
    model = random_model(rng, layers=1, **SHAPE)
    job = random_job(rng, hidden=60, sequence=30, batch=2)
    encoder, _ = quantized(model, job, TINY)
    raw, clipped = quantize(8 * job.hidden, encoder.input_exponent, TINY.fmt)
    assert clipped and sum(encode(encoder, raw, job.lengths).saturated.values()) > 100
    check_encoder(TINY, encoder, raw, job.lengths)


def test_largest_job_promised_for_tiny():
    rng = np.random.default_rng(1)
    model = random_model(rng, layers=1, heads=4, head_size=64, intermediate=1024)
    check(TINY, model, random_job(rng, hidden=256, sequence=128, batch=2))


@pytest.mark.parametrize("config", [TINY, TINY2.replace(array={"pes": 4})], ids=["1", "2"])
def test_resident(config):
    """Three programs: what the second one needs and gives stays in the buffers."""
    rng = np.random.default_rng(2)
    model = random_model(rng, layers=2, **SHAPE)
    job = random_job(rng, hidden=60, sequence=40, batch=3)
    encoder, raw = quantized(model, job, config)
    load, run, store = programs = build_resident(config, encoder, raw, job.lengths)
    moves = {Opcode.LOAD, Opcode.STORE}
    assert {c.opcode for c in load.commands} == {Opcode.LOAD, Opcode.END}
    assert not moves & {c.opcode for c in run.commands}
    assert {c.opcode for c in store.commands} == {Opcode.STORE, Opcode.END}
    machine = Interpreter(config, load.base, load.image)
    for program in programs:
        machine.run(program.commands)
    start = store.output_address - store.base
    result = store.output(bytes(machine.dram[start : start + store.output_size]))
    assert (result == encode(encoder, raw, job.lengths).raw).all()


@pytest.mark.parametrize(
    "buffers,message",
    [
        (
            {"activation_kib": 100},
            (
                "A batch of 3 must fit the activation buffer at once: it needs 2880 vectors,"
                " the buffer holds 2560"
            ),
        ),
        (
            {"weight_kib": 60},
            (
                "All weights must fit the weight buffer at once: they need 2716 vectors,"
                " the buffer holds 1536"
            ),
        ),
    ],
)
def test_resident_refuses(buffers, message):
    rng = np.random.default_rng(2)
    config = small(TINY, buffers=buffers)
    job = Job(hidden=np.ones((3, 40, 60), dtype=np.float32), lengths=np.array([40, 40, 40]))
    encoder, raw = quantized(random_model(rng, layers=1, **SHAPE), job, config)
    with pytest.raises(InputError) as error:
        build_resident(config, encoder, raw, job.lengths)
    assert str(error.value) == message
