# amaranth: UnusedElaboratable=no
"""Cluster between its buffers: whole products against the golden models, bit for bit."""

import itertools

import cocotb
import numpy as np
import pytest

from acceltran.arch.activation import Activation
from acceltran.arch.commands import LOOPS, OperandSource
from acceltran.arch.config import AcceleratorConfig, Array, Buffers, Datapath, Limits
from acceltran.cluster import Cluster
from acceltran.control.product_command import ProductCommand
from acceltran.memory.ports import BufferWrite
from acceltran_sim.golden.epilogue import epilogue
from acceltran_sim.golden.loop_nest import tiles
from acceltran_sim.golden.product import exact_sums
from testbench.harness.cluster_with_buffers import ClusterWithBuffers
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSource
from testbench.harness.vectors import pack, unpack

CONFIGS = {
    "tiny": ({"clusters": 1, "pes": 1, "lanes": 4}, {"tile": 16, "frac_bits": 16}),
    "tiny2": ({"clusters": 1, "pes": 2, "lanes": 4}, {"tile": 8, "frac_bits": 12}),
    "small": ({"clusters": 2, "pes": 1, "lanes": 4}, {"tile": 8, "frac_bits": 8}),
    "wide": ({"clusters": 2, "pes": 4, "lanes": 4}, {"tile": 8, "frac_bits": 8}),
    "dot": ({"clusters": 1, "pes": 2, "lanes": 2}, {"tile": 8, "frac_bits": 8, "lane": "dot"}),
}
"""Those of two clusters have two tile ports for each PE."""


