"""Check commands before anything acts on them."""

from functools import reduce
from operator import or_

from amaranth import Array, Const, Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from acceltran.arch.activation import Activation
from acceltran.arch.commands import BODIES, COMMAND_BYTES, HEADER, LOOPS, Opcode, OperandSource
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandWord
from acceltran.library import SharedComponent

__all__ = ["CommandDecoder"]


class CommandDecoder(SharedComponent):
    """Pass legal commands on; stop at the first illegal one.

    A command is illegal if its opcode is unknown, if a bit outside its fields is set, or if a
    field has a value without meaning: a count of 0, a loop order that is no permutation, tiles
    that do not fit the lanes, rows longer than the vector units hold, a STORE of weights.

    Latency is ``LATENCY`` cycles; throughput is one command in ``LATENCY`` cycles.

    Parameters
    ----------
    tile, tile_rows, partial_sums, inner, sequence, hidden : int
        Sizes of the configuration that commands must keep.

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
    ):
        self.tile = tile
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.inner = inner
        self.sequence = sequence
        self.hidden = hidden
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
        held, checked = Signal(), Signal()

        m.d.comb += [self.i.ready.eq(~held), self.illegal_index.eq(self.o.payload.index)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [Value.cast(self.o.payload).eq(self.i.payload), held.eq(1)]

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
            f = {g.name: bits[g.offset : g.offset + g.width] for g in BODIES[opcode]}
            for rule in self._rules(opcode, f):
                rules.append((code != opcode) | rule)
        kept = Signal(len(rules))
        for index, rule in enumerate(rules):
            m.d.sync += kept[index].eq(rule)

        m.d.sync += checked.eq(held)
        legal = Signal()
        m.d.comb += legal.eq(known & ~stray & kept.all())
        with m.If(held & checked & ~self.o.valid):
            m.d.sync += [self.o.valid.eq(legal), self.illegal.eq(~legal)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.o.valid.eq(0), held.eq(0), checked.eq(0)]
        return m

    def _rules(self, opcode: Opcode, f: dict[str, Value]) -> list[Value]:
        """Conditions that the fields ``f`` of a legal command keep."""
        tile = self.tile
        counts = {
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
        rules = [f[name] != 0 for name in counts.get(opcode, ())]
        if opcode is Opcode.STORE:
            rules.append(f["buffer"] == 0)
        if opcode is Opcode.MATMUL:
            one_hot = [Array(1 << n for n in range(len(LOOPS)))[f[f"order{n}"]] for n in range(4)]
            rules += [
                reduce(or_, one_hot) == (1 << len(LOOPS)) - 1,
                f["b_source"] <= max(OperandSource),
                f["function"] <= max(Activation),
                f["inner_tile"] <= self.tile_rows // 2 // tile,
                f["inner_vectors"] <= self.inner // tile,
                # One tile row must fit the partial sums when sums are carried between tiles.
                (f["inner_vectors"] <= f["inner_tile"]) | (f["row_tile"] <= self.partial_sums),
            ]
        if opcode is Opcode.SOFTMAX:
            rules += [
                f["blocks"] <= self.sequence // tile,
                f["keys"] <= f["blocks"] * tile,
            ]
        if opcode is Opcode.LAYERNORM:
            rules += [f["blocks"] <= self.hidden // tile, f["columns"] <= f["blocks"] * tile]
        return rules
