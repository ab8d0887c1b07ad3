"""A memory image under construction, and the finished program."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command
from acceltran_sim.program.vectors import unpack_vectors

__all__ = ["ALIGNMENT", "Image", "Program"]

ALIGNMENT = 64
"""Tensors and the program begin at a multiple of so many bytes."""


class Image:
    """Regions of DRAM, one after another.

    Parameters
    ----------
    base : int
        Address of the first byte, aligned.
    """

    def __init__(self, base: int):
        if base < 0 or base % ALIGNMENT:
            raise ValueError(f"Base must be a multiple of {ALIGNMENT}, not {base!r}")
        self.base = base
        self.end = base
        self._parts: list[bytes] = []

    def reserve(self, size: int) -> int:
        """Address of a new region of zeros."""
        return self.append(bytes(size))

    def append(self, content: bytes) -> int:
        """Address of a new region with the given content."""
        address = self.end
        padded = content + bytes(-len(content) % ALIGNMENT)
        self._parts.append(padded)
        self.end += len(padded)
        return address

    def content(self) -> bytes:
        """All regions."""
        return b"".join(self._parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A program and the memory that it works on."""

    config: AcceleratorConfig
    commands: tuple[Command, ...]
    base: int
    """Address of the image's first byte: what REGION_FIRST says."""
    image: bytes
    """Content of DRAM at the start: input, weights, commands, and zeros for the output."""
    program_address: int
    """Address of the first command."""
    output_address: int
    """Address of the first valid row of the first batch element; all valid rows follow."""
    lengths: tuple[int, ...]
    """Valid rows of each batch element."""
    sequence: int
    hidden: int
    weights: Mapping[int, str]
    """Name of what lies at an address of DRAM, for each tensor of weights."""

    @property
    def last(self) -> int:
        """Address of the image's last byte: what REGION_LAST says."""
        return self.base + len(self.image) - 1

    @property
    def output_size(self) -> int:
        """Bytes of the output."""
        blocks = -(-self.hidden // self.config.datapath.tile)
        return sum(self.lengths) * blocks * self.config.vector_bytes

    def output(self, content: bytes) -> npt.NDArray[np.int32]:
        """Raw result [batch, sequence, hidden] from the ``output_size`` bytes of the output."""
        rows = unpack_vectors(content, self.config).reshape(sum(self.lengths), -1)
        result = np.zeros((len(self.lengths), self.sequence, self.hidden), dtype=np.int32)
        start = 0
        for b, length in enumerate(self.lengths):
            result[b, :length] = rows[start : start + length, : self.hidden]
            start += length
        return result
