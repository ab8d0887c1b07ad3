# amaranth: UnusedElaboratable=no
"""WriteChannel: memory contents, errors, stop, rate."""

import random

import cocotb
import pytest

from acceltran.memory.write_channel import WriteChannel
from testbench.harness.axi_memory import DECERR, OKAY, SLVERR, AxiMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource


@pytest.mark.parametrize("data_bits", [64, 256])
def test_write_channel(data_bits, request):
    simulate(
        WriteChannel(data_bits=data_bits, queue=64),
        bench=__name__,
        parameters={"words": data_bits // 64},
        seed=request.config.getoption("seed"),
    )


def test_rejects_queue():
    with pytest.raises(ValueError) as error:
        WriteChannel(data_bits=128, queue=15)
    assert str(error.value) == "Queue must hold a burst (16 beats), not 15"


# What follows runs inside the simulator, once for each parametrisation of test_write_channel.


def beats(address: int, content: list[int], words: int) -> list[int]:
    """Payloads of a transfer of ``content``."""
    bits = (words - 1).bit_length()
    payloads = []
    place = address // 8 % words
    while content:
        piece, content = content[: words - place], content[words - place :]
        lanes = [random.getrandbits(64) for _ in range(words)]
        lanes[place : place + len(piece)] = piece
        tail = place | (place + len(piece) - 1) << bits | (not content) << 2 * bits
        payloads.append(sum(lane << 64 * n for n, lane in enumerate(lanes)) | tail << 64 * words)
        place = 0
    return payloads


def prepare(dut):
    """Idle inputs."""
    dut.stop.value = 0
    dut.request__valid.value = 0
    dut.beats__valid.value = 0


def begin(dut, transfers, *, pace=1.0):
    """Start offering requests and beats."""
    words = parameters()["words"]
    requests = StreamSource(dut, "request", pace=pace)
    data = StreamSource(dut, "beats", pace=pace)
    payloads = [payload for transfer in transfers for payload in beats(*transfer, words=words)]
    asking = cocotb.start_soon(
        requests.put_all(address | len(content) << 64 for address, content in transfers)
    )
    return asking, cocotb.start_soon(data.put_all(payloads))


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5, 0.2], memory_pace=[1.0, 0.3], latency=[0, 20])
async def writes(dut, pace, memory_pace, latency):
    """Memory holds what was written, and nothing else was touched."""
    prepare(dut)
    memory = AxiMemory(dut, pace=memory_pace, latency=latency)
    await start(dut)
    transfers, expected, address = [], {}, 8 * random.randrange(64)
    for _ in range(12):
        size = random.choice([1, 2, random.randint(1, 200)])
        content = [random.getrandbits(64) for _ in range(size)]
        transfers.append((address, content))
        for n, word in enumerate(content):
            expected.update(enumerate(word.to_bytes(8, "little"), address + 8 * n))
        address += 8 * (size + random.choice([0, 0, random.randrange(40)]))
    for task in begin(dut, transfers, pace=pace):
        await task
    while not int(dut.idle.value):
        await dut.clk.rising_edge
    assert memory.bytes == expected
    assert memory.outstanding == 0
    assert dut.quiet.value


@cocotb.test()
async def issues_a_burst_when_its_data_is_there(dut):
    """No address is offered before the burst's last beat is queued."""
    prepare(dut)
    memory = AxiMemory(dut)
    await start(dut)
    words = parameters()["words"]
    requests, data = StreamSource(dut, "request"), StreamSource(dut, "beats")
    await requests.put(4 * words << 64)
    payloads = beats(0, [1] * (4 * words), words)
    await data.put_all(payloads[:3])
    for _ in range(30):
        await dut.clk.rising_edge
        assert not dut.axi__awvalid.value
    await data.put(payloads[3])
    while not int(dut.idle.value):
        await dut.clk.rising_edge
    assert len(memory.written) == 4 * words * 8


@cocotb.test()
@cocotb.parametrize(latency=[0, 20])
async def moves_a_beat_per_cycle(dut, latency):
    """A long transfer runs at the rate of the bus, latency or not."""
    prepare(dut)
    memory = AxiMemory(dut, latency=latency)
    await start(dut)
    words = parameters()["words"]
    begin(dut, [(0, [0] * (64 * 20 * words))])
    first = memory.cycle
    moved = 0
    while moved < 64 * 20 * words * 8:
        await dut.clk.rising_edge
        moved += int(dut.write_bytes.value)
    assert memory.cycle - first <= 64 * 20 + latency + 30
    while not int(dut.idle.value):
        await dut.clk.rising_edge
    assert memory.cycle - first <= 64 * 20 + 2 * latency + 30


@cocotb.test()
@cocotb.parametrize(response=[SLVERR, DECERR], pace=[1.0, 0.5])
async def reports_errors(dut, response, pace):
    """One strobe; bursts under way end without a strobe, and none is issued any more."""
    prepare(dut)
    memory = AxiMemory(
        dut, pace=pace, latency=8, respond=lambda address: response if address >= 2048 else OKAY
    )
    await start(dut)
    words = parameters()["words"]
    begin(dut, [(1024, [1] * (1000 * words))])
    while not int(dut.error.value):
        await dut.clk.rising_edge
    issued, written = len(memory.bursts), len(memory.written)
    for _ in range(300):
        await dut.clk.rising_edge
        assert not dut.error.value
    assert len(memory.bursts) <= issued + 1
    assert len(memory.written) <= written + 8 * words
    assert dut.quiet.value
    assert not dut.idle.value
    assert memory.outstanding == 0


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5, 0.3])
async def stops(dut, pace):
    """After stop no burst is issued, strobes are 0, and the port falls quiet."""
    prepare(dut)
    memory = AxiMemory(dut, pace=pace, latency=20)
    await start(dut)
    words = parameters()["words"]
    begin(dut, [(8 * random.randrange(64), [1] * (1000 * words))])
    for _ in range(random.randint(40, 100)):
        await dut.clk.rising_edge
    dut.stop.value = 1
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    offered = int(dut.axi__awvalid.value)
    issued, written = len(memory.bursts), len(memory.written)
    while not int(dut.quiet.value):
        await dut.clk.rising_edge
    assert len(memory.bursts) <= issued + offered
    assert len(memory.written) <= written + 8 * words  # a beat that was on the bus already
    for _ in range(50):
        await dut.clk.rising_edge
        assert dut.quiet.value
        assert not dut.axi__awvalid.value
        assert not dut.axi__wvalid.value
    assert memory.outstanding == 0
