# amaranth: UnusedElaboratable=no
"""AXI4 signatures: all signals of the specification, by its names, with the right directions."""

import pytest
from amaranth.lib.wiring import In, Out

from acceltran.memory.axi4 import Axi4, Axi4Read, Axi4Write, prefixed

ADDRESS = "id addr len size burst lock cache prot qos region valid"
MASTER = {
    *(f"m_axi_{channel}{name}" for channel in ("aw", "ar") for name in ADDRESS.split()),
    *(f"m_axi_{name}" for name in "wdata wstrb wlast wvalid bready rready".split()),
}
SLAVE = {
    f"m_axi_{name}"
    for name in "awready wready bid bresp bvalid arready rid rdata rresp rlast rvalid".split()
}


def test_names_and_directions():
    ports = prefixed("m_axi_", Axi4(128, 4))
    assert {name for name, member in ports.items() if member.flow == Out} == MASTER
    assert {name for name, member in ports.items() if member.flow == In} == SLAVE


def test_widths():
    members = Axi4(256, 3).members
    widths = {
        "wdata": 256,
        "rdata": 256,
        "wstrb": 32,
        "awaddr": 64,
        "arid": 3,
        "bid": 3,
        "arlen": 8,
    }
    assert {name: members[name].shape for name in widths} == widths


def test_is_read_and_write_together():
    members = {**Axi4Read(64).members, **Axi4Write(64).members}
    assert dict(Axi4(64).members) == members


@pytest.mark.parametrize("signature", [Axi4, Axi4Read, Axi4Write])
def test_rejects_data_bits(signature):
    rule = "AXI data width must be 64, 128, 256, 512 or 1024 bits, not 32"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        signature(32)


@pytest.mark.parametrize("signature", [Axi4, Axi4Read, Axi4Write])
def test_rejects_id_bits(signature):
    with pytest.raises(ValueError, match="^AXI id width must be at least 1, not 0$"):
        signature(64, 0)
