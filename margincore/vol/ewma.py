"""Exponentially weighted moving average of squared returns (RiskMetrics)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from margincore.units import Floats, number
from margincore.vol.base import Recursion, VolatilityModel, backcast, check_common
from margincore.vol.fit import PanelFit, VolatilityFit, fit_decay, fit_decay_panel
from margincore.vol.innovation import Innovation, Normal


@dataclass(frozen=True, slots=True, kw_only=True)
class Ewma(VolatilityModel):
    """EWMA variance, ``h' = decay h + (1 - decay) (r - mean)^2`` [1]_.

    Parameters
    ----------
    decay : float
        In (0, 1); 0.94 is RiskMetrics' choice for daily returns.
    mean : float
        Mean return per step.
    innovation : Normal, StudentT or SkewT
        Law of the standardised shock, for simulation.
    start_variance : float, optional
        Variance before the first return, per step.  When omitted, the weighted mean of the first 75 squared
        returns of the series (decay 0.94); a longer or shorter history then starts from the same place if it
        shares those.

    References
    ----------
    .. [1] J.P. Morgan, *RiskMetrics Technical Document*, fourth edition, 1996, section 5.2.
    """

    decay: float = 0.94
    mean: float = 0.0
    innovation: Innovation = Normal()
    start_variance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", number("decay", self.decay, above=0.0, below=1.0))
        check_common(self)

    @property
    def half_life_steps(self) -> float:
        """Steps after which a squared return has half its first weight."""
        return math.log(0.5) / math.log(self.decay)

    @property
    def persistence(self) -> float:
        """Always 1: shocks never die out of the forecast."""
        return 1.0

    @property
    def unconditional_variance(self) -> float:
        """Infinite: the model has no long-run level."""
        return math.inf

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""
        weight = (1.0 - self.decay,)
        return Recursion(mean=self.mean, omega=0.0, first=weight, second=weight, beta=(self.decay,))

    @classmethod
    def fit(cls, returns: Any, *, mean: float = 0.0) -> VolatilityFit:
        """Decay of the highest normal likelihood.

        Parameters
        ----------
        returns : float64 array, shape (times,)
            At least 50, finite, not constant.
        mean : float
            Mean return per step, taken as known.
        """
        return fit_decay(cls, returns, number("mean", mean))

    @classmethod
    def fit_panel(cls, returns: Any, *, mean: float = 0.0) -> PanelFit:
        """Decay of the highest normal likelihood of each column of `returns` (times, series), with a status each."""
        return fit_decay_panel(cls, returns, number("mean", mean))

    def _first_variance(self, series: Floats) -> float:
        return number("start variance of the history", backcast(series - self.mean), above=0.0)
