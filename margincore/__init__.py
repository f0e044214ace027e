"""Dynamic margin core for crypto derivatives."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from margincore.account import Account
    from margincore.addon import ClosingCost, ShortOptionCharge, ShortOptionFloor
    from margincore.arbitrage import check_arbitrage, repair_arbitrage
    from margincore.calibration import calibrate
    from margincore.chain import load_chain
    from margincore.collateral import Flat
    from margincore.combine import (
        StressedWindow,
        combine_scenarios,
        concat_scenarios,
        mix_scenarios,
        stressed_scenarios,
        stressed_window,
    )
    from margincore.config import show_config
    from margincore.contracts import Contracts, Future, Option, Perpetual, Spot
    from margincore.distance import LiquidationPrice
    from margincore.dynamics import ShockedSurface, SurfaceShock
    from margincore.engine import Engine
    from margincore.errors import MarginError
    from margincore.estimation import Estimate, estimate
    from margincore.example import example_market
    from margincore.explanation import Explanation, TailScenario, explain, tail_weights
    from margincore.formulas import (
        Greeks,
        ImpliedQuotes,
        ImpliedVolatility,
        VolStatus,
        black76,
        greeks,
        implied_quotes,
        implied_volatility,
    )
    from margincore.history import (
        age_weights,
        filtered_historical,
        historical,
        liquidity_cascade,
        liquidity_shortfall,
        margin_period_steps,
    )
    from margincore.io.ccxt import contracts_from_ccxt
    from margincore.io.deribit import contracts_from_deribit
    from margincore.io.frames import contracts_from_frame
    from margincore.io.tardis import contracts_from_tardis
    from margincore.ladder import Ladder
    from margincore.laws import CopulaLaw, FactorLaw, NormalLaw, StudentLaw
    from margincore.liquidation import bankruptcy_price, liquidation_price, position_prices
    from margincore.liquidity_var import LiquidityRisk, liquidity_adjusted, spread_cost
    from margincore.margin import MarginPlan, ScenarioMargin, Tier, TieredMargin, VarMargin
    from margincore.margin.clearing import clearing_listed, clearing_otc
    from margincore.market import MarketState
    from margincore.measure import ExpectedShortfall, Losses, Spectral, TailRisk, ValueAtRisk, Weighted, Worst
    from margincore.option_chain import Chain
    from margincore.panel import PricePanel
    from margincore.parametric import (
        RiskFactors,
        delta_gamma,
        delta_normal,
        delta_student,
        lognormal,
        lognormal_risk_factors,
    )
    from margincore.portfolio import Portfolio
    from margincore.quotes import chain_quotes
    from margincore.report import MarginReport, MarginTable, WhatIf
    from margincore.risk_profile import RiskProfiles, risk_profiles
    from margincore.scenarios import Scenarios, from_moves, grid, sigma_grid
    from margincore.shocks import VolatilityMoves, VolatilityRange, VolatilityShock
    from margincore.simulation import Philox, Sobol, from_returns, monte_carlo, simulate
    from margincore.stress_events import STRESS_EVENTS, StressEvent, correlation_one, depeg, stress, volatility_jump
    from margincore.surface import VolSurface
    from margincore.surface_history import historical_surfaces, surface_moves
    from margincore.tail import (
        expected_shortfall,
        portfolio_losses,
        portfolio_pnl,
        spectral_loss,
        tail_risk,
        tail_risks,
        value_at_risk,
        worst_loss,
    )
    from margincore.tail_fit import TailFit, fit_tail
    from margincore.units import Right, Side, Status, days, utc, years

__version__ = "0.1.0"

__all__ = [
    "Account",
    "Chain",
    "ClosingCost",
    "Contracts",
    "CopulaLaw",
    "Engine",
    "Estimate",
    "ExpectedShortfall",
    "Explanation",
    "FactorLaw",
    "Flat",
    "Future",
    "Greeks",
    "ImpliedQuotes",
    "ImpliedVolatility",
    "Ladder",
    "LiquidationPrice",
    "LiquidityRisk",
    "Losses",
    "MarginError",
    "MarginPlan",
    "MarginReport",
    "MarginTable",
    "MarketState",
    "NormalLaw",
    "Option",
    "Perpetual",
    "Philox",
    "Portfolio",
    "PricePanel",
    "Right",
    "RiskFactors",
    "RiskProfiles",
    "STRESS_EVENTS",
    "ScenarioMargin",
    "Scenarios",
    "ShockedSurface",
    "ShortOptionCharge",
    "ShortOptionFloor",
    "Side",
    "Sobol",
    "Spectral",
    "Spot",
    "Status",
    "StressEvent",
    "StressedWindow",
    "StudentLaw",
    "SurfaceShock",
    "TailFit",
    "TailRisk",
    "TailScenario",
    "Tier",
    "TieredMargin",
    "ValueAtRisk",
    "VarMargin",
    "VolStatus",
    "VolSurface",
    "VolatilityMoves",
    "VolatilityRange",
    "VolatilityShock",
    "Weighted",
    "WhatIf",
    "Worst",
    "age_weights",
    "bankruptcy_price",
    "black76",
    "calibrate",
    "chain_quotes",
    "check_arbitrage",
    "clearing_listed",
    "clearing_otc",
    "combine_scenarios",
    "concat_scenarios",
    "contracts_from_ccxt",
    "contracts_from_deribit",
    "contracts_from_frame",
    "contracts_from_tardis",
    "correlation_one",
    "days",
    "delta_gamma",
    "delta_normal",
    "delta_student",
    "depeg",
    "estimate",
    "example_market",
    "expected_shortfall",
    "explain",
    "filtered_historical",
    "fit_tail",
    "from_moves",
    "from_returns",
    "get_include",
    "greeks",
    "grid",
    "historical",
    "historical_surfaces",
    "implied_quotes",
    "implied_volatility",
    "liquidation_price",
    "liquidity_adjusted",
    "liquidity_cascade",
    "liquidity_shortfall",
    "load_chain",
    "lognormal",
    "lognormal_risk_factors",
    "margin_period_steps",
    "mix_scenarios",
    "monte_carlo",
    "portfolio_losses",
    "portfolio_pnl",
    "position_prices",
    "repair_arbitrage",
    "risk_profiles",
    "show_config",
    "sigma_grid",
    "simulate",
    "spectral_loss",
    "spread_cost",
    "stress",
    "stressed_scenarios",
    "stressed_window",
    "surface_moves",
    "tail_risk",
    "tail_risks",
    "tail_weights",
    "utc",
    "value_at_risk",
    "volatility_jump",
    "worst_loss",
    "years",
]

# Names fetched when first asked for, so that `import margincore` stays within its milliseconds.
_LATE = {
    "Account": "margincore.account",
    "Chain": "margincore.option_chain",
    "ClosingCost": "margincore.addon",
    "Contracts": "margincore.contracts",
    "CopulaLaw": "margincore.laws",
    "Engine": "margincore.engine",
    "Estimate": "margincore.estimation",
    "ExpectedShortfall": "margincore.measure",
    "Explanation": "margincore.explanation",
    "FactorLaw": "margincore.laws",
    "Flat": "margincore.collateral",
    "Future": "margincore.contracts",
    "Greeks": "margincore.formulas",
    "ImpliedQuotes": "margincore.formulas",
    "ImpliedVolatility": "margincore.formulas",
    "Ladder": "margincore.ladder",
    "LiquidationPrice": "margincore.distance",
    "LiquidityRisk": "margincore.liquidity_var",
    "Losses": "margincore.measure",
    "MarginError": "margincore.errors",
    "MarginPlan": "margincore.margin",
    "MarginReport": "margincore.report",
    "MarginTable": "margincore.report",
    "MarketState": "margincore.market",
    "NormalLaw": "margincore.laws",
    "Option": "margincore.contracts",
    "Perpetual": "margincore.contracts",
    "Philox": "margincore.simulation",
    "Portfolio": "margincore.portfolio",
    "PricePanel": "margincore.panel",
    "Right": "margincore.units",
    "RiskFactors": "margincore.parametric",
    "RiskProfiles": "margincore.risk_profile",
    "STRESS_EVENTS": "margincore.stress_events",
    "ScenarioMargin": "margincore.margin",
    "Scenarios": "margincore.scenarios",
    "ShockedSurface": "margincore.dynamics",
    "ShortOptionCharge": "margincore.addon",
    "ShortOptionFloor": "margincore.addon",
    "Side": "margincore.units",
    "Sobol": "margincore.simulation",
    "Spectral": "margincore.measure",
    "Spot": "margincore.contracts",
    "Status": "margincore.units",
    "StressEvent": "margincore.stress_events",
    "StressedWindow": "margincore.combine",
    "StudentLaw": "margincore.laws",
    "SurfaceShock": "margincore.dynamics",
    "TailFit": "margincore.tail_fit",
    "TailRisk": "margincore.measure",
    "TailScenario": "margincore.explanation",
    "Tier": "margincore.margin",
    "TieredMargin": "margincore.margin",
    "ValueAtRisk": "margincore.measure",
    "VarMargin": "margincore.margin",
    "VolStatus": "margincore.formulas",
    "VolSurface": "margincore.surface",
    "VolatilityMoves": "margincore.shocks",
    "VolatilityRange": "margincore.scenarios",
    "VolatilityShock": "margincore.scenarios",
    "Weighted": "margincore.measure",
    "WhatIf": "margincore.report",
    "Worst": "margincore.measure",
    "age_weights": "margincore.history",
    "bankruptcy_price": "margincore.liquidation",
    "black76": "margincore.formulas",
    "calibrate": "margincore.calibration",
    "chain_quotes": "margincore.quotes",
    "check_arbitrage": "margincore.arbitrage",
    "clearing_listed": "margincore.margin.clearing",
    "clearing_otc": "margincore.margin.clearing",
    "combine_scenarios": "margincore.combine",
    "concat_scenarios": "margincore.combine",
    "contracts_from_ccxt": "margincore.io.ccxt",
    "contracts_from_deribit": "margincore.io.deribit",
    "contracts_from_frame": "margincore.io.frames",
    "contracts_from_tardis": "margincore.io.tardis",
    "correlation_one": "margincore.stress_events",
    "days": "margincore.units",
    "delta_gamma": "margincore.parametric",
    "delta_normal": "margincore.parametric",
    "delta_student": "margincore.parametric",
    "depeg": "margincore.stress_events",
    "estimate": "margincore.estimation",
    "example_market": "margincore.example",
    "expected_shortfall": "margincore.tail",
    "explain": "margincore.explanation",
    "filtered_historical": "margincore.history",
    "fit_tail": "margincore.tail_fit",
    "from_moves": "margincore.scenarios",
    "from_returns": "margincore.simulation",
    "greeks": "margincore.formulas",
    "grid": "margincore.scenarios",
    "historical": "margincore.history",
    "historical_surfaces": "margincore.surface_history",
    "implied_quotes": "margincore.formulas",
    "implied_volatility": "margincore.formulas",
    "liquidation_price": "margincore.liquidation",
    "liquidity_adjusted": "margincore.liquidity_var",
    "liquidity_cascade": "margincore.history",
    "liquidity_shortfall": "margincore.history",
    "load_chain": "margincore.chain",
    "lognormal": "margincore.parametric",
    "lognormal_risk_factors": "margincore.parametric",
    "margin_period_steps": "margincore.history",
    "mix_scenarios": "margincore.combine",
    "monte_carlo": "margincore.simulation",
    "portfolio_losses": "margincore.tail",
    "portfolio_pnl": "margincore.tail",
    "position_prices": "margincore.liquidation",
    "repair_arbitrage": "margincore.arbitrage",
    "risk_profiles": "margincore.risk_profile",
    "show_config": "margincore.config",
    "sigma_grid": "margincore.scenarios",
    "simulate": "margincore.simulation",
    "spectral_loss": "margincore.tail",
    "spread_cost": "margincore.liquidity_var",
    "stress": "margincore.stress_events",
    "stressed_scenarios": "margincore.combine",
    "stressed_window": "margincore.combine",
    "surface_moves": "margincore.surface_history",
    "tail_risk": "margincore.tail",
    "tail_risks": "margincore.tail",
    "tail_weights": "margincore.explanation",
    "utc": "margincore.units",
    "value_at_risk": "margincore.tail",
    "volatility_jump": "margincore.stress_events",
    "worst_loss": "margincore.tail",
    "years": "margincore.units",
}
_FOLDERS = ("addon", "collateral", "io", "kernels", "liquidation", "margin", "validation", "vol")


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f"margincore.{name}")
    if name not in _LATE:
        raise AttributeError(f"module 'margincore' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def get_include() -> str:
    """Folder of `margincore.h`, for the include path of a C compiler."""
    return str(Path(__file__).parent / "include")
