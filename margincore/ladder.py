"""Ladder: the levels of one order book, best first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from margincore.errors import RangeError
from margincore.units import number

Levels: TypeAlias = tuple[tuple[float, float], ...]


def _levels(name: str, levels: Any, sign: float) -> Levels:
    if isinstance(levels, (str, bytes)) or not isinstance(levels, Iterable):
        raise RangeError(f"{name} must be levels (price, size), was {levels!r}")
    result: list[tuple[float, float]] = []
    for at, level in enumerate(levels):
        if isinstance(level, (str, bytes)) or not hasattr(level, "__len__") or len(level) < 2:
            raise RangeError(f"{name}[{at}] must be (price, size), was {level!r}")
        price = number(f"price of {name}[{at}]", level[0], above=0.0)
        size = number(f"size of {name}[{at}]", level[1], least=0.0)
        if result and sign * (price - result[-1][0]) < 0.0:
            raise RangeError(f"{name} must be sorted best first, was {price!r} after {result[-1][0]!r}")
        result.append((price, size))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Levels of one order book.

    Parameters
    ----------
    bids, asks : sequence of (float, float)
        ``(price, contracts)``, best first: bids downwards, asks upwards.  Either side may be empty.
    """

    bids: Sequence[Sequence[float]]
    asks: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bids", _levels("bids", self.bids, -1.0))
        object.__setattr__(self, "asks", _levels("asks", self.asks, 1.0))

    def best(self) -> tuple[float, float]:
        """Best bid and ask, NaN for an empty side."""
        return (self.bids[0][0] if self.bids else math.nan), (self.asks[0][0] if self.asks else math.nan)

    def depth(self) -> float:
        """Contracts on the thinner side, over all levels."""
        return min(math.fsum(level[1] for level in side) for side in (self.bids, self.asks))


def ladder(name: str, book: Any) -> Ladder:
    """`book` as a Ladder: one already, or a mapping with "bids" and "asks"."""
    if isinstance(book, Ladder):
        return book
    if isinstance(book, Mapping) and "bids" in book and "asks" in book:
        return Ladder(book["bids"], book["asks"])
    raise RangeError(f"{name} must be a Ladder or a mapping with bids and asks, was {book!r}")
