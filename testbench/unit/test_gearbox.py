# amaranth: UnusedElaboratable=no
"""Gearbox: the words of every transfer in order, in their places, at full rate."""

import random

import cocotb
import pytest

from acceltran.memory.gearbox import Gearbox
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource


@pytest.mark.parametrize(("in_words", "out_words"), [(2, 5), (8, 3), (5, 4), (1, 4), (4, 1)])
def test_gearbox(in_words, out_words, request):
    simulate(
        Gearbox(in_words=in_words, out_words=out_words),
        bench=__name__,
        parameters={"in_words": in_words, "out_words": out_words},
        seed=request.config.getoption("seed"),
    )


def test_rejects_in_words():
    rule = "Words of an incoming piece must be at least 1, not 0"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        Gearbox(in_words=0, out_words=4)


def test_rejects_out_words():
    rule = "Words of an outgoing piece must be at least 1, not 0"
    with pytest.raises(ValueError, match=f"^{rule}$"):
        Gearbox(in_words=4, out_words=0)


# What follows runs inside the simulator, once for each parametrisation of test_gearbox.


def place_bits(words: int) -> int:
    """Width of a place in a piece."""
    return (words - 1).bit_length()


def encode(piece: list[int], first: int, end: bool, words: int) -> int:
    """Payload of an incoming piece; invalid words are random."""
    places = [random.getrandbits(64) for _ in range(words)]
    places[first : first + len(piece)] = piece
    raw = sum(word << 64 * n for n, word in enumerate(places))
    bits = place_bits(words)
    last = first + len(piece) - 1
    return raw | (first | last << bits | end << 2 * bits) << 64 * words


def decode(raw: int, words: int):
    """Words, first place and end of an outgoing piece."""
    bits = place_bits(words)
    tail = raw >> 64 * words
    first, last = tail & (1 << bits) - 1, tail >> bits & (1 << bits) - 1
    valid = [raw >> 64 * n & (1 << 64) - 1 for n in range(first, last + 1)]
    return valid, first, bool(tail >> 2 * bits)


def cut(words: list[int], size: int, full: bool) -> list[int]:
    """Payloads that carry ``words`` in pieces of random or largest extent."""
    payloads = []
    place = 0
    while place < len(words):
        first = 0 if full else random.randrange(size)
        count = min(len(words) - place, size - first if full else random.randint(1, size - first))
        end = place + count == len(words)
        payloads.append(encode(words[place : place + count], first, end, size))
        place += count
    return payloads


def set_offset(dut, offset):
    """Where there is one outgoing word, there is no such port."""
    if hasattr(dut, "offset"):
        dut.offset.value = offset


@cocotb.test()
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3], full=[False, True])
async def repacks(dut, source_pace, sink_pace, full):
    """Transfers of random lengths, each begun at another place."""
    in_words, out_words = parameters()["in_words"], parameters()["out_words"]
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    set_offset(dut, 0)
    await start(dut)
    for length in [1, out_words, out_words + 1, *(random.randint(1, 60) for _ in range(20))]:
        words = [random.getrandbits(64) for _ in range(length)]
        offset = random.randrange(out_words)
        set_offset(dut, offset)
        driver = cocotb.start_soon(source.put_all(cut(words, in_words, full)))
        received: list[int] = []
        end = False
        while not end:
            valid, first, end = decode(await sink.get(), out_words)
            assert first == (0 if received else offset)
            assert end or first + len(valid) == out_words
            received += valid
        assert received == words
        await driver
    await dut.clk.rising_edge
    assert dut.idle.value


@cocotb.test()
async def runs_several_transfers(dut):
    """With a constant offset, a transfer may follow at once."""
    in_words, out_words = parameters()["in_words"], parameters()["out_words"]
    source, sink = StreamSource(dut, "i"), StreamSink(dut, "o", pace=0.8)
    set_offset(dut, 0)
    await start(dut)
    transfers = [[random.getrandbits(64) for _ in range(random.randint(1, 30))] for _ in range(40)]
    payloads = [payload for words in transfers for payload in cut(words, in_words, False)]
    driver = cocotb.start_soon(source.put_all(payloads))
    for words in transfers:
        received, end = [], False
        while not end:
            valid, _, end = decode(await sink.get(), out_words)
            received += valid
        assert received == words
    await driver


@cocotb.test()
async def runs_at_full_rate(dut):
    """The narrower side moves a piece in every cycle of a transfer."""
    in_words, out_words = parameters()["in_words"], parameters()["out_words"]
    length = 60 * in_words * out_words
    narrow = length // min(in_words, out_words)
    payloads = cut([0] * length, in_words, True)
    source = StreamSource(dut, "i")
    dut.o__ready.value = 1
    set_offset(dut, 0)
    await start(dut)
    cocotb.start_soon(source.put_all(payloads))
    cycles = pieces = 0
    while pieces < length // out_words:
        await dut.clk.rising_edge
        cycles += 1
        pieces += int(dut.o__valid.value)
    assert cycles <= narrow + 4
