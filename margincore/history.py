"""Scenarios from history: joint moves by date, filtered by volatility, aged by weight, stretched to a horizon."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.kernels.formula import powers
from margincore.measure import ExpectedShortfall
from margincore.panel import HORIZONS, PricePanel, ratios, relative
from margincore.scenarios import EVERY_OTHER, Scenarios, from_moves
from margincore.units import Floats, choice, floats, integer, number


class Filter(Protocol):
    """What filtered simulation needs of a volatility model; `mean` and `forecast` are used where it has them."""

    def filter(self, returns: Any) -> Floats:
        """Variance forecasts along a series, one more than there are returns."""
        ...


def historical(prices: Any, dates: Any = None, *, steps: int = 1, horizon: str = "overlapping", gaps: str = "error",
               decay: float | None = None, smile: str = "sticky_strike") -> Scenarios:
    """What happened before, as scenarios: the joint moves of all prices, one scenario per date.

    Parameters
    ----------
    prices : mapping of str to float64 array of shape (times,), data frame, or PricePanel
        By underlying, base currency, oldest first.
    dates : sequence of dates, or mapping of str to sequence of dates, optional
        As in `PricePanel.of`.  A scenario is named by the date its move ends, "2020-03-12", or by both ends.
    steps : int
        Periods of a move: the horizon, or the margin period of risk (`margin_period_steps`).
    horizon : {"overlapping", "separate", "square_root"}
        How moves over several periods are made: of all spans, of spans that do not overlap (the last ends today), or
        of single periods whose logarithms are stretched by the square root of time.
    gaps : {"error", "skip", "keep"}
        What a missing date does; see `PricePanel.windows`.
    decay : float, optional
        Age weights (`age_weights`) as probabilities; equal when omitted.
    smile : {"sticky_strike", "sticky_moneyness"}
        Where options read their volatility after the move; see `Scenarios`.

    Returns
    -------
    Scenarios

    Raises
    ------
    MarginError
        If prices or dates are not aligned, not positive or not finite, or leave no move; the message names them.

    Examples
    --------
    >>> days = ["2020-03-11", "2020-03-12", "2020-03-13"]
    >>> found = historical({"BTC": [7911.0, 4971.0, 5564.0], "ETH": [194.9, 112.3, 133.2]}, days)
    >>> found.names, round(found.spot_move["BTC"][0], 4)
    (('2020-03-12', '2020-03-13'), -0.3716)
    """
    panel = PricePanel.of(prices, dates)
    spans, logs = _spans(panel, steps, horizon, gaps)
    if logs is None:
        moves = panel.price[spans[:, 1]] / panel.price[spans[:, 0]] - 1.0
    else:
        moves = relative(logs * math.sqrt(steps))
    return from_table(panel.names(spans), panel.underlyings, moves, decay=decay, smile=smile)


def filtered_historical(prices: Any, model: Filter | Mapping[str, Filter], dates: Any = None, *, steps: int = 1,
                        horizon: str = "square_root", gaps: str = "error", decay: float | None = None,
                        deviation_now: Mapping[str, float] | None = None, burn_in: int = 0,
                        smile: str = "sticky_strike") -> Scenarios:
    """Filtered historical simulation: past moves in units of the volatility then, times the volatility now [1]_.

    The returns of one date stay together, so the correlations of the shocks are those of history.

    Parameters
    ----------
    prices, dates, steps, gaps, decay, smile
        As in `historical`.
    model : volatility model of `margincore.vol`, or mapping of str to models
        Standardises each underlying; ``"*"`` for all others.
    horizon : {"square_root", "overlapping", "separate"}
        Shocks over several periods: of one period, or sums over spans.  The variance now is the model's forecast over
        all periods, or `steps` times the next one where it makes no forecasts.
    deviation_now : mapping of str to float, optional
        Standard deviation per period that replaces the model's present one, for example of a blend with implied
        volatility; ``"*"`` for all others.
    burn_in : int
        Oldest moves that are left out, while the model finds its level.

    References
    ----------
    .. [1] Barone-Adesi, Giannopoulos and Vosper, "VaR without correlations for portfolios of derivative securities",
       1999; for one date per scenario, Hull and White, "Incorporating volatility updating into the historical
       simulation method", 1998.

    Examples
    --------
    >>> from margincore.vol import Ewma
    >>> price = [100.0, 101.0, 99.0, 100.0, 120.0]
    >>> found = filtered_historical({"BTC": price}, Ewma(start_variance=1e-4))
    >>> found.spot_move["BTC"][0] > 0.03  # a move of 1 % in calm times is more after one of 20 %
    True
    """
    panel = PricePanel.of(prices, dates)
    steps, skip = integer("steps", steps, least=1), integer("burn_in", burn_in, least=0)
    single = panel.windows(gaps=gaps)
    table = panel.log_moves(single)
    shocks, means = np.empty(table.shape), np.empty(table.shape[1])
    for at, name in enumerate(panel.underlyings):
        own = _for(name, model, "model")
        now = None if deviation_now is None else _for(name, deviation_now, "deviation_now")
        shocks[:, at], means[at] = _filtered(np.ascontiguousarray(table[:, at]), own, steps, now, name)
    if skip >= len(shocks):
        raise ShapeError(f"burn_in must leave a move, there were {len(shocks)}")
    spans = single
    if choice("horizon", horizon, HORIZONS) != "square_root" and steps > 1:
        spans = panel.windows(steps, gaps=gaps, separate=horizon == "separate")
        place = {start: row for row, start in enumerate(single[:, 0].tolist())}
        first = np.array([place[start] for start in spans[:, 0].tolist()])
        spans, first = spans[first >= skip], first[first >= skip]
        if not first.size:
            raise ShapeError(f"burn_in must leave a span of {steps} periods, was {skip}")
        shocks = sum(shocks[first + step] for step in range(steps)) / math.sqrt(steps)
    else:
        spans, shocks = spans[skip:], shocks[skip:]
    return from_table(panel.names(spans), panel.underlyings, relative(shocks + steps * means), decay=decay, smile=smile)


def from_table(names: Sequence[str], underlyings: Sequence[str], moves: Floats, *, decay: float | None = None,
               smile: str = "sticky_strike") -> Scenarios:
    """Scenarios of relative moves, float64, shape (scenarios, underlyings), oldest first; `decay` as `age_weights`."""
    table = floats("moves", moves, ndim=2)
    if table.shape != (len(names), len(underlyings)):
        raise ShapeError(f"moves must have shape ({len(names)}, {len(underlyings)}), had {table.shape}")
    weights = () if decay is None else tuple(age_weights(len(table), decay).tolist())
    return from_moves(names, {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(underlyings)},
                      smile=smile, probability=weights)


def _spans(panel: PricePanel, steps: int, horizon: str, gaps: str) -> tuple[npt.NDArray[np.int64], Floats | None]:
    """Places of the moves, and their logarithms where one period is to be stretched."""
    steps = integer("steps", steps, least=1)
    if choice("horizon", horizon, HORIZONS) == "square_root" and steps > 1:
        spans = panel.windows(gaps=gaps)
        return spans, panel.log_moves(spans)
    return panel.windows(steps, gaps=gaps, separate=horizon == "separate"), None


def _for(name: str, values: Any, argument: str) -> Any:
    if not isinstance(values, Mapping):
        return values
    if name not in values and EVERY_OTHER not in values:
        raise MissingDataError(f"{argument} must have an entry for {name!r} or '*', had {', '.join(values)}")
    return values.get(name, values.get(EVERY_OTHER))


def _filtered(series: Floats, model: Any, steps: int, deviation_now: float | None, name: str) -> tuple[Floats, float]:
    """Shocks of one series at the variance now over all steps, and the mean per step."""
    if not hasattr(model, "filter") or getattr(model, "observes", "returns") != "returns":
        raise RangeError(f"model must be a volatility model of returns, was {model!r}")
    variance = np.asarray(model.filter(series), np.float64)
    if variance.shape != (series.size + 1,):
        raise ShapeError(f"model must give {series.size + 1} variances for {name!r}, gave {variance.shape}")
    if not ((variance > 0.0) & (variance < np.inf)).all():
        at = int(np.flatnonzero(~((variance > 0.0) & (variance < np.inf)))[0])
        raise NotFiniteError(f"model must give positive variances for {name!r}, gave {float(variance[at])!r} at {at}")
    mean = float(getattr(model, "mean", 0.0))
    if deviation_now is not None:
        total = steps * number(f"deviation_now[{name!r}]", deviation_now, above=0.0) ** 2
    elif steps > 1 and hasattr(model, "forecast"):
        total = number("forecast", model.forecast(series, steps).total, above=0.0)
    else:
        total = steps * float(variance[-1])
    return (series - mean) * np.sqrt(total / variance[:-1]), mean


def joint_returns(prices: npt.ArrayLike, *, steps: int = 1) -> Floats:
    """Overlapping log returns over `steps` periods of prices (times, underlyings), one row per date."""
    table = floats("prices", prices, ndim=2)
    steps = integer("steps", steps, least=1)
    if (table <= 0.0).any():
        raise RangeError(f"prices must be positive, was {table.min():g}")
    if len(table) <= steps:
        raise ShapeError(f"prices must have more than {steps} times, had {len(table)}")
    return ratios(table[steps:], table[:-steps])


def filtered_returns(returns: npt.ArrayLike, model: Filter, *, steps: int = 1) -> Floats:
    """Returns (times, underlyings) less their mean over their forecast deviations, times the present ones.

    Each date keeps its shocks together, so correlations stay.  The present deviation is over `steps` periods.  The mean
    of the model is taken out and added back per period.  Reference: Barone-Adesi, Giannopoulos and Vosper 1999.
    """
    table = floats("returns", returns, ndim=2)
    steps = integer("steps", steps, least=1)
    out = np.empty_like(table)
    for at in range(table.shape[1]):
        shocks, mean = _filtered(np.ascontiguousarray(table[:, at]), model, steps, None, str(at))
        out[:, at] = shocks + steps * mean
    return out


def age_weights(count: int, decay: float) -> Floats:
    """Probabilities of `count` scenarios, oldest first: each is `decay` times the next [1]_.

    References
    ----------
    .. [1] Boudoukh, Richardson and Whitelaw, "The best of both worlds", Risk 11, 1998: the newest of n has
       ``(1 - decay) / (1 - decay^n)``.

    Examples
    --------
    >>> age_weights(3, 0.5).round(4).tolist()
    [0.1429, 0.2857, 0.5714]
    """
    count, decay = integer("count", count, least=1), number("decay", decay, above=0.0, most=1.0)
    raw = np.empty(count)
    powers(np.full(count, decay), np.arange(count - 1.0, -1.0, -1.0), raw)
    return np.asarray(raw / math.fsum(raw))


def margin_period_steps(close_out_days: float, *, call_every_days: float = 1.0, step_days: float = 1.0) -> int:
    """Periods of the margin period of risk: the days to close out, plus the days between two calls, less one [1]_.

    Parameters
    ----------
    close_out_days : float
        Days it takes to close or replace the position once a call is missed, above 0: two or five at clearing houses,
        ten for bilateral trades.
    call_every_days : float
        Days between margin calls, above 0; below one where calls are intraday.
    step_days : float
        Days of one period of the prices, above 0.

    References
    ----------
    .. [1] Basel Committee, CRE52.50: ``F + N - 1``.

    Examples
    --------
    >>> margin_period_steps(10.0, call_every_days=5.0)
    14
    """
    days = (number("close_out_days", close_out_days, above=0.0) - 1.0
            + number("call_every_days", call_every_days, above=0.0))
    # Rounded before it is rounded up: 0.1 x 10 days must not become two periods.
    steps = math.ceil(round(days / number("step_days", step_days, above=0.0), 9))
    return max(steps, 1)


def liquidity_cascade(shortfalls: npt.ArrayLike, horizons_days: npt.ArrayLike, *, base_days: float = 10.0) -> float:
    """Expected shortfall over liquidity horizons: root of the sum of scaled squares [1]_.

    Parameters
    ----------
    shortfalls : float64 array, shape (horizons,)
        Expected shortfall over `base_days` of the factors whose own horizon is at least ``horizons_days[j]``; the first
        is of all factors.
    horizons_days : float64 array, shape (horizons,)
        Above 0, rising: 10, 20, 40, 60, 120 in the Basel rules.
    base_days : float
        Horizon of the shortfalls, above 0.

    References
    ----------
    .. [1] Basel Committee, MAR33.5: ``ES^2 = sum_j ES_j^2 (LH_j - LH_(j-1)) / T``.
    """
    parts, days = floats("shortfalls", shortfalls), floats("horizons_days", horizons_days)
    base = number("base_days", base_days, above=0.0)
    if len(parts) != len(days):
        raise ShapeError(f"horizons_days must have one value per shortfall ({len(parts)}), had {len(days)}")
    if days[0] <= 0.0 or (np.diff(days) <= 0.0).any():
        raise RangeError(f"horizons_days must be positive and rise, was {days.tolist()}")
    steps = np.diff(np.concatenate([[0.0], days]))
    return math.sqrt(math.fsum(parts**2 * steps / base))


def liquidity_shortfall(position_pnl: npt.ArrayLike, horizons_days: npt.ArrayLike, level: float = 0.975, *,
                        base_days: float = 10.0, weights: npt.ArrayLike | None = None) -> float:
    """Expected shortfall of positions that take different times to leave, by the cascade of `liquidity_cascade`.

    Parameters
    ----------
    position_pnl : float64 array, shape (positions, scenarios)
        Profit (+) or loss (-) over `base_days`.
    horizons_days : float64 array, shape (positions,)
        Liquidity horizon of each position, at least `base_days`.
    level : float
        Confidence in [0.5, 1).
    base_days : float
        Above 0.
    weights : float64 array, shape (scenarios,), optional
        Probabilities, equal when omitted.

    Returns
    -------
    float
        At least 0, unit of `position_pnl`.  A part whose shortfall is negative, a gain even in the tail, counts as 0.
    """
    table = floats("position_pnl", position_pnl, ndim=2)
    days = floats("horizons_days", horizons_days, length=len(table))
    base = number("base_days", base_days, above=0.0)
    if days.min() < base:
        raise RangeError(f"horizons_days must be at least base_days = {base:g}, was {float(days.min())!r}")
    measure, steps = ExpectedShortfall(level), np.unique(np.concatenate([[base], days]))
    parts = [max(0.0, measure.loss(table[days >= step].sum(axis=0), weights)) for step in steps]
    return liquidity_cascade(parts, steps, base_days=base)
