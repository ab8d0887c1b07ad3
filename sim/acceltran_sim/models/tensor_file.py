"""Reading tensors of a safetensors file, checked one by one."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ml_dtypes  # noqa: F401  (gives NumPy the bfloat16 that safetensors asks for)
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from acceltran_sim.errors import InputError

__all__ = ["TensorFile"]

DTYPES = ("F32", "F16", "BF16")


class TensorFile:
    """A safetensors file as a context manager; InputError for what cannot be read.

    Parameters
    ----------
    path : Path
        The file.

    Members
    -------
    names : set of str
        Names of all tensors.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb"):
                pass
            self._file: Any = safe_open(path, framework="numpy")
        except OSError as error:
            raise InputError(f"{path} must be readable: {error.strerror}") from None
        except SafetensorError as error:
            raise InputError(f"{path} must be a complete safetensors file: {error}") from None
        self.names = set(self._file.keys())

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def read(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return tensor ``name``, which must have the given shape and finite values."""
        if name not in self.names:
            raise InputError(f"{self.path} must hold the tensor {name}")
        entry = self._file.get_slice(name)
        dtype, found = entry.get_dtype(), tuple(entry.get_shape())
        if dtype not in DTYPES:
            raise InputError(f"Tensor {name} must be F32, F16 or BF16, not {dtype}")
        if found != shape:
            raise InputError(f"Tensor {name} must have the shape {shape}, not {found}")
        values = self._file.get_tensor(name).astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"Tensor {name} must be finite, not {values[~np.isfinite(values)][0]}")
        return values
