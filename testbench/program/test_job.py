"""Input and output files of a run."""

import io

import numpy as np
import pytest

from acceltran_sim.errors import InputError
from acceltran_sim.program.job import load_job, result_arrays, write_arrays

HIDDEN = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_accepted(tmp_path, dtype):
    extra = np.array([{}], dtype=object)
    lengths = np.array([3, 1], dtype)
    path = save(tmp_path / "x.npz", hidden=HIDDEN, lengths=lengths, other=extra)
    job = load_job(path, hidden_size=4)
    assert (job.hidden == HIDDEN).all() and job.hidden.dtype == np.float32
    assert job.lengths.tolist() == [3, 1] and job.lengths.dtype == np.int64
    assert load_job(save(tmp_path / "y.npz", hidden=HIDDEN), hidden_size=4).lengths.tolist() == [
        3,
        3,
    ]


def with_value(value):
    hidden = HIDDEN.copy()
    hidden[1, 2, 3] = value
    return hidden


@pytest.mark.parametrize(
    "arrays,message",
    [
        ({"x": HIDDEN}, "{path} must hold an array named hidden"),
        ({"hidden": HIDDEN.astype(np.float64)}, "hidden must be float32, not float64"),
        ({"hidden": HIDDEN[0]}, "hidden must be [batch, sequence, hidden], not of shape (3, 4)"),
        (
            {"hidden": HIDDEN[:0]},
            "hidden must have a batch and a sequence, not the shape (0, 3, 4)",
        ),
        (
            {"hidden": HIDDEN[:, :0]},
            "hidden must have a batch and a sequence, not the shape (2, 0, 4)",
        ),
        ({"hidden": HIDDEN[..., :3]}, "hidden must have the model's 4 columns, not 3"),
        ({"hidden": with_value(np.nan)}, "hidden must be finite, not nan"),
        ({"hidden": with_value(-np.inf)}, "hidden must be finite, not -inf"),
        (
            {"hidden": HIDDEN.astype(object)},
            "hidden of {path} must be a complete array without pickled objects",
        ),
        (
            {"hidden": HIDDEN, "lengths": np.ones(2, np.int16)},
            "lengths must be int32 or int64, not int16",
        ),
        (
            {"hidden": HIDDEN, "lengths": np.ones((2, 1), int)},
            "lengths must have the shape (2,), not (2, 1)",
        ),
        ({"hidden": HIDDEN, "lengths": np.array([3, 0])}, "lengths must be from 1 to 3, not 0"),
        ({"hidden": HIDDEN, "lengths": np.array([4, 1])}, "lengths must be from 1 to 3, not 4"),
    ],
)
def test_refused(tmp_path, arrays, message):
    path = save(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError) as error:
        load_job(path, hidden_size=4)
    assert str(error.value) == message.format(path=path)


def test_refused_files(tmp_path):
    path = tmp_path / "x.npz"

    def message(content):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as error:
            load_job(path, hidden_size=4)
        return str(error.value)

    assert message(None) == f"{path} must be readable: No such file or directory"
    assert message(b"") == f"{path} must be an .npz file"
    assert message(b"PK\3\4 no archive") == f"{path} must be an .npz file"
    assert message(b"no archive") == f"{path} must be an .npz file"
    single = io.BytesIO()
    np.save(single, HIDDEN)
    assert message(single.getvalue()) == f"{path} must be an .npz file, not a single array"
    archive = io.BytesIO()
    np.savez(archive, hidden=HIDDEN)
    whole = archive.getvalue()
    assert message(whole[:-30]) == f"{path} must be an .npz file"
    position = whole.index(HIDDEN.tobytes())
    broken = whole[:position] + b"\xff\xff" + whole[position + 2 :]
    rule = f"hidden of {path} must be a complete array without pickled objects"
    assert message(broken) == rule
    entry = whole.index(b"PK\1\2")
    for local, central, value in ((6, 8, 1), (8, 10, 77)):  # encrypted; an unknown compression
        other = bytearray(whole)
        other[local] = other[entry + central] = value
        assert message(bytes(other)) == rule
    path.unlink()
    path.mkdir()
    assert message(None) == f"{path} must be readable: Is a directory"


def test_write(tmp_path):
    path = tmp_path / "y.npz"
    write_arrays(path, {"hidden": HIDDEN, "scale": np.float64(0.5)})
    first = path.read_bytes()
    content = np.load(path)
    assert (content["hidden"] == HIDDEN).all()
    assert content["scale"].shape == () and content["scale"] == 0.5
    write_arrays(path, {"hidden": HIDDEN, "scale": np.float64(0.5)})
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["y.npz"]


def test_write_fails_as_a_whole(tmp_path):
    path = tmp_path / "y.npz"
    path.write_bytes(b"before")
    with pytest.raises(ValueError):
        write_arrays(path, {"hidden": np.array([{}], dtype=object)})
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["y.npz"]
    with pytest.raises(InputError) as error:
        write_arrays(tmp_path / "none" / "y.npz", {})
    assert str(error.value) == (
        f"Output {tmp_path}/none/y.npz must be writable: No such file or directory"
    )
    with pytest.raises(InputError) as error:
        write_arrays(tmp_path, {})
    assert str(error.value) == f"Output {tmp_path} must be writable: it is a folder"


def test_result():
    raw = np.array([[[-(2**19), 3, 0]]], dtype=np.int32)
    arrays = result_arrays(raw, -15)
    assert arrays["scale"].shape == () and arrays["scale"].dtype == np.float64
    assert arrays["scale"] == 2.0**-15
    assert arrays["raw"].dtype == np.int32 and (arrays["raw"] == raw).all()
    assert arrays["hidden"].dtype == np.float32
    assert arrays["hidden"].tolist() == [[[-16.0, 3 / 32768, 0.0]]]
