"""MAC lane that multiplies one scalar by a row of its tile per cycle."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.lane import Lane
from acceltran.memory.ram import Ram
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.multiplier import Multiplier

__all__ = ["BroadcastLane"]


class BroadcastLane(Lane):
    """MAC lane without alignment or compaction: a zero scalar costs nothing, as it is not sent.

    Each effectual scalar ``a[k]`` is broadcast to ``multipliers`` multipliers, whose other factors
    are row ``k`` of the tile; multiplier ``j`` adds to sum ``j``. A row of more elements than
    multipliers is multiplied in ``beats = tile / multipliers`` parts, one per cycle, and multiplier
    ``j`` adds to sums ``j``, ``j + multipliers`` .. in turn. Ports, rules and all other parameters
    are those of ``Lane``.

    The sums of a row are offered ``LATENCY`` cycles after its last scalar is accepted; throughput
    is one scalar per ``beats`` cycles, without a gap between rows, and one final row per two
    cycles. Only a row that resumes what the row just before it left in its slot waits, for three
    cycles.

    Golden model: ``acceltran_sim.golden.product.exact_sums``.

    Parameters
    ----------
    multipliers : int
        Multipliers; a power of two that divides ``tile``. Default: ``tile``.
    """

    SAVE_CYCLES = 3
    """Cycles after its last scalar in which what a row leaves in its slot cannot be read."""

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        inner: int,
        tile_rows: int,
        partial_sums: int,
        multipliers: int | None = None,
        multiplier_stages: int = 2,
    ):
        super().__init__(
            fmt=fmt,
            tile=tile,
            inner=inner,
            tile_rows=tile_rows,
            partial_sums=partial_sums,
            multiplier_stages=multiplier_stages,
        )
        self.multipliers = tile if multipliers is None else multipliers
        if self.multipliers < 1 or tile % self.multipliers:
            raise ValueError(f"Multipliers must divide the tile {tile}, not {multipliers!r}")
        self.beats = tile // self.multipliers

    @property
    def LATENCY(self) -> int:
        """Cycles: read, register, multiply, accumulate, copy; and those of the other beats."""
        return self.multiplier_stages + 4 + self.beats - 1

    def elaborate(self, platform):
        m = Module()
        tile, stages = self.tile, self.multiplier_stages
        row_layout = data.StructLayout({
            "values": data.ArrayLayout(signed(self.fmt.width), tile),
            "keep": unsigned(tile),
        })
        part_layout = data.StructLayout({
            "values": data.ArrayLayout(signed(self.fmt.width), self.multipliers),
            "keep": unsigned(self.multipliers),
        })
        m.submodules.tile_ram = tile_ram = Ram(
            width=data.Layout.cast(row_layout).size, depth=self.tile_rows
        )
        m.submodules.sums_ram = sums_ram = Ram(width=tile * self.sum_width, depth=self.partial_sums)
        tag_layout = data.StructLayout({
            "valid": unsigned(1),
            "effectual": unsigned(1),
            "first": unsigned(1),
            "resume": unsigned(1),
            "last": unsigned(1),
            "final": unsigned(1),
            "slot": range(self.partial_sums),
            "beat": range(self.beats),
        })

        # One tag per stage. The names of signals begin with the stage that reads them.
        names = ["read", "row", *(f"mul{k}" for k in range(1, stages)), "acc", "out"]
        tags: list[Any] = [Signal(tag_layout, name=f"{name}_tag") for name in names]
        read_tag, row_tag, acc_tag, out_tag = tags[0], tags[1], tags[-2], tags[-1]
        prefetch_tag, seed_tag = tags[stages - 1], tags[stages]
        out_final = Signal()
        out_store = Signal()
        advance = Signal()
        m.d.comb += [
            out_final.eq(out_tag.valid & out_tag.last & out_tag.final),
            out_store.eq(out_tag.valid & out_tag.last & ~out_tag.final),
            # `sums.ready` is left out, so that no path leads from one end of the lane to the other.
            advance.eq(~(out_final & self.sums.valid)),
        ]

        # Accept a scalar and read its row of the tile, which the RAM holds. The scalar waits there
        # until all parts of the row are taken, and if what it resumes is still on the way to its
        # slot.
        scalar: Any = Signal(self.scalars.payload.shape())
        scalar_valid = Signal()
        part_taken = Signal()
        scalar_taken = Signal()
        accepted = Signal()
        beat = Signal(range(self.beats))
        last_beat = self._is_beat(beat, self.beats - 1)
        unsaved = Cat(
            tag.valid & tag.last & ~tag.final & (tag.slot == scalar.slot)
            for tag in tags[1 : 1 + self.SAVE_CYCLES]
        ).any()
        m.d.comb += [
            part_taken.eq(scalar_valid & advance & ~(scalar.first & scalar.resume & unsaved)),
            scalar_taken.eq(part_taken & last_beat),
            self.scalars.ready.eq(~scalar_valid | scalar_taken | ~self.enable),
            accepted.eq(self.scalars.valid & self.scalars.ready & self.enable),
            tile_ram.write_enable.eq(self.tile_write.valid),
            tile_ram.write_address.eq(self.tile_write.row),
            tile_ram.write_data.eq(Cat(self.tile_write.values, self.tile_write.keep)),
            tile_ram.read_enable.eq(accepted & self.scalars.payload.effectual),
            tile_ram.read_address.eq(self.scalars.payload.row),
            read_tag.valid.eq(part_taken),
            *(
                read_tag[name].eq(scalar[name])
                for name in ("effectual", "first", "resume", "final", "slot")
            ),
            read_tag.last.eq(scalar.last & last_beat),
            read_tag.beat.eq(beat),
            self.reading.eq(0),
            self.empty.eq(
                ~scalar_valid & ~Cat(tag.valid for tag in tags[1:]).any() & ~self.sums.valid
            ),
        ]
        with m.If(self.scalars.ready):
            m.d.sync += [scalar_valid.eq(accepted), scalar.eq(self.scalars.payload)]
        with m.If(part_taken):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        with m.If(advance):
            m.d.sync += [later.eq(tag) for tag, later in zip(tags, tags[1:], strict=False)]

        # Operands change for effectual scalars only, so that multipliers rest at all others.
        read_row: Any = data.View(row_layout, tile_ram.read_data)
        row: Any = Signal(part_layout)
        row_value = Signal(signed(self.fmt.width))
        with m.If(advance & read_tag.valid & read_tag.effectual):
            m.d.sync += [
                Value.cast(row.values).eq(self._part(read_row.values, beat)),
                row.keep.eq(self._part(read_row.keep, beat)),
                row_value.eq(scalar.value),
            ]
        issue = Signal()
        m.d.comb += issue.eq(advance & row_tag.valid & row_tag.effectual)
        m.d.sync += [
            self.issued.eq(issue),
            self.effectual_products.eq(Mux(issue, count_ones(row.keep), 0)),
        ]

        # Fetch what the first scalar of a row adds to, one cycle ahead of the accumulators.
        seeds = Signal(data.ArrayLayout(signed(self.sum_width), tile))
        m.d.comb += [
            sums_ram.read_enable.eq(advance & prefetch_tag.valid & prefetch_tag.first),
            sums_ram.read_address.eq(prefetch_tag.slot),
        ]
        with m.If(advance & seed_tag.first):
            m.d.sync += seeds.eq(Mux(seed_tag.resume, sums_ram.read_data, 0))

        accumulators = Signal(data.ArrayLayout(signed(self.sum_width), tile))
        bases = Signal(data.ArrayLayout(signed(self.sum_width), self.multipliers))
        before = Mux(acc_tag.first, Value.cast(seeds), Value.cast(accumulators))
        m.d.comb += Value.cast(bases).eq(self._part(before, acc_tag.beat))
        for number in range(self.multipliers):
            multiplier = Multiplier(width=self.fmt.width, stages=stages)
            m.submodules[f"multiplier{number}"] = multiplier
            product = Signal.like(multiplier.product, name=f"acc_product{number}")
            m.d.comb += [
                multiplier.advance.eq(advance),
                multiplier.a.eq(row_value),
                multiplier.b.eq(row.values[number]),
                product.eq(Mux(acc_tag.effectual, multiplier.product, 0)),
            ]
            for part in range(self.beats):
                mine = acc_tag.valid & self._is_beat(acc_tag.beat, part)
                with m.If(advance & mine & (acc_tag.effectual | acc_tag.first)):
                    column = part * self.multipliers + number
                    m.d.sync += accumulators[column].eq(bases[number] + product)

        # A finished chunk goes to its slot, a finished row to the output register.
        m.d.comb += [
            sums_ram.write_enable.eq(out_store),
            sums_ram.write_address.eq(out_tag.slot),
            sums_ram.write_data.eq(accumulators),
        ]
        with m.If(self.sums.ready):
            m.d.sync += self.sums.valid.eq(0)
        with m.If(out_final & advance):
            m.d.sync += [self.sums.valid.eq(1), self.sums.payload.eq(accumulators)]

        return m

    def _is_beat(self, beat: Value, number: int) -> Value:
        return beat == number if self.beats > 1 else Const(1)

    def _part(self, values: Any, beat: Value) -> Value:
        """Of the values of a whole row, those of one beat."""
        values = Value.cast(values)
        return values.word_select(beat, len(values) // self.beats) if self.beats > 1 else values
