"""Layout of a command of the vector queue."""

from amaranth.lib import data

from acceltran.arch.commands import Opcode
from acceltran.control.command_layout import command_layout

__all__ = ["VectorBody", "VectorCommand"]


class VectorBody(data.UnionLayout):
    """Body of a command of the vector queue."""

    def __init__(self):
        super().__init__({
            "softmax": command_layout(Opcode.SOFTMAX),
            "layernorm": command_layout(Opcode.LAYERNORM),
        })


class VectorCommand(data.StructLayout):
    """Command of the vector queue: which of the two, and its body."""

    def __init__(self):
        super().__init__({"layernorm": 1, "body": VectorBody()})
