# amaranth: UnusedElaboratable=no
"""ProductSequencer against the golden walk through the tiles, in a model of its neighbours."""

import random
from collections import deque
from dataclasses import dataclass

import cocotb
import pytest

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.drain import TICKETS, FinishedRow
from acceltran.compute.epilogue_parameters import EpilogueParameters
from acceltran.control.product_command import ProductCommand
from acceltran.control.product_sequencer import ProductSequencer
from acceltran.control.stream_job import StreamJob
from acceltran.memory.tile_ports import BIAS_TILES
from acceltran.memory.tile_walker import COMMANDS
from acceltran.pe import CONTEXTS
from acceltran.sparsity.row_scanner import RowJob
from acceltran_sim.golden.loop_nest import tiles
from testbench.harness.fields import pack_fields, unpack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource

FORMAT = FixedPoint(int_bits=4, frac_bits=8)
SHAPE = {"tile": 8, "tile_rows": 64, "partial_sums": 64}
DEPTH = 1 << 23
HALVES = 2
LANES = ("streams", "c_first", "columns", "threshold")
"""Fields that say how lanes are shared and enabled, and the entry of the threshold."""


@pytest.mark.parametrize(
    ("lanes", "streams", "pes", "most_held"), [(4, 4, 1, 4), (6, 2, 4, 8), (3, 1, 2, 3)]
)
def test_product_sequencer(lanes, streams, pes, most_held, request):
    machine = {"lanes": lanes, "streams": streams, "pes": pes, "most_held": most_held}
    simulate(
        ProductSequencer(fmt=FORMAT, **SHAPE, **machine, activation_depth=DEPTH),
        bench=__name__,
        parameters=machine,
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"streams": 3}, "Number of streams must be a power of two that divides 4 lanes, not 3"),
        ({"streams": 8}, "Number of streams must be a power of two that divides 4 lanes, not 8"),
        ({"pes": 3}, "Number of PEs must be a power of two, not 3"),
        ({"most_held": 0}, "Jobs that a stream holds must be at least 1, not 0"),
    ],
)
def test_rejects(wrong, message):
    good = {"lanes": 4, "streams": 2, "pes": 2, "most_held": 4, "activation_depth": DEPTH}
    with pytest.raises(ValueError, match=f"^{message}$"):
        ProductSequencer(fmt=FORMAT, **SHAPE, **{**good, **wrong})


# What follows runs inside the simulator, once for each parametrisation above.


@dataclass
class Row:
    """A job to expect, and how far it has got."""

    work: "Work"
    number: int
    """Of the work."""
    enable: list[int]
    streams: range
    """Those that may get it."""
    job: dict[str, int]
    finished: dict[str, int]
    reloads: int
    """Tiles that reload, up to and with its own."""
    starts: bool
    """It is the first of its tile."""
    ends: bool
    """Its tile ends the inner dimension."""
    taken: bool = False

    @property
    def half(self):
        return self.finished["tile"] % HALVES

    @property
    def context(self):
        return self.finished["context"]


