"""One tile of a matrix product."""

from amaranth import unsigned
from amaranth.lib import data
from amaranth.utils import bits_for

from acceltran.arch.commands import ADDRESS, COUNT
from acceltran.control.product_command import ProductCommand

__all__ = ["Tile"]


class Tile(data.StructLayout):
    """Layout of a tile (b, i, j, k) of a product: rows x column words x inner vectors.

    Members
    -------
    batch, row_first, row_count : ``unsigned(COUNT)``
        Batch, first row and number of rows of A and C, maybe none.
    word : ``unsigned(COUNT)``
        First word of the column pass: column vectors ``d = (word + n) * banks + c`` of a row of C.
    word_count : ``unsigned(bits_for(lanes))``
        Words of the pass: at most ``lanes / streams``.
    inner_first, inner_count : ``unsigned(COUNT)``
        First vector and number of vectors of the inner dimension.
    a_address : ``unsigned(ADDRESS)``
        Vector ``inner_first`` of row ``row_first`` of A.
    b_address : ``unsigned(ADDRESS)``
        Vector of B that belongs to the first element of vector ``inner_first`` and to ``d =
        word * banks + place`` (maybe a column left of C, where ``c_first`` is no multiple of the
        banks, or right of it); ``place`` as of ``LoopNest``. With B transposed, vector
        ``inner_first`` of the row of its first column.
    c_address : ``unsigned(ADDRESS)``
        Vector ``word * banks`` of row ``row_first`` of C.
    last_chunk : ``unsigned(1)``
        Last chunk of the inner dimension.
    first, final : ``unsigned(1)``
        Sums of its rows begin, and are finished: in the first and the last chunk of the inner
        dimension, unless the command resumes, or keeps, its sums.
    slot_base : ``unsigned(COUNT)``
        Slot of row ``row_first`` among the partial sums of a stream; of no use if first and final.
    reload : ``unsigned(1)``
        The second operand is not that of the tile before.
    last_tile : ``unsigned(1)``
        No other tile of this command follows.
    command : ``ProductCommand()``
        The command that the tile is a part of.
    """

    def __init__(self, lanes: int):
        super().__init__({
            "batch": unsigned(COUNT),
            "row_first": unsigned(COUNT),
            "row_count": unsigned(COUNT),
            "word": unsigned(COUNT),
            "word_count": unsigned(bits_for(lanes)),
            "inner_first": unsigned(COUNT),
            "inner_count": unsigned(COUNT),
            "a_address": unsigned(ADDRESS),
            "b_address": unsigned(ADDRESS),
            "c_address": unsigned(ADDRESS),
            "last_chunk": unsigned(1),
            "first": unsigned(1),
            "final": unsigned(1),
            "slot_base": unsigned(COUNT),
            "reload": unsigned(1),
            "last_tile": unsigned(1),
            "command": ProductCommand(),
        })
