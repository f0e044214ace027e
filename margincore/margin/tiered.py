"""Margin by size tiers: maintenance piecewise linear in notional, initial margin by leverage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.addon import AddOn
from margincore.collateral import CollateralRule
from margincore.contracts import Contracts, Option
from margincore.errors import RangeError, UnknownInstrument
from margincore.margin.base import MarginPlan, Stage, charge_stages, check_addons, collateral_rules, kept_shares
from margincore.units import Floats, choice, number, several


@dataclass(frozen=True, slots=True)
class Tier:
    """One bracket of a size ladder.

    Parameters
    ----------
    floor : float
        Notional from which the tier applies, settlement asset.
    maintenance_rate : float
        Fraction of the notional, in (0, 1).
    max_leverage : float
        Largest leverage in the tier, at least 1; initial margin is notional / leverage.
    amount : float, optional
        Maintenance amount: maintenance is ``rate * notional - amount``.  Computed when omitted, so that maintenance is
        continuous; a given amount must agree with that within 1e-6 of the floor's maintenance.
    """

    floor: float
    maintenance_rate: float
    max_leverage: float
    amount: float | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "floor", number("floor", self.floor, least=0.0))
        put(self, "maintenance_rate", number("maintenance_rate", self.maintenance_rate, above=0.0, below=1.0))
        put(self, "max_leverage", number("max_leverage", self.max_leverage, least=1.0))
        if self.amount is not None:
            put(self, "amount", number("amount", self.amount, least=0.0))


def maintenance_amounts(tiers: Sequence[Tier]) -> tuple[float, ...]:
    """Maintenance amount of each tier: a[0] = 0, a[k] = a[k-1] + floor[k] * (rate[k] - rate[k-1])."""
    amounts = [0.0]
    for low, high in zip(tiers, tiers[1:], strict=False):
        amounts.append(amounts[-1] + high.floor * (high.maintenance_rate - low.maintenance_rate))
    return tuple(amounts)


def _ladder(symbol: str, tiers: Sequence[Any]) -> tuple[Tier, ...]:
    """A checked ladder: starts at zero, floors and rates rise, leverage falls, maintenance continuous."""
    name = f"tiers[{symbol!r}]"
    ladder = tuple(_tier(name, tier) for tier in several(name, tiers))
    if not ladder or ladder[0].floor != 0.0:
        raise RangeError(f"{name} must start with a floor of 0, was {tiers!r}")
    for low, high in zip(ladder, ladder[1:], strict=False):
        if not high.floor > low.floor:
            raise RangeError(f"{name} must have rising floors, had {low.floor!r} then {high.floor!r}")
        if high.maintenance_rate < low.maintenance_rate:
            raise RangeError(f"{name} must not have a falling rate, had {low.maintenance_rate!r} then "
                             f"{high.maintenance_rate!r}")
        if high.max_leverage > low.max_leverage:
            raise RangeError(f"{name} must not have a rising leverage, had {low.max_leverage!r} then "
                             f"{high.max_leverage!r}")
    for tier, amount in zip(ladder, maintenance_amounts(ladder), strict=True):
        slack = 1e-6 * max(1.0, tier.floor * tier.maintenance_rate)
        if tier.amount is not None and not abs(tier.amount - amount) <= slack:
            raise RangeError(f"{name} must be continuous: the amount of the tier from {tier.floor!r} must be "
                             f"{amount!r}, was {tier.amount!r}")
    return ladder


def _tier(name: str, tier: Any) -> Tier:
    if isinstance(tier, Tier):
        return tier
    if not isinstance(tier, (tuple, list)) or len(tier) not in (3, 4):
        raise RangeError(f"{name} must hold (floor, maintenance_rate, max_leverage[, amount]), held {tier!r}")
    return Tier(*tier)


@dataclass(frozen=True, slots=True)
class TieredMargin:
    """Requirement per position by size tiers, positions added.

    Maintenance is the largest of the lines ``(rate + closing_fee_rate) * notional - amount``; initial margin is the
    notional divided by the smaller of the account's leverage and the tier's.  Long options need none: they are paid.

    Parameters
    ----------
    tiers : mapping of str to sequence of Tier
        Ladder by symbol; every perpetual, future and option of the contracts needs one.  A tuple
        ``(floor, maintenance_rate, max_leverage[, amount])`` serves as a tier.
    notional : {"mark", "entry"}
        Value that maintenance is taken of: at the mark, or at the entry price.
    closing_fee_rate : float
        Taker fee of closing, added to every maintenance rate; 0 leaves it out.
    collateral : mapping of str to rule or haircut, optional
        As in `ScenarioMargin`.
    addons : sequence of AddOn
        `ShortOptionCharge`, `ClosingCost`.

    Notes
    -----
    Conversion to base currency uses current spot.  Open orders count in initial margin only: per instrument the larger
    side of the position with all buys, or all sells, filled.
    """

    tiers: Mapping[str, Sequence[Tier]]
    notional: str = "mark"
    closing_fee_rate: float = 0.0
    collateral: Mapping[str, CollateralRule | float] | None = None
    addons: Sequence[AddOn] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.tiers, Mapping):
            raise RangeError(f"tiers must map symbols to ladders, was {self.tiers!r}")
        put(self, "tiers", {symbol: _ladder(symbol, ladder) for symbol, ladder in self.tiers.items()})
        put(self, "notional", choice("notional", self.notional, ("mark", "entry")))
        put(self, "closing_fee_rate", number("closing_fee_rate", self.closing_fee_rate, least=0.0, below=0.1))
        put(self, "collateral", collateral_rules(self.collateral))
        put(self, "addons", check_addons(self.addons, ("short charge", "closing charge")))

    def resolve(self, contracts: Contracts) -> MarginPlan:
        """The plan for these contracts."""
        kept, shocked = kept_shares(contracts, collateral_rules(self.collateral), ())
        stages = (Stage("tiers", "size tiers", (float(self.notional == "entry"),), self._table(contracts)),
                  *charge_stages(self.addons, 1.0, 1.0))
        return MarginPlan(contracts, stages, contracts.underlying.copy(), kept, shocked, addons=tuple(self.addons))

    def _table(self, contracts: Contracts) -> Floats:
        most = max((len(ladder) for ladder in self.tiers.values()), default=1)
        table = np.zeros((len(contracts), most, 4))
        table[:, :, 0] = math.inf
        for item in contracts.derivatives:
            ladder = self.tiers.get(item.symbol)
            if ladder is None:
                raise UnknownInstrument(f"tiers must have a ladder for every derivative, had none for {item.symbol!r}")
            if isinstance(item, Option) and self.notional == "entry":
                raise RangeError(f"notional must be 'mark' when options have tiers, {item.symbol!r} has")
            for k, (tier, amount) in enumerate(zip(ladder, maintenance_amounts(ladder), strict=True)):
                rate = tier.maintenance_rate + self.closing_fee_rate
                table[contracts.column[item.symbol], k] = tier.floor, rate, amount, 1.0 / tier.max_leverage
        return table
