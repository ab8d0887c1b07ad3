"""Programs whose sums stay in the lanes from one product to the next."""

from collections.abc import Mapping

import numpy as np
import pytest

from acceltran.arch.commands import Opcode
from acceltran.arch.presets import TINY2
from acceltran_sim.program.command import Command, Queue, Stage, Wait
from acceltran_sim.program.footprint import footprint
from acceltran_sim.program.image import Program
from acceltran_sim.program.interpreter import Interpreter, ProgramError
from acceltran_sim.program.kept_sums import KeptSums
from acceltran_sim.program.timeline import Timeline
from testbench.program.test_clusters import THREE, TWO, run

CONFIG = TINY2.replace(limits={"inner": 512})
"""Sums of up to 32 vectors."""


def chain(program: Program) -> list[tuple[int, Command]]:
    """Products that keep or resume sums, with their places in the program."""
    return [(n, c) for n, c in enumerate(program.commands) if c["keep_sums"] or c["resume_sums"]]


@pytest.fixture(scope="module")
def program():
    return run(TWO, [40, 7])


def test_chain(program):
    """Ten vectors in chunks of eight and two: the first whole, the last in parts of slots."""
    (_, first), *parts = chain(program)
    assert (first["rows"], first["keep_sums"], first["resume_sums"]) == (40, 1, 0)
    assert [c["first_slot"] for _, c in parts] == [0, 4, 8, 12, 16]
    assert all(c["rows"] == 8 and c["streams"] == 2 and c["resume_sums"] for _, c in parts)
    assert [c["reuse_tile"] for _, c in parts] == [0, 1, 1, 1, 1]
    assert not any(c["keep_sums"] for _, c in parts)


def test_columns_between_a_chunk_and_what_it_reads(program):
    """A chunk waits for no column of the intermediate product that it does not read."""
    products = [c for c in program.commands if c.opcode == Opcode.MATMUL]
    number = next(n for n, c in enumerate(products) if c["keep_sums"])
    *_, last = [n for n in range(number) if products[n]["c_first"] < 8 and products[n]["function"]]
    waits = [wait for wait in products[number].waits if wait.semaphore == Queue.PRODUCT]
    assert waits == [Wait(Queue.PRODUCT, last + 1, stage=Stage.ROWS)]
    assert number - last > 5


@pytest.mark.parametrize(
    "config,lengths,options",
    [
        (THREE, [33], {}),  # too many columns for one pass
        (TWO, [24], {"order": "bikj"}),
        (TWO.replace(datapath={"partial_sums": 16}), [40, 7], {}),
        (TWO.replace(buffers={"weight_kib": 28}), [24], {}),  # weights in turn
        (TWO.replace(buffers={"activation_kib": 120}), [62], {"intermediate": 700}),  # rows in turn
        (TWO.replace(datapath={"tile_rows": 64}), [24], {}),  # chunks of the other product
        (TWO, [24], {"intermediate": 120}),  # a single chunk
        (TINY2, [24], {}),
    ],
)
def test_no_chain(config, lengths, options):
    assert not chain(run(config, lengths, **options))


def test_slots_of_rounds():
    """Rounds have slots of their own, all of which are in use until the last chunk."""
    commands = [c for _, c in chain(run(TWO, [9, 20, 31, 4, 12]))]
    kept = [(c["first_slot"], c["rows"]) for c in commands if c["keep_sums"]]
    assert kept == [(0, 20), (10, 31), (26, 12)]
    assert [c["first_slot"] for c in commands[3:]] == [0, 5, 10, 16, 22, 26]


MISSING = "Sums that are resumed must be in the lanes"


