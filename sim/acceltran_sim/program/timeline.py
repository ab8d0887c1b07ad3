"""Ordering commands of different queues by semaphores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.commands import SEMAPHORE_COUNT_BITS, THRESHOLDS, WAITS, Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command, Queue, Stage
from acceltran_sim.program.footprint import Access, footprint
from acceltran_sim.program.tile_reuse import edge_tiles

__all__ = ["Timeline"]

OLDEST = 1 << (SEMAPHORE_COUNT_BITS - 2)
"""A count that lies further back is no longer told from one that is to come."""
SCOPES = OWN, EVERYWHERE = range(2)
"""Complete in the cluster that asks, and in all clusters."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _LastTile:
    """The last tile of a product, and the command by which each of its operands was written."""

    index: int
    command: Command
    tile: tuple[int, ...]
    written: list[int]


class Timeline:
    """A program under construction: each command gets the waits that its operands ask for.

    Every queue counts its commands on its own semaphore. A command waits for those that it depends
    on: who wrote what it reads, in any queue; who read or wrote what it writes, in other queues,
    and in its own if that runs products or vector operations, which overlap (loads and stores work
    in order). What another wait or an earlier command of the queue implies is left out.

    All clusters run the same commands on their own buffers, so one buffer stands for all. A command
    waits for its own cluster, but for all of them where one writes to others' buffers. There, no
    stage of a product waits for what only a later one needs, and a product that begins with the
    last tile of the one before does not load it.

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
        # What tiles of the next product know.
        self._tiles_known = np.zeros((scopes, queues), dtype=np.int64)
        self._last_tile: _LastTile | None = None
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
                nothing = np.zeros_like(need)
                command = self._with_waits(
                    command, [need, nothing, nothing], [nothing] * len(Stage)
                )[0]
            elif command.opcode == Opcode.SEQUENCE:
                self._group = 1 << command["span"]
                if self._last_tile and self._last_tile.command["own_keys"]:
                    self._last_tile = None
            self.commands.append(command)
            return
        accesses = footprint(command, self._config, self._group)
        product = queue == Queue.PRODUCT
        several = self._config.array.clusters > 1
        needs = [np.zeros_like(self._known[queue]) for _ in Stage]
        for access in accesses:
            before = self._writers[access.buffer][..., access.vectors].max(axis=2, initial=0)
            if access.write:
                read = self._readers[access.buffer][:, access.vectors].max(axis=1, initial=0)
                before[OWN] = np.maximum(before[OWN], read)
                if access.shared:
                    before[EVERYWHERE] = before.max(axis=0)
                if not queue.in_clusters:
                    before[:, queue] = 0
            stage = access.stage if several else Stage.START
            needs[stage] = np.maximum(needs[stage], before)
        known = [self._known[queue]] * len(Stage)
        if product:
            known[Stage.START] = self._tiles_known
        command, started, known = self._with_waits(command, needs, known)
        self._known[queue] = known
        if product:
            self._tiles_known = started
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
        if product and several:
            operands = [access for access in accesses if access.stage == Stage.START]
            fields["reuse_tile"] = int(self._reuses_tile(command, operands))
        self.commands.append(Command(opcode=command.opcode, fields=fields))

    def _reuses_tile(self, command: Command, operands: Sequence[Access]) -> bool:
        """Whether a product begins with the last tile of the one before, which then keeps it."""
        before = self._last_tile
        written = [
            int(self._writers[access.buffer][..., access.vectors].max(initial=0))
            for access in operands
        ]
        first, last = edge_tiles(self._config, command)
        self._last_tile = _LastTile(len(self.commands), command, last, written)
        if before is None or (before.tile, before.written) != (first, written):
            return False
        kept = self.commands[before.index]
        self.commands[before.index] = Command(
            opcode=kept.opcode, fields={**kept.fields, "keep_tile": 1}
        )
        return True

    def _with_waits(
        self, command: Command, needs: Sequence[Numbers], known: Sequence[Numbers]
    ) -> tuple[Command, Numbers, Numbers]:
        """Add waits for all of ``needs`` that is not known, both by stage.

        Also return what is known when the command starts, and at its last stage.
        """
        waits: dict[tuple[int, int, Queue], int] = {}
        for stage in Stage:
            have = self._after(command, waits, known[stage])
            missing = dict(self._missing(command, needs[stage], have))
            waits |= {(stage, *place): n for place, n in missing.items()}
        # Wait for more than is needed where there are too many.
        for stage, scope, q in sorted(waits, reverse=True):
            earlier = [s for s in Stage if s < stage and (s, scope, q) in waits]
            if len(waits) > WAITS and earlier:
                n = waits.pop((stage, scope, q))
                waits[earlier[0], scope, q] = max(waits[earlier[0], scope, q], n)
        for stage, scope, q in sorted(waits):
            if len(waits) > WAITS and scope == OWN:
                for other in Stage:
                    if (other, EVERYWHERE, q) in waits:
                        n = max(waits.pop((stage, OWN, q)), waits.pop((other, EVERYWHERE, q)))
                        waits[min(stage, other), EVERYWHERE, q] = n
                        break
        early = {place: n for place, n in waits.items() if place[0] == Stage.START}
        fields = dict(command.fields)
        for slot, ((stage, scope, q), n) in enumerate(waits.items()):
            fields[f"wait{slot}_enable"] = 1
            fields[f"wait{slot}_semaphore"] = int(q)
            fields[f"wait{slot}_count"] = n % (1 << SEMAPHORE_COUNT_BITS)
            if scope == EVERYWHERE:
                fields[f"wait{slot}_everywhere"] = 1
            if stage != Stage.START:
                fields[f"wait{slot}_{Stage(stage).name.lower()}"] = 1
        return (
            Command(opcode=command.opcode, fields=fields),
            self._after(command, early, known[Stage.START]),
            self._after(command, waits, known[Stage.FINAL]),
        )

    def _missing(
        self, command: Command, need: Numbers, known: Numbers
    ) -> Iterator[tuple[tuple[int, Queue], int]]:
        """Scope, queue and count of each wait for what is needed and not known."""
        need = need.copy()
        for q in Queue:
            if not self._differs(command, q) or self._config.array.clusters == 1:
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
        yield from waits.items()

    def _after(
        self, command: Command, waits: Mapping[tuple[int, int, Queue], int], known: Numbers
    ) -> Numbers:
        """What is known after waits."""
        gains = [self._gain(command, scope, q, n) for (_, scope, q), n in waits.items()]
        return np.maximum.reduce([known, *gains])

    def _differs(self, command: Command, queue: Queue) -> bool:
        """Whether its own cluster has more to tell ``command`` of a queue than all clusters."""
        in_clusters = command.queue is not None and command.queue.in_clusters
        return in_clusters and queue.in_clusters

    def _gain(self, command: Command, scope: int, queue: Queue, number: int) -> Numbers:
        """What ``command`` knows to be complete once it has waited for command ``number`` (from 1)
        of ``queue``.
        """
        gain = self._history[queue][number].copy()
        gain[OWN, queue] = max(gain[OWN, queue], number)
        if scope == EVERYWHERE or not self._differs(command, queue):
            gain[EVERYWHERE] = gain[OWN]
        return gain
