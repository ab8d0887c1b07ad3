"""Programs for several clusters, run by the interpreter, equal the golden encoder in every bit."""

from typing import Any

import numpy as np
import pytest

from acceltran.arch.commands import WAITS, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran.arch.presets import EDGE, TINY, TINY2
from acceltran_sim.errors import InputError
from acceltran_sim.golden.localizer import Localizer
from acceltran_sim.models.classifier import BERT_TINY_SST2
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.builder import build
from acceltran_sim.program.command import Command, Stage
from acceltran_sim.program.fill import fill
from acceltran_sim.program.image import Program
from acceltran_sim.program.interpreter import Interpreter, ProgramError
from acceltran_sim.program.job import Job
from acceltran_sim.program.rounds import rounds_of, spans
from testbench.harness.encoder_job import quantized, random_job, random_model
from testbench.program.test_builder import check

SHAPE: dict[str, Any] = {"heads": 3, "head_size": 20, "intermediate": 150}
TWO = TINY2.replace(array={"pes": 4})
THREE = TINY.replace(array={"pes": 3})
FOUR = TINY2.replace(array={"pes": 8})


def job_of(rng: np.random.Generator, lengths: list[int], hidden: int = 60) -> Job:
    job = random_job(rng, hidden=hidden, sequence=max(lengths), batch=len(lengths))
    return Job(hidden=job.hidden, lengths=np.array(lengths))


def run(
    config: AcceleratorConfig,
    lengths: list[int],
    *,
    layers: int = 1,
    order: str = "bijk",
    **shape: int,
) -> Program:
    rng = np.random.default_rng(len(lengths))
    model = random_model(rng, layers=layers, **{**SHAPE, **shape})
    return check(config, model, job_of(rng, lengths), order, threshold=0.02)


def sequences(program: Program) -> list[tuple[int, ...]]:
    """Fields of all SEQUENCE commands."""
    return [
        tuple(command[name] for name in ("group", "span", "rows", "length"))
        for command in program.commands
        if command.opcode == Opcode.SEQUENCE
    ]


@pytest.mark.parametrize(
    "config,lengths,expected",
    [
        (TWO, [21], [(0, 1, 11, 21)]),
        (TWO, [1], [(0, 1, 1, 1)]),
        (TWO, [40, 7], [(0, 0, 40, 40), (1, 0, 40, 7)]),
        (FOUR, [3], [(0, 2, 1, 3)]),
        (FOUR, [30, 1], [(0, 1, 15, 30), (1, 1, 15, 1)]),
        (FOUR, [5, 18, 2], [(0, 0, 18, 5), (1, 0, 18, 18), (2, 0, 18, 2)]),
        (THREE, [33], [(0, 1, 17, 33)]),
    ],
)
def test_batches(config, lengths, expected):
    assert sequences(run(config, lengths)) == expected


def test_rounds_take_turns():
    """Weights stay for all rounds; a round without work for a group clears what that group had."""
    program = run(TWO, [9, 20, 31, 4, 12], layers=2)
    weights = [c for c in program.commands if c.opcode == Opcode.LOAD and c["buffer"]]
    assert len({c["dram_address"] for c in weights}) == len(weights)
    assert {(0, 0, 12, 12), (1, 0, 0, 0)} <= set(sequences(program))


def test_groups_of_rounds():
    """Not all rounds fit at once: one is finished before the next is loaded."""
    config = TWO.replace(buffers={"activation_kib": 85})
    stores = [c.opcode == Opcode.STORE for c in run(config, [30, 9, 31, 4]).commands]
    assert stores.index(True) < len(stores) - 5


def test_blocks_of_rows():
    """Scores and the feed-forward network take turns in a small buffer."""
    config = TWO.replace(buffers={"activation_kib": 100})
    assert len(run(config, [62]).commands) > len(run(TWO, [62]).commands)


def test_wider_groups():
    """A sequence that does not fit one cluster takes two."""
    assert sequences(run(TWO.replace(buffers={"activation_kib": 85}), [50, 20])) == [
        (0, 1, 25, 50),
        (0, 1, 10, 20),
    ]


