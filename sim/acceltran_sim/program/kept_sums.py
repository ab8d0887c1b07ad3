"""Sums that products leave in the lanes for later ones."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.program.command import Command
from acceltran_sim.program.ordering import ProgramError

__all__ = ["KeptSums"]

Integers = npt.NDArray[np.int64]


class KeptSums:
    """What the slots of the lanes hold.

    Row r of a product lies in slot ``first_slot + r // streams`` of stream ``r % streams``, in the
    lanes that have its columns. A product of several chunks overwrites the slots that it uses.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    """

    def __init__(self, config: AcceleratorConfig):
        self._banks = config.array.pes_per_cluster
        self._tile = config.datapath.tile
        self._most_inner = config.limits.inner // self._tile
        # By cluster, slot and stream: how the lanes were shared, vectors of the inner dimension so
        # far, and the sums of a row.
        self._held: dict[tuple[int, int, int], tuple[tuple[int, ...], int, Integers]] = {}

    def resume(self, product: Command, rows: Sequence[int]) -> Integers:
        """Sums that a product of so many rows in each cluster goes on from, one after the other."""
        sums = np.zeros((sum(rows), product["columns"] * self._tile), dtype=np.int64)
        for n, place in enumerate(self._places(product, rows)):
            lanes, inner, row = self._held.get(place, ((), 0, sums[n]))
            if lanes != self._lanes(product):
                raise ProgramError("Sums that are resumed must be in the lanes")
            if inner + product["inner_vectors"] > self._most_inner:
                raise ProgramError(f"All of a sum must be at most {self._most_inner} vectors")
            sums[n] = row
        return sums

    def leave(self, product: Command, rows: Sequence[int], sums: Integers, slots: int) -> None:
        """What a product has done to so many slots, and the sums that it keeps there."""
        first = product["first_slot"]
        before = self._held
        used = range(first, first + slots)
        self._held = {place: held for place, held in before.items() if place[1] not in used}
        if product["keep_sums"]:
            for place, row in zip(self._places(product, rows), sums, strict=True):
                inner = product["inner_vectors"]
                if product["resume_sums"]:
                    inner += before[place][1]
                self._held[place] = self._lanes(product), inner, row

    def _places(self, product: Command, rows: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        for cluster, count in enumerate(rows):
            for row in range(count):
                slot, stream = divmod(row, product["streams"])
                yield cluster, product["first_slot"] + slot, stream

    def _lanes(self, product: Command) -> tuple[int, ...]:
        return product["streams"], product["c_first"] % self._banks, product["columns"]
