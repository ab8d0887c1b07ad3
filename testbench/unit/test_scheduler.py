# amaranth: UnusedElaboratable=no
"""Scheduler against a model of programs: dealing, thresholds, waits, the end."""

import random
from itertools import pairwise

import cocotb
import pytest
from amaranth.hdl import Shape

from acceltran.arch.commands import (
    BODIES,
    HEADER,
    SEMAPHORE_COUNT_BITS,
    SEMAPHORES,
    THRESHOLDS,
    WAITS,
    Opcode,
    ThresholdMode,
    encode,
)
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import CommandWord, QueuedCommand
from acceltran.control.scheduler import Scheduler
from acceltran.control.threshold_control import ThresholdAnswer
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

QUEUE_OF = {
    Opcode.LOAD: "load",
    Opcode.STORE: "store",
    Opcode.MATMUL: "product",
    Opcode.SOFTMAX: "vector",
    Opcode.LAYERNORM: "vector",
    Opcode.SEQUENCE: "sequence",
}
PRUNED = (Opcode.MATMUL, Opcode.SOFTMAX, Opcode.LAYERNORM)
FORMATS = {4 + f: FixedPoint(int_bits=4, frac_bits=f) for f in (8, 16)}
COUNT_MASK = (1 << SEMAPHORE_COUNT_BITS) - 1


@pytest.mark.parametrize("frac_bits", [8, 16])
def test_scheduler(frac_bits, request):
    simulate(
        Scheduler(fmt=FixedPoint(int_bits=4, frac_bits=frac_bits)),
        bench=__name__,
        parameters={"width": 4 + frac_bits},
        seed=request.config.getoption("seed"),
    )


# What follows runs inside the simulator.


def random_fields(opcode: Opcode, **given: int) -> dict[str, int]:
    """Every field of a command that waits for nothing, its threshold fixed; else random."""
    layout = (*HEADER, *BODIES[opcode])
    fields = {f.name: random.randint(0, f.mask) for f in layout if f.name != "opcode"}
    if opcode is Opcode.THRESHOLD:
        fields["mode"] = ThresholdMode.FIXED
    return {**fields, **{f"wait{n}_enable": 0 for n in range(WAITS)}, **given}


def word(index: int, opcode: Opcode, fields: dict[str, int]) -> int:
    bits = int.from_bytes(encode(opcode, fields), "little")
    return CommandWord().const({"index": index, "bits": bits}).as_bits()


def queued(index: int, opcode: Opcode, fields: dict[str, int], threshold: int) -> int:
    """What the command's queue has to get."""
    body_layout = command_layout(opcode)
    body = body_layout.const({f.name: fields[f.name] for f in BODIES[opcode]}).as_bits()
    body_width = body_layout.size
    if QUEUE_OF[opcode] == "vector":
        softmax, layer_norm = (
            Shape.cast(command_layout(o)).width for o in (Opcode.SOFTMAX, Opcode.LAYERNORM)
        )
        body_width = 1 + max(softmax, layer_norm)
        body = body << 1 | (opcode is Opcode.LAYERNORM)
    if opcode is Opcode.SEQUENCE:
        return body
    header = {
        "index": index,
        "signal_enable": fields["signal_enable"],
        "signal": fields["signal"],
        "waits": [
            {
                name: fields[f"wait{n}_{name}"]
                for name in ("enable", "semaphore", "everywhere", "rows", "final", "count")
            }
            for n in range(WAITS)
        ],
    }
    layout = QueuedCommand(body_width, parameters()["width"])
    return layout.const({"header": header, "body": body, "threshold": threshold}).as_bits()


def model(program: list[tuple[Opcode, dict[str, int]]]) -> list[tuple[str, int]]:
    """Where each command goes, and what arrives there: its index if it is executed here."""
    highest = (1 << parameters()["width"]) - 1
    table = dict.fromkeys(range(THRESHOLDS), 0)
    events = []
    for index, (opcode, fields) in enumerate(program):
        if opcode is Opcode.THRESHOLD:
            table[fields["index"]] = min(fields["value"], highest)
        if opcode in QUEUE_OF:
            threshold = table[fields["threshold"]] if opcode in PRUNED else 0
            events.append((QUEUE_OF[opcode], queued(index, opcode, fields, threshold)))
        if opcode is Opcode.SEQUENCE:
            events.append(("executed", index))
        elif opcode not in QUEUE_OF:
            events.append(("done" if opcode is Opcode.END else "executed", index))
    return events


