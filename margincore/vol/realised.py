"""Realised volatility per annum from closes or bars: whole sample, rolling or expanding.

Behaviour at the edges, the same for every estimator:

- *Missing bars* are NaN.  ``missing="error"`` (the default) refuses them, ``"skip"`` leaves out what
  touches them, ``"carry"`` takes the last close for them, so that a move across an outage is kept and
  counted over its full time.
- *Whole sample* (`window` omitted): a float; too few bars or a constant series raise.
- *Rolling and expanding*: an array as long as the bars.  The value at a bar uses that bar and those before
  it; NaN until `window` observations are there, where more than half of a window is missing, and where
  nothing moved.
- *A rolling value is the whole-sample value of its bars, bit for bit*, and so is an expanding one.
- Infinite, zero or negative prices, and bars with high below low or open or close outside them, raise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from margincore.errors import RangeError, ShapeError
from margincore.kernels import realised as kernel
from margincore.units import DAYS_PER_YEAR, Floats, integer, number
from margincore.vol.windows import Moments, Result, bars, fill, log_returns, prices, volatility


def _mean(moments: list[Moments]) -> Floats:
    return moments[0].mean


def close_to_close(close: Any, *, window: int | None = None, expanding: bool = False, demean: bool = True,
                   periods_per_year: float = DAYS_PER_YEAR, missing: str = "error") -> Result:
    """Volatility per annum from log returns between closes.

    Parameters
    ----------
    close : float64 array, shape (bars,)
        Positive prices, NaN where the bar is missing.
    window : int, optional
        Returns per value; the whole sample when omitted.
    expanding : bool
        With `window`: all returns so far, from the `window`-th on.
    demean : bool
        Sample variance with divisor n - 1; otherwise the mean square, the right choice for short horizons.
    periods_per_year : float
        Bars per year: 365 for daily bars of a market that never closes, 365 * 24 for hours, 252 for
        exchange days.
    missing : {"error", "skip", "carry"}
        What to do with missing bars, see the module.

    Returns
    -------
    float, or float64 array of shape (bars,) with `window`
        Decimal per annum, 0.55 for 55 %.

    Raises
    ------
    ShapeError, NotFiniteError, RangeError, MissingDataError
        Under the rules of the module.
    """
    (c,) = fill((prices("close", close),), missing)
    returns = log_returns(c)
    if demean:
        return volatility("close", (returns,), lambda m: m[0].sample_variance(), least=2, window=window,
                          expanding=expanding, periods_per_year=periods_per_year)
    return volatility("close", (returns * returns,), _mean, least=1, window=window, expanding=expanding,
                      periods_per_year=periods_per_year)


def ewma(close: Any, *, decay: float = 0.94, observations_min: int = 2,
         periods_per_year: float = DAYS_PER_YEAR, missing: str = "error") -> Floats:
    """RiskMetrics volatility per annum at every bar: exponentially weighted squared log returns, zero mean.

    Weights ``decay**age`` are scaled to sum to one, so that no starting value is needed [1]_; a skipped bar
    ages the past.  `margincore.vol.Ewma` is the same recursion as a streaming model with a starting value.

    Parameters
    ----------
    close : float64 array, shape (bars,)
        Positive prices, NaN where the bar is missing.
    decay : float
        In (0, 1): 0.94 for daily, 0.97 for monthly data.
    observations_min : int
        Returns before the first value.
    periods_per_year, missing
        As in `close_to_close`.

    Returns
    -------
    float64 array, shape (bars,)
        Decimal per annum; NaN before `observations_min` returns and while nothing has moved.

    References
    ----------
    .. [1] J.P. Morgan, *RiskMetrics Technical Document*, 4th edition, 1996, equation 5.1.
    """
    (c,) = fill((prices("close", close),), missing)
    number("decay", decay, above=0.0, below=1.0)
    number("periods_per_year", periods_per_year, above=0.0)
    integer("observations_min", observations_min, least=1)
    returns = log_returns(c)
    counted = np.cumsum(~np.isnan(returns))
    if counted[-1] < observations_min:
        raise ShapeError(f"close must give at least {observations_min} observations, gave {counted[-1]}")
    variance = np.empty(len(c))
    kernel.weighted_means(returns * returns, decay, variance)
    good = (counted >= observations_min) & (variance > 0.0)
    if not good.any():
        raise RangeError("close must move, was constant")
    return np.where(good, np.sqrt(np.where(good, variance, 1.0) * periods_per_year), np.nan)


def parkinson(high: Any, low: Any, *, window: int | None = None, expanding: bool = False,
              periods_per_year: float = DAYS_PER_YEAR, missing: str = "error") -> Result:
    """Volatility per annum from the ranges of the bars: mean of ``ln(H/L)^2 / (4 ln 2)`` [1]_.

    Assumes no drift and no jump between bars.  Arguments and result as in `close_to_close`.

    References
    ----------
    .. [1] M. Parkinson, "The extreme value method for estimating the variance of the rate of return",
       Journal of Business 53 (1980).
    """
    _, h, lo, _ = bars(low, high, low, low)
    h, lo = fill((h, lo), missing)
    terms = np.empty(len(h))
    kernel.parkinson_terms(h, lo, terms)
    return volatility("bars", (terms,), _mean, least=1, window=window, expanding=expanding,
                      periods_per_year=periods_per_year)


def garman_klass(open: Any, high: Any, low: Any, close: Any, *, window: int | None = None,
                 expanding: bool = False, periods_per_year: float = DAYS_PER_YEAR,
                 missing: str = "error") -> Result:
    """Volatility per annum from bars: mean of ``ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2`` [1]_.

    Assumes no drift and no jump between bars.  Arguments and result as in `close_to_close`.

    References
    ----------
    .. [1] M. Garman, M. Klass, "On the estimation of security price volatilities from historical data",
       Journal of Business 53 (1980), the practical form.
    """
    o, h, lo, c = fill(bars(open, high, low, close), missing)
    return volatility("bars", (_garman_klass(o, h, lo, c),), _mean, least=1, window=window,
                      expanding=expanding, periods_per_year=periods_per_year)


def rogers_satchell(open: Any, high: Any, low: Any, close: Any, *, window: int | None = None,
                    expanding: bool = False, periods_per_year: float = DAYS_PER_YEAR,
                    missing: str = "error") -> Result:
    """Volatility per annum from bars, free of drift: mean of ``ln(H/C) ln(H/O) + ln(L/C) ln(L/O)`` [1]_.

    Assumes no jump between bars; a bar that only rises or only falls counts nothing.  Arguments and result
    as in `close_to_close`.

    References
    ----------
    .. [1] L. C. G. Rogers, S. E. Satchell, "Estimating variance from high, low and closing prices", Annals of
       Applied Probability 1 (1991).
    """
    o, h, lo, c = fill(bars(open, high, low, close), missing)
    return volatility("bars", (_rogers_satchell(o, h, lo, c),), _mean, least=1, window=window,
                      expanding=expanding, periods_per_year=periods_per_year)


def garman_klass_yang_zhang(open: Any, high: Any, low: Any, close: Any, *, window: int | None = None,
                            expanding: bool = False, periods_per_year: float = DAYS_PER_YEAR,
                            missing: str = "error") -> Result:
    """Volatility per annum from bars: Garman-Klass plus the opening jump ``ln(O / previous C)^2`` [1]_.

    Assumes no drift; the first bar only gives its close.  Arguments and result as in `close_to_close`.

    References
    ----------
    .. [1] D. Yang, Q. Zhang, "Drift-independent volatility estimation based on high, low, open, and close
       prices", Journal of Business 73 (2000), the extension of Garman-Klass for opening jumps.
    """
    o, h, lo, c = fill(bars(open, high, low, close), missing)
    jump = _opening(o, c)
    return volatility("bars", (jump * jump + _garman_klass(o, h, lo, c),), _mean, least=1, window=window,
                      expanding=expanding, periods_per_year=periods_per_year)


def yang_zhang(open: Any, high: Any, low: Any, close: Any, *, window: int | None = None,
               expanding: bool = False, alpha: float = 1.34, periods_per_year: float = DAYS_PER_YEAR,
               missing: str = "error") -> Result:
    """Volatility per annum from bars with drift and jumps between them.

    Sample variance of the opening jumps, plus ``k`` times that of the moves from open to close, plus ``1 -
    k`` times the Rogers-Satchell mean, ``k = (alpha - 1) / (alpha + (n + 1) / (n - 1))`` [1]_.  The first
    bar only gives its close.  Arguments and result as in `close_to_close`, `alpha` above 1.

    References
    ----------
    .. [1] D. Yang, Q. Zhang, "Drift-independent volatility estimation based on high, low, open, and close
       prices", Journal of Business 73 (2000), alpha = 1.34.
    """
    number("alpha", alpha, above=1.0)
    o, h, lo, c = fill(bars(open, high, low, close), missing)
    body = np.empty(len(o))
    kernel.log_ratios(c, o, body)

    def variance(moments: list[Moments]) -> Floats:
        jumps, bodies, ranges = moments
        with np.errstate(divide="ignore", invalid="ignore"):
            k = (alpha - 1.0) / (alpha + (jumps.count + 1.0) / (jumps.count - 1.0))
        return jumps.sample_variance() + k * bodies.sample_variance() + (1.0 - k) * ranges.mean

    return volatility("bars", (_opening(o, c), body, _rogers_satchell(o, h, lo, c)), variance, least=2,
                      window=window, expanding=expanding, periods_per_year=periods_per_year)


def _garman_klass(o: Floats, h: Floats, lo: Floats, c: Floats) -> Floats:
    out = np.empty(len(o))
    kernel.garman_klass_terms(o, h, lo, c, out)
    return out


def _rogers_satchell(o: Floats, h: Floats, lo: Floats, c: Floats) -> Floats:
    out = np.empty(len(o))
    kernel.rogers_satchell_terms(o, h, lo, c, out)
    return out


def _opening(o: Floats, c: Floats) -> Floats:
    out = np.full(len(o), np.nan)
    kernel.log_ratios(o[1:], c[:-1], out[1:])
    return out
