"""`acceltran disasm`: the program of a run, and commands in a file."""

from acceltran.arch.presets import TINY
from acceltran_sim.models.encoder_model import load_model
from acceltran_sim.program.assembler import assemble, encode_program
from acceltran_sim.program.builder import build
from acceltran_sim.program.job import load_job
from acceltran_sim.program.quantize import quantize, quantize_model


def test_program_of_a_run(acceltran, model, inputs):
    answer = acceltran("disasm", model, "--preset", "tiny", "--inputs", inputs, "--order", "bjik")
    assert (answer.code, answer.stderr) == (0, "")
    job = load_job(inputs, hidden_size=32)
    encoder = quantize_model(load_model(model), job, fmt=TINY.fmt)
    raw, _ = quantize(job.hidden, encoder.input_exponent, TINY.fmt)
    program = build(TINY, encoder, raw, job.lengths, order="bjik")
    assert encode_program(assemble(answer.stdout)) == encode_program(program.commands)


def test_binary(acceltran, tmp_path):
    text = "THRESHOLD index=1 value=5\nLOAD signal=0 dram_address=0x1000 vectors=8 row_vectors=8\n"
    path = tmp_path / "program.bin"
    path.write_bytes(encode_program(assemble(text + "END\n")))
    assert acceltran("disasm", "--binary", path).stdout == f"{text}END\n"


def test_refused_binaries(acceltran, tmp_path):
    path = tmp_path / "program.bin"
    path.write_bytes(bytes(100))
    answer = acceltran("disasm", "--binary", path)
    message = "Error: A program must be a multiple of 128 bytes, not 100\n"
    assert (answer.code, answer.stdout, answer.stderr) == (2, "", message)
    path.write_bytes(b"\xff" * 128)
    answer = acceltran("disasm", "--binary", path)
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Error: Command 0 of the program: ")
