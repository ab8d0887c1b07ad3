# amaranth: UnusedElaboratable=no
"""StoreEngine with its write channel: DRAM contents, errors, stop, rate."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotbext.axi import AxiRamWrite, AxiWriteBus

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.memory.axi4 import Axi4Write
from acceltran.memory.ports import BufferWrite
from acceltran.memory.store_engine import StoreEngine
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran.memory.write_channel import WriteChannel
from acceltran_sim.golden import compression as golden
from testbench.harness.axi_memory import DECERR, OKAY, SLVERR, AxiMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.vectors import pack

REGION = (4096, 4096 + (1 << 17) - 1)
DEPTH = 1024


class StorePath(wiring.Component):
    """StoreEngine between an activation buffer of two banks and an AXI port."""

    fill: stream.Interface
    command: stream.Interface
    done: Signal
    region_first: Signal
    region_last: Signal
    dram_error: Signal
    axi: Any
    axi_error: Signal
    stop: Signal
    quiet: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, data_bits: int):
        self.fmt, self.tile, self.data_bits = fmt, tile, data_bits
        super().__init__({
            "fill": In(stream.Signature(BufferWrite(fmt, tile))),
            "command": In(stream.Signature(command_layout(Opcode.STORE))),
            "done": Out(1),
            "region_first": In(64),
            "region_last": In(64),
            "dram_error": Out(1),
            "axi": Out(Axi4Write(data_bits)),
            "axi_error": Out(1),
            "stop": In(1),
            "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        shape = {"fmt": self.fmt, "tile": self.tile}
        m.submodules.buffer = buffer = VectorBuffer(
            **shape, depth=DEPTH, banks=2, readers=1, writers=1, mask_readers=1
        )
        m.submodules.engine = engine = StoreEngine(**shape, data_bits=self.data_bits)
        m.submodules.channel = channel = WriteChannel(data_bits=self.data_bits, queue=64)
        wiring.connect(m, wiring.flipped(self.fill), buffer.writes[0])
        wiring.connect(m, wiring.flipped(self.command), engine.command)
        wiring.connect(m, wiring.flipped(self.axi), channel.axi)
        wiring.connect(m, engine.port, buffer.reads[0])
        wiring.connect(m, engine.request, channel.request)
        wiring.connect(m, engine.beats, channel.beats)
        m.d.comb += [
            self.done.eq(engine.done),
            self.dram_error.eq(engine.dram_error),
            engine.region_first.eq(self.region_first),
            engine.region_last.eq(self.region_last),
            engine.idle.eq(channel.idle),
            self.axi_error.eq(channel.error),
            channel.stop.eq(self.stop),
            self.quiet.eq(channel.quiet),
        ]
        return m


@pytest.mark.parametrize(
    ("frac_bits", "tile", "data_bits"), [(16, 16, 128), (12, 16, 64), (8, 8, 512)]
)
def test_store_engine(frac_bits, tile, data_bits, request):
    simulate(
        StorePath(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), tile=tile, data_bits=data_bits),
        bench=__name__,
        parameters={"width": 4 + frac_bits, "tile": tile, "data_bits": data_bits},
        seed=request.config.getoption("seed"),
    )


def test_rejects_tile():
    rule = "Vector size must be a power of two from 2 to 64, not 0"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        StoreEngine(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=0, data_bits=128)


def test_rejects_data_bits():
    rule = "AXI data width must be 64, 128, 256, 512 or 1024 bits, not 32"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        StoreEngine(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=16, data_bits=32)


# What follows runs inside the simulator, once for each parametrisation of test_store_engine.


def vector_bytes() -> int:
    """Bytes of a dense vector."""
    return -(-parameters()["tile"] * parameters()["width"] // 64) * 8


async def fill(dut, density=0.6):
    """Reset, fill the buffer with random vectors, and return them."""
    width, tile = parameters()["width"], parameters()["tile"]
    dut.stop.value = 0
    dut.command__valid.value = 0
    dut.region_first.value = REGION[0]
    dut.region_last.value = REGION[1]
    source = StreamSource(dut, "fill")
    await start(dut)
    rng = np.random.default_rng(random.getrandbits(32))
    vectors = rng.integers(-(1 << width - 1), 1 << width - 1, size=(DEPTH, tile))
    vectors[rng.random((DEPTH, tile)) >= density] = 0
    vectors[rng.random(DEPTH) < 0.2 * (density < 1)] = 0
    for address, vector in enumerate(vectors):
        keep = pack((vector != 0).astype(np.int64), 1)
        await source.put(address | (pack(vector, width) | keep << width * tile) << 24)
    return vectors


def command(*, dram_address, base, vectors, row_vectors, row_stride, compressed=0) -> int:
    """Payload of a command."""
    raw = place = 0
    for value, width in (
        (dram_address, 64),
        (0, 1),
        (compressed, 1),
        (base, 24),
        (vectors, 24),
        (row_vectors, 16),
        (row_stride, 16),
    ):
        raw |= value << place
        place += width
    return raw


def random_job():
    """Command fields."""
    row_vectors = random.randint(1, 12)
    rows = random.randint(1, 8)
    row_stride = row_vectors + random.randrange(5)
    return {
        "base": random.randrange(DEPTH - rows * row_stride),
        "vectors": row_vectors * rows,
        "row_vectors": row_vectors,
        "row_stride": row_stride,
        "dram_address": REGION[0] + 8 * random.randrange(4000),
    }


def chosen(fields, vectors):
    """Vectors that the command stores."""
    places = [divmod(n, fields["row_vectors"]) for n in range(fields["vectors"])]
    return [vectors[fields["base"] + r * fields["row_stride"] + c] for r, c in places]


def dense_image(vectors) -> bytes:
    """The tensor as it lies in DRAM."""
    width = parameters()["width"]
    return b"".join(pack(vector, width).to_bytes(vector_bytes(), "little") for vector in vectors)


def compressed_image(vectors) -> bytes:
    """The compressed tensor as it lies in DRAM."""
    return golden.compress(np.array(vectors), parameters()["width"])


async def run(dut, source, fields):
    """Give a command and wait until it is done."""
    await source.put(command(**fields))
    while not int(dut.done.value):
        await dut.clk.rising_edge


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.4, 0.2], latency=[0, 20])
async def stores(dut, pace, latency):
    """Random tensors, dense and compressed, arrive in DRAM, and nothing else is touched."""
    memory = AxiMemory(dut, pace=pace, latency=latency)
    vectors = await fill(dut)
    source = StreamSource(dut, "command")
    for compressed in (0, 1, 0, 1, 1, 1, 1):
        memory.bytes.clear()
        fields = random_job() | {"compressed": compressed}
        await run(dut, source, fields)
        image = (compressed_image if compressed else dense_image)(chosen(fields, vectors))
        assert memory.bytes == dict(enumerate(image, fields["dram_address"]))
        assert memory.outstanding == 0
        assert dut.quiet.value


@cocotb.test()
async def agrees_with_another_memory_model(dut):
    """The same with cocotbext-axi's memory."""
    memory = AxiRamWrite(AxiWriteBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=1 << 18)
    for channel in (memory.aw_channel, memory.w_channel, memory.b_channel):
        channel.set_pause_generator(random.random() < 0.4 for _ in iter(int, 1))
    vectors = await fill(dut)
    source = StreamSource(dut, "command")
    for _ in range(6):
        fields = random_job()
        await run(dut, source, fields)
        image = dense_image(chosen(fields, vectors))
        assert memory.read(fields["dram_address"], len(image)) == image


