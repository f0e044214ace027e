"""EGARCH(p, q): the logarithm of the variance moves, so no parameter needs a sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import RangeError, ShapeError
from margincore.kernels.variance import VarianceState
from margincore.units import Floats, integer, number
from margincore.vol.base import Forecast, Recursion, VolatilityModel, check_common, weights
from margincore.vol.fit import PanelFit, VolatilityFit, maximise, maximise_panel
from margincore.vol.innovation import Innovation, Normal
from margincore.vol.problem import FitSpec, Vector, lags

MEAN_ABSOLUTE = math.sqrt(2.0 / math.pi)  # of the normal law, whatever the innovation: omega absorbs the rest
TERMS_MOST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Egarch(VolatilityModel):
    """EGARCH: ``ln h' = omega + sum_j (alpha_j (|z_j| - sqrt(2/pi)) + gamma_j z_j) + sum_k beta_k ln h_k`` [1]_.

    With ``z = (r - mean) / sqrt(h)``.

    Parameters
    ----------
    omega : float
        Of the log variance per step.
    alpha, gamma, beta : float or sequence of float
        Newest lag first, as many `gamma` as `alpha`; the autoregression `beta` must be stationary.
    mean : float
        Mean return per step.
    innovation : Normal, StudentT or SkewT
        Law of the standardised shock.
    start_variance : float, optional
        Variance before the first return; the exponential of the mean log variance when omitted.

    Notes
    -----
    Under a Student law the expected variance two or more steps ahead is infinite where a shock raises the log
    variance: `unconditional_variance` is infinite, and `forecast` answers one step only, or further ones by simulation
    where a generator is given.

    References
    ----------
    .. [1] D. Nelson, *Conditional heteroskedasticity in asset returns: a new approach*, Econometrica 59 (1991),
       equations 2.1-2.2.
    """

    omega: float
    alpha: float | Sequence[float]
    gamma: float | Sequence[float] = 0.0
    beta: float | Sequence[float] = ()
    mean: float = 0.0
    innovation: Innovation = Normal()
    start_variance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", number("omega", self.omega))
        alpha, gamma = (weights(name, getattr(self, name), least=None) for name in ("alpha", "gamma"))
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "gamma", gamma)
        object.__setattr__(self, "beta", weights("beta", self.beta, least=None))
        if len(alpha) != len(gamma):
            raise ShapeError(f"gamma must have the {len(alpha)} lags of alpha, had {len(gamma)}")
        check_common(self)
        if not self.persistence < 1.0:
            raise RangeError(f"beta must have its roots inside the unit circle, the largest was {self.persistence!r}")

    @property
    def persistence(self) -> float:
        """Largest root of the autoregression of the log variance, in [0, 1)."""
        beta = weights("beta", self.beta, least=None)
        return float(np.max(np.abs(np.roots([1.0, *(-x for x in beta)])), initial=0.0))

    @property
    def unconditional_variance(self) -> float:
        """Long-run variance per step; infinite under a heavy tail that feeds back.

        Raises
        ------
        RangeError
            Under a heavy tail where shocks only calm: it exists then, but has no closed form.
        """
        responses = self._responses(TERMS_MOST)
        if isinstance(self.innovation, Normal):
            return math.exp(self._mean_log(MEAN_ABSOLUTE) + math.fsum(_log_moment(a, g) for a, g in responses))
        if all(a + g <= 0.0 and a - g <= 0.0 for a, g in responses):
            raise RangeError(f"innovation must be Normal for a long-run variance in closed form where shocks calm, was "
                             f"{self.innovation!r}: take the mean of `simulate`")
        return math.inf

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""
        return Recursion(mean=self.mean, omega=self.omega, first=weights("alpha", self.alpha, least=None),
                         second=weights("gamma", self.gamma, least=None),
                         beta=weights("beta", self.beta, least=None), form="logarithm")

    @classmethod
    def fit(cls, returns: Any, *, p: int = 1, q: int = 1, mean: str = "constant", innovation: str = "normal",
            start: str | float = "backcast") -> VolatilityFit:
        """Maximum likelihood; see `margincore.vol.fit.maximise` for the arguments."""
        return maximise(SPEC, returns, p=p, q=q, mean=mean, innovation=innovation, start=start, targeting=False)

    @classmethod
    def fit_panel(cls, returns: Any, *, p: int = 1, q: int = 1, mean: str = "constant",
                  innovation: str = "normal", start: str | float = "backcast", threads: int = 1) -> PanelFit:
        """Maximum likelihood of each column of `returns` (times, series) on its own, on `threads` threads."""
        return maximise_panel(SPEC, returns, p=p, q=q, mean=mean, innovation=innovation, start=start,
                              targeting=False, threads=threads)

    def forecast(self, history: Any, horizon_steps: int, *, generator: np.random.Generator | None = None,
                 paths: int = 10_000) -> Forecast:
        """Expected variance path over the next `horizon_steps` returns; see `VolatilityModel.forecast`.

        Exact under the normal law.  Otherwise, with a `generator`, the mean over `paths` simulated paths, for which
        the same generator state gives the same bits.  Where the expectation is infinite (see Notes of the class) that
        mean grows with the number of paths and is set by the rarest of them: take quantiles of `simulate` instead.

        Parameters
        ----------
        history : float64 array, shape (times,), or VarianceState of this model
        horizon_steps : int
            At least 1.
        generator : numpy.random.Generator, optional
            Asks for simulation; needed beyond one step under Student-t or skewed t.
        paths : int
            At least 100.
        """
        if generator is None:
            return VolatilityModel.forecast(self, history, horizon_steps)  # a class of slots has no bare super()
        steps = integer("horizon_steps", horizon_steps, least=1)
        state = self._own(history) if isinstance(history, VarianceState) else self.start(history)
        drawn = self.simulate(steps, generator, paths=integer("paths", paths, least=100), state=state).variance
        path = np.array([math.fsum(column) / len(column) for column in drawn.T])
        path[0] = state.variance
        return Forecast(path, math.fsum(path))

    def _mean_log(self, absolute_mean: float) -> float:
        alpha, beta = weights("alpha", self.alpha, least=None), weights("beta", self.beta, least=None)
        shift = math.fsum(alpha) * (absolute_mean - MEAN_ABSOLUTE)
        return (self.omega + shift) / (1.0 - math.fsum(beta))

    def _resting_variance(self) -> float:
        return math.exp(self._mean_log(self.innovation.absolute_mean()))

    def _responses(self, count: int) -> list[tuple[float, float]]:
        # Weights of the shocks 1, 2, ... steps back in the log variance, until they no longer matter.
        recursion = self.recursion()
        past: list[tuple[float, float]] = []
        for lag in range(count):
            own = (recursion.first[lag], recursion.second[lag]) if lag < len(recursion.first) else (0.0, 0.0)
            known = list(zip(recursion.beta, reversed(past), strict=False))
            past.append((math.fsum([own[0], *(b * x[0] for b, x in known)]),
                         math.fsum([own[1], *(b * x[1] for b, x in known)])))
            recent = past[-max(len(recursion.beta), 1):]
            if lag >= len(recursion.first) and max(abs(x) for pair in recent for x in pair) < 1e-18:
                break
        return past

    def _path(self, lag_values: dict[str, Any], steps: int) -> Floats:
        responses = self._responses(steps - 1)
        if steps > 1 and not isinstance(self.innovation, Normal):
            raise RangeError(f"horizon_steps must be 1 under a law with heavy tails (the expected variance further "
                             f"ahead need not exist; give a generator to simulate it), was {steps}")
        a, b, level = list(lag_values["a"]), list(lag_values["b"]), list(lag_values["level"])
        recursion = self.recursion()
        path, moments = np.empty(steps), 0.0
        path[0] = math.exp(level[0])
        for step in range(1, steps):
            a, b = [0.0, *a[:-1]], [0.0, *b[:-1]]  # coming shocks enter by their exponential moments
            terms = zip((recursion.first, recursion.second, recursion.beta), (a, b, level), strict=True)
            following = math.fsum([recursion.omega, *(
                weight * lag for row, values in terms for weight, lag in zip(row, values, strict=False))])
            level = [following, *level[:-1]]
            moments += _log_moment(*responses[step - 1]) if step <= len(responses) else 0.0
            path[step] = math.exp(following + moments)
        return path


def _log_moment(a: float, g: float) -> float:
    # ln E exp(a (|z| - sqrt(2/pi)) + g z) for a standard normal z.
    up, down = a + g, a - g
    tails = [math.exp(0.5 * x * x) * 0.5 * math.erfc(-x / math.sqrt(2.0)) for x in (up, down)]
    return math.log(math.fsum(tails)) - a * MEAN_ABSOLUTE


def _same(values: Vector, p: int, q: int) -> Vector:
    return values.copy()


def _model(values: Floats, p: int, q: int, innovation: Innovation, start_variance: float) -> Egarch:
    return Egarch(mean=values[0], omega=values[1], alpha=tuple(values[2:2 + p]),
                  gamma=tuple(values[2 + p:2 + 2 * p]), beta=tuple(values[2 + 2 * p:2 + 2 * p + q]),
                  innovation=innovation, start_variance=start_variance)


SPEC = FitSpec("egarch", lambda p, q: ("mean", "omega", *lags("alpha", p), *lags("gamma", p), *lags("beta", q)), _same,
               _same, _model)
