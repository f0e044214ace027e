"""Back-tests and stability metrics of margin models."""

from margincore.validation.compare import CrashRow, VolatilityComparison, compare_volatility, format_crash
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

__all__ = [
    "Coverage",
    "CrashRow",
    "MarginCalls",
    "Procyclicality",
    "VolatilityComparison",
    "compare_volatility",
    "coverage",
    "format_crash",
    "increases",
    "largest_increase",
    "margin_calls",
    "peak_to_trough",
    "procyclicality",
]
