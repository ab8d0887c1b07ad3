# amaranth: UnusedElaboratable=no
"""ReadChannel: data, order, independence of clients, errors, stop, rate."""

import random

import cocotb
import pytest

from acceltran.memory.read_channel import ReadChannel
from testbench.harness.axi_memory import DECERR, OKAY, SLVERR, AxiMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

CLIENTS = 3


@pytest.mark.parametrize("data_bits", [64, 256])
def test_read_channel(data_bits, request):
    simulate(
        ReadChannel(data_bits=data_bits, queues=(16, 24, 64)),
        bench=__name__,
        parameters={"words": data_bits // 64},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("queues", [(), (16, 15)])
def test_rejects_queues(queues):
    with pytest.raises(ValueError) as error:
        ReadChannel(data_bits=128, queues=queues)
    assert str(error.value) == (
        f"Queues must hold a burst (16 beats) for at least one client, not {queues!r}"
    )


# What follows runs inside the simulator, once for each parametrisation of test_read_channel.


class Client:
    """Requests and beats of one client."""

    def __init__(self, dut, n, *, pace=1.0):
        self.words = parameters()["words"]
        self.source = StreamSource(dut, f"clients__{n}__request", pace=pace)
        self.sink = StreamSink(dut, f"clients__{n}__beats", pace=pace)

    async def request(self, address, words):
        """Ask for words."""
        await self.source.put(address | words << 64)

    async def receive(self, words):
        """Valid words of the beats of a request, which has to end with the last one."""
        received = []
        bits = (self.words - 1).bit_length()
        end = False
        while not end:
            raw = await self.sink.get()
            tail = raw >> 64 * self.words
            first, last = tail & (1 << bits) - 1, tail >> bits & (1 << bits) - 1
            received += [raw >> 64 * n & (1 << 64) - 1 for n in range(first, last + 1)]
            end = bool(tail >> 2 * bits)
            assert end == (len(received) == words)
        return received


def prepare(dut):
    """Idle inputs."""
    dut.stop.value = 0
    for n in range(CLIENTS):
        dut[f"clients__{n}__request__valid"].value = 0
        dut[f"clients__{n}__beats__ready"].value = 0


def image(memory, address, words):
    """Words as they lie in memory."""
    content = memory.dump(address, 8 * words)
    return [int.from_bytes(content[8 * n : 8 * n + 8], "little") for n in range(words)]


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5, 0.2], latency=[0, 20])
async def serves_all(dut, pace, latency):
    """Every client gets what it asked for, whatever the pace of memory and clients."""
    prepare(dut)
    memory = AxiMemory(dut, pace=pace, latency=latency)
    memory.load(0, random.randbytes(1 << 14))
    await start(dut)

    async def run(n):
        client = Client(dut, n, pace=random.choice([1.0, 0.5, 0.3]))
        sizes = [random.choice([1, 2, random.randint(1, 300)]) for _ in range(12)]
        requests = [(8 * random.randrange(1500), size) for size in sizes]

        async def ask():
            for request in requests:
                await client.request(*request)

        asking = cocotb.start_soon(ask())
        for address, words in requests:
            assert await client.receive(words) == image(memory, address, words)
        await asking

    tasks = [cocotb.start_soon(run(n)) for n in range(CLIENTS)]
    for task in tasks:
        await task
    await dut.clk.rising_edge
    assert dut.quiet.value


@cocotb.test()
async def stalled_client_blocks_nobody(dut):
    """Client 0 and 1 never take a beat; client 2 is served."""
    prepare(dut)
    memory = AxiMemory(dut)
    memory.load(0, random.randbytes(1 << 14))
    await start(dut)
    for n in (0, 1):
        await Client(dut, n).request(0, 1000)
    client = Client(dut, 2)
    await client.request(8, 1000)
    assert await client.receive(1000) == image(memory, 8, 1000)


@cocotb.test()
@cocotb.parametrize(latency=[0, 20])
async def moves_a_beat_per_cycle(dut, latency):
    """A long transfer runs at the rate of the bus, latency or not."""
    prepare(dut)
    memory = AxiMemory(dut, latency=latency)
    await start(dut)
    words = 64 * 20 * parameters()["words"]
    await Client(dut, 2).request(0, words)
    begin = memory.cycle
    dut.clients__2__beats__ready.value = 1
    moved = 0
    while memory.read_beats < 64 * 20:
        await dut.clk.rising_edge
        moved += int(dut.read_bytes.value)
    assert memory.cycle - begin <= 64 * 20 + latency + 12
    for _ in range(2):
        await dut.clk.rising_edge
        moved += int(dut.read_bytes.value)
    assert moved == 8 * words


@cocotb.test()
@cocotb.parametrize(response=[SLVERR, DECERR], pace=[1.0, 0.5])
async def reports_errors(dut, response, pace):
    """The client is told, bursts under way end, and no further burst is issued."""
    prepare(dut)
    memory = AxiMemory(
        dut, pace=pace, latency=8, respond=lambda address: response if address >= 4096 else OKAY
    )
    await start(dut)
    dut.clients__1__beats__ready.value = 1
    dut.clients__2__beats__ready.value = 1
    await Client(dut, 2).source.put(4096 | 100000 << 64)
    dut.clients__2__beats__ready.value = 1
    while not int(dut.clients__2__error.value):
        await dut.clk.rising_edge
        assert not int(dut.clients__1__error.value)
    issued = len(memory.bursts)
    await Client(dut, 1).source.put(0 | 100 << 64)
    for _ in range(300):
        await dut.clk.rising_edge
    assert len(memory.bursts) <= issued + 2
    assert dut.quiet.value
    assert memory.outstanding == 0


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5])
async def stops(dut, pace):
    """After stop no address is offered that was not on the bus before, and the port falls quiet."""
    prepare(dut)
    memory = AxiMemory(dut, pace=pace, latency=20)
    await start(dut)
    for n in range(CLIENTS):
        await Client(dut, n).source.put(random.randrange(64) * 8 | 100000 << 64)
        dut[f"clients__{n}__beats__ready"].value = 1
    for _ in range(random.randint(1, 100)):
        await dut.clk.rising_edge
    dut.stop.value = 1
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    offered = int(dut.axi__arvalid.value)
    issued = len(memory.bursts)
    for n in range(CLIENTS):
        dut[f"clients__{n}__beats__ready"].value = 0
    while not int(dut.quiet.value):
        await dut.clk.rising_edge
    assert len(memory.bursts) <= issued + offered
    for _ in range(50):
        await dut.clk.rising_edge
        assert dut.quiet.value
        assert not dut.axi__arvalid.value
    assert memory.outstanding == 0


@cocotb.test()
async def counts_completed_requests(dut):
    """One strobe per request, whether its beats are taken or not."""
    prepare(dut)
    AxiMemory(dut, pace=0.7)
    await start(dut)
    source = StreamSource(dut, "clients__0__request")
    asking = cocotb.start_soon(source.put_all((16 * n + 8) | 2 << 64 for n in range(5)))
    completed = 0
    for _ in range(300):
        await dut.clk.rising_edge
        completed += int(dut.clients__0__completed.value)
    await asking
    assert completed == 5
