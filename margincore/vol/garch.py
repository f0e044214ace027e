"""GARCH(p, q)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from margincore.units import number
from margincore.vol.base import Recursion, VolatilityModel, check_common, check_persistence, weights
from margincore.vol.innovation import Innovation, Normal


@dataclass(frozen=True, slots=True, kw_only=True)
class Garch(VolatilityModel):
    """GARCH(p, q) variance, ``h' = omega + sum_j alpha_j e_j^2 + sum_k beta_k h_k`` with ``e = r - mean`` [1]_.

    Parameters
    ----------
    omega : float
        Positive, variance per step.
    alpha, beta : float or sequence of float
        Not negative, newest lag first; together below 1.
    mean : float
        Mean return per step.
    innovation : Normal, StudentT or SkewT
        Law of the standardised shock.
    start_variance : float, optional
        Variance (and squared shock) before the first return; the long-run variance when omitted.

    References
    ----------
    .. [1] T. Bollerslev, *Generalized autoregressive conditional heteroskedasticity*, Journal of Econometrics 31
       (1986), equation 2.
    """

    omega: float
    alpha: float | Sequence[float]
    beta: float | Sequence[float] = ()
    mean: float = 0.0
    innovation: Innovation = Normal()
    start_variance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", number("omega", self.omega, above=0.0))
        object.__setattr__(self, "alpha", weights("alpha", self.alpha))
        object.__setattr__(self, "beta", weights("beta", self.beta))
        check_common(self)
        check_persistence(self.persistence)

    @property
    def persistence(self) -> float:
        """Share of a variance shock that survives one step, in [0, 1)."""
        return math.fsum((*weights("alpha", self.alpha), *weights("beta", self.beta)))

    @property
    def unconditional_variance(self) -> float:
        """Long-run variance per step."""
        return self.omega / (1.0 - self.persistence)

    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""
        alpha = weights("alpha", self.alpha)
        return Recursion(mean=self.mean, omega=self.omega, first=alpha, second=alpha, beta=weights("beta", self.beta))
