"""Named configurations, one sentence each."""

from acceltran.arch.config import (
    AcceleratorConfig,
    Array,
    Buffers,
    ConfigError,
    Datapath,
    Limits,
    Memory,
)

__all__ = ["DESCRIPTIONS", "PRESETS", "preset"]

TINY = AcceleratorConfig()

TINY2 = TINY.replace(array={"pes": 2, "pes_per_cluster": 2})

MEDIUM = AcceleratorConfig(
    array=Array(pes=4, lanes=8, pes_per_cluster=4, softmax_units=2, softmax_width=4),
    datapath=Datapath(partial_sums=32),
    buffers=Buffers(activation_kib=2048, weight_kib=2048, mask_kib=384),
    memory=Memory(axi_data_bits=256),
    limits=Limits(inner=3072, sequence=512, hidden=1024),
)

EDGE = AcceleratorConfig(
    array=Array(pes=64, lanes=16, pes_per_cluster=4, softmax_units=4, softmax_width=2),
    datapath=Datapath(partial_sums=8),
    buffers=Buffers(activation_kib=4096, weight_kib=8192, mask_kib=1024),
    memory=Memory(axi_data_bits=512),
    limits=Limits(inner=4096, sequence=1024, hidden=1024),
)

SERVER = AcceleratorConfig(
    array=Array(pes=512, lanes=32, pes_per_cluster=8, softmax_units=32, softmax_width=1),
    datapath=Datapath(partial_sums=8),
    buffers=Buffers(activation_kib=32768, weight_kib=65536, mask_kib=8192),
    memory=Memory(axi_data_bits=1024, axi_masters=4),
    limits=Limits(inner=4096, sequence=1024, hidden=1024),
)

PRESETS = {"tiny": TINY, "tiny2": TINY2, "medium": MEDIUM, "edge": EDGE, "server": SERVER}

DESCRIPTIONS = {
    "tiny": "One PE of 4 lanes: the smallest machine that runs a whole encoder.",
    "tiny2": "Two PEs in one cluster: the smallest machine whose columns are distributed.",
    "medium": "One cluster of 4 PEs with 8 lanes each: a mid-size FPGA.",
    "edge": "The paper's AccelTran-Edge: 64 PEs of 16 lanes in 16 clusters.",
    "server": "The paper's AccelTran-Server: 512 PEs of 32 lanes in 64 clusters.",
}


def preset(name: str) -> AcceleratorConfig:
    """Look up a preset; ConfigError names the known ones."""
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, not {name}")
    return PRESETS[name]
