"""Describe what generated Verilog holds: instances, memories, multiplications."""

import re
from collections import Counter
from dataclasses import dataclass, field
from string import digits
from typing import Any

__all__ = ["RAM", "summarise"]

RAM = "acceltran_ram"
MODULE = re.compile(r"^module (\S+?)\s*[(#]", re.M)
INSTANCE = re.compile(
    r"^  (?P<module>acceltran\w*) (?:#\((?P<parameters>[^;]*?)\n  \) )?\\?(?P<name>\S+) +\($", re.M
)
PARAMETER = re.compile(r"\.(\w+)\(32'd(\d+)\)")
MULTIPLICATION = re.compile(r" <?= (.+) \* (.+);$", re.M)
CONSTANT = re.compile(r"(?:\$signed\()?\d+'s?[bdh][0-9a-f_]+\)?")


@dataclass(frozen=True)
class _Instance:
    name: str
    module: str
    sizes: tuple[int, int] | None
    """Width and depth of a memory."""


@dataclass
class _Module:
    instances: list[_Instance] = field(default_factory=list)
    multiplications: int = 0


def summarise(verilog: str, top: str) -> dict[str, Any]:
    """Describe the hierarchy below ``top``.

    Returns
    -------
    dict
        ``instances``: module of each instance by path, like instances as one:
        ``core.cluster.pe[0-1].lane[0-3]``. ``modules``: how often each module is there.
        ``memories``: width, depth and count of the instances of ``acceltran_ram`` by path.
        ``memory_count``, ``memory_bits`` and ``multiplications`` (of two variables): totals.
    """
    modules = _parse(verilog)
    counts: Counter[str] = Counter()
    instances: dict[str, str] = {}
    memories: dict[str, dict[str, int]] = {}

    def visit(name: str, count: int, path: str) -> None:
        counts[name] += count
        for label, instance, number in _groups(modules[name].instances):
            inner = f"{path}{label}"
            if instance.sizes:
                width, depth = instance.sizes
                memories[inner] = {"width": width, "depth": depth, "count": count * number}
                counts[RAM] += count * number
            else:
                instances[inner] = instance.module
                visit(instance.module, count * number, f"{inner}.")

    visit(top, 1, "")
    return {
        "instances": instances,
        "modules": dict(sorted(counts.items())),
        "memories": memories,
        "memory_count": counts[RAM],
        "memory_bits": sum(m["width"] * m["depth"] * m["count"] for m in memories.values()),
        "multiplications": sum(
            count * modules[name].multiplications for name, count in counts.items() if name != RAM
        ),
    }


def _parse(verilog: str) -> dict[str, _Module]:
    starts = list(MODULE.finditer(verilog))
    ends = [start.start() for start in starts[1:]] + [len(verilog)]
    texts = {start[1]: verilog[start.end() : end] for start, end in zip(starts, ends, strict=True)}
    modules = {}
    for name, text in texts.items():
        module = modules[name] = _Module()
        for factors in MULTIPLICATION.finditer(text):
            module.multiplications += not any(map(CONSTANT.fullmatch, factors.groups()))
        for found in INSTANCE.finditer(text):
            if found["module"] not in texts:
                raise ValueError(f"Module {found['module']} must be defined")
            sizes = None
            if found["module"] == RAM:
                values = dict(PARAMETER.findall(found["parameters"]))
                sizes = int(values["WIDTH"]), int(values["DEPTH"])
            instance = _Instance(found["name"], found["module"], sizes)
            module.instances.append(instance)
    return modules


def _groups(instances: list[_Instance]) -> list[tuple[str, _Instance, int]]:
    """Instances that differ in the number that ends their names as one, and how many they are."""
    groups: dict[tuple[str, str, Any], list[_Instance]] = {}
    for instance in instances:
        stem = instance.name.rstrip(digits)
        groups.setdefault((stem, instance.module, instance.sizes), []).append(instance)
    labelled = []
    for (stem, _, _), members in groups.items():
        label = members[0].name
        if len(members) > 1:
            numbers = sorted(int(member.name[len(stem) :]) for member in members)
            label = f"{stem}[{_ranges(numbers)}]"
        labelled.append((label, members[0], len(members)))
    return labelled


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as in ``0-3,5``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ",".join("-".join(map(str, ends)) for ends in ranges)
