"""Back-tests of expected shortfall: are losses beyond the value at risk as deep as stated?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError, ShapeError
from margincore.measure import checked_level
from margincore.units import Floats, choice, floats, integer, number
from margincore.validation.base import Verdict, aligned, tail_probability

Statistic = Callable[[Floats, Floats, Floats, float], Floats]
DISTRIBUTIONS = ("normal", "t")
BLOCK = 2_000_000  # simulated values held at once
ROUNDING = 1e-12


def _forecasts(pnl: npt.ArrayLike, value_at_risk: npt.ArrayLike,
               expected_shortfall: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    realised, quantile = aligned(pnl, value_at_risk, "value_at_risk")
    _, shortfall = aligned(pnl, expected_shortfall, "expected_shortfall")
    if (shortfall <= 0.0).any():
        raise RangeError(f"expected_shortfall must be positive, was {shortfall.min():g} at {int(shortfall.argmin())}")
    below = quantile - shortfall > ROUNDING * np.abs(quantile)  # the mean of equal losses may be less by its rounding
    if below.any():
        where = int(below.argmax())
        raise RangeError(f"expected_shortfall must be at least value_at_risk, was {shortfall[where]:g} below "
                         f"{quantile[where]:g} at {where}")
    return realised, quantile, shortfall


def _z1(pnl: Floats, quantile: Floats, shortfall: Floats, tail: float) -> Floats:
    hits = pnl + quantile < 0.0
    count = hits.sum(axis=-1)
    total = np.where(hits, pnl / shortfall, 0.0).sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1) + 1.0, np.nan))


def _z2(pnl: Floats, quantile: Floats, shortfall: Floats, tail: float) -> Floats:
    hits = pnl + quantile < 0.0
    return np.asarray(np.where(hits, pnl / shortfall, 0.0).sum(axis=-1) / (pnl.shape[-1] * tail) + 1.0)


def z2_statistic(pnl: Floats, value_at_risk: Floats, expected_shortfall: Floats, level: float) -> float:
    """Z2 of Acerbi and Szekely for one portfolio; 0 is expected, below 0 the shortfall was stated too low."""
    return float(_z2(pnl, value_at_risk, expected_shortfall, tail_probability(level)))


def z2_null(observations: int, level: float, *, generator: np.random.Generator, simulations: int = 10_000,
            distribution: str = "t", degrees: float = 5.0) -> Floats:
    """Simulated Z2 of a right model, shape (simulations,); one sample serves every forecast of that many periods."""
    return _null(_z2, observations, level, generator, simulations, distribution, degrees)


def _null(statistic: Statistic, observations: int, level: float, generator: np.random.Generator, simulations: int,
          distribution: str, degrees: float) -> Floats:
    """The statistic over samples of P&L whose stated shortfall is 1: it depends on the ratio of the two alone."""
    from scipy.stats import norm, t

    tail = tail_probability(level)
    if distribution == "normal":
        quantile = float(norm.isf(tail))
        mean_beyond = float(norm.pdf(quantile)) / tail
    else:
        quantile = float(t.isf(tail, degrees))
        mean_beyond = float(t.pdf(quantile, degrees)) / tail * (degrees + quantile * quantile) / (degrees - 1.0)
    one = np.ones(1)
    step = max(BLOCK // observations, 1)
    parts = []
    for at in range(0, simulations, step):
        shape = (min(step, simulations - at), observations)
        draws = generator.standard_normal(shape) if distribution == "normal" else generator.standard_t(degrees, shape)
        parts.append(statistic(draws / mean_beyond, quantile / mean_beyond * one, one, tail))
    return np.concatenate(parts)


def acerbi_szekely(pnl: npt.ArrayLike, value_at_risk: npt.ArrayLike, expected_shortfall: npt.ArrayLike, level: float, *,
                   test: str = "z2", generator: np.random.Generator, simulations: int = 10_000,
                   distribution: str = "t", degrees: float = 5.0, draws: npt.ArrayLike | None = None) -> Verdict:
    """Tests 1 and 2 of Acerbi and Szekely, with simulated p-values; statistics below 0 speak of too low a shortfall.

    Z1 is 1 less the mean ratio of loss to stated shortfall over the exceptions (given that there are any); Z2 sums the
    ratios over all periods and divides by the number expected, so that too many exceptions count as well.

    Parameters
    ----------
    pnl : float64 array, shape (observations,)
        Realised profit (+) or loss (-).
    value_at_risk, expected_shortfall : float64 array, shape (observations,)
        Forecasts as losses; shortfall is positive and not below value at risk.
    level : float
        Level of both forecasts, in [0.5, 1).
    test : {"z1", "z2"}
    generator : numpy.random.Generator
        Source of the simulated p-value; the same state gives the same p-value.
    simulations : int
        Samples of the statistic under the null hypothesis.
    distribution : {"normal", "t"}
        Shape of the null hypothesis, scaled to the stated shortfall of each period; its own value at risk counts the
        simulated exceptions.
    degrees : float
        Degrees of freedom of "t", above 1.
    draws : float64 array, shape (simulations, observations), optional
        P&L drawn from the model's own predictive distributions; replaces `distribution`.

    Returns
    -------
    Verdict
        p-value = (1 + simulated statistics that are not above the observed) / (1 + simulations).  Z1 without an
        exception is NaN, and its p-value without one in any sample.

    References
    ----------
    .. [1] Acerbi and Szekely, "Backtesting expected shortfall", Risk, December 2014, equations 6 and 10.
    """
    level = checked_level(level)
    tail = tail_probability(level)
    realised, quantile, shortfall = _forecasts(pnl, value_at_risk, expected_shortfall)
    statistic = {"z1": _z1, "z2": _z2}[choice("test", test, ("z1", "z2"))]
    choice("distribution", distribution, DISTRIBUTIONS)
    degrees = number("degrees", degrees, above=1.0)
    simulations = integer("simulations", simulations, least=100)
    if not isinstance(generator, np.random.Generator):
        raise RangeError(f"generator must be a numpy.random.Generator, was {generator!r}")
    observed = float(statistic(realised, quantile, shortfall, tail))
    hits = int((realised + quantile < 0.0).sum())
    name = f"Acerbi-Szekely {test.upper()}"
    if observed != observed:
        return Verdict(name, np.nan, np.nan, len(realised), hits)
    if draws is not None:
        sample = floats("draws", draws, ndim=2)
        if sample.shape[1] != len(realised):
            raise ShapeError(f"draws must have one column per observation ({len(realised)}), had shape {sample.shape}")
        found = statistic(sample, quantile, shortfall, tail)
    else:
        found = _null(statistic, len(realised), level, generator, simulations, distribution, degrees)
    found = found[~np.isnan(found)]  # Z1 is conditional on at least one exception
    p_value = (1.0 + float((found <= observed).sum())) / (1.0 + len(found)) if len(found) else np.nan
    return Verdict(name, observed, p_value, len(realised), hits)


def mcneil_frey(pnl: npt.ArrayLike, value_at_risk: npt.ArrayLike, expected_shortfall: npt.ArrayLike, *,
                generator: np.random.Generator, scale: npt.ArrayLike | None = None,
                resamples: int = 10_000) -> Verdict:
    """Exceedance residuals: losses beyond the value at risk exceed the stated shortfall by nothing on average.

    The residuals (loss less shortfall, over the scale of the period) of the exceptions are tested for a mean of zero
    against a positive one by a bootstrap of their Student statistic, which assumes no distribution.

    Parameters
    ----------
    pnl, value_at_risk, expected_shortfall
        As `acerbi_szekely`.
    generator : numpy.random.Generator
        Source of the bootstrap.
    scale : float64 array, shape (observations,), optional
        Conditional standard deviation of each period; the stated shortfall when omitted.
    resamples : int

    Returns
    -------
    Verdict
        NaN with fewer than two different exceedances.

    References
    ----------
    .. [1] McNeil and Frey, "Estimation of tail-related risk measures for heteroscedastic financial time series",
       Journal of Empirical Finance 7, 2000, section 3.2; bootstrap of Efron and Tibshirani 1993, page 224.
    """
    realised, quantile, shortfall = _forecasts(pnl, value_at_risk, expected_shortfall)
    width = shortfall if scale is None else aligned(pnl, scale, "scale")[1]
    if (width <= 0.0).any():
        raise RangeError(f"scale must be positive, was {width.min():g} at {int(width.argmin())}")
    resamples = integer("resamples", resamples, least=100)
    if not isinstance(generator, np.random.Generator):
        raise RangeError(f"generator must be a numpy.random.Generator, was {generator!r}")
    hits = realised + quantile < 0.0
    residual = ((-realised - shortfall) / width)[hits]
    count = len(residual)
    name = "McNeil-Frey exceedance residuals"
    if count < 2 or residual.std(ddof=1) == 0.0:
        return Verdict(name, np.nan, np.nan, len(realised), count)
    observed = float(residual.mean() / (residual.std(ddof=1) / np.sqrt(count)))
    centred = residual - residual.mean()
    sample = centred[generator.integers(0, count, (resamples, count))]
    spread = sample.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sample.mean(axis=1) / (spread / np.sqrt(count))
    # A resample of one repeated value has no spread: its statistic is infinite with the sign of its mean.
    found = np.where(np.isnan(found), 0.0, found)
    p_value = (1.0 + float((found >= observed).sum())) / (1.0 + resamples)
    return Verdict(name, observed, p_value, len(realised), count)
