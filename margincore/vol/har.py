"""HAR: tomorrow's realised variance from its means over a day, a week and a month."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from margincore.errors import NotConvergedError, NotFiniteError, RangeError, ShapeError
from margincore.kernels.variance import VarianceState
from margincore.units import Floats, choice, floats, integer, number
from margincore.vol.base import Recursion, Simulation, VolatilityModel, check_persistence
from margincore.vol.problem import inverse

WINDOW_MOST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Har(VolatilityModel):
    """Heterogeneous autoregression of realised variance [1]_.

    ``h' = omega + daily x + weekly mean(x, week) + monthly mean(x, month)``, with x the realised variances so far.
    What `filter`, `start` and `update` take are realised variances, not returns.

    Parameters
    ----------
    omega : float
        Positive, variance per step.
    daily, weekly, monthly : float
        Not negative (so that the variance stays positive), together below 1.
    windows : tuple of three int
        Steps of the three means, rising, at most 64; (1, 7, 30) suits markets that never close.
    noise : float
        Deviation of the log of realised over expected variance, for simulation.
    start_variance : float, optional
        Realised variance before the first; the long-run variance when omitted.

    References
    ----------
    .. [1] F. Corsi, *A simple approximate long-memory model of realized volatility*, Journal of Financial
       Econometrics 7 (2009), equation 11.
    """

    omega: float
    daily: float
    weekly: float
    monthly: float
    windows: tuple[int, int, int] = (1, 5, 22)
    noise: float = 0.0
    start_variance: float | None = None

    observes: ClassVar[str] = "realised_variance"

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", number("omega", self.omega, above=0.0))
        for name in ("daily", "weekly", "monthly", "noise"):
            object.__setattr__(self, name, number(name, getattr(self, name), least=0.0))
        object.__setattr__(self, "windows", _windows(self.windows))
        if self.start_variance is not None:
            object.__setattr__(self, "start_variance", number("start_variance", self.start_variance, above=0.0))
        check_persistence(self.persistence)

    @property
    def persistence(self) -> float:
        """Sum of the three weights, in [0, 1)."""
        return math.fsum((self.daily, self.weekly, self.monthly))

    @property
    def unconditional_variance(self) -> float:
        """Long-run variance per step."""
        return self.omega / (1.0 - self.persistence)

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters: one weight per lag of the longest window."""
        terms = list(zip((self.daily, self.weekly, self.monthly), self.windows, strict=True))
        first = tuple(math.fsum(weight / window for weight, window in terms if lag < window)
                      for lag in range(self.windows[2]))
        return Recursion(omega=self.omega, first=first, second=(0.0,) * len(first), beta=(), first_share=1.0,
                         form="direct")

    def standardised_residuals(self, returns: Any) -> Floats:
        """Relative forecast errors of realised variances (times,), ``x / h - 1``."""
        series = floats("returns", returns)
        return np.asarray(series / self.filter(series)[:-1] - 1.0)

    def simulate(self, steps: int, generator: np.random.Generator, *, paths: int = 1,
                 state: VarianceState | None = None) -> Simulation:
        """Paths of realised variances, lognormal about their forecast; see `VolatilityModel.simulate`."""
        shape = (integer("paths", paths, least=1), integer("steps", steps, least=1))
        if not isinstance(generator, np.random.Generator):
            raise RangeError(f"generator must be a numpy.random.Generator, was {generator!r}")
        origin = self._begin(np.empty(0)) if state is None else self._own(state)
        factors = np.exp(self.noise * generator.standard_normal(shape) - 0.5 * self.noise * self.noise)
        result = Simulation(np.empty(shape), np.empty(shape))
        for path in range(shape[0]):
            running = origin.copy()
            for step in range(shape[1]):
                result.variance[path, step] = running.variance
                result.returns[path, step] = running.variance * factors[path, step]
                running.update(result.returns[path, step])
        return result

    @classmethod
    def fit(cls, realised_variance: Any, *, windows: tuple[int, int, int] = (1, 5, 22)) -> HarFit:
        """Least squares with weights that are not negative.

        Parameters
        ----------
        realised_variance : float64 array, shape (times,)
            Not negative, not constant; at least 50 beyond the longest window.

        Raises
        ------
        NotConvergedError
            If the estimates are no stationary, positive model; nothing is returned then.
        """
        from scipy.optimize import nnls
        series = floats("realised_variance", realised_variance)
        spans = _windows(windows)
        if series.size < 50 + spans[2]:
            raise ShapeError(f"realised_variance must hold at least {50 + spans[2]} observations, had {series.size}")
        if series.min() < 0.0:
            raise RangeError(f"realised_variance must be at least 0, was {float(series.min())!r}")
        scale = float(np.mean(series))
        if not float(np.std(series)) > 1e-10 * scale:
            raise RangeError(f"realised_variance must vary, was {float(series[0])!r} throughout")
        design, target = _design(series / scale, spans), series[spans[2]:] / scale
        estimate, _ = nnls(design, target)
        fixed = tuple(name for name, value in zip(HAR_NAMES, estimate, strict=True) if value == 0.0)
        fitted = design @ estimate
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(target[target > 0.0] / fitted[target > 0.0])
        try:
            model = cls(omega=estimate[0] * scale, daily=estimate[1], weekly=estimate[2], monthly=estimate[3],
                        windows=spans, noise=float(np.std(logs)), start_variance=scale)
        except (RangeError, ValueError) as problem:
            raise NotConvergedError(f"the fit must be a positive stationary model, but {problem}") from None
        explained = 1.0 - float(np.sum((target - fitted) ** 2) / np.sum((target - target.mean()) ** 2))
        values = np.array([model.omega, model.daily, model.weekly, model.monthly])
        return HarFit(model, HAR_NAMES, values, explained, target.size, fixed, series)

    @classmethod
    def fit_panel(cls, realised_variance: Any, *, windows: tuple[int, int, int] = (1, 5, 22)) -> HarPanelFit:
        """Least squares of each column of `realised_variance` (times, series) on its own, with a status each."""
        table = floats("realised_variance", realised_variance, ndim=2, finite=False)
        values, explained = np.full((table.shape[1], 4), np.nan), np.full(table.shape[1], np.nan)
        models: list[Har | None] = [None] * table.shape[1]
        status = np.zeros(table.shape[1], np.int32)
        for at, series in enumerate(table.T):
            try:
                found = cls.fit(series.copy(), windows=windows)
                values[at], explained[at], models[at] = found.values, found.r_squared, found.model
            except NotFiniteError:
                status[at] = 2
            except RangeError:
                status[at] = 3
            except NotConvergedError:
                status[at] = 1
        return HarPanelFit(HAR_NAMES, values, explained, status, tuple(models))


