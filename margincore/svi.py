"""Parametrisations of a smile: raw, natural and jump-wings SVI, SSVI and eSSVI, and the way from each to the raw one.

Total variance w = implied volatility squared times time in years, log-moneyness k = ln(strike / forward).
Source: Gatheral and Jacquier, *Arbitrage-free SVI volatility surfaces*, Quantitative Finance 14 (2014), sections 3
and 4; eSSVI: Hendriks and Martini, *The extended SSVI volatility surface*, Journal of Computational Finance 22 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import RangeError, ShapeError
from margincore.units import Floats, floats, number


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSvi:
    """Raw SVI slice: w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)).

    Parameters
    ----------
    a, b, rho, m, sigma : float
        `b` at least 0, `rho` in (-1, 1), `sigma` positive, and the least total variance
        ``a + b sigma sqrt(1 - rho^2)`` not negative.

    Raises
    ------
    RangeError, NotFiniteError
        If a parameter is outside its range.
    """

    a: float
    b: float
    rho: float
    m: float
    sigma: float

    def __post_init__(self) -> None:
        number("a", self.a)
        number("b", self.b, least=0.0)
        number("rho", self.rho, above=-1.0, below=1.0)
        number("m", self.m)
        number("sigma", self.sigma, above=0.0)
        least = self.minimum_variance
        # Parameters from jump wings reach an exact zero only up to rounding.
        if least < -1e-15 * (abs(self.a) + self.b * self.sigma):
            raise RangeError(f"a must make the least total variance at least 0, was {self.a!r} (it is {least!r})")

    @property
    def minimum_variance(self) -> float:
        """Least total variance over all strikes, a + b sigma sqrt(1 - rho^2)."""
        return self.a + self.b * self.sigma * math.sqrt(1.0 - self.rho * self.rho)

    @property
    def row(self) -> tuple[float, float, float, float, float]:
        """(a, b, rho, m, sigma)."""
        return self.a, self.b, self.rho, self.m, self.sigma

    def total_variance(self, log_moneyness: Any) -> Floats:
        """Total variance at log-moneyness, any shape; for one slice by hand, surfaces use the kernel."""
        x = np.asarray(log_moneyness, np.float64) - self.m
        result: Floats = self.a + self.b * (self.rho * x + np.sqrt(x * x + self.sigma * self.sigma))
        return result

    def natural(self) -> NaturalSvi:
        """The same slice in natural parameters; needs b > 0."""
        if not self.b > 0.0:
            raise RangeError(f"b must be above 0 to have natural parameters, was {self.b!r}")
        root = math.sqrt(1.0 - self.rho**2)
        omega = 2.0 * self.b * self.sigma / root
        return NaturalSvi(delta=self.a - 0.5 * omega * (1.0 - self.rho**2), mu=self.m + self.rho * self.sigma / root,
                          rho=self.rho, omega=omega, zeta=root / self.sigma)

    def jump_wings(self, years: float) -> JumpWingsSvi:
        """The same slice in jump-wings parameters, for an expiry in `years`; needs w(0) > 0."""
        years = number("years", years, above=0.0)
        s = math.hypot(self.m, self.sigma)
        w = self.a + self.b * (s - self.rho * self.m)
        if not w > 0.0:
            raise RangeError(f"total variance at the forward must be above 0 to have jump-wings parameters, was {w!r}")
        root = math.sqrt(w)
        return JumpWingsSvi(years=years, v=w / years, psi=0.5 * self.b / root * (self.rho - self.m / s),
                            p=self.b * (1.0 - self.rho) / root, c=self.b * (1.0 + self.rho) / root,
                            v_least=max(self.minimum_variance, 0.0) / years)


@dataclass(frozen=True, slots=True, kw_only=True)
class NaturalSvi:
    """Natural SVI: w(k) = delta + omega/2 (1 + zeta rho (k - mu) + sqrt((zeta (k - mu) + rho)^2 + 1 - rho^2))."""

    delta: float
    mu: float
    rho: float
    omega: float
    zeta: float

    def __post_init__(self) -> None:
        number("delta", self.delta)
        number("mu", self.mu)
        number("rho", self.rho, above=-1.0, below=1.0)
        number("omega", self.omega, least=0.0)
        number("zeta", self.zeta, above=0.0)

    def raw(self) -> RawSvi:
        """The same slice in raw parameters (Gatheral-Jacquier, lemma 3.1)."""
        root = math.sqrt(1.0 - self.rho**2)
        return RawSvi(a=self.delta + 0.5 * self.omega * (1.0 - self.rho**2), b=0.5 * self.omega * self.zeta,
                      rho=self.rho, m=self.mu - self.rho / self.zeta, sigma=root / self.zeta)


@dataclass(frozen=True, slots=True, kw_only=True)
class JumpWingsSvi:
    """SVI jump wings: what a trader reads off a smile.

    Parameters
    ----------
    years : float
        Time to expiry.
    v : float
        At-the-money variance per year.
    psi : float
        At-the-money skew, d(vol sqrt(years))/dk at k = 0.
    p, c : float
        Slopes of the put and the call wing, each at least 0, not both 0.
    v_least : float
        Least variance per year, not above `v`.
    """

    years: float
    v: float
    psi: float
    p: float
    c: float
    v_least: float

    def __post_init__(self) -> None:
        number("years", self.years, above=0.0)
        number("v", self.v, above=0.0)
        number("psi", self.psi)
        number("p", self.p, least=0.0)
        number("c", self.c, least=0.0)
        number("v_least", self.v_least, least=0.0, most=self.v)
        if not self.p + self.c > 0.0:
            raise RangeError(f"p + c must be above 0, was {self.p + self.c!r}")

    def raw(self) -> RawSvi:
        """The same slice in raw parameters (Gatheral-Jacquier, lemma 3.2)."""
        w = self.v * self.years
        b = 0.5 * math.sqrt(w) * (self.c + self.p)
        rho = 1.0 - self.p * math.sqrt(w) / b
        beta = rho - 2.0 * self.psi * math.sqrt(w) / b
        if not (-1.0 < rho < 1.0 and -1.0 < beta < 1.0):
            raise RangeError(f"psi must lie between -p/2 and c/2 and both wings rise, was {self.psi!r}")
        root, drop = math.sqrt(1.0 - rho * rho), (self.v - self.v_least) * self.years
        if abs(beta) < 1e-12:
            # m = 0: the least variance lies below w by b sigma (1 - sqrt(1 - rho^2)), which is all it can tell.
            if not (rho != 0.0 and drop > 0.0):
                raise RangeError(f"psi and rho must not both be 0 (the width is open then), psi was {self.psi!r}")
            sigma, m = drop / (b * (1.0 - root)), 0.0
        else:
            alpha = math.copysign(math.sqrt(1.0 / (beta * beta) - 1.0), beta)
            m = drop / (b * (-rho + math.copysign(math.hypot(1.0, alpha), beta) - alpha * root))
            sigma = alpha * m
        if not sigma > 0.0:
            raise RangeError(f"v_least must be below v and psi inside the wings: sigma came out as {sigma!r}")
        return RawSvi(a=w - b * (math.hypot(m, sigma) - rho * m), b=b, rho=rho, m=m, sigma=sigma)


def essvi_row(theta: float, rho: float, psi: float) -> RawSvi:
    """Raw parameters of an eSSVI slice, w = theta/2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2)).

    Parameters
    ----------
    theta : float
        At-the-money total variance, positive.
    rho : float
        In (-1, 1).
    psi : float
        theta * phi, positive.  Free of butterfly arbitrage when ``psi (1 + |rho|) < 4`` and
        ``psi^2 (1 + |rho|) <= 4 theta`` (Gatheral-Jacquier, theorem 4.2).
    """
    theta = number("theta", theta, above=0.0)
    rho = number("rho", rho, above=-1.0, below=1.0)
    phi = number("psi", psi, above=0.0) / theta
    return RawSvi(a=0.5 * theta * (1.0 - rho * rho), b=0.5 * psi, rho=rho, m=-rho / phi,
                  sigma=math.sqrt(1.0 - rho * rho) / phi)


def ssvi_rows(theta: Any, rho: Any, eta: Any, gamma: float = 0.5) -> list[RawSvi]:
    """Slices of an SSVI surface with the power law phi = eta / (theta^gamma (1 + theta)^(1 - gamma)).

    Free of all static arbitrage for `theta` not decreasing, `gamma` in (0, 1/2] and ``eta (1 + |rho|) <= 2``
    (Gatheral-Jacquier, remark 4.4).  With `rho` or `eta` of their own per expiry the surface is an eSSVI one, whose
    calendar is for `margincore.check_arbitrage` to judge.

    Parameters
    ----------
    theta : float64 array, shape (expiries,)
        At-the-money total variances, positive.
    rho, eta : float, or float64 array of shape (expiries,)
        `rho` in (-1, 1), `eta` positive.
    gamma : float
        In (0, 1).
    """
    gamma = number("gamma", gamma, above=0.0, below=1.0)
    levels = floats("theta", theta)
    rhos, etas = (values.tolist() if values.ndim else [values.item()] * levels.size
                  for values in (floats("rho", rho, ndim=None), floats("eta", eta, ndim=None)))
    if not len(rhos) == len(etas) == levels.size:
        raise ShapeError(f"rho and eta must be one number or one per theta ({levels.size}), were {len(rhos)} and "
                         f"{len(etas)}")
    return [essvi_row(level, tilt, number("eta", scale, above=0.0) * level ** (1.0 - gamma)
                      * (1.0 + level) ** (gamma - 1.0))
            for level, tilt, scale in zip(levels.tolist(), rhos, etas, strict=True)]


def rows_of(slices: Any) -> Floats:
    """Raw parameters, float64 array of shape (expiries, 5), from slices of any parametrisation or such an array."""
    listed: Sequence[Any]
    if isinstance(slices, (RawSvi, NaturalSvi, JumpWingsSvi)):
        listed = [slices]
    elif isinstance(slices, (list, tuple)) and any(isinstance(s, (RawSvi, NaturalSvi, JumpWingsSvi)) for s in slices):
        listed = list(slices)
    else:
        listed = [RawSvi(a=r[0], b=r[1], rho=r[2], m=r[3], sigma=r[4]) for r in _five(slices).tolist()]
    return np.array([(s if isinstance(s, RawSvi) else s.raw()).row for s in listed], np.float64)


def _five(slices: Any) -> Floats:
    rows = np.atleast_2d(floats("slices", slices, ndim=None))
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise RangeError(f"slices must hold 5 raw parameters each (a, b, rho, m, sigma), had shape {rows.shape}")
    return rows
