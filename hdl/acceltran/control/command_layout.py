"""Layout of a command's body, as decoded."""

from amaranth import unsigned
from amaranth.lib import data

from acceltran.arch.commands import BODIES, Opcode

__all__ = ["command_layout"]


def command_layout(opcode: Opcode) -> data.StructLayout:
    """Fields of ``BODIES[opcode]`` by name, packed in that order without gaps."""
    return data.StructLayout({field.name: unsigned(field.width) for field in BODIES[opcode]})
