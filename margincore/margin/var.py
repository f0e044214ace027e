"""Portfolio margin by the tail of a distribution: value at risk or expected shortfall over any scenarios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from margincore.addon import AddOn
from margincore.collateral import CollateralRule
from margincore.contracts import Contracts
from margincore.errors import CapacityError, RangeError, ShapeError
from margincore.margin.base import MarginPlan, Stage, check_offset_sets, check_terms, scenario_plan
from margincore.measure import CONVENTIONS, ExpectedShortfall, ValueAtRisk, Worst
from margincore.panel import ratios, relative
from margincore.scenarios import EVERY_OTHER, Moves, Scenarios
from margincore.shocks import VolatilityMoves
from margincore.units import Floats, number

SCENARIOS_MAX = 10_240  # what the margin kernel holds
COMBINATIONS = ("alone", "average", "larger")  # in the order of the codes of the kernel


@dataclass(frozen=True, slots=True)
class VarMargin:
    """Requirement from the tail of the profit of a portfolio over scenarios.

    In each scenario the profits of all positions of an offset set are added; the set asks for the measure of that
    distribution, at least zero and at least its floors.  Sets are added, then the charges of the add-ons.

    Parameters
    ----------
    scenarios : Scenarios
        From `historical`, `filtered_historical`, a simulation, a stress book or any other builder; at least 2 and, with
        the stressed ones, at most 10,240.  Their probabilities count.
    measure : ValueAtRisk, ExpectedShortfall or Worst
        Value at risk is not sub-additive: two accounts may need less apart than together.  Expected shortfall is, and
        only with it (or `Worst`) is a liquidation price certified.
    stressed : Scenarios, optional
        A second set, of a stressed period, with which the requirement of every set is combined.
    stressed_weight : float, optional
        Share in [0, 1] of the stressed measure in a weighted average; when omitted the larger of both counts.
    horizon_days, scenario_days : float, optional
        Stretch the logarithm of every move by the square root of ``horizon_days / scenario_days``; moves stay as they
        are when omitted, for scenarios that were built over their horizon.
    volatility_scale : float, or mapping of str to float
        Volatility control: factor of the logarithm of the moves, by underlying with ``"*"`` for all others (1 where it
        is not given), at least 0: the volatility for margin (`margincore.vol.MarginVolatility`) over the one the
        scenarios were made at.  The stressed scenarios keep theirs.
    buffer : float
        Fraction that both requirements are raised by, at least 0.
    floor_rate : float
        Least requirement: share in [0, 1) of the notional held, long options excepted, contracts added.
    maintenance_ratio, initial_ratio : float
        Maintenance and initial margin as multiples of the requirement; initial at least maintenance.
    addons : sequence of AddOn
        `ShortOptionFloor`, `ShortOptionCharge`, `ClosingCost`.
    offset_sets : sequence of sequences of str, optional
        Underlyings that offset one another, each other one is a set of its own; all offset one another when omitted, as
        scenarios that move everything jointly allow.
    gain_kept : float
        Share in [0, 1] of an underlying's gain that offsets losses of others in its set.
    collateral, shocked_assets, conversion
        As in `ScenarioMargin`.

    Notes
    -----
    The rank rule is that of `margincore.measure`.  Open orders count in initial margin only: per instrument and
    scenario the worst of none, all buys and all sells filled at the mark, which no subset of fills can exceed.

    Examples
    --------
    >>> from margincore.history import historical
    >>> model = VarMargin(historical({"BTC": [100.0, 90.0, 99.0, 98.0]}), measure=ExpectedShortfall(0.975))
    >>> model.measure.level
    0.975
    """

    scenarios: Scenarios
    measure: ValueAtRisk | ExpectedShortfall | Worst = field(default_factory=lambda: ValueAtRisk(0.99))
    stressed: Scenarios | None = None
    stressed_weight: float | None = None
    horizon_days: float | None = None
    scenario_days: float = 1.0
    volatility_scale: float | Mapping[str, float] = 1.0
    buffer: float = 0.0
    floor_rate: float = 0.0
    maintenance_ratio: float = 1.0
    initial_ratio: float = 1.3
    addons: Sequence[AddOn] = ()
    offset_sets: Sequence[Sequence[str]] | None = None
    gain_kept: float = 1.0
    collateral: Mapping[str, CollateralRule | float] | None = None
    shocked_assets: Sequence[str] = ()
    conversion: str = "current"

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.measure, (ValueAtRisk, ExpectedShortfall, Worst)):
            raise RangeError(f"measure must be ValueAtRisk, ExpectedShortfall or Worst, was {self.measure!r}")
        self._check_scenarios()
        if self.stressed_weight is not None:
            if self.stressed is None:
                raise RangeError("stressed_weight must be omitted without stressed scenarios, "
                                 f"was {self.stressed_weight!r}")
            put(self, "stressed_weight", number("stressed_weight", self.stressed_weight, least=0.0, most=1.0))
        if self.horizon_days is not None:
            put(self, "horizon_days", number("horizon_days", self.horizon_days, above=0.0))
        put(self, "scenario_days", number("scenario_days", self.scenario_days, above=0.0))
        if isinstance(self.volatility_scale, Mapping):
            put(self, "volatility_scale", {name: number(f"volatility_scale[{name!r}]", value, least=0.0)
                                           for name, value in self.volatility_scale.items()})
            known = _by_name(self.scenarios)
            for name in self.volatility_scale:
                if EVERY_OTHER not in known and name not in (*known, EVERY_OTHER):
                    raise RangeError(f"volatility_scale must name underlyings of the scenarios, {name!r} is not in "
                                     f"{', '.join(known)}")
        else:
            put(self, "volatility_scale", number("volatility_scale", self.volatility_scale, least=0.0))
        put(self, "buffer", number("buffer", self.buffer, least=0.0))
        put(self, "floor_rate", number("floor_rate", self.floor_rate, least=0.0, below=1.0))
        check_terms(self)
        if self.offset_sets is not None:
            put(self, "offset_sets", check_offset_sets(self.offset_sets))

    def _check_scenarios(self) -> None:
        least = 1 if isinstance(self.measure, Worst) else 2
        total = 0
        for name, value in (("scenarios", self.scenarios), ("stressed", self.stressed)):
            if value is None and name == "stressed":
                continue
            if not isinstance(value, Scenarios):
                raise RangeError(f"{name} must be Scenarios, was {value!r}")
            if len(value) < least:
                raise ShapeError(f"{name} must hold at least {least} scenarios for {self.measure!r}, held {len(value)}")
            if value.probability and getattr(self.measure, "convention", "") == "interpolated":
                raise RangeError("convention must be upper or lower when scenarios have probabilities, "
                                 "was 'interpolated'")
            total += len(value)
        if total > SCENARIOS_MAX:
            raise CapacityError(f"scenarios must be at most {SCENARIOS_MAX} in all, were {total}")
        if self.stressed is not None:
            for name in ("smile", "ranges", "volatility_min", "days_floor"):
                if getattr(self.scenarios, name) != getattr(self.stressed, name):
                    raise RangeError(f"stressed must have the {name} of scenarios, {getattr(self.scenarios, name)!r}, "
                                     f"had {getattr(self.stressed, name)!r}")

    def with_volatility(self, charged_annual: Mapping[str, float], scenario_annual: Mapping[str, float]) -> VarMargin:
        """The same model at the volatility that is charged today, for `Engine.set_model`.

        Parameters
        ----------
        charged_annual : mapping of str to float
            Volatility per annum by underlying, as `MarginVolatility.resolve` gives it.  NaN, which it gives where data
            is stale, is refused: the engine keeps the model before.
        scenario_annual : mapping of str to float
            Volatility per annum of the scenarios, above 0, of the same underlyings.

        Examples
        --------
        >>> from margincore.history import historical
        >>> model = VarMargin(historical({"BTC": [100.0, 90.0, 99.0, 98.0]}))
        >>> model.with_volatility({"BTC": 0.9}, {"BTC": 0.6}).volatility_scale
        {'BTC': 1.5}
        """
        if set(charged_annual) != set(scenario_annual):
            raise RangeError(f"charged_annual must have the underlyings of scenario_annual, {sorted(scenario_annual)}, "
                             f"had {sorted(charged_annual)}")
        scale = {name: number(f"charged_annual[{name!r}]", charged, least=0.0)
                 / number(f"scenario_annual[{name!r}]", scenario_annual[name], above=0.0)
                 for name, charged in charged_annual.items()}
        return replace(self, volatility_scale=scale)

    def resolve(self, contracts: Contracts) -> MarginPlan:
        """The plan for these contracts."""
        ratios_of = tuple(ratio * (1.0 + self.buffer) for ratio in (self.maintenance_ratio, self.initial_ratio))
        return scenario_plan(self, contracts, self._all_scenarios(), self._stage(ratios_of))

    def _stage(self, ratios_of: tuple[float, ...]) -> Stage:
        floors = float(any(addon.slot == "floor short" for addon in self.addons))
        base, stressed = self.scenarios, self.stressed
        code = "value at risk" if isinstance(self.measure, ValueAtRisk) else "expected shortfall"
        convention = CONVENTIONS.index(getattr(self.measure, "convention", "upper"))
        combine = "alone" if stressed is None else "larger" if self.stressed_weight is None else "average"
        numbers = (*ratios_of, self.gain_kept, floors, self.floor_rate, float(convention), self._level(base),
                   float(len(base)), float(COMBINATIONS.index(combine)), self.stressed_weight or 0.0,
                   0.5 if stressed is None else self._level(stressed), float(len(stressed or ())))
        blocks = [base] if stressed is None else [base, stressed]
        weights = None
        if any(block.probability for block in blocks):
            weights = np.concatenate([np.array(block.probability) if block.probability
                                      else np.full(len(block), 1.0 / len(block)) for block in blocks])
        return Stage(code, "expected shortfall" if isinstance(self.measure, ExpectedShortfall) else
                     "worst loss" if isinstance(self.measure, Worst) else code, numbers, weights)

    def _level(self, scenarios: Scenarios) -> float:
        """Level of the measure; the worst loss is the expected shortfall of less than one scenario."""
        if not isinstance(self.measure, Worst):
            return self.measure.level
        least = min((p for p in scenarios.probability if p > 0.0), default=1.0 / len(scenarios))
        return min(1.0 - 0.5 * least, math.nextafter(1.0, 0.0))

    def _all_scenarios(self) -> Scenarios:
        """What the market plane values: the scenarios at their horizon and volatility, then the stressed ones."""
        root = 1.0 if self.horizon_days is None else math.sqrt(self.horizon_days / self.scenario_days)
        base = stretched(self.scenarios, root, self.volatility_scale)
        return base if self.stressed is None else joined(base, stretched(self.stressed, root, 1.0))


def stretched(scenarios: Scenarios, root: float, scale: float | Mapping[str, float]) -> Scenarios:
    """Scenarios whose logarithmic moves are multiplied by `root` and by the factor of their underlying.

    Moves of a volatility surface are multiplied by `root` alone.
    """
    if root == 1.0 and (scale == 1.0 or isinstance(scale, Mapping) and all(x == 1.0 for x in scale.values())):
        return scenarios
    factors = scale if isinstance(scale, Mapping) else {EVERY_OTHER: scale}
    moves = _by_name(scenarios)
    if EVERY_OTHER in moves:  # names with a factor of their own get a row of their own
        moves = {name: moves.get(name, moves[EVERY_OTHER]) for name in dict.fromkeys((*moves, *factors))}
    return replace(
        scenarios,
        spot_move={name: _stretched_moves(row, root * factors.get(name, factors.get(EVERY_OTHER, 1.0)))
                   for name, row in moves.items()},
        surface_move={name: item.with_table(item.log_ratio * root) for name, item in scenarios.surface_move.items()})


def _stretched_moves(moves: Moves, factor: float) -> Moves:
    row = np.array(moves, np.float64)
    result: Floats = relative(ratios(1.0 + row, np.ones(row.size)) * factor)
    return tuple(result.tolist())


def _by_name(scenarios: Scenarios) -> dict[str, Moves]:
    moves = scenarios.spot_move
    return dict(moves) if isinstance(moves, Mapping) else {EVERY_OTHER: moves}


def joined(base: Scenarios, stressed: Scenarios) -> Scenarios:
    """Both sets, one behind the other, without probabilities; a name that is taken is "stressed" the second time."""
    taken, names = set(base.names), list(base.names)
    for name in stressed.names:
        while name in taken:
            name = f"stressed {name}"
        taken.add(name)
        names.append(name)
    first, second = _by_name(base), _by_name(stressed)
    moves: dict[str, Moves] = {}
    for name in dict.fromkeys((*first, *second)):
        rows = [side.get(name, side.get(EVERY_OTHER)) for side in (first, second)]
        if rows[0] is not None and rows[1] is not None:  # what one side does not know, no contract may depend on
            moves[name] = rows[0] + rows[1]
    return replace(
        base, names=tuple(names), spot_move=moves, volatility=base.volatility + stressed.volatility,
        weight=base.weight + stressed.weight, probability=(),
        surface_move=_joined_surfaces(base, stressed))


def _joined_surfaces(base: Scenarios, stressed: Scenarios) -> dict[str, VolatilityMoves]:
    """Surface moves of both sets; a side that has none for an underlying leaves its volatilities alone."""
    sides = (base.surface_move, stressed.surface_move)
    result = {}
    for name in dict.fromkeys((*sides[0], *sides[1])):
        found = [side.get(name, side.get(EVERY_OTHER)) for side in sides]
        nodes = next(item for item in found if item is not None)
        if not all(item is None or item.same_nodes(nodes) for item in found):
            raise RangeError(f"stressed must have the moneyness and tenors of scenarios in surface_move[{name!r}]")
        tables = [np.zeros((len(side), *nodes.log_ratio.shape[1:])) if item is None else item.log_ratio
                  for item, side in zip(found, (base, stressed), strict=True)]
        result[name] = nodes.with_table(np.concatenate(tables))
    return result
