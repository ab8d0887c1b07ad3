"""What makes two components the same: class and constructor arguments."""

import dataclasses
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from amaranth.hdl import Value, ValueCastable
from amaranth.lib import data

__all__ = ["share_key"]


def share_key(component: type, arguments: Mapping[str, Any]) -> tuple[Any, str]:
    """Hashable key of a component, and a label for it that is legal in Verilog.

    Different keys may have the same label. Raises TypeError if an argument cannot be compared.
    """
    key: list[Any] = [component]
    label = component.__name__
    for name, value in arguments.items():
        try:
            key.append((name, _freeze(value)))
        except TypeError:
            raise TypeError(
                f"argument {name} must be a constant that can be compared, not {value!r}"
            ) from None
        if (text := _label(value)) is not None:
            label += f"_{name}{text}"
    return tuple(key), re.sub(r"\W", "_", label)[:80]


def _freeze(value: Any) -> Any:
    """Hashable equivalent; types are part of it, for 1 and True elaborate differently."""
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_freeze, value))
    if isinstance(value, dict):
        return (dict, *((_freeze(name), _freeze(item)) for name, item in value.items()))
    if isinstance(value, data.Layout):
        fields = ((name, field.offset, _freeze(field.shape)) for name, field in value)
        return (type(value), value.size, *fields)
    if isinstance(value, (Value, ValueCastable)):
        raise TypeError
    hash(value)
    return (type(value), value)


def _label(value: Any) -> str | None:
    if isinstance(value, (bool, int)) and not isinstance(value, Enum):
        return str(int(value)).replace("-", "m")
    if isinstance(value, str):
        return f"_{value}"
    if isinstance(value, data.Layout):
        named = type(value).__module__ != data.__name__
        return f"_{type(value).__name__}" if named else str(value.size)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        if len(fields) > 3:
            name = getattr(value, "name", None)
            return f"_{name}" if isinstance(name, str) else None
        labels = [_label(getattr(value, field.name)) for field in fields]
        if None not in labels:
            return "_".join(filter(None, labels))
    return None
