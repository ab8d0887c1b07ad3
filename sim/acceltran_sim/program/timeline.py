"""Ordering commands of different queues by semaphores."""

import numpy as np

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, THRESHOLDS, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command, Queue
from acceltran_sim.program.footprint import footprint

__all__ = ["Timeline"]

OLDEST = 1 << (SEMAPHORE_COUNT_BITS - 2)
"""A count that lies further back is no longer told from one that is to come."""


class Timeline:
    """A program under construction: each command gets the waits that its operands ask for.

    Every queue counts its commands on its own semaphore. A command waits for those that it depends
    on: who wrote what it reads, in any queue; who read or wrote what it writes, in other queues,
    and in its own if that runs products (the others work in order; products overlap). What another
    wait or an earlier command of the queue implies is left out.

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
        self._tile = config.datapath.tile
        sizes = (config.activation_vectors, config.weight_vectors)
        queues = len(Queue)
        # By buffer: number of the last command of each queue that wrote (read) each vector.
        self._writers = [np.zeros((queues, size), dtype=np.int64) for size in sizes]
        self._readers = [np.zeros((queues, size), dtype=np.int64) for size in sizes]
        self._threshold_users = np.zeros((queues, THRESHOLDS), dtype=np.int64)
        # By queue: commands so far, and what is known to be complete when the next one starts.
        self._count = np.zeros(queues, dtype=np.int64)
        self._known = np.zeros((queues, queues), dtype=np.int64)
        # By queue and command: what was known to be complete when it started.
        self._history: list[list[np.ndarray]] = [[np.zeros(queues, dtype=np.int64)] for _ in Queue]

    def add(self, command: Command) -> None:
        """Append a command."""
        queue = command.queue
        if queue is None:
            if command.opcode == Opcode.THRESHOLD:
                # The scheduler writes the table at once: who still uses the entry must be done.
                users = self._threshold_users[:, command["index"]]
                command = self._with_waits(command, users, np.zeros_like(users))[0]
            self.commands.append(command)
            return
        accesses = footprint(command, self._tile)
        need = np.zeros(len(Queue), dtype=np.int64)
        for access in accesses:
            written = self._writers[access.buffer][:, access.vectors].max(axis=1, initial=0)
            if access.write:
                read = self._readers[access.buffer][:, access.vectors].max(axis=1, initial=0)
                written = np.maximum(written, read)
                if queue != Queue.PRODUCT:
                    written[queue] = 0
            need = np.maximum(need, written)
        command, known = self._with_waits(command, need, self._known[queue])
        self._known[queue] = known
        self._history[queue].append(known)
        self._count[queue] += 1
        for access in accesses:
            table = (self._writers if access.write else self._readers)[access.buffer]
            table[queue, access.vectors] = self._count[queue]
        if command.opcode in (Opcode.MATMUL, Opcode.SOFTMAX, Opcode.LAYERNORM):
            self._threshold_users[queue, command["threshold"]] = self._count[queue]
        fields = {**command.fields, "signal_enable": 1, "signal": int(queue)}
        self.commands.append(Command(opcode=command.opcode, fields=fields))

    def _with_waits(
        self, command: Command, need: np.ndarray, known: np.ndarray
    ) -> tuple[Command, np.ndarray]:
        """Add waits for all of ``need`` that is not known; also return what is known then."""
        waits = {q: max(n, self._count[q] - OLDEST) for q, n in enumerate(need) if n > known[q]}
        gains = {q: self._implied(q, n) for q, n in waits.items()}
        for q in sorted(waits):
            others = [gain for other, gain in gains.items() if other != q]
            if any(gain[q] >= waits[q] for gain in others):
                del waits[q], gains[q]
        known = np.maximum.reduce([known, *gains.values()])
        fields = dict(command.fields)
        for slot, (q, n) in enumerate(waits.items()):
            fields[f"wait{slot}_enable"] = 1
            fields[f"wait{slot}_semaphore"] = q
            fields[f"wait{slot}_count"] = int(n) % (1 << SEMAPHORE_COUNT_BITS)
        return Command(opcode=command.opcode, fields=fields), known

    def _implied(self, queue: int, number: int) -> np.ndarray:
        """What is complete once command ``number`` (from 1) of ``queue`` is."""
        implied = self._history[queue][number].copy()
        implied[queue] = max(implied[queue], number)
        return implied
