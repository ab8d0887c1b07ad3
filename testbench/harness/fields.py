"""Pack the fields of a struct into the flat integer that a Verilog port carries, and back."""

from collections.abc import Mapping

from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = ["pack_fields", "unpack_fields"]


def pack_fields(layout: data.StructLayout, fields: Mapping[str, int]) -> int:
    """Integer with the given ``fields``; the others are zero."""
    raw = 0
    for name, value in fields.items():
        place = layout[name]
        raw |= (value & ((1 << Shape.cast(place.shape).width) - 1)) << place.offset
    return raw


def unpack_fields(layout: data.StructLayout, raw: int) -> dict[str, int]:
    """Every field of ``raw``, as an unsigned integer."""
    return {
        name: raw >> place.offset & ((1 << Shape.cast(place.shape).width) - 1)
        for name, place in layout
    }
