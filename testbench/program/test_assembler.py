"""Programs as text and as bytes, and vectors as bytes."""

import numpy as np
import pytest

from acceltran.arch.commands import BODIES, COMMAND_BYTES, HEADER, Opcode
from acceltran.arch.presets import TINY
from acceltran_sim.errors import InputError
from acceltran_sim.program.assembler import (
    assemble,
    decode_program,
    disassemble,
    encode_program,
    format_command,
)
from acceltran_sim.program.command import Command, Stage, Wait
from acceltran_sim.program.vectors import pack_vectors, rows_to_vectors, unpack_vectors


@pytest.mark.parametrize("opcode", Opcode)
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_round_trip(opcode, density):
    rng = np.random.default_rng(int(opcode))
    commands = []
    for _ in range(50):
        fields = {
            field.name: int(rng.integers(0, field.mask + 1, dtype=np.uint64))
            for field in (*HEADER[1:], *BODIES[opcode])
            if rng.random() < density
        }
        fields = {name: value for name, value in fields.items() if value}
        commands.append(Command(opcode=opcode, fields=fields))
    assert decode_program(encode_program(commands)) == commands
    assert assemble(disassemble(commands)) == commands


def test_text():
    text = "LOAD after=2:7*,0:65535r,1:3*f signal=0 dram_address=0x1000 vectors=6 row_vectors=3"
    waits = [
        Wait(2, 7, everywhere=True),
        Wait(0, 65535, stage=Stage.ROWS),
        Wait(1, 3, True, Stage.FINAL),
    ]
    [command] = assemble(f"# a comment\n\n  {text}  # another\n")
    assert command.waits == waits and command.signal == 0
    assert command["vectors"] == 6 and command["base"] == 0
    assert format_command(command) == text
    assert assemble("END\n") == [Command(opcode=Opcode.END)]


@pytest.mark.parametrize(
    "line,message",
    [
        (
            "JUMP",
            (
                "opcode must be one of LOAD, STORE, MATMUL, SOFTMAX, LAYERNORM, THRESHOLD, END,"
                " SEQUENCE, not JUMP"
            ),
        ),
        ("LOAD base", "a field must be name=value, not base"),
        ("LOAD base=x", "base must be an integer, not 'x'"),
        ("LOAD base=1 base=2", "base must be given once"),
        ("LOAD after=1:2,1:2,1:2,1:2,1:2", "after must list at most 4 waits, not 5"),
        ("LOAD after=1:2fr", "after must be an integer, not '2f'"),
        ("LOAD rows=1", "LOAD has no field rows"),
        ("LOAD buffer=2", "LOAD.buffer must be from 0 to 1, not 2"),
    ],
)
def test_refused_text(line, message):
    with pytest.raises(InputError) as error:
        assemble(f"END\n{line}\n")
    assert str(error.value) == f"Line 2 of the program: {message}"


def test_refused_bytes():
    with pytest.raises(InputError, match=r"^A program must be a multiple of 128 bytes, not 5$"):
        decode_program(bytes(5))
    with pytest.raises(InputError, match=r"^Command 1 of the program: Opcode must be"):
        decode_program(Command(opcode=Opcode.END).encode() + bytes(COMMAND_BYTES))


@pytest.mark.parametrize("frac_bits", [8, 12, 16])
def test_vectors(frac_bits):
    config = TINY.replace(datapath={"frac_bits": frac_bits}, buffers={"mask_kib": 1024})
    rng = np.random.default_rng(1)
    rows = rng.integers(config.fmt.lowest, config.fmt.highest + 1, size=(5000, 21))
    vectors = rows_to_vectors(rows, 16)
    assert vectors.shape == (5000, 2, 16) and not vectors.reshape(5000, 32)[:, 21:].any()
    content = pack_vectors(vectors, config)
    assert len(content) == 10000 * config.vector_bytes
    assert (unpack_vectors(content, config) == vectors.reshape(-1, 16)).all()
    first = int.from_bytes(content[: config.vector_bytes], "little")
    width = config.fmt.width
    for k in range(16):
        assert first >> k * width & (1 << width) - 1 == vectors[0, 0, k] % (1 << width)
