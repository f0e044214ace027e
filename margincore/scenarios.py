"""Scenarios: what may happen to prices and volatilities, as frozen data, and the builders of common grids."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from margincore.contracts import Contracts
from margincore.errors import MissingDataError, RangeError, ShapeError
from margincore.kernels import scenario
from margincore.shocks import KINDS, SAME, Shock, VolatilityMoves, VolatilityRange, VolatilityShock, shock
from margincore.units import DAYS_PER_YEAR, Floats, Ints, choice, floats, integer, number, several

__all__ = ["EVERY_OTHER", "KINDS", "LANES", "SAME", "SMILES", "Moves", "ScenarioPlan", "Scenarios", "Shock",
           "VolatilityMoves", "VolatilityRange", "VolatilityShock", "from_moves", "grid", "shock", "sigma_grid"]

SMILES = ("sticky_strike", "sticky_moneyness")
LANES = 8  # scenarios per vector of the kernels
EVERY_OTHER = "*"  # key of a mapping of moves: every underlying without an entry of its own

Moves: TypeAlias = tuple[float, ...]


def _moves(argument: str, values: Iterable[float], length: int | None = None) -> Moves:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise RangeError(f"{argument} must be a sequence of moves, was {values!r}")
    if isinstance(values, np.ndarray):  # histories are long: checked at once
        table = floats(argument, values)
        if table.min() <= -1.0:
            raise RangeError(f"{argument} must be above -1, was {float(table.min())!r} at {int(table.argmin())}")
        moves: Moves = tuple(table.tolist())
    else:
        moves = tuple(number(f"{argument}[{at}]", value, above=-1.0) for at, value in enumerate(values))
    if length is not None and len(moves) != length:
        raise ShapeError(f"{argument} must have length {length}, had {len(moves)}")
    return moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenarios:
    """Scenarios of a margin model: plain frozen data.

    Parameters
    ----------
    names : tuple of str
        Unique, for people: "spot +16 %, vol up".
    spot_move : tuple of float, or mapping of str to tuple of float
        Relative move per scenario, above -1: shared by all underlyings, or by underlying with ``"*"`` for all others.
    volatility : tuple of VolatilityShock, optional
        Per scenario; nothing moves when omitted.
    weight : tuple of float, optional
        Fraction of the profit or loss that counts, per scenario, at least 0; all of it when omitted.
    ranges : VolatilityRange or mapping of str to VolatilityRange
        Range of the up and down shocks, shared or by underlying with ``"*"`` for all others.
    smile : {"sticky_strike", "sticky_moneyness"}
        Where an option's volatility is read after a move: at its strike as before, or at ``strike / (1 + move)``, times
        its present ratio to the smile.
    volatility_min : float
        Least volatility after any shock but "same".
    days_floor : float
        Least days to expiry in the tenor factor.
    probability : tuple of float, optional
        Per scenario, at least 0, summing to 1 within 1e-12, for measures that weigh scenarios; equal when omitted.
    surface_move : mapping of str to VolatilityMoves, optional
        Moves of implied volatility by moneyness and tenor, by underlying, ``"*"`` for all others; they come before
        `volatility`.  An option takes the move at its moneyness before the spot moves when strikes are sticky, after
        it when moneyness is; an underlying without an entry keeps its volatilities.
    """

    names: tuple[str, ...]
    spot_move: Moves | Mapping[str, Moves]
    volatility: tuple[VolatilityShock, ...] = ()
    weight: tuple[float, ...] = ()
    ranges: VolatilityRange | Mapping[str, VolatilityRange] = field(default_factory=VolatilityRange)
    smile: str = "sticky_strike"
    volatility_min: float = 0.0
    days_floor: float = 1.0
    probability: tuple[float, ...] = ()
    surface_move: Mapping[str, VolatilityMoves] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if isinstance(self.names, str):
            raise RangeError(f"names must be several names, was the one text {self.names!r}")
        put(self, "names", tuple(self.names))
        count = len(self.names)
        if not count or len(set(self.names)) != count or not all(isinstance(n, str) and n for n in self.names):
            raise RangeError(f"names must be unique, non-empty and at least one, were {self.names!r}")
        if isinstance(self.spot_move, Mapping):
            put(self, "spot_move", MappingProxyType(
                {name: _moves(f"spot_move[{name!r}]", moves, count) for name, moves in self.spot_move.items()}))
        else:
            put(self, "spot_move", _moves("spot_move", self.spot_move, count))
        put(self, "volatility", tuple(shock(value) for value in self.volatility) or (SAME,) * count)
        put(self, "weight", tuple(number(f"weight[{at}]", w, least=0.0)
                                  for at, w in enumerate(self.weight)) or (1.0,) * count)
        for argument in ("volatility", "weight"):
            if len(getattr(self, argument)) != count:
                raise ShapeError(f"{argument} must have length {count}, had {len(getattr(self, argument))}")
        ranges = self.ranges
        for value in ranges.values() if isinstance(ranges, Mapping) else (ranges,):
            if not isinstance(value, VolatilityRange):
                raise RangeError(f"ranges must be VolatilityRange, was {value!r}")
        if isinstance(ranges, Mapping):
            put(self, "ranges", MappingProxyType(dict(ranges)))
        choice("smile", self.smile, SMILES)
        put(self, "volatility_min", number("volatility_min", self.volatility_min, least=0.0))
        put(self, "days_floor", number("days_floor", self.days_floor, above=0.0))
        put(self, "probability", _probabilities(self.probability, count))
        if not isinstance(self.surface_move, Mapping):
            raise RangeError(f"surface_move must map underlyings to VolatilityMoves, was {self.surface_move!r}")
        for name, moves in self.surface_move.items():
            if not isinstance(moves, VolatilityMoves):
                raise RangeError(f"surface_move[{name!r}] must be VolatilityMoves, was {moves!r}")
            if len(moves) != count:
                raise ShapeError(f"surface_move[{name!r}] must have {count} scenarios, had {len(moves)}")
        put(self, "surface_move", MappingProxyType(dict(self.surface_move)))

    def __len__(self) -> int:
        return len(self.names)

    def take(self, at: Sequence[int] | Ints | slice) -> Scenarios:
        """Some of the scenarios, by place or slice, in that order; probabilities are scaled to sum to 1 again."""
        places = list(range(len(self)))[at] if isinstance(at, slice) else [
            integer(f"at[{i}]", place, least=0, most=len(self) - 1) for i, place in enumerate(at)]
        if not places:
            raise RangeError(f"at must choose at least one scenario, was {at!r}")

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[place] for place in places)

        moves, chosen = self.spot_move, some(self.probability) if self.probability else ()
        total = math.fsum(chosen)
        if chosen and total == 0.0:
            raise RangeError("at must choose a scenario whose probability is above 0")
        return replace(
            self, names=some(self.names), volatility=some(self.volatility), weight=some(self.weight),
            spot_move={name: some(row) for name, row in moves.items()} if isinstance(moves, Mapping) else some(moves),
            probability=tuple(value / total for value in chosen),
            surface_move={name: item.with_table(item.log_ratio[places]) for name, item in self.surface_move.items()})

    def resolve(self, contracts: Contracts) -> ScenarioPlan:
        """The scenarios over the underlyings of `contracts`; the same plan serves every tick.

        Parameters
        ----------
        contracts : Contracts

        Raises
        ------
        MissingDataError
            If moves or ranges are given by underlying and a contract's underlying has none.
        """
        return ScenarioPlan(self, contracts)

    def __reduce__(self) -> tuple[object, ...]:  # views of mappings do not pickle, dicts do
        values = {name: getattr(self, name) for name in self.__slots__}
        return _restore, ({k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()},)


def _probabilities(values: Sequence[float] | Floats, count: int) -> tuple[float, ...]:
    if not len(values):
        return ()
    table = floats("probability", values, length=count)
    if table.min() < 0.0:
        raise RangeError(f"probability must not be negative, was {float(table.min())!r} at {int(table.argmin())}")
    result = tuple(table.tolist())
    if abs(math.fsum(result) - 1.0) > 1e-12:
        raise RangeError(f"probability must sum to 1 within 1e-12, summed to {math.fsum(result)!r}")
    return result


class ScenarioPlan:
    """Scenarios as arrays over the underlyings of one `Contracts`, padded to whole vectors for the kernels.

    Attributes
    ----------
    names : tuple of str
    width : int
        Number of scenarios, rounded up to a multiple of 8; the padding moves nothing.
    move, growth, log_growth, coin_move, coin_growth : float64 array, shape (underlyings, width)
        ``m``, ``1 + m``, ``ln(1 + m)``, ``m / (1 + m)`` and ``1 / (1 + m)``.
    moving : bool array, shape (underlyings,)
        Underlyings of derivatives: those that shared moves apply to.
    weight, ones : float64 array, shape (width,)
    probability : float64 array, shape (scenarios,), or None
        None where all scenarios are equally likely.
    surface : tuple of VolatilityMoves or None, length underlyings
        Moves of the surface of each underlying.
    node : int32 array, shape (width,)
        Volatility node of each scenario.
    kind, size : int32 and float64 array, shape (nodes,)
        Shock of each node.
    shocks : bool
        Whether a node has a shock other than "same".
    limits : float64 array, shape (underlyings, 5)
        Range up and down, short and long power, floor.
    """

    __slots__ = ("coin_growth", "coin_move", "days_floor", "growth", "kind", "limits", "log_growth", "move", "moving",
                 "names", "node", "ones", "probability", "shocks", "size", "smile", "surface", "volatility_min",
                 "weight", "width")

    def __init__(self, scenarios: Scenarios, contracts: Contracts) -> None:
        self.names, self.smile = scenarios.names, scenarios.smile
        self.days_floor, self.volatility_min = scenarios.days_floor, scenarios.volatility_min
        count = len(self.names)
        self.width = -(-count // LANES) * LANES
        driven = {item.underlying for item in contracts.derivatives}
        self.moving = np.array([name in driven for name in contracts.underlyings], np.bool_)
        self.move = np.zeros((len(contracts.underlyings), self.width))
        moves, ranges = scenarios.spot_move, scenarios.ranges
        for at, name in enumerate(contracts.underlyings):
            self.move[at, :count] = _of("spot_move", moves, name, name in driven, (0.0,) * count)
        self.growth = 1.0 + self.move
        self.log_growth = np.empty_like(self.move)
        scenario.log_growth(self.move, self.log_growth)
        self.coin_move, self.coin_growth = self.move / self.growth, 1.0 / self.growth
        self.ones, self.weight = np.ones(self.width), np.ones(self.width)
        self.weight[:count] = scenarios.weight
        self.probability = np.array(scenarios.probability) if scenarios.probability else None
        surface = scenarios.surface_move
        self.surface = tuple(surface.get(name, surface.get(EVERY_OTHER)) for name in contracts.underlyings)
        shocks: Sequence[VolatilityShock] = scenarios.volatility
        self.node = np.zeros(self.width, np.int32)
        if self.smile == SMILES[0] and not any(self.surface):  # scenarios of one shock share the node
            place = {item: at for at, item in enumerate(dict.fromkeys(shocks))}
            self.node[:count] = [place[item] for item in shocks]
            shocks = list(place)
        else:
            self.node[:count] = range(count)
        self.kind = np.array([KINDS.index(item.kind) for item in shocks], np.int32)
        self.shocks = bool(self.kind.any())
        self.size = np.array([item.size for item in shocks], np.float64)
        used = [_of("ranges", ranges, name, name in driven, VolatilityRange()) for name in contracts.underlyings]
        self.limits = np.array([(r.up, r.down, r.short_power, r.long_power, r.floor) for r in used], np.float64)
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __len__(self) -> int:
        return len(self.names)


def _of(argument: str, values: Any, name: str, needed: bool, default: Any) -> Any:
    """The entry of an underlying: its own, the one for all others, or none for what no contract depends on."""
    if not isinstance(values, Mapping):
        return values
    if name in values:
        return values[name]
    if EVERY_OTHER in values:
        return values[EVERY_OTHER]
    if needed:
        raise MissingDataError(f"{argument} must have an entry for {name!r} or '*', had {', '.join(values)}")
    return default


def _restore(values: dict[str, Any]) -> Scenarios:
    return Scenarios(**values)


def _percent(move: float) -> str:
    return f"spot {100.0 * move:+.4g} %" if move else "spot same"


def from_moves(names: Sequence[str],
               spot_move: Moves | Sequence[float] | Floats | Mapping[str, Sequence[float] | Floats], *,
               volatility: Sequence[Shock] = (), weight: Sequence[float] = (),
               ranges: VolatilityRange | Mapping[str, VolatilityRange] | None = None,
               smile: str = "sticky_strike", volatility_min: float = 0.0, days_floor: float = 1.0,
               probability: Sequence[float] = (),
               surface_move: Mapping[str, VolatilityMoves] | None = None) -> Scenarios:
    """Scenarios from their names and moves; parameters as in `Scenarios`."""
    if isinstance(names, str):
        raise RangeError(f"names must be several names, was the one text {names!r}")
    moves: Any = spot_move  # sequences and arrays become tuples when they are checked
    return Scenarios(names=tuple(names), spot_move=moves, volatility=tuple(shock(value) for value in volatility),
                     weight=tuple(weight), ranges=VolatilityRange() if ranges is None else ranges, smile=smile,
                     volatility_min=volatility_min, days_floor=days_floor, probability=tuple(probability),
                     surface_move=surface_move or {})


def grid(*, spot: Sequence[float] | Mapping[str, Sequence[float]],
         volatility: Sequence[Shock] = ("down", "same", "up"),
         tails: Sequence[tuple[float, float] | tuple[float, Shock, float]] = (),
         ranges: VolatilityRange | Mapping[str, VolatilityRange] | None = None,
         smile: str = "sticky_strike", volatility_min: float = 0.0, days_floor: float = 1.0) -> Scenarios:
    """Every spot move with every volatility shock, spot outermost, then tails of which a fraction counts.

    Parameters
    ----------
    spot : sequence of float, or mapping of str to sequence of float
        Relative moves above -1, shared or by underlying (equally many; the names then number the steps).
    volatility : sequence of VolatilityShock, {"down", "same", "up"} or float
        A float is a parallel relative shift.
    tails : sequence of (move, weight) or (move, volatility, weight), optional
        Extreme moves of every underlying, of whose profit or loss `weight` counts; volatility "up" unless given.
    ranges, smile, volatility_min, days_floor
        As in `Scenarios`.

    Examples
    --------
    >>> grid(spot=[-0.16, 0.0, 0.16], tails=[(-0.66, 0.24)]).names[-2:]
    ('spot +16 %, vol up', 'spot -66 %, vol up, 24 % counted')
    """
    shocks = [shock(value) for value in several("volatility", volatility)]
    if not shocks:
        raise RangeError("volatility must hold at least one shock, was empty")
    tails = several("tails", tails)
    if not all(isinstance(tail, (tuple, list)) and len(tail) in (2, 3) for tail in tails):
        raise RangeError(f"tails must hold (move, weight) or (move, volatility, weight), were {tails!r}")
    extremes = [(tail[0], shock(tail[1]) if len(tail) == 3 else shock("up"), tail[-1]) for tail in tails]
    columns = {name: _moves(f"spot[{name!r}]", moves) for name, moves in
               (spot.items() if isinstance(spot, Mapping) else ((EVERY_OTHER, spot),))}
    if not columns or len({len(moves) for moves in columns.values()}) != 1:
        raise ShapeError(f"spot must have equally many moves for each underlying, was {spot!r}")
    steps = [_percent(move) for move in columns[EVERY_OTHER]] if not isinstance(spot, Mapping) else [
        f"step {at + 1}" for at in range(len(next(iter(columns.values()))))]
    names = [f"{step}, {item}" for step in steps for item in shocks]
    names += [f"{_percent(number('move', move))}, {item}, {100.0 * number('weight', weight):.4g} % counted"
              for move, item, weight in extremes]
    moves = {name: tuple(m for m in row for _ in shocks) + tuple(tail[0] for tail in extremes)
             for name, row in columns.items()}
    return from_moves(names, moves if isinstance(spot, Mapping) else moves[EVERY_OTHER],
                      volatility=shocks * len(steps) + [item for _, item, _ in extremes],
                      weight=[1.0] * (len(steps) * len(shocks)) + [float(tail[2]) for tail in extremes],
                      ranges=ranges, smile=smile, volatility_min=volatility_min, days_floor=days_floor)


def sigma_grid(*, spot: Sequence[float], volatility: Sequence[Shock], horizon_days: float,
               sigma_annual: Mapping[str, float], ranges: VolatilityRange | Mapping[str, VolatilityRange] | None = None,
               smile: str = "sticky_strike", volatility_min: float = 0.0, days_floor: float = 1.0) -> Scenarios:
    """Moves of whole standard deviations: ``exp(k * sigma * sqrt(days / 365)) - 1``, which never reaches -100 %.

    Parameters
    ----------
    spot : sequence of float
        Numbers of standard deviations.
    volatility : sequence of VolatilityShock, {"down", "same", "up"} or float
        A float is a parallel relative shift.
    horizon_days : float
        Above 0.
    sigma_annual : mapping of str to float
        Annual volatility by underlying, a fraction, at least 0; ``"*"`` for all others.
    ranges, smile, volatility_min, days_floor
        As in `Scenarios`.
    """
    multiples = np.array([number(f"spot[{at}]", k) for at, k in enumerate(several("spot", spot))], np.float64)
    horizon = number("horizon_days", horizon_days, above=0.0)
    if not isinstance(sigma_annual, Mapping) or not sigma_annual or not multiples.size:
        raise RangeError(f"spot and sigma_annual must not be empty, were {spot!r} and {sigma_annual!r}")
    shocks = [shock(value) for value in several("volatility", volatility)]
    moves: dict[str, Moves] = {}
    for name, sigma in sigma_annual.items():
        row = np.empty(multiples.size)
        scenario.sigma_moves(multiples, number(f"sigma_annual[{name!r}]", sigma, least=0.0),
                             horizon / DAYS_PER_YEAR, row)
        moves[name] = tuple(float(move) for move in row for _ in shocks)
    names = [f"spot {k:+.4g} sigma, {item}" if k else f"spot same, {item}" for k in multiples for item in shocks]
    return from_moves(names, moves, volatility=shocks * multiples.size, ranges=ranges, smile=smile,
                      volatility_min=volatility_min, days_floor=days_floor)
