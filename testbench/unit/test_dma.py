# amaranth: UnusedElaboratable=no
"""Dma: fetch, load and store at once through one AXI4 port, and how errors are reported."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from cocotbext.axi import AxiBus, AxiRam

from acceltran.arch.commands import BODIES, Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.registers import ErrorCause
from acceltran.memory.dma import Dma
from acceltran.memory.vector_buffer import VectorBuffer
from acceltran_sim.golden import compression as golden
from testbench.harness.axi_memory import DECERR, OKAY, SLVERR, AxiMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack

DEPTH = 1024
TOP = (1 << 64) - 1
PROGRAM, SOURCE, TARGET = 0, 1 << 16, 1 << 17


class DmaAndBuffer(wiring.Component):
    """Dma with an activation buffer; everything else is outside."""

    def __init__(self, *, fmt: FixedPoint, tile: int, data_bits: int):
        self.dma = Dma(fmt=fmt, tile=tile, data_bits=data_bits)
        inside = ("activation", "port")
        self.outside = {
            name: member
            for name, member in self.dma.signature.members.items()
            if name not in inside
        }
        super().__init__(self.outside)

    def elaborate(self, platform):
        m = Module()
        dma = self.dma
        m.submodules.dma = dma
        m.submodules.buffer = buffer = VectorBuffer(
            fmt=dma.fmt, tile=dma.tile, depth=DEPTH, banks=2, readers=1, writers=1, mask_readers=1
        )
        wiring.connect(m, dma.activation, buffer.writes[0])
        wiring.connect(m, dma.port, buffer.reads[0])
        for name, member in self.outside.items():
            outer: Any = getattr(self, name)
            inner: Any = getattr(dma, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        return m


@pytest.mark.parametrize(("frac_bits", "data_bits"), [(16, 128)])
def test_dma(frac_bits, data_bits, request):
    simulate(
        DmaAndBuffer(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), tile=16, data_bits=data_bits),
        bench=__name__,
        parameters={"width": 4 + frac_bits, "tile": 16, "data_bits": data_bits},
        seed=request.config.getoption("seed"),
    )


# What follows runs inside the simulator, once for each parametrisation of test_dma.


def transfer(opcode: Opcode, **fields: int) -> int:
    """Payload of a LOAD or STORE command."""
    raw = place = 0
    for field in BODIES[opcode]:
        raw |= fields.pop(field.name, 0) << place
        place += field.width
    assert not fields
    return raw


def rows(base: int, vectors: int) -> dict[str, int]:
    """Fields of a tensor of one row."""
    return {"base": base, "vectors": vectors, "row_vectors": vectors, "row_stride": 0}


def random_vectors(count: int):
    """Vectors, half of them zeros."""
    width, tile = parameters()["width"], parameters()["tile"]
    rng = np.random.default_rng(random.getrandbits(32))
    values = rng.integers(-(1 << width - 1), 1 << width - 1, size=(count, tile))
    values[rng.random(values.shape) < 0.5] = 0
    return values


def dense_image(vectors) -> bytes:
    """The tensor as it lies in DRAM."""
    width, tile = parameters()["width"], parameters()["tile"]
    size = -(-width * tile // 64) * 8
    return b"".join(pack(vector, width).to_bytes(size, "little") for vector in vectors)


async def begin(dut, *, first=0, last=TOP):
    """Idle inputs, reset."""
    for name in ("start", "flush", "stop", "load__valid", "store__valid", "fetched__ready"):
        dut[name].value = 0
    dut.weight__ready.value = 1
    dut.region_first.value = first
    dut.region_last.value = last
    await start(dut)


async def begin_program(dut, commands: int):
    """Start fetching."""
    dut.program.value = PROGRAM
    dut.commands.value = commands
    dut.start.value = 1
    await dut.clk.rising_edge
    dut.start.value = 0


async def run(dut, source, name: str, command: int):
    """Give a command to an engine and wait until it is done."""
    await source.put(command)
    while not int(dut[f"{name}_done"].value):
        await dut.clk.rising_edge


async def everything_at_once(dut, write, read):
    """Load, store in other forms, load elsewhere and fetch, all at the same time."""
    program = random.randbytes(128 * 12)
    write(PROGRAM, program)
    load, store = StreamSource(dut, "load"), StreamSource(dut, "store")
    await begin(dut)
    await begin_program(dut, 12)

    async def fetch():
        sink = StreamSink(dut, "fetched", pace=0.1)
        for index in range(12):
            expected = int.from_bytes(program[128 * index : 128 * index + 128], "little")
            assert await sink.get() == expected << 32 | index

    async def load_and_store():
        for job in range(8):
            in_form, out_form = random.randrange(2), random.randrange(2)
            vectors = random_vectors(random.randint(1, 100))
            base = 200 * (job % 4)
            images = [dense_image(vectors), golden.compress(vectors, parameters()["width"])]
            write(SOURCE, images[in_form])
            fields = rows(base, len(vectors))
            command = transfer(Opcode.LOAD, dram_address=SOURCE, compressed=in_form, **fields)
            await run(dut, load, "load", command)
            other = cocotb.start_soon(
                load.put(transfer(Opcode.LOAD, dram_address=SOURCE, buffer=1, **rows(0, 5)))
            )
            address = TARGET + 8 * random.randrange(100)
            command = transfer(Opcode.STORE, dram_address=address, compressed=out_form, **fields)
            await run(dut, store, "store", command)
            await other
            assert read(address, len(images[out_form])) == images[out_form]
            for _ in range(100):
                await dut.clk.rising_edge

    tasks = [cocotb.start_soon(fetch()), cocotb.start_soon(load_and_store())]
    for task in tasks:
        await task
    assert dut.quiet.value
    assert not dut.fetch_busy.value


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.3])
async def works_with_a_strict_memory(dut, pace):
    """Against the memory of the harness."""
    memory = AxiMemory(dut, pace=pace, latency=15)
    await everything_at_once(dut, memory.load, memory.dump)


@cocotb.test()
async def works_with_another_memory_model(dut):
    """Against cocotbext-axi's memory."""
    memory = AxiRam(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=1 << 18)
    writes: Any = memory.write_if
    reads: Any = memory.read_if
    channels = (
        writes.aw_channel,
        writes.w_channel,
        writes.b_channel,
        reads.ar_channel,
        reads.r_channel,
    )
    for channel in channels:
        channel.set_pause_generator(random.random() < 0.3 for _ in iter(int, 1))
    await everything_at_once(dut, memory.write, memory.read)


