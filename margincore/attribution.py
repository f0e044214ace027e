"""Which scenarios make the requirement of an offset set, and what every holding adds to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import MissingDataError
from margincore.explanation import TailScenario, tail_weights
from margincore.kernels.margin import MarginBook
from margincore.margin import MarginPlan, Stage
from margincore.measure import CONVENTIONS, ExpectedShortfall, Measure, ValueAtRisk
from margincore.units import Floats

TAIL_STAGES = ("value at risk", "expected shortfall")
ROUNDING, REMAINDER = "rounding", "remainder"  # contributions that make a sum of averages exact


@dataclass(frozen=True, slots=True)
class SetLoss:
    """What one offset set loses in the worst scenario, or in the tail of the scenarios.

    `loss` is in base currency before the ratios, at least zero; `scenario` is the one that decides, of an average the
    worst, None where nothing is lost; `contributions` are the losses of the holdings in it, or weighted over the tail,
    whose sum in the stated order is `loss` (bit for bit in a set of one underlying, and in every tail, whose last entry
    may be "rounding"); `tail` are the scenarios of a tail measure, worst first, with their weights in it.
    """

    underlyings: tuple[str, ...]
    scenario: str | None
    loss: float
    contributions: Mapping[str, float]
    tail: tuple[TailScenario, ...] = ()

    def __str__(self) -> str:
        if len(self.tail) > 1:
            names = ", ".join(str(item.name) for item in self.tail[:3]) + (" ..." if len(self.tail) > 3 else "")
            return f"tail of {'+'.join(self.underlyings)}: {len(self.tail)} scenarios, {names}: {self.loss:,.2f}"
        return f"worst of {'+'.join(self.underlyings)}: {self.scenario}: {self.loss:,.2f}"


@dataclass(frozen=True, slots=True, eq=False)
class ScenarioProfit:
    """What every holding earns in every scenario of the margin model, for `margincore.estimate` and `explain`.

    Attributes
    ----------
    symbols : tuple of str
        Derivatives, and assets that the scenarios move, in the order of the row.
    underlyings : tuple of str
        Of the symbols.
    expiry_ns : tuple of int or None
        Of the symbols, None for what does not expire.
    scenarios : tuple of str
        Names; of a model with stressed scenarios these come last.
    pnl : float64 array, shape (holdings, scenarios)
        Profit (+) or loss (-), base currency; NaN where an input is unknown.
    probability : float64 array, shape (scenarios,), or None
        None where all are equally likely; the stressed ones sum to 1 by themselves.
    stressed : int
        How many of the scenarios, the last ones, are stressed.
    """

    symbols: tuple[str, ...]
    underlyings: tuple[str, ...]
    expiry_ns: tuple[int | None, ...]
    scenarios: tuple[str, ...]
    pnl: Floats
    probability: Floats | None
    stressed: int

    @property
    def total(self) -> Floats:
        """Profit of all holdings together, added in their order, shape (scenarios,)."""
        whole = np.zeros(len(self.scenarios))
        for row in self.pnl:
            whole += row
        return whole


def scenario_profit(book: MarginBook, plan: MarginPlan, columns: Sequence[int],
                    quantities: Sequence[float]) -> ScenarioProfit:
    """The profit of holdings in the order of a row, where the model has scenarios."""
    if plan.scenarios is None:
        raise MissingDataError("model must have scenarios for profits in them, has size tiers")
    contracts = plan.contracts
    tail = next((stage for stage in plan.stages if stage.code in TAIL_STAGES), None)
    symbols = tuple(contracts.symbols[c] for c in columns)
    pnl = np.full((len(columns), len(plan.scenarios)), np.nan)
    for row, column, quantity in zip(pnl, columns, quantities, strict=True):
        risk = book.risk_of(column)
        if risk.size == row.size:  # before the first market there are none
            row[:] = quantity * risk
    return ScenarioProfit(
        symbols, tuple(contracts.underlyings[contracts.underlying[c]] for c in columns),
        tuple(getattr(contracts.by_symbol.get(symbol), "expiry_ns", None) for symbol in symbols),
        plan.scenarios.names, pnl, None if tail is None else tail.table,
        0 if tail is None else int(tail.parameters[-1]))


def set_losses(book: MarginBook, plan: MarginPlan, columns: Sequence[int], quantities: Sequence[float],
               ) -> tuple[SetLoss, ...]:
    """The loss of each offset set, of holdings in the order of a row; the sums are the kernel's sums."""
    if plan.scenarios is None:
        return ()
    contracts, sets = plan.contracts, plan.offset_set
    tail = next((stage for stage in plan.stages if stage.code in TAIL_STAGES), None)
    result: list[SetLoss] = []
    for offset_set in dict.fromkeys(int(sets[c]) for c in columns):
        members = [(c, q) for c, q in zip(columns, quantities, strict=True) if sets[c] == offset_set]
        profit = {contracts.symbols[c]: q * book.risk_of(c) for c, q in members}
        group_of = {contracts.symbols[c]: contracts.underlyings[contracts.underlying[c]] for c, _ in members}
        result.append(_worst(plan, profit, group_of) if tail is None else _tail(plan, tail, profit, group_of))
    return tuple(result)


