"""Laws of joint log returns: multivariate normal and Student-t, factors with own risks, copulas of any marginals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.kernels import formula
from margincore.kernels import simulate as kernel
from margincore.parametric import checked_covariance
from margincore.units import Floats, floats, number


class Quantiles(Protocol):
    """What a marginal needs, if it is no sample: a frozen distribution of `scipy.stats` has it."""

    def ppf(self, probability: Any) -> Any:
        """Quantile of every probability."""
        ...


Marginal: TypeAlias = npt.ArrayLike | Quantiles | Callable[[Floats], Any]


# Of a copula: below, variates Gamma(degrees / 2) are often no float, less than 1e-308.
DEGREES_LEAST = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class NormalLaw:
    """Multivariate normal log returns over the horizon.

    Parameters
    ----------
    covariance : float64 array, shape (underlyings, underlyings)
        Positive semi-definite; a singular one is fine.
    mean : float64 array, shape (underlyings,), optional
        Zero when omitted.
    """

    covariance: npt.ArrayLike
    mean: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        _covariance_law(self)

    def root(self) -> Root:
        """What the kernel draws."""
        return Root.of(_lower(self.covariance, "covariance"), self.mean)


@dataclass(frozen=True, slots=True, eq=False)
class StudentLaw:
    """Multivariate Student-t log returns over the horizon: one common factor widens all underlyings of a scenario.

    Parameters
    ----------
    covariance : float64 array, shape (underlyings, underlyings)
        Of the returns, not the scale matrix; positive semi-definite.
    degrees : float
        Degrees of freedom, above 2: at 2 and below there is no covariance.
    mean : float64 array, shape (underlyings,), optional
        Zero when omitted.
    """

    covariance: npt.ArrayLike
    degrees: float
    mean: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees", number("degrees", self.degrees, above=2.0))
        _covariance_law(self)

    def root(self) -> Root:
        """What the kernel draws."""
        return Root.of(_lower(self.covariance, "covariance"), self.mean, *_with_covariance(self.degrees))


@dataclass(frozen=True, slots=True, eq=False)
class FactorLaw:
    """Log returns ``mean + loadings f + e``: few common factors, and an independent own risk of every underlying.

    Parameters
    ----------
    loadings : float64 array, shape (underlyings, factors)
        Return per unit of factor.
    factor_covariance : float64 array, shape (factors, factors)
        Positive semi-definite.
    specific_variance : float64 array, shape (underlyings,)
        Variance of the own risk, at least 0.
    degrees : float, optional
        Above 2: factors and own risks are jointly Student-t of these covariances; normal when omitted.
    mean : float64 array, shape (underlyings,), optional
        Zero when omitted.
    """

    loadings: npt.ArrayLike
    factor_covariance: npt.ArrayLike
    specific_variance: npt.ArrayLike
    degrees: float | None = None
    mean: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        loadings = _frozen(floats("loadings", self.loadings, ndim=2))
        put(self, "loadings", loadings)
        factors = floats("factor_covariance", self.factor_covariance, ndim=2)
        if factors.shape != (loadings.shape[1],) * 2:
            raise ShapeError(f"factor_covariance must be square over {loadings.shape[1]} factors like loadings, "
                             f"had shape {factors.shape}")
        put(self, "factor_covariance", _frozen(checked_covariance(factors)))
        own = floats("specific_variance", self.specific_variance, length=len(loadings))
        if (own < 0.0).any():
            raise RangeError(f"specific_variance must not be negative, was {own.min():g} at {int(own.argmin())}")
        put(self, "specific_variance", _frozen(own))
        if self.degrees is not None:
            put(self, "degrees", number("degrees", self.degrees, above=2.0))
        if self.mean is not None:
            put(self, "mean", _frozen(floats("mean", self.mean, length=len(loadings))))

    def covariance(self) -> Floats:
        """Covariance of the returns, float64 (underlyings, underlyings)."""
        loadings = np.asarray(self.loadings)
        return np.asarray(loadings @ np.asarray(self.factor_covariance) @ loadings.T
                          + np.diag(np.asarray(self.specific_variance)))

    def root(self) -> Root:
        """What the kernel draws."""
        common = np.asarray(self.loadings) @ _lower(self.factor_covariance, "factor_covariance")
        own = np.diag(np.sqrt(np.asarray(self.specific_variance)))
        return Root.of(np.hstack([common, own]), self.mean, *_with_covariance(self.degrees))


@dataclass(frozen=True, slots=True, eq=False)
class CopulaLaw:
    """Any marginals joined by the dependence of a normal or Student-t law.

    Parameters
    ----------
    correlation : float64 array, shape (underlyings, underlyings)
        Positive semi-definite with a diagonal of ones: of the copula, not of the returns.
    marginals : sequence, one per underlying
        A sample of log returns (its quantiles, linear between the ranks, never beyond its ends), a distribution with
        ``ppf``, or a function of probabilities in (0, 1).
    degrees : float, optional
        At least 0.1: Student-t copula, whose extremes come together; normal copula when omitted.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, *Quantitative Risk Management*, 2015, algorithms 7.10 and 7.11.
    """

    correlation: npt.ArrayLike
    marginals: Sequence[Any]
    degrees: float | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        matrix = floats("correlation", self.correlation, ndim=2)
        if matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(f"correlation must be square, had shape {matrix.shape}")
        off = np.abs(np.diagonal(matrix) - 1.0)
        if off.max() > 1e-9:
            at = int(off.argmax())
            raise RangeError(f"correlation must have ones on its diagonal, was {float(matrix[at, at])!r} at {at}")
        put(self, "correlation", _frozen(checked_covariance(matrix)))
        if isinstance(self.marginals, (str, bytes)) or not hasattr(self.marginals, "__len__"):
            raise ShapeError(f"marginals must be a sequence with one entry per underlying, was {self.marginals!r}")
        if len(self.marginals) != len(matrix):
            raise ShapeError(f"marginals must have one entry per underlying ({len(matrix)}), had {len(self.marginals)}")
        put(self, "marginals", tuple(_marginal(at, value) for at, value in enumerate(self.marginals)))
        if self.degrees is not None:
            put(self, "degrees", number("degrees", self.degrees, least=DEGREES_LEAST))

    def root(self) -> Root:
        """What the kernel draws: the dependence, as a scale matrix."""
        half = 0.0 if self.degrees is None else 0.5 * self.degrees
        return Root.of(_lower(self.correlation, "correlation"), None, half, half)

    def quantiles(self, elliptical: Floats) -> Floats:
        """The draws of the dependence in place of probabilities, and these in place of the marginals' quantiles."""
        out = np.empty_like(elliptical)
        if self.degrees is None:
            formula.normal_cdfs(elliptical.reshape(-1), out.reshape(-1))
        else:
            from scipy.special import stdtr

            stdtr(self.degrees, elliptical, out=out)
        np.clip(out, 2.0**-54, 1.0 - 2.0**-53, out=out)  # a probability of 1 would have an infinite quantile
        for at, marginal in enumerate(self.marginals):
            found = floats(f"marginals[{at}]", _quantiles(marginal, out[:, at].copy()), length=len(out), finite=False)
            out[:, at] = found
            if not np.isfinite(found).all():
                raise NotFiniteError(f"marginals[{at}] must have finite quantiles inside (0, 1)")
        return out


