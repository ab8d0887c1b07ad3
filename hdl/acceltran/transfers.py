"""All that moves between DRAM and the buffers: AXI masters, loads, stores, command fetch."""

from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.commands import Opcode
from acceltran.arch.config import AcceleratorConfig
from acceltran.control.command_layout import command_layout
from acceltran.control.command_word import COMMAND_INDEX_WIDTH, CommandWord
from acceltran.distribution.leaf_reads import LeafReads
from acceltran.distribution.leaf_writes import LeafWrites
from acceltran.library import SharedComponent
from acceltran.memory.axi4 import ADDRESS_BITS, Axi4
from acceltran.memory.dma import Dma, DmaError
from acceltran.memory.load_splitter import LoadSplitter
from acceltran.memory.ports import BufferWrite, ReadPort

__all__ = ["Transfers"]


class Transfers(SharedComponent):
    """Fetch commands, and carry out LOAD and STORE between DRAM and the buffers of all clusters.

    Of several AXI masters, the first fetches commands and moves activations; all load weights, see
    ``LoadSplitter``. A LOAD is done when its vectors have been taken by the buffer.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine.

    Members
    -------
    start, program, commands, fetch_done, fetched, region_first, region_last, stop, quiet
        See ``Dma``.
    load, load_done, store, store_done
        Commands, in order, and strobes: the oldest is done.
    weights : ``Out(stream.Signature(BufferWrite(fmt, tile))).array(axi_masters)``
        Loads of weights.
    activations : ``Out(stream.Signature(BufferWrite(fmt, tile)))``
        Loads of activations; an address is ``cluster << cluster_address_bits | address``.
    activations_busy : ``In(1)``
        Some of them are on their way.
    results : ``In(ReadPort(fmt, tile))``
        Activations to store; addresses as above.
    load_outside, store_outside : ``Out(1)``
        Strobes: a load or store named a cluster that does not exist.
    fetch_error, load_error, store_error : ``Out(DmaError())``
    fetch_error_index : ``Out(COMMAND_INDEX_WIDTH)``
        Command that could not be fetched.
    read_bytes, write_bytes : ``Out``
        Bytes that crossed the buses; see ``Dma``.
    axi : ``Out(Axi4(axi_data_bits)).array(axi_masters)``
    """

    start: Signal
    program: Signal
    commands: Signal
    fetch_done: Signal
    fetched: stream.Interface
    region_first: Signal
    region_last: Signal
    stop: Signal
    quiet: Signal
    load: stream.Interface
    load_done: Signal
    store: stream.Interface
    store_done: Signal
    weights: list[stream.Interface]
    activations: stream.Interface
    activations_busy: Signal
    results: Any
    load_outside: Signal
    store_outside: Signal
    fetch_error: Any
    load_error: Any
    store_error: Any
    fetch_error_index: Signal
    read_bytes: Signal
    write_bytes: Signal
    axi: list[Any]

    def __init__(self, *, config: AcceleratorConfig):
        self.config = config
        fmt, tile = config.fmt, config.datapath.tile
        masters, data_bits = config.memory.axi_masters, config.memory.axi_data_bits
        writes = stream.Signature(BufferWrite(fmt, tile))
        super().__init__({
            "start": In(1),
            "program": In(ADDRESS_BITS),
            "commands": In(COMMAND_INDEX_WIDTH),
            "fetch_done": Out(1),
            "fetched": Out(stream.Signature(CommandWord())),
            "region_first": In(ADDRESS_BITS),
            "region_last": In(ADDRESS_BITS),
            "stop": In(1),
            "quiet": Out(1),
            "load": In(stream.Signature(command_layout(Opcode.LOAD))),
            "load_done": Out(1),
            "store": In(stream.Signature(command_layout(Opcode.STORE))),
            "store_done": Out(1),
            "weights": Out(writes).array(masters),
            "activations": Out(writes),
            "activations_busy": In(1),
            "results": In(ReadPort(fmt, tile)),
            "load_outside": Out(1),
            "store_outside": Out(1),
            "fetch_error": Out(DmaError()),
            "load_error": Out(DmaError()),
            "store_error": Out(DmaError()),
            "fetch_error_index": Out(COMMAND_INDEX_WIDTH),
            "read_bytes": Out(range(masters * data_bits // 8 + 1)),
            "write_bytes": Out(range(masters * data_bits // 8 + 1)),
            "axi": Out(Axi4(data_bits)).array(masters),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        shape = {"fmt": config.fmt, "tile": config.datapath.tile}
        masters = [Dma(**shape, data_bits=config.memory.axi_data_bits) for _ in self.axi]
        for n, (master, axi) in enumerate(zip(masters, self.axi, strict=True)):
            m.submodules[f"master{n}"] = master
            for name, member in axi.signature.members.items():
                inner, outer = getattr(master.axi, name), getattr(axi, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
            connect(m, master.weight, flipped(self.weights[n]))
            m.d.comb += [
                master.region_first.eq(self.region_first),
                master.region_last.eq(self.region_last),
                master.stop.eq(self.stop),
            ]
            with m.If(master.load_error.valid):
                m.d.comb += [
                    self.load_error.valid.eq(1),
                    self.load_error.cause.eq(master.load_error.cause),
                ]
        first = masters[0]
        connect(m, flipped(self.fetched), first.fetched)
        connect(m, flipped(self.store), first.store)
        m.d.comb += [
            first.start.eq(self.start),
            first.program.eq(self.program),
            first.commands.eq(self.commands),
            self.fetch_done.eq(first.fetch_done),
            self.fetch_error_index.eq(first.fetch_error_index),
            self.store_done.eq(first.store_done),
            self.quiet.eq(Cat(master.quiet for master in masters).all()),
            self.read_bytes.eq(sum((master.read_bytes for master in masters), start=0)),
            self.write_bytes.eq(sum((master.write_bytes for master in masters), start=0)),
            *(
                Value.cast(getattr(getattr(self, f"{name}_error"), member)).eq(
                    getattr(getattr(first, f"{name}_error"), member)
                )
                for name in ("fetch", "store")
                for member in ("valid", "cause")
            ),
        ]
        self._load(m, masters)
        return m

    def _load(self, m: Module, masters: list[Dma]) -> None:
        first = masters[0]
        done = Signal()
        if len(masters) == 1:
            connect(m, flipped(self.load), first.load)
            m.d.comb += done.eq(first.load_done)
        else:
            m.submodules.splitter = splitter = LoadSplitter(
                masters=len(masters), vector_bytes=self.config.vector_bytes
            )
            connect(m, flipped(self.load), splitter.i)
            for master, part in zip(masters, splitter.parts, strict=True):
                connect(m, part, master.load)
            m.d.comb += [
                splitter.part_done.eq(Cat(master.load_done for master in masters)),
                done.eq(splitter.done),
            ]

        leaves = {
            "fmt": self.config.fmt,
            "tile": self.config.datapath.tile,
            "leaves": self.config.array.clusters,
            "address_bits": self.config.cluster_address_bits,
        }
        m.submodules.writes = writes = LeafWrites(**leaves)
        m.submodules.reads = reads = LeafReads(**leaves)
        connect(m, first.activation, writes.i)
        connect(m, reads.port, first.port)
        connect(m, writes.o, flipped(self.activations))
        connect(m, reads.leaf_port, flipped(self.results))
        # A load is done when all it has brought has arrived.
        brought = Signal(range(LoadSplitter.UNDER_WAY + 1))
        m.d.comb += [
            self.load_done.eq(((brought != 0) | done) & ~self.activations_busy),
            self.load_outside.eq(writes.out_of_range),
            self.store_outside.eq(reads.out_of_range),
        ]
        m.d.sync += brought.eq(brought + done - self.load_done)
