"""Layouts of commands on their way from fetch to the engines."""

from amaranth import Cat, Value, unsigned
from amaranth.lib import data

from acceltran.arch.commands import (
    BODIES,
    COMMAND_BYTES,
    SEMAPHORE_COUNT_BITS,
    SEMAPHORES,
    WAITS,
    Opcode,
)

__all__ = [
    "COMMAND_INDEX_WIDTH",
    "CommandHeader",
    "CommandWord",
    "QueuedCommand",
    "Wait",
    "body_of",
]

COMMAND_INDEX_WIDTH = 32


def body_of(opcode: Opcode, bits: Value) -> Value:
    """Cut the fields of a body out of a whole command, packed as ``command_layout`` has them."""
    return Cat(bits[field.offset : field.offset + field.width] for field in BODIES[opcode])


class CommandWord(data.StructLayout):
    """A command as it lies in DRAM, and its place in the program."""

    def __init__(self):
        super().__init__({
            "index": unsigned(COMMAND_INDEX_WIDTH),
            "bits": unsigned(COMMAND_BYTES * 8),
        })


class Wait(data.StructLayout):
    """Wait until ``semaphore`` has counted at least ``count`` signals; nothing if not ``enable``.
    ``everywhere`` asks for signals of all clusters. Of a product, ``rows`` holds back no more than
    the rows, ``final`` no more than those of tiles that end the inner dimension.

    The fields lie as in the command's header.
    """

    def __init__(self):
        super().__init__({
            "enable": unsigned(1),
            "semaphore": range(SEMAPHORES),
            "everywhere": unsigned(1),
            "rows": unsigned(1),
            "final": unsigned(1),
            "count": unsigned(SEMAPHORE_COUNT_BITS),
        })


class CommandHeader(data.StructLayout):
    """What the queues need to know of any command."""

    def __init__(self):
        super().__init__({
            "index": unsigned(COMMAND_INDEX_WIDTH),
            "signal_enable": unsigned(1),
            "signal": range(SEMAPHORES),
            "waits": data.ArrayLayout(Wait(), WAITS),
        })


class QueuedCommand(data.StructLayout):
    """A checked command: header, packed body, and its pruning threshold, looked up."""

    def __init__(self, body_width: int, threshold_width: int):
        super().__init__({
            "header": CommandHeader(),
            "body": unsigned(body_width),
            "threshold": unsigned(threshold_width),
        })
