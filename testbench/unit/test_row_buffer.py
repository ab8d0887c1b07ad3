# amaranth: UnusedElaboratable=no
"""RowBuffer: every row is read twice as it was written."""

import random

import cocotb
import pytest

from acceltran.memory.row_buffer import RowBuffer
from testbench.harness.simulate import parameters, simulate, start

ELEMENT_WIDTH, ROWS = 7, 4


@pytest.mark.parametrize(("width", "words"), [(4, 8), (1, 1)])
def test_row_buffer(width, words, request):
    simulate(
        RowBuffer(element_width=ELEMENT_WIDTH, width=width, words=words, rows=ROWS),
        bench=__name__,
        parameters={"width": width, "words": words},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("width", [0, -1])
def test_rejects_width(width):
    with pytest.raises(ValueError, match=rf"^Width must be at least 1, not {width}$"):
        RowBuffer(element_width=ELEMENT_WIDTH, width=width, words=8, rows=ROWS)


@pytest.mark.parametrize("words", [0, -1])
def test_rejects_words(words):
    with pytest.raises(ValueError, match=rf"^Words must be at least 1, not {words}$"):
        RowBuffer(element_width=ELEMENT_WIDTH, width=4, words=words, rows=ROWS)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_rejects_rows(rows):
    with pytest.raises(
        ValueError, match=rf"^Rows must be a power of two and at least 2, not {rows}$"
    ):
        RowBuffer(element_width=ELEMENT_WIDTH, width=4, words=8, rows=rows)


# What follows runs inside the simulator, once for each parametrisation of test_row_buffer.


VALID, FIRST, LAST = 1, 2, 4


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.5, 0.2], words=[1, "all"])
async def both_readers_see_every_row(dut, pace, words):
    """Rows are written, read, and read again, each at a pace of its own, all overlapping."""
    words = parameters()["words"] if words == "all" else 1
    content_width = parameters()["width"] * (ELEMENT_WIDTH + 1)
    expected = [
        VALID
        | (FIRST if index == 0 else 0)
        | (LAST if index == words - 1 else 0)
        | random.getrandbits(content_width) << 3
        for _ in range(30)
        for index in range(words)
    ]
    if parameters()["words"] > 1:
        dut.last_word.value = words - 1
    dut.claim.value = dut.i.value = dut.start.value = dut.advance.value = 0
    await start(dut)
    outputs = [dut.words_out__0, dut.words_out__1]
    startable = [0, 0]
    seen: list[list[int]] = [[], []]

    async def write():
        for word in expected:
            if word & FIRST:
                await dut.clk.rising_edge
                while not dut.claimable.value:
                    await dut.clk.rising_edge
                dut.claim.value = 1
                await dut.clk.rising_edge
                dut.claim.value = 0
            while random.random() >= pace:
                await dut.clk.rising_edge
            dut.i.value = word
            await dut.clk.rising_edge
            dut.i.value = 0
            startable[0] += (word & LAST) // LAST

    writer = cocotb.start_soon(write())
    while len(seen[1]) < len(expected):
        begin = [available > 0 and random.random() < pace for available in startable]
        advance = [random.random() < pace for _ in range(2)]
        dut.start.value = begin[0] | begin[1] << 1
        dut.advance.value = advance[0] | advance[1] << 1
        for n in range(2):
            startable[n] -= begin[n]
        await dut.clk.rising_edge
        for n in range(2):
            word = outputs[n].value.to_unsigned()
            if advance[n] and word & VALID:
                seen[n].append(word)
                startable[1] += n == 0 and bool(word & LAST)
    await writer
    assert seen == [expected, expected]
    dut.start.value = 0
    await dut.clk.rising_edge
    await dut.clk.rising_edge
    assert not dut.in_use.value


@cocotb.test()
async def claims_until_full(dut):
    """There is room for exactly ROWS rows; a row read twice makes room."""
    dut.claim.value = dut.i.value = dut.start.value = dut.advance.value = 0
    await start(dut)
    for _ in range(ROWS):
        dut.claim.value = 1
        await dut.clk.rising_edge
        assert dut.claimable.value
    dut.claim.value = 0
    await dut.clk.rising_edge
    assert not dut.claimable.value
    assert dut.in_use.value


@cocotb.test()
async def has_the_documented_latency(dut):
    """The first word is there LATENCY edges after the cycle of start."""
    dut.claim.value = dut.i.value = 0
    dut.advance.value = 3
    dut.start.value = 0
    await start(dut)
    dut.start.value = 2
    await dut.clk.rising_edge
    dut.start.value = 0
    for _ in range(RowBuffer.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.words_out__1.value.to_unsigned() & VALID
    await dut.clk.rising_edge
    assert dut.words_out__1.value.to_unsigned() & VALID
