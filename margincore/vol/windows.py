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
    if array.min() >= PRICE_MIN and array.max() <= PRICE_MAX:  # false where there is a NaN
        return array
    bad = ~((array >= PRICE_MIN) & (array <= PRICE_MAX)) & ~np.isnan(array)
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        kind = NotFiniteError if np.isinf(array[where]) else RangeError
        raise kind(f"{name} must be positive and finite, was {float(array[where])!r} at position {where}")
    return array


def bars(open: Any, high: Any, low: Any, close: Any) -> tuple[Floats, Floats, Floats, Floats]:
    """Checked columns of bars; a bar with any NaN is missing in all four."""
    o = prices("open", open)
    h, lo, c = (prices(n, v, length=len(o)) for n, v in (("high", high), ("low", low), ("close", close)))
    if ((lo <= o) & (o <= h) & (lo <= c) & (c <= h)).all():  # false where there is a NaN
        return o, h, lo, c
    gone = np.isnan(o) | np.isnan(h) | np.isnan(lo) | np.isnan(c)
    rules = (("high must not be below low", h < lo), ("open must lie in [low, high]", (o < lo) | (o > h)),
             ("close must lie in [low, high]", (c < lo) | (c > h)))
    for rule, broken in rules:
        bad = broken & ~gone
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            bar = ", ".join(f"{part} {float(column[i])!r}" for part, column in
                            (("open", o), ("high", h), ("low", lo), ("close", c)))
            raise RangeError(f"{rule}, was {bar} at bar {i}")
    if gone.any():
        o, h, lo, c = (np.where(gone, np.nan, column) for column in (o, h, lo, c))
    return o, h, lo, c


def fill(columns: tuple[Floats, ...], missing: str) -> tuple[Floats, ...]:
    """Columns after the rule for missing bars; the last column is the close."""
    choice("missing", missing, MISSING)
    if not np.isnan(np.min(columns[-1])):
        return columns
    gone = np.isnan(columns[-1])
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
    """Count, mean and sum of squared deviations of one term: of all bars, or of each window or prefix of them."""

    __slots__ = ("count", "m2", "mean")

    def __init__(self, terms: Floats, window: int | None, expanding: bool) -> None:
        size = 1 if window is None else len(terms) if expanding else len(terms) - window + 1
        self.count, self.mean, self.m2 = np.empty((3, size))
        if window is None:
            kernel.row_moments(terms[None, :], self.count, self.mean, self.m2)
        elif expanding:
            kernel.expanding_moments(terms, self.count, self.mean, self.m2)
        else:
            kernel.window_moments(terms, window, self.count, self.mean, self.m2)

    def sample_variance(self) -> Floats:
        """Sum of squared deviations over count - 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.m2 / (self.count - 1.0), np.float64)


def observations(terms: tuple[Floats, ...]) -> tuple[tuple[Floats, ...], int, int]:
    """Terms from the first bar on that all have, NaN in all where one is missing; number of bars cut off; count."""
    lead = 0
    while lead < len(terms[0]) and any(np.isnan(term[lead]) for term in terms):
        lead += 1
    used = tuple(term[lead:] for term in terms)
    if lead == len(terms[0]) or not any(np.isnan(np.min(term)) for term in used):
        return used, lead, len(used[0])
    there = np.logical_and.reduce([~np.isnan(term) for term in used])
    return tuple(np.where(there, term, np.nan) for term in used), lead, int(there.sum())


def volatility(name: str, terms: tuple[Floats, ...], variance: Callable[[list[Moments]], Floats], *,
               least: int, window: int | None, expanding: bool, periods_per_year: float) -> Result:
    """Annualised square root of `variance` of the moments of each term, under the rules of this module."""
    number("periods_per_year", periods_per_year, above=0.0)
    # The leading bars without a value stay outside, so that they cannot shift the tree of the sums.
    used, lead, count = observations(terms)
    if count < least:
        raise ShapeError(f"{name} must give at least {least} observations, gave {count}")
    if window is not None:
        integer("window", window, least=least)
        if window > len(used[0]):
            raise ShapeError(f"window must be at most the {len(used[0])} observations, was {window}")
    elif expanding:
        raise RangeError("window must be given when expanding: the first value needs that many, was None")
    moments = [Moments(term, window, expanding) for term in used]
    value = variance(moments)
    if window is None:
        if not value[0] > 0.0:
            raise RangeError(f"{name} must move, was constant")
        return float(np.sqrt(value[0] * periods_per_year))
    enough = moments[0].count >= (max(window, least) if expanding else max(least, window - window // 2))
    with np.errstate(invalid="ignore"):
        good = enough & (value > 0.0)
        if not good.any():
            raise RangeError(f"{name} must move, was constant or too sparse in every window")
        sigma = np.sqrt(value * periods_per_year)
    sigma[~good] = np.nan
    return np.concatenate([np.full(len(terms[0]) - len(sigma), np.nan), sigma])
