"""From a model, which is data, to a plan, which the margin kernel runs.

The pattern for a new model: a frozen dataclass that validates itself, and a `resolve` that puts together a `MarginPlan`
from stages the kernel knows (`margincore.kernels.stage.STAGES`).  Nothing else in the library has to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from margincore.addon import AddOn
from margincore.collateral import CollateralRule, Flat
from margincore.columns import MarketColumns
from margincore.contracts import CASH, OPTION, Contracts
from margincore.errors import RangeError, UnknownInstrument
from margincore.revaluation import CONVERSIONS, revalue
from margincore.scenarios import ScenarioPlan, Scenarios
from margincore.units import Floats, choice, number, several, texts

__all__ = ["CONVERSIONS", "MarginModel", "MarginPlan", "Stage", "Tick", "charge_stages", "check_addons",
           "check_offset_sets", "check_shocked_assets", "check_terms", "collateral_rules", "kept_shares", "notionals",
           "offset_columns", "scenario_plan", "unit_values"]


class Stage(NamedTuple):
    """One summand of the requirement: kernel code, the name a report shows, parameters, and a table if it has one."""

    code: str
    name: str
    parameters: tuple[float, ...]
    table: Floats | None = None


class Tick(NamedTuple):
    """What the margin kernel takes on every tick, in the order of `MarginBook.set_market`."""

    value: Floats
    spot: Floats
    kept: Floats
    shocked: npt.NDArray[np.int32]
    risk: Floats
    group: npt.NDArray[np.int32]
    offset_set: npt.NDArray[np.int32]
    notional: Floats
    charge_short: Floats
    charge_any: Floats
    floor_short: Floats


class MarginModel(Protocol):
    """A margin model: frozen data that resolves to a plan for given contracts."""

    def resolve(self, contracts: Contracts) -> MarginPlan:
        """The plan of this model, or an error that names what does not fit the contracts."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MarginPlan:
    """A model resolved to columns.

    Attributes
    ----------
    contracts : Contracts
    stages : tuple of Stage
        Their amounts, added in this order, are the requirement.
    offset_set : int32 array, shape (columns,)
        Set within which gains of one underlying may offset losses of another; sets are added.
    kept : float64 array, shape (assets,)
        Share of a positive asset equity that counts.
    shocked : int32 array, shape (assets,)
        1 where scenarios move the asset instead of a haircut.
    scenarios : ScenarioPlan or None
    conversion : {"current", "shocked"}
        Spot that turns settlement-asset profit into base currency.
    addons : tuple of AddOn
    gain_kept : float
    """

    contracts: Contracts
    stages: tuple[Stage, ...]
    offset_set: npt.NDArray[np.int32]
    kept: Floats
    shocked: npt.NDArray[np.int32]
    scenarios: ScenarioPlan | None = None
    conversion: str = "current"
    addons: tuple[AddOn, ...] = ()
    gain_kept: float = 0.0

    @property
    def rank(self) -> npt.NDArray[np.int32]:
        """Place of each column inside a row: by offset set, underlying, column."""
        columns = np.arange(len(self.contracts), dtype=np.int32)
        order = np.lexsort((columns, self.contracts.underlying, self.offset_set))
        rank = np.empty(len(order), np.int32)
        rank[order] = columns
        return rank

    @property
    def book_columns(self) -> tuple[Any, ...]:
        """What a book takes of the columns: assets, rank, settle, kind, multiplier, inverse."""
        contracts = self.contracts
        return (len(contracts.assets), self.rank, contracts.settle, contracts.kind, contracts.multiplier,
                contracts.inverse)

    def tick(self, columns: MarketColumns) -> Tick:
        """Everything the kernel needs of one observation."""
        contracts = self.contracts
        if self.scenarios is None:
            value, risk = unit_values(contracts, columns.mark), np.zeros((len(contracts), 1))
        else:
            value, risk = revalue(contracts, columns, self.scenarios, conversion=self.conversion,
                                  shocked_assets=self.shocked.astype(np.bool_))
        charges = {slot: np.zeros(len(contracts)) for slot in ("short charge", "closing charge", "floor short")}
        for addon in self.addons:
            charges[addon.slot] = charges[addon.slot] + addon.per_contract(contracts, columns, value)
        return Tick(value, columns.spot[:len(contracts.assets)], self.kept, self.shocked, risk,
                    contracts.underlying, self.offset_set, notionals(contracts, columns, value),
                    charges["short charge"], charges["closing charge"], charges["floor short"])


def unit_values(contracts: Contracts, mark: Floats) -> Floats:
    """Settlement asset per contract at the mark: m P, for inverse futures -m / P; cash 1."""
    coin_future = (contracts.inverse == 1) & (contracts.kind != OPTION)
    with np.errstate(divide="ignore"):
        return np.where(coin_future, -contracts.multiplier / mark, contracts.multiplier * mark)


def notionals(contracts: Contracts, columns: MarketColumns, value: Floats) -> Floats:
    """Settlement asset per contract that size tiers count: the value of a future, an option's underlying; cash 0."""
    spot = columns.spot
    underlying = np.where(contracts.inverse == 1, 1.0, spot[contracts.underlying] / spot[contracts.settle])
    result = np.where(contracts.kind == OPTION, contracts.multiplier * underlying, np.abs(value))
    return np.where(contracts.kind == CASH, 0.0, result)


