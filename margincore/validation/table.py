"""Coverage of many portfolios at once, and the table that clearing houses publish of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.measure import NOT_FINITE, checked_level
from margincore.units import Floats, choice, floats, integer
from margincore.validation.base import aligned, tail_probability
from margincore.validation.frequency import (
    FORMS,
    conditional_statistic,
    dq_statistic,
    independence_statistic,
    pof_statistic,
    zones,
)

ZONES = ("green", "yellow", "red")


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Quantitative disclosure 6.5 of CPMI-IOSCO: how often margin was exceeded, and by how much.

    Attributes
    ----------
    observations, exceptions : int
        Account-days observed, and those whose loss was above the margin held.
    target_coverage, achieved_coverage : float
        Level aimed at, and one less the share of exceptions.
    average_uncovered, largest_uncovered : float
        Mean and greatest loss beyond the margin over the exceptions, in the unit of the P&L; 0 without an exception.

    References
    ----------
    .. [1] CPMI-IOSCO, "Public quantitative disclosure standards for central counterparties", 2015, item 6.5.
    """

    observations: int
    exceptions: int
    target_coverage: float
    achieved_coverage: float
    average_uncovered: float
    largest_uncovered: float

    def __str__(self) -> str:
        rows = (("observations", f"{self.observations}"), ("exceptions", f"{self.exceptions}"),
                ("target coverage", f"{self.target_coverage:.4%}"),
                ("achieved coverage", f"{self.achieved_coverage:.4%}"),
                ("average uncovered exposure", f"{self.average_uncovered:.6g}"),
                ("largest uncovered exposure", f"{self.largest_uncovered:.6g}"))
        return "\n".join(f"{name:<28}{value:>16}" for name, value in rows)


