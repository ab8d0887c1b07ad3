"""Emit each distinct component once, however often it is instantiated."""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from amaranth.back import rtlil, verilog  # type: ignore[attr-defined]  # missing from the stubs
from amaranth.hdl import (
    ClockSignal,
    Const,
    EnableInserter,
    Format,
    Fragment,
    Instance,
    Module,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

from acceltran.boundary_check import BoundaryCheck, LibraryError
from acceltran.clocked_blocks import fold_next_states
from acceltran.quick_netlist import quick_netlist
from acceltran.share_key import share_key

__all__ = ["Library", "LibraryError", "SharedComponent", "VerilogModule", "signature_ports"]

# A wire without bits, which would have two in Verilog ([-1:0]).
EMPTY_WIRE = re.compile(
    r"^(?:(?:  attribute .*\n)*  wire width 0 .*\n|connect \S+ \{ *\}\n)", re.MULTILINE
)

_active: contextvars.ContextVar["Library | None"] = contextvars.ContextVar("_active", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerilogModule:
    """Hand-written Verilog that stands for a component.

    Its ports are those of the component's signature, and ``clk``.

    Parameters
    ----------
    name : str
        Name of the module in ``text``.
    parameters : mapping of str to int
        Verilog parameters of this instance.
    text : str
        Source; the same for every instance.
    """

    name: str
    parameters: Mapping[str, int]
    text: str


class SharedComponent(wiring.Component):
    """Component that ``Library`` emits once per class and constructor arguments.

    In Amaranth's simulator and back ends it is an ordinary component. Two instances with equal
    arguments must elaborate alike, so whatever differs between them (an index, a base address) is
    a port. Arguments are integers, strings, enumerations, frozen dataclasses, shapes, and lists of
    these. Nothing but ports connects a shared component with the rest of the design;
    ``DomainRenamer`` works on it, ``ResetInserter`` and ``EnableInserter`` are refused.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, src_loc_at: int = 0, **kwargs: Any):
        create: Any = super().__new__
        self = create(cls, *args, src_loc_at=src_loc_at + 1, **kwargs)
        self._arguments = (args, kwargs)
        return self

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "elaborate" in cls.__dict__:
            cls.elaborate = _elaborate_or_instantiate(cls.__dict__["elaborate"])

    def verilog_module(self) -> VerilogModule | None:
        """Hand-written module that ``Library`` instantiates instead of elaborating this one."""
        return None

    def share_arguments(self) -> dict[str, Any]:
        """Constructor arguments by name, defaults included."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        return dict(list(bound.arguments.items())[1:])


def _elaborate_or_instantiate(elaborate: Any) -> Any:
    @functools.wraps(elaborate)
    def wrapper(self: SharedComponent, platform: Any) -> Any:
        library = _active.get()
        if library is None or library.is_emitting(self):
            return elaborate(self, platform)
        return library.instantiate(self)

    return wrapper


@dataclasses.dataclass(kw_only=True)
class _Emitted:
    name: str
    text: str
    clocks: dict[str, Value]  # port name -> what to connect to it


class Library:
    """Convert a design with each distinct ``SharedComponent`` in it emitted once.

    Output is byte-identical for the same design: module names come from class and arguments, and
    no source location is written.

    Parameters
    ----------
    check_instances : bool
        Elaborate every instance and raise unless it equals the module emitted for its key. Slow.
    """

    def __init__(self, *, check_instances: bool = False):
        self.check_instances = check_instances
        self._reset("top")

    @property
    def instances(self) -> dict[str, int]:
        """How often each emitted module is instantiated by the text of the others."""
        return dict(self._count)

    @property
    def classes(self) -> dict[str, type]:
        """Class of each emitted module by name."""
        return {module.name: key[0] for key, module in self._modules.items()}

    @property
    def sources(self) -> str:
        """Hand-written modules that the last conversion instantiates."""
        return "\n".join(self._sources.values())

    def convert_verilog(self, top: Any, *, name: str = "top") -> str:
        """Verilog of ``top`` as module ``name`` with all that it instantiates."""
        text = self.convert_rtlil(top, name=name)
        back_end: Any = verilog
        generated = fold_next_states(back_end._convert_rtlil_text(text, strip_internal_attrs=True))
        return "\n".join(filter(None, (generated, self.sources)))

    def convert_rtlil(self, top: Any, *, name: str = "top", ports: Mapping[str, Any] = {}) -> str:
        """RTLIL of the same, without the hand-written modules, which are in ``sources``.

        ``ports`` maps names to pairs of signal and direction where ``top`` has no signature.
        """
        self._reset(name)
        with quick_netlist():
            emitted = self._emit(top, name, ports)
        self._boundary.finish()
        return emitted.text + "".join(module.text for module in self._modules.values())

    def is_emitting(self, component: Any) -> bool:
        """Say whether the body of ``component`` itself is wanted."""
        return self._emitting is component

    def instantiate(self, component: SharedComponent) -> Instance:
        """Instance of the module that stands for ``component``; called by its ``elaborate``."""
        _refuse_inserters(component)
        ports = signature_ports(component)
        if written := component.verilog_module():
            self._sources[written.name] = written.text
            self._count[written.name] = self._count.get(written.name, 0) + 1
            parameters = [("p", key, value) for key, value in written.parameters.items()]
            return Instance(
                written.name, *parameters, *_connect(ports), ("i", "clk", ClockSignal())
            )
        try:
            key, label = share_key(type(component), component.share_arguments())
        except TypeError as error:
            raise LibraryError(f"{type(component).__name__} cannot be shared: {error}") from None
        module = self._modules.get(key)
        if module is None:
            module = self._emit(component, self._unused_name(label))
            self._modules[key] = module
            self._count[module.name] = 0
        elif self.check_instances and self._emit(component, module.name).text != module.text:
            raise LibraryError(f"Two {label} with equal arguments elaborate differently")
        self._count[module.name] += 1
        clocks = [("i", port, value) for port, value in module.clocks.items()]
        return Instance(module.name, *_connect(ports), *clocks)

    def _reset(self, name: str) -> None:
        self._prefix = name
        self._modules: dict[Any, _Emitted] = {}
        self._sources: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._names = {name}
        self._emitting: Any = None
        self._boundary = BoundaryCheck()

    def _unused_name(self, label: str) -> str:
        base = f"{self._prefix}_{label}"
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return name

    @contextlib.contextmanager
    def _emission_of(self, component: Any) -> Iterator[None]:
        token, outer = _active.set(self), self._emitting
        self._emitting = component
        try:
            yield
        finally:
            self._emitting = outer
            _active.reset(token)

    def _emit(self, component: Any, name: str, ports: Mapping[str, Any] = {}) -> _Emitted:
        ports = dict(ports) or signature_ports(component)
        if isinstance(component, SharedComponent) and component.verilog_module():
            wrapper = Module()
            wrapper.submodules.module = component
            component = wrapper
        with self._emission_of(component):
            fragment = Fragment.get(component, None)
            design = fragment.prepare(ports, hierarchy=(name,))
        self._boundary.add(name, design)
        _drop_field_wires(design)
        text, _ = rtlil.convert_fragment(design, name=name, emit_src=False)
        text = EMPTY_WIRE.sub("", text)
        clocks: dict[str, Value] = {}
        port_names = {id(signal): port for port, signal, _ in design.ports if port not in ports}
        for domain in design.fragment.domains.values():
            if (port := port_names.get(id(domain.clk))) is not None:
                clocks[port] = ClockSignal(domain.name)
            elif not domain.local and self._prefix != name:
                raise LibraryError(f"{name}: clock domain {domain.name} must be local")
            if domain.rst is not None and (port := port_names.get(id(domain.rst))) is not None:
                clocks[port] = ResetSignal(domain.name, allow_reset_less=True)
        if self._prefix != name:
            text = text.replace("attribute \\top 1\n", "", 1)
        return _Emitted(name=name, text=text, clocks=clocks)


def signature_ports(component: Any) -> dict[str, tuple[Signal, PortDirection]]:
    """Verilog ports of ``component``: nested names are joined by ``__``, empty ones left out."""
    ports = {}
    for path, member, value in component.signature.flatten(component):
        value = Value.cast(value)
        if len(value) and not isinstance(value, Const):  # constant: a stream that is always valid
            inward = member.flow == wiring.In
            direction = PortDirection.Input if inward else PortDirection.Output
            ports["__".join(map(str, path))] = (value, direction)
    return ports


def _connect(ports: Mapping[str, tuple[Signal, PortDirection]]) -> list[tuple[str, str, Value]]:
    return [
        ("i" if direction is PortDirection.Input else "o", name, value)
        for name, (value, direction) in ports.items()
    ]


def _drop_field_wires(design: Any) -> None:
    """Write no wire for each field of a structure: they were two fifths of the text."""
    for signal in design.signal_lca:
        if isinstance(signal._format, (Format.Struct, Format.Array)):
            signal._format = Format("{}", signal)


def _refuse_inserters(component: SharedComponent) -> None:
    """Raise if an inserter encloses ``component``: it would not reach into the instance."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not Library._emit.__code__:
        for transform in getattr(frame.f_locals.get("self"), "_transforms_", ()):
            if isinstance(transform, (ResetInserter, EnableInserter)):
                raise LibraryError(
                    f"{type(transform).__name__} does not reach into {type(component).__name__}, "
                    f"which is shared: give it a port instead"
                )
        frame = frame.f_back