def test_refused_size():
    rng = np.random.default_rng(1)
    config = TWO.replace(buffers={"activation_kib": 48})
    job = job_of(rng, [60])
    encoder, raw = quantized(random_model(rng, layers=1, **SHAPE), job, config)
    with pytest.raises(InputError) as error:
        build(config, encoder, raw, job.lengths)
    assert str(error.value) == (
        "A sequence of 60 rows must fit the activation buffers of 2 clusters:"
        " it needs 1148 vectors of each, they hold 612"
    )


@pytest.mark.parametrize("order", ["kjib", "jkib", "bkij"])
def test_orders(order):
    config = TWO.replace(datapath={"tile_rows": 64, "partial_sums": 16, "frac_bits": 12})
    run(config, [70], order=order)


def test_edge():
    rng = np.random.default_rng(5)
    program = check(EDGE, load_model(BERT_TINY_SST2), job_of(rng, [128, 128, 100, 31], 128))
    products = [c for c in program.commands if c.opcode == Opcode.MATMUL]
    # Parts have a row for each stream. Only chunks of the output product, but the last, are whole.
    assert all(c["keep_sums"] == (c["rows"] == 32) for c in products)
    assert sum(c["keep_sums"] for c in products) == 2 * 3
    assert {(c["streams"], c["rows"]) for c in products if c["columns"] == 8} == {(8, 8), (8, 32)}
    assert {(c["streams"], c["rows"]) for c in products if c["columns"] == 4} == {(16, 16)}


@pytest.fixture(scope="module")
def program():
    return run(TWO, [24], layers=2)


@pytest.mark.parametrize("field,value", [("everywhere", 0), ("rows", 1), ("final", 1)])
def test_waits_are_as_weak_as_they_may_be(program, field, value):
    """No wait may be for one cluster instead of all, or for a later stage of a product."""
    changed = 0
    stages = {"rows": Stage.START, "final": Stage.ROWS}
    for n, command in enumerate(program.commands):
        for slot, wait in enumerate(command.waits):
            staged = command.opcode == Opcode.MATMUL and wait.stage == stages.get(field)
            if staged or (field == "everywhere" and wait.everywhere):
                changed += 1
                fields = {**command.fields, f"wait{slot}_{field}": value}
                with pytest.raises(ProgramError, match=r"must wait before it can (read|write)"):
                    rerun(program, n, Command(opcode=command.opcode, fields=fields))
    assert changed > 3


@pytest.mark.parametrize(
    "opcode,changes,message",
    [
        (Opcode.STORE, {"base": 2 << 14}, r"The cluster must be below 2"),
        (Opcode.STORE, {"base": 13100}, r"is beyond the buffer's 13104"),
        (Opcode.MATMUL, {"share_stride": 1}, r"share_stride must be a multiple of 2"),
        (Opcode.SEQUENCE, {"group": 1}, r"The clusters of a group must be below 2"),
        (Opcode.SEQUENCE, {"length": 25}, r"2 clusters must own 25 rows"),
        (Opcode.SEQUENCE, {"rows": 24}, r"was never written"),
    ],
)
def test_broken_programs(program, opcode, changes, message):
    n = next(n for n, command in enumerate(program.commands) if command.opcode == opcode)
    command = program.commands[n]
    with pytest.raises(ProgramError, match=message):
        rerun(program, n, Command(opcode=opcode, fields={**command.fields, **changes}))


def rerun(program: Program, number: int, command: Command) -> None:
    commands = [*program.commands]
    commands[number] = command
    Interpreter(program.config, program.base, program.image).run(commands)


def test_buffers_stay_and_registers_do_not(program):
    """A program finds what the one before it left, and has no sequence before it gives one."""
    machine = Interpreter(program.config, program.base, program.image)
    machine.run(program.commands)
    stores = [
        Command(opcode=Opcode.STORE, fields=c.fields | {f"wait{n}_enable": 0 for n in range(WAITS)})
        for c in program.commands
        if c.opcode == Opcode.STORE
    ]
    result, machine.dram[:] = bytes(machine.dram), program.image
    machine.run([*stores, Command(opcode=Opcode.END)])
    assert machine.dram == result
    shared = next(c for c in program.commands if c.opcode == Opcode.MATMUL)
    fields = {k: v for k, v in shared.fields.items() if not k.startswith("wait")}
    machine.run([Command(opcode=Opcode.MATMUL, fields=fields), Command(opcode=Opcode.END)])
    assert machine.products[-1].scalars == 0


