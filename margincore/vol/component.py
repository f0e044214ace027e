"""Component GARCH: a long-run variance that itself moves, for memory that outlasts a GARCH(1, 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import RangeError
from margincore.units import Floats, number
from margincore.vol.base import Recursion, VolatilityModel, check_common, check_persistence
from margincore.vol.fit import PanelFit, VolatilityFit, maximise, maximise_panel
from margincore.vol.innovation import Innovation, Normal
from margincore.vol.problem import FitSpec, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Component(VolatilityModel):
    """Engle and Lee's component model [1]_.

    ::

        q' = omega + rho q + phi (e^2 - h)                    the long run
        h' = q' + alpha (e^2 - q) + beta (h - q)              around it, with e = r - mean

    It runs as the GARCH(2, 2) that it is, so it streams and forecasts like any other.

    Parameters
    ----------
    omega : float
        Positive, variance per step.
    alpha, beta, rho, phi : float
        Not negative, with ``phi <= beta`` and ``alpha + beta < rho < 1``: positive variance, and a long run slower
        than the short run.
    mean : float
        Mean return per step.
    innovation : Normal, StudentT or SkewT
        Law of the standardised shock.
    start_variance : float, optional
        Variance before the first return; the long-run variance when omitted.

    References
    ----------
    .. [1] R. Engle, G. Lee, *A long-run and short-run component model of stock return volatility*, in Cointegration,
       Causality, and Forecasting, Oxford 1999, equations 2.4-2.8.
    """

    omega: float
    alpha: float
    beta: float
    rho: float
    phi: float
    mean: float = 0.0
    innovation: Innovation = Normal()
    start_variance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", number("omega", self.omega, above=0.0))
        for name in ("alpha", "beta", "rho", "phi"):
            object.__setattr__(self, name, number(name, getattr(self, name), least=0.0))
        check_common(self)
        check_persistence(self.persistence)
        if not self.phi <= self.beta:
            raise RangeError(f"phi must be at most beta {self.beta!r} for a positive variance, was {self.phi!r}")
        if not self.alpha + self.beta < self.rho:
            raise RangeError(f"alpha + beta must be below rho {self.rho!r}, was {self.alpha + self.beta!r}")

    @property
    def persistence(self) -> float:
        """Share of a long-run shock that survives one step, in [0, 1)."""
        return self.rho

    @property
    def unconditional_variance(self) -> float:
        """Long-run variance per step."""
        return self.omega / (1.0 - self.rho)

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""
        theta = _theta(np.array([self.mean, self.omega, self.alpha, self.beta, self.rho, self.phi]), 2, 2).tolist()
        return Recursion(mean=self.mean, omega=theta[1], first=tuple(theta[2:4]), second=tuple(theta[4:6]),
                         beta=tuple(theta[6:8]))

    @classmethod
    def fit(cls, returns: Any, *, mean: str = "constant", innovation: str = "normal",
            start: str | float = "backcast") -> VolatilityFit:
        """Maximum likelihood; see `margincore.vol.fit.maximise` for the arguments."""
        return maximise(SPEC, returns, p=1, q=1, mean=mean, innovation=innovation, start=start, targeting=False)

    @classmethod
    def fit_panel(cls, returns: Any, *, mean: str = "constant", innovation: str = "normal",
                  start: str | float = "backcast", threads: int = 1) -> PanelFit:
        """Maximum likelihood of each column of `returns` (times, series) on its own, on `threads` threads."""
        return maximise_panel(SPEC, returns, p=1, q=1, mean=mean, innovation=innovation, start=start,
                              targeting=False, threads=threads)


def _theta(values: Vector, p: int, q: int) -> Vector:
    # Both recursions in lags of e^2 and h alone: (1 - rho L)(1 - (alpha + beta) L) on both sides.
    mean, omega, alpha, beta, rho, phi = values[:6]
    delta = alpha + beta
    shocks = [alpha + phi, -(phi * delta + alpha * rho)]
    return np.array([mean, omega * (1.0 - delta), *shocks, *shocks, rho + beta - phi, phi * delta - rho * beta,
                     *values[6:]])


def _values(theta: Floats, p: int, q: int) -> Floats:
    # The other way round: rho and alpha + beta are the roots of the autoregression of e^2.
    sum_roots, product = theta[2] + theta[6], -(theta[3] + theta[7])
    root = np.sqrt(np.maximum(0.25 * sum_roots * sum_roots - product, 0.0))
    rho, delta = 0.5 * sum_roots + root, 0.5 * sum_roots - root
    alpha = (-theta[3] - theta[2] * delta) / (rho - delta) if rho > delta else 0.0
    return np.array([theta[0], theta[1] / (1.0 - delta), alpha, delta - alpha, rho, theta[2] - alpha, *theta[8:]])


def _model(values: Floats, p: int, q: int, innovation: Innovation, start_variance: float) -> Component:
    mean, omega, alpha, beta, rho, phi = (float(value) for value in values[:6])
    alpha, phi = max(alpha, 0.0), max(phi, 0.0)  # the way back from the roots rounds
    return Component(mean=mean, omega=omega, alpha=alpha, beta=beta, rho=rho, phi=min(phi, beta),
                     innovation=innovation, start_variance=start_variance)


SPEC = FitSpec("component", lambda p, q: ("mean", "omega", "alpha", "beta", "rho", "phi"), _theta, _values, _model,
               kernel_orders=(2, 2))
