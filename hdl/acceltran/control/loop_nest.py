"""Walk the tiles of a matrix product."""

from functools import reduce
from operator import and_

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from acceltran.arch.commands import ADDRESS, COUNT, LOOPS, OperandSource
from acceltran.control.product_command import ProductCommand
from acceltran.control.tile import Tile
from acceltran.library import SharedComponent

__all__ = ["LoopNest"]


class LoopNest(SharedComponent):
    """Turn a product command into its tiles, in the order of loops that the command names.

    Loops: b over batches; i over tiles of ``row_tile`` rows; j over column passes of
    ``lanes / streams`` words, from word ``c_first // banks``; k over chunks of ``inner_tile``
    vectors of the inner dimension. A tile reloads unless (j, k) and, where ``b_batch_stride`` is
    not 0, b are those of the tile before; the first tile of a command does unless ``reuse_tile``.
    Slots begin at ``first_slot`` and count up by ``ceil(row_tile / streams)`` per tile visited
    inside the k loop. Loops go over all ``rows``; a tile's rows are those of them that are valid,
    or none.

    The command must be legal: batches, rows, columns, inner_vectors, row_tile and inner_tile at
    least 1, streams one of ``1, 2, 4 ... streams``, the order a permutation of the four loops.
    Addresses are modulo ``2 ** ADDRESS``.

    Latency: ``LATENCY`` cycles from command to first tile; ``TILE_CYCLES`` from taking a tile to
    the offer of the next. The next command is accepted from the cycle after its predecessor's last
    tile was taken.

    Golden model: ``acceltran_sim.golden.loop_nest.tiles``.

    Parameters
    ----------
    banks : int
        PEs of the cluster; a power of two.
    ports : int
        Tile ports of a PE; a power of two.
    lanes : int
        Lanes per PE; at least 1.
    streams : int
        Most streams of a command; a power of two that divides ``lanes``.
    tile : int
        Elements of a vector; a power of two.

    Members
    -------
    place : ``In(range(banks * ports))``
        Column vector that ``b_address`` is asked for, counted from the first word of the tile.
    command : ``In(stream.Signature(ProductCommand()))``
        Products.
    tiles : ``Out(stream.Signature(Tile(lanes)))``
        Their tiles.
    """

    LATENCY = 12
    TILE_CYCLES = 3

    place: Signal
    command: stream.Interface
    tiles: stream.Interface

    def __init__(self, *, banks: int, ports: int, lanes: int, streams: int, tile: int):
        if banks < 1 or banks & (banks - 1):
            raise ValueError(f"Number of banks must be a power of two, not {banks!r}")
        if ports < 1 or ports & (ports - 1):
            raise ValueError(f"Number of ports must be a power of two, not {ports!r}")
        if lanes < 1:
            raise ValueError(f"Number of lanes must be at least 1, not {lanes!r}")
        if streams < 1 or streams & (streams - 1) or lanes % streams:
            raise ValueError(
                f"Number of streams must be a power of two that divides {lanes} lanes,"
                f" not {streams!r}"
            )
        if tile < 1 or tile & (tile - 1):
            raise ValueError(f"Vector size must be a power of two, not {tile!r}")
        self.banks = banks
        self.ports = ports
        self.lanes = lanes
        self.streams = streams
        self.tile = tile
        super().__init__({
            "place": In(range(banks * ports)),
            "command": In(stream.Signature(ProductCommand())),
            "tiles": Out(stream.Signature(Tile(lanes))),
        })

    def elaborate(self, platform):
        m = Module()
        command = Signal(ProductCommand())
        tile: data.View = self.tiles.payload
        m.d.comb += tile.command.eq(command)

        bank_bits, tile_bits = (self.banks - 1).bit_length(), (self.tile - 1).bit_length()
        bank = command.c_first[:bank_bits]
        # From the first column of C to `place` in the first word.
        before, distance = Signal(), Signal.like(self.place)
        m.d.comb += [
            before.eq(self.place < bank if bank_bits else 0),
            distance.eq(Mux(before, bank - self.place, self.place - bank)),
        ]
        transposed = Signal()
        batched = Signal()

        # Strides of the tile loops. One multiplier, in two stages, computes those that are
        # products, while the command is set up.
        a_row_step, c_row_step, b_inner_step, b_column_step, b_column_start = (
            Signal(ADDRESS, name=f"{name}_step")
            for name in ("a_row", "c_row", "b_inner", "b_column", "b_start")
        )
        phase = Signal(4)
        # The lanes of a PE are shared among the streams, and so is the number of rows of a tile.
        pass_words = Signal(bits_for(self.lanes))
        slot_step = Signal(COUNT)
        for bits in range(ceil_log2(self.streams) + 1):
            with m.If(command.streams == 1 << bits):
                m.d.sync += [
                    pass_words.eq(self.lanes >> bits),
                    slot_step.eq((command.row_tile + ((1 << bits) - 1)) >> bits),
                ]
        mul_x, mul_y, mul_low, mul_high, product = (
            Signal(width, name=name)
            for name, width in (
                ("mul_x", COUNT),
                ("mul_y", COUNT),
                ("mul_low", COUNT + COUNT // 2),
                ("mul_high", COUNT + COUNT // 2),
                ("product", ADDRESS),
            )
        )
        operands = [
            (command.row_tile, command.a_row_stride),
            (command.row_tile, command.c_row_stride),
            (command.inner_tile, command.b_row_stride),
            (pass_words, command.b_row_stride),
            (distance, command.b_row_stride),
        ]
        shifted = product << tile_bits
        start_step = Mux(transposed, shifted, distance)
        results = [
            a_row_step.eq(product),
            c_row_step.eq(product),
            b_inner_step.eq(Mux(transposed, command.inner_tile, shifted)),
            b_column_step.eq(Mux(transposed, shifted, pass_words) << bank_bits),
            b_column_start.eq(Mux(before, -start_step, start_step)),
        ]
        delay = 3
        with m.Switch(phase):
            for n, (x, y) in enumerate(operands):
                with m.Case(n):
                    m.d.sync += [mul_x.eq(x), mul_y.eq(y)]
        with m.Switch(phase):
            for n, result in enumerate(results):
                with m.Case(n + delay):
                    m.d.sync += result
        column_end = Signal(COUNT + 1)
        word_end = Signal(COUNT + 1)
        half = COUNT // 2
        m.d.sync += [
            mul_low.eq(mul_x * mul_y[:half]),
            mul_high.eq(mul_x * mul_y[half:]),
            product.eq(mul_low + (mul_high << half)),
            transposed.eq(command.b_source == OperandSource.ACTIVATION_TRANSPOSED),
            batched.eq(command.b_batch_stride != 0),
            column_end.eq(command.c_first + command.columns),
            word_end.eq((column_end + (self.banks - 1)) >> bank_bits),
        ]

        # Where the loops stand: what each contributes to the addresses.
        a_batch, a_row, b_batch, b_inner, b_column, c_batch, c_row = (
            Signal(ADDRESS, name=name)
            for name in ("a_batch", "a_row", "b_batch", "b_inner", "b_column", "c_batch", "c_row")
        )
        word_start = command.c_first[bank_bits:]
        loops = {  # register: start, step
            "b": [
                (tile.batch, 0, 1),
                (a_batch, command.a_base, command.a_batch_stride),
                (b_batch, command.b_base, command.b_batch_stride),
                (c_batch, command.c_base, command.c_batch_stride),
            ],
            "i": [
                (tile.row_first, 0, command.row_tile),
                (a_row, 0, a_row_step),
                (c_row, 0, c_row_step),
            ],
            "j": [(tile.word, word_start, pass_words), (b_column, b_column_start, b_column_step)],
            "k": [(tile.inner_first, 0, command.inner_tile), (b_inner, 0, b_inner_step)],
        }
        at_first, at_last, inside, step = {}, {}, {}, {}
        order = [command.order0, command.order1, command.order2, command.order3]
        for loop, code in zip(LOOPS, range(len(LOOPS)), strict=True):
            at_first[loop] = Signal(name=f"{loop}_at_first")
            at_last[loop] = Signal(name=f"{loop}_at_last")
            step[loop] = Signal(name=f"{loop}_step")
            inside[loop] = Signal(len(LOOPS), name=f"inside_{loop}")
            # inside[loop][other]: the loop `other` runs inside `loop`.
            for position, outer in enumerate(order[:-1]):
                with m.If(outer == code):
                    m.d.sync += inside[loop].eq(
                        Cat(
                            reduce(lambda a, b: a | b, [x == other for x in order[position + 1 :]])
                            for other in range(len(LOOPS))
                        )
                    )
            with m.If(order[-1] == code):
                m.d.sync += inside[loop].eq(0)
        for loop in LOOPS:
            m.d.comb += step[loop].eq(
                (~inside[loop] | Cat(at_last[other] for other in LOOPS)).all()
            )

        def start(loop: str) -> list:
            return [
                at_first[loop].eq(1),
                *(register.eq(first) for register, first, _ in loops[loop]),
            ]

        def advance(loop: str) -> list:
            return [
                at_first[loop].eq(0),
                *(register.eq(register + stride) for register, _, stride in loops[loop]),
            ]

        batches_left, rows_left, inner_left, words_left = (
            Signal(COUNT + 1, name=f"{name}_left") for name in ("batches", "rows", "inner", "words")
        )
        valid_left = Signal(signed(COUNT + 1))
        a_sum, b_sum, c_sum = (Signal(ADDRESS, name=f"{name}_sum") for name in "abc")
        changed = {loop: step[loop] & ~(at_first[loop] & at_last[loop]) for loop in LOOPS}
        last_tile = reduce(and_, at_last.values())

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += phase.eq(0)
                with m.If(self.command.valid):
                    m.d.sync += command.eq(self.command.payload)
                    m.next = "SETUP"
            with m.State("SETUP"):
                m.d.sync += phase.eq(phase + 1)
                with m.If(phase == delay + len(results)):
                    m.d.sync += [
                        tile.reload.eq(~command.reuse_tile),
                        tile.slot_base.eq(command.first_slot),
                    ]
                    for loop in LOOPS:
                        m.d.sync += start(loop)
                    m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += [
                    batches_left.eq(command.batches - tile.batch),
                    rows_left.eq(command.rows - tile.row_first),
                    valid_left.eq(command.valid_rows - tile.row_first),
                    words_left.eq(word_end - tile.word),
                    inner_left.eq(command.inner_vectors - tile.inner_first),
                    a_sum.eq(a_batch + a_row),
                    b_sum.eq(b_batch + b_inner),
                    c_sum.eq(c_batch + c_row),
                ]
                m.next = "COMPARE"
            with m.State("COMPARE"):
                for loop, left, limit, count in (
                    ("b", batches_left, 1, None),
                    ("i", rows_left, command.row_tile, None),
                    ("j", words_left, pass_words, tile.word_count),
                    ("k", inner_left, command.inner_tile, tile.inner_count),
                ):
                    fits = Signal(name=f"{loop}_fits")
                    m.d.comb += fits.eq(left <= limit)
                    m.d.sync += at_last[loop].eq(fits)
                    if count is not None:
                        m.d.sync += count.eq(Mux(fits, left, limit))
                m.d.sync += [
                    tile.row_count.eq(
                        Mux(
                            valid_left < 0,
                            0,
                            Mux(valid_left <= command.row_tile, valid_left, command.row_tile),
                        )
                    ),
                    tile.a_address.eq(a_sum + tile.inner_first),
                    tile.b_address.eq(b_sum + b_column),
                    tile.c_address.eq(c_sum + (tile.word << bank_bits)),
                ]
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.tiles.valid.eq(1)
                with m.If(self.tiles.ready):
                    m.d.sync += tile.reload.eq(
                        changed["j"] | changed["k"] | (changed["b"] & batched)
                    )
                    m.d.sync += tile.slot_base.eq(
                        Mux(
                            step["k"] | (tile.first & tile.final),
                            command.first_slot,
                            tile.slot_base + slot_step,
                        )
                    )
                    for loop in LOOPS:
                        with m.If(step[loop]):
                            with m.If(at_last[loop]):
                                m.d.sync += start(loop)
                            with m.Else():
                                m.d.sync += advance(loop)
                    m.next = "SUM"
                    with m.If(last_tile):
                        m.next = "IDLE"

        m.d.comb += [
            tile.last_chunk.eq(at_last["k"]),
            tile.first.eq(at_first["k"] & ~command.resume_sums),
            tile.final.eq(at_last["k"] & ~command.keep_sums),
            tile.last_tile.eq(last_tile),
        ]
        return m
