"""A decoded MATMUL."""

from amaranth.lib import data

from acceltran.arch.commands import Opcode
from acceltran.control.command_layout import command_layout

__all__ = ["ProductCommand"]


class ProductCommand(data.StructLayout):
    """Layout of the body of a MATMUL: its fields in ``acceltran.arch.commands`` by name."""

    def __init__(self):
        super().__init__({name: field.shape for name, field in command_layout(Opcode.MATMUL)})
