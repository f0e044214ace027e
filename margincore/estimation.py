"""How sure a measure is: standard error and confidence interval of an estimate from scenarios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError
from margincore.measure import (
    ExpectedShortfall,
    Measure,
    ValueAtRisk,
    Worst,
    checked_measure,
    checked_weights,
    only,
    single,
)
from margincore.units import Floats, choice, integer, number

METHODS = ("order", "bootstrap")
BLOCK = 2_000_000  # resampled values held at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A loss with its sampling error, in the unit of the P&L.

    `lower` and `upper` bound the true value with probability `confidence`; a bound the sample cannot give is infinite.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    confidence: float
    method: str

    def __str__(self) -> str:
        return (f"{self.value:.6g} (standard error {self.standard_error:.3g}, "
                f"{self.confidence:.0%} in [{self.lower:.6g}, {self.upper:.6g}], {self.method})")


def estimate(pnl: npt.ArrayLike, measure: Measure, *, confidence: float = 0.95, method: str = "order",
             generator: np.random.Generator | None = None, resamples: int = 2_000,
             weights: npt.ArrayLike | None = None) -> Estimate:
    """A measure of independent, equally distributed scenarios with its standard error and confidence interval.

    Parameters
    ----------
    pnl : float64 array, shape (scenarios,)
        P&L in each scenario.
    measure : Measure
        Not `Worst`, which is a maximum over the scenarios given and estimates nothing.
    confidence : float
        Of the interval, in (0, 1).
    method : {"order", "bootstrap"}
        "order" needs no randomness.  Value at risk: the interval between two order statistics that the binomial law
        gives, and the standard error of Maritz and Jarrett [1]_ (the bootstrap's, in closed form).  Expected shortfall:
        the asymptotic error of Manistre and Hancock [2]_ and the interval of Student's t over the scenarios of the
        tail, still short where they are few and heavy: 95 % covers 92 % with ten normal ones, 87 % with ten and 85 %
        with three of Student-t with four degrees.  "bootstrap" resamples the scenarios (by their weights, if given),
        for every measure: standard deviation and percentile interval, for shortfalls shorter still (87, 81 and 55 % of
        the same).
    generator : numpy.random.Generator, optional
        Needed by "bootstrap"; the same state gives the same answer.
    resamples : int
        At least 100.
    weights : float64 array, shape (scenarios,), optional
        Probabilities; "bootstrap" only.

    References
    ----------
    .. [1] Maritz and Jarrett, "A note on estimating the variance of the sample median", JASA 73, 1978.
    .. [2] Manistre and Hancock, "Variance of the CTE estimator", North American Actuarial Journal 9, 2005.
    """
    checked_measure(measure)
    if isinstance(measure, Worst):
        raise RangeError("measure must estimate something; the worst of given scenarios has no sampling error")
    confidence = number("confidence", confidence, above=0.0, below=1.0)
    row = single(pnl)
    value = only(measure.losses(row, weights), row)
    if choice("method", method, METHODS) == "bootstrap":
        return _bootstrap(row[0], measure, value, confidence, generator, integer("resamples", resamples, least=100),
                          weights)
    if weights is not None:
        raise RangeError("method must be 'bootstrap' when weights are given, was 'order'")
    losses = 0.0 - np.sort(row[0])  # worst first, no negative zero
    if isinstance(measure, ValueAtRisk):
        return _order_statistics(losses, value, measure.level, confidence)
    if isinstance(measure, ExpectedShortfall):
        return _shortfall(losses, value, measure.level, confidence)
    raise RangeError(f"method must be 'bootstrap' for {type(measure).__name__}, was 'order'")


def _order_statistics(losses: Floats, value: float, level: float, confidence: float) -> Estimate:
    from scipy.special import betainc
    from scipy.stats import binom

    from margincore.kernels.risk import tail_ranks

    n, tail, side = len(losses), 1.0 - level, 0.5 * (1.0 - confidence)
    rank = tail_ranks(level, n)[1]
    steps = np.diff(betainc(rank, n - rank + 1, np.arange(n + 1) / n))
    mean = float(steps @ losses)
    error = math.sqrt(max(float(steps @ (losses - mean) ** 2), 0.0))
    # The i-th worst loss lies above the quantile exactly when at least i losses do.
    deeper = int(binom.ppf(side, n, tail))
    while deeper >= 1 and binom.cdf(deeper - 1, n, tail) > side:
        deeper -= 1
    shallower = int(binom.isf(side, n, tail)) + 1
    upper = float(losses[deeper - 1]) if deeper >= 1 else math.inf
    lower = float(losses[shallower - 1]) if shallower <= n else -math.inf
    return Estimate(value, error, lower, upper, confidence, "order")


def _shortfall(losses: Floats, value: float, level: float, confidence: float) -> Estimate:
    from scipy.stats import t

    from margincore.kernels.risk import tail_ranks

    count, rank, _ = tail_ranks(level, len(losses))
    tail = losses[:rank]
    spread = float(tail.var(ddof=1)) if rank > 1 else math.nan  # one loss tells nothing of the depth of the tail
    error = math.sqrt((spread + level * (value - float(losses[rank - 1])) ** 2) / count)
    if error != error:
        return Estimate(value, math.inf, -math.inf, math.inf, confidence, "order")
    # The spread is that of `rank` losses: Student's quantile allows for how little so few say of it.
    width = float(t.isf(0.5 * (1.0 - confidence), rank - 1)) * error
    return Estimate(value, error, value - width, value + width, confidence, "order")


def _bootstrap(pnl: Floats, measure: Measure, value: float, confidence: float,
               generator: np.random.Generator | None, resamples: int, weights: npt.ArrayLike | None) -> Estimate:
    if not isinstance(generator, np.random.Generator):
        raise RangeError(f"generator must be a numpy.random.Generator for the bootstrap, was {generator!r}")
    n = len(pnl)
    probability = None if weights is None else checked_weights(weights, n)
    found = np.empty(resamples)
    step = max(BLOCK // n, 1)
    for at in range(0, resamples, step):
        shape = (min(step, resamples - at), n)
        if probability is None:
            drawn = generator.integers(0, n, shape)
        else:
            drawn = generator.choice(n, shape, p=probability)
        found[at:at + shape[0]] = measure.losses(pnl[drawn]).loss
    side = 0.5 * (1.0 - confidence)
    lower, upper = np.quantile(found, [side, 1.0 - side])
    return Estimate(value, float(found.std(ddof=1)), float(lower), float(upper), confidence, "bootstrap")
