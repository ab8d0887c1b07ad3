# amaranth: UnusedElaboratable=no
"""VectorReader keeps the stream contract in front of a buffer that answers what it is asked."""

from acceltran.arch.fixed_point import FixedPoint
from acceltran.memory.vector_reader import VectorReader
from testbench.formal.stream_contract import prove_stream_contract


def test_vector_reader():
    def no_answer_unasked(dut):
        return [~(dut.vectors.valid & dut.vectors.ready & (dut.credits == dut.depth))]

    prove_stream_contract(
        VectorReader(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=16, depth=8),
        assumptions=no_answer_unasked,
        invariants=lambda dut: [dut.credits <= dut.depth],
    )
