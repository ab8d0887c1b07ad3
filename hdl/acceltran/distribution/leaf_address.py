"""Addresses that name a leaf, and a vector within its buffer."""

from acceltran.memory.ports import ADDRESS_WIDTH

__all__ = ["check_leaf_addresses"]


def check_leaf_addresses(leaves: int, address_bits: int) -> None:
    """Raise ValueError unless ``leaf << address_bits`` is an address for every leaf."""
    if leaves < 1:
        raise ValueError(f"Number of leaves must be at least 1, not {leaves!r}")
    if not 1 <= address_bits <= ADDRESS_WIDTH:
        raise ValueError(
            f"Address bits of a leaf must be from 1 to {ADDRESS_WIDTH}, not {address_bits!r}"
        )
    if leaves << address_bits > 1 << ADDRESS_WIDTH:
        raise ValueError(
            f"Number of leaves must be at most {1 << ADDRESS_WIDTH - address_bits}"
            f" with {address_bits} address bits each, not {leaves!r}"
        )
