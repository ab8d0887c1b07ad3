# amaranth: UnusedElaboratable=no
"""Localizer: what each cluster makes of commands for all."""

import random

import cocotb
import pytest

from acceltran.arch.commands import BODIES, Opcode
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import CommandHeader
from acceltran.control.localizer import SHARE, Localizer
from acceltran.control.node_command import NODE_BODY_WIDTH, NodeCommand, NodeKind
from acceltran.control.product_command import ProductCommand
from acceltran.control.vector_command import VectorCommand
from testbench.harness.fields import pack_fields
from testbench.harness.simulate import parameters, simulate, start
from testbench.harness.streams import StreamSink, StreamSource

WIDTH = 12


@pytest.mark.parametrize("clusters", [1, 6, 16])
def test_localizer(clusters, request):
    simulate(
        Localizer(threshold_width=WIDTH, clusters=clusters),
        bench=__name__,
        parameters={"clusters": clusters},
        seed=request.config.getoption("seed"),
    )


def test_rejects_clusters():
    with pytest.raises(ValueError, match=r"^Number of clusters must be at least 1, not 0$"):
        Localizer(threshold_width=WIDTH, clusters=0)


# What follows runs inside the simulator.


class Cluster:
    """The model: what a cluster knows, and what it gets."""

    def __init__(self, index: int):
        self.index = index
        self.own = self.keys = self.place = 0

    def take(self, opcode: Opcode, f: dict[str, int]) -> dict[str, int] | None:
        """Fields of the command for this cluster alone."""
        if opcode is Opcode.SEQUENCE:
            if self.index >> f["span"] == f["group"]:
                self.place = self.index % (1 << f["span"])
                left = f["length"] - self.place * f["rows"]
                self.own, self.keys = max(0, min(left, f["rows"])), f["length"]
            return None
        f = dict(f)
        rows = f["rows"]
        if f["own_rows"]:
            rows = max(0, min(self.own - f["first_row"], rows))
        f["valid_rows" if opcode is Opcode.MATMUL else "rows"] = rows
        if opcode is Opcode.MATMUL:
            if f["own_keys"]:
                f["b_rows"] = max(0, min(self.keys - f["first_key"], f["b_rows"]))
            if f["share"]:
                f["c_base"] = (f["c_base"] + self.place * f["share_stride"]) % SHARE | SHARE
        elif opcode is Opcode.SOFTMAX and f["own_keys"]:
            f["keys"] = min(f["keys"], self.keys)
        return f


def random_fields(opcode: Opcode) -> dict[str, int]:
    """Any values, those that are compared near each other."""
    fields = {f.name: random.randint(0, f.mask) for f in BODIES[opcode]}
    near = {"rows", "first_row", "first_key", "b_rows", "keys", "length"}
    fields |= {name: random.randint(0, 200) for name in near & fields.keys()}
    if opcode is Opcode.SEQUENCE:
        clusters = parameters()["clusters"]
        fields["span"] = random.randint(0, (clusters - 1).bit_length())
        fields["group"] = random.randint(0, clusters - 1 >> fields["span"])
    if opcode is Opcode.MATMUL:
        fields["c_base"] %= SHARE // 2
        fields["share_stride"] = random.randint(0, 1 << 16)
    return fields


def node_command(opcode: Opcode, fields: dict[str, int], header: int, threshold: int) -> int:
    kind = {Opcode.MATMUL: NodeKind.PRODUCT, Opcode.SEQUENCE: NodeKind.SEQUENCE}
    body = pack_fields(command_layout(opcode), fields)
    if opcode not in kind:
        body = body << 1 | (opcode is Opcode.LAYERNORM)
    command = (threshold << NODE_BODY_WIDTH | body) << header_width() | header
    layout = NodeCommand(WIDTH)
    return pack_fields(layout, {"kind": kind.get(opcode, NodeKind.VECTOR), "command": command})


def header_width() -> int:
    return CommandHeader().size


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(source_pace=[1.0, 0.4], sink_pace=[1.0, 0.4])
async def keeps_what_is_its_own(dut, source_pace, sink_pace):
    """Sequences come and go between commands of all kinds."""
    cluster = Cluster(random.randrange(parameters()["clusters"]))
    dut.index.value = cluster.index
    source = StreamSource(dut, "i", pace=source_pace)
    sinks = {name: StreamSink(dut, name, pace=sink_pace) for name in ("product", "vector")}
    await start(dut)
    opcodes = random.choices(
        [Opcode.SEQUENCE, Opcode.MATMUL, Opcode.SOFTMAX, Opcode.LAYERNORM], k=200
    )
    sent, expected = [], []
    for opcode in opcodes:
        fields = random_fields(opcode)
        header, threshold = random.getrandbits(header_width()), random.getrandbits(WIDTH)
        sent.append(node_command(opcode, fields, header, threshold))
        local = cluster.take(opcode, fields)
        if local is None:
            continue
        name = "product" if opcode is Opcode.MATMUL else "vector"
        layout = ProductCommand() if name == "product" else VectorCommand()
        if name == "product":
            body = pack_fields(layout, {k: v for k, v in local.items() if k in layout.members})
        else:
            body = pack_fields(command_layout(opcode), local) << 1 | (opcode is Opcode.LAYERNORM)
        expected.append((name, (threshold << layout.size | body) << header_width() | header))
    driver = cocotb.start_soon(source.put_all(sent))
    for name, command in expected:
        assert await sinks[name].get() == command
    await driver


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_the_documented_latency_and_throughput(dut):
    """A command is offered LATENCY cycles after it was taken, the next one a cycle later."""
    dut.index.value = 0
    source = StreamSource(dut, "i")
    dut.product__ready.value = dut.vector__ready.value = 1
    await start(dut)
    command = node_command(Opcode.MATMUL, random_fields(Opcode.MATMUL), 0, 0)
    cocotb.start_soon(source.put_all([command] * 4))
    taken, offered = [], []
    for cycle in range(4 * (Localizer.LATENCY + 1) + 4):
        await dut.clk.rising_edge
        if dut.i__valid.value and dut.i__ready.value:
            taken.append(cycle)
        if dut.product__valid.value:
            offered.append(cycle)
    assert offered == [cycle + Localizer.LATENCY for cycle in taken]
    assert taken[1] - taken[0] == Localizer.LATENCY + 1
