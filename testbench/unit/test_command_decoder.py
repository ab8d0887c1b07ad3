# amaranth: UnusedElaboratable=no
"""CommandDecoder: legal commands pass unchanged, each kind of illegal one stops the stream."""

import random
from itertools import pairwise

import cocotb
import pytest

from acceltran.arch.commands import BODIES, COMMAND_BYTES, HEADER, WAITS, Opcode, encode
from acceltran.control.command_decoder import CommandDecoder
from acceltran.control.command_word import CommandWord
from testbench.harness.simulate import simulate, start
from testbench.harness.streams import StreamSink, StreamSource

SIZES = {
    "tile": 16,
    "tile_rows": 256,
    "partial_sums": 64,
    "inner": 1024,
    "sequence": 512,
    "hidden": 512,
    "banks": 4,
    "streams": 4,
    "clusters": 4,
}
LEGAL = {
    Opcode.LOAD: {"vectors": 6, "row_vectors": 2, "buffer": 1},
    Opcode.STORE: {"vectors": 6, "row_vectors": 2},
    Opcode.MATMUL: {
        "inner_vectors": 16,
        "b_rows": 256,
        "columns": 4,
        "rows": 37,
        "batches": 1,
        "row_tile": 16,
        "inner_tile": 8,
        "streams": 2,
        "order0": 0,
        "order1": 1,
        "order2": 2,
        "order3": 3,
        "c_base": 4,
        "c_row_stride": 12,
        "c_batch_stride": 6,
    },
    Opcode.SOFTMAX: {"rows": 3, "blocks": 32, "keys": 512},
    Opcode.LAYERNORM: {"rows": 1, "blocks": 32, "columns": 500, "epsilon": 1, "beta_shift": 31},
    Opcode.THRESHOLD: {"index": 127, "value": 0xFFFFFF, "mode": 2, "gain": 0xFFFF},
    Opcode.END: {},
    Opcode.SEQUENCE: {"group": 1, "span": 1, "rows": 16, "length": 100},
}
ILLEGAL = [
    (Opcode.LOAD, {"vectors": 0}),
    (Opcode.LOAD, {"row_vectors": 0}),
    (Opcode.STORE, {"buffer": 1}),
    *((Opcode.MATMUL, {name: 0}) for name in ("inner_vectors", "b_rows", "columns", "rows")),
    *((Opcode.MATMUL, {name: 0}) for name in ("batches", "row_tile", "inner_tile")),
    (Opcode.MATMUL, {"order0": 1}),
    (Opcode.MATMUL, {"b_source": 3}),
    (Opcode.MATMUL, {"function": 3}),
    (Opcode.MATMUL, {"inner_tile": 9}),
    (Opcode.MATMUL, {"inner_vectors": 65}),
    *((Opcode.MATMUL, {"streams": count}) for count in (0, 3, 8)),
    (Opcode.MATMUL, {"row_tile": 129}),
    (Opcode.MATMUL, {"row_tile": 65, "streams": 1}),
    *((Opcode.MATMUL, {"c_base": low}) for low in (1, 2, 3)),
    (Opcode.MATMUL, {"c_base": 1 << 23}),
    (Opcode.MATMUL, {"c_row_stride": 10}),
    (Opcode.MATMUL, {"share_stride": 2}),
    (Opcode.MATMUL, {"c_batch_stride": 6, "batches": 2}),
    (Opcode.MATMUL, {"keep_sums": 1, "rows": 17}),
    (Opcode.MATMUL, {"resume_sums": 1, "batches": 2, "c_batch_stride": 8, "rows": 16}),
    (Opcode.SOFTMAX, {"rows": 0}),
    (Opcode.SOFTMAX, {"blocks": 0}),
    (Opcode.SOFTMAX, {"blocks": 33}),
    (Opcode.SOFTMAX, {"blocks": 2, "keys": 33}),
    (Opcode.THRESHOLD, {"mode": 3}),
    (Opcode.LAYERNORM, {"rows": 0}),
    (Opcode.LAYERNORM, {"blocks": 33}),
    (Opcode.LAYERNORM, {"columns": 513}),
    (Opcode.LAYERNORM, {"columns": 0}),
    (Opcode.LAYERNORM, {"epsilon": 0}),
    (Opcode.LAYERNORM, {"beta_shift": 32}),
    (Opcode.SEQUENCE, {"group": 2}),
    (Opcode.SEQUENCE, {"span": 2, "group": 1}),
    (Opcode.SEQUENCE, {"span": 3, "group": 0}),
    (Opcode.SEQUENCE, {"signal_enable": 1}),
    *((Opcode.SEQUENCE, {f"wait{n}_enable": 1}) for n in range(WAITS)),
]


