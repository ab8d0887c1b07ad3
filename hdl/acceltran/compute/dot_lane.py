"""MAC lane that sums the products of one output in an adder tree: the paper's lane."""

from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2, exact_log2

from acceltran.compute.lane import HALVES, Lane
from acceltran.memory.ram import Ram
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.multiplier import Multiplier

__all__ = ["DotLane"]


class DotLane(Lane):
    """MAC lane with ``tile`` products of one output per cycle and a pipelined adder tree.

    The scalars of a row that belong to one block of ``tile`` rows of the tile are collected, then
    multiplied by one column of that block per cycle, ``tile`` cycles in all, while the scalars of
    the next block are collected. Scalars that are not sent take part as zeros: only a block
    without any effectual scalar is skipped. Ports, parameters and rules are those of ``Lane``.

    The sums of a row are offered ``LATENCY`` cycles after its last scalar is accepted, if nothing
    else is under way; throughput is one scalar per cycle, and one block per ``tile`` cycles. A row
    without effectual scalars takes as long as one block, but issues no product.

    Source: S. Tuli and N. K. Jha, "AccelTran", IEEE TCAD 2023, section on the MAC lane.
    Golden model: ``acceltran_sim.golden.product.exact_sums``.
    """

    @property
    def LATENCY(self) -> int:
        """Cycles: accept, collect, one per column, then from read to offer."""
        return self.tile + self.multiplier_stages + exact_log2(self.tile) + 6

    def elaborate(self, platform):
        m = Module()
        tile = self.tile
        self._index_width = exact_log2(tile)
        element = signed(self.fmt.width)
        group_layout = data.StructLayout({
            "values": data.ArrayLayout(element, tile),
            "present": unsigned(tile),
            "block": unsigned(max(ceil_log2(self.tile_rows) - self._index_width, 0)),
            "effectual": unsigned(1),
            "first": unsigned(1),
            "resume": unsigned(1),
            "last": unsigned(1),
            "final": unsigned(1),
            "slot": range(self.partial_sums),
        })
        advance = Signal()

        # Accept one scalar ahead, so that `scalars.ready` comes from registers.
        token: Any = Signal(self.scalars.payload.shape())
        token_valid = Signal()
        token_taken = Signal()
        token_index = token.row[: self._index_width]
        token_block = token.row[self._index_width :]
        m.d.comb += self.scalars.ready.eq(~token_valid | token_taken | ~self.enable)
        with m.If(self.scalars.ready):
            m.d.sync += [
                token_valid.eq(self.scalars.valid & self.enable),
                token.eq(self.scalars.payload),
            ]

        # Collect the scalars of one block; hand it on when the row or the block ends.
        group: Any = Signal(group_layout)
        group_valid = Signal()
        fire: Any = Signal(group_layout)
        fire_valid = Signal()
        fire_column = Signal(self._index_width)
        group_ends = Signal()
        group_leaves = Signal()
        other_block = token_valid & token.effectual & (token_block != group.block)
        m.d.comb += [
            group_ends.eq(group_valid & (group.last | (group.effectual & other_block))),
            group_leaves.eq(group_ends & (~fire_valid | (advance & fire_column.all()))),
            token_taken.eq(token_valid & (~group_ends | group_leaves)),
        ]
        fresh = ~group_valid | group_leaves
        with m.If(group_leaves):
            m.d.sync += group_valid.eq(0)
        with m.If(token_taken):
            chosen = Signal(tile)
            m.d.comb += chosen.eq(token.effectual << token_index)
            m.d.sync += [
                group_valid.eq(1),
                group.present.eq(Mux(fresh, 0, group.present) | chosen),
                group.effectual.eq((~fresh & group.effectual) | token.effectual),
                group.first.eq((~fresh & group.first) | token.first),
                group.last.eq(token.last),
                group.final.eq(token.final),
                group.slot.eq(token.slot),
            ]
            with m.If(token.effectual):
                m.d.sync += group.block.eq(token_block)
            with m.If(token.first):
                m.d.sync += group.resume.eq(token.resume)
            for index in range(tile):
                kept = Mux(fresh, 0, group.values[index])
                m.d.sync += group.values[index].eq(Mux(chosen[index], token.value, kept))

        # Fire one column per cycle. Bank n holds element (row, n - row): instead of the elements
        # that come from the banks, the scalars rotate.
        with m.If(advance & fire_valid):
            m.d.sync += [
                fire_column.eq(fire_column + 1),
                fire.values.eq(Value.cast(fire.values).rotate_left(self.fmt.width)),
                fire.present.eq(fire.present.rotate_left(1)),
            ]
            with m.If(fire_column.all()):
                m.d.sync += fire_valid.eq(0)
        with m.If(group_leaves):
            m.d.sync += [fire_valid.eq(1), fire_column.eq(0), fire.eq(group)]

        tag_layout = data.StructLayout({
            "valid": unsigned(1),
            "effectual": unsigned(1),
            "first": unsigned(1),
            "resume": unsigned(1),
            "last": unsigned(1),
            "final": unsigned(1),
            "slot": range(self.partial_sums),
            "column": unsigned(self._index_width),
        })
        depth = 2 + self.multiplier_stages + self._index_width + 1
        tags: list[Any] = [Signal(tag_layout, name=f"tag{stage}") for stage in range(depth)]
        with m.If(advance):
            m.d.sync += [tags[0].valid.eq(fire_valid), tags[0].column.eq(fire_column)]
            for name in ("effectual", "first", "resume", "last", "final", "slot"):
                m.d.sync += tags[0][name].eq(fire[name])
            m.d.sync += [later.eq(tag) for tag, later in zip(tags, tags[1:], strict=False)]

        columns = self._read_columns(m, advance & fire_valid & fire.effectual, fire, fire_column)
        dot = self._multiply(m, advance, tags, fire, columns)
        self._accumulate(m, advance, tags, dot)
        busy = token_valid | group_valid | fire_valid
        m.d.comb += [
            *(
                self.reading[half].eq(
                    (token_valid & (token_block[-1] == half))
                    | (group_valid & (group.block[-1] == half))
                    | (fire_valid & (fire.block[-1] == half))
                )
                for half in range(HALVES)
            ),
            self.empty.eq(~busy & ~Cat(*(tag.valid for tag in tags)).any() & ~self.sums.valid),
        ]
        return m

    def _read_columns(self, m, enable, fire, column):
        """Tile RAM of one bank per multiplier, written by rows and read by columns."""
        width = self.fmt.width + 1
        row = self.tile_write
        rotated = Cat(Cat(row.values[index], row.keep[index]) for index in range(self.tile))
        for bit in range(self._index_width):
            amount = width << bit
            rotated = Mux(row.row[bit], rotated.rotate_left(amount), rotated)
        write_valid = Signal()
        write_row = Signal.like(row.row)
        write_data = Signal(width * self.tile)
        m.d.sync += [write_valid.eq(row.valid), write_row.eq(row.row), write_data.eq(rotated)]
        columns = []
        for index in range(self.tile):
            m.submodules[f"bank{index}"] = bank = Ram(width=width, depth=self.tile_rows)
            offset = Signal(self._index_width, name=f"bank{index}_offset")
            m.d.comb += [
                bank.write_enable.eq(write_valid),
                bank.write_address.eq(write_row),
                bank.write_data.eq(write_data.word_select(index, width)),
                offset.eq(index - column),
                bank.read_enable.eq(enable),
                bank.read_address.eq(Cat(offset, fire.block)),
            ]
            columns.append(bank.read_data)
        return columns

    def _multiply(self, m, advance, tags, fire, columns):
        """Products of one column, and their sum."""
        read_values = Signal.like(fire.values)
        read_present = Signal.like(fire.present)
        mul_values = Signal.like(fire.values)
        mul_effectual = Signal.like(fire.present)
        with m.If(advance & fire.effectual):
            m.d.sync += [read_values.eq(fire.values), read_present.eq(fire.present)]
        with m.If(advance & tags[0].effectual):
            m.d.sync += mul_values.eq(read_values)
        issue = Signal()
        m.d.comb += issue.eq(advance & tags[1].valid & tags[1].effectual)
        m.d.sync += [
            self.issued.eq(issue),
            self.effectual_products.eq(Mux(issue, count_ones(mul_effectual), 0)),
        ]
        terms = []
        for index, column in enumerate(columns):
            weight = Signal(signed(self.fmt.width), name=f"mul_weight{index}")
            with m.If(advance & tags[0].effectual):
                m.d.sync += [
                    weight.eq(column[:-1]),
                    mul_effectual[index].eq(column[-1] & read_present[index]),
                ]
            multiplier = Multiplier(width=self.fmt.width, stages=self.multiplier_stages)
            m.submodules[f"multiplier{index}"] = multiplier
            m.d.comb += [
                multiplier.advance.eq(advance),
                multiplier.a.eq(mul_values[index]),
                multiplier.b.eq(weight),
            ]
            terms.append(multiplier.product)
        for level in range(self._index_width):
            pairs = [left + right for left, right in zip(terms[::2], terms[1::2], strict=True)]
            terms = [Signal(pair.shape(), name=f"tree{level}_{k}") for k, pair in enumerate(pairs)]
            with m.If(advance):
                m.d.sync += [term.eq(pair) for term, pair in zip(terms, pairs, strict=True)]
        return terms[0]

    def _accumulate(self, m, advance, tags, dot):
        """Add to the accumulator of the column; store or offer finished sums."""
        m.submodules.sums_ram = sums_ram = Ram(
            width=self.sum_width, depth=self.partial_sums * self.tile
        )
        prefetch, seed, acc, out = tags[-4:]
        accumulators = Signal(data.ArrayLayout(signed(self.sum_width), self.tile))
        select = Array(accumulators[column] for column in range(self.tile))
        base = Signal(signed(self.sum_width))
        total = Signal(signed(self.sum_width))
        out_total = Signal(signed(self.sum_width))
        out_final = Signal()
        m.d.comb += [
            sums_ram.read_enable.eq(advance & prefetch.valid & prefetch.first),
            sums_ram.read_address.eq(Cat(prefetch.column, prefetch.slot)),
            total.eq(base + Mux(acc.effectual, dot, 0)),
            sums_ram.write_enable.eq(advance & out.valid & out.last & ~out.final),
            sums_ram.write_address.eq(Cat(out.column, out.slot)),
            sums_ram.write_data.eq(out_total),
            out_final.eq(out.valid & out.last & out.final & out.column.all()),
            # `sums.ready` is left out, so that no path leads from one end of the lane to the other.
            advance.eq(~(out_final & self.sums.valid)),
        ]
        with m.If(advance):
            with m.If(seed.first):
                m.d.sync += base.eq(Mux(seed.resume, sums_ram.read_data.as_signed(), 0))
            with m.Else():
                m.d.sync += base.eq(select[seed.column])
            with m.If(acc.valid):
                m.d.sync += [select[acc.column].eq(total), out_total.eq(total)]
        with m.If(self.sums.ready):
            m.d.sync += self.sums.valid.eq(0)
        with m.If(out_final & advance):
            m.d.sync += [self.sums.valid.eq(1), self.sums.payload.eq(accumulators)]
