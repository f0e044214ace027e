"""Floor and charge on short options: tails that no scenario of the grid reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from margincore.columns import MarketColumns
from margincore.contracts import OPTION, Contracts
from margincore.units import Floats, number


def _share_of_underlying(rate: float, contracts: Contracts, columns: MarketColumns) -> Floats:
    per_unit = rate * columns.spot[contracts.underlying] * contracts.multiplier
    return np.where(contracts.kind == OPTION, per_unit, 0.0)


@dataclass(frozen=True, slots=True)
class ShortOptionFloor:
    """Least requirement of the short options of an offset set: a share of the underlying's value per contract.

    The short option minimum of scanning systems: the set asks for the larger of its scenario loss and the sum of these.

    Parameters
    ----------
    rate : float
        Share of the underlying's spot value per contract, in [0, 1].
    """

    rate: float
    slot: ClassVar[str] = "floor short"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", number("rate", self.rate, least=0.0, most=1.0))

    def per_contract(self, contracts: Contracts, columns: MarketColumns, unit_value: Floats) -> Floats:
        """Base currency per contract, float64, shape (columns,)."""
        return _share_of_underlying(self.rate, contracts, columns)


@dataclass(frozen=True, slots=True)
class ShortOptionCharge:
    """Contingency added per short option: a share of the underlying's value per contract.

    Parameters
    ----------
    rate : float
        Share of the underlying's spot value per contract, in [0, 1].
    """

    rate: float
    slot: ClassVar[str] = "short charge"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", number("rate", self.rate, least=0.0, most=1.0))

    def per_contract(self, contracts: Contracts, columns: MarketColumns, unit_value: Floats) -> Floats:
        """Base currency per contract, float64, shape (columns,)."""
        return _share_of_underlying(self.rate, contracts, columns)