def build(name: str) -> AcceleratorConfig:
    array, datapath = CONFIGS[name]
    clusters, pes, tile = array["clusters"], array["pes"], datapath["tile"]
    return AcceleratorConfig(
        array=Array(pes=clusters * pes, pes_per_cluster=pes, lanes=array["lanes"], softmax_width=4),
        datapath=Datapath(multipliers=tile, tile_rows=8 * tile, partial_sums=64, **datapath),
        buffers=Buffers(activation_kib=32 * clusters, weight_kib=16, mask_kib=64),
        limits=Limits(inner=256, sequence=256, hidden=256),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_cluster(name, request):
    simulate(
        ClusterWithBuffers(config=build(name)),
        bench=__name__,
        parameters={"name": name},
        seed=request.config.getoption("seed"),
    )


def test_rejects_configuration():
    with pytest.raises(
        TypeError, match=r"^Configuration must be an AcceleratorConfig, not 'tiny'$"
    ):
        Cluster(config="tiny")  # type: ignore[arg-type]


# What follows runs inside the simulator, once for each parametrisation of test_cluster.


class Bench:
    """The device, what its buffers hold, and what they should hold."""

    def __init__(self, dut):
        self.dut = dut
        self.config = build(parameters()["name"])
        self.fmt, self.tile = self.config.fmt, self.config.datapath.tile
        self.pes, self.lanes = self.config.array.pes_per_cluster, self.config.lanes
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        depth = self.config.cluster_vectors // 2 // self.pes * self.pes
        self.results = depth
        """First vector of the upper half of the buffer, which takes the results."""
        self.activations = np.zeros((2 * depth, self.tile), dtype=np.int64)
        self.weights = np.zeros((self.config.weight_vectors, self.tile), dtype=np.int64)
        self.orders = StreamSource(dut, "orders")
        self.counts: dict[str, int] = dict.fromkeys(ClusterWithBuffers.COUNTERS, 0)
        self.expected = dict.fromkeys(
            ("effectual_products", "saturated", "tile_load", "tile_reuse"), 0
        )
        self.scalars: list[int] = []
        """Of each row."""
        self.kept: dict[int, np.ndarray] = {}
        """Sums that stay in the lanes, by slot and stream."""
        self.done = self.cycles = 0
        dut.activation_read__request__valid.value = 0

    def random(self, shape, density):
        values = self.rng.integers(self.fmt.lowest, self.fmt.highest, shape, endpoint=True)
        chance = density * self.rng.choice([0, 0.5, 1, 1.5], shape[0])[:, np.newaxis]
        return np.where(self.rng.random(shape) < chance, values, 0)

    async def start(self, density=0.4):
        """Fill the buffers: operands at random, zeros where the results will be."""
        dut = self.dut
        self.activations[: self.results] = self.random((self.results, self.tile), density)
        self.weights[:] = self.random(self.weights.shape, 0.8)
        writers = [
            (StreamSource(dut, "activation_write"), self.activations),
            (StreamSource(dut, "weight_write"), self.weights),
        ]
        await start(dut)
        layout = BufferWrite(self.fmt, self.tile)
        assert layout.size == 24 + self.tile * (self.fmt.width + 1)

        def words(memory):
            for address, values in enumerate(memory):
                keep = pack((values != 0).astype(np.int64), 1)
                vector = keep << self.tile * self.fmt.width | pack(values, self.fmt.width)
                yield vector << 24 | address

        tasks = [cocotb.start_soon(source.put_all(words(m))) for source, m in writers]
        for task in tasks:
            await task
        cocotb.start_soon(self._watch())

    async def _watch(self):
        dut = self.dut
        signals = {name: dut[name] for name in self.counts}
        while True:
            await dut.clk.rising_edge
            self.cycles += 1
            for name, signal in signals.items():
                self.counts[name] += int(signal.value)
            self.done += int(dut.done.value)
            assert not dut.out_of_range.value

    def command(self, **fields):
        """Fields of a product, all zero but for those given and for what every product needs."""
        command = dict.fromkeys(ProductCommand().members, 0)
        command |= {"batches": 1, "streams": 1, "order0": 0, "order1": 1, "order2": 2, "order3": 3}
        command |= {"shift": self.fmt.frac_bits, "b_rows": 0xFFFF}
        assert not fields.keys() - command.keys()
        return command | {"valid_rows": fields["rows"]} | fields

    def model(self, c, threshold):
        """Carry out a product on the expected contents of the buffer."""
        tile = self.tile
        operand = self.weights if c["b_source"] == OperandSource.WEIGHT else self.activations
        inner, columns = c["inner_vectors"], c["columns"]
        bias: object = 0
        if c["bias_enable"]:
            bias = self.weights[c["bias_base"] : c["bias_base"] + columns].reshape(-1)
        for batch in range(c["batches"] if c["valid_rows"] else 0):
            first = c["a_base"] + batch * c["a_batch_stride"]
            rows = first + np.arange(c["valid_rows"]) * c["a_row_stride"]
            a = self.activations[rows[:, np.newaxis] + np.arange(inner)].reshape(len(rows), -1)
            first = c["b_base"] + batch * c["b_batch_stride"]
            if c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED:
                shape = (columns * tile, inner)
            else:
                shape = (inner * tile, columns)
            b = np.zeros((*shape, tile), dtype=np.int64)
            valid = min(shape[0], c["b_rows"])
            rows = first + np.arange(valid) * c["b_row_stride"]
            b[:valid] = operand[rows[:, np.newaxis] + np.arange(shape[1])]
            b = b.reshape(shape[0], -1)
            if c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED:
                b = b.T
            self.expected["effectual_products"] += int(
                np.count_nonzero(a, axis=0) @ np.count_nonzero(b, axis=1)
            )
            self.scalars += np.count_nonzero(a, axis=1).tolist()
            sums = exact_sums(a, b, fmt=self.fmt)
            places = c["first_slot"] * c["streams"] + np.arange(c["valid_rows"])
            if c["resume_sums"]:
                sums += np.stack([self.kept[place] for place in places])
            if c["keep_sums"]:
                self.kept |= dict(zip(places.tolist(), sums, strict=True))
                continue
            values, _, saturated = epilogue(
                sums,
                bias=bias,  # type: ignore[arg-type]
                bias_shift=c["bias_shift"],
                shift=c["shift"],
                function=Activation(c["function"]),
                gelu_input_shift=c["gelu_input_shift"],
                gelu_output_shift=c["gelu_output_shift"],
                threshold=threshold,
                fmt=self.fmt,
            )
            for row, vectors in enumerate(values.reshape(c["valid_rows"], columns, tile)):
                first = c["c_base"] + batch * c["c_batch_stride"] + row * c["c_row_stride"]
                first += c["c_first"]
                self.activations[first : first + columns] = vectors
            self.expected["saturated"] += saturated
        for place in tiles(c, banks=self.pes, lanes=self.lanes, tile=tile):
            self.expected["tile_load" if place["reload"] else "tile_reuse"] += 1

    async def give(self, command, threshold=0):
        """Order a product, and compute what comes of it."""
        assert command["inner_tile"] * self.tile * 2 <= self.config.datapath.tile_rows
        self.model(command, threshold)
        word = pack_fields(ProductCommand(), command)
        await self.orders.put(threshold << ProductCommand().size | word)

    async def finish(self, products):
        """Wait until all products are done, and compare results and counters."""
        idle = 0
        while self.done < products and idle < 20000:
            await self.dut.clk.rising_edge
            idle += 1
        assert self.done == products
        await self.compare()
        assert self.done == products
        for name, count in self.expected.items():
            assert self.counts[name] == count, name

    async def compare(self):
        """Read the upper half of the buffer back."""
        dut = self.dut
        got = []

        async def collect():
            while len(got) < self.results:
                await dut.clk.rising_edge
                if dut.activation_read__response__valid.value:
                    got.append(dut.activation_read__response__vector.value.to_unsigned())

        task = cocotb.start_soon(collect())
        for address in range(self.results, 2 * self.results):
            dut.activation_read__request__payload.value = address
            dut.activation_read__request__valid.value = 1
            await dut.clk.rising_edge
            while not dut.activation_read__request__ready.value:
                await dut.clk.rising_edge
        dut.activation_read__request__valid.value = 0
        await task
        values = np.array([unpack(word, self.fmt.width, self.tile) for word in got])
        wrong = np.flatnonzero((values != self.activations[self.results :]).any(axis=1))
        assert not len(wrong), f"{len(wrong)} wrong vectors, first {wrong[:8] + self.results}"

    def random_product(self, number, c_base):
        """Fields of a random product whose result begins at ``c_base``, and its threshold."""
        rng, pes = self.rng, self.pes

        def draw(low, high):
            return int(rng.integers(low, high + 1))

        batches, rows = draw(1, 2), draw(1, 9)
        inner, columns, c_first = draw(1, 6), draw(1, 2 * self.lanes * pes), draw(0, 2 * pes)
        stride = -(-(c_first + columns) // pes) * pes
        source = number % 3
        order = [int(x) for x in rng.permutation(4)]
        command = self.command(
            a_base=draw(0, 20) * pes,
            a_batch_stride=draw(0, 8) * pes,
            a_row_stride=draw(1, 5) * pes,
            inner_vectors=inner,
            b_source=source,
            b_base=draw(0, 30),
            b_batch_stride=draw(0, 1) * draw(1, 20),
            b_row_stride=draw(1, 3),
            b_rows=draw(1, self.tile * max(inner, columns)),
            c_base=c_base,
            c_batch_stride=rows * stride,
            c_row_stride=stride,
            c_first=c_first,
            columns=columns,
            rows=rows,
            valid_rows=draw(0, rows) if number % 4 == 3 else rows,
            batches=batches,
            row_tile=draw(1, 2),
            inner_tile=draw(1, 4),
            streams=1 << draw(0, self.config.streams.bit_length() - 1),
            bias_enable=draw(0, 1),
            bias_base=draw(0, 100),
            bias_shift=draw(0, self.fmt.frac_bits),
            shift=self.fmt.frac_bits + draw(0, 4),
            function=draw(0, 2),
            gelu_input_shift=draw(0, 3),
            gelu_output_shift=draw(0, 3),
            **{f"order{place}": loop for place, loop in enumerate(order)},
        )
        if self.slots(command) > self.config.datapath.partial_sums:
            command["inner_tile"] = 4
            command["inner_vectors"] = min(inner, 4)
        return command, draw(0, 1) * draw(0, self.fmt.highest // 4)

    def slots(self, command):
        """Partial sums that a product needs."""
        return max(
            tile["slot_base"] + -(-command["row_tile"] // command["streams"])
            for tile in tiles(command, banks=self.pes, lanes=self.lanes, tile=self.tile)
        )

    def random_chain(self, number, c_base):
        """Fields of products that sum up one result in the lanes, the last one in parts of rows."""
        rng, pes, tile = self.rng, self.pes, self.tile
        command, threshold = self.random_product(number, c_base)
        words = self.lanes // command["streams"]
        first_slot, per_part = int(rng.integers(0, 50)), int(rng.integers(1, 4))
        rows, streams = command["rows"], command["streams"]
        c = command | {
            "batches": 1,
            "row_tile": rows,
            "c_first": 0,
            "columns": int(rng.integers(1, words * pes + 1)),
            "first_slot": first_slot,
            "b_row_stride": 1,  # a long sum fits the smallest buffer
            "order0": 0,
            "order1": 1,
            "order2": 2,
            "order3": 3,
        }
        c["c_row_stride"] = -(-c["columns"] // pes) * pes
        c["c_batch_stride"] = rows * c["c_row_stride"]
        transposed = c["b_source"] == OperandSource.ACTIVATION_TRANSPOSED
        # The last chunk is one tile, which its parts share.
        pieces = [
            *(int(n) for n in rng.integers(1, 6, rng.integers(1, 4))),
            int(rng.integers(1, 4)),
        ]
        c["b_rows"] = (c["columns"] if transposed else sum(pieces)) * tile
        chain, done = [], 0
        for inner in pieces:
            chain.append(
                c
                | {
                    "a_base": c["a_base"] + done,
                    "b_base": c["b_base"] + done * (1 if transposed else tile * c["b_row_stride"]),
                    "inner_vectors": inner,
                    "resume_sums": int(done > 0),
                    "keep_sums": 1,
                }
            )
            done += inner
        last = chain.pop() | {"keep_sums": 0, "inner_tile": 4}
        size = per_part * streams
        for row in range(0, rows, size):
            chain.append(
                last
                | {
                    "a_base": last["a_base"] + row * c["a_row_stride"],
                    "c_base": c["c_base"] + row * c["c_row_stride"],
                    "first_slot": first_slot + row // streams,
                    "rows": min(size, rows - row),
                    "valid_rows": min(max(c["valid_rows"] - row, 0), size, rows - row),
                    "reuse_tile": int(row > 0),
                    "keep_tile": int(row + size < rows),
                }
            )
        return chain, threshold


def size(command):
    """Vectors that the result of a product takes."""
    return command["batches"] * command["c_batch_stride"]


@cocotb.test()
@cocotb.parametrize(density=[0.4, 0.05])
async def random_products(dut, density):
    """All sources, functions and shapes, one product right after the other."""
    bench = Bench(dut)
    await bench.start(density)
    base, products = bench.results, 0
    while products < 12:
        command, threshold = bench.random_product(products, base)
        if base + size(command) > len(bench.activations):
            break
        await bench.give(command, threshold)
        base += size(command)
        products += 1
    assert products > 3
    await bench.finish(products)


@cocotb.test()
@cocotb.parametrize(density=[0.4, 0.05])
async def sums_stay_in_the_lanes(dut, density):
    """Products that go on from the sums of others, with products of a single chunk in between."""
    bench = Bench(dut)
    await bench.start(density)
    base, given = bench.results, 0
    for number in range(6):
        chain, threshold = bench.random_chain(number, base)
        if base + size(chain[0]) > len(bench.activations):
            break
        base += size(chain[0])
        for command in chain:
            await bench.give(command, threshold)
            given += 1
            if not command["keep_tile"] and bench.rng.random() < 0.5:
                other, entry = bench.random_product(given, base)
                other |= {"inner_vectors": min(other["inner_vectors"], 4), "inner_tile": 4}
                if base + size(other) < len(bench.activations):
                    await bench.give(other, entry)
                    base += size(other)
                    given += 1
    assert given > 6
    await bench.finish(given)


@cocotb.test()
async def loop_orders(dut):
    """All 24 orders of the loops give the same bits; the widest array tries every third."""
    bench = Bench(dut)
    orders = list(itertools.permutations(range(len(LOOPS))))
    if parameters()["name"] == "wide":
        orders = orders[::3]
    await bench.start()
    pes, lanes = bench.pes, bench.lanes
    columns = lanes * pes + 1
    stride = -(-(1 + columns) // pes) * pes
    results = {}
    for number, order in enumerate(orders):
        command = bench.command(
            a_base=0,
            a_batch_stride=20 * pes,
            a_row_stride=4 * pes,
            inner_vectors=5,
            b_source=OperandSource.ACTIVATION,
            b_base=3,
            b_batch_stride=7 * (number % 2),
            b_row_stride=2,
            c_base=bench.results,
            c_batch_stride=5 * stride,
            c_row_stride=stride,
            c_first=1,
            columns=columns,
            rows=5,
            batches=2,
            row_tile=2,
            inner_tile=2,
            bias_enable=1,
            bias_base=number,
            shift=bench.fmt.frac_bits,
            **{f"order{place}": loop for place, loop in enumerate(order)},
        )
        assert bench.slots(command) <= bench.config.datapath.partial_sums
        await bench.give(command)
        await bench.finish(number + 1)
        results[order] = bench.activations.copy()
    assert len(results) == len(orders)


@cocotb.test()
async def lanes_are_busy(dut):
    """With rows long enough, the lanes have a scalar in nearly every cycle."""
    bench = Bench(dut)
    await bench.start(0.5)
    command = bench.command(
        a_row_stride=4,
        inner_vectors=4,
        b_row_stride=bench.lanes * bench.pes,
        c_base=bench.results,
        c_row_stride=bench.lanes * bench.pes,
        columns=bench.lanes * bench.pes,
        rows=40,
        row_tile=40,
        inner_tile=4,
    )
    before = bench.cycles
    await bench.give(command)
    while bench.done < 1:
        await dut.clk.rising_edge
    cycles = bench.cycles - before
    await bench.finish(1)
    # Each column vector comes in 4 tiles; rows leave word by word.
    loading = 4 * bench.tile * bench.lanes // bench.config.tile_ports
    rows = sum(max(scalars, bench.lanes + 1) for scalars in bench.scalars)
    if bench.config.datapath.lane == "broadcast":
        assert bench.counts["issued"] == sum(bench.scalars) * bench.lanes * bench.pes
        assert cycles <= loading + rows + 110


@cocotb.test()
@cocotb.parametrize(source=list(OperandSource))
async def tiles_come_at_full_rate(dut, source):
    """While nothing else reads, banks are no bottleneck: a vector per cycle, PE and tile port."""
    bench = Bench(dut)
    await bench.start(0.5)
    inner = bench.config.datapath.tile_rows // 2 // bench.tile
    streams = max(1, bench.lanes // 2)
    batches, words = 16, bench.lanes // streams
    columns = words * bench.pes
    transposed = source == OperandSource.ACTIVATION_TRANSPOSED
    command = bench.command(
        a_base=bench.results,  # zeros, which are not read
        a_row_stride=inner,
        inner_vectors=inner,
        inner_tile=inner,
        b_source=source,
        b_batch_stride=2 * bench.pes,
        b_row_stride=128 // bench.tile if transposed else columns,
        c_base=bench.results,
        c_batch_stride=columns,
        c_row_stride=columns,
        columns=columns,
        rows=1,
        row_tile=1,
        batches=batches,
        streams=streams,
    )
    before = bench.cycles
    await bench.give(command)
    while bench.done < 1:
        await dut.clk.rising_edge
    cycles = bench.cycles - before
    await bench.finish(1)
    vectors = words // bench.config.tile_ports * inner * bench.tile
    dut._log.info(f"{cycles} cycles, {batches} tiles of {vectors} vectors per loader")
    # Two banks have no place for two ports that read transposed vectors.
    waits = 1.05 if bench.pes > 1 else 1.3
    # A half is handed over once its row has been read and its bias is in use; a transposed tile
    # leaves when its last block is complete.
    handover = 12 + (bench.tile if transposed else 0)
    assert cycles <= batches * (waits * vectors + handover) + 100