@pytest.mark.parametrize(
    "clusters,batch,expected",
    [(1, 3, [0]), (16, 4, [2, 3, 4]), (16, 3, [2, 3, 4]), (16, 1, [4]), (16, 32, [0, 1, 2, 3, 4])],
)
def test_spans(clusters, batch, expected):
    assert list(spans(clusters, batch)) == expected


def test_shares():
    rounds = rounds_of(4, 1, [5, 2, 7])
    assert [part.lengths for part in rounds] == [(5, 2), (7,)]
    assert (rounds[0].rows, rounds[0].keys, rounds[0].key_rows) == (3, 5, 6)
    assert list(rounds[0].shares()) == [(0, 0, 0, 3), (2, 1, 0, 2), (1, 0, 3, 2)]
    assert list(rounds[1].shares()) == [(0, 0, 0, 4), (1, 0, 4, 3)]


def test_localizer():
    cluster = Localizer(6)
    assert cluster.rows({"rows": 9}) == 9 and cluster.rows({"rows": 9, "own_rows": 1}) == 0
    cluster.sequence({"group": 1, "span": 2, "rows": 10, "length": 25})
    assert (cluster.place, cluster.own, cluster.keys, cluster.group) == (2, 5, 25, range(4, 8))
    cluster.sequence({"group": 0, "span": 2, "rows": 10, "length": 40})
    assert cluster.own == 5
    own = {"own_rows": 1, "first_row": 3, "rows": 10}
    assert cluster.rows(own) == 2 and cluster.rows({**own, "first_row": 6}) == 0
    keys = {"own_keys": 1, "first_key": 16, "b_rows": 24, "keys": 30}
    assert cluster.b_rows(keys) == 9 and cluster.softmax_keys(keys) == 25
    assert cluster.b_rows({"b_rows": 24}) == 24 and cluster.softmax_keys({"keys": 30}) == 30
    assert cluster.c_offset({"share": 1, "share_stride": 8}) == 16
    assert cluster.c_offset({"share_stride": 8}) == 0


def test_fill():
    """Thirty rows for four streams of two clusters, and tiles of two passes."""
    fields = {"order1": 1, "order2": 2, "order3": 3, "batches": 1, "row_tile": 16, "inner_tile": 2}
    sequence = Command(opcode=Opcode.SEQUENCE, fields={"span": 1, "rows": 16, "length": 30})
    product = Command(
        opcode=Opcode.MATMUL,
        fields=fields | {"columns": 4, "inner_vectors": 4, "rows": 16, "own_rows": 1, "streams": 4},
    )
    dense = fill(TWO, [sequence, product], 1.0)
    assert (dense.rows_per_cluster, dense.clusters_with_rows) == (16, 2)
    # 2 passes of 4 rows a stream and 64 scalars each; a vector for each scalar of a pass.
    assert dense.tile_vectors == 128 / 512
    assert dense.multipliers == 30 * 4 * 64 / (512 * 16)
    # Tiles take as long as before, of which a port brings one vector per cycle.
    assert fill(TWO, [sequence, product], 0.125).multipliers == 30 * 4 * 8 / (128 * 16)
    assert fill(TWO, [], 1.0).multipliers == 0


def test_parts_of_rows_share_tiles():
    """Parts of a product of a single tile load it once."""
    program = run(TWO, [40], layers=2)
    products = [c for c in program.commands if c.opcode == Opcode.MATMUL]
    assert sum(c["reuse_tile"] for c in products) == sum(c["keep_tile"] for c in products) >= 10
    n, kept = next((n, c) for n, c in enumerate(program.commands) if c["keep_tile"])
    with pytest.raises(ProgramError, match="must reuse a tile if the one before has kept it"):
        rerun(program, n, Command(opcode=kept.opcode, fields={**kept.fields, "keep_tile": 0}))