def _groups(profit: Mapping[str, Floats], group_of: Mapping[str, str]) -> dict[str, Floats]:
    groups: dict[str, Floats] = {}
    for symbol, pnl in profit.items():
        name = group_of[symbol]
        groups[name] = groups[name] + pnl if name in groups else pnl
    return groups


def _kept(plan: MarginPlan, groups: Mapping[str, Floats]) -> Floats:
    whole = np.zeros(1)
    for at, pnl in enumerate(groups.values()):
        kept = np.where(pnl < 0.0, pnl, plan.gain_kept * pnl)
        whole = kept if at == 0 else whole + kept
    return whole


def _unknown(groups: Mapping[str, Floats], profit: Mapping[str, Floats]) -> SetLoss:
    return SetLoss(tuple(groups), None, math.nan, dict.fromkeys(profit, math.nan))


def _worst(plan: MarginPlan, profit: Mapping[str, Floats], group_of: Mapping[str, str]) -> SetLoss:
    groups = _groups(profit, group_of)
    whole = _kept(plan, groups)
    worst = int(np.argmin(whole))
    if not np.isfinite(whole).all():
        return _unknown(groups, profit)
    if not whole[worst] < 0.0:
        return SetLoss(tuple(groups), None, 0.0, dict.fromkeys(profit, 0.0))
    share = {name: 1.0 if pnl[worst] < 0.0 else plan.gain_kept for name, pnl in groups.items()}
    contributions = {symbol: -float(pnl[worst]) * share[group_of[symbol]] for symbol, pnl in profit.items()}
    assert plan.scenarios is not None
    return SetLoss(tuple(groups), plan.scenarios.names[worst], -float(whole[worst]), contributions)


def _tail(plan: MarginPlan, stage: Stage, profit: Mapping[str, Floats], group_of: Mapping[str, str]) -> SetLoss:
    groups = _groups(profit, group_of)
    if plan.gain_kept == 1.0:  # all slots of the set in one sum, as the kernel adds them
        whole = sum(profit.values(), np.zeros(len(next(iter(profit.values())))))
    else:
        whole = _kept(plan, groups)
    if not np.isfinite(whole).all():
        return _unknown(groups, profit)
    loss, weights = _measured(stage, whole)
    if not loss > 0.0:
        return SetLoss(tuple(groups), None, 0.0, dict.fromkeys(profit, 0.0))
    used = np.flatnonzero(weights)
    ordered = used[np.argsort(whole[used], kind="stable")]
    contributions = {}
    for symbol, pnl in profit.items():
        kept = 1.0 if plan.gain_kept == 1.0 else np.where(groups[group_of[symbol]][ordered] < 0.0, 1.0, plan.gain_kept)
        contributions[symbol] = 0.0 - float((pnl[ordered] * kept * weights[ordered]).sum())
    _settle(contributions, loss)
    assert plan.scenarios is not None
    names: Sequence[Any] = plan.scenarios.names
    tail = tuple(TailScenario(names[s], float(whole[s]), float(weights[s])) for s in ordered)
    return SetLoss(tuple(groups), tail[0].name, loss, contributions, tail)


def _settle(contributions: dict[str, float], loss: float) -> None:
    """Add what rounding left between the sum of the contributions, in their order, and the loss."""
    total = 0.0
    for value in contributions.values():
        total += value
    if total != loss:
        gap = loss - total
        exact = total + gap == loss  # it is, unless the loss is itself no more than rounding
        contributions[ROUNDING] = gap if exact else -total
        if not exact:
            contributions[REMAINDER] = loss


def _measured(stage: Stage, pnl: Floats) -> tuple[float, Floats]:
    """Loss of a stage, as the kernel takes it, and the weight of every scenario in it."""
    (_, _, _, _, _, convention, level, count, combine, share, stressed_level, _) = stage.parameters
    cut = int(count)
    tables = (None, None) if stage.table is None else (stage.table[:cut], stage.table[cut:])
    base, base_weights = _block(stage, pnl[:cut], int(convention), level, tables[0])
    if not combine:
        return base, base_weights
    stressed, stressed_weights = _block(stage, pnl[cut:], int(convention), stressed_level, tables[1])
    if combine == 1.0:
        return ((1.0 - share) * base + share * stressed,
                np.concatenate([(1.0 - share) * base_weights, share * stressed_weights]))
    if base > stressed:
        return base, np.concatenate([base_weights, np.zeros(len(stressed_weights))])
    return stressed, np.concatenate([np.zeros(len(base_weights)), stressed_weights])


def _block(stage: Stage, pnl: Floats, convention: int, level: float, weights: Floats | None) -> tuple[float, Floats]:
    measure: Measure = ExpectedShortfall(level) if stage.code == "expected shortfall" else ValueAtRisk(
        level, CONVENTIONS[convention])
    if len(pnl) == 1:  # the worst of a single scenario
        return 0.0 - float(pnl[0]), np.ones(1)
    return measure.loss(pnl, weights), tail_weights(pnl, measure, weights)
