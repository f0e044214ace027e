"""Tails of the standardised shock, and a law for residuals whose model states none."""

from __future__ import annotations

import math

import numpy as np

from margincore.errors import RangeError
from margincore.measure import checked_level
from margincore.units import Floats
from margincore.vol.innovation import Normal, SkewT, StudentT

Law = Normal | StudentT | SkewT


def moment_law(residual: Floats, *, degrees: float | None = None) -> tuple[float, Law]:
    """Deviation of standardised residuals (times,), and the law of unit variance with their kurtosis.

    A Student-t has the excess kurtosis ``6 / (degrees - 4)``; without an excess the law is normal.  With `degrees`
    the law is the one of those, infinite for the normal.
    """
    scale = 1.0
    if degrees is None:
        scale = math.sqrt(float(np.mean(residual * residual)))
        excess = float(np.mean((residual / scale) ** 4)) - 3.0
        degrees = 4.0 + 6.0 / excess if excess > 0.0 else math.inf
    return scale, StudentT(degrees) if math.isfinite(degrees) else Normal()


def law_tail(law: Law, level: float, *, short: bool = False) -> tuple[float, float]:
    """Value at risk and expected shortfall of a unit of the standardised shock held long, or short.

    Parameters
    ----------
    law : Normal, StudentT or SkewT
    level : float
        In [0.5, 1).
    short : bool
        Whether gains of the shock are the losses.

    References
    ----------
    .. [1] McNeil, Frey and Embrechts, *Quantitative Risk Management*, 2015, examples 2.14 and 2.15.
    .. [2] Hansen, "Autoregressive conditional density estimation", International Economic Review 35, 1994,
       equations 10-14: each side of his law is a Student-t of its own scale.
    """
    from scipy.special import ndtri, stdtrit

    tail = 1.0 - checked_level(level)
    if isinstance(law, Normal):
        quantile = -float(ndtri(tail))
        return quantile, math.exp(-0.5 * quantile * quantile) / (math.sqrt(2.0 * math.pi) * tail)
    degrees = law.degrees_of_freedom
    unit = math.sqrt((degrees - 2.0) / degrees)
    skew = 0.0
    if isinstance(law, SkewT):
        skew = -law.skew if short else law.skew
    side = 1.0 - skew
    if tail >= 0.5 * side:
        raise RangeError(f"level must leave a tail on one side of the mode, above {1.0 - 0.5 * side:g}, was {level!r}")
    at_zero = math.exp(math.lgamma(0.5 * (degrees + 1.0)) - math.lgamma(0.5 * degrees)) / math.sqrt(math.pi * degrees)
    constant = at_zero / unit
    centre = 4.0 * skew * constant * (degrees - 2.0) / (degrees - 1.0)
    width = math.sqrt(1.0 + 3.0 * skew * skew - centre * centre)
    quantile = -float(stdtrit(degrees, tail / side))
    density = at_zero * (1.0 + quantile * quantile / degrees) ** (-0.5 * (degrees + 1.0))
    beyond = density * (degrees + quantile * quantile) / (degrees - 1.0)
    return ((side * unit * quantile + centre) / width,
            (side * side * unit * beyond / tail + centre) / width)
