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
from margincore.validation.score import joint_score, quantile_score
from margincore.validation.shortfall import acerbi_szekely, mcneil_frey
from margincore.validation.study import Combination, Study
from margincore.validation.table import Backtest, Disclosure, align, backtest, disclosure
from margincore.validation.walk_forward import Refit, walk_forward

__all__ = [
    "Backtest",
    "Combination",
    "Coverage",
    "CrashRow",
    "Disclosure",
    "MarginCalls",
    "Procyclicality",
    "Refit",
    "Study",
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
    "joint_score",
    "kupiec_pof",
    "kupiec_tuff",
    "largest_increase",
    "margin_calls",
    "mcneil_frey",
    "peak_to_trough",
    "procyclicality",
    "quantile_score",
    "traffic_light",
    "walk_forward",
]
