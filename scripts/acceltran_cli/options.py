"""Options that several commands share, and types whose complaints are one sentence."""

import difflib
from collections.abc import Callable
from typing import Any

import click

from acceltran.arch.config import AcceleratorConfig, override
from acceltran.arch.presets import DESCRIPTIONS, preset
from acceltran_sim.errors import InputError

__all__ = [
    "Choice",
    "Integer",
    "Real",
    "choose_config",
    "control_options",
    "inputs_option",
    "memory_latency_option",
    "model_options",
    "nearest",
    "parameter_name",
    "preset_option",
    "pruning_options",
    "rtl_options",
    "set_option",
]


def parameter_name(param: click.Parameter | None) -> str:
    """Name of a parameter as its user writes it."""
    if param is None:
        return "A value"
    if isinstance(param, click.Argument):
        return str(param.name).upper()
    return max(param.opts, key=len)


class Choice(click.ParamType):
    """One of a few words."""

    name = "choice"

    def __init__(self, *choices: str):
        self.choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``value`` if it is one of the words."""
        if value not in self.choices:
            known = ", ".join(self.choices)
            raise InputError(f"{parameter_name(param)} must be one of {known}, not {value}")
        return value


class Integer(click.ParamType):
    """An integer from ``low`` to ``high``."""

    name = "integer"

    def __init__(self, low: int | None = None, high: int | None = None):
        self.low = low
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer that ``value`` reads as."""
        name = parameter_name(param)
        try:
            number = int(value)
        except ValueError:
            raise InputError(f"{name} must be an integer, not {value!r}") from None
        _check_range(name, number, self.low, self.high)
        return number


class Real(click.ParamType):
    """A number from ``low`` to ``high``."""

    name = "number"

    def __init__(self, low: float | None = None, high: float | None = None):
        self.low = low
        self.high = high

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number that ``value`` reads as."""
        name = parameter_name(param)
        try:
            number = float(value)
        except ValueError:
            raise InputError(f"{name} must be a number, not {value!r}") from None
        _check_range(name, number, self.low, self.high)
        return number


def _check_range(name: str, number: float, low: float | None, high: float | None) -> None:
    if low is not None and high is not None and not low <= number <= high:
        raise InputError(f"{name} must be from {low} to {high}, not {number}")


def choose_config(name: str, settings: tuple[str, ...]) -> AcceleratorConfig:
    """Preset ``name`` with ``group.field=value`` settings."""
    values: dict[str, str] = {}
    for setting in settings:
        field, sign, value = setting.partition("=")
        if not (field and sign):
            raise InputError(f"--set must be group.field=value, not {setting!r}")
        if field in values:
            raise InputError(f"--set must set {field} once, not to {values[field]} and {value}")
        values[field] = value
    return override(preset(name), values)


def nearest(word: str, known: list[str]) -> str:
    """Of ``known``, the one most alike ``word``."""
    return difflib.get_close_matches(word, known, n=1, cutoff=0)[0]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _together(*decorators: Decorator) -> Decorator:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


set_option = click.option(
    "--set",
    "settings",
    metavar="GROUP.FIELD=VALUE",
    multiple=True,
    help="Change a field of the preset; may be repeated. Fields: acceltran presets.",
)


def preset_option(**attributes: Any) -> Decorator:
    """``--preset``, mandatory or with a default."""
    return click.option(
        "--preset",
        "preset_name",
        metavar="PRESET",
        help=f"Machine: {', '.join(DESCRIPTIONS)}.",
        **attributes,
    )


inputs_option = click.option(
    "--inputs", metavar="X.npz", required=True, help="Input: hidden and, optionally, lengths."
)

memory_latency_option = click.option(
    "--memory-latency",
    default=20,
    type=Integer(1, 10000),
    metavar="L",
    help="Cycles from an address to its data in DRAM; default: 20.",
)

model_options = _together(
    click.option(
        "--calibration",
        metavar="C.npz",
        help="Input that scales are chosen from, laid out as X.npz; default: X.npz itself.",
    ),
    click.option("--layers", type=Integer(), metavar="N", help="Stop after N layers."),
    click.option(
        "--order",
        default="bijk",
        metavar="ORDER",
        help="Tile loops of all products, outermost first: b batch, i rows, j columns, k inner"
        " dimension; default: bijk.",
    ),
)

resident_option = click.option(
    "--resident",
    is_flag=True,
    help="Weights, input and output stay in the buffers: a first job loads them and a last one"
    " stores the result, and only the one between them counts.",
)

pruning_options = _together(
    click.option(
        "--threshold",
        type=Real(),
        metavar="T",
        help="DynaTran: zero activations below T, in real units; default: 0, nothing.",
    ),
    click.option(
        "--sparsity",
        type=Real(),
        metavar="R",
        help="Instead of a threshold: zero the part R of each tensor, 0 <= R < 1.",
    ),
)

control_options = _together(
    click.option(
        "--closed-loop",
        is_flag=True,
        help="With --sparsity: the machine finds the thresholds. Each batch element is a job of its"
        " own, after which every threshold moves towards the sparsity.",
    ),
    click.option(
        "--open-loop",
        is_flag=True,
        help="With --sparsity: jobs as with --closed-loop, thresholds from the curves alone.",
    ),
    click.option(
        "--curves",
        metavar="CURVES.json",
        help="With --closed-loop or --open-loop: what acceltran profile wrote; default: curves"
        " fitted to the calibration.",
    ),
)

rtl_options = _together(
    click.option(
        "--seed",
        type=Integer(0, (1 << 63) - 1),
        default=0,
        metavar="N",
        help="Of stalls and of what memories hold at power-up (rtl); default: 0.",
    ),
    click.option(
        "--stall",
        type=Real(0, 0.9),
        default=0.0,
        metavar="P",
        help="Stall AXI channels at random with probability P, 0 to 0.9 (rtl); default: 0.",
    ),
)
