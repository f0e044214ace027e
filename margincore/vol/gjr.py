"""GJR-GARCH(p, q): falls weigh more than rises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import ShapeError
from margincore.units import Floats, number
from margincore.vol.base import Recursion, VolatilityModel, check_common, check_persistence, weights
from margincore.vol.fit import PanelFit, VolatilityFit, maximise, maximise_panel
from margincore.vol.innovation import Innovation, Normal
from margincore.vol.problem import FitSpec, Vector, lags


@dataclass(frozen=True, slots=True, kw_only=True)
class Gjr(VolatilityModel):
    """GJR: ``h' = omega + sum_j (alpha_j + gamma_j 1[e_j < 0]) e_j^2 + sum_k beta_k h_k``, ``e = r - mean`` [1]_.

    Parameters
    ----------
    omega : float
        Positive, variance per step.
    alpha, gamma, beta : float or sequence of float
        Newest lag first; `alpha`, ``alpha + gamma`` and `beta` not negative, as many `gamma` as `alpha`.
        `persistence` must be below 1.
    mean : float
        Mean return per step.
    innovation : Normal, StudentT or SkewT
        Law of the standardised shock.
    start_variance : float, optional
        Variance before the first return, half of it from falls; the long-run variance when omitted.

    Notes
    -----
    Persistence, forecasts and the long run take the share of the variance that lies below zero from the law, one half
    only where it is symmetric.  Under a skewed law they differ from those of packages that always take one half.

    References
    ----------
    .. [1] L. Glosten, R. Jagannathan, D. Runkle, *On the relation between the expected value and the volatility of
       the nominal excess return on stocks*, Journal of Finance 48 (1993), 1779-1801.
    """

    omega: float
    alpha: float | Sequence[float]
    gamma: float | Sequence[float]
    beta: float | Sequence[float] = ()
    mean: float = 0.0
    innovation: Innovation = Normal()
    start_variance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", number("omega", self.omega, above=0.0))
        alpha, gamma = weights("alpha", self.alpha), weights("gamma", self.gamma, least=None)
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "gamma", gamma)
        object.__setattr__(self, "beta", weights("beta", self.beta))
        if len(alpha) != len(gamma):
            raise ShapeError(f"gamma must have the {len(alpha)} lags of alpha, had {len(gamma)}")
        for rise, extra in zip(alpha, gamma, strict=True):
            number("alpha + gamma", rise + extra, least=0.0)
        check_common(self)
        check_persistence(self.persistence)

    @property
    def persistence(self) -> float:
        """Share of a variance shock that survives one step, in [0, 1)."""
        gamma = math.fsum(weights("gamma", self.gamma, least=None))
        rest = math.fsum((*weights("alpha", self.alpha), *weights("beta", self.beta)))
        return rest + gamma * self.innovation.low_share()

    @property
    def unconditional_variance(self) -> float:
        """Long-run variance per step."""
        return self.omega / (1.0 - self.persistence)

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""
        alpha, gamma = weights("alpha", self.alpha), weights("gamma", self.gamma, least=None)
        return Recursion(mean=self.mean, omega=self.omega, first=alpha,
                         second=tuple(x + y for x, y in zip(alpha, gamma, strict=True)),
                         beta=weights("beta", self.beta), first_share=1.0 - self.innovation.low_share())

    @classmethod
    def fit(cls, returns: Any, *, p: int = 1, q: int = 1, mean: str = "constant", innovation: str = "normal",
            start: str | float = "backcast", targeting: bool = False) -> VolatilityFit:
        """Maximum likelihood; see `margincore.vol.fit.maximise` for the arguments.

        With `targeting`, omega is such that the long-run variance is that of the sample; not under a skewed law.
        """
        return maximise(SPEC, returns, p=p, q=q, mean=mean, innovation=innovation, start=start, targeting=targeting)

    @classmethod
    def fit_panel(cls, returns: Any, *, p: int = 1, q: int = 1, mean: str = "constant",
                  innovation: str = "normal", start: str | float = "backcast", targeting: bool = False,
                  threads: int = 1) -> PanelFit:
        """Maximum likelihood of each column of `returns` (times, series) on its own, on `threads` threads."""
        return maximise_panel(SPEC, returns, p=p, q=q, mean=mean, innovation=innovation, start=start,
                              targeting=targeting, threads=threads)


def _theta(values: Vector, p: int, q: int) -> Vector:
    return np.concatenate([values[:2 + p], values[2:2 + p] + values[2 + p:2 + 2 * p], values[2 + 2 * p:]])


def _values(theta: Floats, p: int, q: int) -> Floats:
    return np.concatenate([theta[:2 + p], theta[2 + p:2 + 2 * p] - theta[2:2 + p], theta[2 + 2 * p:]])


def _model(values: Floats, p: int, q: int, innovation: Innovation, start_variance: float) -> Gjr:
    # The difference that makes gamma rounds; the sum alpha + gamma must not end below zero by it.
    gamma = np.maximum(values[2 + p:2 + 2 * p], -values[2:2 + p])
    return Gjr(mean=values[0], omega=values[1], alpha=tuple(values[2:2 + p]), gamma=tuple(gamma),
               beta=tuple(values[2 + 2 * p:2 + 2 * p + q]), innovation=innovation, start_variance=start_variance)


SPEC = FitSpec("gjr", lambda p, q: ("mean", "omega", *lags("alpha", p), *lags("gamma", p), *lags("beta", q)), _theta,
               _values, _model)
