"""Raw integers of structured payloads."""

from typing import Any

__all__ = ["raw"]


def raw(layout: Any, **fields: Any) -> int:
    """Integer that a payload of ``layout`` with these fields is on a Verilog port."""
    return layout.const(fields).as_value().value
