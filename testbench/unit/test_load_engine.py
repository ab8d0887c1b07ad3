# amaranth: UnusedElaboratable=no
"""LoadEngine with its read channel: buffer contents, errors, stop, rate."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotbext.axi import AxiRamRead, AxiReadBus

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.memory.axi4 import Axi4Read
from acceltran.memory.load_engine import LoadEngine
from acceltran.memory.ports import BufferWrite
from acceltran.memory.read_channel import ReadChannel
from acceltran_sim.golden import compression as golden
from testbench.harness.axi_memory import DECERR, OKAY, SLVERR, AxiMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack

REGION = (4096, 4096 + (1 << 17) - 1)


class LoadPath(wiring.Component):
    """LoadEngine and its read channel, one AXI port outside."""

    command: stream.Interface
    done: Signal
    region_first: Signal
    region_last: Signal
    dram_error: Signal
    activation: stream.Interface
    weight: stream.Interface
    axi: Any
    axi_error: Signal
    stop: Signal
    quiet: Signal

    def __init__(self, *, fmt: FixedPoint, tile: int, data_bits: int):
        self.fmt, self.tile, self.data_bits = fmt, tile, data_bits
        write = stream.Signature(BufferWrite(fmt, tile))
        super().__init__({
            "command": In(stream.Signature(command_layout(Opcode.LOAD))),
            "done": Out(1),
            "region_first": In(64),
            "region_last": In(64),
            "dram_error": Out(1),
            "activation": Out(write),
            "weight": Out(write),
            "axi": Out(Axi4Read(data_bits)),
            "axi_error": Out(1),
            "stop": In(1),
            "quiet": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine = engine = LoadEngine(
            fmt=self.fmt, tile=self.tile, data_bits=self.data_bits
        )
        m.submodules.channel = channel = ReadChannel(data_bits=self.data_bits, queues=(32, 64))
        for name in ("command", "activation", "weight"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(engine, name))
        wiring.connect(m, wiring.flipped(self.axi), channel.axi)
        wiring.connect(m, engine.keeps, channel.clients[0])
        wiring.connect(m, engine.values, channel.clients[1])
        m.d.comb += [
            self.done.eq(engine.done),
            self.dram_error.eq(engine.dram_error),
            engine.region_first.eq(self.region_first),
            engine.region_last.eq(self.region_last),
            self.axi_error.eq(channel.clients[0].error | channel.clients[1].error),
            channel.stop.eq(self.stop),
            self.quiet.eq(channel.quiet),
        ]
        return m


@pytest.mark.parametrize(
    ("frac_bits", "tile", "data_bits"), [(16, 16, 128), (12, 16, 64), (8, 8, 512)]
)
def test_load_engine(frac_bits, tile, data_bits, request):
    simulate(
        LoadPath(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), tile=tile, data_bits=data_bits),
        bench=__name__,
        parameters={"width": 4 + frac_bits, "tile": tile, "data_bits": data_bits},
        seed=request.config.getoption("seed"),
    )


def test_rejects_tile():
    with pytest.raises(
        ValueError, match="^Vector size must be a power of two from 2 to 64, not 0$"
    ):
        LoadEngine(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=0, data_bits=128)


def test_rejects_data_bits():
    rule = "AXI data width must be 64, 128, 256, 512 or 1024 bits, not 32"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        LoadEngine(fmt=FixedPoint(int_bits=4, frac_bits=16), tile=16, data_bits=32)


# What follows runs inside the simulator, once for each parametrisation of test_load_engine.


def vector_bytes() -> int:
    """Bytes of a dense vector."""
    return -(-parameters()["tile"] * parameters()["width"] // 64) * 8


def random_vectors(count: int):
    """Vectors with many zeros and the extreme values."""
    width, tile = parameters()["width"], parameters()["tile"]
    rng = np.random.default_rng(random.getrandbits(32))
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    vectors = rng.integers(low, high, size=(count, tile), endpoint=True)
    vectors[rng.random((count, tile)) < 0.4] = 0
    vectors[rng.random((count, tile)) < 0.05] = low
    vectors[rng.random(count) < 0.2] = 0
    return vectors


def command(*, dram_address, buffer, base, vectors, row_vectors, row_stride, compressed=0) -> int:
    """Payload of a command."""
    fields = {
        "dram_address": (dram_address, 64),
        "buffer": (buffer, 1),
        "compressed": (compressed, 1),
        "base": (base, 24),
        "vectors": (vectors, 24),
        "row_vectors": (row_vectors, 16),
        "row_stride": (row_stride, 16),
    }
    raw = place = 0
    for value, width in fields.values():
        raw |= value << place
        place += width
    return raw


def random_job(buffer=None):
    """Command fields and the vectors of a tensor."""
    row_vectors = random.randint(1, 12)
    fields = {
        "buffer": random.randrange(2) if buffer is None else buffer,
        "base": random.randrange(1 << 23),
        "vectors": row_vectors * random.randint(1, 8),
        "row_vectors": row_vectors,
        "row_stride": row_vectors + random.randrange(5),
        "dram_address": REGION[0] + 8 * random.randrange(4000),
    }
    return fields, random_vectors(fields["vectors"])


def place(fields, n: int) -> int:
    """Buffer address of vector n."""
    row, column = divmod(n, fields["row_vectors"])
    return fields["base"] + row * fields["row_stride"] + column


def dense_image(vectors) -> bytes:
    """The tensor as it lies in DRAM."""
    width = parameters()["width"]
    return b"".join(pack(vector, width).to_bytes(vector_bytes(), "little") for vector in vectors)


async def begin(dut):
    """Idle inputs, reset."""
    dut.stop.value = 0
    dut.command__valid.value = 0
    dut.region_first.value = REGION[0]
    dut.region_last.value = REGION[1]
    await start(dut)


async def expect(dut, sinks, fields, vectors):
    """Check all writes of a command, and the strobe that follows."""
    width, tile = parameters()["width"], parameters()["tile"]
    for n, vector in enumerate(vectors):
        raw = await sinks[fields["buffer"]].get()
        assert raw & (1 << 24) - 1 == place(fields, n)
        np.testing.assert_array_equal(unpack(raw >> 24, width, tile), vector)
        assert raw >> 24 + width * tile == pack((vector != 0).astype(np.int64), 1)


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.4], sink_pace=[1.0, 0.3], latency=[0, 20])
async def loads(dut, pace, sink_pace, latency):
    """Random tensors, dense and compressed, arrive in their places with their keep bits."""
    memory = AxiMemory(dut, pace=pace, latency=latency)
    sinks = [StreamSink(dut, name, pace=sink_pace) for name in ("activation", "weight")]
    source = StreamSource(dut, "command")
    await begin(dut)
    for compressed in (0, 1, 0, 0, 1, 1, 1):
        fields, vectors = random_job()
        fields["compressed"] = compressed
        vectors[:, random.randrange(parameters()["tile"]) :] *= random.randrange(2)
        image = golden.compress(vectors, parameters()["width"])
        memory.load(fields["dram_address"], image if compressed else dense_image(vectors))
        await source.put(command(**fields))
        await expect(dut, sinks, fields, vectors)
    assert memory.outstanding == 0
    assert dut.quiet.value


@cocotb.test()
async def agrees_with_another_memory_model(dut):
    """The same with cocotbext-axi's memory."""
    memory = AxiRamRead(AxiReadBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=1 << 18)
    memory.ar_channel.set_pause_generator(random.random() < 0.5 for _ in iter(int, 1))
    memory.r_channel.set_pause_generator(random.random() < 0.3 for _ in iter(int, 1))
    sinks = [StreamSink(dut, name, pace=0.7) for name in ("activation", "weight")]
    source = StreamSource(dut, "command")
    await begin(dut)
    for _ in range(6):
        fields, vectors = random_job()
        memory.write(fields["dram_address"], dense_image(vectors))
        await source.put(command(**fields))
        await expect(dut, sinks, fields, vectors)


