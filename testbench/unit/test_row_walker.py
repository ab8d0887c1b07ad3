# amaranth: UnusedElaboratable=no
"""RowWalker: every address of a matrix, in row order."""

import random

import cocotb

from acceltran.memory.row_walker import RowRange, RowWalker, VectorPlace
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSink, StreamSource


def test_row_walker(request):
    simulate(RowWalker(), bench=__name__, parameters={}, seed=request.config.getoption("seed"))


def encode(job: dict[str, int]) -> int:
    return pack_fields(RowRange(), job)


def places(job: dict[str, int]) -> list[int]:
    result = []
    for row in range(job["rows"]):
        for block in range(job["blocks"]):
            row_end = block == job["blocks"] - 1
            place = {
                "address": (job["base"] + row * job["row_stride"] + block) % (1 << 24),
                "row_end": int(row_end),
                "end": int(row_end and row == job["rows"] - 1),
            }
            result.append(pack_fields(VectorPlace(), place))
    return result


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def walks_every_row(dut, source_pace, sink_pace):
    """Random matrices, a single vector, a single row, and one that wraps."""
    jobs = [
        {"base": 5, "row_stride": 0, "rows": 1, "blocks": 1},
        {"base": (1 << 24) - 2, "row_stride": 3, "rows": 2, "blocks": 3},
        {"base": 7, "row_stride": 65535, "rows": 3, "blocks": 1},
    ]
    for _ in range(10):
        jobs.append({
            "base": random.getrandbits(24),
            "row_stride": random.getrandbits(16),
            "rows": random.randint(1, 6),
            "blocks": random.randint(1, 6),
        })
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    driver = cocotb.start_soon(source.put_all(encode(job) for job in jobs))
    for job in jobs:
        assert await sink.get_all(job["rows"] * job["blocks"]) == places(job)
    await driver


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_the_documented_latency(dut):
    """One address per cycle, the first LATENCY cycles after its matrix; a cycle between two."""
    source = StreamSource(dut, "i")
    dut.o__ready.value = 1
    await start(dut)
    job = pack_fields(RowRange(), {"base": 1, "row_stride": 4, "rows": 2, "blocks": 3})
    await source.put(job)
    following = cocotb.start_soon(source.put(job))
    for _ in range(RowWalker.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    for valid in [*[True] * 6, False, *[True] * 6, False]:
        await dut.clk.rising_edge
        assert dut.o__valid.value == valid
    await following
