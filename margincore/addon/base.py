"""What every add-on answers."""

from __future__ import annotations

from typing import Protocol

from margincore.columns import MarketColumns
from margincore.contracts import Contracts
from margincore.units import Floats


class AddOn(Protocol):
    """An amount per contract, and the slot of the margin kernel that multiplies it by what an account holds.

    `slot` is ``"floor short"`` (least requirement of the shorts of an offset set), ``"short charge"`` (added, per short
    contract) or ``"closing charge"`` (added, per contract of either side).
    """

    @property
    def slot(self) -> str:
        """Where the kernel uses the amount."""
        ...

    def per_contract(self, contracts: Contracts, columns: MarketColumns, unit_value: Floats) -> Floats:
        """Base currency per contract, float64, shape (columns,); `unit_value` is in settlement asset per contract."""
        ...
