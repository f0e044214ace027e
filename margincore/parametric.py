"""Value at risk and expected shortfall in closed form: normal, Student-t, log-normal, and delta-gamma portfolios."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from margincore.errors import NotConvergedError, RangeError, ShapeError
from margincore.measure import TailRisk, checked_level
from margincore.units import Floats, choice, floats, number

EXPONENT_MOST = 600.0  # e^600 is 1e260, and floats end at 1e308


class RiskFactors(NamedTuple):
    """Margin of one unit of notional held long and short, fractions of the mark price."""

    long: float
    short: float


def checked_covariance(covariance: npt.ArrayLike, factors: int | None = None) -> Floats:
    """A symmetric positive semi-definite matrix, or an error with its least eigenvalue.

    Rounding is allowed for: asymmetry of 1e-9 and eigenvalues of -1e-10, both relative to the largest.
    """
    matrix = floats("covariance", covariance, ndim=2)
    if matrix.shape[0] != matrix.shape[1] or (factors is not None and len(matrix) != factors):
        raise ShapeError(f"covariance must be square{'' if factors is None else f' over {factors} factors'}, "
                         f"had shape {matrix.shape}")
    scale = float(np.abs(matrix).max())
    if float(np.abs(matrix - matrix.T).max()) > 1e-9 * scale:
        raise RangeError("covariance must be symmetric")
    matrix = 0.5 * (matrix + matrix.T)
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < -1e-10 * scale:
        raise RangeError(f"covariance must be positive semi-definite, its least eigenvalue was {least:g}")
    return matrix


def _deviation(exposure: npt.ArrayLike, covariance: npt.ArrayLike) -> float:
    held = floats("exposure", exposure)
    return math.sqrt(max(float(held @ checked_covariance(covariance, len(held)) @ held), 0.0))


def delta_normal(exposure: npt.ArrayLike, covariance: npt.ArrayLike, level: float, *, mean: float = 0.0) -> TailRisk:
    """Value at risk and expected shortfall of a linear portfolio of normal factors.

    Parameters
    ----------
    exposure : float64 array, shape (factors,)
        Profit for a move of one unit (a return of 1) of each factor.
    covariance : float64 array, shape (factors, factors)
        Covariance of the factors over the horizon; positive semi-definite.
    level : float
        In [0.5, 1).
    mean : float
        Expected profit over the horizon.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, *Quantitative Risk Management*, 2015, examples 2.11 and 2.14.
    """
    from scipy.stats import norm

    tail = 1.0 - checked_level(level)
    deviation, mean = _deviation(exposure, covariance), number("mean", mean)
    quantile = float(norm.isf(tail))
    return TailRisk(quantile * deviation - mean, float(norm.pdf(quantile)) / tail * deviation - mean)


def delta_student(exposure: npt.ArrayLike, covariance: npt.ArrayLike, level: float, *, degrees: float,
                  mean: float = 0.0) -> TailRisk:
    """As `delta_normal` for multivariate Student-t factors of the given covariance; `degrees` above 2.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, *Quantitative Risk Management*, 2015, example 2.15.
    """
    from scipy.stats import t

    tail = 1.0 - checked_level(level)
    degrees = number("degrees", degrees, above=2.0)  # at 2 and below there is no covariance
    scale = _deviation(exposure, covariance) * math.sqrt((degrees - 2.0) / degrees)
    mean = number("mean", mean)
    quantile = float(t.isf(tail, degrees))
    beyond = float(t.pdf(quantile, degrees)) / tail * (degrees + quantile * quantile) / (degrees - 1.0)
    return TailRisk(quantile * scale - mean, beyond * scale - mean)


def lognormal(mu: float, sigma: float, tail: float, *, short: bool = False) -> TailRisk:
    """Value at risk and expected shortfall of the P&L ``X = exp(mu + sigma Z)``, or of ``-X`` when `short`.

    Parameters
    ----------
    mu, sigma : float
        Of ln X; sigma at least 0.
    tail : float
        Tail probability in (0, 0.5], for example 0.01 for a level of 99 %.
    """
    from scipy.special import ndtr, ndtri

    mu, sigma = number("mu", mu), number("sigma", sigma, least=0.0)
    tail = number("tail", tail, above=0.0, most=0.5)
    z = float(ndtri(tail))
    if max(mu + 0.5 * sigma * sigma, mu - sigma * z, mu) > EXPONENT_MOST:
        raise RangeError(f"mu and sigma must give a mean and quantiles below exp({EXPONENT_MOST:g}), were {mu!r} and "
                         f"{sigma!r}")
    mean = math.exp(mu + 0.5 * sigma * sigma)
    if short:
        return TailRisk(math.exp(mu - sigma * z), mean * float(ndtr(z + sigma)) / tail)
    return TailRisk(-math.exp(mu + sigma * z), -mean * float(ndtr(z - sigma)) / tail)


def lognormal_risk_factors(sigma_annual: float, horizon_years: float, tail: float, *,
                           drift_annual: float = 0.0) -> RiskFactors:
    """Expected shortfall of one unit of price held long and short under geometric Brownian motion.

    Parameters
    ----------
    sigma_annual : float
        At least 0.
    horizon_years : float
        Above 0.
    tail : float
        Tail probability in (0, 0.5].
    drift_annual : float

    Examples
    --------
    >>> round(lognormal_risk_factors(1.0, 0.001, 1e-6).short, 12)
    0.168823688538
    """
    sigma_annual = number("sigma_annual", sigma_annual, least=0.0)
    horizon_years = number("horizon_years", horizon_years, above=0.0)
    mu = (number("drift_annual", drift_annual) - 0.5 * sigma_annual**2) * horizon_years
    sigma = sigma_annual * math.sqrt(horizon_years)
    return RiskFactors(1.0 + lognormal(mu, sigma, tail).expected_shortfall,
                       lognormal(mu, sigma, tail, short=True).expected_shortfall - 1.0)


class QuadraticForm(NamedTuple):
    """``theta + sum linear y + square y^2`` over independent standard normal y: any delta-gamma portfolio."""

    theta: float
    linear: Floats
    square: Floats

    def cumulants(self) -> tuple[float, float, float, float]:
        """Mean, variance, third and fourth cumulant."""
        b2, a = self.linear**2, self.square
        return (self.theta + float(a.sum()), float((b2 + 2.0 * a * a).sum()),
                float((6.0 * b2 * a + 8.0 * a**3).sum()), float((48.0 * b2 * a * a + 48.0 * a**4).sum()))

    def characteristic(self, t: Floats) -> npt.NDArray[np.complex128]:
        """Characteristic function at every t."""
        inner = 1.0 - 2j * np.multiply.outer(t, self.square)
        powers = -0.5 * np.log(inner) - 0.5 * np.multiply.outer(t * t, self.linear**2) / inner
        return np.asarray(np.exp(1j * t * self.theta + powers.sum(axis=-1)))


def quadratic_form(delta: npt.ArrayLike, gamma: npt.ArrayLike, covariance: npt.ArrayLike,
                   theta: float = 0.0) -> QuadraticForm:
    """The portfolio ``theta + delta x + x gamma x / 2`` of normal x in independent coordinates."""
    first = floats("delta", delta)
    second = floats("gamma", gamma, ndim=2)
    if second.shape != (len(first), len(first)):
        raise ShapeError(f"gamma must have shape {len(first), len(first)}, had {second.shape}")
    values, vectors = np.linalg.eigh(checked_covariance(covariance, len(first)))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    square, turn = np.linalg.eigh(0.25 * root.T @ (second + second.T) @ root)
    return QuadraticForm(number("theta", theta), (root @ turn).T @ first, square)


def cornish_fisher_valid(skewness: float, excess: float) -> bool:
    """Whether the Cornish-Fisher quantile rises everywhere (Maillard 2012): only there it is a quantile at all."""
    skew = skewness / 6.0
    kurtosis = excess / 24.0
    # Derivative of the quantile in z: (3 K - 6 S^2) z^2 + 2 S z + 1 - 3 K + 5 S^2, which must not turn negative.
    lead, middle, rest = 3.0 * kurtosis - 6.0 * skew**2, 2.0 * skew, 1.0 - 3.0 * kurtosis + 5.0 * skew**2
    if lead == 0.0:
        return middle == 0.0 and rest >= 0.0
    return lead > 0.0 and middle * middle <= 4.0 * lead * rest


def delta_gamma(delta: npt.ArrayLike, gamma: npt.ArrayLike, covariance: npt.ArrayLike, level: float, *,
                theta: float = 0.0, method: str = "fourier") -> TailRisk:
    """Value at risk and expected shortfall of a portfolio with curvature under normal factors.

    Parameters
    ----------
    delta : float64 array, shape (factors,)
        First derivatives of the P&L by the factors.
    gamma : float64 array, shape (factors, factors)
        Second derivatives.
    covariance : float64 array, shape (factors, factors)
        Of the factors over the horizon.
    level : float
        In [0.5, 1).
    theta : float
        Certain part of the P&L over the horizon.
    method : {"fourier", "cornish_fisher"}
        "fourier" inverts the exact characteristic function (Imhof; Gil-Pelaez), or, where one factor is left, solves
        the quadratic exactly.  "cornish_fisher" expands the quantile by skewness and kurtosis and is refused outside
        its validity region, where it is not monotone.  Inside, it is an approximation still: of 2,287 random books its
        value at risk at 99 % was at worst 3 % too small up to a skewness of 0.5 and 12 % up to 1; beyond, it may even
        have the wrong sign.

    Raises
    ------
    RangeError
        Cornish-Fisher outside its validity region.
    NotConvergedError
        Fourier where the characteristic function falls too slowly, such as one factor of strong gamma beside another of
        a thousandth of it: use scenarios.

    References
    ----------
    .. [1] Jaschke, "The Cornish-Fisher-expansion in the context of delta-gamma-normal approximations", 2002.
    .. [2] Maillard, "A user's guide to the Cornish Fisher expansion", 2012.
    """
    level = checked_level(level)
    form = quadratic_form(delta, gamma, covariance, theta)
    mean, variance, third, fourth = form.cumulants()
    deviation = math.sqrt(variance)
    if deviation == 0.0:
        return TailRisk(0.0 - mean, 0.0 - mean)
    if choice("method", method, ("fourier", "cornish_fisher")) == "cornish_fisher":
        return _cornish_fisher(mean, deviation, third / deviation**3, fourth / variance**2, 1.0 - level)
    scaled = QuadraticForm((form.theta - mean) / deviation, form.linear / deviation, form.square / deviation)
    active = np.flatnonzero((np.abs(scaled.linear) > 1e-9) | (np.abs(scaled.square) > 1e-9))
    if len(active) == 1 and abs(scaled.linear[active[0]]) < 1e4 * abs(scaled.square[active[0]]):
        found = _one_factor(scaled.theta, float(scaled.linear[active[0]]), float(scaled.square[active[0]]), 1.0 - level)
    else:
        found = _fourier(scaled, 1.0 - level)
    return TailRisk(found.value_at_risk * deviation - mean, found.expected_shortfall * deviation - mean)


def _cornish_fisher(mean: float, deviation: float, skewness: float, excess: float, tail: float) -> TailRisk:
    from scipy.stats import norm

    if not cornish_fisher_valid(skewness, excess):
        raise RangeError(f"method must be 'fourier': skewness {skewness:.4g} and excess kurtosis {excess:.4g} lie "
                         "outside the validity region of Cornish-Fisher")
    z = float(norm.ppf(tail))
    ratio = float(norm.pdf(z)) / tail

    def quantile(m1: float, m2: float, m3: float) -> float:
        return (m1 + (m2 - 1.0) * skewness / 6.0 + (m3 - 3.0 * m1) * excess / 24.0
                - (2.0 * m3 - 5.0 * m1) * skewness**2 / 36.0)

    # Moments of a standard normal below z: -ratio, 1 - z ratio, -(z^2 + 2) ratio.
    below = quantile(-ratio, 1.0 - z * ratio, -(z * z + 2.0) * ratio)
    return TailRisk(-mean - deviation * quantile(z, z * z, z**3), -mean - deviation * below)


def _one_factor(theta: float, linear: float, square: float, tail: float) -> TailRisk:
    """Of ``theta + linear y + square y^2``, of mean 0 and variance 1, exactly: y lies between two roots or outside."""
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def density(y: float) -> float:
        return math.exp(-0.5 * y * y) / math.sqrt(2.0 * math.pi)

    def below(y: float) -> float:
        """Expectation of the form over all factors below y; what lies above, mirrored, is the form of ``-linear``."""
        return float((theta + square) * ndtr(y)) - (linear + square * y) * density(y)

    middle = -0.5 * linear / square

    def loss_probability(reach: float) -> float:
        if square > 0.0:
            return float(ndtr(middle + reach) - ndtr(middle - reach))
        return float(ndtr(middle - reach) + ndtr(-middle - reach))

    reach = float(brentq(lambda r: loss_probability(r) - tail, 0.0, abs(middle) + 40.0, xtol=1e-14, rtol=1e-14))
    edge = theta + square * (reach * reach - middle * middle)
    if square > 0.0:
        inside = below(middle + reach) - below(middle - reach)
    else:
        high = middle + reach
        above = float((theta + square) * ndtr(-high)) + (linear + square * high) * density(high)
        inside = below(middle - reach) + above
    return TailRisk(-edge, -inside / tail)


def _fourier(form: QuadraticForm, tail: float) -> TailRisk:
    """Of a form with mean 0 and variance 1, by Gauss-Legendre panels.

    What is cut off oscillates, so that it is about the characteristic function over t at the cut: 1e-8 of probability.
    """
    from scipy.optimize import brentq

    end = 8.0
    while abs(form.characteristic(np.array([end]))[0]) > 1e-8 * end:
        end *= 1.25
        if end > 20_000.0:
            raise NotConvergedError("the characteristic function falls too slowly; use scenarios with full revaluation")
    node, weight = np.polynomial.legendre.leggauss(16)
    panels = max(int(end), 64)
    width = end / panels
    t = ((np.arange(panels)[:, None] + 0.5 + 0.5 * node) * width).ravel()
    w = np.tile(0.5 * weight * width, panels)
    transform = form.characteristic(t)

    def below(x: float) -> float:
        return 0.5 - float(w @ ((np.exp(-1j * t * x) * transform).imag / t)) / math.pi

    low = -2.0
    while below(low) > tail:
        low *= 1.5
        if low < -1e4:
            raise NotConvergedError("no quantile found within 10,000 standard deviations; use scenarios")
    high = 2.0
    while below(high) < tail:
        high *= 1.5
    x = float(brentq(lambda value: below(value) - tail, low, high, xtol=1e-12, rtol=1e-12))
    distance = 2.0 / math.pi * (float(w @ ((1.0 - (np.exp(-1j * t * x) * transform).real) / (t * t))) + 1.0 / end)
    return TailRisk(-x, -x + 0.5 * (distance + x) / tail)
