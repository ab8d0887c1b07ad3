# amaranth: UnusedElaboratable=no
"""Library: each distinct component once, and what it refuses."""

import os
import re
import subprocess
import sys

import pytest
from amaranth import ClockDomain, ClockSignal, Module, ResetSignal, Signal, signed
from amaranth.hdl import DomainRenamer, EnableInserter, ResetInserter
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from acceltran.arch.fixed_point import FixedPoint
from acceltran.arch.function_tables import load_table
from acceltran.library import Library, LibraryError, SharedComponent
from acceltran.memory.queue import Queue
from acceltran.memory.ram import Ram
from acceltran.share_key import share_key


class Counter(SharedComponent):
    """Accumulates, and has a register that is nobody else's business."""

    d: Signal
    q: Signal

    def __init__(self, *, width: int = 8, init: int = 0, source: Signal | None = None):
        self.width, self.init, self.source = width, init, source
        self.inner = Signal(width)
        super().__init__({"d": In(width), "q": Out(width), "nothing": In(0)})

    def elaborate(self, platform):
        m = Module()
        total = Signal(self.width, init=self.init)
        m.d.sync += [total.eq(total + self.d), self.inner.eq(self.inner + 1)]
        m.d.comb += self.q.eq(total)
        return m


class Meddler(SharedComponent):
    """Drives an input of a component that is not its own."""

    victim: Counter | None = None

    def __init__(self):
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        assert Meddler.victim is not None
        m.d.comb += Meddler.victim.d.eq(1)
        return m


class Whim(SharedComponent):
    """Elaborates differently each time."""

    number = 0
    q: Signal

    def __init__(self):
        super().__init__({"q": Out(8)})

    def elaborate(self, platform):
        m = Module()
        Whim.number += 1
        m.d.comb += self.q.eq(Whim.number)
        return m


