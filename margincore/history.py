"""Scenarios from history: joint moves by date, filtered by volatility, aged by weight, stretched to a horizon."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError, ShapeError
from margincore.units import Floats, floats, integer, number


class Filter(Protocol):
    """What filtered simulation needs of a volatility model."""

    def filter(self, returns: Any) -> Floats:
        """Variance forecasts along a series, one more than there are returns."""
        ...


def joint_returns(prices: npt.ArrayLike, *, steps: int = 1) -> Floats:
    """Overlapping log returns over `steps` periods of prices (times, underlyings), one row per date."""
    table = floats("prices", prices, ndim=2)
    steps = integer("steps", steps, least=1)
    if (table <= 0.0).any():
        raise RangeError(f"prices must be positive, was {table.min():g}")
    if len(table) <= steps:
        raise ShapeError(f"prices must have more than {steps} times, had {len(table)}")
    logs = np.log(table)
    return np.asarray(logs[steps:] - logs[:-steps])


def filtered_returns(returns: npt.ArrayLike, model: Filter) -> Floats:
    """Returns (times, underlyings) over their forecast deviations, times the present ones.

    Each date keeps its shocks together, so correlations stay.  Reference: Barone-Adesi, Giannopoulos and Vosper 1999.
    """
    table = floats("returns", returns, ndim=2)
    out = np.empty_like(table)
    for at in range(table.shape[1]):
        series = np.ascontiguousarray(table[:, at])
        variance = model.filter(series)
        out[:, at] = series * np.sqrt(variance[-1] / variance[:-1])
    return out


def age_weights(count: int, decay: float) -> Floats:
    """Probabilities of `count` scenarios, oldest first: each is `decay` times the next (Boudoukh and others 1998)."""
    count, decay = integer("count", count, least=1), number("decay", decay, above=0.0, most=1.0)
    raw = decay ** np.arange(count - 1, -1, -1, dtype=float)
    return np.asarray(raw / math.fsum(raw))


def liquidity_cascade(shortfalls: npt.ArrayLike, horizons_days: npt.ArrayLike, *, base_days: float = 10.0) -> float:
    """Expected shortfall over liquidity horizons (Basel MAR33.5): root of the sum of scaled squares.

    `shortfalls[j]` is over `base_days`, of the factors whose horizon is at least `horizons_days[j]`, which rise.
    """
    parts, days = floats("shortfalls", shortfalls), floats("horizons_days", horizons_days)
    base = number("base_days", base_days, above=0.0)
    if len(parts) != len(days) or days[0] <= 0.0 or (np.diff(days) <= 0.0).any():
        raise ShapeError("horizons_days must be positive, rise, and have one value per shortfall")
    steps = np.diff(np.concatenate([[0.0], days]))
    return math.sqrt(math.fsum(parts**2 * steps / base))
