"""Consistent scores: the forecast closer to the truth has the smaller mean, whatever its errors look like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError
from margincore.measure import checked_level
from margincore.units import Floats
from margincore.validation.base import aligned, tail_probability


def quantile_score(pnl: npt.ArrayLike, value_at_risk: npt.ArrayLike, level: float) -> Floats:
    """Score of a value at risk in each period, smallest on average for the true quantile.

    Parameters
    ----------
    pnl : float64 array, shape (observations,)
        Realised profit (+) or loss (-).
    value_at_risk : float64 array, shape (observations,)
        Forecast as a loss, in the unit of `pnl`.
    level : float
        In [0.5, 1).

    Returns
    -------
    float64 array, shape (observations,)
        ``((loss > v) - (1 - level)) * (loss - v)``, not negative, in the unit of `pnl`.

    References
    ----------
    .. [1] Gneiting, "Making and evaluating point forecasts", Journal of the American Statistical Association 106,
       2011, section 3.3.
    """
    realised, stated = aligned(pnl, value_at_risk, "value_at_risk")
    excess = -realised - stated
    return np.asarray(((excess > 0.0) - tail_probability(checked_level(level))) * excess)


def joint_score(pnl: npt.ArrayLike, value_at_risk: npt.ArrayLike, expected_shortfall: npt.ArrayLike,
                level: float) -> Floats:
    """Score of value at risk and expected shortfall together, of degree zero: differences have no unit.

    Parameters
    ----------
    pnl, value_at_risk, level
        As `quantile_score`.
    expected_shortfall : float64 array, shape (observations,)
        Forecast at the same level, positive.

    Returns
    -------
    float64 array, shape (observations,)
        ``(max(loss - v, 0) / (1 - level) + v) / e + ln(e) - 1``.

    References
    ----------
    .. [1] Patton, Ziegel and Chen, "Dynamic semiparametric models for expected shortfall (and value-at-risk)",
       Journal of Econometrics 211, 2019, equation 6; after Fissler and Ziegel, Annals of Statistics 44, 2016.
    """
    realised, quantile = aligned(pnl, value_at_risk, "value_at_risk")
    _, shortfall = aligned(pnl, expected_shortfall, "expected_shortfall")
    if (shortfall <= 0.0).any():
        raise RangeError(f"expected_shortfall must be positive, was {shortfall.min():g} at {int(shortfall.argmin())}")
    tail = tail_probability(checked_level(level))
    return np.asarray((np.maximum(-realised - quantile, 0.0) / tail + quantile) / shortfall + np.log(shortfall) - 1.0)
