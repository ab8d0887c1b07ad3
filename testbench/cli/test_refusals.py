"""Bad input and usage: one line, exit code 2, nothing written."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testbench.golden.models import random_tensors, write_model

LONG = "long" * 100
HIDDEN = np.ones((2, 9, 32), np.float32)


def refused(answer):
    """The complaint of a refusal."""
    assert (answer.code, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Error: ") and answer.stderr.count("\n") == 1
    return answer.stderr.removeprefix("Error: ").removesuffix("\n")


@pytest.mark.parametrize(
    "options,message",
    [
        (("--foo",), "--foo is not an option of acceltran run; the nearest is --json"),
        (
            ("--thresold", 1),
            "--thresold is not an option of acceltran run; the nearest is --threshold",
        ),
        (("more",), "acceltran run takes no further argument: more"),
        (("--json=1",), "--json takes no value"),
        (("--seed",), "--seed must be given a value"),
        (("--preset", "huge"), "preset must be one of tiny, tiny2, medium, edge, server, not huge"),
        (("--backend", "verilog"), "--backend must be one of golden, rtl, not verilog"),
        (("--layers", "x"), "--layers must be an integer, not 'x'"),
        (("--layers", 0), "Layers must be from 1 to the model's 2, not 0"),
        (("--layers", 3), "Layers must be from 1 to the model's 2, not 3"),
        (("--threshold", "x"), "--threshold must be a number, not 'x'"),
        (("--threshold", -1), "Threshold must be finite and at least 0, not -1.0"),
        (("--threshold", "inf"), "Threshold must be finite and at least 0, not inf"),
        (("--threshold", "nan"), "Threshold must be finite and at least 0, not nan"),
        (("--sparsity", 1), "Sparsity must be at least 0 and below 1, not 1.0"),
        (("--sparsity", -0.1), "Sparsity must be at least 0 and below 1, not -0.1"),
        (("--sparsity", "nan"), "Sparsity must be at least 0 and below 1, not nan"),
        (
            ("--threshold", 0, "--sparsity", 0.5),
            "--threshold 0.0 must not be given with --sparsity 0.5",
        ),
        (("--stall", 0.95), "--stall must be from 0 to 0.9, not 0.95"),
        (("--stall", "nan"), "--stall must be from 0 to 0.9, not nan"),
        (("--seed", -1), "--seed must be from 0 to 9223372036854775807, not -1"),
        (("--order", "bijj"), "Loop order must be a permutation of bijk, not 'bijj'"),
        (("--set", "array.lanes"), "--set must be group.field=value, not 'array.lanes'"),
        (("--set", "=8"), "--set must be group.field=value, not '=8'"),
        (
            ("--set", "array.lane=8"),
            "array.lane is not a configuration field; the nearest is array.lanes",
        ),
        (("--set", "array.lanes=x"), "array.lanes must be an integer, not 'x'"),
        (("--set", "array.lanes=0"), "array.lanes must be from 1 to 128, not 0"),
        (("--set", "datapath.frac_bits=9"), "datapath.frac_bits must be one of 8, 12, 16, not 9"),
        (
            ("--set", "datapath.weight_window=4"),
            "datapath.weight_window must be one of 0, 8, 16, not 4",
        ),
        (
            ("--set", "datapath.lane=dot", "--set", "datapath.weight_window=8"),
            "datapath.weight_window must be 0 unless datapath.lane is broadcast, not 8",
        ),
        (
            ("--set", "array.lanes=4", "--set", "array.lanes=8"),
            "--set must set array.lanes once, not to 4 and 8",
        ),
        (("--inputs", "none.npz"), "none.npz must be readable: No such file or directory"),
        (
            ("--calibration", "none.npz"),
            "Calibration: none.npz must be readable: No such file or directory",
        ),
        (("-o", "/"), "Output / must be writable: it is a folder"),
        (("-o", "/dev/null"), "Output /dev/null must be a regular file"),
        (("-o", LONG), f"Output {LONG} must be writable: File name too long"),
        (("-o", "/none/y.npz"), "Output /none/y.npz must be writable: /none is not a folder"),
        (
            ("--resident", "--sparsity", "0.5", "--closed-loop"),
            "--resident must not be given with --closed-loop or --open-loop",
        ),
        (("--set", "limits.sequence=4096"), "limits.sequence must be from 16 to 1024, not 4096"),
    ],
)
def test_options(acceltran, arguments, tmp_path, options, message):
    assert refused(acceltran(*arguments, *options)) == message
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("name", ["--preset", "--backend", "--inputs", "--output", "MODEL"])
def test_missing_options(acceltran, arguments, name):
    if name == "MODEL":
        left = [arguments[0], *arguments[2:]]
    else:
        place = arguments.index("-o" if name == "--output" else name)
        left = arguments[:place] + arguments[place + 2 :]
    assert refused(acceltran(*left)) == f"{name} must be given"


def with_value(value):
    hidden = HIDDEN.copy()
    hidden[1, 8, 3] = value
    return hidden


@pytest.mark.parametrize(
    "arrays,message",
    [
        ({"x": HIDDEN}, "{path} must hold an array named hidden"),
        ({"hidden": HIDDEN.astype(float)}, "hidden must be float32, not float64"),
        ({"hidden": HIDDEN[0]}, "hidden must be [batch, sequence, hidden], not of shape (9, 32)"),
        (
            {"hidden": HIDDEN[:0]},
            "hidden must have a batch and a sequence, not the shape (0, 9, 32)",
        ),
        (
            {"hidden": HIDDEN[:, :0]},
            "hidden must have a batch and a sequence, not the shape (2, 0, 32)",
        ),
        ({"hidden": HIDDEN[..., :5]}, "hidden must have the model's 32 columns, not 5"),
        ({"hidden": with_value(np.nan)}, "hidden must be finite, not nan"),
        ({"hidden": with_value(np.inf)}, "hidden must be finite, not inf"),
        (
            {"hidden": HIDDEN.astype(object)},
            "hidden of {path} must be a complete array without pickled objects",
        ),
        (
            {"hidden": HIDDEN, "lengths": np.ones(2, np.uint8)},
            "lengths must be int32 or int64, not uint8",
        ),
        (
            {"hidden": HIDDEN, "lengths": np.ones(3, int)},
            "lengths must have the shape (2,), not (3,)",
        ),
        ({"hidden": HIDDEN, "lengths": np.array([9, 0])}, "lengths must be from 1 to 9, not 0"),
        ({"hidden": HIDDEN, "lengths": np.array([10, 9])}, "lengths must be from 1 to 9, not 10"),
        (
            {"hidden": np.ones((1, 4096, 32), np.float32)},
            "Sequence must be at most limits.sequence (512), not 4096",
        ),
    ],
)
@pytest.mark.parametrize("backend", ["golden", "rtl"])
def test_inputs(acceltran, arguments, inputs, backend, arrays, message):
    np.savez(inputs, **arrays)
    answer = acceltran(*arguments, "--backend", backend)
    assert refused(answer) == message.format(path=inputs)
    assert not arguments[-1].exists()


def test_truncated_inputs(acceltran, arguments, inputs):
    content = inputs.read_bytes()
    for size in (0, 10, len(content) - 30):
        inputs.write_bytes(content[:size])
        assert refused(acceltran(*arguments)) == f"{inputs} must be an .npz file"


def test_calibration_of_another_model(acceltran, arguments, tmp_path):
    np.savez(tmp_path / "c.npz", hidden=HIDDEN[..., :5])
    answer = acceltran(*arguments, "--calibration", tmp_path / "c.npz")
    assert refused(answer) == "Calibration: hidden must have the model's 32 columns, not 5"


def test_sequence_that_fits_no_buffer(acceltran, arguments, inputs):
    np.savez(inputs, hidden=np.ones((1, 512, 32), np.float32))
    options = ("--set", "buffers.activation_kib=64")
    assert refused(acceltran(*arguments, *options)) == (
        "A sequence of 512 rows must fit the activation buffer: it needs 5120 vectors, the buffer"
        " holds 1638"
    )


@pytest.mark.parametrize(
    "config,message",
    [
        (
            {"hidden_act": "silu"},
            'hidden_act of the model must be "gelu" or "relu", not \'silu\'',
        ),
        (
            {"model_type": "gpt2"},
            'model_type of the model must be "bert" or "roberta", not \'gpt2\'',
        ),
        (
            {"num_hidden_layers": 3},
            (
                "{model}/model.safetensors must hold the tensor"
                " bert.encoder.layer.2.attention.self.query.weight"
            ),
        ),
    ],
)
def test_models(acceltran, arguments, tmp_path, config, message):
    tensors = random_tensors(np.random.default_rng(1), layers=2, hidden=32, intermediate=48)
    shape = {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    folder = write_model(tmp_path / "other", tensors, **{**shape, **config})
    arguments[1] = folder
    assert refused(acceltran(*arguments)) == message.format(model=folder)
    assert not arguments[-1].exists()


@pytest.mark.parametrize("name", ["none", "x.npz", LONG])
def test_no_model(acceltran, arguments, tmp_path, name):
    arguments[1] = tmp_path / name
    assert refused(acceltran(*arguments)) == (
        f"Model must be a folder with config.json and model.safetensors: {tmp_path}/{name}"
    )


def test_old_output_stays(acceltran, arguments):
    arguments[-1].write_text("old")
    refused(acceltran(*arguments, "--layers", 9))
    assert arguments[-1].read_text() == "old"


def test_messages_stay_on_one_line(acceltran, arguments, tmp_path):
    path = f"{tmp_path}/a\nb\x1b[31m.npz"
    assert refused(acceltran(*arguments, "--inputs", path)) == (
        f"{tmp_path}/a b?[31m.npz must be readable: No such file or directory"
    )


@pytest.mark.parametrize(
    "words,message",
    [
        (
            ("foo",),
            (
                "Command must be one of bench, classify, demo, disasm, generate, presets, profile,"
                " run, not foo"
            ),
        ),
        (("--foo",), "--foo is not an option of acceltran; the nearest is --version"),
        (("presets", "x"), "acceltran presets takes no further argument: x"),
        (("generate",), "PRESET must be given"),
        (("generate", "tiny"), "--output must be given"),
        (
            ("generate", "tiny", "-o", LONG),
            f"Output {LONG} must be writable: File name too long",
        ),
        (
            ("generate", "huge", "-o", "rtl"),
            "preset must be one of tiny, tiny2, medium, edge, server, not huge",
        ),
        (("classify",), "TEXT must be given"),
        (("classify", "\udcff"), "TEXT must be UTF-8, not '\\udcff'"),
        (
            ("classify", "a", "--threshold", "1", "--sparsity", "0"),
            "--threshold 1.0 must not be given with --sparsity 0.0",
        ),
        (("disasm",), "MODEL must be given unless --binary is"),
        (("disasm", "m", "--binary", "f"), "MODEL m must not be given with --binary f"),
        (("disasm", "--binary", "none"), "none must be readable: No such file or directory"),
    ],
)
def test_other_commands(acceltran, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert refused(acceltran(*words)) == message
    assert not list(tmp_path.iterdir())


def test_bugs(acceltran, arguments, monkeypatch):
    def fail(*_, **__):
        raise IndexError("list index\nout of range")

    monkeypatch.setattr("acceltran_cli.run.run_encoder", fail)
    answer = acceltran(*arguments)
    assert (answer.code, answer.stdout) == (1, "")
    assert answer.stderr == (
        "Error: IndexError: list index out of range"
        " (this is a bug; acceltran --traceback COMMAND ... shows where)\n"
    )
    with pytest.raises(IndexError):
        acceltran("--traceback", *arguments)
    assert not arguments[-1].exists()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, EOFError])
def test_interrupt(acceltran, arguments, monkeypatch, kind):
    def interrupt(*_, **__):
        raise kind

    monkeypatch.setattr("acceltran_cli.run.run_encoder", interrupt)
    answer = acceltran(*arguments)
    assert (answer.code, answer.stdout) == (130, "")
    assert answer.stderr.strip() == "Error: Interrupted"


def test_exit_code_of_the_program():
    program = Path(sys.executable).with_name("acceltran")
    answer = subprocess.run([program, "run"], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (2, "Error: MODEL must be given\n")
