# amaranth: UnusedElaboratable=no
"""The vector engines keep the stream contract; that of their read ports is VectorReader's."""

import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.layer_norm_engine import LayerNormEngine
from acceltran.control.softmax_engine import SoftmaxEngine
from acceltran.control.vector_engine import VectorEngine
from testbench.formal.free_ports import FreePorts
from testbench.formal.stream_contract import prove_stream_contract

SIZES = {"fmt": FixedPoint(int_bits=4, frac_bits=8), "tile": 2, "width": 1}
ENGINES = {
    "softmax_engine": lambda: SoftmaxEngine(**SIZES, sequence=4, units=2),
    "softmax_engine_of_one_unit": lambda: SoftmaxEngine(**SIZES, sequence=4, units=1),
    "layer_norm_engine": lambda: LayerNormEngine(**SIZES, hidden=4),
    "vector_engine": lambda: VectorEngine(**SIZES, norm_width=1, sequence=4, hidden=4, units=2),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_stream_contract(engine):
    prove_stream_contract(FreePorts(ENGINES[engine]()))
