"""Collateral rules: what a balance is worth as margin.  A new rule is one file, listed here."""

from margincore.collateral.base import CollateralRule
from margincore.collateral.flat import Flat

__all__ = ["CollateralRule", "Flat"]

RULES: tuple[type, ...] = (Flat,)
