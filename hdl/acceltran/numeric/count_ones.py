"""Population count."""

from amaranth import Cat, Const, Value

__all__ = ["count_ones"]


def count_ones(bits: Value) -> Value:
    """Count the bits of ``bits`` that are 1, in a balanced tree of adders."""
    terms: list[Value] = [Cat(bit) for bit in bits] or [Const(0)]
    while len(terms) > 1:
        pairs = [left + right for left, right in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]
