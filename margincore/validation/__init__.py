"""Back-tests and stability metrics of margin models."""

from margincore.validation.base import Verdict, exceptions
from margincore.validation.compare import CrashRow, VolatilityComparison, compare_volatility, format_crash
from margincore.validation.frequency import (
    TrafficLight,
    christoffersen_conditional,
    christoffersen_independence,
    engle_manganelli,
    kupiec_pof,
    kupiec_tuff,
    traffic_light,
)
from margincore.validation.procyclicality import (
    Coverage,
    MarginCalls,
    Procyclicality,
    coverage,
    increases,
    largest_increase,
    margin_calls,
    peak_to_trough,
    procyclicality,
)
from margincore.validation.shortfall import acerbi_szekely, mcneil_frey
from margincore.validation.table import Backtest, Disclosure, align, backtest, disclosure

__all__ = [
    "Backtest",
    "Coverage",
    "CrashRow",
    "Disclosure",
    "MarginCalls",
    "Procyclicality",
    "TrafficLight",
    "Verdict",
    "VolatilityComparison",
    "acerbi_szekely",
    "align",
    "backtest",
    "christoffersen_conditional",
    "christoffersen_independence",
    "compare_volatility",
    "coverage",
    "disclosure",
    "engle_manganelli",
    "exceptions",
    "format_crash",
    "increases",
    "kupiec_pof",
    "kupiec_tuff",
    "largest_increase",
    "margin_calls",
    "mcneil_frey",
    "peak_to_trough",
    "procyclicality",
    "traffic_light",
]
