"""Activation functions of a matrix product."""

import enum

__all__ = ["Activation"]


class Activation(enum.IntEnum):
    """Function that is applied to a rounded product; the ``function`` field of a MATMUL."""

    NONE = 0
    RELU = 1
    GELU = 2
