"""Deal checked commands to the queues, in program order."""

from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.commands import (
    BODIES,
    HEADER,
    SEMAPHORE_COUNT_BITS,
    SEMAPHORES,
    THRESHOLDS,
    WAITS,
    Opcode,
    ThresholdMode,
)
from acceltran.arch.fixed_point import FixedPoint
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandWord, QueuedCommand, body_of
from acceltran.control.semaphores import SemaphoreSignal
from acceltran.control.threshold_control import ThresholdAnswer
from acceltran.control.vector_command import VectorCommand
from acceltran.control.wait_gate import WaitGate
from acceltran.library import SharedComponent
from acceltran.memory.ram import Ram

__all__ = ["Scheduler"]

QUEUES = ("load", "store", "product", "vector")


BODY_WIDTHS = {
    "load": command_layout(Opcode.LOAD).size,
    "store": command_layout(Opcode.STORE).size,
    "product": command_layout(Opcode.MATMUL).size,
    "vector": VectorCommand().size,
}


class Scheduler(SharedComponent):
    """Deal commands to four queues, keep the threshold table, and end the program.

    Commands are taken in program order. LOAD, STORE, MATMUL, SOFTMAX and LAYERNORM go to their
    queue, the pruning threshold looked up on the way; the queues check the waits. SEQUENCE goes
    where products and vector operations go. THRESHOLD and END are executed here, after their own
    waits: a THRESHOLD that is not fixed asks for its value, and END waits until every queue is idle
    and then until all loops are settled.

    Throughput is one command in ``DEAL_CYCLES`` when its queue has room, and one fixed THRESHOLD
    whose waits are met in ``EXECUTE_CYCLES``.

    Parameters
    ----------
    fmt : FixedPoint
        Format of an element; thresholds have its width.

    Members
    -------
    clear : ``In(1)``
        Forget all thresholds (they read 0) and get ready for a program.
    stop : ``In(1)``
        Execute no further THRESHOLD or END.
    counts : ``In(ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES))``
    i : ``In(stream.Signature(CommandWord()))``
    load, store, product, vector : ``Out(stream.Signature(QueuedCommand(...)))``
    sequence : ``Out(stream.Signature(command_layout(Opcode.SEQUENCE)))``
    orders : ``Out(stream.Signature(command_layout(Opcode.THRESHOLD)))``
        Thresholds that are not fixed; each is answered before the next one.
    answer : ``In(ThresholdAnswer(fmt))``
    idle : ``In(1)``
        All queues are idle.
    settle : ``Out(1)``
        All before END is complete; stays until ``settled`` or ``stop``.
    settled : ``In(1)``
    signal : ``Out(SemaphoreSignal())``
        Of THRESHOLD commands.
    done : ``Out(1)``
        Strobe: END was executed.
    index : ``Out(COMMAND_INDEX_WIDTH)``
        Command that is being dealt.
    executed : ``Out(1)``
        Strobe: a THRESHOLD, SEQUENCE or END was executed.
    ending : ``Out(1)``
        END has been taken: what comes behind it does not matter.
    """

    DEAL_CYCLES = 4
    EXECUTE_CYCLES = DEAL_CYCLES + WaitGate.LATENCY

    clear: Signal
    stop: Signal
    counts: data.View
    i: stream.Interface
    load: stream.Interface
    store: stream.Interface
    product: stream.Interface
    vector: stream.Interface
    sequence: stream.Interface
    orders: stream.Interface
    answer: Any
    idle: Signal
    settle: Signal
    settled: Signal
    signal: Any
    done: Signal
    index: Signal
    executed: Signal
    ending: Signal

    def __init__(self, *, fmt: FixedPoint):
        self.fmt = fmt
        super().__init__({
            "clear": In(1),
            "stop": In(1),
            "counts": In(data.ArrayLayout(SEMAPHORE_COUNT_BITS, SEMAPHORES)),
            "i": In(stream.Signature(CommandWord())),
            **{
                name: Out(stream.Signature(QueuedCommand(BODY_WIDTHS[name], fmt.width)))
                for name in QUEUES
            },
            "sequence": Out(stream.Signature(command_layout(Opcode.SEQUENCE))),
            "orders": Out(stream.Signature(command_layout(Opcode.THRESHOLD))),
            "answer": In(ThresholdAnswer(fmt)),
            "idle": In(1),
            "settle": Out(1),
            "settled": In(1),
            "signal": Out(SemaphoreSignal()),
            "done": Out(1),
            "index": Out(COMMAND_INDEX_WIDTH),
            "executed": Out(1),
            "ending": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = self.fmt.width
        word = Signal(CommandWord())
        bits = Value.cast(word.bits)
        header = {f.name: bits[f.offset : f.offset + f.width] for f in HEADER}
        own_body = command_layout(Opcode.THRESHOLD)

        m.submodules.thresholds = table = Ram(width=width, depth=THRESHOLDS)
        written = Signal(THRESHOLDS)
        m.submodules.gate = gate = WaitGate(body_width=own_body.size + 1, threshold_width=1)
        threshold = Signal(width)
        body = data.View(own_body, gate.o.payload.body[: own_body.size])
        is_end = gate.o.payload.body[own_body.size]

        m.d.comb += self.index.eq(word.index)
        for target in (*(getattr(self, name) for name in QUEUES), gate.i):
            m.d.comb += [
                target.payload.header.index.eq(word.index),
                target.payload.header.signal_enable.eq(header["signal_enable"]),
                target.payload.header.signal.eq(header["signal"]),
            ]
            for n in range(WAITS):
                wait = target.payload.header.waits[n]
                m.d.comb += [
                    wait.enable.eq(header[f"wait{n}_enable"]),
                    wait.semaphore.eq(header[f"wait{n}_semaphore"]),
                    wait.everywhere.eq(header[f"wait{n}_everywhere"]),
                    wait.rows.eq(header[f"wait{n}_rows"]),
                    wait.final.eq(header[f"wait{n}_final"]),
                    wait.count.eq(header[f"wait{n}_count"]),
                ]
        m.d.comb += [
            self.load.payload.body.eq(body_of(Opcode.LOAD, bits)),
            self.store.payload.body.eq(body_of(Opcode.STORE, bits)),
            self.product.payload.body.eq(body_of(Opcode.MATMUL, bits)),
            Value.cast(self.sequence.payload).eq(body_of(Opcode.SEQUENCE, bits)),
            gate.i.payload.body.eq(
                Cat(body_of(Opcode.THRESHOLD, bits), header["opcode"] == Opcode.END)
            ),
            gate.counts.eq(self.counts),
            gate.everywhere.eq(self.counts),
            gate.stop.eq(self.stop),
        ]
        vector_command = data.View(VectorCommand(), self.vector.payload.body)
        m.d.comb += vector_command.layernorm.eq(header["opcode"] == Opcode.LAYERNORM)
        with m.If(header["opcode"] == Opcode.LAYERNORM):
            m.d.comb += Value.cast(vector_command.body.layernorm).eq(
                body_of(Opcode.LAYERNORM, bits)
            )
        with m.Else():
            m.d.comb += Value.cast(vector_command.body.softmax).eq(body_of(Opcode.SOFTMAX, bits))
        for name in ("product", "vector"):
            m.d.comb += getattr(self, name).payload.threshold.eq(threshold)

        entry = Signal(range(THRESHOLDS))
        with m.Switch(header["opcode"]):
            for opcode in (Opcode.MATMUL, Opcode.SOFTMAX, Opcode.LAYERNORM):
                place = next(f for f in BODIES[opcode] if f.name == "threshold")
                with m.Case(opcode):
                    m.d.comb += entry.eq(bits[place.offset : place.offset + place.width])
        m.d.comb += table.read_address.eq(entry)
        fixed = Signal()
        m.d.comb += [
            fixed.eq(body.mode == ThresholdMode.FIXED),
            table.write_address.eq(body.index),
            # A larger value prunes all; it must not wrap.
            table.write_data.eq(body.value[:width] | body.value[width:].any().replicate(width)),
            self.orders.payload.eq(body),
        ]

        def pass_on(target) -> None:
            m.d.comb += target.valid.eq(1)
            with m.If(target.ready):
                m.next = "take"

        execute = Signal()
        with m.FSM(init="take") as fsm:
            m.d.comb += self.ending.eq(~fsm.ongoing("take") & (header["opcode"] == Opcode.END))
            with m.State("take"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += Value.cast(word).eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "look up"
            with m.State("look up"):
                m.d.comb += table.read_enable.eq(1)
                m.next = "looked up"
            with m.State("looked up"):
                m.d.sync += threshold.eq(table.read_data)
                with m.If(~written.bit_select(entry, 1)):
                    m.d.sync += threshold.eq(0)
                m.next = "deal"
            with m.State("deal"):
                with m.Switch(header["opcode"]):
                    with m.Case(Opcode.LOAD):
                        pass_on(self.load)
                    with m.Case(Opcode.STORE):
                        pass_on(self.store)
                    with m.Case(Opcode.MATMUL):
                        pass_on(self.product)
                    with m.Case(Opcode.SOFTMAX, Opcode.LAYERNORM):
                        pass_on(self.vector)
                    with m.Case(Opcode.SEQUENCE):
                        pass_on(self.sequence)
                    with m.Default():
                        m.d.comb += gate.i.valid.eq(1)
                        m.next = "wait"
            with m.State("wait"), m.If(gate.o.valid & ~self.stop):
                with m.If(is_end):
                    m.d.comb += self.settle.eq(self.idle)
                    with m.If(self.settle & self.settled):
                        m.d.comb += [execute.eq(1), self.done.eq(1)]
                        m.next = "ended"
                with m.Elif(fixed):
                    m.d.comb += [execute.eq(1), table.write_enable.eq(1)]
                    m.next = "take"
                with m.Else():
                    m.next = "ask"
            with m.State("ask"):
                m.d.comb += self.orders.valid.eq(1)
                with m.If(self.orders.ready):
                    m.next = "answer"
            with m.State("answer"):
                m.d.comb += table.write_data.eq(self.answer.value)
                with m.If(self.answer.valid & ~self.stop):
                    m.d.comb += [execute.eq(1), table.write_enable.eq(1)]
                    m.next = "take"
            with m.State("ended"), m.If(self.clear):
                m.next = "take"
        m.d.comb += [
            self.executed.eq(execute | (self.sequence.valid & self.sequence.ready)),
            gate.o.ready.eq(execute),
        ]
        with m.If(table.write_enable):
            m.d.sync += written.bit_select(body.index, 1).eq(1)
        with m.If(self.clear):
            m.d.sync += written.eq(0)

        m.d.sync += [
            self.signal.valid.eq(execute & gate.o.payload.header.signal_enable),
            self.signal.semaphore.eq(gate.o.payload.header.signal),
        ]
        return m
