"""Realised variance of a path sampled within a period: sub-sampled, robust to jumps, and a test for jumps."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import MissingDataError, RangeError, ShapeError
from margincore.kernels import realised as kernel
from margincore.units import DAYS_PER_YEAR, Floats, floats, integer, number
from margincore.vol.windows import PRICE_MAX, PRICE_MIN, Result, fill, log_returns, prices, volatility

# mu_1 = E|Z| = sqrt(2/pi) of a standard normal; theta = pi^2/4 + pi - 5 (Barndorff-Nielsen, Shephard 2006,
# eq. 7).
INVERSE_MU_SQUARED = math.pi / 2.0
THETA = math.pi * math.pi / 4.0 + math.pi - 5.0
OBSERVATIONS_MIN = 11  # ten returns; below, the normal law of the statistic is out of sight


def _mean(terms: Floats) -> float:
    count, mean, m2 = np.empty((3, 1))
    kernel.row_moments(np.ascontiguousarray(terms)[None, :], count, mean, m2)
    return float(mean[0])


def _path(price: Any, least: int) -> Floats:
    path = prices("price", price)
    if np.isnan(path).any():
        i = int(np.flatnonzero(np.isnan(path))[0])
        raise MissingDataError(f"price must be there at every step, was nan at position {i}")
    if len(path) < least:
        raise ShapeError(f"price must have at least {least} observations, had {len(path)}")
    return path


def realised_variance(price: Any, *, step: int = 1) -> float:
    """Variance of the log price over the whole path: sum of squared returns, averaged over sub-samples.

    With `step` above 1, returns span `step` observations and all `step` grids are averaged [1]_:
    microstructure noise falls, little information is lost.  The sum over the ``n - step + 1`` overlapping
    returns is scaled by ``n / (step * (n - step + 1))`` to the full path of ``n`` returns.

    Parameters
    ----------
    price : float64 array, shape (observations,)
        Equally spaced in the clock of choice, positive, no gap.
    step : int
        Observations per return, at most the number of returns.

    Returns
    -------
    float
        Of the whole path, not annualised; 0.0 for a path that does not move.

    Raises
    ------
    ShapeError, NotFiniteError, RangeError, MissingDataError
        If there are fewer than `step` + 1 prices, or one is not positive and finite.

    References
    ----------
    .. [1] L. Zhang, P. A. Mykland, Y. Aït-Sahalia, "A tale of two time scales", Journal of the American
       Statistical Association 100 (2005), section 3.2, with the finite-sample scaling of section 4.2.
    """
    path = _path(price, integer("step", step, least=1) + 1)
    returns = np.empty(len(path) - step)
    kernel.log_ratios(path[step:], path[:-step], returns)
    return _mean(returns * returns) * ((len(path) - 1) / step)


def bipower_variation(price: Any) -> float:
    """Variance of the log price over the whole path without its jumps.

    ``pi/2 * n/(n-1) * sum |r_i| |r_(i-1)|`` over the n returns [1]_; at least two returns.  Arguments and
    errors as in `realised_variance`.

    References
    ----------
    .. [1] O. E. Barndorff-Nielsen, N. Shephard, "Power and bipower variation with stochastic volatility and
       jumps", Journal of Financial Econometrics 2 (2004).
    """
    size = np.abs(log_returns(_path(price, 3))[1:])
    return INVERSE_MU_SQUARED * len(size) * _mean(size[1:] * size[:-1])


def bipower(close: Any, *, window: int | None = None, expanding: bool = False,
            periods_per_year: float = DAYS_PER_YEAR, missing: str = "error") -> Result:
    """Volatility per annum from closes, robust to jumps: root of the mean of ``pi/2 |r_i| |r_(i-1)|``.

    Arguments and result as in `margincore.vol.realised.close_to_close`.
    """
    (c,) = fill((prices("close", close),), missing)
    size = np.abs(log_returns(c))
    terms = np.full(len(c), np.nan)
    terms[1:] = INVERSE_MU_SQUARED * (size[1:] * size[:-1])
    return volatility("close", (terms,), lambda m: m[0].mean, least=1, window=window, expanding=expanding,
                      periods_per_year=periods_per_year)


@dataclass(frozen=True, slots=True)
class JumpTest:
    """Barndorff-Nielsen-Shephard ratio test of one path, not annualised.

    Attributes
    ----------
    realised_variance, bipower_variation : float
        Total variance, and its continuous part.
    quadpower_quarticity : float
        Estimate of the integral of the squared variance, robust to jumps.
    statistic : float
        Standard normal without jumps, large and positive with them.
    p_value : float
        Probability of a statistic at least as large without jumps.
    jump_variance : float
        ``max(realised - bipower, 0)``.
    """

    realised_variance: float
    bipower_variation: float
    quadpower_quarticity: float
    statistic: float
    p_value: float
    jump_variance: float

    def rejects(self, level: float = 0.99) -> bool:
        """Whether a path without jumps is rejected at confidence `level` in (0, 1)."""
        return self.p_value < 1.0 - number("level", level, above=0.0, below=1.0)


class PathStatus(enum.IntEnum):
    """What became of one path of a panel; zero, the value of fresh memory, is UNKNOWN."""

    UNKNOWN = 0   # a price is missing, not finite or not positive: every measure is NaN
    CONSTANT = 1  # no two neighbouring steps move: the variance stands, the test has no value
    GOOD = 2


@dataclass(frozen=True, slots=True, eq=False)
class RealisedMeasures:
    """Realised measures of many paths; float64 arrays of shape (paths,), NaN where `status` says so.

    Attributes
    ----------
    realised_variance, bipower_variation, quadpower_quarticity, statistic, p_value, jump_variance
        As in `JumpTest`.
    status : list of PathStatus
        One per path.
    """

    realised_variance: Floats
    bipower_variation: Floats
    quadpower_quarticity: Floats
    statistic: Floats
    p_value: Floats
    jump_variance: Floats
    status: list[PathStatus]


def realised_measures(price: Any) -> RealisedMeasures:
    """Realised variance, bipower variation and jump test of many paths at once, one per day for example.

    Parameters
    ----------
    price : float64 array, shape (paths, observations)
        Equally spaced; at least 11 observations.  A path with a bad price gets the status UNKNOWN and NaN, the others
        are not touched; the numbers are those of `jump_test`, bit for bit.

    Returns
    -------
    RealisedMeasures
    """
    panel = floats("price", price, ndim=2, finite=False)
    if panel.shape[1] < OBSERVATIONS_MIN:
        raise ShapeError(f"price must have at least {OBSERVATIONS_MIN} observations, had {panel.shape[1]}")
    good = ((panel >= PRICE_MIN) & (panel <= PRICE_MAX)).all(axis=1)
    result = np.full((len(panel), 6), np.nan)
    status = [PathStatus.UNKNOWN] * len(panel)
    for row in np.flatnonzero(good):
        found = _measures(panel[row])
        result[row] = (found.realised_variance, found.bipower_variation, found.quadpower_quarticity, found.statistic,
                       found.p_value, found.jump_variance)
        status[row] = PathStatus.CONSTANT if math.isnan(found.statistic) else PathStatus.GOOD
    variance, continuous, quarticity, statistic, p_value, jump = np.ascontiguousarray(result.T)
    return RealisedMeasures(variance, continuous, quarticity, statistic, p_value, jump, status)


def jump_test(price: Any) -> JumpTest:
    """Test whether a path has jumped, by the ratio of bipower to realised variance.

    ``(1 - BV/RV) / sqrt(theta/n * max(1, QQ/BV^2))`` with ``theta = pi^2/4 + pi - 5`` and the quadpower
    quarticity ``QQ = n * (pi/2)^2 * n/(n-3) * sum |r_i r_(i-1) r_(i-2) r_(i-3)|`` [1]_ [2]_.

    Parameters
    ----------
    price : float64 array, shape (observations,)
        Equally spaced, positive, no gap; at least 11.

    Returns
    -------
    JumpTest

    Raises
    ------
    RangeError
        If the price never moves, or so rarely that the bipower variation is zero: the statistic has no
        value then.

    Notes
    -----
    The p-value uses the C library's erfc and is exempt from the same-bits rule.

    References
    ----------
    .. [1] O. E. Barndorff-Nielsen, N. Shephard, "Econometrics of testing for jumps in financial economics
       using bipower variation", Journal of Financial Econometrics 4 (2006), the adjusted ratio statistic.
    .. [2] X. Huang, G. Tauchen, "The relative contribution of jumps to total price variance", Journal of
       Financial Econometrics 3 (2005), for its size in finite samples.
    """
    found = _measures(_path(price, OBSERVATIONS_MIN))
    if math.isnan(found.statistic):
        raise RangeError(f"price must move in neighbouring steps, was {found.bipower_variation!r} in bipower variation")
    return found


def _measures(path: Floats) -> JumpTest:
    size = np.abs(log_returns(path)[1:])
    count, pairs = len(size), size[1:] * size[:-1]
    variance = count * _mean(size * size)
    continuous = INVERSE_MU_SQUARED * count * _mean(pairs)
    quarticity = count * count * INVERSE_MU_SQUARED**2 * _mean(pairs[2:] * pairs[:-2])
    jump = max(variance - continuous, 0.0)
    if not continuous > 0.0:
        return JumpTest(variance, continuous, quarticity, math.nan, math.nan, jump)
    spread = math.sqrt(THETA / count * max(1.0, quarticity / (continuous * continuous)))
    statistic = (1.0 - continuous / variance) / spread
    return JumpTest(variance, continuous, quarticity, statistic, 0.5 * math.erfc(statistic / math.sqrt(2.0)), jump)
