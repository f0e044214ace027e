"""The three anti-procyclicality options of Article 28(1) of Commission Delegated Regulation (EU) No 153/2013.

A central counterparty must employ at least one of them; here they combine freely, and each may be set below the
regulatory minimum for experiments: `compliant` says whether it meets it.

References
----------
.. [1] Commission Delegated Regulation (EU) No 153/2013 of 19 December 2012, Article 28(1)(a), (b), (c).
"""

from __future__ import annotations

from dataclasses import dataclass

from margincore.units import integer, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """(a) A margin buffer of at least 25 % of the calculated margin, exhausted temporarily when margin rises fast.

    The charge is ``(1 + size)`` times the calculated volatility.  When that would rise by more than `trigger` in one
    step, the buffer is drawn down instead: the charge stays where it was until the calculated volatility itself
    overtakes it, and is never below the calculated one.  From then on it is built up again, the gap to the full
    buffer halving every `rebuild_half_life_days`.

    Parameters
    ----------
    size : float
        Fraction of the calculated volatility, at least 0; 0.25 or more meets the regulation.
    trigger : float
        Relative rise of the charge in one step from which drawing down is allowed, at least 0.
    rebuild_half_life_days : float
        At least 0; 0 restores the buffer at once, which is no relief at all.
    """

    size: float = 0.25
    trigger: float = 0.10
    rebuild_half_life_days: float = 20.0

    def __post_init__(self) -> None:
        number("size", self.size, least=0.0)
        number("trigger", self.trigger, least=0.0)
        number("rebuild_half_life_days", self.rebuild_half_life_days, least=0.0)

    @property
    def compliant(self) -> bool:
        """Whether the buffer is at least 25 %."""
        return self.size >= 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class StressedWeight:
    """(b) At least 25 % weight on stressed observations.

    The variance becomes ``(1 - weight)`` times the current one plus `weight` times that of the stressed observations,
    which is never taken below the current one.

    Parameters
    ----------
    weight : float
        In [0, 1]; 0.25 or more meets the regulation.
    sigma_annual : float, optional
        Volatility per annum of the stressed observations.  When omitted: of the `window` consecutive bars with the
        highest mean square that the history so far has seen; half of them are enough where it begins or has gaps.
    window : int
        Bars, at least 2.
    """

    weight: float = 0.25
    sigma_annual: float | None = None
    window: int = 60

    def __post_init__(self) -> None:
        number("weight", self.weight, least=0.0, most=1.0)
        if self.sigma_annual is not None:
            number("sigma_annual", self.sigma_annual, above=0.0)
        integer("window", self.window, least=2)

    @property
    def compliant(self) -> bool:
        """Whether the weight is at least 25 %."""
        return self.weight >= 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class LookbackFloor:
    """(c) Never below the margin from volatility estimated over a 10-year look-back.

    The floor is the root mean square of the returns of the last `years`, or of all there are when the history is
    shorter, but of `observations_min` at least: fewer raise.

    Parameters
    ----------
    years : float
        Above 0; 10 or more meets the regulation.
    observations_min : int
        At least 2.
    """

    years: float = 10.0
    observations_min: int = 250

    def __post_init__(self) -> None:
        number("years", self.years, above=0.0)
        integer("observations_min", self.observations_min, least=2)

    @property
    def compliant(self) -> bool:
        """Whether the look-back is at least 10 years."""
        return self.years >= 10.0


Option = Buffer | StressedWeight | LookbackFloor
