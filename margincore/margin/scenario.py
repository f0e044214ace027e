"""Portfolio margin by scenarios: what the whole book loses in the worst of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from margincore.addon import AddOn
from margincore.collateral import CollateralRule
from margincore.contracts import Contracts
from margincore.errors import RangeError
from margincore.margin.base import MarginPlan, Stage, check_offset_sets, check_terms, scenario_plan
from margincore.measure import Worst
from margincore.scenarios import Scenarios


@dataclass(frozen=True, slots=True)
class ScenarioMargin:
    """Requirement from price and volatility scenarios.

    Underlyings are grouped into offset sets.  A set asks for its worst scenario loss: in each scenario the losses of
    its underlyings are added, gains count for `gain_kept` of themselves; at least zero, and at least the floors of its
    short options.  Sets are added, then the charges of the add-ons.

    Parameters
    ----------
    scenarios : Scenarios
        From `grid`, `sigma_grid` or any other builder.
    measure : Worst
        Reduction of the scenario profits of a set to a loss; a grid has no probabilities, so the worst it is.
    maintenance_ratio, initial_ratio : float
        Maintenance and initial margin as multiples of the requirement; initial at least maintenance.
    addons : sequence of AddOn
        `ShortOptionFloor`, `ShortOptionCharge`, `ClosingCost`.
    offset_sets : sequence of sequences of str
        Underlyings that offset one another; each other underlying is a set of its own.
    gain_kept : float
        Share in [0, 1] of an underlying's gain that offsets losses of others in its set.
    collateral : mapping of str to rule or haircut, optional
        Assets that count, and their haircut.  When given, positive equity in any other asset counts for nothing; when
        omitted every asset counts in full.  Debts always count in full.
        A debt asks for no margin of its own, unless its asset is among `shocked_assets`.
    shocked_assets : sequence of str
        Assets whose value the scenarios move, with their underlying of the same name; they have no haircut.
    conversion : {"current", "shocked"}
        Spot at which profit in a settlement asset becomes base currency: today's, or the scenario's.

    Notes
    -----
    Open orders count in initial margin only: per instrument and scenario the worst of none, all buys and all sells
    filled at the mark, which no subset of fills can exceed.
    """

    scenarios: Scenarios
    measure: Worst = field(default_factory=Worst)
    maintenance_ratio: float = 1.0
    initial_ratio: float = 1.3
    addons: Sequence[AddOn] = ()
    offset_sets: Sequence[Sequence[str]] = ()
    gain_kept: float = 1.0
    collateral: Mapping[str, CollateralRule | float] | None = None
    shocked_assets: Sequence[str] = ()
    conversion: str = "current"

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.scenarios, Scenarios):
            raise RangeError(f"scenarios must be Scenarios, was {self.scenarios!r}")
        if not isinstance(self.measure, Worst):
            raise RangeError(f"measure must be Worst() for a grid, was {self.measure!r}")
        check_terms(self)
        put(self, "offset_sets", check_offset_sets(self.offset_sets))

    def resolve(self, contracts: Contracts) -> MarginPlan:
        """The plan for these contracts."""
        floors = float(any(addon.slot == "floor short" for addon in self.addons))
        stage = Stage("scan", "scenario loss", (self.maintenance_ratio, self.initial_ratio, self.gain_kept, floors))
        return scenario_plan(self, contracts, self.scenarios, stage)
