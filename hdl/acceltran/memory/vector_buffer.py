"""On-chip buffer of vectors, in banks."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from acceltran.arch.fixed_point import FixedPoint
from acceltran.library import SharedComponent
from acceltran.memory.buffer_bank import BufferBank
from acceltran.memory.ports import ADDRESS_WIDTH, BufferWrite, MaskReadPort, ReadPort
from acceltran.memory.round_robin import RoundRobin
from acceltran.numeric.one_hot_mux import OneHotMux
from acceltran.numeric.vector import Vector

__all__ = ["VectorBuffer"]


class VectorBuffer(SharedComponent):
    """Vectors and their keep bits in ``banks`` banks, shared by readers and writers.

    The low bits of an address are the bank; where ``spread``, the highest of them is changed by
    the parity of the ``SPREAD_BITS`` bits above, so that the same vector of successive rows lies in
    two banks in turn even if rows are a power of two apart. Each cycle every bank serves one
    reader, one mask reader and one writer, each kind in turn, but for those that are preferred or
    urgent; different banks work in parallel. A
    read that is taken in a later cycle than a write sees it. Keep bits of a read vector are
    ``value != 0``, which is what a vector's keep bits say by definition; the stored ones are for
    mask readers.

    A read is answered ``READ_LATENCY`` cycles after its request was taken. At and beyond ``depth``
    a read answers zero and a write is dropped.

    Parameters
    ----------
    fmt : FixedPoint
        Format of one element.
    tile : int
        Elements per vector; at least 1.
    depth : int
        Vectors of all banks together; a multiple of ``banks``, at least two per bank.
    banks : int
        Number of banks; a power of two.
    spread : bool
        Spread rows over banks; takes at least 2 banks.
    readers, writers, mask_readers : int
        Number of ports of each kind; at least 1, 1 and 0.
    preferred : int
        Readers, the first ones, that come before others; they take turns among themselves. Default:
        none.
    urgent : int
        Writers, the first ones, that never wait; no two of them may write to a bank at a time.

    Members
    -------
    reads : ``Out(ReadPort(fmt, tile)).array(readers)``
    mask_reads : ``Out(MaskReadPort(tile)).array(mask_readers)``
    writes : ``In(stream.Signature(BufferWrite(fmt, tile))).array(writers)``
    out_of_range : ``Out(readers + mask_readers + writers)``
        One bit per port, in this order: an access at or beyond ``depth`` was taken in the cycle
        before.
    read_count, write_count : ``Out(range(...))``
        Vectors whose values were read, and vectors written; taken in the cycle before.
    """

    SPREAD_BITS = 4
    READ_LATENCY = 1 + BufferBank.LATENCY + 1

    reads: list[Any]
    mask_reads: list[Any]
    writes: list[stream.Interface]
    out_of_range: Signal
    read_count: Signal
    write_count: Signal

    def __init__(
        self,
        *,
        fmt: FixedPoint,
        tile: int,
        depth: int,
        banks: int,
        spread: bool = False,
        readers: int,
        writers: int,
        mask_readers: int = 0,
        preferred: int = 0,
        urgent: int = 0,
    ):
        if banks < 1 or banks & (banks - 1):
            raise ValueError(f"Number of banks must be a power of two, not {banks!r}")
        if spread and banks < 2:
            raise ValueError(f"Number of banks to spread over must be at least 2, not {banks!r}")
        if depth < 2 * banks or depth % banks:
            raise ValueError(
                f"Buffer depth must be a multiple of {banks} banks and at least two each,"
                f" not {depth!r}"
            )
        if depth > 1 << ADDRESS_WIDTH:
            raise ValueError(
                f"Buffer depth must be at most {1 << ADDRESS_WIDTH} vectors, not {depth!r}"
            )
        if readers < 1:
            raise ValueError(f"Number of readers must be at least 1, not {readers!r}")
        if writers < 1:
            raise ValueError(f"Number of writers must be at least 1, not {writers!r}")
        if mask_readers < 0:
            raise ValueError(f"Number of mask readers must not be negative, not {mask_readers!r}")
        if not 0 <= preferred <= readers:
            raise ValueError(
                f"Number of preferred readers must be at most {readers} readers, not {preferred!r}"
            )
        if not 0 <= urgent < writers:
            raise ValueError(
                f"Number of urgent writers must be less than {writers} writers, not {urgent!r}"
            )
        self.fmt = fmt
        self.tile = tile
        self.depth = depth
        self.banks = banks
        self.spread = spread
        self.readers = readers
        self.writers = writers
        self.mask_readers = mask_readers
        self.preferred = preferred
        self.urgent = urgent
        super().__init__({
            "reads": Out(ReadPort(fmt, tile)).array(readers),
            "mask_reads": Out(MaskReadPort(tile)).array(mask_readers),
            "writes": In(stream.Signature(BufferWrite(fmt, tile))).array(writers),
            "out_of_range": Out(readers + mask_readers + writers),
            "read_count": Out(bits_for(readers)),
            "write_count": Out(bits_for(writers)),
        })

    def elaborate(self, platform):
        m = Module()
        bank_bits = ceil_log2(self.banks)
        outside: list[Signal] = []
        banks = [
            BufferBank(fmt=self.fmt, tile=self.tile, depth=self.depth // self.banks)
            for _ in range(self.banks)
        ]
        for n, bank in enumerate(banks):
            m.submodules[f"bank{n}"] = bank

        def bank_of(address):
            bank = address[:bank_bits]
            if self.spread:
                above = address[bank_bits : bank_bits + self.SPREAD_BITS]
                bank = Cat(bank[:-1], bank[-1] ^ above.xor())
            return bank

        def arbitrate(
            kind: str, requests: list, addresses: list, urgent: int = 0, preferred: int = 0
        ) -> tuple[list, Signal]:
            """Grants per bank, and which of the requesters' addresses exist."""
            inside = Signal(len(requests), name=f"{kind}_inside")
            grants = []
            choices = [Signal(self.banks, name=f"{kind}{n}_bank") for n in range(len(requests))]
            m.d.comb += [
                choice.eq(Mux(request.valid, Const(1) << bank_of(address), 0))
                for choice, request, address in zip(choices, requests, addresses, strict=True)
            ]
            for bank in range(self.banks):
                arbiter = RoundRobin(count=len(requests) - urgent)
                m.submodules[f"{kind}_arbiter{bank}"] = arbiter
                wanted = Signal(len(requests), name=f"{kind}_wanted{bank}")
                m.d.comb += wanted.eq(Cat(choice[bank] for choice in choices))
                first, before = wanted[:urgent], wanted[urgent : urgent + preferred]
                others = Mux(before.any(), before, wanted[urgent:])
                m.d.comb += arbiter.requests.eq(Mux(first.any(), 0, others))
                grants.append(Cat(first, arbiter.grant))
            taken = Signal(len(requests), name=f"{kind}_taken")
            m.d.comb += [
                taken.eq(reduce(or_, grants)),
                inside.eq(Cat(address < self.depth for address in addresses)),
                *(request.ready.eq(taken[n]) for n, request in enumerate(requests)),
            ]
            strobe = Signal(len(requests), name=f"{kind}_outside")
            m.d.sync += strobe.eq(taken & ~inside)
            outside.append(strobe)
            return grants, inside

        def select(grant, payloads: Value, name: str) -> Signal:
            count = len(grant)
            m.submodules[name] = mux = OneHotMux(width=len(payloads) // count, count=count)
            m.d.comb += [mux.select.eq(grant), mux.values.eq(payloads)]
            return mux.o

        def read(
            kind: str, ports: list, enables: list, rows: list, outputs: list, preferred: int = 0
        ) -> list:
            """Wire up the read ports of one kind; returns what each is answered."""
            addresses = [port.request.payload for port in ports]
            inner_addresses = Cat(address[bank_bits:] for address in addresses)
            requests = [port.request for port in ports]
            grants, inside = arbitrate(kind, requests, addresses, preferred=preferred)
            source = [
                [Signal(len(ports), name=f"{kind}{bank}_source{k}") for bank in range(self.banks)]
                for k in range(self.READ_LATENCY - 1)
            ]
            for bank, grant in enumerate(grants):
                m.d.sync += [
                    source[0][bank].eq(grant & inside),
                    enables[bank].eq((grant & inside).any()),
                    rows[bank].eq(select(grant, inner_addresses, f"{kind}_row{bank}")),
                ]
                for before, after in zip(source, source[1:], strict=False):
                    m.d.sync += after[bank].eq(before[bank])
            answers = []
            for n, port in enumerate(ports):
                busy = Signal(self.READ_LATENCY - 1, name=f"{kind}{n}_busy")
                taken = port.request.valid & port.request.ready
                m.d.sync += Cat(busy, port.response.valid).eq(Cat(taken, busy))
                select_bank = Cat(word[n] for word in source[-1])
                answers.append(select(select_bank, Cat(outputs), f"{kind}{n}_answer"))
            return answers

        # The commands of a bank are registered before they reach its memories.
        bank_inputs: dict[str, list[Signal]] = {}
        kinds = ("", "mask_") if self.mask_readers else ("",)
        for name in (f"{kind}read_{what}" for kind in kinds for what in ("enable", "row")):
            bank_inputs[name] = [Signal.like(getattr(bank, name)) for bank in banks]
            for bank, register in zip(banks, bank_inputs[name], strict=True):
                m.d.comb += getattr(bank, name).eq(register)

        answers = read(
            "read",
            self.reads,
            bank_inputs["read_enable"],
            bank_inputs["read_row"],
            [bank.values.as_value() for bank in banks],
            preferred=self.preferred,
        )
        for port, answer in zip(self.reads, answers, strict=True):
            elements = [answer.word_select(k, self.fmt.width) for k in range(self.tile)]
            m.d.sync += [
                port.response.vector.values.eq(answer),
                port.response.vector.keep.eq(Cat(element.any() for element in elements)),
            ]
        if self.mask_readers:
            answers = read(
                "mask_read",
                self.mask_reads,
                bank_inputs["mask_read_enable"],
                bank_inputs["mask_read_row"],
                [bank.keep for bank in banks],
            )
            for port, answer in zip(self.mask_reads, answers, strict=True):
                m.d.sync += port.response.keep.eq(answer)

        addresses = [write.payload.address for write in self.writes]
        payloads = Cat(Value.cast(write.payload)[bank_bits:] for write in self.writes)
        grants, inside = arbitrate("write", self.writes, addresses, self.urgent)
        for number, (bank, grant) in enumerate(zip(banks, grants, strict=True)):
            enable, row = Signal(), Signal.like(bank.write_row)
            vector = Signal(Vector(self.fmt, self.tile))
            chosen = select(grant, payloads, f"write{number}")
            m.d.sync += [
                enable.eq((grant & inside).any()),
                row.eq(chosen),
                Value.cast(vector).eq(chosen[ADDRESS_WIDTH - bank_bits :]),
            ]
            m.d.comb += [
                bank.write_enable.eq(enable),
                bank.write_row.eq(row),
                bank.write_values.eq(vector.values),
                bank.write_keep.eq(vector.keep),
            ]

        m.d.comb += self.out_of_range.eq(Cat(outside))
        for count, ports in (
            (self.read_count, [port.request for port in self.reads]),
            (self.write_count, self.writes),
        ):
            m.d.sync += count.eq(sum((port.valid & port.ready for port in ports), start=0))
        return m
