# amaranth: UnusedElaboratable=no
"""ThresholdControl against its golden model: curves, loops over several programs, the table."""

import random
from typing import Any

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from acceltran.arch.commands import BODIES, THRESHOLDS, Opcode, ThresholdMode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.threshold_curve import (
    ENTRY_WORDS,
    POINTS,
    POSITION_MAX,
    point_address,
    position_address,
)
from acceltran.control.command_layout import command_layout
from acceltran.control.kept_counter import Kept
from acceltran.control.kept_totals import KeptTotals
from acceltran.control.threshold_control import ThresholdAnswer, ThresholdControl
from acceltran.numeric.delay import delayed
from acceltran_sim.golden.threshold_control import ThresholdControl as Golden
from testbench.harness.simulate import parameters, simulate, start

MOST = (32, 16)
LATER = 3
"""Cycles that totals take on their way, beyond those of ``KeptTotals``."""
MASKS = {f.name: f.mask for f in BODIES[Opcode.THRESHOLD]}


def make_control(fmt: FixedPoint) -> ThresholdControl:
    return ThresholdControl(fmt=fmt, kept_latency=KeptTotals.LATENCY + LATER)


LOOP_CYCLES = make_control(FixedPoint(int_bits=4, frac_bits=16)).loop_cycles


class WithTotals(wiring.Component):
    """ThresholdControl with what counts for it, some cycles away."""

    orders: Any

    def __init__(self, fmt: FixedPoint):
        self.control = make_control(fmt)
        own = {
            name: member
            for name, member in self.control.signature.members.items()
            if name not in ("query", "kept")
        }
        sources = {f"kept{n}": In(Kept(most)) for n, most in enumerate(MOST)}
        super().__init__({**own, **sources})

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = control = self.control
        m.submodules.totals = totals = KeptTotals(most=MOST)
        for name in self.signature.members:
            if name.startswith("kept"):
                m.d.comb += getattr(totals, name).eq(getattr(self, name))
            elif name == "orders":
                wiring.connect(m, wiring.flipped(self.orders), control.orders)
            elif self.signature.members[name].flow == In:
                m.d.comb += getattr(control, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(control, name))
        wiring.connect(m, control.query, totals.query)
        m.d.comb += control.kept.eq(delayed(m, totals.total, LATER, name="total"))
        return m


@pytest.mark.parametrize("frac_bits", [4, 8, 16, 20])
def test_threshold_control(frac_bits, request):
    simulate(
        WithTotals(FixedPoint(int_bits=4, frac_bits=frac_bits)),
        bench=__name__,
        parameters={"frac_bits": frac_bits},
        seed=request.config.getoption("seed"),
    )


def test_rejects_no_latency():
    with pytest.raises(ValueError, match=r"^Latency of totals must be at least 1, not 0$"):
        ThresholdControl(fmt=FixedPoint(int_bits=4, frac_bits=16), kept_latency=0)


def test_rejects_no_sources():
    with pytest.raises(ValueError, match=r"^Number of sources must be at least 1, not 0$"):
        KeptTotals(most=())


# What follows runs inside the simulator.


def address(entry: int, word: int) -> int:
    """The two ways to say which word of an entry is meant."""
    position = word == POINTS and random.getrandbits(1)
    return position_address(entry) if position else point_address(entry, word)


class Bench:
    """The unit, its host, and the golden model with the same table."""

    def __init__(self, dut):
        self.dut = dut
        self.fmt = FixedPoint(int_bits=4, frac_bits=parameters()["frac_bits"])
        self.golden = Golden(self.fmt, {}, {})

    async def start(self) -> None:
        dut = self.dut
        dut.orders__valid.value = dut.orders__payload.value = 0
        dut.kept0.value = dut.kept1.value = dut.settle.value = 0
        dut.host_address.value = dut.host_write.value = dut.host_data.value = 0
        await start(dut)

    async def reset(self) -> None:
        """What happens between programs."""
        self.dut.rst.value = 1
        await self.dut.clk.rising_edge
        self.dut.rst.value = 0

    async def write(self, entry: int, word: int, value: int) -> None:
        self.dut.host_address.value = address(entry, word)
        self.dut.host_data.value = value
        self.dut.host_write.value = 1
        await self.dut.clk.rising_edge
        self.dut.host_write.value = 0

    async def read(self, entry: int, word: int) -> int:
        self.dut.host_address.value = address(entry, word)
        for _ in range(ThresholdControl.HOST_LATENCY + 1):
            await self.dut.clk.rising_edge
        return self.dut.host_value.value.to_unsigned()

    async def load(self, entry: int, points: list[int], position: int) -> None:
        for word, value in enumerate([*points, position]):
            await self.write(entry, word, value)
        self.golden.curves[entry] = points
        self.golden.positions[entry] = position

    def random_points(self) -> list[int]:
        largest = (1 << self.fmt.width) - 1
        points = [random.randint(0, largest) for _ in range(POINTS)]
        return random.choice((points, sorted(points), [largest] * POINTS, [0] * POINTS))

    async def order(self, fields: dict[Any, int]) -> int:
        """Give an order; returns the cycles to its answer, which is checked."""
        dut = self.dut
        layout = command_layout(Opcode.THRESHOLD)
        dut.orders__payload.value = layout.const(fields).as_bits()
        dut.orders__valid.value = 1
        await dut.clk.rising_edge
        assert dut.orders__ready.value
        dut.orders__valid.value = 0
        answer = ThresholdAnswer(self.fmt)
        for cycle in range(1, 40):
            await dut.clk.rising_edge
            got = answer.from_bits(dut.answer.value.to_unsigned())
            if got.valid:
                assert got.value == self.golden.threshold(fields), fields
                return cycle
        raise AssertionError("no answer")

    async def keep(self, entry: int, kept: int) -> None:
        """Count so many elements, at either source."""
        self.golden.count(entry, kept)
        while kept:
            source = random.randrange(len(MOST))
            count = min(kept, random.randint(1, MOST[source]))
            port = (self.dut.kept0, self.dut.kept1)[source]
            layout = Kept(MOST[source])
            port.value = layout.const({"entry": entry, "count": count}).as_bits()
            await self.dut.clk.rising_edge
            port.value = 0
            kept -= count

    async def end(self) -> int:
        """End the program; returns the cycles until all is settled."""
        self.dut.settle.value = 1
        await self.dut.clk.rising_edge
        cycles = 0
        while not self.dut.settled.value:
            await self.dut.clk.rising_edge
            cycles += 1
            assert cycles < 4000
        self.dut.settle.value = 0
        self.golden.end()
        await self.reset()
        return cycles


