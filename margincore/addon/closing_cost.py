"""What it costs to close at the quoted spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from margincore.columns import MarketColumns
from margincore.contracts import CASH, OPTION, Contracts
from margincore.units import Floats, number


@dataclass(frozen=True, slots=True)
class ClosingCost:
    """Half the bid-ask spread of every contract held: the constant-spread cost of closing [1]_.

    Parameters
    ----------
    share : float
        How many half spreads are charged, at least 0.
    missing_rate : float
        Half spread, as a share of the contract's value, assumed where no two-sided quote is known.

    References
    ----------
    .. [1] Bangia, Diebold, Schuermann and Stroughair, "Modeling Liquidity Risk", 1999, exogenous cost 0.5 * P * spread.
    """

    share: float = 1.0
    missing_rate: float = 0.0
    slot: ClassVar[str] = "closing charge"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", number("share", self.share, least=0.0))
        object.__setattr__(self, "missing_rate", number("missing_rate", self.missing_rate, least=0.0))

    def per_contract(self, contracts: Contracts, columns: MarketColumns, unit_value: Floats) -> Floats:
        """Base currency per contract, float64, shape (columns,)."""
        value = np.abs(unit_value)
        known = columns.spread_known.astype(bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = value * (columns.half_spread / columns.mark)
        coin_future = (contracts.inverse == 1) & (contracts.kind != OPTION)
        per_contract = np.where(coin_future, relative, contracts.multiplier * columns.half_spread)
        per_contract = np.where(known, per_contract, self.missing_rate * value)
        return np.where(contracts.kind == CASH, 0.0, self.share * per_contract * columns.spot[contracts.settle])
