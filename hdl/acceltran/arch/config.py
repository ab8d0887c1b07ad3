"""Configuration of one accelerator: grouped, frozen, and checked in one place."""

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from acceltran.arch.fixed_point import FixedPoint

__all__ = [
    "AcceleratorConfig",
    "Array",
    "Buffers",
    "ConfigError",
    "Datapath",
    "Limits",
    "Memory",
    "override",
]


class ConfigError(ValueError):
    """A configuration breaks a rule; the message names the value and the rule."""


MOST_STREAMS = 32


def _is_power_of_two(x: int) -> bool:
    return x >= 1 and x & (x - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Array:
    """How many processing elements, and how they are grouped."""

    pes: int = 1
    """Processing elements of the machine."""
    lanes: int = 4
    """MAC lanes per PE."""
    pes_per_cluster: int = 1
    """PEs that share rows and work in lockstep; column block j belongs to PE j mod this."""
    softmax_units: int = 1
    """Softmax units per PE."""
    softmax_width: int = 4
    """Values that a softmax or layer-norm unit takes per cycle and pass."""

    @property
    def clusters(self) -> int:
        """Clusters of the machine."""
        return self.pes // self.pes_per_cluster


@dataclass(frozen=True, kw_only=True)
class Datapath:
    """Number format, vector size and lane organisation."""

    multipliers: int = 16
    """Multipliers per lane: less than ``tile`` work on part of a vector, more on several."""
    tile: int = 16
    """Elements of a vector."""
    int_bits: int = 4
    """Integer bits of an element, sign included."""
    frac_bits: int = 16
    """Fraction bits of an element."""
    lane: str = "broadcast"
    """``broadcast`` (skips zero activations) or ``dot`` (the paper's adder-tree lane)."""
    weight_window: int = 0
    """Scalars among which a multiplier looks for its next effectual weight; 0 is off."""
    partial_sums: int = 64
    """Rows whose unfinished sums a lane holds."""
    tile_rows: int = 256
    """Rows of a lane's tile RAM; a tile takes half of them."""

    @property
    def fmt(self) -> FixedPoint:
        """Format of activations and weights."""
        return FixedPoint(int_bits=self.int_bits, frac_bits=self.frac_bits)


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """On-chip buffers of the whole machine."""

    activation_kib: int = 1024
    """Activation values, KiB."""
    weight_kib: int = 1024
    """Weight values, KiB."""
    mask_kib: int = 128
    """Keep bits of both, KiB."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Off-chip memory ports."""

    axi_data_bits: int = 128
    """Width of an AXI4 data bus."""
    axi_masters: int = 1
    """AXI4 masters."""

    @property
    def axi_prefixes(self) -> tuple[str, ...]:
        """What the ports of each master begin with."""
        if self.axi_masters == 1:
            return ("m_axi_",)
        return tuple(f"m_axi{n}_" for n in range(self.axi_masters))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest job that the address fields and sums are sized for."""

    inner: int = 1024
    """Longest sum of products (inner dimension, padded to whole vectors)."""
    sequence: int = 512
    """Longest sequence."""
    hidden: int = 512
    """Largest hidden size."""


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """One machine. Every rule that a legal machine keeps is checked here, with its own message."""

    array: Array = field(default_factory=Array)
    datapath: Datapath = field(default_factory=Datapath)
    buffers: Buffers = field(default_factory=Buffers)
    memory: Memory = field(default_factory=Memory)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, low, high in RANGES:
            value = _get(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be from {low} to {high}, not {value}")
        for name, choices in CHOICES.items():
            value = _get(self, name)
            if value not in choices:
                listed = ", ".join(str(choice) for choice in choices)
                raise ConfigError(f"{name} must be one of {listed}, not {value}")
        for name in POWERS_OF_TWO:
            if not _is_power_of_two(_get(self, name)):
                raise ConfigError(f"{name} must be a power of two, not {_get(self, name)}")
        array, datapath = self.array, self.datapath
        if array.pes % array.pes_per_cluster:
            raise ConfigError(
                f"array.pes must be a multiple of array.pes_per_cluster ({array.pes_per_cluster}),"
                f" not {array.pes}"
            )
        if datapath.tile % datapath.multipliers and datapath.multipliers % datapath.tile:
            raise ConfigError(
                f"datapath.multipliers must divide datapath.tile ({datapath.tile}) or be a"
                f" multiple of it, not {datapath.multipliers}"
            )
        plain = datapath.lane == "broadcast" and not datapath.weight_window
        if datapath.multipliers < datapath.tile and not plain:
            raise ConfigError(
                f"datapath.multipliers must be at least datapath.tile ({datapath.tile}) unless"
                f" datapath.lane is broadcast without a weight_window, not {datapath.multipliers}"
            )
        if datapath.weight_window and datapath.lane != "broadcast":
            raise ConfigError(
                "datapath.weight_window must be 0 unless datapath.lane is broadcast,"
                f" not {datapath.weight_window}"
            )
        if datapath.tile % array.softmax_width:
            raise ConfigError(
                f"array.softmax_width must divide datapath.tile ({datapath.tile}),"
                f" not {array.softmax_width}"
            )
        if datapath.tile_rows < 2 * datapath.tile:
            raise ConfigError(
                "datapath.tile_rows must hold two tiles of one vector"
                f" ({2 * datapath.tile} rows), not {datapath.tile_rows}"
            )
        for name in ("inner", "sequence", "hidden"):
            value = getattr(self.limits, name)
            if value % datapath.tile:
                raise ConfigError(
                    f"limits.{name} must be a multiple of datapath.tile ({datapath.tile}),"
                    f" not {value}"
                )
        for name in ("sequence", "hidden"):
            if getattr(self.limits, name) > self.limits.inner:
                raise ConfigError(
                    f"limits.{name} must be at most limits.inner ({self.limits.inner}),"
                    f" not {getattr(self.limits, name)}"
                )
        if self.buffers.mask_kib < self.mask_kib_needed:
            raise ConfigError(
                "buffers.mask_kib must hold one keep bit per activation and weight value"
                f" ({self.mask_kib_needed} KiB), not {self.buffers.mask_kib}"
            )

    @property
    def fmt(self) -> FixedPoint:
        """Format of activations and weights."""
        return self.datapath.fmt

    @property
    def vector_bits(self) -> int:
        """Bits of the values of one vector."""
        return self.datapath.tile * self.fmt.width

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector in DRAM: padded to whole 8 bytes."""
        return -(-self.vector_bits // 64) * 8

    @property
    def activation_vectors(self) -> int:
        """Vectors that the activation buffer holds, the same in each bank."""
        banks = self.activation_banks * self.array.clusters
        return self.buffers.activation_kib * 8192 // (self.vector_bits * banks) * banks

    @property
    def activation_banks(self) -> int:
        """Banks of a cluster's activation buffer: two for each PE, as streams read more than PEs
        write.
        """
        return 2 * self.array.pes_per_cluster

    @property
    def cluster_vectors(self) -> int:
        """Vectors that the activation buffer of a cluster holds."""
        return self.activation_vectors // self.array.clusters

    @property
    def cluster_address_bits(self) -> int:
        """Bits of an address in a cluster's activation buffer; the bits above are the cluster."""
        return (self.cluster_vectors - 1).bit_length()

    @property
    def tile_ports(self) -> int:
        """Vectors of tiles that a PE takes per cycle. Clusters that share the machine have few rows
        each to use a tile for, and load at twice the rate.
        """
        return 2 if self.array.clusters > 1 and self.lanes % 2 == 0 else 1

    @property
    def weight_vectors(self) -> int:
        """Vectors that the weight buffer holds, the same in each bank."""
        banks = self.weight_banks
        return self.buffers.weight_kib * 8192 // (self.vector_bits * banks) * banks

    @property
    def softmax_ports(self) -> int:
        """Vectors that softmax reads and writes per cycle in a cluster: two, if its units can and
        there are several clusters, which have few heads at a time to hide softmax behind.
        """
        array = self.array
        units = array.softmax_units * array.pes_per_cluster
        twice = units % 2 == 0 and units * array.softmax_width >= 2 * self.datapath.tile
        return 2 if twice and array.clusters > 1 else 1

    @property
    def norm_width(self) -> int:
        """Values of a cluster that layer norm takes per cycle and pass: as many as softmax does,
        or the largest part of a vector.
        """
        array = self.array
        values = array.softmax_width * array.softmax_units * array.pes_per_cluster
        return min(self.datapath.tile, 1 << values.bit_length() - 1)

    @property
    def weight_banks(self) -> int:
        """Banks of the weight buffer: one for each tile port of a cluster's PEs."""
        return self.array.pes_per_cluster * self.tile_ports

    @property
    def mask_kib_needed(self) -> int:
        """KiB that one keep bit per activation and weight value takes."""
        return -(-(self.activation_vectors + self.weight_vectors) * self.datapath.tile // 8192)

    @property
    def lanes(self) -> int:
        """Lanes of a PE that work on a vector: one of more multipliers counts as several."""
        return self.array.lanes * self.datapath.multipliers // self.lane_multipliers

    @property
    def lane_multipliers(self) -> int:
        """Multipliers of each of these: one for each element of a vector, or a part of them."""
        return min(self.datapath.multipliers, self.datapath.tile)

    @property
    def streams(self) -> int:
        """Row streamers of a cluster: the largest power of two that divides the lanes of a PE."""
        return min(self.lanes & -self.lanes, MOST_STREAMS)

    @property
    def multipliers(self) -> int:
        """Multipliers of all lanes together."""
        return self.array.pes * self.array.lanes * self.datapath.multipliers

    def replace(self, **fields: Any) -> "AcceleratorConfig":
        """Copy with ``group_field=value``-style nested changes: ``replace(array={"lanes": 8})``."""
        groups = {
            group: dataclasses.replace(getattr(self, group), **changes)
            for group, changes in fields.items()
        }
        return dataclasses.replace(self, **groups)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Nested plain values, for JSON."""
        return dataclasses.asdict(self)


RANGES = (
    ("array.pes", 1, 1024),
    ("array.lanes", 1, 128),
    ("array.pes_per_cluster", 1, 16),
    ("array.softmax_units", 1, 64),
    ("array.softmax_width", 1, 32),
    ("datapath.multipliers", 1, 32),
    ("datapath.tile", 8, 32),
    ("datapath.partial_sums", 4, 256),
    ("datapath.tile_rows", 16, 1024),
    ("buffers.activation_kib", 16, 65536),
    ("buffers.weight_kib", 16, 131072),
    ("buffers.mask_kib", 1, 16384),
    ("memory.axi_data_bits", 64, 1024),
    ("memory.axi_masters", 1, 8),
    ("limits.inner", 16, 4096),
    ("limits.sequence", 16, 1024),
    ("limits.hidden", 16, 1024),
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "datapath.int_bits": (4,),
    "datapath.frac_bits": (8, 12, 16),
    "datapath.lane": ("broadcast", "dot"),
    "datapath.weight_window": (0, 8, 16),
}
POWERS_OF_TWO = (
    "array.pes_per_cluster",
    "array.softmax_width",
    "datapath.multipliers",
    "datapath.tile",
    "datapath.partial_sums",
    "datapath.tile_rows",
    "memory.axi_data_bits",
    "memory.axi_masters",
)


def _get(config: AcceleratorConfig, name: str) -> Any:
    group, key = name.split(".")
    return getattr(getattr(config, group), key)


def field_names() -> list[str]:
    """Every field as ``group.field``."""
    return [
        f"{group.name}.{key.name}"
        for group in dataclasses.fields(AcceleratorConfig)
        for key in dataclasses.fields(getattr(AcceleratorConfig(), group.name))
    ]


def override(config: AcceleratorConfig, settings: dict[str, str]) -> AcceleratorConfig:
    """Copy of ``config`` with ``group.field`` settings given as text, as on a command line.

    A mask buffer that is not set grows with the number of values that the settings ask for.
    """
    changes: dict[str, dict[str, Any]] = {}
    for name, text in settings.items():
        if name not in field_names():
            nearest = difflib.get_close_matches(name, field_names(), n=1, cutoff=0)[0]
            raise ConfigError(f"{name} is not a configuration field; the nearest is {nearest}")
        group, key = name.split(".")
        value: Any = text
        if isinstance(_get(config, name), int):
            try:
                value = int(text)
            except ValueError:
                raise ConfigError(f"{name} must be an integer, not {text!r}") from None
        changes.setdefault(group, {})[key] = value
    buffers = changes.setdefault("buffers", {})
    if "mask_kib" not in buffers:
        largest_mask = next(high for name, _, high in RANGES if name == "buffers.mask_kib")
        unbounded = config.replace(**{**changes, "buffers": {**buffers, "mask_kib": largest_mask}})
        buffers["mask_kib"] = max(config.buffers.mask_kib, unbounded.mask_kib_needed)
    return config.replace(**changes)
