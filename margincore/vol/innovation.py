"""Laws of the standardised shock: zero mean, unit variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from margincore.units import Floats, number


@dataclass(frozen=True, slots=True)
class Normal:
    """The normal law."""

    code: ClassVar[int] = 0
    names: ClassVar[tuple[str, ...]] = ()

    def values(self) -> tuple[float, ...]:
        """Parameters in the order of `names`."""
        return ()

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Independent shocks; float64 array of `shape`."""
        return generator.standard_normal(shape)

    def low_share(self) -> float:
        """Share of the variance below zero, E[z^2; z < 0]."""
        return 0.5

    def absolute_mean(self) -> float:
        """E|z|."""
        return math.sqrt(2.0 / math.pi)


@dataclass(frozen=True, slots=True)
class StudentT:
    """Student's t, scaled to unit variance.

    Parameters
    ----------
    degrees_of_freedom : float
        Above 2: the variance must exist.
    """

    degrees_of_freedom: float

    code: ClassVar[int] = 1
    names: ClassVar[tuple[str, ...]] = ("degrees_of_freedom",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees_of_freedom",
                           number("degrees_of_freedom", self.degrees_of_freedom, above=2.0))

    def values(self) -> tuple[float, ...]:
        """Parameters in the order of `names`."""
        return (self.degrees_of_freedom,)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Independent shocks; float64 array of `shape`."""
        freedom = self.degrees_of_freedom
        return np.asarray(generator.standard_t(freedom, shape) * math.sqrt((freedom - 2.0) / freedom))

    def low_share(self) -> float:
        """Share of the variance below zero, E[z^2; z < 0]."""
        return 0.5

    def absolute_mean(self) -> float:
        """E|z|."""
        freedom = self.degrees_of_freedom
        return 2.0 * _density_at_zero(freedom) * (freedom - 2.0) / (freedom - 1.0)


@dataclass(frozen=True, slots=True)
class SkewT:
    """Hansen's skewed t, unit variance [1]_.

    Parameters
    ----------
    degrees_of_freedom : float
        Above 2.
    skew : float
        In (-1, 1); negative: the longer tail is that of losses.

    References
    ----------
    .. [1] B. E. Hansen, *Autoregressive conditional density estimation*, International Economic Review 35 (1994),
       equations 10-14.
    """

    degrees_of_freedom: float
    skew: float

    code: ClassVar[int] = 2
    names: ClassVar[tuple[str, ...]] = ("degrees_of_freedom", "skew")

    def __post_init__(self) -> None:
        object.__setattr__(self, "degrees_of_freedom",
                           number("degrees_of_freedom", self.degrees_of_freedom, above=2.0))
        object.__setattr__(self, "skew", number("skew", self.skew, above=-1.0, below=1.0))

    def values(self) -> tuple[float, ...]:
        """Parameters in the order of `names`."""
        return (self.degrees_of_freedom, self.skew)

    def shift_and_scale(self) -> tuple[float, float]:
        """Hansen's a and b: b z + a is two halves of a t, stretched by 1 - skew and 1 + skew."""
        freedom = self.degrees_of_freedom
        a = 4.0 * self.skew * _density_at_zero(freedom) * (freedom - 2.0) / (freedom - 1.0)
        return a, math.sqrt(1.0 + 3.0 * self.skew * self.skew - a * a)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Independent shocks; float64 array of `shape`."""
        size = np.abs(StudentT(self.degrees_of_freedom).draw(generator, shape))
        left = generator.random(shape) < 0.5 * (1.0 - self.skew)
        a, b = self.shift_and_scale()
        return np.asarray((np.where(left, -(1.0 - self.skew), 1.0 + self.skew) * size - a) / b)

    def low_share(self) -> float:
        """Share of the variance below zero, E[z^2; z < 0]."""
        return self._below_zero(2)

    def absolute_mean(self) -> float:
        """E|z|."""
        return -2.0 * self._below_zero(1)

    def _below_zero(self, power: int) -> float:
        # E[z^power; z < 0]: partial moments of the t on both sides of Hansen's joint.
        a, b = self.shift_and_scale()
        total = 0.0
        for stretch, lower, upper in ((1.0 - self.skew, -math.inf, min(a, 0.0)),
                                      (1.0 + self.skew, 0.0, max(a, 0.0))):
            low = _partial_moments(lower / stretch, self.degrees_of_freedom)
            high = _partial_moments(upper / stretch, self.degrees_of_freedom)
            m0, m1, m2 = (y - x for x, y in zip(low, high, strict=True))
            if power == 1:
                total += stretch * (stretch * m1 - a * m0) / b
            else:
                total += stretch * (stretch * stretch * m2 - 2.0 * a * stretch * m1 + a * a * m0) / (b * b)
        return total


Innovation: TypeAlias = Normal | StudentT | SkewT
INNOVATIONS: dict[str, type[Normal] | type[StudentT] | type[SkewT]] = {
    "normal": Normal, "student_t": StudentT, "skew_t": SkewT}


def _density_at_zero(freedom: float) -> float:
    # Gamma((v + 1) / 2) / (Gamma(v / 2) sqrt(pi (v - 2)))
    log_ratio = math.lgamma(0.5 * (freedom + 1.0)) - math.lgamma(0.5 * freedom)
    return math.exp(log_ratio) / math.sqrt(math.pi * (freedom - 2.0))


def _partial_moments(x: float, freedom: float) -> tuple[float, float, float]:
    # Integrals of 1, s and s^2 from -infinity to x under the unit-variance t.
    if math.isinf(x):
        return 0.0, 0.0, 0.0
    from scipy.special import betainc, stdtr
    inner = 1.0 + x * x / (freedom - 2.0)
    first = -_density_at_zero(freedom) * (freedom - 2.0) / (freedom - 1.0) * inner ** (-0.5 * (freedom - 1.0))
    tail = 0.5 * float(betainc(0.5 * freedom - 1.0, 1.5, 1.0 / inner))
    below = float(stdtr(freedom, x * math.sqrt(freedom / (freedom - 2.0))))
    return below, first, tail if x <= 0.0 else 1.0 - tail
