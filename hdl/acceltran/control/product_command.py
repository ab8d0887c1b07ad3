"""A decoded MATMUL."""

from amaranth import unsigned
from amaranth.lib import data

from acceltran.arch.commands import COUNT, Opcode
from acceltran.control.command_layout import command_layout

__all__ = ["ProductCommand"]


OWN = ("own_rows", "first_row", "own_keys", "first_key", "share", "share_stride")


class ProductCommand(data.StructLayout):
    """Layout of a MATMUL as a cluster gets it: its fields in ``acceltran.arch.commands`` by name,
    but for those that say what is its own, and

    ``valid_rows`` : ``unsigned(COUNT)``
        Of ``rows``, those that there are; the others are left alone. Tiles are walked as if there
        were all.
    """

    def __init__(self):
        fields = {name: field.shape for name, field in command_layout(Opcode.MATMUL)}
        for name in OWN:
            del fields[name]
        super().__init__({**fields, "valid_rows": unsigned(COUNT)})
