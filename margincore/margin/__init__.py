"""Margin models.  A new model is one file with a frozen class and its `resolve`, listed here."""

from margincore.margin.base import MarginModel, MarginPlan, Stage
from margincore.margin.scenario import ScenarioMargin
from margincore.margin.tiered import Tier, TieredMargin
from margincore.margin.var import VarMargin

__all__ = ["MarginModel", "MarginPlan", "ScenarioMargin", "Stage", "Tier", "TieredMargin", "VarMargin"]

MODELS: tuple[type, ...] = (ScenarioMargin, TieredMargin, VarMargin)
