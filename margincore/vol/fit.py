"""Maximum likelihood fits: what they answer, their standard errors, one series or a panel of them."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import NotConvergedError, NotFiniteError, RangeError
from margincore.kernels import maximise as optimiser
from margincore.kernels.maximise import STATUS
from margincore.units import Floats, choice, floats, integer, number
from margincore.vol.base import VolatilityModel, backcast
from margincore.vol.problem import FitSpec, Problem, make_problem

SERIES_PER_TASK = 4
PASSES_MOST = 24


@dataclass(frozen=True, slots=True)
class VolatilityFit:
    """A converged maximum likelihood fit.

    Attributes
    ----------
    model : VolatilityModel
        The fitted model; its `filter` on the same returns repeats the fitted variances.
    names : tuple of str
        Names of the parameters.
    values : float64 array, shape (parameters,)
        Estimates in the order of `names`.
    log_likelihood : float
    observations : int
    evaluations : int
        Likelihood evaluations used.
    fixed : tuple of str
        Parameters that rest on a bound or were not estimated; their standard errors are NaN.
    """

    model: VolatilityModel
    names: tuple[str, ...]
    values: Floats
    log_likelihood: float
    observations: int
    evaluations: int
    fixed: tuple[str, ...]
    returns: Floats = field(repr=False)
    problem: Problem = field(repr=False)

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2.0 * self._free() - 2.0 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return math.log(self.observations) * self._free() - 2.0 * self.log_likelihood

    def parameters(self) -> dict[str, float]:
        """Estimates by name."""
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def covariance(self, kind: str = "sandwich") -> Floats:
        """Covariance of the estimates; float64 array, shape (parameters, parameters).

        Parameters
        ----------
        kind : {"sandwich", "hessian", "opg"}
            Robust (Bollerslev and Wooldridge 1992), inverse Hessian, or inverse outer product of the scores.

        Raises
        ------
        NotConvergedError
            If the matrix to be inverted is not positive definite.
        """
        choice("kind", kind, ("sandwich", "hessian", "opg"))
        free = [i for i, name in enumerate(self.names) if name not in self.fixed]
        result = np.full((len(self.names), len(self.names)), np.nan)
        result[np.ix_(free, free)] = self.problem.covariance(self.returns, self.values, free, kind)
        return result

    def standard_errors(self, kind: str = "sandwich") -> Floats:
        """Standard errors in the order of `names`, shape (parameters,); NaN where `fixed`."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance(kind))))

    def _free(self) -> int:
        return len(self.names) - len(self.fixed)


@dataclass(frozen=True, slots=True)
class PanelFit:
    """Fits of many series, each on its own.

    Attributes
    ----------
    names : tuple of str
    values : float64 array, shape (series, parameters)
        NaN where the fit failed.
    log_likelihood : float64 array, shape (series,)
        NaN where the fit failed.
    status : int32 array, shape (series,)
        0 converged, 1 stopped without an optimum or at the edge of the search, 2 a return was not finite,
        3 constant series.
    """

    names: tuple[str, ...]
    values: Floats
    log_likelihood: Floats
    status: npt.NDArray[np.int32]
    returns: Floats = field(repr=False)
    problem: Problem = field(repr=False)

    def model(self, series: int) -> VolatilityModel:
        """The fitted model of one series, or `NotConvergedError`."""
        at = integer("series", series, least=0, most=self.status.size - 1)
        if self.status[at]:
            raise NotConvergedError(f"series {at} must have a converged fit, was {STATUS[self.status[at]]!r}")
        return self.problem.model(self.returns[at], self.values[at])


def maximise(spec: FitSpec, returns: Any, *, p: int, q: int, mean: str, innovation: str, start: str | float,
             targeting: bool) -> VolatilityFit:
    """Maximum likelihood of one series.

    Parameters
    ----------
    returns : float64 array, shape (times,)
        Finite, not constant; at least 50 and ten per parameter.
    p, q : int
        Lags of the shocks and of the variance, at most 8.
    mean : {"constant", "zero"}
    innovation : {"normal", "student_t", "skew_t"}
    start : {"backcast", "sample"} or float
        Variance before the first return: weighted mean of the first 75 squared shocks, mean of all, or a number.
    targeting : bool
        Variance targeting: the long-run variance is the sample's, omega follows.

    Raises
    ------
    NotConvergedError
        If no optimum was found; nothing is returned then.
    NotFiniteError, RangeError, ShapeError
        If the returns are not finite, constant or too few.
    """
    series = floats("returns", returns)
    problem = make_problem(spec, series.size, p, q, mean, innovation, start, targeting)
    _check_varies(series)
    return _search(problem, series)


def _search(problem: Problem, series: Floats) -> VolatilityFit:
    evaluations = 0
    for _ in range(PASSES_MOST):
        kernel = problem.kernel(series.size)
        theta, info, status = np.empty(kernel.thetas), np.empty(4), np.empty(1, np.int32)
        optimiser.fit(kernel, series, theta, info, status, 0, 1)
        evaluations += int(info[2])
        if status[0]:
            raise NotConvergedError(f"the likelihood of {series.size} returns must have an optimum that the search "
                                    f"can prove, was {STATUS[status[0]]!r} after {evaluations} evaluations")
        values = problem.values(theta)
        if problem.agrees(values):
            break
        problem = problem.with_law_of(values)
    else:
        raise NotConvergedError(f"the persistence and the law of the fit must agree in {PASSES_MOST} searches, did not")
    try:
        model = problem.model(series, values)
    except RangeError as found:
        raise NotConvergedError(f"the fit must be a stationary model, but {found}") from None
    return VolatilityFit(model, problem.names(), values, float(info[0]), series.size, evaluations,
                         problem.fixed(values), series, problem)


