"""What every realised estimator shares: checks of prices, missing bars, means over samples and windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import realised as kernel
from margincore.units import Floats, choice, floats, integer, number

MISSING = ("error", "skip", "carry")
PRICE_MIN, PRICE_MAX = 1e-150, 1e150  # far outside any market: a wrong unit or an overflow, not a price

Result = float | Floats


def prices(name: str, values: Any, *, length: int | None = None) -> Floats:
    """`values` as positive float64, NaN allowed for a missing bar."""
    array = floats(name, values, length=length, finite=False)
    bad = ~((array >= PRICE_MIN) & (array <= PRICE_MAX)) & ~np.isnan(array)
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        kind = NotFiniteError if np.isinf(array[where]) else RangeError
        raise kind(f"{name} must be positive and finite, was {array[where]!r} at position {where}")
    return array


def bars(open: Any, high: Any, low: Any, close: Any) -> tuple[Floats, Floats, Floats, Floats]:
    """Checked columns of bars; a bar with any NaN is missing in all four."""
    o = prices("open", open)
    h, lo, c = (prices(n, v, length=len(o)) for n, v in (("high", high), ("low", low), ("close", close)))
    gone = np.isnan(o) | np.isnan(h) | np.isnan(lo) | np.isnan(c)
    rules = (("high must not be below low", h < lo), ("open must lie in [low, high]", (o < lo) | (o > h)),
             ("close must lie in [low, high]", (c < lo) | (c > h)))
    for rule, broken in rules:
        bad = broken & ~gone
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            bar = f"open {o[i]!r}, high {h[i]!r}, low {lo[i]!r}, close {c[i]!r}"
            raise RangeError(f"{rule}, was {bar} at bar {i}")
    if gone.any():
        o, h, lo, c = (np.where(gone, np.nan, column) for column in (o, h, lo, c))
    return o, h, lo, c


def fill(columns: tuple[Floats, ...], missing: str) -> tuple[Floats, ...]:
    """Columns after the rule for missing bars; the last column is the close."""
    choice("missing", missing, MISSING)
    gone = np.isnan(columns[-1])
    if not gone.any():
        return columns
    first = int(np.flatnonzero(gone)[0])
    if missing == "error":
        raise MissingDataError(f"bars must be complete unless missing is 'skip' or 'carry', "
                               f"was missing {int(gone.sum())} of {len(gone)}, first at bar {first}")
    if missing == "skip":
        return columns
    if first == 0:
        raise MissingDataError("first bar must be there to be carried forward, was missing")
    last = np.maximum.accumulate(np.where(gone, 0, np.arange(len(gone))))
    close = columns[-1][last]
    return tuple(np.where(gone, close, column) for column in columns)


def log_returns(close: Floats) -> Floats:
    """ln(close / previous close) per bar, NaN for the first bar and next to missing ones."""
    out = np.full(len(close), np.nan)
    kernel.log_ratios(close[1:], close[:-1], out[1:])
    return out


class Moments:
    """Count, mean and sum of squared deviations of one term: of all bars, or ending at each bar."""

    __slots__ = ("count", "m2", "mean")

    def __init__(self, terms: Floats, lead: int, window: int | None, expanding: bool) -> None:
        # The first `lead` terms are missing and stay outside, so that they cannot shift the tree of the sums.
        used = terms[lead:]
        if window is None:
            self.count, self.mean, self.m2 = np.empty((3, 1))
            kernel.row_moments(used[None, :], self.count, self.mean, self.m2)
            return
        self.count, self.mean, self.m2 = np.full((3, len(terms)), np.nan)
        if expanding:
            kernel.expanding_moments(used, *(column[lead:] for column in self.columns()))
        else:
            kernel.window_moments(used, window, *(column[lead + window - 1:] for column in self.columns()))

    def columns(self) -> tuple[Floats, Floats, Floats]:
        """Count, mean and sum of squared deviations."""
        return self.count, self.mean, self.m2

    def sample_variance(self) -> Floats:
        """Sum of squared deviations over count - 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.m2 / (self.count - 1.0), np.float64)


def volatility(name: str, terms: tuple[Floats, ...], variance: Callable[[list[Moments]], Floats], *,
               least: int, window: int | None, expanding: bool, periods_per_year: float) -> Result:
    """Annualised square root of `variance` of the moments of each term, under the rules of this module."""
    number("periods_per_year", periods_per_year, above=0.0)
    there = np.logical_and.reduce([~np.isnan(term) for term in terms])
    terms = tuple(np.where(there, term, np.nan) for term in terms)
    count = int(there.sum())
    if count < least:
        raise ShapeError(f"{name} must give at least {least} observations, gave {count}")
    lead = int(np.flatnonzero(there)[0])
    if window is not None:
        integer("window", window, least=least)
        if window > len(there) - lead:
            raise ShapeError(f"window must be at most the {len(there) - lead} observations, was {window}")
    elif expanding:
        raise RangeError("window must be given when expanding: the first value needs that many, was None")
    moments = [Moments(term, lead, window, expanding) for term in terms]
    value = variance(moments)
    if window is None:
        if not value[0] > 0.0:
            raise RangeError(f"{name} must move, was constant")
        return float(np.sqrt(value[0] * periods_per_year))
    with np.errstate(invalid="ignore"):
        enough = moments[0].count >= (max(window, least) if expanding else max(least, window - window // 2))
        good = enough & (value > 0.0)
    if not good.any():
        raise RangeError(f"{name} must move, was constant or too sparse in every window")
    return np.where(good, np.sqrt(np.where(good, value, 1.0) * periods_per_year), np.nan)