def kept_shares(contracts: Contracts, collateral: Mapping[str, CollateralRule] | None,
                shocked_assets: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Share kept and shocked flag of each asset; an asset is either shocked or hair-cut, never both."""
    if not isinstance(contracts, Contracts):
        raise RangeError(f"contracts must be Contracts, was {contracts!r}")
    kept = np.ones(len(contracts.assets))
    shocked = np.zeros(len(contracts.assets), np.int32)
    for asset in shocked_assets:
        shocked[contracts.asset_column(asset)] = 1
    if collateral is not None:
        kept[:] = 0.0
        for asset, rule in collateral.items():
            kept[contracts.asset_column(asset)] = rule.kept
        kept[shocked == 1] = 1.0
    return kept, shocked


def collateral_rules(collateral: Mapping[str, CollateralRule | float] | None) -> dict[str, CollateralRule] | None:
    """The mapping with plain haircuts turned into rules."""
    if collateral is None:
        return None
    if not isinstance(collateral, Mapping):
        raise RangeError(f"collateral must map assets to rules or haircuts, was {collateral!r}")
    rules: dict[str, CollateralRule] = {}
    for asset, rule in collateral.items():
        if isinstance(rule, (int, float)) or not hasattr(rule, "kept"):
            rule = Flat(number(f"collateral[{asset!r}]", rule))
        rules[asset] = rule
    return rules


def charge_stages(addons: Sequence[AddOn], maintenance_ratio: float, initial_ratio: float) -> tuple[Stage, ...]:
    """The stages that the add-ons of a model need."""
    names = {"short charge": "short options", "closing charge": "closing cost"}
    used = {addon.slot for addon in addons}
    return tuple(Stage(code, name, (maintenance_ratio, initial_ratio)) for code, name in names.items() if code in used)


def check_addons(addons: Sequence[AddOn], slots: Sequence[str]) -> tuple[AddOn, ...]:
    """The add-ons as a tuple, each with a slot this model has."""
    addons = several("addons", addons)
    for addon in addons:
        choice("addons", getattr(addon, "slot", repr(addon)), slots)
    return addons


def check_offset_sets(offset_sets: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """The offset sets as tuples, in which no underlying is named twice."""
    sets = tuple(texts("offset_sets", names) for names in several("offset_sets", offset_sets))
    listed = [name for names in sets for name in names]
    if len(set(listed)) != len(listed):
        raise RangeError(f"offset_sets must name an underlying once, were {sets!r}")
    return sets


def check_shocked_assets(shocked_assets: Sequence[str], rules: Mapping[str, CollateralRule] | None) -> tuple[str, ...]:
    """The shocked assets as a tuple, none of which has a haircut too."""
    assets = texts("shocked_assets", shocked_assets)
    for asset in assets:
        if rules is not None and asset in rules and rules[asset].kept != 1.0:
            raise RangeError(f"shocked_assets must not have a haircut too, {asset!r} has both")
    return assets


def check_terms(model: Any) -> None:
    """Check what models over scenarios have in common, and put it into its own types."""
    put = object.__setattr__
    put(model, "maintenance_ratio", number("maintenance_ratio", model.maintenance_ratio, above=0.0))
    put(model, "initial_ratio", number("initial_ratio", model.initial_ratio, least=model.maintenance_ratio))
    put(model, "gain_kept", number("gain_kept", model.gain_kept, least=0.0, most=1.0))
    put(model, "addons", check_addons(model.addons, ("floor short", "short charge", "closing charge")))
    put(model, "conversion", choice("conversion", model.conversion, CONVERSIONS))
    rules = collateral_rules(model.collateral)
    put(model, "collateral", rules)
    put(model, "shocked_assets", check_shocked_assets(model.shocked_assets, rules))


def offset_columns(contracts: Contracts, offset_sets: Sequence[Sequence[str]]) -> npt.NDArray[np.int32]:
    """Offset set of every column, named by its first underlying; an underlying of no set is one of its own."""
    names = {name: at for at, name in enumerate(contracts.underlyings)}
    set_of = np.arange(len(names), dtype=np.int32)
    for members in offset_sets:
        for name in members:
            if name not in names:
                raise UnknownInstrument(f"offset_sets must name underlyings of these contracts, named {name!r}")
        set_of[[names[name] for name in members]] = min(names[name] for name in members)
    result: npt.NDArray[np.int32] = set_of[contracts.underlying]
    return result


def scenario_plan(model: Any, contracts: Contracts, scenarios: Scenarios, stage: Stage) -> MarginPlan:
    """The plan of a model whose one stage over scenarios comes before the charges of its add-ons."""
    kept, shocked = kept_shares(contracts, collateral_rules(model.collateral), model.shocked_assets)
    stages = stage, *charge_stages(model.addons, *stage.parameters[:2])
    sets = offset_columns(contracts, (contracts.underlyings,) if model.offset_sets is None else model.offset_sets)
    return MarginPlan(contracts, stages, sets, kept, shocked, scenarios.resolve(contracts), model.conversion,
                      tuple(model.addons), model.gain_kept)