@pytest.mark.parametrize(
    "place,changes,message",
    [
        (1, {"first_slot": 21}, MISSING),
        (2, {"first_slot": 63}, "64 partial sums must be enough, not 67"),
        (1, {"streams": 1}, MISSING),
        (1, {"columns": 3}, MISSING),
        (0, {"streams": 1}, MISSING),
        (0, {"first_slot": 1}, MISSING),
        (1, {"row_tile": 4}, "must be of one row tile and column pass"),
        (1, {"streams": 4}, "must be of one row tile and column pass"),
        # The next part then resumes what was never kept, or already gone.
        (0, {"keep_sums": 0}, MISSING),
        (2, {"first_slot": 0}, MISSING),
    ],
)
def test_broken_chains(program, place, changes, message):
    n, command = chain(program)[place]
    commands = [*program.commands]
    # What the last chunk overwrites with its result was read by what came before.
    commands[n] = Command(opcode=command.opcode, fields={**command.fields, **changes})
    with pytest.raises(ProgramError, match=message):
        Interpreter(program.config, program.base, program.image).run(commands)


def product(**fields: int) -> Command:
    """A MATMUL of 3 rows by 2 streams."""
    given = {"rows": 3, "row_tile": 3, "batches": 1, "streams": 2, "columns": 2, "c_first": 4}
    given |= {"inner_vectors": 8, "inner_tile": 8, "order1": 1, "order2": 2, "order3": 3}
    return Command(opcode=Opcode.MATMUL, fields=given | fields)


@pytest.fixture
def sums():
    """Sums of two clusters, with three rows and one, that are kept in slots 5 and 6."""
    lanes = KeptSums(CONFIG)
    values = np.arange(4 * 32).reshape(4, 32)
    lanes.leave(product(keep_sums=1, first_slot=5), [3, 1], values, 2)
    return lanes, values


@pytest.mark.parametrize("changes", [{}, {"c_first": 6}])
def test_resumes(sums, changes: Mapping[str, int]):
    lanes, values = sums
    assert (lanes.resume(product(first_slot=5, **changes), [3, 1]) == values).all()
    assert (lanes.resume(product(first_slot=6, rows=1), [1, 0]) == values[2:3]).all()
    assert lanes.resume(product(first_slot=0), [0, 0]).size == 0


@pytest.mark.parametrize(
    "fields,rows",
    [
        ({"first_slot": 4}, [1, 1]),
        ({"first_slot": 5}, [3, 2]),
        ({"first_slot": 5, "c_first": 5}, [3, 1]),
        ({"first_slot": 5, "columns": 3}, [3, 1]),
        ({"first_slot": 5, "streams": 4}, [3, 1]),
    ],
)
def test_resumes_nothing_else(sums, fields, rows):
    with pytest.raises(ProgramError, match=MISSING):
        sums[0].resume(product(**fields), rows)


def test_products_of_several_chunks_overwrite(sums):
    lanes, values = sums
    lanes.leave(product(first_slot=6), [3, 1], values, 1)
    assert lanes.resume(product(first_slot=5), [2, 1]).any()
    with pytest.raises(ProgramError, match=MISSING):
        lanes.resume(product(first_slot=5), [3, 1])


def test_length_of_a_sum(sums):
    """What was summed up before counts."""
    lanes, values = sums
    for _ in range(2):
        again = product(first_slot=5, resume_sums=1, keep_sums=1)
        lanes.resume(again, [3, 1])
        lanes.leave(again, [3, 1], values, 2)
    lanes.resume(product(first_slot=5, inner_vectors=8), [3, 1])
    with pytest.raises(ProgramError, match="All of a sum must be at most 32 vectors"):
        lanes.resume(product(first_slot=5, inner_vectors=9), [3, 1])


def test_writes_nothing():
    """Sums that stay are no access; whoever overwrites A waits for the product all the same."""
    kept = product(keep_sums=1, bias_enable=1, a_row_stride=8, b_rows=128, b_row_stride=2)
    assert not any(access.write for access in footprint(kept, TWO))
    assert len(footprint(kept, TWO)) == 2
    timeline = Timeline(TWO)
    timeline.add(kept)
    timeline.add(product(a_base=100, a_row_stride=8, c_row_stride=8, b_rows=128))
    assert timeline.commands[1].waits == [Wait(Queue.PRODUCT, 1, stage=Stage.ROWS)]
