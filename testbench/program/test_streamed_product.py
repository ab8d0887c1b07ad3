"""Programs of products in DRAM: the order of arrival, and places in the buffers that are reused."""

from itertools import permutations

import pytest

from acceltran.arch.presets import TINY, TINY2
from acceltran_sim.bench.arrival import arrival_order
from acceltran_sim.bench.product_job import ProductJob
from acceltran_sim.errors import InputError
from acceltran_sim.program.interpreter import Interpreter

SMALL = {"activation_kib": 16, "weight_kib": 16}
"""Buffers of some 409 vectors each."""


def ends(order, rows, columns, *, row_time, column_time, work_time):
    """When the product ends at the earliest, were each part multiplied once it is there."""
    i = j = time = 0
    work = now = sum(rows) * sum(columns) * work_time
    for is_row in order:
        time += rows[i] * row_time if is_row else columns[j] * column_time
        now = max(now, time + work)
        i, j = (i + 1, j) if is_row else (i, j + 1)
        work = (sum(rows) * sum(columns) - sum(rows[:i]) * sum(columns[:j])) * work_time
    return now


@pytest.mark.parametrize("work_time", [0.1, 0.5, 2.0])
def test_no_order_is_better(work_time):
    rows, columns = [3, 3, 2, 4], [8, 8, 1]
    times = {"row_time": 5.0, "column_time": 2.0, "work_time": work_time}
    order = arrival_order(rows, columns, **times, most_columns=3)
    assert sorted(order) == [False] * 3 + [True] * 4
    best = min(
        ends(other, rows, columns, **times) for other in set(permutations([True] * 4 + [False] * 3))
    )
    assert ends(order, rows, columns, **times) == best


def test_columns_wait_for_room():
    order = arrival_order([1] * 5, [1] * 9, row_time=9, column_time=1, work_time=1, most_columns=2)
    last_row = len(order) - 1 - order[::-1].index(True)
    assert order[:last_row].count(False) == 2


@pytest.mark.parametrize(
    ("config", "rows", "inner", "columns", "order"),
    [
        (TINY, 1, 1, 1, "bijk"),
        (TINY, 150, 40, 83, "kijb"),
        # Four pieces of B and three blocks of the result take turns.
        (TINY.replace(buffers=SMALL), 40, 50, 310, "bijk"),
        # As many pieces as there are at all, one block.
        (TINY2.replace(buffers=SMALL), 30, 24, 150, "bijk"),
    ],
)
def test_result(config, rows, inner, columns, order, request):
    """With the golden units, which also check that semaphores order all accesses."""
    job = ProductJob.random(
        config,
        rows=rows,
        inner=inner,
        columns=columns,
        density=0.3,
        order=order,
        from_dram=True,
        seed=request.config.getoption("seed"),
    )
    built = job.build()
    machine = Interpreter(config, built.memory.image.base, built.image)
    (program,) = built.programs
    machine.run(program)
    assert (job.result(built, bytes(machine.dram)) == job.golden()).all()


@pytest.mark.parametrize(
    ("rows", "inner", "message"),
    [
        (
            70,
            80,
            (
                "70 rows of 5 vectors and a block of the result must fit the activation buffer:"
                " they need 490 vectors, it holds 408"
            ),
        ),
        (
            8,
            200,
            (
                "200 rows of 8 vectors must fit the weight buffer: they need 1600 vectors, it"
                " holds 409"
            ),
        ),
    ],
)
def test_refusals(rows, inner, message):
    config = TINY.replace(buffers=SMALL)
    with pytest.raises(InputError, match=f"^{message}$"):
        ProductJob.random(config, rows=rows, inner=inner, columns=900, density=0.5, from_dram=True)
