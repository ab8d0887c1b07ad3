"""Random access memory with one write and one read port."""

from amaranth import Module, Signal
from amaranth.lib import memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.library import SharedComponent, VerilogModule

__all__ = ["Ram"]

VERILOG = """\
// Memory with one write port and one registered read port, without initial contents.
// Replace it by an SRAM macro of the same interface. What a read returns of an address that is
// written in the same cycle is not relied on.
module acceltran_ram #(
  parameter WIDTH = 8,
  parameter DEPTH = 2,
  parameter ADDRESS_WIDTH = 1
) (
  input wire clk,
  input wire write_enable,
  input wire [ADDRESS_WIDTH-1:0] write_address,
  input wire [WIDTH-1:0] write_data,
  input wire read_enable,
  input wire [ADDRESS_WIDTH-1:0] read_address,
  output reg [WIDTH-1:0] read_data
);
  reg [WIDTH-1:0] rows [0:DEPTH-1];
  always @(posedge clk) begin
    if (read_enable) read_data <= rows[read_address];
    if (write_enable) rows[write_address] <= write_data;
  end
endmodule
"""


class Ram(SharedComponent):
    """Memory with one write port and one registered read port.

    ``read_data`` is the row at ``read_address`` from one cycle after ``read_enable`` on, and holds
    while ``read_enable`` is 0. A read of a row in the cycle that writes it is not to be relied on,
    nor is the content of a row before it is written. Addresses are below ``depth``.

    Latency is ``LATENCY`` cycle(s); one write and one read per cycle.

    Parameters
    ----------
    width : int
        Bits per row; at least 1.
    depth : int
        Rows; at least 2.

    Members
    -------
    write_enable : ``In(1)``
        Write ``write_data`` to the row at ``write_address``.
    write_address, read_address : ``In(ceil_log2(depth))``
    write_data : ``In(width)``
    read_enable : ``In(1)``
        Fetch the row at ``read_address``.
    read_data : ``Out(width)``
    """

    LATENCY = 1

    write_enable: Signal
    write_address: Signal
    write_data: Signal
    read_enable: Signal
    read_address: Signal
    read_data: Signal

    def __init__(self, *, width: int, depth: int):
        if width < 1:
            raise ValueError(f"Memory width must be at least 1, not {width!r}")
        if depth < 2:
            raise ValueError(f"Memory depth must be at least 2, not {depth!r}")
        self.width = width
        self.depth = depth
        super().__init__({
            "write_enable": In(1),
            "write_address": In(ceil_log2(depth)),
            "write_data": In(width),
            "read_enable": In(1),
            "read_address": In(ceil_log2(depth)),
            "read_data": Out(width),
        })

    def verilog_module(self) -> VerilogModule:
        """Text instead of ``lib.memory``, which would write out the initial contents."""
        return VerilogModule(
            name="acceltran_ram",
            parameters={
                "WIDTH": self.width,
                "DEPTH": self.depth,
                "ADDRESS_WIDTH": ceil_log2(self.depth),
            },
            text=VERILOG,
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        return m
