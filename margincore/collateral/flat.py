"""One haircut, whatever the amount."""

from __future__ import annotations

from dataclasses import dataclass

from margincore.units import number


@dataclass(frozen=True, slots=True)
class Flat:
    """The same haircut on every unit.

    Parameters
    ----------
    haircut : float
        Fraction in [0, 1]; 1 makes the asset worthless as margin.
    """

    haircut: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "haircut", number("haircut", self.haircut, least=0.0, most=1.0))

    @property
    def kept(self) -> float:
        """Share that counts, in [0, 1]."""
        return 1.0 - self.haircut
