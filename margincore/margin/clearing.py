"""Margin as clearing houses set it: filtered history at a regulated level and close-out period, and stressed weight.

The figures are those of Commission Delegated Regulation (EU) No 153/2013 of 19 December 2012 (OJ L 52, 23.2.2013,
p. 41): Article 24(1) for the level, 25(1) for the look-back, 26(1) for the liquidation period, 28(1)(b) for the weight
of stressed observations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import MarginError, RangeError, ShapeError
from margincore.history import Filter, filtered_historical, historical
from margincore.margin.var import VarMargin
from margincore.measure import ExpectedShortfall, ValueAtRisk
from margincore.panel import PricePanel, ratios
from margincore.scenarios import Scenarios
from margincore.units import integer
from margincore.vol.base import VolatilityModel
from margincore.vol.component import Component
from margincore.vol.margin_volatility import MarginVolatility


@dataclass(frozen=True, slots=True)
class ClearingRule:
    """What a regulation asks of the margin of one kind of contract.

    Attributes
    ----------
    level : float
        Confidence over the liquidation period.
    liquidation_days : int
        Days to close a defaulter's positions; calendar days, as crypto markets trade every day.
    stressed_weight : float
        Share of stressed observations.
    lookback_days : int
        Least history.
    source : str
    """

    level: float
    liquidation_days: int
    stressed_weight: float
    lookback_days: int
    source: str


LISTED = ClearingRule(0.99, 2, 0.25, 365, "Regulation (EU) No 153/2013, Art. 24(1)(b), 25(1), 26(1)(b), 28(1)(b)")
OVER_THE_COUNTER = ClearingRule(0.995, 5, 0.25, 365,
                                "Regulation (EU) No 153/2013, Art. 24(1)(a), 25(1), 26(1)(a), 28(1)(b)")


def clearing_listed(prices: Any, dates: Any = None, **choices: Any) -> VarMargin:
    """Margin of listed contracts at a clearing house: 99 % over two days, filtered history, 25 % stressed weight.

    Parameters
    ----------
    prices : mapping of str to float64 array of shape (days,), data frame, or PricePanel
        Daily closes by underlying, base currency, oldest first, at least a year of them.
    dates : sequence of dates, optional
        As in `historical`.
    shortfall : bool
        Expected shortfall instead of value at risk at that level; False when omitted.
    model : volatility model of `margincore.vol`, or mapping of str to models
        That filters the history; `fitted_models` when omitted, which takes some 0.2 s for each underlying.
    volatility : MarginVolatility, optional
        Volatility control: its charge replaces the model's present volatility.
    stressed : Scenarios, optional
        Stressed observations over the liquidation period.  When omitted: of all two-day moves, as they were, the
        `stressed_days` consecutive ones with the highest mean square over the underlyings, each in units of its own.
    stressed_days : int
        365 when omitted.
    gaps : {"error", "skip", "keep"}
        What a missing date does, as in `historical`.
    **choices
        Further arguments of `VarMargin`: `collateral`, `floor_rate`, `addons` ...

    Returns
    -------
    VarMargin
        Maintenance and initial margin alike.

    Raises
    ------
    ShapeError
        If the history is shorter than the look-back.

    Notes
    -----
    Weights are applied to the measures: three quarters of the one over filtered history, one quarter of the one over
    stressed observations [1]_.

    References
    ----------
    .. [1] Commission Delegated Regulation (EU) No 153/2013, Articles 24, 25, 26 and 28.

    Examples
    --------
    >>> import numpy as np
    >>> from margincore.vol import Ewma
    >>> closes = 100.0 * np.exp(np.cumsum(0.03 * np.sin(np.arange(800.0) ** 1.3)))
    >>> model = clearing_listed({"BTC": closes}, model=Ewma(decay=0.97))
    >>> model.measure, len(model.scenarios), len(model.stressed), model.stressed_weight
    (ValueAtRisk(level=0.99, convention='upper'), 798, 365, 0.25)
    """
    return _clearing(LISTED, prices, dates, **choices)


def clearing_otc(prices: Any, dates: Any = None, **choices: Any) -> VarMargin:
    """Margin of over-the-counter contracts at a clearing house: 99.5 % over five days, else as `clearing_listed`."""
    return _clearing(OVER_THE_COUNTER, prices, dates, **choices)


def _clearing(rule: ClearingRule, prices: Any, dates: Any, *, shortfall: bool = False,
              model: Filter | Mapping[str, Filter] | None = None, volatility: MarginVolatility | None = None,
              stressed: Scenarios | None = None, stressed_days: int = 365, gaps: str = "error",
              **choices: Any) -> VarMargin:
    panel, steps = PricePanel.of(prices, dates), rule.liquidation_days
    if len(panel) <= rule.lookback_days:
        raise ShapeError(f"prices must have more than {rule.lookback_days} days for {rule.source}, had {len(panel)}")
    for name in ("scenarios", "measure", "stressed_weight", "horizon_days", "scenario_days"):
        if name in choices:
            raise RangeError(f"{name} must be left to the rule, was {choices[name]!r}; dataclasses.replace changes it")
    base = filtered_historical(panel, fitted_models(panel, gaps=gaps) if model is None else model, steps=steps,
                               horizon="overlapping", gaps=gaps,
                               deviation_now=None if volatility is None else _deviations(panel, volatility, gaps))
    if stressed is None:
        stressed = most_stressed(historical(panel, steps=steps, gaps=gaps), stressed_days)
    measure = ExpectedShortfall(rule.level) if shortfall else ValueAtRisk(rule.level)
    ratios_of = {"maintenance_ratio": 1.0, "initial_ratio": 1.0}
    return VarMargin(base, measure, stressed, rule.stressed_weight, **{**ratios_of, **choices})


def fitted_models(prices: Any, dates: Any = None, *, gaps: str = "error") -> dict[str, VolatilityModel]:
    """The volatility model that the walk-forward study favours for filtering, fitted to every underlying's history.

    That is the component model with Student-t shocks: two variances, of which the slow one is what the fast one returns
    to.  `prices`, `dates` and `gaps` as in `filtered_historical`.
    """
    panel = PricePanel.of(prices, dates)
    moves = panel.log_moves(panel.windows(gaps=gaps))
    models: dict[str, VolatilityModel] = {}
    for at, name in enumerate(panel.underlyings):
        try:
            models[name] = Component.fit(moves[:, at].copy(), innovation="student_t").model
        except MarginError as error:
            raise type(error)(f"{name}: {error}") from error
    return models


def most_stressed(scenarios: Scenarios, length: int) -> Scenarios:
    """The `length` consecutive scenarios with the highest mean square of log moves, all underlyings weighing the same.

    Parameters
    ----------
    scenarios : Scenarios
        By date, oldest first, with moves by underlying.
    length : int
        At least 2; all of them when there are fewer.
    """
    length = min(integer("length", length, least=2), len(scenarios))
    if not isinstance(scenarios.spot_move, Mapping):
        raise RangeError("scenarios must have moves by underlying")
    total = np.zeros(len(scenarios))
    for row in scenarios.spot_move.values():
        square = ratios(1.0 + np.array(row), np.ones(len(row))) ** 2
        total += square / max(float(square.mean()), math.ulp(0.0))
    reached = np.concatenate([[0.0], np.cumsum(total)])
    first = int(np.argmax(reached[length:] - reached[:-length]))
    return scenarios.take(slice(first, first + length))


def _deviations(panel: PricePanel, volatility: MarginVolatility, gaps: str) -> dict[str, float]:
    """Standard deviation per day that the volatility control charges."""
    if not isinstance(volatility, MarginVolatility):
        raise RangeError(f"volatility must be a MarginVolatility, was {volatility!r}")
    moves = panel.log_moves(panel.windows(gaps=gaps))
    charged = volatility.resolve({name: moves[:, at].copy() for at, name in enumerate(panel.underlyings)})
    return {name: sigma / math.sqrt(volatility.days_per_year) for name, sigma in charged.items()}
