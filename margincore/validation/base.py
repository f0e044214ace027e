"""What the back-tests share: the verdict, and the alignment of realised P&L with forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError, ShapeError
from margincore.units import Floats, floats, number

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of one test of a null hypothesis that the model is right.

    Attributes
    ----------
    name : str
        Test and form.
    statistic : float
        Value of the test statistic; NaN when the sample cannot say anything.
    p_value : float
        Probability of a statistic at least this extreme if the model is right; NaN with the statistic.
    observations, exceptions : int
        Periods used, and those whose loss was above the forecast.
    """

    name: str
    statistic: float
    p_value: float
    observations: int
    exceptions: int

    def rejects(self, significance: float = 0.05) -> bool:
        """Whether the model is rejected at `significance`; a test that cannot say anything does not reject."""
        return self.p_value < number("significance", significance, above=0.0, below=1.0)

    @property
    def conclusive(self) -> bool:
        """Whether the sample allowed a p-value at all."""
        return self.p_value == self.p_value


def tail_probability(level: float) -> float:
    """``1 - level`` without the last bits of binary rounding: 0.01 for 0.99."""
    return round(1.0 - level, 15)


def checked_hits(exceptions: npt.ArrayLike, least: int = 2) -> Flags:
    """Exceptions of one portfolio in time order as booleans; numbers must be 0 or 1."""
    given = np.asarray(exceptions)
    if given.ndim != 1:
        raise ShapeError(f"exceptions must have 1 axis, had shape {given.shape}")
    if given.dtype != np.bool_:
        values = floats("exceptions", given, empty=True)
        if not np.isin(values, (0.0, 1.0)).all():
            other = float(values[~np.isin(values, (0.0, 1.0))][0])
            raise RangeError(f"exceptions must be booleans or 0 and 1, was {other!r}; make them with "
                             "exceptions(pnl, forecast)")
        given = values == 1.0
    if len(given) < least:
        raise ShapeError(f"exceptions must have at least {least} observations, had {len(given)}")
    return np.ascontiguousarray(given)


def exceptions(pnl: npt.ArrayLike, forecast: npt.ArrayLike) -> Flags:
    """Periods whose loss was above the forecast, strictly.

    Parameters
    ----------
    pnl : float64 array, shape (observations,)
        Realised profit (+) or loss (-) of each period.
    forecast : float64 array, shape (observations,)
        Value at risk or margin that was stated before each period, a loss, in the same unit.

    Returns
    -------
    bool array, shape (observations,)
    """
    realised, stated = aligned(pnl, forecast)
    return -realised > stated


def aligned(pnl: npt.ArrayLike, forecast: npt.ArrayLike, name: str = "forecast") -> tuple[Floats, Floats]:
    """Realised P&L and forecast of one portfolio, finite and of one length."""
    realised, stated = floats("pnl", pnl), floats(name, forecast)
    if len(realised) != len(stated):
        raise ShapeError(f"{name} must have one value per P&L ({len(realised)}), had {len(stated)}; align them first")
    return realised, stated
