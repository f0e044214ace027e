"""Extreme value theory: the tail beyond a threshold as a generalised Pareto law, for levels such as 99.9 %."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margincore.errors import NotConvergedError, RangeError, ShapeError
from margincore.measure import checked_level
from margincore.units import Floats, floats, integer, number

EXCEEDANCES_LEAST = 20


@dataclass(frozen=True, slots=True)
class TailFit:
    """Losses beyond `threshold`: P(L - threshold > y | L > threshold) = (1 + shape y / scale)^(-1 / shape).

    Attributes
    ----------
    threshold : float
        Loss from which on the tail is modelled.
    shape, scale : float
        xi and beta; a positive shape is a heavy tail, moments above 1 / shape do not exist.
    exceedances, observations : int
    shape_error, scale_error : float
        Asymptotic standard errors, NaN for a shape of -1/2 and below.
    """

    threshold: float
    shape: float
    scale: float
    exceedances: int
    observations: int
    shape_error: float
    scale_error: float

    def _tail(self, level: float) -> float:
        tail = 1.0 - checked_level(level)
        reach = self.exceedances / self.observations
        if tail > reach * (1.0 + 1e-10):  # 1 - 0.95 is a little more than 1 in 20
            raise RangeError(f"level must be at least {1.0 - reach:.6g}, the share below the threshold, was {level!r}")
        return min(tail / reach, 1.0)

    def value_at_risk(self, level: float) -> float:
        """Loss exceeded with probability ``1 - level``; the level must lie beyond the threshold."""
        ratio = self._tail(level)
        if abs(self.shape) < 1e-12:
            return self.threshold - self.scale * math.log(ratio)
        return self.threshold + self.scale * math.expm1(-self.shape * math.log(ratio)) / self.shape

    def expected_shortfall(self, level: float) -> float:
        """Mean loss beyond the value at risk; needs a shape below 1."""
        if self.shape >= 1.0:
            raise RangeError(f"shape must be below 1 for a mean to exist, was {self.shape:g}")
        quantile = self.value_at_risk(level)
        return (quantile + self.scale - self.shape * self.threshold) / (1.0 - self.shape)

    def value_at_risk_error(self, level: float) -> float:
        """Asymptotic standard error of the value at risk from the errors of shape and scale (delta method)."""
        ratio, xi = self._tail(level), self.shape
        growth = math.expm1(-xi * math.log(ratio)) / xi if abs(xi) > 1e-8 else -math.log(ratio)
        by_scale = growth
        log_ratio = math.log(ratio)
        by_shape = (self.scale * (-log_ratio * math.exp(-xi * log_ratio) - growth) / xi if abs(xi) > 1e-8
                    else 0.5 * self.scale * log_ratio * log_ratio)
        common = (1.0 + xi) / self.exceedances
        covariance = -common * self.scale
        variance = (by_scale**2 * self.scale_error**2 + by_shape**2 * self.shape_error**2
                    + 2.0 * by_scale * by_shape * covariance)
        return math.sqrt(variance) if variance >= 0.0 else math.nan


def fit_tail(pnl: npt.ArrayLike, *, tail: float = 0.1, exceedances: int | None = None) -> TailFit:
    """Fit a generalised Pareto law to the worst losses by maximum likelihood (peaks over threshold).

    Parameters
    ----------
    pnl : float64 array, shape (observations,)
    tail : float
        Share of observations beyond the threshold, in (0, 0.5].
    exceedances : int, optional
        Their number, instead of `tail`; at least 20.

    Raises
    ------
    ShapeError
        Fewer than 20 exceedances.
    NotConvergedError
        The likelihood has no interior maximum, as with tied losses.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, *Quantitative Risk Management*, 2015, section 5.2, equations 5.16 to 5.19.
    .. [2] Grimshaw, "Computing maximum likelihood estimates for the generalized Pareto distribution", 1993.
    """
    losses = -np.sort(floats("pnl", pnl))
    tail = number("tail", tail, above=0.0, most=0.5)
    count = int(round(tail * len(losses), 9)) if exceedances is None else integer("exceedances", exceedances)
    if count < EXCEEDANCES_LEAST or count >= len(losses):
        raise ShapeError(f"exceedances must be in [{EXCEEDANCES_LEAST}, {len(losses)}), was {count} of {len(losses)}")
    threshold = float(losses[count])
    excess = losses[:count] - threshold
    if not excess[-1] > 0.0:  # ties at the threshold are no exceedances
        excess = excess[excess > 0.0]
    if len(excess) < EXCEEDANCES_LEAST:
        raise NotConvergedError("the losses beyond the threshold are tied; choose another threshold")
    shape, scale = _likelihood_maximum(excess)
    regular = shape > -0.5
    error = (1.0 + shape) / math.sqrt(len(excess)) if regular else math.nan
    scale_error = scale * math.sqrt(2.0 * (1.0 + shape) / len(excess)) if regular else math.nan
    return TailFit(threshold, shape, scale, len(excess), len(losses), error, scale_error)


def _likelihood_maximum(excess: Floats) -> tuple[float, float]:
    """Profile over ``theta = shape / scale``: the shape is then the mean of log(1 + theta excess)."""
    from scipy.optimize import minimize_scalar

    unit = float(excess.mean())
    scaled = excess / unit
    edge = -1.0 / float(scaled.max())

    def negative(theta: float) -> float:
        if abs(theta) < 1e-10:
            return 1.0  # exponential: log of the mean excess, plus one
        shape = float(np.log1p(theta * scaled).mean())
        ratio = shape / theta
        return math.log(ratio) + shape + 1.0 if ratio > 0.0 else math.inf

    grid = np.concatenate([edge * (1.0 - np.geomspace(1e-6, 1.0, 40)), np.geomspace(1e-4, 1e3, 80)])
    values = [negative(float(theta)) for theta in grid]
    order = np.argsort(grid)
    grid, values = grid[order], [values[i] for i in order]
    best = int(np.argmin(values))
    if best in (0, len(grid) - 1):
        raise NotConvergedError("the likelihood of the tail has no maximum inside its range; take more exceedances")
    found = minimize_scalar(negative, bounds=(float(grid[best - 1]), float(grid[best + 1])), method="bounded",
                            options={"xatol": 1e-12})
    theta = float(found.x)
    if abs(theta) < 1e-10:
        return 0.0, unit
    shape = float(np.log1p(theta * scaled).mean())
    return shape, unit * shape / theta
