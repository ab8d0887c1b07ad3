"""Ordering commands of different queues by semaphores."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, THRESHOLDS, WAITS, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command, Queue
from acceltran_sim.program.footprint import footprint

__all__ = ["Timeline"]

OLDEST = 1 << (SEMAPHORE_COUNT_BITS - 2)
"""A count that lies further back is no longer told from one that is to come."""
SCOPES = OWN, EVERYWHERE = range(2)
"""Complete in the cluster that asks, and in all clusters."""

Numbers = npt.NDArray[np.int64]


class Timeline:
    """A program under construction: each command gets the waits that its operands ask for.

    Every queue counts its commands on its own semaphore. A command waits for those that it depends
    on: who wrote what it reads, in any queue; who read or wrote what it writes, in other queues,
    and in its own if that runs products, which overlap (the other queues work in order). What
    another wait or an earlier command of the queue implies is left out.

    All clusters run the same commands on their own buffers, so one buffer stands for all. A command
    waits for its own cluster, but for all of them where one writes to others' buffers.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.

    Members
    -------
    commands : list of Command
        The program so far.
    """

    def __init__(self, config: AcceleratorConfig):
        self.commands: list[Command] = []
        self._config = config
        self._group = 1
        sizes = (config.cluster_vectors, config.weight_vectors)
        queues, scopes = len(Queue), len(SCOPES)
        # By buffer: number of the last command of each queue that wrote (read) each vector, on
        # behalf of its own cluster and of others.
        self._writers = [np.zeros((scopes, queues, size), dtype=np.int64) for size in sizes]
        self._readers = [np.zeros((queues, size), dtype=np.int64) for size in sizes]
        self._threshold_users = np.zeros((queues, THRESHOLDS), dtype=np.int64)
        # By queue: commands so far, and what is known to be complete when the next one starts.
        self._count = np.zeros(queues, dtype=np.int64)
        self._known = np.zeros((queues, scopes, queues), dtype=np.int64)
        # By queue and command: what was known to be complete when it started.
        nothing = np.zeros((scopes, queues), dtype=np.int64)
        self._history: list[list[Numbers]] = [[nothing] for _ in Queue]

    def add(self, command: Command) -> None:
        """Append a command."""
        queue = command.queue
        if queue is None:
            if command.opcode == Opcode.THRESHOLD:
                # The scheduler writes the table at once: who still uses the entry must be done.
                need = np.zeros_like(self._known[0])
                need[EVERYWHERE] = self._threshold_users[:, command["index"]]
                command = self._with_waits(command, need, np.zeros_like(need))[0]
            elif command.opcode == Opcode.SEQUENCE:
                self._group = 1 << command["span"]
            self.commands.append(command)
            return
        accesses = footprint(command, self._config, self._group)
        need = np.zeros_like(self._known[queue])
        for access in accesses:
            before = self._writers[access.buffer][..., access.vectors].max(axis=2, initial=0)
            if access.write:
                read = self._readers[access.buffer][:, access.vectors].max(axis=1, initial=0)
                before[OWN] = np.maximum(before[OWN], read)
                if access.shared:
                    before[EVERYWHERE] = before.max(axis=0)
                if queue != Queue.PRODUCT:
                    before[:, queue] = 0
            need = np.maximum(need, before)
        command, known = self._with_waits(command, need, self._known[queue])
        self._known[queue] = known
        self._history[queue].append(known)
        self._count[queue] += 1
        for access in accesses:
            if access.write:
                scope = EVERYWHERE if access.shared else OWN
                self._writers[access.buffer][scope, queue, access.vectors] = self._count[queue]
            else:
                self._readers[access.buffer][queue, access.vectors] = self._count[queue]
        if command.opcode in (Opcode.MATMUL, Opcode.SOFTMAX, Opcode.LAYERNORM):
            self._threshold_users[queue, command["threshold"]] = self._count[queue]
        fields = {**command.fields, "signal_enable": 1, "signal": int(queue)}
        self.commands.append(Command(opcode=command.opcode, fields=fields))

    def _with_waits(
        self, command: Command, need: Numbers, known: Numbers
    ) -> tuple[Command, Numbers]:
        """Add waits for all of ``need`` that is not known; also return what is known then."""
        in_clusters = command.queue is not None and command.queue.in_clusters
        need = need.copy()
        for q in Queue:
            if not (in_clusters and q.in_clusters) or self._config.array.clusters == 1:
                # Own cluster or all of them: there is no difference.
                need[OWN, q], need[EVERYWHERE, q] = need[:, q].max(), 0

        waits = {
            (scope, q): max(int(need[scope, q]), int(self._count[q]) - OLDEST)
            for scope in SCOPES
            for q in Queue
            if need[scope, q] > known[scope, q]
        }
        gains = {place: self._gain(command, *place, n) for place, n in waits.items()}
        for scope, q in sorted(waits):
            others = [gain for place, gain in gains.items() if place != (scope, q)]
            if any(gain[scope, q] >= waits[scope, q] for gain in others):
                del waits[scope, q], gains[scope, q]
        for q in Queue:
            if len(waits) > WAITS and (OWN, q) in waits and (EVERYWHERE, q) in waits:
                n = max(waits.pop((OWN, q)), waits.pop((EVERYWHERE, q)))
                waits[EVERYWHERE, q] = n
                del gains[OWN, q]
                gains[EVERYWHERE, q] = self._gain(command, EVERYWHERE, q, n)
        known = np.maximum.reduce([known, *gains.values()])
        fields = dict(command.fields)
        for slot, ((scope, q), n) in enumerate(waits.items()):
            fields[f"wait{slot}_enable"] = 1
            fields[f"wait{slot}_semaphore"] = int(q)
            fields[f"wait{slot}_count"] = n % (1 << SEMAPHORE_COUNT_BITS)
            if scope == EVERYWHERE:
                fields[f"wait{slot}_everywhere"] = 1
        return Command(opcode=command.opcode, fields=fields), known

    def _gain(self, command: Command, scope: int, queue: Queue, number: int) -> Numbers:
        """What ``command`` knows to be complete once it has waited for command ``number`` (from 1)
        of ``queue``.
        """
        gain = self._history[queue][number].copy()
        gain[OWN, queue] = max(gain[OWN, queue], number)
        in_clusters = command.queue is not None and command.queue.in_clusters
        if scope == EVERYWHERE or not (in_clusters and queue.in_clusters):
            gain[EVERYWHERE] = gain[OWN]
        return gain
