"""Volatility that drives margin: one file per model, realised estimators, correlation, control of procyclicality.

Examples
--------
>>> import numpy as np
>>> from margincore import vol
>>> truth = vol.Garch(omega=2e-5, alpha=0.10, beta=0.87)
>>> returns = truth.simulate(2_000, np.random.default_rng(7)).returns[0]
>>> fit = vol.Garch.fit(returns, innovation="student_t")
>>> bool(np.abs(fit.model.persistence - 0.97) < 0.02)
True
>>> state = fit.model.start(returns)
>>> calm, wild = state.copy().update(0.0), state.update(-0.12)  # one return each; the variance forecast for the next
>>> wild > calm
True
>>> margin = vol.MarginVolatility(model=fit.model, article28=(vol.Buffer(),), floor_annual=0.3)
>>> sigma = margin.resolve({"BTC": returns}, implied={"BTC": 0.6})
>>> list(sigma), sigma["BTC"] >= 0.6
(['BTC'], True)
"""

from margincore.vol import realised
from margincore.vol.article28 import Buffer, LookbackFloor, StressedWeight
from margincore.vol.bars import Bars, previous_tick
from margincore.vol.base import Forecast, PanelFilter, Simulation, VolatilityModel
from margincore.vol.blend import MaxBlend, RegimeBlend, WeightedBlend
from margincore.vol.component import Component
from margincore.vol.correlation import covariance_to_correlation, nearest_correlation, stressed_correlation
from margincore.vol.covariance import EwmaCovariance, EwmaCovarianceState, Shrinkage, ledoit_wolf
from margincore.vol.egarch import Egarch
from margincore.vol.ewma import Ewma
from margincore.vol.fit import PanelFit, VolatilityFit
from margincore.vol.garch import Garch
from margincore.vol.gjr import Gjr
from margincore.vol.har import Har, HarFit, HarPanelFit
from margincore.vol.innovation import Normal, SkewT, StudentT
from margincore.vol.jumps import (
    JumpTest,
    PathStatus,
    RealisedMeasures,
    bipower,
    bipower_variation,
    jump_test,
    realised_measures,
    realised_variance,
)
from margincore.vol.margin_volatility import MarginVolatility
from margincore.vol.margin_volatility_state import DataStatus, MarginVolatilityState

# Every conditional model; the contract in tests/test_models.py walks this list.
MODELS: tuple[type[VolatilityModel], ...] = (Ewma, Garch, Gjr, Egarch, Component, Har)

__all__ = [
    "MODELS",
    "Bars",
    "Buffer",
    "Component",
    "DataStatus",
    "Egarch",
    "Ewma",
    "EwmaCovariance",
    "EwmaCovarianceState",
    "Forecast",
    "Garch",
    "Gjr",
    "Har",
    "HarFit",
    "HarPanelFit",
    "JumpTest",
    "LookbackFloor",
    "MarginVolatility",
    "MarginVolatilityState",
    "MaxBlend",
    "Normal",
    "PanelFilter",
    "PanelFit",
    "PathStatus",
    "RealisedMeasures",
    "RegimeBlend",
    "Shrinkage",
    "Simulation",
    "SkewT",
    "StressedWeight",
    "StudentT",
    "VolatilityFit",
    "VolatilityModel",
    "WeightedBlend",
    "bipower",
    "bipower_variation",
    "covariance_to_correlation",
    "jump_test",
    "ledoit_wolf",
    "nearest_correlation",
    "previous_tick",
    "realised",
    "realised_measures",
    "realised_variance",
    "stressed_correlation",
]
