# amaranth: UnusedElaboratable=no
"""LoadSplitter: parts that are the whole, and loads that are done when all parts are."""

import random

import cocotb
import pytest

from acceltran.arch.commands import BODIES, Opcode
from acceltran.control.command_layout import command_layout
from acceltran.memory.load_splitter import LoadSplitter
from testbench.harness.fields import pack_fields, unpack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

VECTOR_BYTES = 40
LAYOUT = command_layout(Opcode.LOAD)


@pytest.mark.parametrize("masters", [1, 2, 4])
def test_load_splitter(masters, request):
    simulate(
        LoadSplitter(masters=masters, vector_bytes=VECTOR_BYTES),
        bench=__name__,
        parameters={"masters": masters},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masters": 3}, "Number of masters must be a power of two, not 3"),
        ({"vector_bytes": 0}, "Bytes of a vector must be at least 1, not 0"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LoadSplitter(**{"masters": 2, "vector_bytes": 40, **change})


# What follows runs inside the simulator.


def random_load():
    fields = {f.name: random.randint(0, f.mask) for f in BODIES[Opcode.LOAD]}
    fields["dram_address"] = 8 * random.getrandbits(40)
    fields["vectors"] = random.choice([random.randint(1, 9), random.randint(1, 1 << 16)])
    fields["base"] = random.getrandbits(20)
    fields["compressed"] = random.random() < 0.2
    if random.random() < 0.8:
        fields["row_stride"] = fields["row_vectors"]
    return {name: int(value) for name, value in fields.items()}


def cut(load):
    """Parts of each master, or None."""
    masters = parameters()["masters"]
    whole = load["row_vectors"] == load["row_stride"] and load["buffer"]
    if load["compressed"] or not whole or load["vectors"] < masters:
        return [load, *[None] * (masters - 1)]
    share = load["vectors"] // masters
    return [
        load
        | {
            "dram_address": load["dram_address"] + k * share * VECTOR_BYTES,
            "base": load["base"] + k * share,
            "vectors": share if k < masters - 1 else load["vectors"] - k * share,
            "row_vectors": 1,
            "row_stride": 1,
        }
        for k in range(masters)
    ]


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(pace=[1.0, 0.3])
async def cuts_loads(dut, pace):
    """Each master gets its parts in order; a load is done with the last of its parts."""
    masters = parameters()["masters"]
    loads = [random_load() for _ in range(30)]
    parts = [cut(load) for load in loads]
    dut.part_done.value = 0
    source = StreamSource(dut, "i", pace=pace)
    sinks = [StreamSink(dut, f"parts__{k}", pace=pace) for k in range(masters)]
    await start(dut)
    cocotb.start_soon(source.put_all(pack_fields(LAYOUT, load) for load in loads))
    finished = [0] * masters  # loads whose part this master has done

    async def serve(master):
        for number, load in enumerate(parts):
            if load[master] is not None:
                got = unpack_fields(LAYOUT, await sinks[master].get())
                assert got == load[master]
                for _ in range(random.randint(0, 12)):
                    await dut.clk.rising_edge
                done[master] = 1
                await dut.clk.rising_edge
            finished[master] = number + 1

    done = [0] * masters
    tasks = [cocotb.start_soon(serve(master)) for master in range(masters)]
    count = 0
    while count < len(loads):
        await dut.clk.falling_edge
        dut.part_done.value = sum(bit << master for master, bit in enumerate(done))
        done[:] = [0] * masters
        await dut.clk.rising_edge
        count += int(dut.done.value)
        assert count <= min(finished)
    for task in tasks:
        await task