def maximise_panel(spec: FitSpec, returns: Any, *, p: int, q: int, mean: str, innovation: str, start: str | float,
                   targeting: bool, threads: int) -> PanelFit:
    """Maximum likelihood of each column of `returns` (times, series); see `maximise`.  A status per series."""
    table = floats("returns", returns, ndim=2, finite=False)
    problem = make_problem(spec, table.shape[0], p, q, mean, innovation, start, targeting)
    columns = np.ascontiguousarray(table.T)
    series, times = columns.shape
    thetas = problem.kernel(times).thetas
    theta, info, status = np.empty((series, thetas)), np.empty((series, 4)), np.empty(series, np.int32)

    def work(begin: int) -> None:
        optimiser.fit(problem.kernel(times), columns, theta, info, status, begin, min(begin + SERIES_PER_TASK, series))

    starts = range(0, series, SERIES_PER_TASK)
    if integer("threads", threads, least=1) == 1:
        for begin in starts:
            work(begin)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, starts))
    values = np.array([problem.values(row) for row in theta])
    if spec.family == "gjr" and innovation == "skew_t":
        _bring_back(problem, columns, values, info[:, 0], status)
    return PanelFit(problem.names(), values, info[:, 0].copy(), status, columns, problem)


def fit_decay(kind: Any, returns: Any, mean: float) -> VolatilityFit:
    """Fit of the EWMA decay by the root of its analytic score, best of the roots found."""
    series = floats("returns", returns)
    _check_varies(series)
    first = number("start variance of the history", backcast(series - mean), above=0.0)
    problem = decay_problem(kind, series.size, mean, first)
    kernel = problem.kernel(series.size)
    slope, evaluations = np.empty(5), 0

    def look(decay: float) -> tuple[float, float]:
        nonlocal evaluations
        evaluations += 1
        value = kernel.evaluate(series, np.ascontiguousarray(problem.theta(np.array([decay]))), slope)
        return value, float(slope[4] - slope[2] - slope[3])

    grid = 1.0 - np.geomspace(1e-5, 0.7, 40)[::-1]
    best = int(np.argmax([look(decay)[0] for decay in grid]))
    if best in (0, grid.size - 1):
        raise NotConvergedError(f"decay must have an optimum inside ({grid[0]:g}, {grid[-1]:g}), had none")
    low, high = grid[best - 1], grid[best + 1]
    for _ in range(100):
        middle = 0.5 * (low + high)
        if look(middle)[1] > 0.0:
            low = middle
        else:
            high = middle
    values = np.array([0.5 * (low + high)])
    return VolatilityFit(kind(decay=values[0], mean=mean), ("decay",), values, look(values[0])[0], series.size,
                         evaluations, (), series, problem)


def fit_decay_panel(kind: Any, returns: Any, mean: float) -> PanelFit:
    """`fit_decay` of each column of `returns` (times, series); a status per series."""
    columns = np.ascontiguousarray(floats("returns", returns, ndim=2, finite=False).T)
    values, likelihoods = np.full((len(columns), 1), np.nan), np.full(len(columns), np.nan)
    status = np.zeros(len(columns), np.int32)
    problem = decay_problem(kind, columns.shape[1], mean, 1.0)
    for at, series in enumerate(columns):
        try:
            found = fit_decay(kind, series, mean)
            values[at], likelihoods[at] = found.values, found.log_likelihood
        except NotFiniteError:
            status[at] = STATUS.index("not finite")
        except RangeError:
            status[at] = STATUS.index("constant")
        except NotConvergedError:
            status[at] = STATUS.index("stopped")
    return PanelFit(("decay",), values, likelihoods, status, columns, problem)


def decay_problem(kind: Any, observations: int, mean: float, first: float) -> Problem:
    """The likelihood of an EWMA decay from the variance `first`."""
    spec = FitSpec("garch", lambda p, q: ("decay",),
                   lambda v, p, q: np.array([mean, 0.0, 1.0 - v[0], 1.0 - v[0], v[0]]),
                   lambda theta, p, q: theta[4:5].copy(),
                   lambda v, p, q, law, start: kind(decay=float(v[0]), mean=mean))
    return make_problem(spec, observations, 1, 1, "zero", "normal", first, False)


def _check_varies(series: Floats) -> None:
    largest = float(np.max(np.abs(series)))
    if not float(np.std(series)) > 1e-10 * largest or largest < 1e-100:
        raise RangeError(f"returns must vary, were {float(series[0])!r} throughout")


def _bring_back(problem: Problem, columns: Floats, values: Floats, likelihoods: Floats,
                status: npt.NDArray[np.int32]) -> None:
    # Fits of a skewed law that kept to the bound of another law, again one by one.
    for at in np.flatnonzero(status == 0):
        if problem.agrees(values[at]):
            continue
        try:
            again = _search(problem, columns[at])
            values[at], likelihoods[at] = again.values, again.log_likelihood
        except NotConvergedError:
            values[at], likelihoods[at], status[at] = np.nan, np.nan, STATUS.index("stopped")
