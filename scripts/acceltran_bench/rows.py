"""Lines of a table: what was measured, what was wanted, and all figures behind it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["HEADING", "Row"]

HEADING = f"{'what':<78}{'value':>9}{'target':>10}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement."""

    what: str
    value: float | None = None
    """None if this version of the machine cannot be built; then ``note`` says why."""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the value reaches the target; None if either is missing."""
        if self.value is None:
            return None
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def text(self) -> str:
        """As it is printed."""
        if self.value is None:
            return f"{self.what:<78}{'-':>9}  {self.note}"
        target = ""
        if self.at_least is not None:
            target = f">= {self.at_least:.3f}"
        elif self.at_most is not None:
            target = f"<= {self.at_most:.3f}"
        missed = "  missed" if self.met is False else ""
        return f"{self.what:<78}{self.value:>9.3f}{target:>10}{missed}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"met": self.met}
