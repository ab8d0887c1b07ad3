# amaranth: UnusedElaboratable=no
"""Epilogue, and the pipelines it consists of, against the golden model, bit for bit."""

import cocotb
import numpy as np
import pytest

from acceltran.arch.activation import Activation
from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.sums import sum_width
from acceltran.compute.activation_pipeline import ActivationPipeline
from acceltran.compute.epilogue import Epilogue, EpilogueInput, EpilogueOutput
from acceltran.compute.sum_rounder import SumRounder
from acceltran.numeric.round_shift import RoundShift
from acceltran_sim.golden.epilogue import epilogue
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource
from testbench.harness.vectors import pack, unpack

SHAPE = {"tile": 4, "inner": 1024, "tag_width": 9}
FMT = FixedPoint(int_bits=4, frac_bits=16)
SETTINGS = ["bias_shift", "shift", "gelu_input_shift", "gelu_output_shift"]


@pytest.mark.parametrize("frac_bits", [8, 12, 16])
def test_epilogue(frac_bits, request):
    simulate(
        Epilogue(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits), **SHAPE),
        bench=__name__,
        parameters={"frac_bits": frac_bits},
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("tile", "Tile must be at least 1, not 0"),
        ("inner", "Inner dimension must be at least 1, not 0"),
        ("tag_width", "Tag width must be at least 1, not 0"),
    ],
)
def test_rejects(key, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        Epilogue(fmt=FMT, **{**SHAPE, key: 0})


def test_sum_rounder_rejects_inner():
    with pytest.raises(ValueError, match=r"^Inner dimension must be at least 1, not 0$"):
        SumRounder(fmt=FMT, inner=0)


def test_activation_rejects_formats_without_table():
    with pytest.raises(ValueError, match=r"^Fraction bits must be one of 8, 12, 16 for the table "):
        ActivationPipeline(fmt=FixedPoint(int_bits=4, frac_bits=10))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("output_width", 1, "Output width must be at least 2, not 1"),
        ("input_width", 10, "Input width must be at least the output width plus 3, 11, not 10"),
        ("shift_width", 0, "Shift width must be at least 1, not 0"),
    ],
)
def test_round_shift_rejects(key, value, message):
    with pytest.raises(ValueError, match=rf"^{message}$"):
        RoundShift(**{"input_width": 20, "output_width": 8, "shift_width": 3, key: value})


# What follows runs inside the simulator, once for each parametrisation of test_epilogue.


class Bench:
    """Drives one epilogue with vectors that suit its settings."""

    def __init__(self, dut, *, source_pace=1.0, sink_pace=1.0):
        self.fmt = FixedPoint(int_bits=4, frac_bits=parameters()["frac_bits"])
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.dut = dut
        self.source = StreamSource(dut, "i", pace=source_pace)
        self.sink = StreamSink(dut, "o", pace=sink_pace)
        self.sum_width = sum_width(fmt=self.fmt, inner=SHAPE["inner"])
        self.i_layout = EpilogueInput(self.fmt, **SHAPE)
        self.o_layout = EpilogueOutput(self.fmt, SHAPE["tile"], SHAPE["tag_width"])

    async def set(self, *, function, threshold, **shifts):
        """Change settings, as soon as the unit is empty."""
        await self.dut.clk.rising_edge
        while not self.dut.empty.value:
            await self.dut.clk.rising_edge
        self.settings = {**shifts, "function": function, "threshold": threshold}
        for name, value in self.settings.items():
            self.dut[name].value = int(value)
        await self.dut.clk.rising_edge

    def random_settings(self):
        # Mostly shifts of real programs: the result has a scale near that of the operands.
        chosen = dict.fromkeys(SETTINGS, 0)
        if self.rng.random() < 0.7:
            chosen["shift"] = self.fmt.frac_bits + int(self.rng.integers(-4, 12))
            chosen["bias_shift"] = self.fmt.frac_bits + int(self.rng.integers(-6, 14))
            chosen["gelu_input_shift"], chosen["gelu_output_shift"] = self.rng.integers(0, 4, 2)
        else:
            chosen["shift"], chosen["bias_shift"] = self.rng.integers(0, 64, 2)
            chosen["gelu_input_shift"], chosen["gelu_output_shift"] = self.rng.integers(0, 32, 2)
        threshold = self.rng.integers(0, 1 << int(self.rng.integers(1, self.fmt.width)))
        return {
            **{name: int(value) for name, value in chosen.items()},
            "function": Activation(int(self.rng.integers(3))),
            "threshold": int(threshold),
        }

    def random_vector(self):
        """Sums and biases whose result is of every size, and often near a rounding boundary."""
        tile, settings = SHAPE["tile"], self.settings
        bias = self.rng.integers(self.fmt.lowest, self.fmt.highest, tile, endpoint=True)
        bias >>= self.rng.integers(0, self.fmt.width, tile)
        sums = []
        for element in bias.tolist():
            code = int(self.rng.integers(self.fmt.lowest, self.fmt.highest, endpoint=True))
            half = 1 << settings["shift"] >> 1
            near = int(self.rng.integers(-2, 3))
            wanted = (code << settings["shift"]) + near * half + int(self.rng.integers(-1, 2))
            candidates = [
                wanted - (element << settings["bias_shift"]),
                wanted,
                int(self.rng.integers(-(1 << 62), 1 << 62)) >> (63 - self.sum_width),
                int(self.rng.choice([-1, 1])) << (self.sum_width - 2),
            ]
            low, high = -(1 << (self.sum_width - 1)), (1 << (self.sum_width - 1)) - 1
            fitting = [value for value in candidates if low <= value <= high]
            sums.append(fitting[0] if self.rng.random() < 0.7 else self.rng.choice(fitting))
        return np.array(sums), bias

    def encode(self, sums, bias, tag):
        parts = {
            "sums": pack(sums, self.sum_width),
            "bias": pack(bias, self.fmt.width),
            "tag": tag,
        }
        return sum(parts[name] << part.offset for name, part in self.i_layout)

    async def check(self, vectors):
        async def drive():
            for tag, (sums, bias) in enumerate(vectors):
                await self.source.put(self.encode(sums, bias, tag))

        driver = cocotb.start_soon(drive())
        tile = SHAPE["tile"]
        for tag, (sums, bias) in enumerate(vectors):
            raw = await self.sink.get()
            values, keep, saturated = epilogue(sums, bias=bias, fmt=self.fmt, **self.settings)
            assert unpack(raw, self.fmt.width, tile).tolist() == values.tolist(), self.settings
            found = {
                name: (raw >> part.offset) & ((1 << part.width) - 1) for name, part in self.o_layout
            }
            assert found["vector"] >> (tile * self.fmt.width) == pack(keep.astype(np.int64), 1)
            assert found["tag"] == tag
            assert found["saturated"] == saturated, self.settings
        await driver


