"""A row of a product with the stream that gets it."""

from amaranth import unsigned
from amaranth.lib import data

from acceltran.compute.drain import FinishedRow
from acceltran.sparsity.row_scanner import RowJob

__all__ = ["StreamJob"]


class StreamJob(data.StructLayout):
    """Layout of a row with the stream that gets it.

    Members
    -------
    stream : ``unsigned(streams)``
        One-hot.
    job : ``RowJob(tile_rows, partial_sums)``
        For the row streamer.
    finished : ``FinishedRow()``
        For the drains, if the job is final.
    """

    def __init__(self, *, tile_rows: int, partial_sums: int, streams: int):
        super().__init__({
            "stream": unsigned(streams),
            "job": RowJob(tile_rows, partial_sums),
            "finished": FinishedRow(),
        })