def disclosure(pnl: npt.ArrayLike, margin: npt.ArrayLike, level: float) -> Disclosure:
    """The table of item 6.5 for one account, or for many: all account-days are counted together.

    Parameters
    ----------
    pnl : float64 array, shape (observations,) or (portfolios, observations)
        Profit (+) or loss (-) over the close-out period that the margin held at its start was to cover.
    margin : float64 array, the shape of `pnl`
        Margin held at the start.
    level : float
        Coverage aimed at, in [0.5, 1).
    """
    level = checked_level(level)
    realised = floats("pnl", pnl, ndim=None)
    held = floats("margin", margin, ndim=None)
    if realised.shape != held.shape:
        raise ShapeError(f"margin must have the shape of pnl {realised.shape}, had {held.shape}")
    uncovered = (-realised - held)[-realised > held]
    exceptions = uncovered.size
    return Disclosure(realised.size, exceptions, level, 1.0 - exceptions / realised.size,
                      float(uncovered.mean()) if exceptions else 0.0, float(uncovered.max()) if exceptions else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """Coverage tests of many portfolios, arrays of shape (portfolios,).

    `code` int32 is 0, or -4 (MC_EFINITE) where a P&L or forecast is not finite: every other entry is then NaN (or
    -1, or "unknown").  p-values are NaN where the sample cannot say anything.
    """

    level: float
    code: npt.NDArray[np.int32]
    observations: npt.NDArray[np.int64]
    exceptions: npt.NDArray[np.int64]
    achieved_coverage: Floats
    average_uncovered: Floats
    largest_uncovered: Floats
    pof: Floats
    independence: Floats
    conditional: Floats
    dynamic_quantile: Floats
    zone: npt.NDArray[np.str_]
    names: tuple[str, ...]

    def accepted(self, significance: float = 0.05) -> npt.NDArray[np.bool_]:
        """Portfolios that neither the proportion of failures nor conditional coverage rejects; False where unknown."""
        return np.asarray((self.code == 0) & ~(self.pof < significance) & ~(self.conditional < significance))

    def __str__(self) -> str:
        head = f"{'':<14}{'obs':>7}{'exc':>6}{'coverage':>10}{'avg unc':>11}{'max unc':>11}" \
               f"{'POF':>8}{'ind':>8}{'cc':>8}{'DQ':>8}  zone"
        lines = [head]
        for i, name in enumerate(self.names):
            lines.append(
                f"{name:<14.13}{self.observations[i]:>7}{self.exceptions[i]:>6}{self.achieved_coverage[i]:>10.4%}"
                f"{self.average_uncovered[i]:>11.4g}{self.largest_uncovered[i]:>11.4g}{self.pof[i]:>8.3f}"
                f"{self.independence[i]:>8.3f}{self.conditional[i]:>8.3f}{self.dynamic_quantile[i]:>8.3f}"
                f"  {self.zone[i]}")
        return "\n".join(lines)


def backtest(pnl: npt.ArrayLike, forecast: npt.ArrayLike, level: float, *, names: Sequence[str] | None = None,
             lags: int = 4, form: str = "sum") -> Backtest:
    """Every coverage test for every portfolio in one call; one bad portfolio spoils its own row alone.

    Parameters
    ----------
    pnl, forecast : float64 array, shape (portfolios, observations)
        Realised P&L and stated value at risk (a loss) of each period; one axis counts as one portfolio.
    level : float
        Level of the forecasts, in [0.5, 1).
    names : sequence of str, optional
        Names of the portfolios, for the printed table.
    lags : int
        Lags of the dynamic quantile test.
    form : {"sum", "transition"}
        Form of conditional coverage, see `christoffersen_conditional`.
    """
    from scipy.stats import binom, chi2

    level = checked_level(level)
    tail = tail_probability(level)
    lags, form = integer("lags", lags, least=0), choice("form", form, FORMS)
    realised = np.atleast_2d(floats("pnl", pnl, ndim=None, finite=False))
    stated = np.atleast_2d(floats("forecast", forecast, ndim=None, finite=False))
    if realised.shape != stated.shape or realised.ndim != 2:
        raise ShapeError(f"forecast must have the shape of pnl {realised.shape}, had {stated.shape}")
    portfolios, n = realised.shape
    if n < 2 * (lags + 2):
        raise ShapeError(f"pnl must have at least {2 * (lags + 2)} observations for {lags} lags, had {n}")
    labels = tuple(str(i) for i in range(portfolios)) if names is None else tuple(names)
    if len(labels) != portfolios:
        raise ShapeError(f"names must have one name per portfolio ({portfolios}), had {len(labels)}")
    sound = np.asarray(np.isfinite(realised).all(axis=1) & np.isfinite(stated).all(axis=1))
    realised, stated = np.where(sound[:, None], realised, 0.0), np.where(sound[:, None], stated, 0.0)
    hits = -realised > stated
    failures = hits.sum(axis=1)
    excess = np.where(hits, -realised - stated, 0.0)
    counted = np.asarray(failures, float)
    informative = sound & (hits[:, :-1].sum(axis=1) > 0) & (hits[:, :-1].sum(axis=1) < n - 1)
    dq = np.full(portfolios, np.nan)
    for i in np.flatnonzero(sound):
        statistic, degrees = dq_statistic(hits[i], stated[i], tail, lags)
        dq[i] = chi2.sf(statistic, degrees)
    probability = binom.cdf(failures, n, tail)
    return Backtest(
        level=level, code=np.where(sound, 0, NOT_FINITE).astype(np.int32),
        observations=np.full(portfolios, n, np.int64),
        exceptions=np.where(sound, failures, -1).astype(np.int64),
        achieved_coverage=np.where(sound, 1.0 - failures / n, np.nan),
        average_uncovered=np.where(sound, excess.sum(axis=1) / np.maximum(failures, 1), np.nan),
        largest_uncovered=np.where(sound, excess.max(axis=1), np.nan),
        pof=np.where(sound, chi2.sf(pof_statistic(counted, np.full(portfolios, float(n)), tail), 1), np.nan),
        independence=np.where(informative, chi2.sf(independence_statistic(hits), 1), np.nan),
        conditional=np.where(sound, chi2.sf(conditional_statistic(hits, tail, form), 2), np.nan),
        dynamic_quantile=dq, zone=np.where(sound, zones(failures, probability), "unknown"), names=labels)


def align(dates: npt.ArrayLike, pnl: npt.ArrayLike, forecast_dates: npt.ArrayLike,
          forecast: npt.ArrayLike) -> tuple[Floats, Floats]:
    """P&L and forecasts of the dates both series have, in time order; dates must rise strictly in each.

    Raises
    ------
    ShapeError
        If dates do not rise, do not fit their series, or the series share none.
    NotFiniteError
        If a date is NaN or NaT.
    RangeError
        If dates cannot be compared with one another, as text with datetime64.
    """
    realised, stated = floats("pnl", pnl), floats("forecast", forecast)
    first, second = np.asarray(dates), np.asarray(forecast_dates)
    try:
        left, right = _common(first, second, realised, stated)
    except TypeError:
        raise RangeError("dates and forecast_dates must be dates of one kind, were "
                         f"{dates!r:.40} and {forecast_dates!r:.40}") from None
    return aligned(realised[left], stated[right])


def _common(first: npt.NDArray[Any], second: npt.NDArray[Any], realised: Floats,
            stated: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Places of the dates that both have."""
    for name, moments, values in (("dates", first, realised), ("forecast_dates", second, stated)):
        if moments.shape != values.shape:
            raise ShapeError(f"{name} must have one date per value ({len(values)}), had shape {moments.shape}")
        unknown = np.asarray((moments != moments) | (np.isinf(moments) if moments.dtype.kind == "f" else False))
        if unknown.any():  # NaN and NaT, which compare with nothing
            where = int(unknown.argmax())
            raise NotFiniteError(f"{name} must be finite, was {moments[where]} at position {where}")
        if (moments[1:] <= moments[:-1]).any():
            where = int((moments[1:] <= moments[:-1]).argmax()) + 1
            raise ShapeError(f"{name} must rise strictly, did not at position {where} ({moments[where]})")
    common, left, right = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    if not len(common):
        raise ShapeError("dates and forecast_dates must share at least one date, shared none")
    return left, right
