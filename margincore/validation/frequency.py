"""Back-tests of coverage: do losses exceed the stated value at risk as often, and as independently, as they should?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margincore.errors import ShapeError
from margincore.measure import checked_level
from margincore.units import Floats, choice, integer
from margincore.validation.base import Flags, Verdict, aligned, checked_hits, tail_probability

FORMS = ("sum", "transition")

# Basel Committee, "Supervisory framework for the use of backtesting", January 1996, table 2: increase of the factor 3
# by the number of exceptions among 250 at 99 %; 10 and more are the red zone.
BASEL_INCREASE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.40, 0.50, 0.65, 0.75, 0.85)
YELLOW_FROM, RED_FROM = 0.95, 0.9999


@dataclass(frozen=True, slots=True)
class TrafficLight:
    """Zone of the Basel traffic light: green, yellow or red.

    `probability` is that of this many exceptions or fewer if the coverage is right; `increase` is what is added to the
    multiplication factor of 3.
    """

    zone: str
    probability: float
    increase: float
    observations: int
    exceptions: int


def log_likelihood(failures: Floats, successes: Floats, probability: Floats | float) -> Floats:
    """Bernoulli log likelihood, with 0 log 0 = 0."""
    from scipy.special import xlog1py, xlogy

    return np.asarray(xlogy(failures, probability) + xlog1py(successes, -np.asarray(probability)))


def share(failures: Floats, trials: Floats) -> Floats:
    """failures / trials, and 0 where nothing was tried."""
    return np.divide(failures, trials, out=np.zeros(np.shape(trials)), where=np.asarray(trials) > 0)


def pof_statistic(failures: Floats, trials: Floats, tail: float) -> Floats:
    """Likelihood ratio of the proportion of failures, element by element."""
    rest = trials - failures
    ratio = log_likelihood(failures, rest, share(failures, trials)) - log_likelihood(failures, rest, tail)
    return np.maximum(2.0 * ratio, 0.0)


def transitions(hits: Flags) -> tuple[Floats, Floats, Floats, Floats]:
    """Numbers of the moves 00, 01, 10, 11 along the last axis."""
    before, after = hits[..., :-1], hits[..., 1:]

    def count(first: Flags, second: Flags) -> Floats:
        return np.asarray((first & second).sum(axis=-1), float)

    return count(~before, ~after), count(~before, after), count(before, ~after), count(before, after)


def independence_statistic(hits: Flags) -> Floats:
    """Likelihood ratio of a first-order Markov chain against independence, element by element."""
    n00, n01, n10, n11 = transitions(hits)
    chain = log_likelihood(n01, n00, share(n01, n00 + n01)) + log_likelihood(n11, n10, share(n11, n10 + n11))
    failures, rest = n01 + n11, n00 + n10
    return np.maximum(2.0 * (chain - log_likelihood(failures, rest, share(failures, failures + rest))), 0.0)


def conditional_statistic(hits: Flags, tail: float, form: str) -> Floats:
    """Likelihood ratio of conditional coverage in either form, element by element."""
    if form == "sum":
        failures = np.asarray(hits.sum(axis=-1), float)
        coverage = pof_statistic(failures, np.full(failures.shape, float(hits.shape[-1])), tail)
    else:
        _, n01, _, n11 = transitions(hits)
        coverage = pof_statistic(n01 + n11, np.full(np.shape(n01), float(hits.shape[-1] - 1)), tail)
    return coverage + independence_statistic(hits)


def dq_statistic(hits: Flags, forecast: Floats | None, tail: float, lags: int) -> tuple[float, int]:
    """Statistic of the dynamic quantile test and its degrees of freedom, the rank of the regressors."""
    demeaned = hits.astype(float) - tail
    used = len(demeaned) - lags
    columns = [np.ones(used)] + [demeaned[lags - k:len(demeaned) - k] for k in range(1, lags + 1)]
    if forecast is not None:
        columns.append(forecast[lags:] / max(float(np.abs(forecast).max()), np.finfo(float).tiny))
    regressors = np.column_stack(columns)
    target = demeaned[lags:]
    coefficient, _, rank, _ = np.linalg.lstsq(regressors, target, rcond=None)
    fitted = regressors @ coefficient
    return float(fitted @ fitted / (tail * (1.0 - tail))), int(rank)


def _chi2(statistic: float, degrees: int) -> float:
    from scipy.stats import chi2

    return float(chi2.sf(statistic, degrees))


def kupiec_pof(exceptions: npt.ArrayLike, level: float) -> Verdict:
    """Proportion of failures: is the number of exceptions that of the level?  Chi-squared with 1 degree of freedom.

    Parameters
    ----------
    exceptions : bool array, shape (observations,)
        From `exceptions(pnl, forecast)`.
    level : float
        Level of the forecasts, in [0.5, 1).

    References
    ----------
    .. [1] Kupiec, "Techniques for verifying the accuracy of risk measurement models", Journal of Derivatives, 1995.
    """
    hits, tail = checked_hits(exceptions), tail_probability(checked_level(level))
    failures, n = int(hits.sum()), len(hits)
    statistic = float(pof_statistic(np.asarray(float(failures)), np.asarray(float(n)), tail))
    return Verdict("Kupiec proportion of failures", statistic, _chi2(statistic, 1), n, failures)


def kupiec_tuff(exceptions: npt.ArrayLike, level: float) -> Verdict:
    """Time until first failure: does the first exception come when the level says?  Chi-squared, 1 degree of freedom.

    Without an exception the wait is only known to be longer than the sample: the ratio is that of no exception in all
    observations, -2 n ln(level).  Reference: Kupiec 1995.
    """
    hits, tail = checked_hits(exceptions), tail_probability(checked_level(level))
    n, failures = len(hits), int(hits.sum())
    if failures:
        wait = float(np.argmax(hits) + 1)
        statistic = float(pof_statistic(np.asarray(1.0), np.asarray(wait), tail))
    else:
        statistic = float(-2.0 * n * np.log1p(-tail))
    return Verdict("Kupiec time until first failure", statistic, _chi2(statistic, 1), n, failures)


def christoffersen_independence(exceptions: npt.ArrayLike) -> Verdict:
    """Independence: is an exception as likely after an exception as after none?  Chi-squared, 1 degree of freedom.

    Fewer than one exception among the periods with a successor cannot say anything: statistic and p-value are NaN.

    References
    ----------
    .. [1] Christoffersen, "Evaluating interval forecasts", International Economic Review 39, 1998.
    """
    hits = checked_hits(exceptions)
    failures = int(hits.sum())
    if not 0 < int(hits[:-1].sum()) < len(hits) - 1:
        return Verdict("Christoffersen independence", np.nan, np.nan, len(hits), failures)
    statistic = float(independence_statistic(hits))
    return Verdict("Christoffersen independence", statistic, _chi2(statistic, 1), len(hits), failures)


def christoffersen_conditional(exceptions: npt.ArrayLike, level: float, *, form: str = "sum") -> Verdict:
    """Conditional coverage: right number and independent.  Chi-squared with 2 degrees of freedom.

    Parameters
    ----------
    exceptions, level
        As `kupiec_pof`.
    form : {"sum", "transition"}
        "sum" adds Kupiec's ratio over all observations to the independence ratio, as most handbooks and packages do;
        "transition" is the ratio of the paper, on the transitions alone, so that the first observation only
        conditions.  They differ by the coverage term of that observation.

    References
    ----------
    .. [1] Christoffersen, "Evaluating interval forecasts", International Economic Review 39, 1998.
    """
    hits, tail = checked_hits(exceptions), tail_probability(checked_level(level))
    statistic = float(conditional_statistic(hits, tail, choice("form", form, FORMS)))
    return Verdict(f"Christoffersen conditional coverage, {form} form", statistic, _chi2(statistic, 2), len(hits),
                   int(hits.sum()))


def engle_manganelli(pnl: npt.ArrayLike, forecast: npt.ArrayLike, level: float, *, lags: int = 4) -> Verdict:
    """Dynamic quantile test: nothing known before a period explains its exception.

    The exceptions less their probability are regressed on a constant, their own `lags` and the forecast; degrees of
    freedom are the rank of the regressors (a constant forecast adds none).

    References
    ----------
    .. [1] Engle and Manganelli, "CAViaR", Journal of Business and Economic Statistics 22, 2004, theorem 4 (in sample
       terms left out: the forecasts are taken as given).
    """
    realised, stated = aligned(pnl, forecast)
    lags = integer("lags", lags, least=0)
    tail = tail_probability(checked_level(level))
    if len(realised) < 2 * (lags + 2):
        raise ShapeError(f"pnl must have at least {2 * (lags + 2)} observations for {lags} lags, had {len(realised)}")
    hits = -realised > stated
    statistic, degrees = dq_statistic(hits, stated, tail, lags)
    return Verdict(f"Engle-Manganelli dynamic quantile, {lags} lags", statistic, _chi2(statistic, degrees), len(hits),
                   int(hits.sum()))


def zones(failures: npt.ArrayLike, probability: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Zone by the number of exceptions and the probability of as many or fewer, element by element.

    No exception is green however short the sample: of few observations even none reaches 95 % of the distribution.
    """
    reached = np.where(np.asarray(failures) > 0, probability, 0.0)
    return np.where(reached < YELLOW_FROM, "green", np.where(reached < RED_FROM, "yellow", "red"))


