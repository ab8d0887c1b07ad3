"""Pipelined signed multiplier."""

from amaranth import Module, Signal, signed
from amaranth.lib.wiring import In, Out

from acceltran.library import SharedComponent
from acceltran.numeric.delay import delayed
from acceltran.numeric.product import product, product_latency

__all__ = ["Multiplier"]


class Multiplier(SharedComponent):
    """Multiply two signed numbers at every cycle in which ``advance`` is 1.

    ``product`` is ``a * b`` of the operands given ``stages`` advancing cycles earlier. With one
    stage the product is formed in a single cycle; with two or more, ``a`` is multiplied by the
    halves of ``b`` in the first and their products are added in the second.

    Latency is ``LATENCY = stages`` advancing cycles; throughput is one product per cycle.

    Parameters
    ----------
    width : int
        Bits of an operand; at least 2.
    stages : int
        Register stages; at least 1.

    Members
    -------
    advance : ``In(1)``
        Move every stage on by one.
    a, b : ``In(signed(width))``
        Operands.
    product : ``Out(signed(2 * width))``
        Their product.
    """

    advance: Signal
    a: Signal
    b: Signal
    product: Signal

    def __init__(self, *, width: int, stages: int):
        if width < 2:
            raise ValueError(f"Operand width must be at least 2, not {width!r}")
        if stages < 1:
            raise ValueError(f"Multiplier stages must be at least 1, not {stages!r}")
        self.width = width
        self.stages = stages
        super().__init__({
            "advance": In(1),
            "a": In(signed(width)),
            "b": In(signed(width)),
            "product": Out(signed(2 * width)),
        })

    @property
    def LATENCY(self) -> int:
        """Advancing cycles from operands to product."""
        return self.stages

    def elaborate(self, platform):
        m = Module()
        parts = min(self.stages, 2)
        value = product(m, self.a, self.b, name="product", parts=parts, advance=self.advance)
        spare = self.stages - product_latency(parts)
        m.d.comb += self.product.eq(delayed(m, value, spare, name="spare", advance=self.advance))
        return m