def fields(mode: ThresholdMode, **given: int) -> dict[Any, int]:
    random_fields = {name: random.randint(0, mask) for name, mask in MASKS.items()}
    return {**random_fields, "mode": mode, "scale": 1 << 15, "scale_shift": 15, **given}


@cocotb.test()
async def follows_curves(dut):
    """Any curve, falling ones too, at any position and scale, in LATENCY cycles."""
    bench = Bench(dut)
    await bench.start()
    for _ in range(60):
        entry = random.choice((0, THRESHOLDS - 1, random.randrange(THRESHOLDS)))
        await bench.load(entry, bench.random_points(), random.randint(0, POSITION_MAX))
        for mode in (ThresholdMode.CURVE, ThresholdMode.CLOSED_LOOP):
            target = random.choice((0, POSITION_MAX, random.randint(0, POSITION_MAX)))
            scale = random.choice((1 << 15, random.randint(0, MASKS["scale"])))
            shift = random.choice((15, random.randint(0, MASKS["scale_shift"])))
            order = fields(mode, index=entry, target=target, scale=scale, scale_shift=shift)
            assert await bench.order(order) == ThresholdControl.LATENCY


@cocotb.test()
async def closes_loops(dut):
    """Programs one after the other: positions move as in the model, and outlive the resets."""
    bench = Bench(dut)
    await bench.start()
    entries = random.sample(range(THRESHOLDS), 4)
    for entry in entries:
        await bench.load(entry, bench.random_points(), random.randint(0, POSITION_MAX))
    for _ in range(12):
        loops = random.sample(entries, random.randint(0, len(entries)))
        for entry in entries:
            mode = ThresholdMode.CLOSED_LOOP if entry in loops else ThresholdMode.CURVE
            elements = random.choice((0, 1, random.randint(1, 2000), MASKS["elements"]))
            gain = random.choice((0, MASKS["gain"], (1 << 17) // (elements + 3)))
            shift = random.choice((0, 17, 18, 63, random.randint(0, 63)))
            await bench.order(
                fields(
                    mode,
                    index=entry,
                    elements=elements,
                    gain=min(gain, MASKS["gain"]),
                    gain_shift=shift,
                )
            )
        for entry in random.choices(entries, k=6):
            await bench.keep(entry, random.randint(0, 400))
        cycles = await bench.end()
        most = ThresholdControl.SETTLE_CYCLES + len(loops) * LOOP_CYCLES
        assert cycles <= most if loops else cycles == 0
        for entry in entries:
            assert await bench.read(entry, POINTS) == bench.golden.positions[entry]


@cocotb.test()
async def takes_the_time_it_says(dut):
    """The last entry of the table settles last."""
    bench = Bench(dut)
    await bench.start()
    for entry in (0, THRESHOLDS - 1):
        await bench.load(entry, bench.random_points(), 7)
        await bench.order(fields(ThresholdMode.CLOSED_LOOP, index=entry))
    loops = 2 * LOOP_CYCLES
    assert await bench.end() == ThresholdControl.SETTLE_CYCLES + loops


@cocotb.test()
async def counts_late(dut):
    """What arrives LATE_COUNTS cycles after the end counts."""
    bench = Bench(dut)
    await bench.start()
    await bench.load(5, bench.random_points(), 30000)
    order = fields(ThresholdMode.CLOSED_LOOP, index=5, elements=16, gain=1 << 12, gain_shift=15)
    await bench.order(order)
    dut.settle.value = 1
    for _ in range(ThresholdControl.LATE_COUNTS):
        await dut.clk.rising_edge
    dut.kept1.value = Kept(MOST[1]).const({"entry": 5, "count": 9}).as_bits()
    bench.golden.count(5, 9)
    await dut.clk.rising_edge
    dut.kept1.value = 0
    await bench.end()
    assert await bench.read(5, POINTS) == bench.golden.positions[5]


@cocotb.test()
async def serves_the_host(dut):
    """Every word is its own, words beyond an entry are ignored, reads are right while it works."""
    bench = Bench(dut)
    await bench.start()
    places = [(entry, word) for entry in (0, 1, 126, 127) for word in range(ENTRY_WORDS)]
    largest = (1 << min(16, bench.fmt.width)) - 1
    values = {place: random.randint(0, largest) for place in places}
    for place, value in values.items():
        await bench.write(*place, value)
    await bench.write(0, ENTRY_WORDS, ~values[1, 0] & largest)
    for entry in (0, 1):
        bench.golden.curves[entry] = [values[entry, word] for word in range(POINTS)]

    async def work():
        while True:
            await bench.order(fields(ThresholdMode.CURVE, index=random.randrange(2)))

    worker = cocotb.start_soon(work())
    for place, value in values.items():
        assert await bench.read(*place) == value, place
    worker.cancel()
