"""Who worked when, and what for: a traced run of an encoder by operation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.bench.lane_cycles import lane_cycles
from acceltran_sim.program.command import Command, Queue
from acceltran_sim.program.interpreter import ProductWork
from acceltran_sim.program.operations import OPERATIONS
from acceltran_sim.rtl.trace import CommandTimes

__all__ = ["Activity", "activities", "by_operation", "ideal_cycles", "timeline"]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """A command at work: from the end of the one before it in its queue, at the earliest."""

    index: int
    """Place of the command in the program."""
    queue: Queue
    operation: str
    given: int
    """Cycle in which its engine took it."""
    start: int
    end: int
    busy: int
    """Lane-cycles with products, of all lanes, between start and end."""
    stalls: Mapping[str, int]
    """The other lane-cycles by cause."""
    work: ProductWork | None
    """What a product had to do."""


def activities(
    commands: Sequence[Command],
    names: Sequence[str],
    times: Sequence[CommandTimes],
    works: Sequence[ProductWork],
) -> list[Activity]:
    """Activities of a run, in the order of the program.

    Parameters
    ----------
    commands : sequence of Command
        The program.
    names : sequence of str
        Operation of each command.
    times : sequence of CommandTimes
        Of the commands that a queue works on, those of each queue in order.
    works : sequence of ProductWork
        Of the products, in order.
    """
    result: list[Activity] = []
    for queue in Queue:
        indices = [n for n, command in enumerate(commands) if command.queue == queue]
        own = [time for time in times if time.queue == queue]
        previous: Mapping[str, int] = {"cycles": 0}
        for number, (index, time) in enumerate(zip(indices, own, strict=True)):
            start = max(time.start, previous, key=lambda counters: counters["cycles"])
            busy, stalls = lane_cycles({
                name: time.end[name] - start.get(name, 0) for name in time.end
            })
            result.append(
                Activity(
                    index=index,
                    queue=queue,
                    operation=names[index],
                    given=time.start["cycles"],
                    start=start["cycles"],
                    end=time.end["cycles"],
                    busy=busy,
                    stalls=stalls,
                    work=works[number] if queue == Queue.PRODUCT else None,
                )
            )
            previous = time.end
    return sorted(result, key=lambda activity: activity.index)


@dataclass
class _Sum:
    commands: int = 0
    first: int = 1 << 62
    last: int = 0
    cycles: int = 0
    ideal: float = 0.0
    busy: int = 0
    stalls: dict[str, int] = field(default_factory=dict)


def by_operation(config: AcceleratorConfig, run: Sequence[Activity]) -> dict[str, dict[str, Any]]:
    """Figures of each operation: ``start`` and ``end``, ``cycles`` at work, and those of products.

    ``ideal_cycles`` and ``efficiency`` are as of a single product; ``busy`` and ``stalls`` are
    lane-cycles while the operation's products were at work.
    """
    sums: dict[str, _Sum] = {}
    for activity in run:
        total = sums.setdefault(activity.operation, _Sum())
        total.commands += 1
        total.first = min(total.first, activity.start)
        total.last = max(total.last, activity.end)
        total.cycles += activity.end - activity.start
        if activity.work is not None:
            total.ideal += ideal_cycles(config, activity.work)
            total.busy += activity.busy
            for cause, value in activity.stalls.items():
                total.stalls[cause] = total.stalls.get(cause, 0) + value
    return {name: _figures(sums[name]) for name in OPERATIONS if name in sums}


def _figures(total: _Sum) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "commands": total.commands,
        "start": total.first,
        "end": total.last,
        "cycles": total.cycles,
    }
    if total.stalls:
        figures |= {
            "ideal_cycles": total.ideal,
            "efficiency": total.ideal / total.cycles,
            "busy": total.busy,
            "stalls": total.stalls,
        }
    return figures


def ideal_cycles(config: AcceleratorConfig, work: ProductWork) -> float:
    """Cycles if no multiplier ever waited; without a window, weights that are zero count."""
    if config.datapath.weight_window:
        return work.effectual / config.multipliers
    return work.scalars * work.columns / config.multipliers


def timeline(run: Sequence[Activity]) -> Iterator[dict[str, Any]]:
    """When each command was at work, for JSON."""
    for activity in run:
        yield {
            "command": activity.index,
            "queue": activity.queue.name.lower(),
            "operation": activity.operation,
            "given": activity.given,
            "start": activity.start,
            "end": activity.end,
        }
