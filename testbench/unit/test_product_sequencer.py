# amaranth: UnusedElaboratable=no
"""ProductSequencer against the golden walk through the tiles, in a model of its neighbours."""

import random
from collections import deque

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import FinishedRow
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.control.product_command import ProductCommand
from acceltran.control.product_sequencer import ProductSequencer
from acceltran.sparsity.row_scanner import RowJob
from acceltran_sim.golden.loop_nest import tiles
from testbench.harness.fields import pack_fields, unpack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource

FORMAT = FixedPoint(int_bits=4, frac_bits=8)
SHAPE = {"tile": 8, "tile_rows": 64, "partial_sums": 64}


@pytest.mark.parametrize(("lanes", "pes"), [(4, 1), (3, 4)])
def test_product_sequencer(lanes, pes, request):
    simulate(
        ProductSequencer(fmt=FORMAT, **SHAPE, lanes=lanes, pes=pes),
        bench=__name__,
        parameters={"lanes": lanes, "pes": pes},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"pes": 3}, "Number of PEs must be a power of two, not 3"),
    ],
)
def test_rejects(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ProductSequencer(fmt=FORMAT, **SHAPE, **{"lanes": 2, "pes": 2, **wrong})


# What follows runs inside the simulator, once for each parametrisation above.


class Work:
    """What the sequencer should do for one command, in order."""

    def __init__(self, command, threshold):
        lanes, pes = parameters()["lanes"], parameters()["pes"]
        self.command = command
        self.order = threshold << ProductCommand().size | pack_fields(ProductCommand(), command)
        given = {"threshold": threshold, "entry": command["threshold"]}
        names = [name for name, _ in EpilogueParameters(FORMAT) if name not in given]
        settings = {name: command[name] for name in names} | given
        self.settings = pack_fields(EpilogueParameters(FORMAT), settings)
        self.tiles = []
        last = command["c_first"] + command["columns"]
        for tile in tiles(command, banks=pes, lanes=lanes, tile=SHAPE["tile"]):
            columns = [[(tile["word"] + n) * pes + pe for n in range(lanes)] for pe in range(pes)]
            enable = [
                sum((command["c_first"] <= d < last) << n for n, d in enumerate(row))
                for row in columns
            ]
            self.tiles.append((tile, enable))


class Neighbours:
    """Loader, streamer and PEs, as far as the sequencer sees them."""

    def __init__(self, dut, works, pace):
        self.dut, self.works, self.pace = dut, works, pace
        self.pes = parameters()["pes"]
        self.plan = deque(self._plan())
        self.loads = sum(tile["reload"] for work in works for tile, _ in work.tiles)
        self.full, self.free = deque(), 2  # halves: loaded and not released; not loaded
        self.next_half = 0
        self.streamer, self.drain = deque(), deque()  # halves of jobs, and of rows, under way
        self.done = 0

    def _plan(self):
        half = 1
        for work in self.works:
            c = work.command
            for tile, enable in work.tiles:
                half ^= tile["reload"]
                for row in range(tile["row_count"]):
                    job = {
                        "address": (tile["a_address"] + row * c["a_row_stride"]) % 2**24,
                        "count": tile["inner_count"],
                        "tile_row": half * SHAPE["tile_rows"] // 2,
                        "slot": (tile["slot_base"] + row) % SHAPE["partial_sums"],
                        "first": tile["first"],
                        "final": tile["final"],
                    }
                    address = (tile["c_address"] + row * c["c_row_stride"]) % 2**24
                    yield work, enable, job, {"address": address, "half": half}

    async def run(self):
        dut = self.dut
        planned = deque((job, row) for _, _, job, row in self.plan)
        settings = deque((work, enable) for work, enable, _, _ in self.plan)
        final_rows = deque(row for _, _, job, row in self.plan if job["final"])
        ready = [0, 0]
        accepted = None
        while planned or self.done < len(self.works):
            await dut.clk.rising_edge
            # What the edge transferred.
            if ready[0] and dut.jobs__valid.value:
                expected, _ = planned.popleft()
                layout = RowJob(SHAPE["tile_rows"], SHAPE["partial_sums"])
                got = unpack_fields(layout, dut.jobs__payload.value.to_unsigned())
                assert got == expected
                half = expected["tile_row"] != 0
                assert half in self.full, "tile used before it is loaded"
                work, enable = settings.popleft()
                assert dut.parameters.value.to_unsigned() == work.settings
                for pe in range(self.pes):
                    assert int(dut[f"lane_enable__{pe}"].value) == enable[pe]
                self.streamer.append(half)
            if ready[1] and dut.rows__valid.value:
                got = unpack_fields(FinishedRow(), dut.rows__payload.value.to_unsigned())
                expected = final_rows.popleft()
                assert got == expected
                self.drain.append(expected["half"])
            if dut.release.value:
                half = self.full.popleft()
                assert half not in self.streamer, "half released while it is read"
                assert half not in self.drain, "half released before its biases are used"
                self.free += 1
            if dut.done.value:
                self.done += 1
                assert not self.streamer and not self.drain
            # What the neighbours do next.
            if accepted is not None:
                self.streamer.popleft()
                accepted = None
            dut.scalar_valid.value = 0
            if self.streamer and random.random() < self.pace:
                accepted = self.streamer[0]
                dut.scalar_valid.value = 1
                dut.scalar_half.value = accepted
            dut.streaming.value = bool(self.streamer)
            if self.drain and random.random() < self.pace:
                self.drain.popleft()
            dut.draining.value = (0 in self.drain) | (1 in self.drain) << 1
            dut.idle.value = not self.drain
            dut.loaded.value = 0
            if self.loads and self.free and random.random() < self.pace / 4:
                dut.loaded.value = 1
                self.full.append(self.next_half)
                self.next_half ^= 1
                self.free -= 1
                self.loads -= 1
            ready = [random.random() < self.pace for _ in range(2)]
            dut.jobs__ready.value, dut.rows__ready.value = ready
        assert not final_rows and not self.full


def crowd(*, row_tile, rows, chunks=2, order="kbij"):
    """A product of one column pass whose partial sums are all in use at the same time."""
    work = random_work().command | {
        "c_first": 0,
        "columns": 1,
        "batches": 1,
        "row_tile": row_tile,
        "rows": rows,
        "inner_vectors": chunks,
        "inner_tile": 1,
    }
    work |= {f"order{place}": "bijk".index(loop) for place, loop in enumerate(order)}
    return Work(work, 0)


def random_work():
    """A legal product of a few tiles."""
    lanes, pes = parameters()["lanes"], parameters()["pes"]
    row_tile, inner_tile = random.randint(1, 4), random.randint(1, 4)
    command = {name: random.getrandbits(field.width) for name, field in ProductCommand()}
    command |= {
        "b_source": random.randint(0, 2),
        "b_batch_stride": random.choice([0, 5]),
        "c_first": random.randint(0, 3 * pes),
        "columns": random.randint(1, 2 * lanes * pes),
        "rows": random.randint(1, 2 * row_tile),
        "batches": random.randint(1, 2),
        "inner_vectors": random.randint(1, 3 * inner_tile),
        "row_tile": row_tile,
        "inner_tile": inner_tile,
    }
    for place, loop in enumerate(random.sample(range(4), 4)):
        command[f"order{place}"] = loop
    return Work(command, random.getrandbits(FORMAT.width))


async def begin(dut, works, pace):
    """Offer the orders; returns the coroutine that does so."""
    source = StreamSource(dut, "orders", pace=pace)
    for name in ("loaded", "streaming", "scalar_valid", "scalar_half", "reading", "draining"):
        dut[name].value = 0
    dut.idle.value = 1
    dut.scalar_ready.value = 1
    await start(dut)
    return cocotb.start_soon(source.put_all(work.order for work in works))


@cocotb.test()
@cocotb.parametrize(pace=[1.0, 0.4])
async def follows_the_tiles(dut, pace):
    """Jobs, rows, lanes and settings are those of the golden tiles; halves are handed on safely."""
    works = [random_work() for _ in range(30)]
    driver = await begin(dut, works, pace)
    await Neighbours(dut, works, pace).run()
    await driver


@cocotb.test()
async def uses_all_partial_sums(dut):
    """A tile may end at the last one; a single chunk needs none."""
    sums = SHAPE["partial_sums"]
    works = [
        crowd(row_tile=sums // 4, rows=sums),
        crowd(row_tile=sums - 1, rows=sums),
        crowd(row_tile=sums + 9, rows=2 * sums, chunks=1),
        crowd(row_tile=sums, rows=2 * sums, order="bijk"),
    ]
    driver = await begin(dut, works, 1.0)
    await Neighbours(dut, works, 1.0).run()
    await driver


@cocotb.test()
@cocotb.parametrize(excess=[1, 30])
async def refuses_too_many_partial_sums(dut, excess):
    """No row is finished, nothing comes after; the products before it are."""
    good, bad = random_work(), crowd(row_tile=32, rows=SHAPE["partial_sums"] + excess)
    driver = await begin(dut, [good, bad, good], 0.7)
    neighbours = Neighbours(dut, [good, bad, good], 0.7)
    running = cocotb.start_soon(neighbours.run())
    while not dut.overflow.value:
        await dut.clk.rising_edge
    assert neighbours.done == 1
    for _ in range(300):
        await dut.clk.rising_edge
        assert not dut.overflow.value
        assert not dut.rows__valid.value
    assert neighbours.done == 1
    running.cancel()
    driver.cancel()
