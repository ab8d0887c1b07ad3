# amaranth: UnusedElaboratable=no
"""KeptCounter: totals of random counts of random entries."""

import random
from collections import Counter

import cocotb
import pytest

from acceltran.arch.commands import THRESHOLDS
from acceltran.control.kept_counter import Kept, KeptCounter
from testbench.harness.simulate import simulate, start

MOST, WIDTH = 16, 12


def test_kept_counter(request):
    simulate(
        KeptCounter(most=MOST, width=WIDTH),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


def test_rejects_most():
    with pytest.raises(ValueError, match=r"^Largest count must be at least 1, not 0$"):
        KeptCounter(most=0, width=12)


def test_rejects_width():
    with pytest.raises(ValueError, match=r"^Width of a total must be at least 1, not 0$"):
        KeptCounter(most=16, width=0)


@cocotb.test()
@cocotb.parametrize(stay=[0.0, 0.5, 0.95])
async def adds_up(dut, stay):
    """Entries change in any cycle, also back to the one before; a reset clears all totals."""
    for _ in range(2):
        dut.kept.value = dut.flush.value = dut.read_enable.value = dut.read_entry.value = 0
        await start(dut)
        entries = random.sample(range(THRESHOLDS), 5)
        entry = entries[0]
        totals: Counter[int] = Counter()
        for _ in range(600):
            if random.random() >= stay:
                entry = random.choice(entries)
            count = random.choice((0, 1, random.randint(0, MOST), MOST))
            dut.kept.value = Kept(MOST).const({"entry": entry, "count": count}).as_bits()
            totals[entry] += count
            await dut.clk.rising_edge
        dut.kept.value = 0
        dut.flush.value = 1
        await dut.clk.rising_edge
        dut.flush.value = 0
        for entry in range(THRESHOLDS):
            dut.read_entry.value = entry
            dut.read_enable.value = 1
            await dut.clk.rising_edge
            dut.read_enable.value = 0
            for _ in range(KeptCounter.LATENCY):
                await dut.clk.rising_edge
            assert dut.total.value == totals[entry] % (1 << WIDTH), entry
