"""When commands start and end, as the simulator saw it in the command queues."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from acceltran.arch import registers
from acceltran_sim.program.command import Queue

__all__ = ["CommandTimes", "parse_trace"]


@dataclass(frozen=True, kw_only=True)
class CommandTimes:
    """Counters of the machine when a command was given to its engine, and when it was complete."""

    queue: Queue
    start: Mapping[str, int]
    end: Mapping[str, int]


def parse_trace(lines: Iterable[str]) -> list[CommandTimes]:
    """Commands of one run, those of each queue in their order, from the driver's lines."""
    names = [name for name, _ in registers.COUNTERS]
    events: dict[Queue, tuple[list[dict[str, int]], ...]] = {queue: ([], []) for queue in Queue}
    for line in lines:
        queue, ended, *values = (int(word) for word in line.split())
        events[Queue(queue)][ended].append(dict(zip(names, values, strict=True)))
    return [
        CommandTimes(queue=queue, start=start, end=end)
        for queue, (starts, ends) in events.items()
        for start, end in zip(starts, ends, strict=False)
    ]
