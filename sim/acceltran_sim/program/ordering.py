"""Proof that semaphores order every two commands that touch the same vector."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES, THRESHOLDS
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command, Queue

__all__ = ["OrderChecker", "ProgramError"]

MODULUS = 1 << SEMAPHORE_COUNT_BITS


class ProgramError(ValueError):
    """A program breaks a rule; the message says which one and where."""


class OrderChecker:
    """Follows a program in its order and checks that queues cannot overtake each other harmfully.

    What a command knows to be complete when it starts: what its waits say, what those commands
    knew, and what the command before it in its queue knew. A vector may be read if its writer is
    known to be complete, and written if its readers and writers are; but those of its own queue
    need not be where that works in order, which products do not.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    """

    def __init__(self, config: AcceleratorConfig):
        queues = len(Queue)
        sizes = (config.activation_vectors, config.weight_vectors)
        self._writers = [np.zeros((queues, size), dtype=np.int64) for size in sizes]
        self._readers = [np.zeros((queues, size), dtype=np.int64) for size in sizes]
        self._threshold_users = np.zeros((THRESHOLDS, queues), dtype=np.int64)
        self._signals: list[list[tuple[int, int]]] = [[] for _ in range(SEMAPHORES)]
        self._starts: list[list[npt.NDArray[np.int64]]] = [[] for _ in Queue]
        self._queue = 0
        self._known = np.zeros(queues, dtype=np.int64)

    def start(self, command: Command) -> None:
        """Begin the next command of the program."""
        queue = command.queue
        known = np.zeros(len(Queue), dtype=np.int64)
        if queue is not None and self._starts[queue]:
            known = self._starts[queue][-1].copy()
        for semaphore, count in command.waits:
            signals = self._signals[semaphore]
            behind = (len(signals) - count) % MODULUS
            if behind >= MODULUS // 2:
                raise ProgramError(
                    f"A wait must be met by earlier commands: semaphore {semaphore} has counted"
                    f" {len(signals)}, not {count}"
                )
            if len(signals) > behind:
                other, number = signals[len(signals) - behind - 1]
                known = np.maximum(known, self._starts[other][number - 1])
                known[other] = max(known[other], number)
        self._known = known
        if queue is not None:
            self._queue = queue
            self._starts[queue].append(known)
            if command.signal is not None:
                signals = self._signals[command.signal]
                if signals and signals[-1][0] != queue:
                    raise ProgramError(
                        f"Semaphore {command.signal} must count commands of one queue only"
                    )
                signals.append((int(queue), len(self._starts[queue])))

    def read(self, buffer: int, vectors: npt.NDArray[np.int64]) -> None:
        """The command reads vectors of a buffer."""
        self._check("read", "written", self._writers[buffer][:, vectors])
        self._readers[buffer][self._queue, vectors] = len(self._starts[self._queue])

    def write(self, buffer: int, vectors: npt.NDArray[np.int64]) -> None:
        """The command writes vectors of a buffer."""
        for others, done in ((self._writers, "written"), (self._readers, "read")):
            numbers = others[buffer][:, vectors]
            if self._queue != Queue.PRODUCT:
                numbers[self._queue] = 0
            self._check("write", done, numbers)
        self._writers[buffer][self._queue, vectors] = len(self._starts[self._queue])

    def use_threshold(self, index: int) -> None:
        """The command reads an entry of the threshold table."""
        self._threshold_users[index, self._queue] = len(self._starts[self._queue])

    def set_threshold(self, index: int) -> None:
        """The scheduler writes an entry of the threshold table."""
        self._check("write threshold", "used", self._threshold_users[index][:, np.newaxis])

    def _check(self, action: str, done: str, numbers: npt.NDArray[np.int64]) -> None:
        latest = numbers.max(axis=1, initial=0)
        for queue in Queue:
            if latest[queue] > self._known[queue]:
                raise ProgramError(
                    f"A command must wait before it can {action} what is {done} by command"
                    f" {latest[queue]} of the {queue.name.lower()} queue"
                )
