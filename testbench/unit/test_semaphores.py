# amaranth: UnusedElaboratable=no
"""Semaphores: all signals of a cycle count, modulo their width."""

import random

import cocotb
import pytest

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES
from acceltran.control.semaphores import Semaphores
from testbench.harness.simulate import parameters, simulate, start


def test_semaphores(request):
    simulate(
        Semaphores(sources=3),
        bench=__name__,
        parameters={"sources": 3},
        seed=request.config.getoption("seed"),
    )


def test_rejects_sources():
    with pytest.raises(ValueError, match=r"^Number of sources must be at least 1, not 0$"):
        Semaphores(sources=0)


def counts(dut) -> list[int]:
    raw = dut.counts.value.to_unsigned()
    mask = (1 << SEMAPHORE_COUNT_BITS) - 1
    return [raw >> (index * SEMAPHORE_COUNT_BITS) & mask for index in range(SEMAPHORES)]


@cocotb.test()
async def counts_every_signal(dut):
    """Random signals of several sources, often to the same semaphore."""
    sources = parameters()["sources"]
    dut.clear.value = 0
    for source in range(sources):
        dut[f"signals__{source}__valid"].value = 0
    await start(dut)
    expected = [0] * SEMAPHORES
    for _ in range(500):
        for source in range(sources):
            valid, semaphore = random.getrandbits(1), random.choice([0, 3, SEMAPHORES - 1])
            dut[f"signals__{source}__valid"].value = valid
            dut[f"signals__{source}__semaphore"].value = semaphore
            expected[semaphore] += valid
        await dut.clk.rising_edge
    for source in range(sources):
        dut[f"signals__{source}__valid"].value = 0
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    assert counts(dut) == expected
    dut.clear.value = 1
    await dut.clk.rising_edge
    dut.clear.value = 0
    await dut.clk.rising_edge
    assert counts(dut) == [0] * SEMAPHORES


@cocotb.test()
async def wraps(dut):
    """A count goes from its largest value to 0."""
    dut.clear.value = 0
    for source in range(parameters()["sources"]):
        dut[f"signals__{source}__valid"].value = int(source == 0)
        dut[f"signals__{source}__semaphore"].value = 1
    await start(dut)
    for _ in range((1 << SEMAPHORE_COUNT_BITS) + 2):
        await dut.clk.rising_edge
    dut.signals__0__valid.value = 0
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    assert counts(dut)[1] == 2
