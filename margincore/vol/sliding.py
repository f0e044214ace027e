"""Sum over the last values of a stream, one stream per underlying, without ever subtracting."""

from __future__ import annotations

from typing import Any

import numpy as np

from margincore.errors import RangeError, ShapeError
from margincore.units import Floats, floats, integer


class SlidingSum:
    """Sum of the last `length` values of each stream; a missing value counts as zero.

    Two parts: a running sum of the values of the current block, and the sums of the ends of the block before it,
    made once when a block is full.  The cost per value is constant, and nothing is subtracted, so the sum neither
    drifts nor turns negative after a crash has left the window.
    """

    __slots__ = ("_block", "_ends", "_place", "_sum", "length")

    def __init__(self, length: int, streams: int) -> None:
        self.length = length
        self._block = np.zeros((length, streams))
        self._ends = np.zeros((length + 1, streams))
        self._sum = np.zeros(streams)
        self._place = 0

    def add(self, values: Floats) -> None:
        """Append one value per stream."""
        if self._place == self.length:
            self._ends[:-1] = np.cumsum(self._block[::-1], axis=0)[::-1]
            self._sum = np.zeros_like(self._sum)
            self._place = 0
        self._block[self._place] = values
        self._sum = self._sum + values
        self._place += 1

    @property
    def sums(self) -> Floats:
        """Sum of the last `length` values, shape (streams,)."""
        return np.asarray(self._ends[self._place] + self._sum, np.float64)

    def save(self) -> dict[str, Any]:
        """The state as plain numbers."""
        return {"block": self._block.tolist(), "ends": self._ends.tolist(), "sum": self._sum.tolist(),
                "place": self._place}

    @classmethod
    def load(cls, saved: dict[str, Any], *, like: SlidingSum) -> SlidingSum:
        """The state that `save` wrote of a sum as long and wide as `like`."""
        length, streams = like._block.shape
        result = cls(length, streams)
        for name, rows in (("block", length), ("ends", length + 1)):
            array = floats(name, saved[name], ndim=2, length=rows)
            if array.shape[1] != streams:
                raise ShapeError(f"{name} must have {streams} columns, had {array.shape[1]}")
            setattr(result, f"_{name}", array.copy())
        result._sum = floats("sum", saved["sum"], length=streams).copy()
        for name in ("_block", "_ends", "_sum"):
            if (getattr(result, name) < 0.0).any():
                raise RangeError(f"{name[1:]} must be at least 0, was {float(getattr(result, name).min())!r}")
        result._place = integer("place", saved["place"], least=0, most=length)
        return result
