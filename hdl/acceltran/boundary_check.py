"""Signals that cross the boundary of a module without being one of its ports."""

from typing import Any

from amaranth.hdl import Instance, Signal
from amaranth.hdl._ast import SignalSet
from amaranth.hdl._ir import PortDirection
from amaranth.hdl._mem import MemoryInstance  # type: ignore[attr-defined]  # not in the stubs

__all__ = ["BoundaryCheck", "LibraryError"]


class LibraryError(Exception):
    """A component that cannot be emitted once for all its instances."""


class BoundaryCheck:
    """Looks at each emitted module, and at the end at all of them together."""

    def __init__(self):
        self._driven: dict[str, SignalSet] = {}
        self._undriven_inputs: list[tuple[str, Signal]] = []

    def add(self, name: str, design: Any) -> None:
        """Refuse signals used in module ``name`` that only another module can drive.

        Such a signal would silently keep its initial value. Inputs of shared components may be
        left unconnected; ``finish`` sees to those that another module drives.
        """
        driven, used, inputs = SignalSet(), SignalSet(), SignalSet()
        fragment: Any
        for fragment in design.fragments:
            for statements in fragment.statements.values():
                driven.update(statements._lhs_signals())
                used.update(statements._rhs_signals())
            for domain in fragment.domains.values():
                driven.update([domain.clk] if domain.rst is None else [domain.clk, domain.rst])
            if isinstance(fragment, Instance):
                for value, kind in fragment.ports.values():  # type: ignore[attr-defined]
                    if kind == "o":
                        driven.update(value._lhs_signals())
                    elif isinstance(value, Signal):
                        inputs.add(value)
                    else:
                        used.update(value._rhs_signals())
            elif isinstance(fragment, MemoryInstance):
                for port in fragment._read_ports:  # type: ignore[attr-defined]
                    driven.update(port._data._lhs_signals())
        self._driven[name] = driven
        inward = [signal for _, signal, way in design.ports if way is PortDirection.Input]
        known = driven | SignalSet(inward)
        for signal in used:
            if signal not in known and len(signal):
                raise LibraryError(
                    f"{name}: signal {signal.name} is used in this module but neither driven in it "
                    f"nor one of its input ports"
                )
        self._undriven_inputs += [(name, signal) for signal in inputs if signal not in known]

    def finish(self) -> None:
        """Refuse unconnected inputs that a module elsewhere drives."""
        for name, signal in self._undriven_inputs:
            for other, driven in self._driven.items():
                if other != name and signal in driven:
                    raise LibraryError(
                        f"{name}: input {signal.name} of a component in this module is driven "
                        f"from within {other}, not through a port"
                    )
