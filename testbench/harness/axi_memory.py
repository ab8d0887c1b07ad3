"""AXI4 memory for benches: random stalls, latency, error responses, and a strict eye on rules."""

import dataclasses
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import cocotb

__all__ = ["DECERR", "OKAY", "SLVERR", "AxiMemory"]

OKAY, SLVERR, DECERR = 0, 2, 3
ADDRESS_CONSTANTS = ("id", "size", "burst", "lock", "cache", "prot", "qos", "region")


@dataclasses.dataclass
class _Write:
    address: int
    length: int
    due: int
    response: int = OKAY


class AxiMemory:
    """Slave at the AXI4 port ``name`` of ``dut``; one coroutine serves its channels every cycle.

    It asserts that bursts are full-width and incrementing, stay inside 4 KiB, that offers are
    held unchanged, that data never leads its address, and that WLAST is where it belongs.

    Parameters
    ----------
    dut, name
        Signals are ``dut.<name>__arvalid`` and so on; channels that do not exist are left out.
    pace : float
        Probability that a channel moves in a cycle in which it could.
    latency : int
        Cycles from taking an address (reads) or the last beat (writes) to answering it.
    respond : function of an address
        Response to the beat (reads) or burst (writes; the worst of its beats).
    """

    def __init__(
        self,
        dut: Any,
        name: str = "axi",
        *,
        pace: float = 1.0,
        latency: int = 0,
        respond: Callable[[int], int] = lambda address: OKAY,
    ):
        self.pace = pace
        self.latency = latency
        self.respond = respond
        self.bytes: dict[int, int] = {}
        self.bursts: list[tuple[str, int, int]] = []
        self.cycle = 0
        self.read_beats = self.write_beats = 0
        self.written: set[int] = set()
        self.silent = False  # True: take nothing, answer nothing, look at nothing
        self._dut, self._name = dut, name
        self._reads: deque[tuple[int, int, bool, int]] = deque()
        self._addresses: deque[_Write] = deque()
        self._answers: deque[_Write] = deque()
        self._beat = 0
        self._held: dict[str, Any] = {}
        self._rest()
        data = "rdata" if self._has("rdata") else "wdata"
        self.bytes_of_beat = len(self[data]) // 8
        cocotb.start_soon(self._serve())

    def __getitem__(self, signal: str) -> Any:
        return self._dut[f"{self._name}__{signal}"]

    def _has(self, signal: str) -> bool:
        return hasattr(self._dut, f"{self._name}__{signal}")

    @property
    def outstanding(self) -> int:
        """Bursts under way."""
        return len(self._reads) + len(self._addresses) + len(self._answers)

    def load(self, address: int, content: bytes) -> None:
        """Set memory."""
        self.bytes.update(enumerate(content, address))

    def dump(self, address: int, size: int) -> bytes:
        """Memory as it is; what nobody wrote is 0xA5."""
        return bytes(self.bytes.get(place, 0xA5) for place in range(address, address + size))

    def reset(self) -> None:
        """Forget what is under way, as if reset together with a master that was cut off."""
        self.silent = False
        for queue in (self._reads, self._addresses, self._answers):
            queue.clear()
        self._held.clear()
        self._beat = 0

    def _rest(self) -> None:
        for signal in ("arready", "rvalid", "awready", "wready", "bvalid", "bresp", "rresp"):
            if self._has(signal):
                self[signal].value = 0

    async def _serve(self) -> None:
        reads, writes = self._has("arvalid"), self._has("awvalid")
        while True:
            await self._dut.clk.rising_edge
            self.cycle += 1
            if self.silent:
                self._rest()
                continue
            if reads:
                self._step_reads()
            if writes:
                self._step_writes()

    def _go(self) -> bool:
        return self.pace >= 1 or random.random() < self.pace

    def _taken(self, channel: str, names: tuple[str, ...]) -> bool:
        """Check that an offer is held, and say whether it is transferred at this edge."""
        if not int(self[f"{channel}valid"].value):
            assert channel not in self._held, f"{channel}valid was withdrawn"
            return False
        offer = tuple(int(self[f"{channel}{name}"].value) for name in names)
        assert self._held.get(channel, offer) == offer, f"{channel} changed while it waited"
        if int(self[f"{channel}ready"].value):
            self._held.pop(channel, None)
            return True
        self._held[channel] = offer
        return False

    def _address(self, channel: str) -> tuple[int, int]:
        address = int(self[f"{channel}addr"].value)
        length = int(self[f"{channel}len"].value) + 1
        size = self.bytes_of_beat
        assert 1 << int(self[f"{channel}size"].value) == size, "bursts must be full-width"
        assert int(self[f"{channel}burst"].value) == 1, "bursts must be incrementing"
        assert address % size == 0
        assert address // 4096 == (address + length * size - 1) // 4096, "4 KiB boundary crossed"
        self.bursts.append((channel, address, length))
        return address, length

    def _step_reads(self) -> None:
        offered = int(self["rvalid"].value)
        if offered and int(self["rready"].value):
            self._reads.popleft()
            self.read_beats += 1
            offered = 0
        if self._taken("ar", ("addr", "len", *ADDRESS_CONSTANTS)):
            address, length = self._address("ar")
            for beat in range(length):
                place = address + beat * self.bytes_of_beat
                due = self.cycle + self.latency
                self._reads.append((place, self.respond(place), beat == length - 1, due))
        self["arready"].value = self._go()
        if not offered:
            offered = bool(self._reads) and self._reads[0][3] <= self.cycle and self._go()
            self["rvalid"].value = offered
            if offered:
                place, response, last, _ = self._reads[0]
                self["rdata"].value = int.from_bytes(self.dump(place, self.bytes_of_beat), "little")
                self["rresp"].value = response
                self["rlast"].value = last

    def _step_writes(self) -> None:
        offered = int(self["bvalid"].value)
        if offered and int(self["bready"].value):
            self._answers.popleft()
            offered = 0
        if self._taken("w", ("data", "strb", "last")):
            self._take_beat()
        if self._taken("aw", ("addr", "len", *ADDRESS_CONSTANTS)):
            self._addresses.append(_Write(*self._address("aw"), due=0))
        self["awready"].value = self._go()
        self["wready"].value = self._go()
        if not offered:
            offered = bool(self._answers) and self._answers[0].due <= self.cycle and self._go()
            self["bvalid"].value = offered
            if offered:
                self["bresp"].value = self._answers[0].response

    def _take_beat(self) -> None:
        assert self._addresses, "data leads its address"
        burst = self._addresses[0]
        place = burst.address + self._beat * self.bytes_of_beat
        burst.response = max(burst.response, self.respond(place))
        strobes = int(self["wstrb"].value)
        content = int(self["wdata"].value).to_bytes(self.bytes_of_beat, "little")
        for lane, value in enumerate(content):
            if strobes >> lane & 1:
                self.bytes[place + lane] = value
                self.written.add(place + lane)
        self.write_beats += 1
        self._beat += 1
        assert int(self["wlast"].value) == (self._beat == burst.length), "misplaced WLAST"
        if self._beat == burst.length:
            burst.due = self.cycle + self.latency
            self._answers.append(self._addresses.popleft())
            self._beat = 0
