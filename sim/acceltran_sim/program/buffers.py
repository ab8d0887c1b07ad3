"""On-chip buffers of a machine without time."""

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Stage
from acceltran_sim.program.footprint import ACTIVATION
from acceltran_sim.program.ordering import OrderChecker, ProgramError

__all__ = ["Buffers"]

Integers = npt.NDArray[np.int64]


class Buffers:
    """Activation buffers of all clusters and the weight buffer.

    Tensors are [rows, columns] of elements. An access beyond a buffer, to a vector never written,
    or in an order that nothing enforces raises ``ProgramError``.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.

    Members
    -------
    order : OrderChecker
        Of the program that runs.
    """

    def __init__(self, config: AcceleratorConfig):
        self.order = OrderChecker(config)
        self._tile = config.datapath.tile
        sizes = [config.cluster_vectors] * config.array.clusters + [config.weight_vectors]
        self._values = [np.zeros((size, self._tile), dtype=np.int32) for size in sizes]
        self._written = [np.zeros(size, dtype=np.bool_) for size in sizes]

    def read(
        self,
        buffer: int,
        base: int,
        rows: int,
        stride: int,
        columns: int,
        cluster: int = 0,
        *,
        stage: Stage = Stage.START,
    ) -> Integers:
        """Rows of a tensor, in the buffer of a cluster if they are activations.

        ``stage`` is as of ``OrderChecker.read``.
        """
        place = cluster if buffer == ACTIVATION else -1
        addresses = self._addresses(place, base, rows, stride, columns)
        missing = addresses[~self._written[place][addresses]]
        if missing.size:
            raise ProgramError(f"Vector {missing[0]} of buffer {buffer} was never written")
        self.order.read(buffer, addresses.ravel(), cluster, stage=stage)
        values = self._values[place][addresses].astype(np.int64)
        return values.reshape(rows, columns * self._tile)

    def write(
        self,
        buffer: int,
        base: int,
        stride: int,
        values: Integers,
        cluster: int = 0,
        source: int | None = None,
    ) -> None:
        """Rows of a tensor; ``source`` is the cluster that they come from."""
        place = cluster if buffer == ACTIVATION else -1
        vectors = values.reshape(len(values), values.shape[1] // self._tile, self._tile)
        addresses = self._addresses(place, base, len(values), stride, vectors.shape[1])
        self.order.write(buffer, addresses.ravel(), cluster, source)
        self._values[place][addresses] = vectors
        self._written[place][addresses] = True

    def _addresses(self, place: int, base: int, rows: int, stride: int, columns: int) -> Integers:
        addresses = base + stride * np.arange(rows)[:, np.newaxis] + np.arange(columns)
        size = len(self._values[place])
        if addresses.size and not (addresses.min() >= 0 and addresses.max() < size):
            raise ProgramError(f"Vector {addresses.max()} is beyond the buffer's {size}")
        return addresses
