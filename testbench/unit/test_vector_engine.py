# amaranth: UnusedElaboratable=no
"""VectorEngine between memories: softmax and layer norm in place and elsewhere, bit for bit."""

import random
from dataclasses import asdict
from typing import Any

import cocotb
import numpy as np
import pytest

from acceltran.arch.commands import Opcode
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.layernorm_format import LayerNormFields
from acceltran.arch.softmax_format import softmax_constant
from acceltran.compute.layer_norm import LayerNorm
from acceltran.compute.row_statistics import RowStatistics
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import QueuedCommand
from acceltran.control.layer_norm_engine import PLACES, LayerNormEngine
from acceltran.control.softmax_engine import SoftmaxEngine
from acceltran.control.vector_command import VectorCommand
from acceltran.control.vector_engine import VectorEngine
from acceltran_sim.golden.dynatran import prune
from acceltran_sim.golden.layernorm import layer_norm
from acceltran_sim.golden.softmax import softmax
from testbench.harness.fields import pack_fields, unpack_fields
from testbench.harness.read_ports import ReadMemory
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.vectors import pack, unpack

REGIONS, REGION = 8, 128
"""Rows of a tensor lie in one region of the activation buffer."""


# Each format once; a single softmax unit, and numbers of units that divide the rows or do not.
@pytest.mark.parametrize(
    ("frac_bits", "tile", "width", "norm_width", "sequence", "hidden", "units", "ports"),
    [(16, 8, 2, 8, 32, 24, 1, 1), (12, 4, 4, 4, 20, 16, 4, 2), (8, 4, 1, 1, 24, 48, 3, 1)],
    ids=["1-unit", "2-ports", "3-units"],
)
def test_vector_engine(frac_bits, tile, width, norm_width, sequence, hidden, units, ports, request):
    sizes = {
        "tile": tile,
        "width": width,
        "norm_width": norm_width,
        "sequence": sequence,
        "hidden": hidden,
        "units": units,
        "ports": ports,
    }
    simulate(
        VectorEngine(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), **sizes),
        bench=__name__,
        parameters={**sizes, "frac_bits": frac_bits},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize("units", [0, -1])
def test_rejects_units(units):
    message = rf"^Number of softmax units must be at least 1, not {units}$"
    with pytest.raises(ValueError, match=message):
        SoftmaxEngine(
            fmt=FixedPoint(int_bits=4, frac_bits=8), tile=4, width=1, sequence=8, units=units
        )


@pytest.mark.parametrize("ports", [0, 2])
def test_rejects_ports(ports):
    message = rf"^Number of ports must divide 3 softmax units, not {ports}$"
    with pytest.raises(ValueError, match=message):
        SoftmaxEngine(
            fmt=FixedPoint(int_bits=4, frac_bits=8),
            tile=4,
            width=1,
            sequence=8,
            units=3,
            ports=ports,
        )


@pytest.mark.parametrize("hidden", [0, 4, 10])
def test_rejects_hidden(hidden):
    message = (
        rf"^Hidden size must be a multiple of the vector \(4\), at least twice it, not {hidden}$"
    )
    with pytest.raises(ValueError, match=message):
        LayerNormEngine(fmt=FixedPoint(int_bits=4, frac_bits=8), tile=4, width=1, hidden=hidden)


# What follows runs inside the simulator, once for each parametrisation.


