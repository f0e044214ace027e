"""Rules that make one volatility of a realised and an implied one, per annum, element-wise over underlyings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError
from margincore.units import Floats, number

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MaxBlend:
    """The larger of realised and implied; the realised one where no implied is known."""

    def mix(self, realised: Floats, implied: Floats, long_run: Floats, stressed: Flags) -> tuple[Floats, Flags]:
        """Blended volatility and the regime after it, both of shape (underlyings,)."""
        return np.fmax(realised, implied), stressed


@dataclass(frozen=True, slots=True)
class WeightedBlend:
    """`implied_weight` times implied plus the rest realised; the realised one where no implied is known.

    Parameters
    ----------
    implied_weight : float
        In [0, 1].
    """

    implied_weight: float = 0.5

    def __post_init__(self) -> None:
        number("implied_weight", self.implied_weight, least=0.0, most=1.0)

    def mix(self, realised: Floats, implied: Floats, long_run: Floats, stressed: Flags) -> tuple[Floats, Flags]:
        """Blended volatility and the regime after it, both of shape (underlyings,)."""
        mixed = self.implied_weight * implied + (1.0 - self.implied_weight) * realised
        return np.where(np.isnan(implied), realised, mixed), stressed


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeBlend:
    """Weighted while calm, the larger of the two under stress.

    The regime turns to stress when the larger of realised and implied reaches `enter` times the long-run realised
    volatility, and back to calm below `leave` times it: two thresholds, so that it does not flutter.

    Parameters
    ----------
    implied_weight : float
        Weight of implied while calm, in [0, 1].
    enter, leave : float
        Multiples of the long-run level, ``enter > leave > 0``.
    long_run_half_life_days : float
        Half-life of the long-run level, above 0.
    """

    implied_weight: float = 0.5
    enter: float = 1.5
    leave: float = 1.2
    long_run_half_life_days: float = 250.0

    def __post_init__(self) -> None:
        number("implied_weight", self.implied_weight, least=0.0, most=1.0)
        number("leave", self.leave, above=0.0)
        number("enter", self.enter, above=0.0)
        number("long_run_half_life_days", self.long_run_half_life_days, above=0.0)
        if not self.enter > self.leave:
            raise RangeError(f"enter must be above leave = {self.leave:g}, was {self.enter!r}")

    def mix(self, realised: Floats, implied: Floats, long_run: Floats, stressed: Flags) -> tuple[Floats, Flags]:
        """Blended volatility and the regime after it, both of shape (underlyings,)."""
        most = np.fmax(realised, implied)
        now = (most >= self.enter * long_run) | (stressed & (most >= self.leave * long_run))
        calm, _ = WeightedBlend(self.implied_weight).mix(realised, implied, long_run, stressed)
        return np.where(now, most, calm), now


Blend = MaxBlend | WeightedBlend | RegimeBlend
