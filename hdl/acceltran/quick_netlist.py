"""Amaranth's netlist, faster: it has an object for each bit, and checks each of them many times."""

import contextlib
import gc
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any
from unittest.mock import patch

from amaranth.back import rtlil  # type: ignore[attr-defined]  # missing from the stubs
from amaranth.hdl import Format, Value, _ir, _nir  # type: ignore[attr-defined]
from amaranth.hdl._ast import SignalDict
from amaranth.lib import data

__all__ = ["quick_netlist"]

COMBINATIONAL = (
    *(_nir.Operator, _nir.Part, _nir.Matches, _nir.PriorityMatch, _nir.AssignmentList),
    *(_nir.AsyncReadPort, _nir.FlipFlop, _nir.IOBuffer),
)
"""Cells from whose inputs there may be a path to their outputs; of a register, from its clock."""
LAYOUTS = (data.Layout, data.ArrayLayout)
BIT_BITS = 20
"""Of the number of a net, for the place in its cell: 16 are not enough for the widest buses."""
CONSTANTS = (_nir.Net(0), _nir.Net(1))

_emit_module = rtlil.ModuleEmitter.emit
_connect_every_net = _ir.NetlistEmitter.connect
_check_every_net = _nir.Netlist.check_comb_cycles  # type: ignore[attr-defined]
_flows_of_all_modules = _ir._compute_net_flows  # type: ignore[attr-defined]


@contextlib.contextmanager
def quick_netlist() -> Iterator[None]:
    """Convert designs with the same result and the same errors, in half the time.

    No garbage is collected meanwhile: there are many objects, and most live until the end. What
    one conversion leaves is collected by the next.
    """
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        with contextlib.ExitStack() as patches:
            for owner, name, quick in QUICK:
                patches.enter_context(patch.object(owner, name, quick))
            yield
    finally:
        if collecting:
            # What was made is not all looked at when the next object is.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def _net(cell: int, bit: int) -> Any:
    if bit >> BIT_BITS:
        raise ValueError(f"A cell must have at most {1 << BIT_BITS} bits")
    return _nir.Net(cell << BIT_BITS | bit)


def _cell(self: Any) -> int:
    return self >> BIT_BITS


def _bit(self: Any) -> int:
    return self & (1 << BIT_BITS) - 1


def _value(cls: Any, nets: Iterable[Any] = ()) -> Any:
    if type(nets) is cls:
        return nets
    return tuple.__new__(cls, (nets,) if isinstance(nets, _nir.Net) else nets)


def _item(self: Any, index: Any) -> Any:
    found = tuple.__getitem__(self, index)
    return tuple.__new__(_nir.Value, found) if isinstance(index, slice) else found


def _add_value_cell(self: Any, width: int, cell: Any) -> Any:
    first = self.add_cell(cell) << BIT_BITS
    if width:
        _net(0, width - 1)
    return _value(_nir.Value, map(_nir.Net, range(first, first + width)))


def _alloc_late_value(self: Any, signal: Any) -> Any:
    first = self.last_late_net - len(signal)
    value = _value(_nir.Value, map(_nir.Net, range(first, self.last_late_net)))
    self.last_late_net = first
    return value


def _emit_signal(self: Any, signal: Any) -> Any:
    signals = self.netlist.signals
    if signal not in signals:
        signals[signal] = self.netlist.alloc_late_value(signal)
    return signals[signal]


def _connect(self: Any, lhs: Any, rhs: Any, *, src_loc: Any) -> None:
    if not self.netlist.connections.keys().isdisjoint(lhs):  # two drivers
        self.late_net_to_signal = _names(self.netlist)
        _connect_every_net(self, lhs, rhs, src_loc=src_loc)
    self.netlist.connections.update(zip(lhs, rhs, strict=True))
    self.connect_src_loc.update(dict.fromkeys(lhs, src_loc))


def _names(netlist: Any) -> dict[Any, Any]:
    """Signal and place in it of each net that stands for a bit of a signal, for complaints."""
    signals = netlist.signals.items()
    return {net: (signal, bit) for signal, value in signals for bit, net in enumerate(value)}


def _resolve_value(self: Any, value: Any) -> Any:
    if not value or min(value) >= 0:
        return value
    known = vars(self).setdefault("resolved", {})
    if id(value) not in known:
        connections = self.connections
        nets = [connections[net] if net < 0 else net for net in value]
        known[id(value)] = value, _value(_nir.Value, nets)  # with `value`, which keeps its number
    return known[id(value)][1]


def _find_drivers(connections: dict[Any, Any]) -> None:
    """Connect each net that stands for a bit of a signal to its driver, with none in between."""
    for start, net in connections.items():
        passed = [start]
        while net < 0:
            passed.append(net)
            if len(passed) > len(connections):
                raise _Circle
            net = connections[net]
        for before in passed:
            connections[before] = net


def _check_comb_cycles(self: Any) -> None:
    """Look at whole cells; at the single bits only if there is a cycle of cells."""
    try:
        _find_drivers(self.connections)
        left = _cells_in_cycles(self)
        if not left or not _has_cycle(self, left):
            return
    except _Circle:
        pass
    self.late_to_signal = _names(self)
    _check_every_net(self)


class _Circle(Exception):
    """A signal is driven by itself, without a cell in between."""


