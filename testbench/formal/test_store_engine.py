# amaranth: UnusedElaboratable=no
"""StoreEngine keeps the stream contract; that of its buffer port is VectorReader's."""

from acceltran.arch.fixed_point import FixedPoint
from acceltran.memory.store_engine import StoreEngine
from testbench.formal.free_ports import FreePorts
from testbench.formal.stream_contract import prove_stream_contract


def test_store_engine():
    fmt = FixedPoint(int_bits=4, frac_bits=8)
    prove_stream_contract(FreePorts(StoreEngine(fmt=fmt, tile=4, data_bits=128)))
