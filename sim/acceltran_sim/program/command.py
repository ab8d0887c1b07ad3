"""One command of a program, readable."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from acceltran.arch.commands import WAITS, Opcode, decode, encode

__all__ = ["Command", "Queue", "Stage", "Wait"]


class Queue(enum.IntEnum):
    """Queues that commands run in. Programs count the commands of each on the semaphore alike."""

    LOAD = 0
    STORE = 1
    PRODUCT = 2
    VECTOR = 3

    @property
    def in_clusters(self) -> bool:
        """Every cluster has such a queue; the others work for the whole machine."""
        return self in (Queue.PRODUCT, Queue.VECTOR)


QUEUES = {
    Opcode.LOAD: Queue.LOAD,
    Opcode.STORE: Queue.STORE,
    Opcode.MATMUL: Queue.PRODUCT,
    Opcode.SOFTMAX: Queue.VECTOR,
    Opcode.LAYERNORM: Queue.VECTOR,
}


class Stage(enum.IntEnum):
    """What a product may wait with."""

    START = 0
    """All of it, as every other command."""
    ROWS = 1
    """Its rows, while its tiles and biases are loaded."""
    FINAL = 2
    """Rows of tiles that finish sums, that is the last inner vectors of A, and results."""


@dataclass(frozen=True)
class Wait:
    """A command starts when the semaphore has counted so many signals."""

    semaphore: int
    count: int
    everywhere: bool = False
    """In all clusters, not only in its own."""
    stage: Stage = Stage.START


@dataclass(frozen=True, kw_only=True)
class Command:
    """An opcode and the values of its fields; those not given are zero."""

    opcode: Opcode
    fields: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        """Value of a field."""
        return self.fields.get(name, 0)

    @property
    def queue(self) -> Queue | None:
        """Queue that it runs in; None if the scheduler executes it itself."""
        return QUEUES.get(self.opcode)

    @property
    def waits(self) -> list[Wait]:
        """Semaphores and counts that it waits for."""
        return [
            Wait(
                self[f"wait{n}_semaphore"],
                self[f"wait{n}_count"],
                bool(self[f"wait{n}_everywhere"]),
                Stage(max(self[f"wait{n}_rows"], 2 * self[f"wait{n}_final"])),
            )
            for n in range(WAITS)
            if self[f"wait{n}_enable"]
        ]

    @property
    def signal(self) -> int | None:
        """Semaphore that it counts once complete."""
        return self["signal"] if self["signal_enable"] else None

    def encode(self) -> bytes:
        """As the machine fetches it."""
        return encode(self.opcode, self.fields)

    @classmethod
    def decode(cls, content: bytes) -> "Command":
        """Inverse of ``encode``; fields that are zero are left out."""
        opcode, fields = decode(content)
        return cls(opcode=opcode, fields={name: value for name, value in fields.items() if value})
