"""What a configuration says of its machine beyond its fields."""

import pytest

from acceltran.arch.config import MOST_STREAMS, AcceleratorConfig, Array, ConfigError, Datapath
from acceltran.arch.presets import PRESETS


@pytest.mark.parametrize(
    ("lanes", "streams"), [(1, 1), (3, 1), (4, 4), (6, 2), (12, 4), (64, 32), (128, 32)]
)
def test_streams(lanes, streams):
    """The largest power of two that divides the lanes, up to a limit."""
    assert AcceleratorConfig(array=Array(lanes=lanes)).streams == streams <= MOST_STREAMS


@pytest.mark.parametrize(
    ("multipliers", "lanes", "streams", "lane_multipliers"),
    [(16, 6, 2, 16), (32, 12, 4, 16), (4, 6, 2, 4), (1, 6, 2, 1)],
)
def test_multipliers(multipliers, lanes, streams, lane_multipliers):
    """A lane of the multipliers of two vectors is two lanes; one of fewer works in beats."""
    config = AcceleratorConfig(
        array=Array(lanes=6), datapath=Datapath(tile=16, multipliers=multipliers)
    )
    assert (config.lanes, config.streams) == (lanes, streams)
    assert config.lane_multipliers == lane_multipliers
    assert config.multipliers == 6 * multipliers


@pytest.mark.parametrize("settings", [{"lane": "dot"}, {"weight_window": 8}])
def test_narrow_lanes_are_broadcast_lanes(settings):
    with pytest.raises(ConfigError, match=r"^datapath\.multipliers must be at least"):
        AcceleratorConfig(datapath=Datapath(multipliers=8, **settings))


@pytest.mark.parametrize(("pes", "activation", "weight"), [(1, 2, 1), (4, 8, 4)])
def test_banks(pes, activation, weight):
    config = AcceleratorConfig(array=Array(pes=pes, pes_per_cluster=pes))
    assert (config.activation_banks, config.weight_banks) == (activation, weight)


@pytest.mark.parametrize(
    ("pes", "units", "width", "norm_width"),
    [(1, 1, 4, 4), (2, 1, 4, 8), (1, 3, 4, 8), (4, 2, 4, 16), (1, 3, 1, 2), (1, 1, 16, 16)],
)
def test_norm_width(pes, units, width, norm_width):
    """As many values as softmax takes, but a power of two that divides a vector."""
    array = Array(pes=pes, pes_per_cluster=pes, softmax_units=units, softmax_width=width)
    assert AcceleratorConfig(array=array).norm_width == norm_width


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fill_their_banks(name):
    """Every bank of a buffer holds the same number of vectors, and they fit the memory."""
    config = PRESETS[name]
    buffers = config.buffers
    banks = config.activation_banks * config.array.clusters
    assert config.activation_vectors % banks == 0
    assert config.weight_vectors % config.weight_banks == 0
    assert config.activation_vectors * config.vector_bits <= buffers.activation_kib * 8192
    assert config.weight_vectors * config.vector_bits <= buffers.weight_kib * 8192
    assert config.datapath.tile % config.norm_width == 0
