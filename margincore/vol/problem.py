"""One likelihood of one model: its parameters, its kernel, and the covariance of its estimates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from margincore.errors import NotConvergedError, RangeError, ShapeError
from margincore.kernels.likelihood import Likelihood
from margincore.units import Floats, choice, integer, number
from margincore.vol.base import VolatilityModel
from margincore.vol.innovation import INNOVATIONS, Innovation

Vector: TypeAlias = npt.NDArray[Any]  # float64, or complex128 while a derivative is taken

OBSERVATIONS_LEAST, OBSERVATIONS_PER_PARAMETER = 50, 10
PERSISTENCE_MOST = 0.999999  # of the kernel's search


@dataclass(frozen=True, slots=True)
class FitSpec:
    """What the fit of one model needs: names, the map to the kernel's theta and back, and the model of values."""

    family: str
    names: Callable[[int, int], tuple[str, ...]]
    theta: Callable[[Vector, int, int], Vector]
    values: Callable[[Floats, int, int], Floats]
    model: Callable[[Floats, int, int, Innovation, float], VolatilityModel]
    kernel_orders: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One likelihood: model family, lags, law and the treatment of mean and start."""

    spec: FitSpec
    p: int
    q: int
    law: str
    mean: bool
    start: str
    start_variance: float
    targeting: bool
    low_share: float = 0.5  # of the variance below zero, for the persistence of GJR

    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.spec.names(self.p, self.q) + INNOVATIONS[self.law].names

    def kernel(self, observations: int) -> Likelihood:
        """The kernel object of this problem."""
        p, q = self.spec.kernel_orders or (self.p, self.q)
        return Likelihood(observations=observations, family=self.spec.family, law=self.law, p=p, q=q, mean=self.mean,
                          start=self.start, start_variance=self.start_variance, targeting=self.targeting,
                          low_share=self.low_share)

    def theta(self, values: Vector) -> Vector:
        """The kernel's parameters."""
        return self.spec.theta(values, self.p, self.q)

    def values(self, theta: Floats) -> Floats:
        """This model's parameters."""
        return self.spec.values(theta, self.p, self.q)

    def model(self, returns: Floats, values: Floats) -> VolatilityModel:
        """The model of these values, starting where the likelihood did."""
        kernel = self.kernel(returns.size)
        start = kernel.presample_variance(returns, np.ascontiguousarray(self.theta(values)))
        law = INNOVATIONS[self.law]
        innovation = law(*values[len(values) - len(law.names):])
        return self.spec.model(values, self.p, self.q, innovation, start)

    def with_law_of(self, values: Floats) -> Problem:
        """The same, with the share of the variance below zero that the law of `values` has."""
        law = INNOVATIONS[self.law]
        return replace(self, low_share=law(*values[len(values) - len(law.names):]).low_share())

    def fixed(self, values: Floats) -> tuple[str, ...]:
        """Parameters that were not estimated or rest on a bound."""
        names = self.names()
        found = [] if self.mean else ["mean"]
        if self.targeting:
            found.append("omega")
        bounds = {"degrees_of_freedom": (2.05, 500.0), "skew": (-0.99, 0.99), "rho": (0.0, PERSISTENCE_MOST)}
        for name, value in zip(names, values, strict=True):
            low, high = bounds.get(name, (0.0, math.inf))
            lag = name.startswith(("alpha", "beta", "phi", "rho")) and self.spec.family != "egarch"
            if (lag or name in bounds) and not low + 1e-12 < value < high - 1e-9:
                found.append(name)
        if self.spec.family == "gjr":  # where falls weigh nothing gamma is minus alpha: neither is free
            for at in range(2, 2 + self.p):
                if values[at] + values[at + self.p] <= 1e-12:
                    found += [names[at], names[at + self.p]]
        if self.spec.family in ("garch", "gjr") and self._persistence(values) >= PERSISTENCE_MOST - 1e-9:
            weights = {name: value for name, value in zip(names, values, strict=True)
                       if name.startswith(("alpha", "beta"))}
            found.append(max(weights, key=weights.__getitem__))
        return tuple(dict.fromkeys(found))

    def agrees(self, values: Floats) -> bool:
        """Whether the bound on the persistence that the search kept to is that of the law it found.

        The persistence of a skewed GJR depends on the skew, so that its search must be repeated until they agree.
        """
        if self.spec.family != "gjr" or self.law != "skew_t":
            return True
        found = self.with_law_of(values)
        bound = self._persistence(values) >= PERSISTENCE_MOST - 1e-9
        return found._persistence(values) < 1.0 and not (bound and abs(found.low_share - self.low_share) > 1e-9)

    def _persistence(self, values: Floats) -> float:
        named = list(zip(self.names(), values.tolist(), strict=True))
        falls = math.fsum(value for name, value in named if name.startswith("gamma"))
        return math.fsum(value for name, value in named if name.startswith(("alpha", "beta"))) + self.low_share * falls

    def covariance(self, returns: Floats, values: Floats, free: list[int], kind: str) -> Floats:
        """Covariance of the estimates in `free`."""
        kernel = self.kernel(returns.size)
        widths = 1e-4 * np.maximum(np.abs(values), 1e-2)
        for at, name in enumerate(self.names()):
            if name == "mean":
                widths[at] = 1e-4 * np.std(returns)
            elif name == "omega" and self.spec.family != "egarch":
                widths[at] = 1e-4 * values[at]
        if self.spec.family == "egarch" and self.mean:
            values = values.copy()
            values[0], widths[0] = _between_kinks(returns, values[0], widths[0])
        if kind == "hessian":
            return inverse(self._information(kernel, returns, values, widths, free))
        scores = np.column_stack([self._score(kernel, returns, values, widths, i) for i in free])
        if kind == "opg":
            return inverse(scores.T @ scores)
        bread = inverse(self._information(kernel, returns, values, widths, free))
        return np.asarray(bread @ (scores.T @ scores) @ bread)

    def _moved(self, values: Floats, at: int, by: float) -> Floats:
        moved = values.copy()
        moved[at] += by
        return moved

    def _score(self, kernel: Likelihood, returns: Floats, values: Floats, widths: Floats, at: int) -> Floats:
        # Fourth-order difference of each observation's log likelihood.
        total = np.zeros(returns.size)
        out = np.empty(returns.size)
        for steps, weight in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
            theta = self.theta(self._moved(values, at, steps * widths[at]))
            kernel.contributions(returns, np.ascontiguousarray(theta), out)
            total += weight * out
        return np.asarray(total / (12.0 * widths[at]))

    def _information(self, kernel: Likelihood, returns: Floats, values: Floats, widths: Floats,
                     free: list[int]) -> Floats:
        # Minus the Hessian: fourth-order differences of the analytic gradient.
        rows = []
        for at in free:
            row = np.zeros(values.size)
            for steps, weight in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
                row += weight * self._gradient(kernel, returns, self._moved(values, at, steps * widths[at]))
            rows.append(-row[free] / (12.0 * widths[at]))
        matrix = np.array(rows)
        return np.asarray(0.5 * (matrix + matrix.T))

    def _gradient(self, kernel: Likelihood, returns: Floats, values: Floats) -> Floats:
        theta = np.ascontiguousarray(self.theta(values))
        slope = np.empty(theta.size)
        kernel.evaluate(returns, theta, slope)
        # d theta / d values by a complex step: exact, as the maps are polynomials.
        steps = values + 1e-100j * np.eye(values.size)
        return np.array([slope @ (self.theta(row).imag / 1e-100) for row in steps])


