"""Proof that semaphores order every two commands that touch the same vector."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, SEMAPHORES, THRESHOLDS
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command, Queue, Stage
from acceltran_sim.program.footprint import ACTIVATION

__all__ = ["OrderChecker", "ProgramError"]

MODULUS = 1 << SEMAPHORE_COUNT_BITS
SCOPES = OWN, EVERYWHERE = range(2)
"""Complete in the cluster that asks, and in all clusters."""

Numbers = npt.NDArray[np.int64]


class ProgramError(ValueError):
    """A program breaks a rule; the message says which one and where."""


class OrderChecker:
    """Follows a program in its order and checks that queues cannot overtake each other harmfully.

    What a command knows to be complete when it starts: what its waits say, what those commands
    knew, and what the command before it in its queue knew. A vector may be read if its writer is
    known to be complete, and written if its readers and writers are; but those of its own queue
    need not be where that works in order, which products and vector operations do not.

    Products and vector operations run in every cluster: what one of them knows of another holds for
    its own cluster, unless it has waited for all of them. Waits of a later stage of a product say
    nothing to what comes before it.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    """

    def __init__(self, config: AcceleratorConfig):
        queues, self._clusters = len(Queue), config.array.clusters
        # The weight buffer comes behind the activation buffers of the clusters.
        sizes = [config.cluster_vectors] * self._clusters + [config.weight_vectors]
        # By buffer: number of the last command of each queue that read each vector, and that wrote
        # it, in its own cluster and from others.
        self._readers = [np.zeros((queues, size), dtype=np.int32) for size in sizes]
        self._writers = [np.zeros((len(SCOPES), queues, size), dtype=np.int32) for size in sizes]
        self._threshold_users = np.zeros((THRESHOLDS, queues), dtype=np.int64)
        self._signals: list[list[tuple[Queue, int]]] = [[] for _ in range(SEMAPHORES)]
        self._starts: list[list[Numbers]] = [[] for _ in Queue]
        self._queue = Queue.LOAD
        # What the command knows at each stage, and what the product before knew when it started.
        self._known = np.zeros((len(Stage), len(SCOPES), queues), dtype=np.int64)
        self._early = self._known[Stage.START]

    def start(self, command: Command) -> None:
        """Begin the next command of the program."""
        queue = command.queue
        in_clusters = queue is not None and queue.in_clusters
        known = np.zeros_like(self._known)
        if queue is not None and self._starts[queue]:
            known[:] = self._starts[queue][-1]
        if queue == Queue.PRODUCT:
            known[Stage.START] = self._early
        for wait in command.waits:
            signals = self._signals[wait.semaphore]
            behind = (len(signals) - wait.count) % MODULUS
            if behind >= MODULUS // 2:
                raise ProgramError(
                    f"A wait must be met by earlier commands: semaphore {wait.semaphore} has"
                    f" counted {len(signals)}, not {wait.count}"
                )
            if len(signals) > behind:
                other, number = signals[len(signals) - behind - 1]
                gain = self._starts[other][number - 1].copy()
                gain[OWN, other] = max(gain[OWN, other], number)
                if wait.everywhere or not (in_clusters and other.in_clusters):
                    gain[EVERYWHERE] = gain[OWN]
                stage = wait.stage if queue == Queue.PRODUCT else Stage.START
                known[stage:] = np.maximum(known[stage:], gain)
        self._known = known
        if queue == Queue.PRODUCT:
            self._early = known[Stage.START]
        if queue is not None:
            self._queue = queue
            self._starts[queue].append(known[Stage.FINAL])
            if command.signal is not None:
                signals = self._signals[command.signal]
                if signals and signals[-1][0] != queue:
                    raise ProgramError(
                        f"Semaphore {command.signal} must count commands of one queue only"
                    )
                signals.append((queue, len(self._starts[queue])))

    def read(
        self,
        buffer: int,
        vectors: npt.NDArray[np.int64],
        cluster: int = 0,
        *,
        stage: Stage = Stage.START,
    ) -> None:
        """The command reads vectors of a buffer, for activations that of a cluster.

        ``stage`` says what of a product does so.
        """
        place = self._place(buffer, cluster)
        self._check("read", "written", self._writers[place][..., vectors], self._known[stage])
        self._readers[place][self._queue, vectors] = len(self._starts[self._queue])

    def write(
        self,
        buffer: int,
        vectors: npt.NDArray[np.int64],
        cluster: int = 0,
        source: int | None = None,
    ) -> None:
        """The command writes vectors of a buffer, for activations that of a cluster.

        ``source`` is the cluster that has computed them, the same one by default.
        """
        place = self._place(buffer, cluster)
        foreign = source is not None and source != cluster
        readers = self._readers[place][:, vectors]
        for numbers, done in (
            (self._writers[place][..., vectors], "written"),
            (np.stack([readers, np.zeros_like(readers)]), "read"),
        ):
            if foreign:
                numbers[EVERYWHERE] = numbers.max(axis=0)
            own = numbers[:, self._queue]
            if self._queue == Queue.VECTOR:  # may work in place
                own[own == len(self._starts[self._queue])] = 0
            elif self._queue != Queue.PRODUCT:
                own[:] = 0
            self._check("write", done, numbers, self._known[Stage.FINAL])
        scope = EVERYWHERE if foreign else OWN
        self._writers[place][scope, self._queue, vectors] = len(self._starts[self._queue])

    def use_threshold(self, index: int) -> None:
        """The command reads an entry of the threshold table."""
        self._threshold_users[index, self._queue] = len(self._starts[self._queue])

    def set_threshold(self, index: int) -> None:
        """The scheduler writes an entry of the threshold table."""
        users = self._threshold_users[index][np.newaxis, :, np.newaxis]
        self._check(
            "write threshold",
            "used",
            np.repeat(users, len(SCOPES), axis=0),
            self._known[Stage.START],
        )

    def _place(self, buffer: int, cluster: int) -> int:
        return cluster if buffer == ACTIVATION else -1

    def _check(
        self, action: str, done: str, numbers: npt.NDArray[np.integer], known: Numbers
    ) -> None:
        latest = numbers.max(axis=2, initial=0)
        for scope, queue in np.argwhere(latest > known):
            where = " in all clusters" if scope == EVERYWHERE and self._clusters > 1 else ""
            raise ProgramError(
                f"A command must wait before it can {action} what is {done}{where} by command"
                f" {latest[scope, queue]} of the {Queue(queue).name.lower()} queue"
            )
