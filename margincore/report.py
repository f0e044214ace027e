"""What the engine answers: a report that explains itself, a what-if, and a table of every account."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.kernels.margin import MarginBook
from margincore.margin import MarginPlan
from margincore.units import Floats, Status


@dataclass(frozen=True, slots=True)
class Part:
    """One summand of the requirement, base currency."""

    name: str
    maintenance: float
    initial: float


@dataclass(frozen=True, slots=True)
class SetLoss:
    """Worst scenario of one offset set.

    `loss` is in base currency before the ratios, at least zero; `scenario` is None where no scenario loses;
    `contributions` are the losses of the holdings in that scenario, whose sum in the stated order is `loss` (bit for
    bit in a set of one underlying).
    """

    underlyings: tuple[str, ...]
    scenario: str | None
    loss: float
    contributions: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MarginReport:
    """Equity and requirement of one account or portfolio, base currency, and where they come from.

    Attributes
    ----------
    equity : float
        Balances and unrealised profit after haircuts.
    initial, maintenance : float
        The sums of `parts`, in their order.
    status : Status
    parts : tuple of Part
    sets : tuple of SetLoss
        Empty for models without scenarios.
    asset_equity : mapping of str to float
        Equity per asset in units of the asset, before haircuts.
    """

    equity: float
    initial: float
    maintenance: float
    status: Status
    parts: tuple[Part, ...]
    sets: tuple[SetLoss, ...]
    asset_equity: Mapping[str, float]

    @property
    def available(self) -> float:
        """Equity above initial margin, base currency; negative when short of it."""
        return self.equity - self.initial

    @property
    def excess(self) -> float:
        """Equity above maintenance margin, base currency."""
        return self.equity - self.maintenance

    @property
    def scenario_loss(self) -> float:
        """Sum of the worst losses of the sets, base currency, before ratios and floors."""
        total = 0.0
        for item in self.sets:
            total += item.loss
        return total

    @property
    def worst_scenario(self) -> str | None:
        """Name of the scenario that costs most: of the set with the largest loss; None when nothing loses."""
        worst = max(self.sets, key=lambda item: item.loss, default=None)
        return worst.scenario if worst is not None else None

    @property
    def contributions(self) -> dict[str, float]:
        """Loss of each holding in the worst scenario of its set, base currency."""
        return {symbol: loss for item in self.sets for symbol, loss in item.contributions.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON; what is not finite becomes None."""
        def plain(x: float) -> float | None:
            return x if math.isfinite(x) else None

        return {
            "status": self.status.name, "equity": plain(self.equity), "initial": plain(self.initial),
            "maintenance": plain(self.maintenance), "available": plain(self.available),
            "parts": [{"name": p.name, "maintenance": plain(p.maintenance), "initial": plain(p.initial)}
                      for p in self.parts],
            "sets": [{"underlyings": list(s.underlyings), "scenario": s.scenario, "loss": plain(s.loss),
                      "contributions": {k: plain(x) for k, x in s.contributions.items()}} for s in self.sets],
            "asset_equity": {asset: plain(x) for asset, x in self.asset_equity.items()},
        }

    def __str__(self) -> str:
        lines = [f"status       {self.status.name}", f"equity       {self.equity:>18,.2f}"]
        lines += [f"  {part.name:<22} maintenance {part.maintenance:>14,.2f}   initial {part.initial:>14,.2f}"
                  for part in self.parts]
        lines += [f"maintenance  {self.maintenance:>18,.2f}", f"initial      {self.initial:>18,.2f}"]
        lines += [f"worst of {'+'.join(item.underlyings)}: {item.scenario} ({item.loss:,.2f})"
                  for item in self.sets if item.scenario is not None]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Equity, requirement and status before and after orders that were not sent, base currency."""

    before: tuple[float, float, float]
    after: tuple[float, float, float]
    status_before: Status
    status: Status

    @property
    def allowed(self) -> bool:
        """Whether the account would be healthy: equity at or above initial margin afterwards."""
        return self.status is Status.HEALTHY

    @property
    def equity(self) -> float:
        """Equity after the orders."""
        return self.after[0]

    @property
    def initial(self) -> float:
        """Initial margin after the orders."""
        return self.after[1]

    @property
    def maintenance(self) -> float:
        """Maintenance margin after the orders."""
        return self.after[2]


@dataclass(frozen=True, slots=True, eq=False)
class MarginTable:
    """Every account at once: arrays of shape (accounts,), base currency.

    Attributes
    ----------
    row : int64 array
    equity, initial, maintenance : float64 array
    status : uint8 array
        Codes of `Status`.
    """

    row: npt.NDArray[np.int64]
    equity: Floats
    initial: Floats
    maintenance: Floats
    status: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.row)

    def count(self) -> dict[Status, int]:
        """Number of accounts by status."""
        return {status: int((self.status == status).sum()) for status in Status}


def parts_of(names: Sequence[str], amounts: Sequence[tuple[float, float, float]], initial: float,
             maintenance: float) -> tuple[Part, ...]:
    """The summands of both totals, such that adding them in order gives the totals bit for bit."""
    parts = [Part(name, amount[0], amount[1]) for name, amount in zip(names, amounts, strict=True)]
    orders = 0.0
    for amount in amounts:
        orders += amount[2]
    if orders != 0.0:
        parts.append(Part("open orders", 0.0, orders))
    total = 0.0
    for part in parts:
        total += part.initial
    if total != initial and math.isfinite(initial):       # initial margin is never below maintenance
        gap = initial - total
        while total + gap != initial:
            gap = math.nextafter(gap, math.inf if total + gap < initial else -math.inf)
        parts.append(Part("initial at least maintenance", 0.0, gap))
    return tuple(parts)


def set_losses(book: MarginBook, plan: MarginPlan, columns: Sequence[int], quantities: Sequence[float],
               ) -> tuple[SetLoss, ...]:
    """Worst scenario of each offset set, of holdings in the order of a row; the sums are the kernel's sums."""
    if plan.scenarios is None:
        return ()
    contracts, sets = plan.contracts, plan.offset_set
    result: list[SetLoss] = []
    for offset_set in dict.fromkeys(int(sets[c]) for c in columns):
        members = [(c, q) for c, q in zip(columns, quantities, strict=True) if sets[c] == offset_set]
        result.append(_set_loss(book, plan, [contracts.symbols[c] for c, _ in members], members))
    return tuple(result)