def _cells_in_cycles(self: Any) -> set[int]:
    """Cells that are part of a cycle of cells, and those behind them."""
    connections = self.connections
    followers: dict[int, list[int]] = {}
    waits_for: dict[int, int] = {}
    for number, cell in enumerate(self.cells):
        if isinstance(cell, COMBINATIONAL):
            nets: Any = cell.input_nets()
            if isinstance(cell, _nir.FlipFlop):
                register: Any = cell
                nets = (register.clk, register.arst)
            sources = {(connections[net] if net < 0 else net) >> BIT_BITS for net in nets}
            waits_for[number] = len(sources)
            for source in sources:
                followers.setdefault(source, []).append(number)
    passed = [number for number in range(len(self.cells)) if not waits_for.get(number)]
    for number in passed:  # grows
        for follower in followers.get(number, ()):
            waits_for[follower] -= 1
            if not waits_for[follower]:
                passed.append(follower)
    return {number for number, count in waits_for.items() if count}


def _has_cycle(netlist: Any, cells: set[int]) -> bool:
    """Say whether there is a cycle of bits among ``cells``."""

    def sources(net: Any) -> Iterator[Any]:
        for source, _ in netlist.cells[net.cell].comb_edges_to(net.bit):
            source = netlist.connections.get(source, source)
            if source > 1 and source >> BIT_BITS in cells:
                yield source

    done: set[Any] = set()
    for number in cells:
        for start in netlist.cells[number].output_nets(number):
            if start in done:
                continue
            busy = {start}
            way = [(start, sources(start))]
            while way:
                net, rest = way[-1]
                for source in rest:
                    if source in busy:
                        return True
                    if source not in done:
                        busy.add(source)
                        way.append((source, sources(source)))
                        break
                else:
                    busy.remove(net)
                    done.add(net)
                    way.pop()
    return False


def _compute_net_flows(netlist: Any) -> None:
    """Nets cross no boundary where there is one module; most shared components are one."""
    if len(netlist.modules) > 1:
        _flows_of_all_modules(netlist)


def _emit(self: Any) -> None:
    """Write no wire for a signal that is the same as another, as of streams that are connected.

    Then let go of the netlist, which only the collector could free otherwise.
    """
    module, signals = self.module, self.netlist.signals
    known = {()}
    names = SignalDict()
    for signal, name in module.signal_names.items():
        value = signals[signal]
        if name in module.ports:
            names[signal] = name
        elif value not in known:
            known.add(value)
            names[signal] = name
    module.signal_names = names
    _emit_module(self)
    vars(self).clear()


def _emit_driven_wire(self: Any, value: Any) -> Any:
    """Wire for a value that is about to be driven: that of a signal, or one without a name."""
    if (name := self.value_names.get(value)) is not None:
        wire, _ = self.sigport_wires[name]
        self.driven_sigports.add(name)
    else:
        wire = self.builder.wire(len(value), attrs=self.value_attrs.get(value, {}))
    self.nets.update(zip(value, zip(repeat(wire), range(len(value)), strict=False), strict=True))
    return wire


def _sigspec(self: Any, *parts: Any) -> str:
    """RTLIL of a value: slices of wires, and constants."""
    nets = self.nets
    value: list[Any] = []
    for part in parts:
        value.extend((part,) if isinstance(part, int) else part)
    chunks = []
    first = 0
    while first < len(value):
        end = first
        if value[first] < 2:
            while end < len(value) and value[end] < 2:
                end += 1
            bits = "".join(map(str, map(int, value[end - 1 : first - 1 if first else None : -1])))
            chunks.append(f"{end - first}'{bits}")
        else:
            wire, bit = nets[value[first]]
            place = bit
            while end < len(value) and value[end] > 1 and nets[value[end]] == (wire, place):
                end += 1
                place += 1
            chunks.append(f"{wire.name} [{bit if place == bit + 1 else f'{place - 1}:{bit}'}]")
        first = end
    return chunks[0] if len(chunks) == 1 else f"{{ {' '.join(reversed(chunks))} }}"


def _format(self: Any, value: Any, spec: str) -> Any:
    """How to print a signal: as a number, instead of field by field."""
    return Format("{}", Value.cast(value))


QUICK: tuple[tuple[Any, str, Any], ...] = (
    (_nir.Net, "from_cell", staticmethod(_net)),
    (_nir.Net, "cell", property(_cell)),
    (_nir.Net, "bit", property(_bit)),
    (_nir.Net, "from_const", staticmethod(CONSTANTS.__getitem__)),
    (_nir.Value, "__new__", _value),
    (_nir.Value, "__getitem__", _item),
    (_nir.Netlist, "add_value_cell", _add_value_cell),
    (_nir.Netlist, "alloc_late_value", _alloc_late_value),
    (_nir.Netlist, "resolve_value", _resolve_value),
    (_nir.Netlist, "check_comb_cycles", _check_comb_cycles),
    (_ir.NetlistEmitter, "emit_signal", _emit_signal),
    (_ir.NetlistEmitter, "connect", _connect),
    (_ir, "_compute_net_flows", _compute_net_flows),
    (rtlil.ModuleEmitter, "emit", _emit),
    (rtlil.ModuleEmitter, "emit_driven_wire", _emit_driven_wire),
    (rtlil.ModuleEmitter, "sigspec", _sigspec),
    *((layout, "format", _format) for layout in LAYOUTS),
)
"""What to replace, and by what."""