def traffic_light(exceptions: npt.ArrayLike, level: float) -> TrafficLight:
    """Basel traffic light: yellow from 95 % of the binomial distribution on, red from 99.99 %; no exception is green.

    With 250 observations at 99 %, 0 to 4 exceptions are green, 5 to 9 yellow, 10 and more red, and the increase is that
    of the Committee's table; elsewhere, in the yellow zone, it is what a normal distribution needs to bring the
    achieved coverage back to the level, at most 1.

    References
    ----------
    .. [1] Basel Committee, "Supervisory framework for the use of backtesting", January 1996.
    """
    from scipy.stats import binom, norm

    hits, level = checked_hits(exceptions), checked_level(level)
    n, failures = len(hits), int(hits.sum())
    probability = float(binom.cdf(failures, n, tail_probability(level)))
    zone = str(zones(failures, probability))
    if zone == "red":
        increase = 1.0
    elif zone == "green":
        increase = 0.0
    elif n == 250 and tail_probability(level) == 0.01:
        increase = BASEL_INCREASE[failures]
    else:
        achieved = float(norm.ppf(1.0 - failures / n))
        increase = min(3.0 * (float(norm.ppf(level)) / achieved - 1.0), 1.0) if achieved > 0.0 else 1.0
    return TrafficLight(zone, probability, increase, n, failures)
