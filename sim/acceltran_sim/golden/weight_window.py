"""Schedule of lanes with a weight window, cycle by cycle: how long they take, not what they sum."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acceltran_sim.golden.row_streamer import Beat

__all__ = ["WindowSchedule", "shared_stream_cycles"]

SETS = 2
QUEUE_BEATS = 2
SCALARS_PER_BEAT = 4
SAVE_CYCLES = 2


@dataclass
class _Waiting:
    """A scalar in the queue: the columns in which it is pending."""

    pending: npt.NDArray[np.bool_]
    last: bool


class WindowSchedule:
    """What ``acceltran.compute.window_lane.WindowLane`` does in each cycle, sums aside.

    Sums are taken as soon as they are offered.

    Parameters
    ----------
    keep : array of shape ``(tile_rows, tile)``
        Which elements of the tile are not 0.
    window : int
        Scalars among which a multiplier looks for its next product.
    multiplier_stages : int
        Register stages of a product.
    """

    def __init__(self, keep: npt.NDArray[np.bool_], *, window: int, multiplier_stages: int = 2):
        self.keep = keep
        self.window = window
        self.length = window + QUEUE_BEATS * SCALARS_PER_BEAT
        self.products = 0
        """Products issued so far."""
        self._beat: Beat | None = None
        self._queue: deque[_Waiting] = deque()
        self._rows: deque[int] = deque()  # slots of the rows in the queue
        self._finals: deque[bool] = deque()  # of those whose last beat has come
        self._ends: deque[tuple[int, bool] | None] = deque([None] * (multiplier_stages + 4))
        self._sums_wait = False

    @property
    def ready(self) -> bool:
        """A beat is accepted in this cycle."""
        return self._beat is None or self._enters()

    @property
    def idle(self) -> bool:
        """Nothing waits and no row is on its way out."""
        moving = any(end is not None for end in self._ends)
        return self._beat is None and not self._queue and not moving and not self._sums_wait

    def step(self, beat: Beat | None) -> None:
        """One cycle, in which ``beat`` is accepted, if any is."""
        enters, advances = self._enters(), self._advances()
        leaving = self._ends[-1]
        self._sums_wait = advances and leaving is not None and leaving[1]
        if advances:
            self._ends.pop()
            self._ends.appendleft(self._work())
        if enters:
            self._enter()
        if beat is not None:
            self._beat = beat

    def _advances(self) -> bool:
        leaving = self._ends[-1]
        return not (self._sums_wait and leaving is not None and leaving[1])

    def _enters(self) -> bool:
        beat = self._beat
        if beat is None or not self._advances():
            return False
        if len(self._queue) > self.length - SCALARS_PER_BEAT:
            return False
        if not beat.first:
            return True
        if len(self._rows) == SETS:
            return False
        unsaved = [end[0] for end in list(self._ends)[:SAVE_CYCLES] if end and not end[1]]
        return not (beat.resume and beat.slot in [*unsaved, *self._rows])

    def _work(self) -> tuple[int, bool] | None:
        """Issue and leave; slot of the row that ends, and whether it is final."""
        window = list(self._queue)[: self.window]
        if window:
            pending = np.array([scalar.pending for scalar in window])
            columns = np.flatnonzero(pending.any(axis=0))
            for column, place in zip(columns, pending.argmax(axis=0)[columns], strict=True):
                window[place].pending[column] = False
            self.products += len(columns)
        for _ in range(SCALARS_PER_BEAT):
            if not self._queue or self._queue[0].pending.any():
                break
            if self._queue.popleft().last:
                return self._rows.popleft(), self._finals.popleft()
        return None

    def _enter(self) -> None:
        beat = self._beat
        assert beat is not None
        if beat.first:
            self._rows.append(beat.slot)
        if beat.last:
            self._finals.append(beat.final)
        scalars = [self.keep[row].copy() for row in beat.rows]
        scalars = scalars or [np.zeros(self.keep.shape[1], dtype=bool)]
        for number, pending in enumerate(scalars):
            last = beat.last and number == len(scalars) - 1
            self._queue.append(_Waiting(pending=pending, last=last))
        self._beat = None


def shared_stream_cycles(lanes: Sequence[WindowSchedule], beats: Sequence[Beat]) -> int:
    """Cycles from the first beat until all lanes are idle, if each beat goes to all at a time."""
    waiting = deque(beats)
    cycles = 0
    while waiting or not all(lane.idle for lane in lanes):
        ready = bool(waiting) and all(lane.ready for lane in lanes)
        beat = waiting.popleft() if ready else None
        for lane in lanes:
            lane.step(beat)
        cycles += 1
    return cycles