def make_problem(spec: FitSpec, observations: int, p: int, q: int, mean: str, innovation: str, start: str | float,
             targeting: bool) -> Problem:
    """A problem of checked arguments; see `margincore.vol.fit.maximise`."""
    choice("mean", mean, ("constant", "zero"))
    choice("innovation", innovation, tuple(INNOVATIONS))
    if isinstance(start, str):
        rule, variance = choice("start", start, ("backcast", "sample")), 0.0
    else:
        rule, variance = "number", number("start", start, above=0.0)
    if not isinstance(targeting, (bool, np.bool_)):
        raise RangeError(f"targeting must be True or False, was {targeting!r}")
    if targeting and spec.family == "gjr" and innovation == "skew_t":
        raise RangeError("targeting must be off for GJR under a skewed law, was on: the long-run variance then depends "
                         "on the skew that is still to be found")
    problem = Problem(spec, integer("p", p, least=1, most=8), integer("q", q, least=0, most=8), innovation,
                      mean == "constant", rule, variance, bool(targeting))
    least = max(OBSERVATIONS_LEAST, OBSERVATIONS_PER_PARAMETER * len(problem.names()))
    if observations < least:
        raise ShapeError(f"returns must hold at least {least} observations, had {observations}")
    return problem


def _between_kinks(returns: Floats, mean: float, width: float) -> tuple[float, float]:
    # The |z| of an EGARCH has a kink where the mean meets a return, and the optimum often rests in one: a difference
    # across it is no second derivative.  The mean and the width, moved as little as makes two steps each way meet none.
    apart = np.unique(returns)
    place = int(np.clip(np.searchsorted(apart, mean), 1, apart.size - 1))
    gaps = [(apart[at - 1], apart[at]) for at in (place, place - 1, place + 1) if 1 <= at < apart.size]
    left, right = max(gaps, key=lambda gap: min(gap[1] - gap[0], 5.0 * width))
    width = min(width, (right - left) / 5.0)
    return min(max(mean, left + 2.5 * width), right - 2.5 * width), width


def lags(name: str, count: int) -> tuple[str, ...]:
    """Names of one parameter per lag: the bare name for one, numbered from 1 for more."""
    return (name,) if count == 1 else tuple(f"{name}_{lag + 1}" for lag in range(count))


def inverse(matrix: Floats) -> Floats:
    """Inverse of a matrix that must be positive definite, scaled by its diagonal first."""
    size = np.sqrt(np.abs(np.diagonal(matrix)))
    with np.errstate(all="ignore"):
        scaled = matrix / np.outer(size, size)
    if not np.isfinite(scaled).all() or not np.linalg.eigvalsh(scaled)[0] > 1e-12:
        raise NotConvergedError("the information matrix must be positive definite, was not")
    return np.asarray(np.linalg.inv(scaled) / np.outer(size, size))
