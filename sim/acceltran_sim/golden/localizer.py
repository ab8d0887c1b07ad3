"""Golden model of what a cluster makes of commands that all clusters get."""

from collections.abc import Mapping

__all__ = ["Localizer"]

Fields = Mapping[str, int]


class Localizer:
    """A cluster's part of the sequence that it works on, and of commands about it.

    Fields that a mapping lacks are zero.

    Parameters
    ----------
    cluster : int
        Number of the cluster.

    Members
    -------
    own : int
        Valid rows that the cluster owns.
    keys : int
        Valid rows of the whole sequence.
    place : int
        Place of the cluster in its group.
    group : range
        Clusters of the group.
    """

    def __init__(self, cluster: int):
        self.cluster = cluster
        self.own = self.keys = self.place = 0
        self.group = range(cluster, cluster + 1)

    def sequence(self, fields: Fields) -> None:
        """Execute a SEQUENCE; one of another group changes nothing."""
        size = 1 << fields.get("span", 0)
        if self.cluster // size != fields.get("group", 0):
            return
        self.place = self.cluster % size
        self.group = range(self.cluster - self.place, self.cluster - self.place + size)
        rows, self.keys = fields.get("rows", 0), fields.get("length", 0)
        self.own = _clamp(self.keys - self.place * rows, rows)

    def rows(self, fields: Fields) -> int:
        """Valid ones of the rows of a MATMUL, SOFTMAX or LAYERNORM."""
        rows = fields.get("rows", 0)
        if not fields.get("own_rows", 0):
            return rows
        return _clamp(self.own - fields.get("first_row", 0), rows)

    def b_rows(self, fields: Fields) -> int:
        """Valid rows of B's tensor of a MATMUL."""
        rows = fields.get("b_rows", 0)
        if not fields.get("own_keys", 0):
            return rows
        return _clamp(self.keys - fields.get("first_key", 0), rows)

    def softmax_keys(self, fields: Fields) -> int:
        """Valid keys of a SOFTMAX."""
        keys = fields.get("keys", 0)
        return min(keys, self.keys) if fields.get("own_keys", 0) else keys

    def c_offset(self, fields: Fields) -> int:
        """What a MATMUL adds to ``c_base``."""
        return self.place * fields.get("share_stride", 0) if fields.get("share", 0) else 0


def _clamp(x: int, most: int) -> int:
    return min(max(x, 0), most)
