"""Layout of a command on its way to the clusters."""

import enum

from amaranth.hdl import Shape
from amaranth.lib import data

from acceltran.arch.commands import Opcode
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import QueuedCommand
from acceltran.control.vector_command import VectorCommand

__all__ = ["NODE_BODY_WIDTH", "NodeCommand", "NodeKind"]

NODE_BODY_WIDTH = max(
    command_layout(Opcode.MATMUL).size,
    VectorCommand().size,
    command_layout(Opcode.SEQUENCE).size,
)


class NodeKind(enum.IntEnum):
    """What a node does with a command."""

    PRODUCT = 0
    VECTOR = 1
    SEQUENCE = 2


class NodeCommand(data.StructLayout):
    """Layout of a command for all clusters: a MATMUL, a ``VectorCommand`` or a SEQUENCE.

    Members
    -------
    kind : ``NodeKind``
    command : ``QueuedCommand(NODE_BODY_WIDTH, threshold_width)``
        The body in its low bits. A SEQUENCE is nothing but a body.
    """

    def __init__(self, threshold_width: int):
        super().__init__({
            "kind": Shape.cast(NodeKind),
            "command": QueuedCommand(NODE_BODY_WIDTH, threshold_width),
        })
