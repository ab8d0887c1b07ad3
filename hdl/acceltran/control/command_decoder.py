"""Check commands before anything acts on them."""

from functools import reduce
from operator import or_

from amaranth import Array, Const, Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.activation import Activation
from acceltran.arch.commands import (
    BODIES,
    COMMAND_BYTES,
    HEADER,
    LOOPS,
    WAITS,
    Opcode,
    OperandSource,
    ThresholdMode,
)
from acceltran.arch.layernorm_format import BETA_SHIFT_MAX
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandWord
from acceltran.control.localizer import SHARE
from acceltran.library import SharedComponent

__all__ = ["CommandDecoder"]


class CommandDecoder(SharedComponent):
    """Pass legal commands on; stop at the first illegal one.

    A command is illegal if its opcode is unknown, if a bit outside its fields is set, or if a
    field has a value without meaning: a count of 0, a loop order that is no permutation, streams
    that do not divide the lanes, tiles that do not fit them, products that do not begin in bank 0,
    sums that stay in the lanes of more than one row tile, rows longer than the vector units hold, a
    shift of beta beyond theirs, a STORE of weights, a sequence on clusters that do not exist, or
    that waits or signals.

    Latency is ``LATENCY`` cycles; throughput is one command in ``LATENCY + 1`` cycles.

    Parameters
    ----------
    tile, tile_rows, partial_sums, inner, sequence, hidden : int
        Sizes of the configuration that commands must keep.
    banks : int
        PEs of the cluster, each of which writes to banks of its own; a power of two.
    streams : int
        Most streams of a product; a power of two.
    clusters : int
        Clusters of the machine; at least 1.

    Members
    -------
    i : ``In(stream.Signature(CommandWord()))``
    o : ``Out(stream.Signature(CommandWord()))``
    illegal : ``Out(1)``
        An illegal command is held; nothing more is passed on.
    illegal_index : ``Out(COMMAND_INDEX_WIDTH)``
        Its place in the program.
    """

    LATENCY = 3

    i: stream.Interface
    o: stream.Interface
    illegal: Signal
    illegal_index: Signal

    def __init__(
        self,
        *,
        tile: int,
        tile_rows: int,
        partial_sums: int,
        inner: int,
        sequence: int,
        hidden: int,
        banks: int = 1,
        streams: int = 1,
        clusters: int = 1,
    ):
        if banks < 1 or banks & (banks - 1):
            raise ValueError(f"Number of banks must be a power of two, not {banks!r}")
        if streams < 1 or streams & (streams - 1):
            raise ValueError(f"Number of streams must be a power of two, not {streams!r}")
        if clusters < 1:
            raise ValueError(f"Number of clusters must be at least 1, not {clusters!r}")
        self.tile = tile
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.inner = inner
        self.sequence = sequence
        self.hidden = hidden
        self.banks = banks
        self.streams = streams
        self.clusters = clusters
        super().__init__({
            "i": In(stream.Signature(CommandWord())),
            "o": Out(stream.Signature(CommandWord())),
            "illegal": Out(1),
            "illegal_index": Out(COMMAND_INDEX_WIDTH),
        })

    def elaborate(self, platform):
        m = Module()
        bits = Value.cast(self.o.payload.bits)
        code = bits[HEADER[0].offset : HEADER[0].offset + HEADER[0].width]
        m.d.comb += self.illegal_index.eq(self.o.payload.index)

        known = Signal()
        stray = Signal()  # a bit outside the fields is set
        m.d.sync += known.eq(reduce(or_, (code == opcode for opcode in Opcode)))
        with m.Switch(code):
            for opcode in Opcode:
                used = sum(f.mask << f.offset for f in (*HEADER, *BODIES[opcode]))
                unused = Const(~used & (1 << COMMAND_BYTES * 8) - 1, COMMAND_BYTES * 8)
                with m.Case(opcode):
                    m.d.sync += stray.eq((bits & unused).any())
            with m.Default():
                m.d.sync += stray.eq(0)

        rules: list[Value] = []
        for opcode in Opcode:
            f = {g.name: bits[g.offset : g.offset + g.width] for g in (*HEADER, *BODIES[opcode])}
            for rule in self._rules(opcode, f):
                rules.append((code != opcode) | rule)
        kept = Signal(len(rules))
        for index, rule in enumerate(rules):
            m.d.sync += kept[index].eq(rule)

        with m.FSM():
            with m.State("take"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += Value.cast(self.o.payload).eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "check"
            with m.State("check"):
                m.next = "judge"
            with m.State("judge"):
                with m.If(known & ~stray & kept.all()):
                    m.next = "offer"
                with m.Else():
                    m.next = "refuse"
            with m.State("offer"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "take"
            with m.State("refuse"):
                m.d.comb += self.illegal.eq(1)
        return m

    def _rules(self, opcode: Opcode, f: dict[str, Value]) -> list[Value]:
        """Conditions that the fields ``f`` of a legal command keep."""
        tile = self.tile
        bank_bits = (self.banks - 1).bit_length()
        positive = {
            Opcode.LOAD: ("vectors", "row_vectors"),
            Opcode.STORE: ("vectors", "row_vectors"),
            Opcode.MATMUL: (
                "inner_vectors",
                "b_rows",
                "columns",
                "rows",
                "batches",
                "row_tile",
                "inner_tile",
            ),
            Opcode.SOFTMAX: ("rows", "blocks"),
            Opcode.LAYERNORM: ("rows", "blocks", "columns", "epsilon"),
        }
        rules = [f[name] != 0 for name in positive.get(opcode, ())]
        if opcode is Opcode.STORE:
            rules.append(f["buffer"] == 0)
        if opcode is Opcode.MATMUL:
            counts = [1 << n for n in range(ceil_log2(self.streams) + 1)]
            one_hot = [Array(1 << n for n in range(len(LOOPS)))[f[f"order{n}"]] for n in range(4)]
            rules += [
                reduce(or_, one_hot) == (1 << len(LOOPS)) - 1,
                f["b_source"] <= max(OperandSource),
                f["function"] <= max(Activation),
                f["inner_tile"] <= self.tile_rows // 2 // tile,
                f["inner_vectors"] <= self.inner // tile,
                f["c_base"][:bank_bits] == 0,
                f["c_row_stride"][:bank_bits] == 0,
                f["share_stride"][:bank_bits] == 0,
                f["c_base"] < SHARE,
                (f["batches"] == 1) | (f["c_batch_stride"][:bank_bits] == 0),
                ~(f["keep_sums"] | f["resume_sums"])
                | ((f["batches"] == 1) & (f["rows"] <= f["row_tile"])),
                # One tile row must fit the partial sums when sums are carried between tiles.
                reduce(or_, (f["streams"] == count for count in counts)),
                (f["inner_vectors"] <= f["inner_tile"])
                | reduce(
                    or_,
                    (
                        (f["streams"] == count) & (f["row_tile"] <= count * self.partial_sums)
                        for count in counts
                    ),
                ),
            ]
        if opcode is Opcode.SEQUENCE:
            waits = [f[f"wait{n}_enable"] for n in range(WAITS)]
            rules += [
                ~reduce(or_, [f["signal_enable"], *waits]),
                reduce(
                    or_,
                    (
                        (f["span"] == span) & (f["group"] <= (self.clusters - 1) >> span)
                        for span in range(ceil_log2(self.clusters) + 1)
                    ),
                ),
            ]
        if opcode is Opcode.THRESHOLD:
            rules.append(f["mode"] <= max(ThresholdMode))
        if opcode is Opcode.SOFTMAX:
            rules += [
                f["blocks"] <= self.sequence // tile,
                f["keys"] <= f["blocks"] * tile,
            ]
        if opcode is Opcode.LAYERNORM:
            rules += [
                f["blocks"] <= self.hidden // tile,
                f["columns"] <= f["blocks"] * tile,
                f["beta_shift"] <= BETA_SHIFT_MAX,
            ]
        return rules
