"""GARCH(p, q)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.units import Floats, number
from margincore.vol.base import Recursion, VolatilityModel, check_common, check_persistence, weights
from margincore.vol.fit import PanelFit, VolatilityFit, maximise, maximise_panel
from margincore.vol.innovation import Innovation, Normal
from margincore.vol.problem import FitSpec, Vector, lags


@dataclass(frozen=True, slots=True, kw_only=True)
class Garch(VolatilityModel):
    """GARCH(p, q): ``h' = omega + sum_j alpha_j e_j^2 + sum_k beta_k h_k`` with ``e = r - mean`` [1]_.

    Parameters
    ----------
    omega : float
        Positive, variance per step.
    alpha, beta : float or sequence of float
        Not negative, newest lag first; together below 1.
    mean : float
        Mean return per step.
    innovation : Normal, StudentT or SkewT
        Law of the standardised shock.
    start_variance : float, optional
        Variance (and squared shock) before the first return; the long-run variance when omitted.

    References
    ----------
    .. [1] T. Bollerslev, *Generalized autoregressive conditional heteroskedasticity*, Journal of Econometrics
       31 (1986), equation 2.
    """

    omega: float
    alpha: float | Sequence[float]
    beta: float | Sequence[float] = ()
    mean: float = 0.0
    innovation: Innovation = Normal()
    start_variance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", number("omega", self.omega, above=0.0))
        object.__setattr__(self, "alpha", weights("alpha", self.alpha))
        object.__setattr__(self, "beta", weights("beta", self.beta))
        check_common(self)
        check_persistence(self.persistence)

    @property
    def persistence(self) -> float:
        """Share of a variance shock that survives one step, in [0, 1)."""
        return math.fsum((*weights("alpha", self.alpha), *weights("beta", self.beta)))

    @property
    def unconditional_variance(self) -> float:
        """Long-run variance per step."""
        return self.omega / (1.0 - self.persistence)

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""
        alpha = weights("alpha", self.alpha)
        return Recursion(mean=self.mean, omega=self.omega, first=alpha, second=alpha,
                         beta=weights("beta", self.beta))

    @classmethod
    def fit(cls, returns: Any, *, p: int = 1, q: int = 1, mean: str = "constant", innovation: str = "normal",
            start: str | float = "backcast", targeting: bool = False) -> VolatilityFit:
        """Maximum likelihood; see `margincore.vol.fit.maximise` for the arguments.

        With `targeting`, omega is such that the long-run variance is that of the sample.
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
    return np.concatenate([values[:2 + p], values[2:]])


def _values(theta: Floats, p: int, q: int) -> Floats:
    return np.concatenate([theta[:2 + p], theta[2 + 2 * p:]])


def _model(values: Floats, p: int, q: int, innovation: Innovation, start_variance: float) -> Garch:
    return Garch(mean=values[0], omega=values[1], alpha=tuple(values[2:2 + p]), beta=tuple(values[2 + p:2 + p + q]),
                 innovation=innovation, start_variance=start_variance)


SPEC = FitSpec("garch", lambda p, q: ("mean", "omega", *lags("alpha", p), *lags("beta", q)), _theta, _values, _model)