Law: TypeAlias = NormalLaw | StudentLaw | FactorLaw | CopulaLaw


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """``mean + sqrt(numerator / gamma) root z`` as the kernel wants it; see src/simulate.pyx."""

    drivers: int
    start: npt.NDArray[np.int64]
    column: npt.NDArray[np.int32]
    value: Floats
    mean: Floats
    shape: float
    numerator: float

    @classmethod
    def of(cls, root: Floats, mean: Any, shape: float = 0.0, numerator: float = 0.0) -> Root:
        held = root != 0.0
        held[:, 0] = True  # a matrix of zeros is a law too
        row, column = np.nonzero(held)
        start = np.zeros(len(root) + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=len(root)), out=start[1:])
        return cls(root.shape[1], start, column.astype(np.int32), np.ascontiguousarray(root[held]),
                   np.zeros(len(root)) if mean is None else np.asarray(mean), shape, numerator)


def _frozen(values: Floats) -> Floats:
    copy = values.copy()
    copy.flags.writeable = False
    return copy


def _covariance_law(law: NormalLaw | StudentLaw) -> None:
    matrix = checked_covariance(law.covariance)
    object.__setattr__(law, "covariance", _frozen(matrix))
    if law.mean is not None:
        object.__setattr__(law, "mean", _frozen(floats("mean", law.mean, length=len(matrix))))


def _with_covariance(degrees: float | None) -> tuple[float, float]:
    """Shape of the gamma, and the numerator that makes the matrix the covariance of the draws."""
    return (0.0, 0.0) if degrees is None else (0.5 * degrees, 0.5 * degrees - 1.0)


def _lower(matrix: npt.ArrayLike, name: str) -> Floats:
    given = np.asarray(matrix)
    out = np.empty_like(given)
    bad = kernel.lower_root(given, out)
    if bad >= 0:
        raise RangeError(f"{name} must be positive semi-definite, fails at row {bad}")
    return out


def _marginal(at: int, value: Any) -> Any:
    if hasattr(value, "ppf") or callable(value):
        return value
    return _frozen(np.sort(floats(f"marginals[{at}]", value)))


def _quantiles(marginal: Any, probability: Floats) -> Any:
    if isinstance(marginal, np.ndarray):
        last = len(marginal) - 1
        return np.interp(probability * last, np.arange(last + 1.0), marginal)
    return marginal.ppf(probability) if hasattr(marginal, "ppf") else marginal(probability)
