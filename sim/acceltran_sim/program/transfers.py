"""Loads and stores of hidden states."""

from collections.abc import Iterator

from acceltran.arch.commands import Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command
from acceltran_sim.program.layout import GroupLayout
from acceltran_sim.program.parts import parts_of

__all__ = ["transfers"]


def transfers(
    config: AcceleratorConfig, layout: GroupLayout, opcode: Opcode, address: int
) -> Iterator[Command]:
    """Commands that move the valid rows of a group, which lie at ``address`` one after another."""
    blocks, stride = layout.shape.hidden_blocks, layout.shape.hidden_stride
    for cluster, dram_row, row, rows in _blocks(config, layout, opcode):
        yield Command(
            opcode=opcode,
            fields={
                "dram_address": address + dram_row * blocks * config.vector_bytes,
                "base": (cluster << config.cluster_address_bits) + layout.hidden + row * stride,
                "vectors": rows * blocks,
                "row_vectors": blocks,
                "row_stride": stride,
            },
        )


def _blocks(
    config: AcceleratorConfig, layout: GroupLayout, opcode: Opcode
) -> Iterator[tuple[int, int, int, int]]:
    """Cluster, first row in DRAM, first row in the group, and rows of each transfer."""
    if config.array.clusters == 1:
        for part in parts_of(config, layout, opcode.name.lower()):
            yield 0, part.row, part.row, part.rows
        return
    start = 0
    for first_row, part in zip(layout.first_rows, layout.rounds, strict=True):
        for cluster, element, row, rows in part.shares():
            yield cluster, start + sum(part.lengths[:element]) + row, first_row, rows
        start += sum(part.lengths)
