"""Volatility that drives margin: realised estimators, correlation."""

from margincore.vol import realised
from margincore.vol.bars import Bars, previous_tick
from margincore.vol.correlation import covariance_to_correlation, nearest_correlation, stressed_correlation
from margincore.vol.covariance import EwmaCovariance, EwmaCovarianceState, Shrinkage, ledoit_wolf
from margincore.vol.jumps import (
    JumpTest,
    bipower,
    bipower_variation,
    jump_test,
    realised_variance,
)

__all__ = [
    "Bars",
    "EwmaCovariance",
    "EwmaCovarianceState",
    "JumpTest",
    "Shrinkage",
    "bipower",
    "bipower_variation",
    "covariance_to_correlation",
    "jump_test",
    "ledoit_wolf",
    "nearest_correlation",
    "previous_tick",
    "realised",
    "realised_variance",
    "stressed_correlation",
]