class Bench:
    """The device between memories, and a copy of the memories that the models work on."""

    def __init__(self, dut, *, read_pace: float = 1.0, write_pace: float = 1.0):
        p = parameters()
        self.dut = dut
        self.fmt = FixedPoint(int_bits=4, frac_bits=p["frac_bits"])
        self.tile, self.units, self.ports = p["tile"], p["units"], p["ports"]
        self.most = {"softmax": p["sequence"] // self.tile, "layernorm": p["hidden"] // self.tile}
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.write_pace = write_pace
        shape = (REGIONS * REGION, self.tile)
        self.activations, self.weights = self.elements(*shape), self.elements(*shape)
        self.keep = self.rng.integers(0, 1, shape, endpoint=True).astype(bool)
        vector_bits = self.fmt.width * self.tile
        self.memory = [
            pack(values, self.fmt.width) | pack(keep.astype(np.int64), 1) << vector_bits
            for values, keep in zip(self.activations, self.keep, strict=True)
        ]
        self.weight_memory = [pack(values, self.fmt.width) for values in self.weights]
        self.reads = [
            *(
                ReadMemory(dut, f"reads__{n}", self.memory.__getitem__, **self.port(read_pace))
                for n in range(self.ports + 2)
            ),
            ReadMemory(dut, "read_affine", self.weight_memory.__getitem__, **self.port(read_pace)),
        ]
        self.source = StreamSource(dut, "i")
        self.cycle = 0
        self.writes = 0
        self.written_at: list[int] = []  # cycle of every write
        self.done_after: list[int] = []  # writes before each completion, its own included
        self.clipped = 0
        self.expected_done_after: list[int] = []
        self.expected_writes = 0
        self.expected_clipped = 0

    @staticmethod
    def port(pace: float) -> dict[str, Any]:
        return {"field": "vector", "latency": 3, "pace": pace}

    def elements(self, *shape: int) -> np.ndarray:
        """Random raw elements of the full range."""
        return self.rng.integers(self.fmt.lowest, self.fmt.highest, shape, endpoint=True)

    async def start(self) -> None:
        for memory in self.reads:
            memory.start()
        await start(self.dut)
        cocotb.start_soon(self._record())

    async def _record(self) -> None:
        """Take writes; every offer must stay until it is taken. Count what is done and clipped."""
        dut = self.dut
        ports = [
            [dut[f"writes__{n}__{part}"] for part in ("valid", "ready", "payload")]
            for n in range(self.ports + 1)
        ]
        layout_bits = (self.fmt.width + 1) * self.tile
        offered: dict[int, int] = {}
        while True:
            taking = [random.random() < self.write_pace for _ in ports]
            for (_, ready, _), value in zip(ports, taking, strict=True):
                ready.value = value
            await dut.clk.rising_edge
            self.cycle += 1
            for n, (valid, _, payload) in enumerate(ports):
                now = payload.value.to_unsigned() if valid.value else None
                assert offered.pop(n, now) == now, f"write {n}: offer withdrawn or changed"
                if now is not None and taking[n]:
                    address = now & (1 << 24) - 1
                    assert now >> 24 + layout_bits == 0
                    self.memory[address] = now >> 24
                    self.writes += 1
                    self.written_at.append(self.cycle)
                elif now is not None:
                    offered[n] = now
            if dut.done.value:
                self.done_after.append(self.writes)
            self.clipped += dut.saturated.value.to_unsigned()

    def regions(self, count: int) -> list[int]:
        """Different places for tensors."""
        return [int(r) * REGION for r in self.rng.choice(REGIONS, count, replace=False)]

    def threshold(self) -> int:
        return int(2.0 ** self.rng.uniform(0, self.fmt.width))

    def softmax(self, **given: int) -> tuple[int, np.ndarray]:
        """Random SOFTMAX but for what is given; work it out and return the command."""
        rng = self.rng
        c: dict[str, int] = {"rows": int(rng.integers(1, 7, endpoint=True)), **given}
        c.setdefault("blocks", int(rng.integers(1, self.most["softmax"], endpoint=True)))
        c.setdefault("keys", int(rng.integers(0, c["blocks"] * self.tile, endpoint=True)))
        source, target = self.regions(2)
        stride = c["blocks"] + int(rng.integers(0, 2, endpoint=True))
        known = {"source_base": source + int(rng.integers(0, 8)), "source_row_stride": stride}
        known["target_base"] = target + int(rng.integers(0, 8))
        known["target_row_stride"] = c["blocks"] + int(rng.integers(0, 2, endpoint=True))
        in_place = c.pop("in_place", int(rng.integers(0, 1, endpoint=True)))
        if in_place:
            known["target_base"] = known["source_base"]
            known["target_row_stride"] = known["source_row_stride"]
        constant, shift = softmax_constant(
            int(rng.integers(1, 128)), self.fmt.frac_bits - int(rng.integers(0, 4)), self.fmt
        )
        c = {**known, "constant": constant, "shift": shift, **c}
        constant, shift = c["constant"], c["shift"]
        threshold = c.pop("threshold", self.threshold())
        scores = self.rows(self.activations, c["source_base"], c["source_row_stride"], c)
        result = softmax(scores, fmt=self.fmt, constant=constant, shift=shift, keys=c["keys"])
        self.store(result, threshold, c)
        return self.command(Opcode.SOFTMAX, c, threshold), result

    def layernorm(self, **given: int) -> tuple[int, np.ndarray]:
        """Random LAYERNORM but for what is given; work it out and return the command."""
        rng = self.rng
        c: dict[str, int] = {"rows": int(rng.integers(1, 7, endpoint=True)), **given}
        c.setdefault("blocks", int(rng.integers(1, self.most["layernorm"], endpoint=True)))
        whole = c["blocks"] * self.tile
        columns = c.setdefault(
            "columns", int(rng.integers(whole - self.tile + 1, whole, endpoint=True))
        )
        a, b, target = self.regions(3)
        known = {}
        for name, base in (("a", a), ("b", b), ("target", target)):
            known[f"{name}_base"] = base + int(rng.integers(0, 8))
            known[f"{name}_row_stride"] = c["blocks"] + int(rng.integers(0, 2, endpoint=True))
        in_place = c.pop("in_place", int(rng.integers(0, 2, endpoint=True)))
        if in_place:
            replaced = "ab"[in_place - 1]
            for part in ("base", "row_stride"):
                known[f"target_{part}"] = known[f"{replaced}_{part}"]
        for name in ("gamma", "beta"):
            known[f"{name}_base"] = int(rng.integers(0, REGIONS * REGION - c["blocks"]))
        scale = -self.fmt.frac_bits
        fields = LayerNormFields.of(
            fmt=self.fmt,
            columns=columns,
            eps=1e-5,
            input_exponent=scale,
            gamma_exponent=scale + int(rng.integers(-3, 3)),
            beta_exponent=scale + int(rng.integers(-3, 3)),
            output_exponent=scale + int(rng.integers(-3, 3)),
        )
        c = {**known, **asdict(fields), **c}
        fields = LayerNormFields(**{name: c[name] for name in asdict(fields)})
        threshold = c.pop("threshold", self.threshold())
        a, b = (
            self.rows(self.activations, c[f"{x}_base"], c[f"{x}_row_stride"], c)[:, :columns]
            for x in "ab"
        )
        gamma, beta = (
            self.weights[c[f"{x}_base"] :][: c["blocks"]].reshape(-1)[:columns]
            for x in ("gamma", "beta")
        )
        result = np.zeros((c["rows"], whole), dtype=np.int64)
        if c["rows"]:
            z, clipped = layer_norm(a, b, fmt=self.fmt, gamma=gamma, beta=beta, fields=fields)
            self.expected_clipped += clipped
            result[:, :columns] = z
        self.store(result, threshold, c)
        return self.command(Opcode.LAYERNORM, c, threshold), result

    def rows(self, buffer: np.ndarray, base: int, stride: int, c: dict[str, int]) -> np.ndarray:
        """Rows of a tensor, padding included."""
        vectors = base + np.arange(c["rows"])[:, np.newaxis] * stride + np.arange(c["blocks"])
        return buffer[vectors].reshape(c["rows"], c["blocks"] * self.tile)

    def store(self, result: np.ndarray, threshold: int, c: dict[str, int]) -> None:
        """Prune ``result`` and put it where the command says."""
        values, keep = prune(result, min(threshold, (1 << self.fmt.width) - 1))
        for row in range(c["rows"]):
            first = c["target_base"] + row * c["target_row_stride"]
            place = slice(first, first + c["blocks"])
            self.activations[place] = values[row].reshape(-1, self.tile)
            self.keep[place] = keep[row].reshape(-1, self.tile)
        self.expected_writes += c["rows"] * c["blocks"]
        self.expected_done_after.append(self.expected_writes)

    def command(self, opcode: Opcode, c: dict[str, int], threshold: int) -> int:
        packed = pack_fields(command_layout(opcode), c)
        layout = VectorCommand()
        body = packed << layout["body"].offset | (opcode is Opcode.LAYERNORM)
        fields = {"body": body, "threshold": min(threshold, (1 << self.fmt.width) - 1)}
        return pack_fields(QueuedCommand(layout.size, self.fmt.width), fields)

    async def run(self, commands: list[int]) -> int:
        """Run what was made and compare; return the cycles it took."""
        begin = self.cycle
        driver = cocotb.start_soon(self.source.put_all(commands))
        while len(self.done_after) < len(self.expected_done_after):
            await self.dut.clk.rising_edge
            assert self.cycle - begin < 50_000, f"{len(self.done_after)} commands done"
        cycles = self.cycle - begin
        await driver
        for _ in range(40):
            await self.dut.clk.rising_edge
        # Once per command, in the cycle of its last write; ports may be ahead of one another.
        if self.ports == 1:
            assert self.done_after == self.expected_done_after
        else:
            pairs = zip(self.done_after, self.expected_done_after, strict=True)
            assert all(done >= writes for done, writes in pairs)
        assert self.writes == self.expected_writes
        assert self.clipped == self.expected_clipped
        for address, raw in enumerate(self.memory):
            values = unpack(raw, self.fmt.width, self.tile)
            keep = raw >> self.fmt.width * self.tile
            np.testing.assert_array_equal(values, self.activations[address], f"at {address}")
            assert keep == pack(self.keep[address].astype(np.int64), 1), f"keep at {address}"
        return cycles


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(paces=[(1.0, 1.0), (0.5, 1.0), (1.0, 0.3), (0.5, 0.5)])
async def runs_commands_in_order(dut, paces):
    """Random commands of both kinds, each of which may read what an earlier one wrote."""
    bench = Bench(dut, read_pace=paces[0], write_pace=paces[1])
    await bench.start()
    kinds = [bench.softmax, bench.layernorm] * 10
    bench.rng.shuffle(kinds)
    await bench.run([kind()[0] for kind in kinds])


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(write_pace=[1.0, 0.3], in_place=[0, 1])
async def softmax_of_every_shape(dut, write_pace, in_place):
    """Rows fewer and more than units, of any length, with any number of valid keys."""
    bench = Bench(dut, write_pace=write_pace)
    await bench.start()
    commands = []
    for rows in (0, 1, bench.units, bench.units + 1, 2 * bench.units + 1):
        for blocks in {1, 2, 3, bench.most["softmax"]}:
            for keys in {0, 1, (blocks - 1) * bench.tile + 1, blocks * bench.tile - 1}:
                given = {"rows": rows, "blocks": blocks, "keys": keys, "in_place": in_place}
                commands.append(bench.softmax(**given)[0])
    await bench.run(commands)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(write_pace=[1.0, 0.3], in_place=[0, 1, 2])
async def layernorm_of_every_shape(dut, write_pace, in_place):
    """One row and several, of any number of blocks, the last of them full or not."""
    bench = Bench(dut, write_pace=write_pace)
    await bench.start()
    commands = []
    for rows in (0, 1, 2, 5):
        for blocks in {1, 2, 3, bench.most["layernorm"]}:
            for columns in {blocks * bench.tile - bench.tile + 1, blocks * bench.tile}:
                given = {"rows": rows, "blocks": blocks, "columns": columns, "in_place": in_place}
                commands.append(bench.layernorm(**given)[0])
    await bench.run(commands)


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(threshold=["none", "all", "equal"])
async def prunes(dut, threshold):
    """Threshold 0, one that prunes all, and one that a value just meets."""
    bench = Bench(dut)
    await bench.start()
    commands = []
    for kind in (bench.softmax, bench.layernorm):
        value = {"none": 0, "all": (1 << bench.fmt.width) - 1, "equal": bench.fmt.highest}
        command, result = kind(threshold=value[threshold], blocks=1, rows=5)
        commands.append(command)
        if threshold == "all":
            assert np.abs(result).max() > 0
    await bench.run(commands)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def reads_each_vector_once(dut):
    """Scores and summands once, gamma and beta once per command, not once per row."""
    bench = Bench(dut)
    await bench.start()
    commands = [bench.softmax(rows=5, blocks=2)[0], bench.layernorm(rows=4, blocks=2)[0]]
    await bench.run(commands)
    others = [0] * (bench.ports - 1)
    assert [len(memory.addresses) for memory in bench.reads] == [10, *others, 8, 8, 4]


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def takes_one_command_at_a_time(dut):
    """The next command is taken only after ``done``."""
    bench = Bench(dut)
    await bench.start()
    makes = [bench.softmax, bench.layernorm, bench.layernorm] * 2
    commands = [make(rows=1)[0] for make in makes]
    commands += [bench.softmax(rows=0)[0], bench.layernorm(rows=0)[0]]
    taken, done = [], []

    async def watch():
        while True:
            await dut.clk.rising_edge
            if dut.i__valid.value and dut.i__ready.value:
                taken.append(bench.cycle)
            if dut.done.value:
                done.append(bench.cycle)

    watcher = cocotb.start_soon(watch())
    await bench.run(commands)
    watcher.cancel()
    assert len(taken) == len(done) == len(commands)
    assert all(end < begin for end, begin in zip(done, taken[1:], strict=False))
    assert all(end - begin >= 2 for end, begin in zip(done, taken, strict=True))


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def softmax_units_work_together(dut):
    """Rows come out at the rate of all units together, or of the port."""
    bench = Bench(dut)
    await bench.start()
    blocks = bench.most["softmax"]
    units = bench.units // bench.ports  # one command goes through one port
    rows = min(6 * units, REGION // (blocks + 2) - 1)
    await bench.run([bench.softmax(rows=rows, blocks=blocks, in_place=1)[0]])
    row_ends = bench.written_at[blocks - 1 :: blocks]
    words = blocks * bench.tile // parameters()["width"]
    mean = (row_ends[-1] - row_ends[0]) / (rows - 1)
    assert mean <= 1.3 * max(blocks, words / units)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def ports_work_together(dut):
    """Commands that are alike but for their places go through all ports at their full rate."""
    bench = Bench(dut)
    await bench.start()
    blocks, units = bench.most["softmax"], bench.units // bench.ports
    settings = {"blocks": blocks, "rows": units, "threshold": bench.threshold(), "in_place": 0}
    settings |= {"constant": 1 << bench.fmt.frac_bits, "shift": 4, "keys": blocks * bench.tile}
    commands = []
    for n in range(8):
        where = {"source_base": n * 2 * blocks * units, "source_row_stride": blocks}
        where |= {"target_base": 7 * REGION, "target_row_stride": blocks}
        commands.append(bench.softmax(**settings, **where)[0])
    await bench.run(commands)
    # From the first write of the second pair of commands to the end.
    vectors = len(bench.written_at) * 6 // 8
    cycles = bench.written_at[-1] - bench.written_at[-vectors]
    rate = min(1, units * parameters()["width"] / bench.tile)
    assert cycles <= 1.3 * vectors / (rate * bench.ports)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def layernorm_rows_overlap(dut):
    """Rows follow one another at the rate of a pass, of the statistics, or of two under way."""
    bench = Bench(dut)
    await bench.start()
    blocks = bench.most["layernorm"]
    rows = REGION // (blocks + 2) - 1
    await bench.run([bench.layernorm(rows=rows, blocks=blocks, in_place=1)[0]])
    row_ends = bench.written_at[blocks - 1 :: blocks]
    width, hidden = parameters()["norm_width"], parameters()["hidden"]
    unit = LayerNorm(fmt=bench.fmt, tile=bench.tile, width=width, hidden=hidden)
    words = blocks * bench.tile // width
    period = max(2 * words, 2 * RowStatistics.LATENCY / unit.statistics_units, words + unit.LATENCY)
    pairs = zip(row_ends, row_ends[2:], strict=False)
    assert max(late - early for early, late in pairs) <= period + 2


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(write_pace=[1.0, 0.3])
async def parts_follow_one_another(dut, write_pace):
    """Commands that are alike but for their places overlap; others, and empty ones, do not mind."""
    bench = Bench(dut, write_pace=write_pace)
    await bench.start()
    commands = []
    for opcode, make in ((Opcode.SOFTMAX, bench.softmax), (Opcode.LAYERNORM, bench.layernorm)) * 2:
        # None reads what another one writes: such a command would have to wait.
        where: dict[str, int] = {"in_place": 0, "target_base": 7 * REGION}
        names = ("source_base",) if opcode is Opcode.SOFTMAX else ("a_base", "b_base")
        where |= {name: n * REGION for n, name in enumerate(names)}
        settings = {**where, "blocks": 2, "threshold": bench.threshold()}
        first = make(**settings, rows=2)[0]
        queued = unpack_fields(QueuedCommand(VectorCommand().size, bench.fmt.width), first)
        body = queued["body"] >> VectorCommand()["body"].offset
        places = {*PLACES, "source_row_stride", "own_keys", "threshold"}
        fields = unpack_fields(command_layout(opcode), body)
        settings |= {name: value for name, value in fields.items() if name not in places}
        commands.append(first)
        for n, rows in enumerate((2, 0, 3, 1, 4)):
            settings["target_base"] = (2 + n) * REGION
            commands.append(make(**settings, rows=rows)[0])
    await bench.run(commands)
