"""`acceltran presets`: named machines, and the fields that make a machine."""

import ast
import dataclasses
import inspect
import json
from typing import Any

import click

from acceltran.arch import config as config_module
from acceltran.arch.config import CHOICES, POWERS_OF_TWO, RANGES, AcceleratorConfig, field_names
from acceltran.arch.presets import DESCRIPTIONS, PRESETS

__all__ = ["presets"]


@click.command(short_help="List presets, fields, ranges and limits.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def presets(as_json: bool) -> None:
    """List the machines that can be named, and the fields that --set changes."""
    fields = {name: _field(name) for name in field_names()}
    if as_json:
        machines = {
            name: {
                "description": DESCRIPTIONS[name],
                "config": machine.as_dict(),
                **_totals(machine),
            }
            for name, machine in PRESETS.items()
        }
        click.echo(json.dumps({"presets": machines, "fields": fields}, indent=2))
        return
    for name, text in DESCRIPTIONS.items():
        click.echo(f"{name:<8} {text}")
    width = max(len(name) for name in fields)
    click.echo(f"\n{'field':<{width}} " + "".join(f"{name:>10}" for name in PRESETS) + "  values")
    for name, field in fields.items():
        group, key = name.split(".")
        values = [getattr(getattr(machine, group), key) for machine in PRESETS.values()]
        cells = "".join(f"{value:>10}" for value in values)
        click.echo(f"{name:<{width}} {cells}  {_values(field)}")
    for total in _totals(PRESETS["tiny"]):
        cells = "".join(f"{_totals(machine)[total]:>10}" for machine in PRESETS.values())
        click.echo(f"{total:<{width}} {cells}  derived")
    click.echo()
    for name, field in fields.items():
        click.echo(f"{name:<{width}} {field['description']}")


def _totals(machine: AcceleratorConfig) -> dict[str, int]:
    return {
        "clusters": machine.array.clusters,
        "multipliers": machine.multipliers,
        "activation_vectors": machine.activation_vectors,
        "weight_vectors": machine.weight_vectors,
    }


def _field(name: str) -> dict[str, Any]:
    group, key = name.split(".")
    default = getattr(getattr(AcceleratorConfig(), group), key)
    content: dict[str, Any] = {"description": _descriptions()[name], "default": default}
    for ranged, low, high in RANGES:
        if ranged == name:
            content |= {"lowest": low, "highest": high}
    if name in CHOICES:
        content["choices"] = list(CHOICES[name])
    if name in POWERS_OF_TWO:
        content["power_of_two"] = True
    return content


def _values(field: dict[str, Any]) -> str:
    if "choices" in field:
        return " or ".join(str(choice) for choice in field["choices"])
    text = f"{field['lowest']} to {field['highest']}"
    return f"{text}, a power of two" if "power_of_two" in field else text


def _descriptions() -> dict[str, str]:
    """Docstring under each field of the configuration."""
    groups = {
        group.default_factory.__name__: group.name  # type: ignore[union-attr]
        for group in dataclasses.fields(AcceleratorConfig)
    }
    texts = {}
    for node in ast.parse(inspect.getsource(config_module)).body:
        if isinstance(node, ast.ClassDef) and node.name in groups:
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    key = ast.unparse(field.target)
                    texts[f"{groups[node.name]}.{key}"] = ast.literal_eval(text.value)
    return texts
