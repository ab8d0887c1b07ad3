# amaranth: UnusedElaboratable=no
"""LaneAccounts against a model of every single lane."""

import random
from collections import Counter, deque

import cocotb
import pytest

from acceltran.control.lane_accounts import LANE_CAUSES, LaneAccounts
from testbench.harness.simulate import parameters, simulate, start

NAMES = ("busy", *LANE_CAUSES)
REASONS = (
    ("waits_for_half", "tile"),
    ("waits_for_results", "sums"),
    ("working", "control"),
    ("waits_for_semaphore", "semaphores"),
    ("dealt", "balance"),
)
"""Why a stream has no row, and what is charged; the first one counts."""
ISSUED_LATENCY = 2


@pytest.mark.parametrize(
    ("lanes", "streams", "pes", "hold"),
    [(4, 4, 1, False), (6, 2, 4, False), (3, 1, 2, False), (4, 2, 2, True)],
)
def test_lane_accounts(lanes, streams, pes, hold, request):
    array = {"lanes": lanes, "streams": streams, "pes": pes, "lanes_hold_scalars": hold}
    simulate(
        LaneAccounts(**array),
        bench=__name__,
        parameters=array,
        seed=request.config.getoption("seed"),
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lanes": 0}, "Number of lanes must be at least 1, not 0"),
        ({"streams": 3}, "Number of streams must be a power of two that divides 4 lanes, not 3"),
        ({"streams": 8}, "Number of streams must be a power of two that divides 4 lanes, not 8"),
        ({"pes": 0}, "Number of PEs must be at least 1, not 0"),
    ],
)
def test_rejects(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LaneAccounts(**{"lanes": 4, "streams": 2, "pes": 1, **wrong})


# What follows runs inside the simulator, once for each parametrisation of test_lane_accounts.


def random_inputs(count, words):
    """What a cluster may say of a cycle, with ``count`` streams and ``words`` words with a column.

    The words are those of all PEs together.
    """
    streams = parameters()["streams"]
    active = (1 << count) - 1
    valid = random.getrandbits(streams) & random.getrandbits(streams) & active
    taken = valid & random.getrandbits(streams)
    return {
        "stream_count": count,
        "enabled": words * count,
        "valid": valid,
        "taken": taken,
        "loading": valid & ~taken & random.getrandbits(streams),
        "effectual": random.getrandbits(streams),
        "early": random.getrandbits(streams) & random.getrandbits(streams) & ~valid,
        "streaming": random.getrandbits(streams) & random.getrandbits(streams),
        **{name: int(random.random() < 0.3) for name, _ in REASONS},
    }


def charge(given, stream, has_column):
    """What a lane of ``stream`` is charged to, or None."""

    def bit(name):
        return given[name] >> stream & 1

    if bit("valid"):
        if not bit("taken"):
            return "tile" if bit("loading") else "sums"
        if not bit("effectual"):
            return "operand"
        return "busy" if has_column else "columns"
    if bit("early"):
        return "balance"
    if bit("streaming"):
        return "operand"
    return next((cause for name, cause in REASONS if given[name]), None)


def model(given):
    """Lanes by what they are charged to, where lanes issue what they take."""
    lanes, pes, count = parameters()["lanes"], parameters()["pes"], given["stream_count"]
    charged = Counter()
    if count:
        with_column = given["enabled"] // count  # lanes of each stream
        for lane in range(lanes * pes):
            number, stream = divmod(lane, count)
            charged[charge(given, stream, number < with_column)] += 1
    return [charged[name] for name in NAMES]


def share_rest(charged, issued):
    """Lanes by what they are charged to, of which ``issued`` issue products."""
    lanes: dict[str, int] = dict(zip(NAMES, charged, strict=True))
    rest = parameters()["lanes"] * parameters()["pes"] - issued
    result = {"busy": issued}
    causes = ["columns", "balance", "tile", "control", "semaphores", "sums", "operand"]
    for cause in causes:
        wanted = lanes[cause] + lanes["busy"] * (cause == "operand")
        result[cause] = min(wanted, rest)
        rest -= result[cause]
    return [result[name] for name in NAMES]


async def check(dut, cycles):
    """Compare what is charged with the model, ``latency`` cycles after it was given."""
    chosen = parameters()
    lanes = chosen["lanes"] * chosen["pes"]
    hold = chosen["lanes_hold_scalars"]
    latency = LaneAccounts(**chosen).latency
    await start(dut)
    expected = deque([[0] * len(NAMES)] * (latency + 1))
    issued = deque([0] * (ISSUED_LATENCY + 1))
    seen = [0] * len(NAMES)
    for given in cycles:
        for name, value in given.items():
            dut[name].value = value
        issued.append(random.randint(0, lanes) * hold * any(given.values()))
        if hold:
            dut.issued.value = issued[-1]
        await dut.clk.rising_edge
        expected.append(model(given))
        observed = [int(dut[name].value) for name in NAMES]
        now = expected[-1 - latency]
        assert observed == (share_rest(now, issued[-1 - ISSUED_LATENCY]) if hold else now)
        assert sum(observed) <= lanes
        seen = [a + b for a, b in zip(seen, observed, strict=True)]
    return dict(zip(NAMES, seen, strict=True))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def charges_every_lane_once(dut):
    """Random states of random machines; the settings change at any time."""
    lanes, pes, streams = (parameters()[name] for name in ("lanes", "pes", "streams"))

    def cycles():
        yield from [random_inputs(0, 0) | dict.fromkeys(("valid", "taken"), 0)] * 5
        for _ in range(200):
            count = 1 << random.randrange(streams.bit_length())
            words = random.randint(0, lanes // count * pes)
            yield from (random_inputs(count, words) for _ in range(random.randint(1, 20)))

    charged = await check(dut, cycles())
    assert all(charged.values())


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def charges_nothing_at_rest(dut):
    """Lanes without a product to wait for are idle."""
    rest = dict.fromkeys(random_inputs(1, 1), 0)
    charged = await check(dut, [rest] * 20)
    assert not any(charged.values())