@cocotb.test()
@cocotb.parametrize((
    ("source_pace", "sink_pace"),
    [(1.0, 1.0), (0.5, 1.0), (1.0, 0.3)],
))
async def matches_golden(dut, source_pace, sink_pace):
    """Random settings and vectors come out as the model says, whatever the pace."""
    bench = Bench(dut, source_pace=source_pace, sink_pace=sink_pace)
    await start(dut)
    for _ in range(60):
        await bench.set(**bench.random_settings())
        await bench.check([bench.random_vector() for _ in range(24)])


@cocotb.test()
@cocotb.parametrize(
    bias_shift=[0, 31, 32, 63],
    shift=[0, 1, 31, 63],
)
async def takes_every_shift(dut, bias_shift, shift):
    """The ends of both shifts, with biases that cancel the sums and that do not."""
    bench = Bench(dut)
    await start(dut)
    await bench.set(
        bias_shift=bias_shift,
        shift=shift,
        gelu_input_shift=31,
        gelu_output_shift=31,
        function=Activation.NONE,
        threshold=0,
    )
    await bench.check([bench.random_vector() for _ in range(40)])


@cocotb.test()
async def applies_gelu_to_every_size(dut):
    """GELU of codes all over the range, the ends included, at several scales."""
    bench = Bench(dut)
    await start(dut)
    fmt = bench.fmt
    codes = np.arange(fmt.lowest, fmt.highest + 1, max(1, (1 << fmt.width) // 4096))
    codes = np.concatenate([codes, np.arange(-40, 40), [fmt.highest] * 4])
    for input_shift, output_shift in [(0, 0), (1, 3), (3, 2), (31, 31)]:
        await bench.set(
            bias_shift=0,
            shift=0,
            gelu_input_shift=input_shift,
            gelu_output_shift=output_shift,
            function=Activation.GELU,
            threshold=2,
        )
        bias = np.zeros(SHAPE["tile"], dtype=np.int64)
        vectors = [(sums, bias) for sums in codes[: len(codes) // 4 * 4].reshape(-1, SHAPE["tile"])]
        for begin in range(0, len(vectors), 400):
            await bench.check(vectors[begin : begin + 400])


@cocotb.test()
async def has_the_documented_latency(dut):
    """A vector accepted at one clock edge is offered at the LATENCY-th edge after it."""
    bench = Bench(dut)
    for name in [*SETTINGS, "function", "threshold"]:
        dut[name].value = 0
    await start(dut)
    assert dut.empty.value
    await bench.source.put(0)
    for _ in range(Epilogue.LATENCY - 1):
        await dut.clk.rising_edge
        assert not dut.o__valid.value
        assert not dut.empty.value
    await dut.clk.rising_edge
    assert dut.o__valid.value
    await bench.sink.get()
    await dut.clk.rising_edge
    assert dut.empty.value


@cocotb.test()
async def takes_a_vector_per_cycle(dut):
    """As many cycles as vectors, without a gap."""
    bench = Bench(dut)
    await start(dut)
    await bench.set(**bench.random_settings())
    dut.o__ready.value = 1
    for _ in range(3 * Epilogue.LATENCY):
        assert dut.i__ready.value
        await bench.source.put(bench.encode(*bench.random_vector(), 0))
    offered = 0
    for _ in range(2 * Epilogue.LATENCY):
        await dut.clk.rising_edge
        offered += int(dut.o__valid.value)
    assert offered == Epilogue.LATENCY