HAR_NAMES = ("omega", "daily", "weekly", "monthly")


@dataclass(frozen=True, slots=True)
class HarFit:
    """A least-squares fit of `Har`; as `VolatilityFit`, with the share of variance explained for a likelihood."""

    model: Har
    names: tuple[str, ...]
    values: Floats
    r_squared: float
    observations: int
    fixed: tuple[str, ...]
    realised_variance: Floats

    def parameters(self) -> dict[str, float]:
        """Estimates by name."""
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def covariance(self, kind: str = "sandwich") -> Floats:
        """Covariance of the estimates: White's sandwich, classical ("hessian") or outer product ("opg")."""
        choice("kind", kind, ("sandwich", "hessian", "opg"))
        free = [i for i, name in enumerate(self.names) if name not in self.fixed]
        design = _design(self.realised_variance, self.model.windows)
        errors = self.realised_variance[self.model.windows[2]:] - design @ self.values
        design = design[:, free]
        classical = inverse(design.T @ design) * float(np.mean(errors * errors))
        scores = design * errors[:, None] / float(np.mean(errors * errors))
        outer = scores.T @ scores
        result = np.full((4, 4), np.nan)
        result[np.ix_(free, free)] = {"hessian": lambda: classical, "opg": lambda: inverse(outer),
                                      "sandwich": lambda: classical @ outer @ classical}[kind]()
        return result

    def standard_errors(self, kind: str = "sandwich") -> Floats:
        """Standard errors in the order of `names`, shape (4,); NaN where `fixed`."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance(kind))))


@dataclass(frozen=True, slots=True)
class HarPanelFit:
    """Least-squares fits of many series, each on its own.

    Attributes
    ----------
    names : tuple of str
    values : float64 array, shape (series, 4)
        NaN where the fit failed.
    r_squared : float64 array, shape (series,)
        NaN where the fit failed.
    status : int32 array, shape (series,)
        0 fitted, 1 no stationary positive model, 2 not finite, 3 constant or negative.
    models : tuple of Har or None
    """

    names: tuple[str, ...]
    values: Floats
    r_squared: Floats
    status: npt.NDArray[np.int32]
    models: tuple[Har | None, ...]

    def model(self, series: int) -> Har:
        """The fitted model of one series, or `NotConvergedError`."""
        found = self.models[integer("series", series, least=0, most=len(self.models) - 1)]
        if found is None:
            raise NotConvergedError(f"series {series} must have a fit, was status {self.status[series]}")
        return found


def _windows(windows: Any) -> tuple[int, int, int]:
    spans = tuple(integer("windows", span, least=1, most=WINDOW_MOST) for span in windows)
    if len(spans) != 3 or not spans[0] < spans[1] < spans[2]:
        raise RangeError(f"windows must be three rising numbers of steps, were {spans!r}")
    return spans[0], spans[1], spans[2]


def _design(series: Floats, spans: tuple[int, int, int]) -> Floats:
    # Row t: 1 and the means of the last observations before t, for t from the longest window on.
    sums = np.concatenate([[0.0], np.cumsum(series)])
    rows = np.arange(spans[2], series.size)
    return np.column_stack([np.ones(rows.size), *((sums[rows] - sums[rows - span]) / span for span in spans)])
