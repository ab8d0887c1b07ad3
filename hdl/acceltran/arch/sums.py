"""Width of an exact sum of products."""

from acceltran.arch.fixed_point import FixedPoint

__all__ = ["sum_width"]


def sum_width(*, fmt: FixedPoint, inner: int) -> int:
    """Bits of the signed sum of ``inner`` products of two elements of format ``fmt``.

    A product has a magnitude of at most ``2 ** (2 * width - 2)``, reached by the square of the
    lowest element; ``inner`` of them fit ``2 * width + ceil(log2(inner))`` bits. One bit more lets
    the sum double, so that no sum wraps that is padded to whole vectors or off by an odd tile.
    """
    if inner < 1:
        raise ValueError(f"Inner dimension must be at least 1, not {inner!r}")
    return 2 * fmt.width + (inner - 1).bit_length() + 1