class Bench:
    """Records what the scheduler does, in order."""

    def __init__(self, dut, *, source_pace: float = 1.0, sink_pace: float = 1.0):
        self.dut = dut
        self.source = StreamSource(dut, "i", pace=source_pace)
        self.sink_pace = sink_pace
        self.events: list[tuple[str, int]] = []
        self.cycles: list[int] = []
        self.signals: list[int] = []
        self.cycle = 0
        self.counts = [0] * SEMAPHORES
        self.set_counts()
        dut.clear.value = 0
        dut.stop.value = 0
        dut.idle.value = 1
        dut.settled.value = 1
        dut.answer.value = 0
        dut.orders__ready.value = 0

    def set_counts(self) -> None:
        self.dut.counts.value = sum(
            count << index * SEMAPHORE_COUNT_BITS for index, count in enumerate(self.counts)
        )

    async def start(self) -> None:
        await start(self.dut)
        cocotb.start_soon(self._record())

    async def _record(self) -> None:
        """Take from all queues at the same pace; every offer must stay until it is taken."""
        dut = self.dut
        queues = ("load", "store", "product", "vector", "sequence")
        ports = {q: [dut[f"{q}__{part}"] for part in ("valid", "ready", "payload")] for q in queues}
        ready: dict[str, bool] = {}
        offered: dict[str, int] = {}
        while True:
            for queue, (_, ready_port, _) in ports.items():
                ready[queue] = random.random() < self.sink_pace
                ready_port.value = ready[queue]
            await dut.clk.rising_edge
            self.cycle += 1
            if dut.signal__valid.value:
                self.signals.append(dut.signal__semaphore.value.to_unsigned())
            for queue, (valid, _, payload) in ports.items():
                now = payload.value.to_unsigned() if valid.value else None
                assert offered.pop(queue, now) == now, f"{queue}: offer withdrawn or changed"
                if now is not None and ready[queue]:
                    self.log(queue, now)
                elif now is not None:
                    offered[queue] = now
            if dut.executed.value:
                self.log("done" if dut.done.value else "executed", dut.index.value.to_unsigned())
            else:
                assert not dut.done.value

    def log(self, kind: str, payload: int) -> None:
        self.events.append((kind, payload))
        self.cycles.append(self.cycle)

    async def put(self, program: list[tuple[Opcode, dict[str, int]]]) -> None:
        await self.source.put_all(word(index, *command) for index, command in enumerate(program))

    async def cycles_pass(self, count: int) -> None:
        for _ in range(count):
            await self.dut.clk.rising_edge

    async def until(self, count: int) -> None:
        """Wait until so many events were recorded."""
        for _ in range(4000):
            if len(self.events) >= count:
                return
            await self.dut.clk.rising_edge
        raise AssertionError(f"{len(self.events)} of {count} events")

    async def run(self, program: list[tuple[Opcode, dict[str, int]]]) -> None:
        """Run a program that ends and compare everything with the model."""
        self.events, self.signals, self.cycles = [], [], []
        driver = cocotb.start_soon(self.put(program))
        expected = model(program)
        await self.until(len(expected))
        assert self.events == expected
        await driver
        await self.cycles_pass(2)
        assert self.signals == [
            fields["signal"]
            for opcode, fields in program
            if opcode not in QUEUE_OF and fields["signal_enable"]
        ]
        assert self.events == expected

    async def clear(self) -> None:
        self.dut.clear.value = 1
        await self.dut.clk.rising_edge
        self.dut.clear.value = 0


def random_program(length: int) -> list[tuple[Opcode, dict[str, int]]]:
    """Commands of all kinds; few thresholds, so that they are used, and of any size."""
    entries = random.sample(range(THRESHOLDS), 4)
    program = []
    for _ in range(length):
        opcode = random.choice([*QUEUE_OF, *[Opcode.THRESHOLD] * 4])
        given = {}
        if opcode is Opcode.THRESHOLD:
            given = {
                "index": random.choice(entries),
                "value": random.getrandbits(24) >> random.randrange(24),
            }
        elif opcode in PRUNED:
            given = {"threshold": random.choice(entries)}
        program.append((opcode, random_fields(opcode, **given)))
    program.append((Opcode.END, random_fields(Opcode.END)))
    return program


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(source_pace=[1.0, 0.3], sink_pace=[1.0, 0.3])
async def deals_programs(dut, source_pace, sink_pace):
    """Every command reaches its queue in program order, with the threshold of that moment."""
    bench = Bench(dut, source_pace=source_pace, sink_pace=sink_pace)
    await bench.start()
    for _ in range(3):
        await bench.run(random_program(40))
        await bench.clear()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def saturates_thresholds(dut):
    """A value that the format does not hold prunes all; each entry is kept on its own."""
    bench = Bench(dut)
    await bench.start()
    width = parameters()["width"]
    values = [0, 1, (1 << width) - 1, 1 << width, (1 << 24) - 1, (1 << 23) + 1, 1 << width - 1]
    entries = [0, 1, 2, 63, 64, 126, 127]
    program = [
        *(
            (Opcode.THRESHOLD, random_fields(Opcode.THRESHOLD, index=index, value=value))
            for index, value in zip(entries, values, strict=True)
        ),
        *((opcode, random_fields(opcode, threshold=e)) for e in entries for opcode in PRUNED),
        (Opcode.END, random_fields(Opcode.END)),
    ]
    await bench.run(program)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(delay=[1, 9])