async def first_error(dut):
    """Stop at the first report; say who made it and why."""
    while True:
        await dut.clk.rising_edge
        for name in ("fetch", "load", "store"):
            if int(dut[f"{name}_error__valid"].value):
                dut.stop.value = 1
                return name, ErrorCause(int(dut[f"{name}_error__cause"].value))


@cocotb.test()
@cocotb.parametrize(response=[SLVERR, DECERR])
async def reports_errors_of_the_bus(dut, response):
    """Who was concerned, and that the port falls quiet."""
    bad = {}
    memory = AxiMemory(dut, pace=0.7, latency=5, respond=lambda a: bad.get(a >> 16, OKAY))
    load, store = StreamSource(dut, "load"), StreamSource(dut, "store")
    for place, expected in (
        (PROGRAM, ("fetch", ErrorCause.AXI_READ)),
        (SOURCE, ("load", ErrorCause.AXI_READ)),
        (TARGET, ("store", ErrorCause.AXI_WRITE)),
    ):
        bad.clear()
        bad[place >> 16] = response
        await begin(dut)
        for _ in range(DEPTH + 1):
            if int(dut.quiet.value) and memory.outstanding == 0:
                break
            await dut.clk.rising_edge
        report = cocotb.start_soon(first_error(dut))
        await begin_program(dut, 3)
        await load.put(transfer(Opcode.LOAD, dram_address=SOURCE, buffer=1, **rows(0, 300)))
        await store.put(transfer(Opcode.STORE, dram_address=TARGET, **rows(0, 300)))
        assert await report == expected
        for _ in range(300):
            await dut.clk.rising_edge
        assert dut.quiet.value
        assert memory.outstanding == 0


@cocotb.test()
async def reports_transfers_outside_the_region(dut):
    """Each of the three says so, and nothing is issued for it."""
    memory = AxiMemory(dut)
    load, store = StreamSource(dut, "load"), StreamSource(dut, "store")
    for name in ("fetch", "load", "store"):
        await begin(dut, first=1 << 20, last=(1 << 20) + 63)
        report = cocotb.start_soon(first_error(dut))
        if name == "fetch":
            await begin_program(dut, 1)
        if name == "load":
            await load.put(transfer(Opcode.LOAD, dram_address=1 << 20, **rows(0, 2)))
        if name == "store":
            await store.put(transfer(Opcode.STORE, dram_address=1 << 20, **rows(0, 2)))
        assert await report == (name, ErrorCause.DRAM_REGION)
    assert not memory.bursts
