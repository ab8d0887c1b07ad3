"""AXI4 ports, signal by signal, as the specification names them."""

from typing import Any

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = [
    "ADDRESS_BITS",
    "BURST_INCR",
    "Axi4",
    "Axi4Read",
    "Axi4Write",
    "is_bus_width",
    "prefixed",
]

ADDRESS_BITS = 64
BURST_INCR = 1
CACHE_MODIFIABLE = 0b0011
"""Normal memory, non-cacheable, bufferable: what a DMA engine asks for."""


def is_bus_width(data_bits: int) -> bool:
    """Say whether this is a legal width of a data bus that holds whole 64-bit words."""
    return data_bits in (64, 128, 256, 512, 1024)


def _address_channel(prefix: str, id_bits: int) -> dict[str, wiring.Member]:
    return {
        f"{prefix}id": Out(id_bits),
        f"{prefix}addr": Out(ADDRESS_BITS),
        f"{prefix}len": Out(8),
        f"{prefix}size": Out(3),
        f"{prefix}burst": Out(2),
        f"{prefix}lock": Out(1),
        f"{prefix}cache": Out(4),
        f"{prefix}prot": Out(3),
        f"{prefix}qos": Out(4),
        f"{prefix}region": Out(4),
        f"{prefix}valid": Out(1),
        f"{prefix}ready": In(1),
    }


def _read_members(data_bits: int, id_bits: int) -> dict[str, wiring.Member]:
    return {
        **_address_channel("ar", id_bits),
        "rid": In(id_bits),
        "rdata": In(data_bits),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }


def _write_members(data_bits: int, id_bits: int) -> dict[str, wiring.Member]:
    return {
        **_address_channel("aw", id_bits),
        "wdata": Out(data_bits),
        "wstrb": Out(data_bits // 8),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(id_bits),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
    }


class _Axi4Signature(wiring.Signature):
    def __init__(self, data_bits: int, id_bits: int, members: dict[str, wiring.Member]):
        if not is_bus_width(data_bits):
            raise ValueError(
                f"AXI data width must be 64, 128, 256, 512 or 1024 bits, not {data_bits!r}"
            )
        if id_bits < 1:
            raise ValueError(f"AXI id width must be at least 1, not {id_bits!r}")
        self.data_bits = data_bits
        self.id_bits = id_bits
        super().__init__(members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, wiring.Signature) and self.members == other.members


class Axi4Read(_Axi4Signature):
    """Read channels, as the master sees them (``Out`` is driven by the master).

    Parameters
    ----------
    data_bits : int
        Width of the data bus.
    id_bits : int
        Width of the ids; at least 1.
    """

    def __init__(self, data_bits: int, id_bits: int = 1):
        super().__init__(data_bits, id_bits, _read_members(data_bits, max(id_bits, 0)))


class Axi4Write(_Axi4Signature):
    """Write channels, as the master sees them. Parameters as in ``Axi4Read``."""

    def __init__(self, data_bits: int, id_bits: int = 1):
        super().__init__(data_bits, id_bits, _write_members(data_bits, max(id_bits, 0)))


class Axi4(_Axi4Signature):
    """All five channels, as the master sees them. Parameters as in ``Axi4Read``."""

    def __init__(self, data_bits: int, id_bits: int = 1):
        members = {
            **_write_members(data_bits, max(id_bits, 0)),
            **_read_members(data_bits, max(id_bits, 0)),
        }
        super().__init__(data_bits, id_bits, members)


def prefixed(
    prefix: str, signature: wiring.Signature | wiring.FlippedSignature
) -> dict[str, wiring.Member]:
    """Members of ``signature`` with ``prefix`` before each name, to be ports of a top module."""
    return {f"{prefix}{name}": member for name, member in signature.members.items()}


def constants(axi: Any, channel: str, data_bits: int) -> list[Any]:
    """Drive what never changes in the address channel ``"ar"`` or ``"aw"`` of a master.

    Full-width incrementing bursts of normal memory with id 0.
    """
    return [
        getattr(axi, f"{channel}size").eq(exact_log2(data_bits // 8)),
        getattr(axi, f"{channel}burst").eq(BURST_INCR),
        getattr(axi, f"{channel}cache").eq(CACHE_MODIFIABLE),
    ]