async def asks_for_thresholds(dut, delay):
    """A threshold with a curve is what the answer says; the next command sees it."""
    bench = Bench(dut)
    await bench.start()
    width = parameters()["width"]
    modes = [random.choice(list(ThresholdMode)) for _ in range(12)]
    asked = [random_fields(Opcode.THRESHOLD, index=n, mode=mode) for n, mode in enumerate(modes)]
    answers = [random.getrandbits(width) for _ in modes]

    async def answer():
        for fields, value in zip(asked, answers, strict=True):
            if fields["mode"] == ThresholdMode.FIXED:
                continue
            orders = StreamSink(dut, "orders", pace=0.5)
            layout = command_layout(Opcode.THRESHOLD)
            expected = layout.const({f.name: fields[f.name] for f in BODIES[Opcode.THRESHOLD]})
            assert await orders.get() == expected.as_bits()
            await bench.cycles_pass(delay - 1)
            dut.answer.value = (
                ThresholdAnswer(FORMATS[width]).const({"valid": 1, "value": value}).as_bits()
            )
            await dut.clk.rising_edge
            dut.answer.value = 0

    answerer = cocotb.start_soon(answer())
    program = []
    known = []
    for n, (fields, value) in enumerate(zip(asked, answers, strict=True)):
        program += [
            (Opcode.THRESHOLD, fields),
            (Opcode.SOFTMAX, random_fields(Opcode.SOFTMAX, threshold=n)),
        ]
        fixed = fields["mode"] == ThresholdMode.FIXED
        known += [(Opcode.THRESHOLD, fields if fixed else {**fields, "value": value}), program[-1]]
    driver = cocotb.start_soon(bench.put(program))
    await bench.until(len(program))
    assert bench.events == model(known)
    await driver
    await answerer


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ends_when_loops_are_settled(dut):
    """Settle rises when all queues are idle; END is executed in the first cycle of settled."""
    bench = Bench(dut)
    await bench.start()
    dut.idle.value = 0
    dut.settled.value = 0
    driver = cocotb.start_soon(bench.put([(Opcode.END, random_fields(Opcode.END))]))
    for _ in range(30):
        await dut.clk.rising_edge
        assert not dut.settle.value
    dut.idle.value = 1
    await dut.clk.rising_edge
    for _ in range(30):
        assert dut.settle.value
        await dut.clk.rising_edge
    assert not bench.events
    dut.settled.value = 1
    await bench.cycles_pass(2)
    assert len(bench.events) == 1
    assert not dut.settle.value
    await driver


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def forgets_thresholds(dut):
    """Entries read 0 before they are written, and again after clear."""
    bench = Bench(dut)
    await bench.start()
    entries = [*range(0, THRESHOLDS, 9), THRESHOLDS - 1]
    reads = [(Opcode.SOFTMAX, random_fields(Opcode.SOFTMAX, threshold=e)) for e in entries]
    writes = [
        (Opcode.THRESHOLD, random_fields(Opcode.THRESHOLD, index=e, value=e + 1)) for e in entries
    ]
    end = (Opcode.END, random_fields(Opcode.END))
    await bench.run([*reads, *writes, *reads, end])
    await bench.clear()
    await bench.run([*reads, end])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def executes_when_waits_are_met(dut):
    """THRESHOLD and END start once all waits are met, across the wrap of the counts."""
    bench = Bench(dut, sink_pace=0.5)
    bench.counts = [random.randint(COUNT_MASK - 10, COUNT_MASK) for _ in range(SEMAPHORES)]
    bench.set_counts()
    await bench.start()
    begin = list(bench.counts)
    program = random_program(60)
    for index, (opcode, fields) in enumerate(program):
        for n in range(WAITS):
            semaphore = fields[f"wait{n}_semaphore"]
            ahead = random.randint(-40, index)
            fields[f"wait{n}_count"] = begin[semaphore] + ahead & COUNT_MASK
            # SEQUENCE has no waits.
            fields[f"wait{n}_enable"] = random.getrandbits(1) & (opcode is not Opcode.SEQUENCE)

    async def count():
        while True:
            for semaphore in random.sample(range(SEMAPHORES), 4):
                bench.counts[semaphore] = bench.counts[semaphore] + 1 & COUNT_MASK
            bench.set_counts()
            await bench.cycles_pass(random.randint(1, 20))

    async def watch():
        """At every execution, all waits that count are met."""
        while True:
            await dut.clk.rising_edge
            if not dut.executed.value:
                continue
            _, fields = program[dut.index.value.to_unsigned()]
            for n in range(WAITS):
                passed = bench.counts[fields[f"wait{n}_semaphore"]] - fields[f"wait{n}_count"]
                assert not fields[f"wait{n}_enable"] or passed & COUNT_MASK < 1 << 15

    tasks = [cocotb.start_soon(count()), cocotb.start_soon(watch())]
    await bench.run(program)
    for task in tasks:
        task.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(opcode=[Opcode.THRESHOLD, Opcode.END], wait=[(0, 0), (1, 15), (2, 9), (3, 1)])
