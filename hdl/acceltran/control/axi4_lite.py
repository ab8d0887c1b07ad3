"""Signals of an AXI4-Lite bus."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Axi4LiteSignature"]


class Axi4LiteSignature(wiring.Signature):
    """AXI4-Lite bus with 32 data bits, as the master sees it.

    Source: AMBA AXI and ACE Protocol Specification (ARM IHI 0022), chapter B1.

    Parameters
    ----------
    address_width : int
        Bits of a byte address; at least 2.
    """

    def __init__(self, *, address_width: int):
        if address_width < 2:
            raise ValueError(f"Address width must be at least 2, not {address_width!r}")
        self.address_width = address_width
        super().__init__({
            "awaddr": Out(address_width),
            "awprot": Out(3),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32),
            "wstrb": Out(4),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
            "araddr": Out(address_width),
            "arprot": Out(3),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32),
            "rresp": In(2),
            "rvalid": In(1),
            "rready": Out(1),
        })
