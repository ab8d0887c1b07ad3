"""A cluster between its buffers, which a bench fills and reads."""

from typing import Any

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from acceltran.arch.config import AcceleratorConfig
from acceltran.cluster import Cluster
from acceltran.memory.ports import BufferWrite, ReadPort
from acceltran.memory.vector_buffer import VectorBuffer

__all__ = ["ClusterWithBuffers"]


class ClusterWithBuffers(wiring.Component):
    """Cluster, activation buffer and weight buffer, with one more writer and reader for each bench.

    Parameters
    ----------
    config : AcceleratorConfig
        Of the machine that the cluster is of.

    Members
    -------
    activation_write, weight_write : ``In(stream.Signature(BufferWrite(fmt, tile)))``
    activation_read : ``Out(ReadPort(fmt, tile))``
    out_of_range : ``Out(1)``
    The orders, ``done``, counters and ``lanes`` of the cluster.
    """

    COUNTERS = (
        "issued",
        "effectual_products",
        "saturated",
        "skipped",
        "tile_load",
        "tile_reuse",
    )

    activation_write: stream.Interface
    weight_write: stream.Interface
    activation_read: Any
    out_of_range: Any
    orders: stream.Interface
    lanes: Any

    def __init__(self, *, config: AcceleratorConfig):
        self.config = config
        self._cluster = Cluster(config=config)
        fmt, tile = config.fmt, config.datapath.tile
        members = self._cluster.signature.members
        super().__init__({
            "activation_write": In(stream.Signature(BufferWrite(fmt, tile))),
            "weight_write": In(stream.Signature(BufferWrite(fmt, tile))),
            "activation_read": Out(ReadPort(fmt, tile)),
            "out_of_range": Out(1),
            **{name: members[name] for name in ("orders", "done", "lanes", *self.COUNTERS)},
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        pes, streams = config.array.pes_per_cluster, config.streams
        m.submodules.cluster = cluster = self._cluster
        loaders = len(cluster.tiles)
        m.submodules.activations = activations = VectorBuffer(
            fmt=config.fmt,
            tile=config.datapath.tile,
            depth=config.cluster_vectors,
            banks=config.activation_banks,
            spread=True,
            readers=loaders + streams + 1,
            writers=pes + 1,
            mask_readers=streams,
        )
        m.submodules.weights = weights = VectorBuffer(
            fmt=config.fmt,
            tile=config.datapath.tile,
            depth=config.weight_vectors,
            banks=config.weight_banks,
            readers=loaders,
            writers=1,
        )
        for ports, users in (
            (weights.reads, cluster.weights),
            (activations.reads, [*cluster.tiles, *cluster.values, flipped(self.activation_read)]),
            (activations.mask_reads, cluster.masks),
        ):
            for port, user in zip(ports, users, strict=True):
                connect(m, port, user)
        connect(m, flipped(self.activation_write), activations.writes[pes])
        connect(m, flipped(self.weight_write), weights.writes[0])
        for write, port in zip(cluster.writes, activations.writes[:pes], strict=True):
            connect(m, write, port)
        connect(m, flipped(self.orders), cluster.orders)
        m.d.comb += [cluster.rows_ready.eq(1), cluster.final_ready.eq(1)]
        for name in cluster.lanes.signature.members:
            m.d.comb += getattr(self.lanes, name).eq(getattr(cluster.lanes, name))
        m.d.comb += self.out_of_range.eq((activations.out_of_range | weights.out_of_range).any())
        for name in ("done", *self.COUNTERS):
            m.d.comb += getattr(self, name).eq(getattr(cluster, name))
        return m
