# amaranth: UnusedElaboratable=no
"""Tickets against a queue of groups of rows."""

import random
from collections import deque
from dataclasses import dataclass, field

import cocotb

from acceltran.compute.drain import TICKETS
from acceltran.control.tickets import Tickets
from acceltran.pe import CONTEXTS
from testbench.harness.simulate import simulate, start


def test_tickets(request):
    simulate(Tickets(), bench=__name__, parameters={}, seed=request.config.getoption("seed"))


# What follows runs inside the simulator.


@dataclass
class Group:
    """Rows with one ticket."""

    ticket: int
    context: int
    rows: int
    """Left to be given."""
    ends: bool
    """The last one of a command."""
    closed: bool = False
    left: list[int] = field(default_factory=list)
    """Cycles until each row is written."""


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(rate=[0.1, 0.5, 1.0])
async def follows_the_rows(dut, rate):
    """Every ticket is awaited to its last row; those of a command are one ``done``."""
    names = ("enter", "context", "leave", "finish", "offered", "pending")
    for name in names:
        dut[name].value = 0
    await start(dut)
    groups: deque[Group] = deque()
    current, ended, done, most = TICKETS - 1, 0, 0, 0
    for cycle in range(3000):
        await dut.clk.falling_edge
        drive = dict.fromkeys(names, 0)
        # Rows that were offered are seen a cycle later.
        for group in groups:
            drive["pending"] |= bool(group.left) << group.ticket
        last = groups[-1] if groups else None
        if last and not last.closed:
            if last.rows:
                if random.random() < rate:
                    last.rows -= 1
                    last.left.append(random.randint(1, 12))
                    drive["offered"] = 1 << last.ticket
            elif random.random() < rate:
                last.closed = True
                drive["finish" if last.ends else "leave"] = 1
        elif cycle < 2900 and len(groups) < TICKETS and random.random() < rate:
            current = (current + 1) % TICKETS
            context = random.randrange(CONTEXTS)
            groups.append(Group(current, context, random.choice([0, 1, 5]), random.random() < 0.7))
            drive |= {"enter": 1, "context": context}
        closed_now = drive["finish"] or drive["leave"]
        for name, value in drive.items():
            dut[name].value = value
        await dut.clk.rising_edge
        seen = list(groups)[:-1] if drive["enter"] else list(groups)
        if drive["enter"]:
            assert dut.free.value
        else:
            assert int(dut.current.value) == current
            assert bool(dut.free.value) == (len(groups) < TICKETS)
        assert int(dut.busy.value) == sum({1 << group.context for group in seen})
        under_way = [group for group in seen if group.closed]
        assert bool(dut.closed.value) == (len(under_way) > bool(closed_now))
        awaited = drive["pending"] | drive["offered"]
        over = [
            group
            for group in under_way[: len(under_way) - bool(closed_now)][:1]
            if group is groups[0] and not awaited >> group.ticket & 1
        ]
        assert bool(dut.done.value) == any(group.ends for group in over)
        most = max(most, len(groups))
        ended += sum(group.ends for group in over)
        done += int(dut.done.value)
        for _ in over:
            groups.popleft()
        for group in groups:
            group.left = [cycles - 1 for cycles in group.left if cycles]
    assert not groups and done == ended > 20
    assert most > 1