@cocotb.test()
async def strobes_done_once(dut):
    """Once per command, empty ones included, when memory has answered."""
    memory = AxiMemory(dut, latency=10)
    source = StreamSource(dut, "command")
    await fill(dut)
    for vectors in (3, 0, 1):
        await source.put(command(**{**random_job(), "vectors": vectors}))
        done = 0
        for _ in range(120):
            await dut.clk.rising_edge
            if int(dut.done.value):
                done += 1
                assert memory.outstanding == 0
        assert done == 1
    assert len(memory.written) >= 4 * vector_bytes() - 8


@cocotb.test()
@cocotb.parametrize(latency=[0, 20])
async def runs_at_full_rate(dut, latency):
    """A beat or a vector per cycle, after a constant overhead."""
    memory = AxiMemory(dut, latency=latency)
    await fill(dut)
    source = StreamSource(dut, "command")
    count = 800
    fields = {
        "base": 0,
        "vectors": count,
        "row_vectors": 16,
        "row_stride": 16,
        "dram_address": REGION[0],
    }
    await source.put(command(**fields))
    first = memory.cycle
    while not int(dut.done.value):
        await dut.clk.rising_edge
    rate = max(count, count * vector_bytes() * 8 // parameters()["data_bits"])
    assert memory.cycle - first <= rate + latency + StoreEngine.OVERHEAD


@cocotb.test()
@cocotb.parametrize(density=[1.0, 0.0, 0.05])
async def stores_compressed_extremes(dut, density):
    """Dense, empty and nearly empty tensors, long ones, and the cycles they take."""
    memory = AxiMemory(dut, latency=10)
    vectors = await fill(dut, density)
    source = StreamSource(dut, "command")
    for count in (1, 4, 16, 17, 800):
        memory.bytes.clear()
        fields = {"base": 1, "vectors": count, "row_vectors": count, "row_stride": 0}
        fields |= {"dram_address": REGION[0] + 8 * random.randrange(100), "compressed": 1}
        first = memory.cycle
        await run(dut, source, fields)
        image = compressed_image(chosen(fields, vectors))
        assert memory.bytes == dict(enumerate(image, fields["dram_address"]))
        beats = len(image) * 8 // parameters()["data_bits"]
        assert memory.cycle - first <= count + max(count, beats) + 2 * StoreEngine.OVERHEAD + 20


@cocotb.test()
async def refuses_what_is_outside_the_region(dut):
    """An error instead of the first burst."""
    memory = AxiMemory(dut)
    size = vector_bytes()
    for address, vectors in [
        (REGION[0] - 8, 1),
        (REGION[1] + 1 - 3 * size, 4),
        (REGION[1] + 1, 1),
        (REGION[0] + 4, 1),
        ((1 << 64) - 8, 2),
    ]:
        dut.command__valid.value = 0
        dut.fill__valid.value = 0
        dut.region_first.value = REGION[0]
        dut.region_last.value = REGION[1]
        await start(dut)
        source = StreamSource(dut, "command")
        await source.put(command(**{**random_job(), "dram_address": address, "vectors": vectors}))
        errors = 0
        for _ in range(30):
            await dut.clk.rising_edge
            errors += int(dut.dram_error.value)
            assert not dut.done.value
        assert errors == 1
    assert not memory.bursts


@cocotb.test()
@cocotb.parametrize(response=[SLVERR, DECERR])
async def reports_errors_of_the_bus(dut, response):
    """The command does not end, the bus falls quiet."""
    bad = REGION[0] + 2048
    memory = AxiMemory(dut, pace=0.5, respond=lambda address: response if address >= bad else OKAY)
    await fill(dut)
    source = StreamSource(dut, "command")
    await source.put(command(**{**random_job(), "dram_address": REGION[0], "vectors": 800}))
    while not int(dut.axi_error.value):
        await dut.clk.rising_edge
    dut.stop.value = 1
    for _ in range(300):
        await dut.clk.rising_edge
        assert not dut.done.value
    assert dut.quiet.value
    assert memory.outstanding == 0
