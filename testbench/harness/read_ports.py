"""Memory behind the read port of a component: fixed latency, requests taken at a given pace."""

import random
from collections.abc import Callable
from typing import Any

import cocotb

__all__ = ["ReadMemory"]


class ReadMemory:
    """Answer the requests of read port ``name`` of ``dut``, ``latency`` cycles after each.

    Parameters
    ----------
    answer : function of an address
        The integer for ``field`` of the response.
    field : str
        ``vector`` of a ``ReadPort``, ``keep`` of a ``MaskReadPort``.
    latency : int
        Cycles from the edge that takes a request to the one before which its answer shows; at
        least 1.
    pace : float
        Probability of being ready in a cycle.
    """

    def __init__(
        self,
        dut: Any,
        name: str,
        answer: Callable[[int], int],
        *,
        field: str,
        latency: int = 3,
        pace: float = 1.0,
    ):
        self._clk = dut.clk
        self._request = [dut[f"{name}__request__{part}"] for part in ("valid", "ready", "payload")]
        self._valid = dut[f"{name}__response__valid"]
        self._field = dut[f"{name}__response__{field}"]
        self._answer = answer
        self._latency = latency
        self._pace = pace
        self.addresses: list[int] = []
        self._valid.value = 0
        self._request[1].value = 0

    def start(self) -> None:
        """Begin to answer."""
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        valid, ready, payload = self._request
        pipeline: list[int | None] = [None] * (self._latency - 1)
        taking = False
        while True:
            await self._clk.rising_edge
            taken = None
            if taking and valid.value:
                taken = payload.value.to_unsigned()
                self.addresses.append(taken)
            pipeline.append(taken)
            address = pipeline.pop(0)
            self._valid.value = address is not None
            if address is not None:
                self._field.value = self._answer(address)
            taking = random.random() < self._pace
            ready.value = taking
