"""One bank of a vector buffer."""

from amaranth import Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram

__all__ = ["BufferBank"]


class BufferBank(SharedComponent):
    """Vectors and, at the same rows of a memory of their own, their keep bits.

    The module that SRAM macros replace. One vector is written, the values of one and the keep bits
    of one are read per cycle. Both outputs are registered twice, and change only after a read. A
    row is readable from the cycle after its write on. Contents are undefined before it.

    Latency is ``LATENCY`` cycles.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    depth : int
        Vectors; at least 2.

    Members
    -------
    write_enable : ``In(1)``
    write_row : ``In(ceil_log2(depth))``
    write_values : ``In(ArrayLayout(signed(fmt.width), tile))``
    write_keep : ``In(tile)``
        What to write, and where.
    read_enable, mask_read_enable : ``In(1)``
    read_row, mask_read_row : ``In(ceil_log2(depth))``
        What to read.
    values : ``Out(ArrayLayout(signed(fmt.width), tile))``
    keep : ``Out(tile)``
        What was read.
    """

    LATENCY = Ram.LATENCY + 1

    write_enable: Signal
    write_row: Signal
    write_values: data.View
    write_keep: Signal
    read_enable: Signal
    read_row: Signal
    values: data.View
    mask_read_enable: Signal
    mask_read_row: Signal
    keep: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, depth: int):
        if tile < 1:
            raise ValueError(f"Vector size must be at least 1, not {tile!r}")
        if depth < 2:
            raise ValueError(f"Bank depth must be at least 2, not {depth!r}")
        self.fmt = fmt
        self.tile = tile
        self.depth = depth
        values = data.ArrayLayout(signed(fmt.width), tile)
        super().__init__({
            "write_enable": In(1),
            "write_row": In(ceil_log2(depth)),
            "write_values": In(values),
            "write_keep": In(tile),
            "read_enable": In(1),
            "read_row": In(ceil_log2(depth)),
            "values": Out(values),
            "mask_read_enable": In(1),
            "mask_read_row": In(ceil_log2(depth)),
            "keep": Out(tile),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.value_ram = value_ram = Ram(width=self.fmt.width * self.tile, depth=self.depth)
        m.submodules.mask_ram = mask_ram = Ram(width=self.tile, depth=self.depth)
        m.d.comb += [
            value_ram.write_data.eq(self.write_values),
            mask_ram.write_data.eq(self.write_keep),
            value_ram.read_enable.eq(self.read_enable),
            value_ram.read_address.eq(self.read_row),
            mask_ram.read_enable.eq(self.mask_read_enable),
            mask_ram.read_address.eq(self.mask_read_row),
        ]
        for ram in (value_ram, mask_ram):
            m.d.comb += [
                ram.write_enable.eq(self.write_enable),
                ram.write_address.eq(self.write_row),
            ]
        m.d.sync += [self.values.eq(value_ram.read_data), self.keep.eq(mask_ram.read_data)]
        return m
