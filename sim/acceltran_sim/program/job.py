"""Reading the input of a run and writing its output."""

import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acceltran_sim.errors import InputError

__all__ = ["Job", "load_job", "result_arrays", "write_arrays", "write_whole"]


UNREADABLE = (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)
"""What is raised for arrays that are cut, spoilt, pickled, encrypted or compressed otherwise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A batch of sequences that enter the first encoder layer."""

    hidden: npt.NDArray[np.float32]
    """[batch, sequence, hidden], finite."""
    lengths: npt.NDArray[np.int64]
    """[batch]: valid rows of each batch element, 1..sequence."""


def load_job(path: str | Path, *, hidden_size: int) -> Job:
    """Read and check an ``.npz`` file with ``hidden`` and, if not all rows are valid, ``lengths``.

    InputError, with one sentence that names the value and the rule, for everything but float32
    [batch, sequence, hidden_size], finite, and int32 or int64 [batch] in 1..sequence.
    """
    path = Path(path)
    arrays = _read(path, ("hidden", "lengths"))
    if "hidden" not in arrays:
        raise InputError(f"{path} must hold an array named hidden")
    hidden = arrays["hidden"]
    if hidden.dtype != np.float32:
        raise InputError(f"hidden must be float32, not {hidden.dtype}")
    if hidden.ndim != 3:
        raise InputError(f"hidden must be [batch, sequence, hidden], not of shape {hidden.shape}")
    batch, sequence, width = hidden.shape
    if batch < 1 or sequence < 1:
        raise InputError(f"hidden must have a batch and a sequence, not the shape {hidden.shape}")
    if width != hidden_size:
        raise InputError(f"hidden must have the model's {hidden_size} columns, not {width}")
    if not np.isfinite(hidden).all():
        raise InputError(f"hidden must be finite, not {hidden[~np.isfinite(hidden)][0]}")

    lengths = arrays.get("lengths", np.full(batch, sequence))
    if lengths.dtype not in (np.dtype(np.int32), np.dtype(np.int64)):
        raise InputError(f"lengths must be int32 or int64, not {lengths.dtype}")
    if lengths.shape != (batch,):
        raise InputError(f"lengths must have the shape ({batch},), not {lengths.shape}")
    wrong = lengths[(lengths < 1) | (lengths > sequence)]
    if wrong.size:
        raise InputError(f"lengths must be from 1 to {sequence}, not {wrong[0]}")
    return Job(hidden=hidden, lengths=lengths.astype(np.int64))


def _read(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray]:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise InputError(f"{path} must be an .npz file, not a single array")
            arrays = {}
            for name in names:
                if name in content.files:
                    try:
                        arrays[name] = content[name]
                    except UNREADABLE:
                        raise InputError(
                            f"{name} of {path} must be a complete array without pickled objects"
                        ) from None
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise InputError(f"{name} of {path} must be an array")
            return arrays
    except OSError as error:
        raise InputError(f"{path} must be readable: {error.strerror or error}") from None
    except InputError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path} must be an .npz file") from None


def result_arrays(raw: npt.NDArray[np.int32], exponent: int) -> dict[str, npt.NDArray]:
    """Arrays of an output file: ``raw``, ``scale``, and ``hidden == float32(raw * scale)``."""
    scale = np.ldexp(np.float64(1), exponent)
    return {
        "hidden": (raw * scale).astype(np.float32),
        "raw": raw.astype(np.int32),
        "scale": np.array(scale),
    }


def write_arrays(path: str | Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write an ``.npz`` file as a whole or not at all."""
    contents: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **contents)
    write_whole(path, buffer.getbuffer())


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file as a whole or not at all; InputError if it cannot be written."""
    path = Path(path)
    temporary = ""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except OSError as error:
        raise InputError(f"Output {path} must be writable: {error.strerror or error}") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