async def blocks_at_waits(dut, opcode, wait):
    """Nothing behind a command that waits is dealt, and nothing is executed early."""
    bench = Bench(dut)
    await bench.start()
    n, semaphore = wait
    waits = {f"wait{n}_enable": 1, f"wait{n}_semaphore": semaphore, f"wait{n}_count": 2}
    program = [
        (Opcode.LOAD, random_fields(Opcode.LOAD)),
        (opcode, random_fields(opcode, **waits)),
        (Opcode.STORE, random_fields(Opcode.STORE)),
    ]
    driver = cocotb.start_soon(bench.put(program))
    bench.counts[semaphore] = 1
    bench.set_counts()
    await bench.cycles_pass(40)
    assert bench.events == model(program)[:1]
    assert not bench.signals
    bench.counts[semaphore] = 2
    bench.set_counts()
    await bench.until(2)
    await bench.cycles_pass(20)
    # Nothing follows an END.
    assert bench.events == model(program)[: 2 if opcode is Opcode.END else 3]
    driver.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ends_when_queues_are_idle(dut):
    """END is executed in the first cycle in which all queues are idle; THRESHOLD does not care.

    ``ending`` is high from taking the END until clear.
    """
    bench = Bench(dut)
    await bench.start()
    dut.idle.value = 0
    program = [
        (Opcode.THRESHOLD, random_fields(Opcode.THRESHOLD)),
        (Opcode.END, random_fields(Opcode.END)),
    ]
    driver = cocotb.start_soon(bench.put(program))
    while len(bench.events) == 0:
        await dut.clk.rising_edge
        assert not dut.ending.value
    await bench.cycles_pass(60)
    assert bench.events == model(program)[:1]
    assert dut.ending.value
    dut.idle.value = 1
    await bench.cycles_pass(2)
    assert bench.events == model(program)
    await driver
    # The program is over: no command is taken until clear.
    following = cocotb.start_soon(bench.put([(Opcode.LOAD, random_fields(Opcode.LOAD))]))
    for _ in range(10):
        await dut.clk.rising_edge
        assert not dut.i__ready.value
        assert dut.ending.value
    await bench.clear()
    await dut.clk.rising_edge
    assert not dut.ending.value
    await bench.until(3)
    await following


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(opcode=[Opcode.THRESHOLD, Opcode.END], cycle=range(10))
async def stops(dut, opcode, cycle):
    """From the cycle of stop on nothing is executed, however far it had got."""
    bench = Bench(dut)
    await bench.start()
    dut.idle.value = opcode is not Opcode.END
    program = [(opcode, random_fields(opcode))]
    driver = cocotb.start_soon(bench.put(program))
    await bench.cycles_pass(cycle)
    dut.stop.value = 1
    dut.idle.value = 1
    await dut.clk.falling_edge
    before = len(bench.events)
    await bench.cycles_pass(30)
    assert len(bench.events) == before
    driver.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_the_documented_throughput(dut):
    """DEAL_CYCLES from command to command, EXECUTE_CYCLES for a THRESHOLD."""
    bench = Bench(dut)
    await bench.start()
    kinds = [*QUEUE_OF, Opcode.THRESHOLD, Opcode.THRESHOLD, *QUEUE_OF, Opcode.END]
    await bench.run([(opcode, random_fields(opcode)) for opcode in kinds])
    expected = [
        Scheduler.DEAL_CYCLES if opcode in QUEUE_OF else Scheduler.EXECUTE_CYCLES
        for opcode in kinds[1:]
    ]
    cycles = sorted(set(bench.cycles))  # a SEQUENCE is dealt and executed at once
    assert [late - early for early, late in pairwise(cycles)] == expected