def _set_loss(book: MarginBook, plan: MarginPlan, symbols: Sequence[str],
              members: Sequence[tuple[int, float]]) -> SetLoss:
    contracts = plan.contracts
    profit = {symbol: q * book.risk_of(c) for symbol, (c, q) in zip(symbols, members, strict=True)}
    group_of = {symbol: contracts.underlyings[contracts.underlying[c]]
                for symbol, (c, _) in zip(symbols, members, strict=True)}
    groups: dict[str, Floats] = {}
    for symbol, pnl in profit.items():
        name = group_of[symbol]
        groups[name] = groups[name] + pnl if name in groups else pnl
    whole = np.zeros(1)
    for at, pnl in enumerate(groups.values()):
        kept = np.where(pnl < 0.0, pnl, plan.gain_kept * pnl)
        whole = kept if at == 0 else whole + kept
    worst = int(np.argmin(whole))
    if not whole[worst] < 0.0:
        return SetLoss(tuple(groups), None, 0.0 if np.isfinite(whole).all() else math.nan,
                       dict.fromkeys(symbols, 0.0))
    share = {name: 1.0 if pnl[worst] < 0.0 else plan.gain_kept for name, pnl in groups.items()}
    contributions = {symbol: -float(pnl[worst]) * share[group_of[symbol]] for symbol, pnl in profit.items()}
    assert plan.scenarios is not None
    return SetLoss(tuple(groups), plan.scenarios.names[worst], -float(whole[worst]), contributions)
