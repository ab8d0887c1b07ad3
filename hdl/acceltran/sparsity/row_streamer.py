"""Row streamer: the effectual elements of rows of vectors, in order."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.compute.lane import scalar_layout
from acceltran.library import SharedComponent
from acceltran.memory.ports import MaskReadPort, ReadPort
from acceltran.memory.queue import Queue
from acceltran.numeric.vector import Vector
from acceltran.sparsity.row_scanner import (
    PlacedVector,
    RowJob,
    RowScanner,
    check_row_parameters,
)

__all__ = ["RowStreamer"]


class RowStreamer(SharedComponent):
    """Turn each row job into the ``Scalar`` of every effectual element of the row, in order.

    Keep bits are scanned first, one vector per cycle and ahead of the values, across the ends of
    rows. A vector without effectual elements is neither read nor does it take a cycle of the
    output. Element ``k`` of vector ``v`` gives a scalar with ``row = tile_row + v * tile + k``;
    the first scalar of a job has ``first`` set, the last one ``last``, and all carry
    ``resume = not first``, ``final`` and ``context`` of the job. A job whose vectors are all zero
    gives one scalar with ``effectual = 0`` (value 0, the row of element 0 of the last vector). With
    more than one scalar per beat, ``scalars`` carries a ``ScalarBeat`` at a time: as many elements
    of one vector as there are, up to that number.

    Throughput is one scalar or beat per cycle, without a bubble between vectors or rows, while
    memory answers at once and the effectual elements in the queues (``depth`` vectors) last longer
    than a run of empty vectors.

    Golden model: ``acceltran_sim.golden.row_streamer.stream_row``, and ``beats_of`` it.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile, tile_rows, partial_sums : int
        As in ``RowScanner``.
    scalars_per_beat : int
        Elements that leave at a time; from 1 to ``tile``.
    depth : int
        Vectors whose keep bits, and vectors whose values, may be under way; at least 2. Full
        rate takes ``FULL_RATE_DEPTH`` more than the latency of the ports.

    Members
    -------
    jobs : ``In(stream.Signature(RowJob(tile_rows, partial_sums)))``
    masks : ``In(MaskReadPort(tile))``
        Of the buffer that holds the rows.
    values : ``In(ReadPort(fmt, tile))``
        Of the same buffer.
    scalars : ``Out(stream.Signature(scalar_layout(...)))``
    skipped : ``Out(1)``
        Strobe: a vector was found empty and is not read.
    busy : ``Out(1)``
        A job was taken whose last scalar has not been taken yet.
    """

    FULL_RATE_DEPTH = RowScanner.FULL_RATE_DEPTH

    jobs: stream.Interface
    masks: Any
    values: Any
    scalars: stream.Interface
    skipped: Signal
    busy: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        tile_rows: int,
        partial_sums: int,
        scalars_per_beat: int = 1,
        depth: int = 16,
    ):
        check_row_parameters(tile, tile_rows, partial_sums, depth)
        if not 1 <= scalars_per_beat <= tile:
            raise ValueError(
                f"Scalars per beat must be from 1 to the tile {tile}, not {scalars_per_beat!r}"
            )
        self.fmt = fmt
        self.tile = tile
        self.tile_rows = tile_rows
        self.partial_sums = partial_sums
        self.scalars_per_beat = scalars_per_beat
        self.depth = depth
        scalars = scalar_layout(
            fmt,
            tile=tile,
            tile_rows=tile_rows,
            partial_sums=partial_sums,
            scalars_per_beat=scalars_per_beat,
        )
        super().__init__({
            "jobs": In(stream.Signature(RowJob(tile_rows, partial_sums))),
            "masks": In(MaskReadPort(tile)),
            "values": In(ReadPort(fmt, tile)),
            "scalars": Out(stream.Signature(scalars)),
            "skipped": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        place_shape = PlacedVector(self.tile, self.tile_rows, self.partial_sums)

        # Every vector found takes a place in a queue; those with values are read as well. The queue
        # of what was read is as long, so that no answer finds it full.
        m.submodules.scanner = scanner = RowScanner(
            tile=self.tile,
            tile_rows=self.tile_rows,
            partial_sums=self.partial_sums,
            depth=self.depth,
        )
        m.submodules.places = places = Queue(shape=place_shape, depth=self.depth)
        m.submodules.read = read = Queue(shape=Vector(self.fmt, self.tile), depth=self.depth)
        wiring.connect(m, wiring.flipped(self.jobs), scanner.jobs)
        wiring.connect(m, wiring.flipped(self.masks), scanner.masks)
        found = scanner.vectors
        request = self.values.request
        accept = Signal()
        m.d.comb += [
            accept.eq(places.i.ready & (~request.valid | request.ready)),
            found.ready.eq(accept),
            places.i.valid.eq(found.valid & accept),
            places.i.payload.eq(found.payload),
            read.i.valid.eq(self.values.response.valid),
            read.i.payload.eq(self.values.response.vector),
            self.skipped.eq(scanner.skipped),
        ]
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(found.valid & accept):
            m.d.sync += [
                request.valid.eq(found.payload.effectual),
                request.payload.eq(found.payload.address),
            ]

        # Take vectors apart: ``lowest`` are the next elements, one-hot, ``others`` those after.
        # All are registers, so that neither the choice nor the selection chains with the other.
        loaded, fresh = Signal(), Signal()
        place = Signal(place_shape)
        values = Signal(data.ArrayLayout(signed(self.fmt.width), self.tile))
        places_per_beat = range(self.scalars_per_beat)
        lowest = [Signal(self.tile, name=f"lowest_{k}") for k in places_per_beat]
        others = Signal(self.tile)
        advance, finish, load = Signal(), Signal(), Signal()
        waiting, remaining = Signal(self.tile), Signal(self.tile)
        chosen = [Signal(self.tile, name=f"chosen_{k}") for k in places_per_beat]
        here = places.o.payload
        m.d.comb += [
            advance.eq(~self.scalars.valid | self.scalars.ready),
            finish.eq(advance & ~others.any()),
            load.eq((~loaded | finish) & places.o.valid & (read.o.valid | ~here.effectual)),
            places.o.ready.eq(load),
            read.o.ready.eq(load & here.effectual),
            waiting.eq(Mux(here.effectual, read.o.payload.keep, 0)),
            remaining.eq(Mux(load, waiting, others)),
        ]
        left: Value = remaining
        for choice in chosen:
            m.d.comb += choice.eq(left & _none_below(left))
            left = left & ~choice
        with m.If(load):
            m.d.sync += [
                loaded.eq(1),
                fresh.eq(1),
                place.eq(here),
                values.eq(read.o.payload.values),
            ]
        with m.Elif(advance):
            m.d.sync += [fresh.eq(0), loaded.eq(loaded & ~finish)]
        with m.If(load | advance):
            m.d.sync += [
                register.eq(choice) for register, choice in zip(lowest, chosen, strict=True)
            ]
            m.d.sync += others.eq(left)

        o = self.scalars.payload
        elements = [
            reduce(or_, (Mux(one[k], values[k], 0) for k in range(self.tile))) for one in lowest
        ]
        indices = [
            Cat(
                reduce(or_, (one[k] for k in range(self.tile) if k >> bit & 1))
                for bit in range(ceil_log2(self.tile))
            )
            for one in lowest
        ]
        with m.If(advance):
            m.d.sync += [
                self.scalars.valid.eq(loaded),
                o.row.eq(Cat(indices[0], place.block)),
                o.slot.eq(place.slot),
                o.effectual.eq(Cat(one.any() for one in lowest)),
                o.first.eq(place.first & fresh),
                o.resume.eq(place.resume),
                o.last.eq(place.last & ~others.any()),
                o.final.eq(place.final),
                o.context.eq(place.context),
            ]
            if self.scalars_per_beat == 1:
                m.d.sync += o.value.eq(elements[0])
            else:
                m.d.sync += [o.values.eq(Cat(elements)), o.index.eq(Cat(indices))]
        m.d.comb += self.busy.eq(scanner.busy | (places.level != 0) | loaded | self.scalars.valid)
        return m


def _none_below(bits: Value) -> Cat:
    """For each bit, whether all lower ones are 0."""
    return Cat(~bits[:k].any() for k in range(len(bits)))