class Work:
    """What the sequencer should do for one command, in order."""

    def __init__(self, command, threshold):
        lanes, pes = parameters()["lanes"], parameters()["pes"]
        self.command = command
        self.threshold = threshold
        self.order = threshold << ProductCommand().size | pack_fields(ProductCommand(), command)
        given = {"threshold": threshold, "entry": command["threshold"]}
        names = [name for name, _ in EpilogueParameters(FORMAT) if name not in given]
        settings = {name: command[name] for name in names} | given
        self.settings = pack_fields(EpilogueParameters(FORMAT), settings)
        self.streams = command["streams"]
        self.tiles = []
        last = command["c_first"] + command["columns"]
        for tile in tiles(command, banks=pes, lanes=lanes, tile=SHAPE["tile"]):
            enable = [
                sum(
                    (command["c_first"] <= (tile["word"] + n // self.streams) * pes + pe < last)
                    << n
                    for n in range(lanes)
                )
                for pe in range(pes)
            ]
            self.tiles.append((tile, enable))


def plan(works):
    """Rows in the order in which they are dealt."""
    context, ticket, reloads, before = 1, TICKETS - 1, 0, None
    for order, work in enumerate(works):
        c = work.command
        for number, (tile, enable) in enumerate(work.tiles):
            setting = enable, work.streams, work.settings
            if number == 0 or setting != before:
                ticket = (ticket + 1) % TICKETS
            if setting != before:
                context, before = 1 - context, setting
            reloads += tile["reload"]
            half = (reloads - 1) % HALVES
            for row in range(tile["row_count"]):
                job = {
                    "address": (tile["a_address"] + row * c["a_row_stride"]) % 2**24,
                    "count": tile["inner_count"],
                    "tile_row": half * SHAPE["tile_rows"] // HALVES,
                    "slot": tile["slot_base"] + row // work.streams,
                    "first": tile["first"],
                    "final": tile["final"],
                    "context": context,
                }
                address = (tile["c_address"] + row * c["c_row_stride"]) % 2**24
                finished = {"address": address, "context": context}
                finished["tile"] = (reloads - 1) % BIAS_TILES
                finished["ticket"] = ticket
                mine = row % work.streams
                anywhere = tile["first"] and tile["final"]
                streams = range(work.streams) if anywhere else range(mine, mine + 1)
                ends = bool(tile["last_chunk"])
                yield Row(work, order, enable, streams, job, finished, reloads, row == 0, ends)


class Neighbours:
    """Loaders, streamers and PEs, as far as the sequencer sees them.

    ``rooms`` are the streams that ever take a job.
    """

    def __init__(self, dut, works, pace, rooms=None):
        self.dut, self.works, self.pace = dut, works, pace
        self.pes, self.streams = parameters()["pes"], parameters()["streams"]
        self.rooms = range(self.streams) if rooms is None else rooms
        self.planned = list(plan(works))
        self.loads = sum(tile["reload"] for work in works for tile, _ in work.tiles)
        self.loaded = self.released = 0  # tiles
        self.just_released = 0  # halves, a bit each
        self.orders = self.given = self.done = self.admitted = self.finishing = 0
        self.room = [False] * self.streams
        self.streamed = [deque() for _ in range(self.streams)]  # rows whose scalars are to come
        self.tails = []  # rows whose scalars are taken: cycles until all are read
        self.draining, self.pending = deque(), deque()  # final rows, in order
        self.alike = self.apart = 0
        self.dealt_ahead = 0  # rows given before their tile was loaded
        self.begun_before = 0  # rows given before the last tiles of their sums were admitted
        self.merged = 0  # times that rows of several commands in a context were under way
        self.outside = None  # command of the row beyond the buffer that was given before
        self.layout = StreamJob(
            tile_rows=SHAPE["tile_rows"],
            partial_sums=SHAPE["partial_sums"],
            streams=self.streams,
        )
        self.total = len(self.planned)

    async def run(self):
        """Until all is done."""
        dut = self.dut
        for name in ("room", "loaded", "taken_last", "taken_half", "taken_context", "reading"):
            dut[name].value = 0
        dut.rows_ready.value = dut.final_ready.value = 0
        dut.draining.value = dut.pending.value = 0
        dut.jobs__ready.value = 0
        while self.done < len(self.works) or self.released < self.loads:
            await dut.clk.rising_edge
            self._observe()
            await dut.clk.falling_edge
            self._drive()
        assert self.given == self.total
        assert self.admitted == self.finishing == len(self.works)

    def _observe(self):
        """What the edge transfers, and whether it is right."""
        dut = self.dut
        offered = bool(dut.jobs__valid.value)
        assert bool(dut.out_of_range.value) == (self.outside is not None)
        if self.outside is not None:
            assert dut.out_of_range_command.value == self.outside % COMMANDS
            self.outside = None
        self._check_status(self.given + offered)
        self.admitted += int(dut.rows_taken.value)
        self.finishing += int(dut.final_taken.value)
        self.orders += int(dut.orders__valid.value and dut.orders__ready.value)
        self.just_released = 0
        if dut.release.value:
            half = self.released % HALVES
            self.just_released = 1 << half
            assert self.loaded > self.released, "half released before it is loaded"
            under_way = [row.half for rows in self.streamed for row in rows]
            assert half not in under_way, "half released while rows are to come"
            assert half not in [row.half for row, _ in self.tails], "half released while it is read"
            biases = (self.released + HALVES) % BIAS_TILES
            waiting = [row.finished["tile"] for row in self.draining]
            assert biases not in waiting, "half released, biases of an earlier tile to come"
            if self.given + offered < self.total:
                following = self.planned[self.given : self.given + 1 + offered]
                assert all(row.reloads > self.released + 1 for row in following)
            self.released += 1
        for stream in range(self.streams):
            if int(dut.taken_last.value) >> stream & 1:
                row = self.streamed[stream].popleft()
                row.taken = True
                self.tails.append((row, random.randint(0, 3)))
        if dut.done.value:
            left = {id(row.work) for row in self.pending}
            assert id(self.works[self.done]) not in left, "done before all is written"
            unread = {id(row.work) for rows in self.streamed for row in rows}
            assert id(self.works[self.done]) not in unread, "done before all is read"
            self.done += 1
            assert self.given >= self._rows(self.done)
        if offered and dut.jobs__ready.value:
            self._take(dut.jobs__payload.value.to_unsigned())

    def _take(self, payload):
        got = unpack_fields(self.layout, payload)
        row = self.planned[self.given]
        job = unpack_fields(RowJob(SHAPE["tile_rows"], SHAPE["partial_sums"]), got["job"])
        if job["first"] and job["final"]:
            job["slot"] = row.job["slot"]  # of no use
        assert job == row.job
        assert unpack_fields(FinishedRow(), got["finished"]) == row.finished
        assert self.admitted > row.number, "rows dealt before they are ready"
        if row.ends:
            assert self.finishing > row.number, "sums finished before they may be"
        else:
            assert self.finishing <= row.number + 1, "taken more than once"
            self.begun_before += self.finishing <= row.number
        stream = got["stream"].bit_length() - 1
        assert got["stream"] == 1 << stream
        assert stream in row.streams and self.room[stream]
        assert self.released + HALVES >= row.reloads > self.released, "half not free"
        self.dealt_ahead += self.loaded < row.reloads
        self.given += 1
        if row.job["address"] + row.job["count"] > DEPTH:
            self.outside = row.number
        self.room[stream] = False
        self.streamed[stream].append(row)
        if row.job["final"]:
            self.draining.append(row)
            self.pending.append(row)

    def _check_status(self, dealt):
        """Settings stay while a row needs them; what is told of the rows is so."""
        dut = self.dut
        streamed = [row for rows in self.streamed for row in rows]
        contexts = {row.context: row for row in [*self.pending, *streamed]}
        for context, row in contexts.items():
            assert dut[f"parameters__{context}"].value.to_unsigned() == row.work.settings
            assert int(dut[f"stream_count__{context}"].value) == row.work.streams
            for pe in range(self.pes):
                assert int(dut[f"lane_enable__{context}__{pe}"].value) == row.enable[pe]
        numbers = {row.number for row in [*self.pending, *streamed]}
        self.merged += len(numbers) > len(contexts)
        if len({row.context for row in streamed}) == CONTEXTS:
            same = [(row.enable, row.work.streams) for row in contexts.values()]
            assert bool(dut.alike.value) == (same[0] == same[1])
            self.alike += same[0] == same[1]
            self.apart += same[0] != same[1]
        assert bool(dut.dealt.value) == (dealt > self.given or bool(streamed))
        if dut.waits_for_rows.value:
            assert not (dut.rows_ready.value and dut.final_ready.value)
            assert not dut.working.value
            return
        # The walk through tiles without rows may last beyond the last row.
        if not (self.orders and self.works[self.orders - 1].tiles[-1][0]["row_count"] == 0):
            assert bool(dut.working.value) == (dealt < self._rows(self.orders))
        if dut.waits_for_half.value and dealt < self.total:
            row = self.planned[dealt]
            assert row.starts and self.released + HALVES < row.reloads
        if dut.waits_for_results.value and dealt < self.total:
            assert self.planned[dealt].starts

    def _rows(self, works):
        """Rows of the first so many commands."""
        return sum(tile["row_count"] for work in self.works[:works] for tile, _ in work.tiles)

    def _drive(self):
        """What the neighbours do next."""
        dut = self.dut

        def chance(pace=self.pace):
            return random.random() < pace

        dut.jobs__ready.value = chance()
        for stream in self.rooms:
            self.room[stream] |= len(self.streamed[stream]) < 4 and chance()
        dut.room.value = sum(room << stream for stream, room in enumerate(self.room))
        here, alike = int(dut.context.value), bool(dut.alike.value)
        last, half, context = 0, 0, 0
        for stream, rows in enumerate(self.streamed):
            there = rows and rows[0].reloads <= self.loaded
            if there and (rows[0].context == here or alike) and chance(self.pace / 4):
                last |= 1 << stream
                half |= rows[0].half << stream
                context |= rows[0].context << stream
        dut.taken_last.value = last
        dut.taken_half.value = half
        dut.taken_context.value = context
        dut.reading.value = sum({1 << row.half for row, _ in self.tails})
        self.tails = [(row, left - 1) for row, left in self.tails if left]
        if self.draining and self.draining[0].taken and chance():
            self.draining.popleft()
        elif self.pending and self.pending[0] not in self.draining and chance():
            self.pending.popleft()
        dut.draining.value = sum({1 << row.finished["tile"] for row in self.draining})
        dut.pending.value = sum({1 << row.finished["ticket"] for row in self.pending})
        self.loaded += self.loaded < min(self.released + HALVES, self.loads) and chance(0.1)
        loaded = {tile % HALVES for tile in range(self.released, self.loaded)}
        dut.loaded.value = sum(1 << half for half in loaded) | self.just_released
        dut.rows_ready.value = chance()
        # Less often: what comes before the last tiles of sums goes on meanwhile.
        dut.final_ready.value = chance(self.pace**2)


def crowd(*, row_tile, rows, chunks=2, order="kbij"):
    """A product of one column pass whose partial sums are all in use at the same time.

    Rows are given in units of all streams.
    """
    streams = parameters()["streams"]
    work = random_work().command | {
        "c_first": 0,
        "columns": 1,
        "batches": 1,
        "row_tile": row_tile * streams,
        "rows": rows * streams,
        "reuse_tile": 0,
        "keep_tile": 0,
        "first_slot": 0,
        "valid_rows": rows * streams,
        "inner_vectors": chunks,
        "inner_tile": 1,
        "streams": streams,
    }
    work |= {f"order{place}": "bijk".index(loop) for place, loop in enumerate(order)}
    return Work(work, 0)


def random_work(*, like=None, **given):
    """A legal product of a few tiles, with the lanes and parameters of the product ``like``."""
    lanes, pes = parameters()["lanes"], parameters()["pes"]
    row_tile, inner_tile = random.randint(1, 4), random.randint(1, 4)
    command = {name: random.getrandbits(field.width) for name, field in ProductCommand()}
    command |= {
        "b_source": random.randint(0, 2),
        "b_batch_stride": random.choice([0, 5]),
        "c_first": random.randint(0, 3 * pes),
        "columns": random.choice([1, random.randint(1, 2 * lanes * pes)]),
        "rows": random.randint(1, 2 * row_tile),
        "batches": random.randint(1, 2),
        "inner_vectors": random.randint(1, 3 * inner_tile),
        "row_tile": row_tile,
        "inner_tile": inner_tile,
        "streams": random.choice([1 << n for n in range(parameters()["streams"].bit_length())]),
    }
    for place, loop in enumerate(random.sample(range(4), 4)):
        command[f"order{place}"] = loop
    threshold = random.getrandbits(FORMAT.width)
    if like:
        names = [name for name, _ in EpilogueParameters(FORMAT) if name in command]
        command |= {name: like.command[name] for name in (*names, *LANES)}
        threshold = like.threshold
    command |= dict.fromkeys(("reuse_tile", "keep_tile", "resume_sums", "keep_sums"), 0)
    command |= {"first_slot": random.choice([0, random.randint(0, 32)])} | given
    if "valid_rows" not in given:
        rows = command["rows"]
        command["valid_rows"] = random.choice([rows, rows, random.randint(0, rows)])
    return Work(command, threshold)


def random_chain():
    """Fields of a part of a chain of products that share their sums: one row tile, one pass."""
    resume, keep = random.choice([(0, 1), (1, 1), (1, 0)])
    rows = random.randint(1, 8)
    sums = {"resume_sums": resume, "keep_sums": keep}
    columns = random.randint(1, parameters()["lanes"] * parameters()["pes"])
    lanes = {"streams": 1, "c_first": 0, "columns": columns}
    return {**sums, **lanes, "batches": 1, "rows": rows, "row_tile": rows}


async def begin(dut, works, pace):
    """Offer the orders; returns the coroutine that does so."""
    source = StreamSource(dut, "orders", pace=pace)
    await start(dut)
    return cocotb.start_soon(source.put_all(work.order for work in works))


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(pace=[1.0, 0.4])
async def follows_the_tiles(dut, pace):
    """Jobs, lanes and settings are those of the golden tiles; halves are handed on safely."""
    keeps = [random.choice([0, 0, 1]) for _ in range(99)]
    works = []
    for reuse, keep in zip([0, *keeps], [*keeps, 0], strict=True):
        tile = {"reuse_tile": reuse, "keep_tile": keep}
        sums = random_chain() if random.random() < 0.5 else {}
        works.append(random_work(**tile, **sums, like=random.choice([None, *2 * works[-1:]])))
    driver = await begin(dut, works, pace)
    neighbours = Neighbours(dut, works, pace)
    await neighbours.run()
    await driver
    assert neighbours.apart and neighbours.merged and neighbours.begun_before
    assert neighbours.dealt_ahead


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def passes_alike_flow_into_each_other(dut):
    """Where the lanes are shared and enabled alike, rows of two passes are under way together."""
    lanes, pes = parameters()["lanes"], parameters()["pes"]
    wide = {"streams": 1, "c_first": 0, "columns": lanes * pes, "row_tile": 8}
    works = [random_work(**wide, rows=8, valid_rows=8) for _ in range(6)]
    driver = await begin(dut, works, 0.8)
    neighbours = Neighbours(dut, works, 0.8)
    await neighbours.run()
    await driver
    assert neighbours.alike and not neighbours.apart


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(room=[0, 1, 3])
async def rows_go_where_there_is_room(dut, room):
    """A stream that takes nothing keeps no row of a single chunk waiting."""
    streams = parameters()["streams"]
    works = [random_work(inner_vectors=1, streams=streams) for _ in range(4)]
    driver = await begin(dut, works, 1.0)
    await Neighbours(dut, works, 1.0, rooms=[room % streams]).run()
    await driver


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def rows_are_spread(dut):
    """Streams get equally many rows, and no more than they may hold, though all have room."""
    streams = parameters()["streams"]
    shape = {"inner_vectors": 1, "streams": streams, "columns": 1, "c_first": 0, "batches": 1}
    held = parameters()["most_held"]
    rows = (held + 1) * streams
    works = [random_work(**shape, rows=rows, valid_rows=rows, row_tile=rows)]
    for name in ("loaded", "taken_last", "taken_half", "taken_context", "reading"):
        dut[name].value = 0
    dut.draining.value = dut.pending.value = 0
    driver = await begin(dut, works, 1.0)
    dut.rows_ready.value = dut.final_ready.value = dut.jobs__ready.value = 1
    dut.room.value = (1 << streams) - 1
    layout = StreamJob(
        tile_rows=SHAPE["tile_rows"], partial_sums=SHAPE["partial_sums"], streams=streams
    )
    got = []
    for _ in range(60 + 2 * rows):
        await dut.clk.rising_edge
        if dut.jobs__valid.value:
            got.append(unpack_fields(layout, dut.jobs__payload.value.to_unsigned())["stream"])
    assert sorted(got) == [1 << stream for stream in range(streams) for _ in range(held)]
    await driver


@cocotb.test(timeout_time=5, timeout_unit="ms")
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


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(excess=[1, 30], pace=[1.0, 0.3])
async def refuses_too_many_partial_sums(dut, excess, pace):
    """No row is finished, nothing comes after; the products before it are done first."""
    await refuse(dut, crowd(row_tile=32, rows=SHAPE["partial_sums"] + excess), pace)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(sums=["keep_sums", "resume_sums"])
async def refuses_passes_whose_sums_stay(dut, sums):
    """Every pass has its sums in the same slots."""
    chain = random_chain() | {"columns": parameters()["lanes"] * parameters()["pes"] + 1}
    await refuse(dut, random_work(**chain | {"keep_sums": 0, "resume_sums": 0, sums: 1}), 0.8)


async def refuse(dut, bad, pace):
    """Give a product that is refused, between two good ones."""
    works = [random_work(), bad, random_work()]
    driver = await begin(dut, works, pace)
    neighbours = Neighbours(dut, works, pace)
    running = cocotb.start_soon(neighbours.run())
    while not dut.overflow.value:
        await dut.clk.rising_edge
    assert neighbours.done == 1
    for _ in range(300):
        await dut.clk.rising_edge
        assert not dut.overflow.value
    assert neighbours.done == 1
    assert not neighbours.pending
    running.cancel()
    driver.cancel()
