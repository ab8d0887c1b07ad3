"""MAC lane whose multipliers skip the zeros of scalars and of weights."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.utils import exact_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.lane import HALVES, Lane
from acceltran.memory.ram import Ram
from acceltran.numeric.count_ones import count_ones
from acceltran.numeric.multiplier import Multiplier

__all__ = ["WindowLane"]

SETS = 2
"""Rows that may be in the lane's queue, each with its own accumulators."""


class WindowLane(Lane):
    """MAC lane in which each multiplier picks its own next effectual product.

    Scalars wait in a queue, each with one pending bit per column: the keep bits of its row of the
    tile. In each cycle multiplier ``j`` takes the oldest of the first ``window`` scalars that is
    pending in column ``j``, and clears its bit. Up to ``SCALARS_PER_BEAT`` leading scalars that are
    pending nowhere leave, of one row at a time. Each column of the tile has a RAM of its own, since
    each reads another row. A product is issued only if both of its factors are non-zero. Ports,
    parameters and rules are those of ``Lane``, with beats of scalars.

    A beat enters the queue when there is room for a whole one, when the queue holds scalars of no
    more than one other row, if it begins a row, and when what it resumes has been saved. The sums
    of a row are offered ``LATENCY`` cycles after its last beat is accepted, if nothing of the row
    is pending by then. Throughput is one beat per cycle, up to ``tile`` products per cycle, and one
    row per ``ROW_CYCLES`` cycles.

    Golden model: ``acceltran_sim.golden.product.exact_sums``; of the schedule,
    ``acceltran_sim.golden.weight_window.WindowSchedule``.

    Parameters
    ----------
    window : int
        Scalars among which a multiplier looks for its next product: 8 or 16.
    """

    SCALARS_PER_BEAT = 4
    QUEUE_BEATS = 2
    """Beats that the queue holds beyond the window, so that lanes can drift apart."""
    SAVE_CYCLES = 2
    """Cycles after it left the queue in which what a row leaves in its slot cannot be resumed."""

    def __init__(
        self,
        *,
        window: int,
        fmt: FixedPoint,
        tile: int,
        inner: int,
        tile_rows: int,
        partial_sums: int,
        multiplier_stages: int = 2,
    ):
        if window not in (8, 16):
            raise ValueError(f"Window must be 8 or 16, not {window!r}")
        super().__init__(
            fmt=fmt,
            tile=tile,
            inner=inner,
            tile_rows=tile_rows,
            partial_sums=partial_sums,
            multiplier_stages=multiplier_stages,
        )
        self.window = window
        self.queue_length = window + self.QUEUE_BEATS * self.SCALARS_PER_BEAT

    @property
    def LATENCY(self) -> int:
        """Cycles: accept, enter, pick, read, register, multiply, accumulate, copy."""
        return self.multiplier_stages + 7

    def elaborate(self, platform):
        m = Module()
        self._entry = data.StructLayout({
            "value": signed(self.fmt.width),
            "row": range(self.tile_rows),
            "set": unsigned(1),
            "last": unsigned(1),
        })
        tag_layout = data.StructLayout({
            "valid": unsigned(1),  # anything else is
            "products": unsigned(self.tile),
            "sets": unsigned(self.tile),
            "begin": unsigned(1),
            "begin_set": unsigned(1),
            "begin_slot": range(self.partial_sums),
            "resume": unsigned(1),
            "end": unsigned(1),
            "end_set": unsigned(1),
            "end_slot": range(self.partial_sums),
            "final": unsigned(1),
        })
        names = ["pick", "read", "row", *(f"mul{k}" for k in range(self.multiplier_stages))]
        tags: list[Any] = [Signal(tag_layout, name=f"{n}_tag") for n in (*names, "acc", "out")]
        advance = Signal()

        beat, keeps, beat_valid, enter = self._add_beat(m)
        level, held, picked = self._add_queue(m, advance, beat, keeps, beat_valid, enter, tags)
        with m.If(advance):
            m.d.sync += [later.eq(tag) for tag, later in zip(tags, tags[1:], strict=False)]
        picked_from = Signal(HALVES)  # halves that the last picks may still have to read
        with m.If(advance):
            m.d.sync += picked_from.eq(held)
        beat_half = beat_valid.replicate(HALVES) & Cat(~beat.row[-1], beat.row[-1])
        products = self._add_multipliers(m, advance, picked, tags)
        self._add_accumulators(m, advance, products, tags)
        m.d.comb += [
            self.reading.eq(beat_half | held | picked_from),
            self.empty.eq(
                ~beat_valid
                & (level == 0)
                & ~Cat(tag.valid for tag in tags[1:]).any()
                & ~self.sums.valid
            ),
        ]
        return m

    def _add_beat(self, m: Module) -> tuple[Any, list[Value], Signal, Signal]:
        """Accept a beat and read the keep bits of its rows, which their memories hold."""
        offered: Any = self.scalars.payload
        beat: Any = Signal(offered.shape())
        beat_valid, enter, accepted = Signal(), Signal(), Signal()
        m.d.comb += [
            self.scalars.ready.eq(~beat_valid | enter | ~self.enable),
            accepted.eq(self.scalars.valid & self.scalars.ready & self.enable),
        ]
        with m.If(self.scalars.ready):
            m.d.sync += [beat_valid.eq(accepted), beat.eq(offered)]
        keeps = []
        for place in range(self.SCALARS_PER_BEAT):
            m.submodules[f"keep{place}"] = ram = Ram(width=self.tile, depth=self.tile_rows)
            m.d.comb += [
                ram.write_enable.eq(self.tile_write.valid),
                ram.write_address.eq(self.tile_write.row),
                ram.write_data.eq(self.tile_write.keep),
                ram.read_enable.eq(accepted & offered.effectual[place]),
                ram.read_address.eq(self._row(offered, place)),
            ]
            keeps.append(ram.read_data)
        return beat, keeps, beat_valid, enter

    def _row(self, beat: Any, place: int) -> Value:
        return Cat(beat.index[place], beat.row[exact_log2(self.tile) :])

    def _add_queue(
        self,
        m: Module,
        advance: Signal,
        beat: Any,
        keeps: list[Value],
        beat_valid: Signal,
        enter: Signal,
        tags: list[Any],
    ) -> tuple[Signal, Signal, list[Value]]:
        """Hold scalars until nothing is pending; pick one per column; say what begins and ends."""
        length, most = self.queue_length, self.SCALARS_PER_BEAT
        tag = tags[0]
        entries: list[Any] = [Signal(self._entry, name=f"entry_{k}") for k in range(length)]
        pending = [Signal(self.tile, name=f"pending_{k}") for k in range(length)]
        level = Signal(range(length + 1))
        rows = Signal(range(SETS + 1))
        slots = Signal(data.ArrayLayout(range(self.partial_sums), SETS))
        finals = Signal(SETS)
        newest, entering_set = Signal(), Signal()

        # Pick: chosen[k] holds the columns that take scalar k.
        chosen = [Signal(self.tile, name=f"chosen_{k}") for k in range(self.window)]
        taken: Value = Const(0, self.tile)
        for scalar, columns in zip(pending, chosen, strict=False):
            m.d.comb += columns.eq(scalar & ~taken)
            taken = taken | scalar
        picked = []
        for column in range(self.tile):
            choice = Signal(self._entry, name=f"choice_{column}")
            m.d.comb += choice.eq(
                reduce(
                    or_,
                    (
                        Mux(columns[column], Value.cast(entry), 0)
                        for columns, entry in zip(chosen, entries, strict=False)
                    ),
                )
            )
            picked.append(choice)

        # Leave: leaves[k] says that at least k + 1 scalars do.
        rest = [bits & ~columns for bits, columns in zip(pending, chosen, strict=False)]
        rest += pending[self.window :]
        leaves = Signal(most)
        follows: Value = Const(1)
        for place in range(most):
            m.d.comb += leaves[place].eq(follows & (level > place) & ~rest[place].any())
            follows = leaves[place] & ~entries[place].last
        row_leaves = Signal()
        m.d.comb += row_leaves.eq(Cat(leaves[k] & entries[k].last for k in range(most)).any())

        # Enter. `leaves` is left out, so that `scalars.ready` comes from registers.
        unsaved = Cat(
            (rows != 0) & (slots[newest] == beat.slot),
            *(
                tag.end & ~tag.final & (tag.end_slot == beat.slot)
                for tag in tags[1 : 1 + self.SAVE_CYCLES]
            ),
        ).any()
        m.d.comb += [
            enter.eq(
                beat_valid
                & advance
                & (level <= length - most)
                & (~beat.first | ((rows != SETS) & ~(beat.resume & unsaved)))
            ),
            entering_set.eq(newest ^ beat.first),
        ]
        left = Signal(range(most + 1))
        stay = Signal.like(level)
        m.d.comb += [left.eq(count_ones(leaves)), stay.eq(level - left)]
        with m.If(advance):
            count = Mux(beat.effectual.any(), count_ones(beat.effectual), 1)
            m.d.sync += [
                level.eq(stay + Mux(enter, count, 0)),
                rows.eq(rows + (enter & beat.first) - row_leaves),
            ]
        with m.If(enter):
            m.d.sync += [
                newest.eq(entering_set),
                slots[entering_set].eq(beat.slot),
                finals.bit_select(entering_set, 1).eq(beat.final),
            ]

        news: list[Any] = [Signal(self._entry, name=f"new_{k}") for k in range(most)]
        for place, new in enumerate(news):
            after = beat.effectual[place + 1] if place + 1 < most else 0
            m.d.comb += [
                new.value.eq(beat.values[place]),
                new.row.eq(self._row(beat, place)),
                new.set.eq(entering_set),
                new.last.eq(beat.last & ~after),
            ]
        with m.If(advance):
            end = [Signal(name=f"end_{k}") for k in range(length)]
            for place in range(length):
                m.d.comb += end[place].eq(enter & (stay == place))
                behind = range(place, min(place + most + 1, length))
                with m.Switch(left):
                    for shift, source in enumerate(behind):
                        with m.Case(shift):
                            m.d.sync += [
                                entries[place].eq(entries[source]),
                                pending[place].eq(rest[source]),
                            ]
                    with m.Default():
                        m.d.sync += pending[place].eq(0)
                for new in range(min(most, place + 1)):
                    with m.If(end[place - new]):
                        keep = Mux(beat.effectual[new], keeps[new], 0)
                        m.d.sync += [entries[place].eq(news[new]), pending[place].eq(keep)]

        oldest = entries[0].set
        m.d.comb += [
            tag.products.eq(taken),
            tag.sets.eq(Cat(choice.set for choice in picked)),
            tag.begin.eq(enter & beat.first),
            tag.begin_set.eq(entering_set),
            tag.begin_slot.eq(beat.slot),
            tag.resume.eq(beat.resume),
            tag.end.eq(row_leaves),
            tag.end_set.eq(oldest),
            tag.end_slot.eq(slots[oldest]),
            tag.final.eq(finals.bit_select(oldest, 1)),
            tag.valid.eq(tag.products.any() | tag.begin | tag.end),
        ]
        held = Signal(HALVES)
        for half in range(HALVES):
            m.d.comb += held[half].eq(
                Cat((level > k) & (entry.row[-1] == half) for k, entry in enumerate(entries)).any()
            )
        return level, held, picked

    def _add_multipliers(
        self, m: Module, advance: Signal, picked: list[Any], tags: list[Any]
    ) -> list[Value]:
        """Read the weight of each pick and multiply. Operands rest where there is no product."""
        pick, read, row, operands = tags[:4]
        products = []
        for column, choice in enumerate(picked):
            m.submodules[f"weight{column}"] = ram = Ram(width=self.fmt.width, depth=self.tile_rows)
            address = Signal(range(self.tile_rows), name=f"read_row{column}")
            values = [
                Signal(signed(self.fmt.width), name=f"{stage}_value{column}")
                for stage in ("read", "row", "mul")
            ]
            weight = Signal(signed(self.fmt.width), name=f"mul_weight{column}")
            m.d.comb += [
                ram.write_enable.eq(self.tile_write.valid),
                ram.write_address.eq(self.tile_write.row),
                ram.write_data.eq(self.tile_write.values[column]),
                ram.read_enable.eq(advance & read.products[column]),
                ram.read_address.eq(address),
            ]
            with m.If(advance):
                with m.If(pick.products[column]):
                    m.d.sync += [values[0].eq(choice.value), address.eq(choice.row)]
                with m.If(read.products[column]):
                    m.d.sync += values[1].eq(values[0])
                with m.If(row.products[column]):
                    m.d.sync += [values[2].eq(values[1]), weight.eq(ram.read_data)]
            multiplier = Multiplier(width=self.fmt.width, stages=self.multiplier_stages)
            m.submodules[f"multiplier{column}"] = multiplier
            m.d.comb += [
                multiplier.advance.eq(advance),
                multiplier.a.eq(values[2]),
                multiplier.b.eq(weight),
            ]
            products.append(multiplier.product)
        issue = Signal()
        m.d.comb += issue.eq(advance & operands.products.any())
        m.d.sync += [
            self.issued.eq(issue),
            self.effectual_products.eq(Mux(issue, count_ones(operands.products), 0)),
        ]
        return products

    def _add_accumulators(
        self, m: Module, advance: Signal, products: list[Value], tags: list[Any]
    ) -> None:
        """Add products to the sums of their rows; fetch, store and offer sums."""
        prefetch, acc, out = tags[-3:]
        row_layout = data.ArrayLayout(signed(self.sum_width), self.tile)
        m.submodules.sums_ram = sums_ram = Ram(width=row_layout.size, depth=self.partial_sums)
        sets: list[Any] = [Signal(row_layout, name=f"sums_{k}") for k in range(SETS)]
        seeds: Any = Signal(row_layout)
        done: Any = Signal(row_layout)
        out_final, out_store = Signal(), Signal()
        m.d.comb += [
            sums_ram.read_enable.eq(advance & prefetch.begin),
            sums_ram.read_address.eq(prefetch.begin_slot),
            seeds.eq(Mux(acc.resume, sums_ram.read_data, 0)),
            done.eq(Mux(out.end_set, Value.cast(sets[1]), Value.cast(sets[0]))),
            out_final.eq(out.end & out.final),
            out_store.eq(out.end & ~out.final),
            sums_ram.write_enable.eq(out_store),
            sums_ram.write_address.eq(out.end_slot),
            sums_ram.write_data.eq(done),
            # `sums.ready` is left out, so that no path leads from one end of the lane to the other.
            advance.eq(~(out_final & self.sums.valid)),
        ]
        for column, product in enumerate(products):
            into = acc.sets[column]
            base = Mux(into, sets[1][column], sets[0][column])
            total = Signal(signed(self.sum_width), name=f"acc_total{column}")
            m.d.comb += total.eq(base + product)
            for number, sums in enumerate(sets):
                with m.If(advance & acc.products[column] & (into == number)):
                    m.d.sync += sums[column].eq(total)
        for number, sums in enumerate(sets):
            # A row has products only in later cycles than that in which it begins.
            with m.If(advance & acc.begin & (acc.begin_set == number)):
                m.d.sync += sums.eq(seeds)
        with m.If(self.sums.ready):
            m.d.sync += self.sums.valid.eq(0)
        with m.If(out_final & advance):
            m.d.sync += [self.sums.valid.eq(1), self.sums.payload.eq(done)]
