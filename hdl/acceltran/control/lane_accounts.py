"""What every lane of a cluster does in every cycle."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.library import SharedComponent
from acceltran.numeric.count_ones import count_ones

__all__ = ["LANE_CAUSES", "LaneAccounts"]

LANE_CAUSES = ("columns", "operand", "sums", "balance", "tile", "control", "semaphores")
"""Why a lane issues no product: see the members of ``LaneAccounts``."""


class LaneAccounts(SharedComponent):
    """Charge each cycle of each lane to its work, or to what it waits for.

    Lanes of one stream share their fate, but for those without a column. Each cycle, what is
    charged adds up to at most all lanes; the others are idle.

    Lanes that hold scalars work at other times than they take them. For them what they issue is
    counted as work, and only lanes that issue nothing are charged to a cause; where a lane takes
    scalars but issues nothing, it waits for operands.

    Latency is ``latency`` cycles.

    Parameters
    ----------
    lanes : int
        Lanes per PE; at least 1.
    streams : int
        Row streamers of the cluster; a power of two that divides ``lanes``.
    pes : int
        PEs of the cluster; at least 1.
    lanes_hold_scalars : bool
        Count what lanes issue.

    Members
    -------
    stream_count : ``In(range(streams + 1))``
        Streams that share the lanes; 0 before the first product.
    enabled : ``In(range(pes * lanes + 1))``
        Lanes that have a column.
    valid, taken : ``In(streams)``
        Bit s: stream s offers a scalar of the context of the lanes; they take it.
    loading : ``In(streams)``
        Bit s: the row of the tile that this scalar needs is not loaded.
    effectual : ``In(streams)``
        Bit s: that scalar has products.
    early : ``In(streams)``
        Bit s: stream s offers a scalar of the next context.
    streaming : ``In(streams)``
        Bit s: stream s has a row to fetch or to send.
    dealt, working, waits_for_half, waits_for_results : ``In(1)``
        As of ``ProductSequencer``.
    waits_for_semaphore : ``In(1)``
        The next product waits for a semaphore.
    issued : ``In(range(pes * lanes + 1))``
        Lanes that issue products; only where lanes hold scalars.
    busy : ``Out``
        Lanes that take an effectual scalar, or issue products.
    columns : ``Out``
        Lanes without a column while their stream works.
    operand : ``Out``
        Lanes that wait for the elements of a row, or take a row without any.
    sums : ``Out``
        Lanes whose sums wait for the epilogue, or whose next pass waits for the results of the
        one before the last.
    balance : ``Out``
        Lanes that wait for other streams to end the pass.
    tile : ``Out``
        Lanes that wait for a tile, or for a half of the tile RAM to be free.
    control : ``Out``
        Lanes that wait for the sequencer.
    semaphores : ``Out``
        Lanes whose next product waits for a semaphore.
    """

    stream_count: Signal
    enabled: Signal
    valid: Signal
    taken: Signal
    effectual: Signal
    early: Signal
    loading: Signal
    streaming: Signal
    dealt: Signal
    working: Signal
    waits_for_half: Signal
    waits_for_results: Signal
    waits_for_semaphore: Signal
    issued: Signal
    busy: Signal
    columns: Signal
    operand: Signal
    sums: Signal
    balance: Signal
    tile: Signal
    control: Signal
    semaphores: Signal

    def __init__(self, *, lanes: int, streams: int, pes: int, lanes_hold_scalars: bool = False):
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if streams < 1 or streams & (streams - 1) or lanes % streams:
            raise ValueError(
                f"Number of streams must be a power of two that divides {lanes} lanes,"
                f" not {streams!r}"
            )
        if pes < 1:
            raise ValueError(f"Number of PEs must be at least 1, not {pes!r}")
        self.lanes = lanes
        self.streams = streams
        self.pes = pes
        self.lanes_hold_scalars = lanes_hold_scalars
        total = range(pes * lanes + 1)
        super().__init__({
            "stream_count": In(range(streams + 1)),
            "enabled": In(total),
            "issued": In(total),
            **dict.fromkeys(
                ("valid", "taken", "effectual", "early", "loading", "streaming"), In(streams)
            ),
            **dict.fromkeys(
                (
                    "dealt",
                    "working",
                    "waits_for_half",
                    "waits_for_results",
                    "waits_for_semaphore",
                ),
                In(1),
            ),
            **dict.fromkeys(("busy", *LANE_CAUSES), Out(total)),
        })

    @property
    def latency(self) -> int:
        """Cycles from what happens to what is charged."""
        return 5 if self.lanes_hold_scalars else 3

    def elaborate(self, platform):
        m = Module()
        counts = [1 << n for n in range(ceil_log2(self.streams) + 1)]

        # Stage 1: what each stream does.
        active = Signal(self.streams)
        for count in counts:
            with m.If(self.stream_count == count):
                m.d.comb += active.eq((1 << count) - 1)
        works = self.taken & self.effectual
        without_rows = active & ~self.valid & ~self.early & ~self.streaming
        # Why there is no row: one of these.
        conditions = {
            "tile": self.waits_for_half,
            "sums": self.waits_for_results,
            "control": self.working,
            "semaphores": self.waits_for_semaphore,
            "balance": self.dealt,
        }
        reasons = {}
        before = 0
        for name, condition in conditions.items():
            reasons[name] = condition & ~before
            before = before | condition
        groups = {
            "busy": works,
            "operand": active
            & ((self.taken & ~self.effectual) | (self.streaming & ~self.valid & ~self.early)),
            "sums": active & self.valid & ~self.taken & ~self.loading,
            "tile": active & self.loading,
            "balance": active & self.early,
        }
        for name, reason in reasons.items():
            groups[name] = groups.get(name, 0) | Mux(reason, without_rows, 0)
        members = {name: Signal(self.streams, name=f"{name}_streams") for name in groups}
        for name, group in groups.items():
            m.d.sync += members[name].eq(group)

        # Stage 2: how many streams. Stage 3: how many lanes.
        sizes = {name: Signal(range(self.streams + 1), name=f"{name}_size") for name in groups}
        for name, group in members.items():
            m.d.sync += sizes[name].eq(count_ones(group))
        share = [Signal.like(self.stream_count, name=f"share{n}") for n in range(2)]
        enabled = [Signal.like(self.enabled, name=f"enabled{n}") for n in range(2)]
        m.d.sync += [
            Cat(share).eq(Cat(self.stream_count, share[0])),
            Cat(enabled).eq(Cat(self.enabled, enabled[0])),
        ]
        charged = {
            name: Signal.like(self.enabled, name=f"charged_{name}")
            for name in ("busy", *LANE_CAUSES)
        }
        for count in counts:
            with m.If(share[-1] == count):
                with_column = enabled[-1] >> ceil_log2(count)
                without = self.pes * self.lanes // count - with_column
                m.d.sync += [
                    charged["busy"].eq(sizes["busy"] * with_column),
                    charged["columns"].eq(sizes["busy"] * without),
                    *(
                        charged[name].eq(size * (self.pes * self.lanes // count))
                        for name, size in sizes.items()
                        if name != "busy"
                    ),
                ]
        if self.lanes_hold_scalars:
            self._charge_those_that_rest(m, charged)
        else:
            m.d.comb += [getattr(self, name).eq(lanes) for name, lanes in charged.items()]
        return m

    def _charge_those_that_rest(self, m: Module, charged: dict[str, Signal]) -> None:
        """Charge causes in turn until the lanes that issue nothing are used up."""
        issued = Signal.like(self.issued, name="issued_lanes")
        resting = Signal.like(self.issued)
        m.d.sync += [
            issued.eq(self.issued),
            resting.eq(self.pes * self.lanes - self.issued),
            self.busy.eq(issued),
        ]
        order = [name for name in LANE_CAUSES if name not in ("sums", "operand")]
        total: Value = Const(0)
        before: Value = Const(0)
        for name in (*order, "sums", "operand"):
            share = charged[name] + charged["busy"] if name == "operand" else charged[name]
            total = total + share
            upto = Signal(range(2 * self.pes * self.lanes + 1), name=f"upto_{name}")
            m.d.sync += upto.eq(total)
            here = Mux(upto < resting, upto, resting)
            m.d.sync += getattr(self, name).eq(here - before)
            before = here
