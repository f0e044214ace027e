"""Add-ons: what a requirement holds beside scenarios or tiers.  A new add-on is one file, listed here."""

from margincore.addon.base import AddOn
from margincore.addon.closing_cost import ClosingCost
from margincore.addon.short_option import ShortOptionCharge, ShortOptionFloor

__all__ = ["AddOn", "ClosingCost", "ShortOptionCharge", "ShortOptionFloor"]

ADDONS: tuple[type, ...] = (ClosingCost, ShortOptionCharge, ShortOptionFloor)
