"""Products that are formed in parts, so that no stage holds a whole multiplier."""

from typing import Any

from amaranth import Module, Shape, Signal, Value
from amaranth.utils import ceil_log2

__all__ = ["product", "product_latency"]


def product_latency(parts: int) -> int:
    """Cycles that ``product`` takes with ``parts`` parts."""
    return 1 + ceil_log2(parts)


def product(m: Module, a: Value, b: Value, *, name: str, parts: int = 2, advance: Any = 1) -> Value:
    """Return ``a * b`` of ``product_latency(parts)`` cycles with ``advance`` = 1 ago.

    The first stage multiplies ``a`` by each of ``parts`` parts of ``b``; every further one adds
    neighbours. ``parts`` is a power of two.
    """
    step = -(-len(b) // parts)
    terms = []
    for part in range(parts):
        digits = b[part * step : (part + 1) * step]
        if part == parts - 1 and b.shape().signed:
            digits = digits.as_signed()
        terms.append(a * digits)
    signed = a.shape().signed or b.shape().signed
    shape = Shape(len(a) + len(b), signed)
    for level in range(product_latency(parts)):
        if level:
            terms = [
                low + (high << step) for low, high in zip(terms[::2], terms[1::2], strict=True)
            ]
            step *= 2
        registers = []
        for place, term in enumerate(terms):
            last = len(terms) == 1
            register = Signal(shape if last else term.shape(), name=f"{name}_{level}_{place}")
            with m.If(advance):
                m.d.sync += register.eq(term)
            registers.append(register)
        terms = registers
    return terms[0]