def test_command_decoder(request):
    simulate(
        CommandDecoder(**SIZES),
        bench=__name__,
        parameters={},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("banks", [0, 3])
def test_rejects_banks(banks):
    with pytest.raises(ValueError, match=rf"^Number of banks must be a power of two, not {banks}$"):
        CommandDecoder(**{**SIZES, "banks": banks})


def word(index: int, command: bytes) -> int:
    return (
        CommandWord().const({"index": index, "bits": int.from_bytes(command, "little")}).as_bits()
    )


def with_random_header(opcode: Opcode, fields: dict[str, int]) -> bytes:
    header = {f.name: random.randint(0, f.mask) for f in HEADER if f.name != "opcode"}
    if opcode is Opcode.SEQUENCE:
        header = dict.fromkeys(header, 0)
    return encode(opcode, {**header, **LEGAL[opcode], **fields})


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(source_pace=[1.0, 0.5], sink_pace=[1.0, 0.3])
async def passes_legal_commands(dut, source_pace, sink_pace):
    """Every opcode, also what only one chunk or one batch allows, and several batches."""
    single_chunk = {"inner_vectors": 8, "row_tile": 512}
    commands = [with_random_header(opcode, {}) for opcode in list(Opcode) * 4]
    batches = {"batches": 2, "c_batch_stride": 8}
    in_lanes = {"keep_sums": 1, "resume_sums": 1, "first_slot": 60, "rows": 16}
    commands += [
        with_random_header(Opcode.MATMUL, fields) for fields in (single_chunk, batches, in_lanes)
    ]
    random.shuffle(commands)
    words = [word(index, command) for index, command in enumerate(commands)]
    source = StreamSource(dut, "i", pace=source_pace)
    sink = StreamSink(dut, "o", pace=sink_pace)
    await start(dut)
    driver = cocotb.start_soon(source.put_all(words))
    assert await sink.get_all(len(words)) == words
    assert not dut.illegal.value
    await driver


async def is_refused(dut, command: bytes) -> bool:
    """Whether ``command``, behind a legal one, stops the decoder."""
    source = StreamSource(dut, "i")
    dut.rst.value = 1
    await dut.clk.rising_edge
    dut.rst.value = 0
    dut.o__ready.value = 1
    await source.put(word(0, with_random_header(Opcode.END, {})))
    await source.put(word(1, command))
    for _ in range(8):
        await dut.clk.rising_edge
        if dut.o__valid.value:
            return False
    assert dut.illegal_index.value == 1
    assert not dut.i__ready.value
    return bool(dut.illegal.value)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stops_at_values_without_meaning(dut):
    """One command for every rule on the fields."""
    await start(dut)
    for opcode, fields in ILLEGAL:
        assert await is_refused(dut, with_random_header(opcode, fields)), (opcode, fields)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stops_at_unknown_opcodes(dut):
    """Every code that is no opcode, blank memory included."""
    await start(dut)
    for code in set(range(256)) - set(Opcode):
        assert await is_refused(dut, bytes([code]) + bytes(COMMAND_BYTES - 1)), code


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def stops_at_stray_bits(dut):
    """Any bit outside the fields of an opcode."""
    await start(dut)
    for opcode in Opcode:
        used = sum(f.mask << f.offset for f in (*HEADER, *BODIES[opcode]))
        unused = [bit for bit in range(8 * COMMAND_BYTES) if not used >> bit & 1]
        for bit in [unused[0], unused[-1], *random.sample(unused, 10)]:
            command = int.from_bytes(with_random_header(opcode, {}), "little") | 1 << bit
            assert await is_refused(dut, command.to_bytes(COMMAND_BYTES, "little")), (opcode, bit)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def has_the_documented_latency(dut):
    """A command accepted at one edge is offered at the LATENCY-th edge after it."""
    source = StreamSource(dut, "i")
    dut.o__ready.value = 0
    await start(dut)
    await source.put(word(0, with_random_header(Opcode.MATMUL, {})))
    for _ in range(CommandDecoder.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
    await dut.clk.rising_edge
    assert dut.o__valid.value


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def has_the_documented_throughput(dut):
    """Commands follow one another every LATENCY + 1 cycles."""
    source = StreamSource(dut, "i")
    dut.o__ready.value = 1
    await start(dut)
    legal = with_random_header(Opcode.SOFTMAX, {})
    driver = cocotb.start_soon(source.put_all(word(index, legal) for index in range(5)))
    offers = []
    for cycle in range(5 * (CommandDecoder.LATENCY + 1) + 2):
        await dut.clk.rising_edge
        if dut.o__valid.value:
            offers.append(cycle)
    gaps = [late - early for early, late in pairwise(offers)]
    assert gaps == [CommandDecoder.LATENCY + 1] * 4
    await driver
