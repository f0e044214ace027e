"""What the engine answers: a report that explains itself, a what-if, and a table of every account."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from margincore.attribution import ROUNDING, SetLoss, set_losses
from margincore.kernels.margin import MarginBook
from margincore.units import Floats, Status

__all__ = ["MarginReport", "MarginTable", "Part", "Leg", "SetLoss", "WhatIf", "leg_arrays", "margin_table", "parts_of",
           "set_losses"]


Leg: TypeAlias = tuple[int, float, float, float]  # column, quantity, price, fee


@dataclass(frozen=True, slots=True)
class Part:
    """One summand of the requirement, base currency."""

    name: str
    maintenance: float
    initial: float


@dataclass(frozen=True, slots=True)
class MarginReport:
    """Equity and requirement of one account or portfolio, base currency, and where they come from.

    Attributes
    ----------
    equity : float
        Balances and unrealised profit after haircuts.
    initial, maintenance : float
        `parts` added one by one in their order, to the bit (not by `sum`, which compensates from Python 3.12 on).
    status : Status
    parts : tuple of Part
    sets : tuple of SetLoss
        Empty for models without scenarios.
    asset_equity : mapping of str to float
        Equity per asset in units of the asset, before haircuts.
    base : str
        The base currency.
    """

    equity: float
    initial: float
    maintenance: float
    status: Status
    parts: tuple[Part, ...]
    sets: tuple[SetLoss, ...]
    asset_equity: Mapping[str, float]
    base: str

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
            "status": self.status.name, "base": self.base, "equity": plain(self.equity), "initial": plain(self.initial),
            "maintenance": plain(self.maintenance), "available": plain(self.available),
            "parts": [{"name": p.name, "maintenance": plain(p.maintenance), "initial": plain(p.initial)}
                      for p in self.parts],
            "sets": [{"underlyings": list(s.underlyings), "scenario": s.scenario, "loss": plain(s.loss),
                      "contributions": {k: plain(x) for k, x in s.contributions.items()},
                      "tail": [{"scenario": t.name, "pnl": plain(t.pnl), "weight": t.weight} for t in s.tail]}
                     for s in self.sets],
            "asset_equity": {asset: plain(x) for asset, x in self.asset_equity.items()},
        }

    def __str__(self) -> str:
        lines = [f"status       {self.status.name}", f"equity       {self.equity:>18,.2f} {self.base}"]
        lines += [f"  {part.name:<22} maintenance {part.maintenance:>14,.2f}   initial {part.initial:>14,.2f}"
                  for part in self.parts]
        lines += [f"maintenance  {self.maintenance:>18,.2f} {self.base}",
                  f"initial      {self.initial:>18,.2f} {self.base}"]
        lines += [f"{item} {self.base}" for item in self.sets if item.scenario is not None]
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


def margin_table(book: MarginBook, rows: npt.NDArray[np.int64], threads: int) -> MarginTable:
    """Requirement and status of rows of a book, checked by threads over disjoint ranges."""
    used = book.rows_used
    status, (equity, initial, maintenance) = np.zeros(used, np.uint8), np.zeros((3, used))

    def work(a: int, b: int) -> None:
        book.check_range(a, b, status[a:b], equity[a:b], initial[a:b], maintenance[a:b])

    if threads == 1 or used < 2 * threads:
        work(0, used)
    else:
        from concurrent.futures import ThreadPoolExecutor
        edges = [used * k // threads for k in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work, a, b) for a, b in zip(edges, edges[1:], strict=False)]:
                done.result()
    return MarginTable(rows, equity[rows], initial[rows], maintenance[rows], status[rows])


def leg_arrays(legs: Sequence[Leg]) -> tuple[npt.NDArray[np.int32], Floats, Floats, Floats]:
    """Trades and deposits as the arrays that the margin kernel takes."""
    column, *rest = ([leg[k] for leg in legs] for k in range(4))
    quantity, price, fee = (np.array(values, np.float64) for values in rest)
    return np.array(column, np.int32), quantity, price, fee


def parts_of(names: Sequence[str], amounts: Sequence[tuple[float, float, float]], initial: float,
             maintenance: float) -> tuple[Part, ...]:
    """The summands of both totals, such that adding them in order gives the totals bit for bit; NaN if these are."""
    if not math.isfinite(maintenance):
        return tuple(Part(name, math.nan, math.nan) for name in names)
    parts = [Part(name, amount[0], amount[1]) for name, amount in zip(names, amounts, strict=True)]
    orders = 0.0
    for amount in amounts:
        orders += amount[2]
    if orders != 0.0:
        parts.append(Part("open orders", 0.0, orders))
    total = 0.0
    for part in parts:
        total += part.initial
    if total != initial:       # initial margin is never below maintenance
        gap = initial - total
        parts.append(Part("initial at least maintenance", 0.0, gap))
        if total + gap != initial:                          # no gap may do, where the sum rounds to even
            parts.append(Part(ROUNDING, 0.0, initial - (total + gap)))
    return tuple(parts)