class Pair(wiring.Component):
    """Two components; ``wrap`` may change the second."""

    d: Signal
    q: Signal

    def __init__(self, first, second, wrap=lambda component: component):
        self.first, self.second, self.wrap = first, second, wrap
        super().__init__({"d": In(8), "q": Out(8), "r": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.first, m.submodules.second = self.first, self.wrap(self.second)
        for component in (self.first, self.second):
            if hasattr(component, "d"):
                m.d.comb += component.d.eq(self.d)
        m.d.comb += self.q.eq(self.first.q ^ self.second.q)
        return m


def convert(top, **kwargs):
    library = Library(**kwargs)
    library.convert_verilog(top, name="pair")
    return library.instances


def test_emits_equal_components_once():
    assert convert(Pair(Counter(), Counter()), check_instances=True) == {
        "pair_Counter_width8_init0": 2
    }


def test_tells_arguments_apart():
    assert convert(Pair(Counter(init=1), Counter(init=2))) == {
        "pair_Counter_width8_init1": 1,
        "pair_Counter_width8_init2": 1,
    }


def test_tells_layouts_apart():
    """Names do not hold layouts, keys do: the second one gets a number."""
    shapes = [data.ArrayLayout(signed(4), 2), data.ArrayLayout(signed(2), 4)]

    class Top(wiring.Component):
        def __init__(self):
            super().__init__({
                f"{way}{n}": member(stream.Signature(shape))
                for n, shape in enumerate(shapes)
                for way, member in (("i", In), ("o", Out))
            })

        def elaborate(self, platform):
            m = Module()
            for n, shape in enumerate(shapes):
                m.submodules[f"queue_{n}"] = queue = Queue(shape=shape, depth=2)
                wiring.connect(m, wiring.flipped(getattr(self, f"i{n}")), queue.i)
                wiring.connect(m, queue.o, wiring.flipped(getattr(self, f"o{n}")))
            return m

    assert convert(Top()) == {"pair_Queue_shape8_depth2": 1, "pair_Queue_shape8_depth2_2": 1}


def test_leaves_empty_fields_out():
    shape = data.StructLayout({"value": 8, "nothing": 0})
    text = Library().convert_verilog(Queue(shape=shape, depth=2), name="queue")
    assert "o__payload" in text
    assert "nothing" not in text
    assert "[-1:0]" not in text


def test_names_number_formats():
    fmt = FixedPoint(int_bits=4, frac_bits=16)
    _, label = share_key(Counter, {"fmt": fmt, "lanes": 2, "offset": -1, "steps": [1, 2]})
    assert label == "Counter_fmt4_16_lanes2_offsetm1"


def test_names_tables_choices_and_layouts():
    class Pixel(data.StructLayout):
        def __init__(self):
            super().__init__({"red": 5})

    table = load_table("gelu", FixedPoint(int_bits=4, frac_bits=16))
    shapes = {"pixel": Pixel(), "pair": data.StructLayout({"a": 3, "b": 4})}
    _, label = share_key(Counter, {"table": table, "lane": "dot", **shapes})
    assert label == "Counter_table_gelu_lane_dot_pixel_Pixel_pair7"


def test_follows_a_renamed_domain():
    def wrap(component):
        return DomainRenamer("slow")(component)

    class Top(Pair):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            m.domains.slow = ClockDomain(local=True)
            m.d.comb += [
                ClockSignal("slow").eq(ClockSignal()),
                ResetSignal("slow").eq(self.d[0]),
            ]
            return m

    text = Library().convert_verilog(Top(Counter(), Counter(), wrap), name="pair")
    resets = re.findall(r"pair_Counter_width8_init0 (\w+) \(.*?\.rst\((.*?)\)", text, re.DOTALL)
    assert resets == [("first", "rst"), ("second", "d[0]")]


def test_instantiates_one_memory_module():
    library = Library()
    text = library.convert_verilog(Queue(shape=8, depth=64), name="queue")
    assert library.instances == {"acceltran_ram": 1}
    assert text.count("module acceltran_ram") == 1
    assert len(text) < 10_000


def test_a_memory_may_be_the_top():
    text = Library().convert_verilog(Ram(width=8, depth=64), name="top")
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == ["top", "acceltran_ram"]


@pytest.mark.parametrize("inserter", [ResetInserter, EnableInserter])
def test_refuses_inserters(inserter):
    top = Pair(Counter(), Counter(), lambda component: inserter(Signal(name="r"))(component))
    message = f"^{inserter.__name__} does not reach into Counter, which is shared: give it a port"
    with pytest.raises(LibraryError, match=message):
        convert(top)


def test_refuses_a_look_inside():
    class Top(Pair):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            m.d.comb += self.q.eq(self.second.inner)
            return m

    message = (
        r"^pair: signal inner is used in this module but neither driven in it nor one of its "
        r"input ports$"
    )
    with pytest.raises(LibraryError, match=message):
        convert(Top(Counter(), Counter()))


def test_refuses_a_hand_from_elsewhere():
    class Top(wiring.Component):
        q: Signal

        def __init__(self):
            super().__init__({"q": Out(8)})

        def elaborate(self, platform):
            m = Module()
            m.submodules.counter = Meddler.victim = counter = Counter()
            m.submodules.meddler = Meddler()
            m.d.comb += self.q.eq(counter.q)
            return m

    message = (
        r"^pair: input d of a component in this module is driven from within pair_Meddler, not "
        r"through a port$"
    )
    with pytest.raises(LibraryError, match=message):
        convert(Top())


def test_refuses_a_signal_as_argument():
    message = (
        r"^Counter cannot be shared: argument source must be a constant that can be compared, "
        r"not \(sig wire\)$"
    )
    with pytest.raises(LibraryError, match=message):
        convert(Pair(Counter(), Counter(source=Signal(name="wire"))))


def test_refuses_components_that_differ_in_secret():
    message = r"^Two Whim with equal arguments elaborate differently$"
    with pytest.raises(LibraryError, match=message):
        convert(Pair(Whim(), Whim()), check_instances=True)


def test_output_is_the_same_in_every_process():
    """Independent of hash seeds and of what was converted before."""
    script = (
        "from acceltran.library import Library; from acceltran.memory.queue import Queue;"
        "print(Library().convert_verilog(Queue(shape=8, depth=9), name='queue'), end='')"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    texts.add(Library().convert_verilog(Queue(shape=8, depth=9), name="queue"))
    assert len(texts) == 1