@cocotb.test()
async def strobes_done_with_the_last_write(dut):
    """Once per command, empty ones included."""
    AxiMemory(dut)
    source = StreamSource(dut, "command")
    await begin(dut)
    dut.weight__ready.value = 1
    fields, _ = random_job(buffer=1)
    for vectors in (3, 0, 1):
        await source.put(command(**{**fields, "vectors": vectors}))
        writes = done = 0
        for _ in range(60):
            await dut.clk.rising_edge
            writes += int(dut.weight__valid.value)
            if int(dut.done.value):
                done += 1
                assert writes == vectors
        assert (writes, done) == (vectors, 1)


@cocotb.test()
@cocotb.parametrize(latency=[0, 20])
async def runs_at_full_rate(dut, latency):
    """A beat or a vector per cycle, after a constant overhead."""
    memory = AxiMemory(dut, latency=latency)
    source = StreamSource(dut, "command")
    await begin(dut)
    dut.weight__ready.value = 1
    count = 800
    fields, _ = random_job(buffer=1)
    fields |= {"vectors": count, "dram_address": REGION[0]}
    await source.put(command(**fields))
    first = memory.cycle
    while not int(dut.done.value):
        await dut.clk.rising_edge
    rate = max(count, count * vector_bytes() * 8 // parameters()["data_bits"])
    assert memory.cycle - first <= rate + latency + LoadEngine.OVERHEAD


@cocotb.test()
@cocotb.parametrize(density=[1.0, 0.5, 0.0], latency=[0, 20])
async def runs_compressed_at_full_rate(dut, density, latency):
    """A beat or a vector per cycle; a beat or two more for each chunk of values."""
    memory = AxiMemory(dut, latency=latency)
    source = StreamSource(dut, "command")
    sinks = [StreamSink(dut, name) for name in ("activation", "weight")]
    await begin(dut)
    count = 800
    fields, _ = random_job(buffer=1)
    fields |= {"vectors": count, "row_vectors": 20, "row_stride": 20, "compressed": 1}
    fields["dram_address"] = REGION[0] + 8 * random.randrange(100)
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    vectors = np.where(rng.random((count, parameters()["tile"])) < density, 1, 0)
    image = golden.compress(vectors, parameters()["width"])
    memory.load(fields["dram_address"], image)
    await source.put(command(**fields))
    first = memory.cycle
    await expect(dut, sinks, fields, vectors)
    beats = len(image) * 8 // parameters()["data_bits"]
    limit = max(count, beats) + 2 * (count // 64 + 2) + 2 * latency + 120
    assert memory.cycle - first <= limit
    assert memory.read_beats <= beats + 3 + count // 64


@cocotb.test()
async def checks_values_against_the_region(dut):
    """A compressed tensor whose keep bits are inside and whose values are not."""
    memory = AxiMemory(dut)
    source = StreamSource(dut, "command")
    await begin(dut)
    dut.weight__ready.value = 1
    fields, _ = random_job(buffer=1)
    tile = parameters()["tile"]
    address = REGION[1] + 1 - golden.keep_bytes(64, tile) - 8
    fields |= {"vectors": 64, "compressed": 1, "dram_address": address}
    memory.load(address, golden.compress(np.ones((64, tile), np.int64), parameters()["width"]))
    await source.put(command(**fields))
    errors = 0
    for _ in range(200):
        await dut.clk.rising_edge
        errors += int(dut.dram_error.value)
        assert not dut.done.value
    assert errors == 1
    assert memory.outstanding == 0
    assert all(
        start + length * memory.bytes_of_beat <= REGION[1] + 1 for _, start, length in memory.bursts
    )


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
        source = StreamSource(dut, "command")
        await begin(dut)
        fields, _ = random_job()
        fields |= {"dram_address": address, "vectors": vectors}
        await source.put(command(**fields))
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
    source = StreamSource(dut, "command")
    await begin(dut)
    dut.activation__ready.value = 1
    fields, _ = random_job(buffer=0)
    fields |= {"dram_address": REGION[0], "vectors": 800}
    await source.put(command(**fields))
    while not int(dut.axi_error.value):
        await dut.clk.rising_edge
    dut.stop.value = 1
    for _ in range(300):
        await dut.clk.rising_edge
        assert not dut.done.value
    assert dut.quiet.value
    assert memory.outstanding == 0
