# amaranth: UnusedElaboratable=no
"""Counters: totals of random increments."""

import random

import cocotb
import pytest

from acceltran.control.counters import Counters
from testbench.harness.simulate import simulate, start

WIDTHS = (("cycles", 1), ("products", 7), ("wide", 33))


def test_counters(request):
    simulate(
        Counters(widths=WIDTHS),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects_no_counters():
    with pytest.raises(ValueError, match=r"^Number of counters must be at least 1, not 0$"):
        Counters(widths=())


@cocotb.test()
async def adds_up(dut):
    """Each total is the sum of its increments; the wide one passes 2^32."""
    dut.clear.value = 0
    for name, _ in WIDTHS:
        dut[f"increments__{name}"].value = 0
    await start(dut)
    for _ in range(2):
        totals = dict.fromkeys(dict(WIDTHS), 0)
        for _ in range(200):
            for name, width in WIDTHS:
                step = random.getrandbits(width)
                dut[f"increments__{name}"].value = step
                totals[name] += step
            await dut.clk.rising_edge
        for name, _ in WIDTHS:
            dut[f"increments__{name}"].value = 0
        await dut.clk.rising_edge
        await dut.clk.rising_edge
        for index, (name, _) in enumerate(WIDTHS):
            dut.index.value = index
            for _ in range(1 + Counters.LATENCY):
                await dut.clk.rising_edge
            assert dut.total.value == totals[name], name
        dut.clear.value = 1
        await dut.clk.rising_edge
        dut.clear.value = 0
        await dut.clk.rising_edge
