"""Count what generated Verilog holds: instances, memory bits, multipliers."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["summarise"]

MODULE = re.compile(r"^module (\S+?)\s*\(", re.M)
INSTANCE = re.compile(
    r"^  (acceltran\w*) (?:#\((?P<parameters>[^;]*?)\n  \) )?(?P<name>\S+) \($", re.M
)
PARAMETER = re.compile(r"\.(\w+)\(32'd(\d+)\)")
MULTIPLICATION = re.compile(r" \* ")
RAM = "acceltran_ram"


@dataclass
class _Module:
    children: Counter[str] = field(default_factory=Counter)
    memories: list[int] = field(default_factory=list)  # bits of each
    multipliers: int = 0


def summarise(verilog: str, top: str) -> dict[str, Any]:
    """Totals of the hierarchy below ``top``.

    Returns
    -------
    dict
        ``modules``: how often each module is instantiated in the whole design, ``memory_bits`` and
        ``memories`` (count) of ``acceltran_ram``, ``multipliers`` (multiplication operators).
    """
    starts = list(MODULE.finditer(verilog))
    modules: dict[str, _Module] = {}
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        text = verilog[start.end() : following.start() if following else len(verilog)]
        module = _Module(multipliers=len(MULTIPLICATION.findall(text)))
        for instance in INSTANCE.finditer(text):
            if instance[1] == RAM:
                sizes = {k: int(v) for k, v in PARAMETER.findall(instance["parameters"])}
                module.memories.append(sizes["WIDTH"] * sizes["DEPTH"])
            else:
                module.children[instance[1]] += 1
        modules[start[1]] = module

    totals: Counter[str] = Counter()

    def visit(name: str, count: int) -> None:
        totals[name] += count
        for child, number in modules[name].children.items():
            visit(child, count * number)

    visit(top, 1)
    return {
        "modules": dict(sorted(totals.items())),
        "memories": sum(n * len(modules[name].memories) for name, n in totals.items()),
        "memory_bits": sum(n * sum(modules[name].memories) for name, n in totals.items()),
        "multipliers": sum(n * modules[name].multipliers for name, n in totals.items()),
    }
