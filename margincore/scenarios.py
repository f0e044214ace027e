"""Scenarios: what may happen to prices and volatilities, as frozen data, and the builders of common grids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from margincore.contracts import Contracts
from margincore.errors import MissingDataError, RangeError, ShapeError
from margincore.kernels import scenario
from margincore.units import DAYS_PER_YEAR, choice, number

KINDS = ("same", "up", "down", "scale", "add")  # in the order of the codes of the kernel
SMILES = ("sticky_strike", "sticky_moneyness")
LANES = 8  # scenarios per vector of the kernels
EVERY_OTHER = "*"  # key of a mapping of moves: every underlying without an entry of its own

Moves: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class VolatilityShock:
    """Shock of annual volatility in one scenario.

    Parameters
    ----------
    kind : {"same", "up", "down", "scale", "add"}
        Up and down stretch the range of the underlying by its tenor factor ``m = (30 / days)^power``:
        ``sigma * (1 + size * up * m)`` and ``sigma * (1 - size * down * m)``.  Scale is the parallel
        ``sigma * (1 + size)``, add is ``sigma + size``.
    size : float
        Multiple of the range (at least 0) for up and down; fraction above -1 for scale; volatility for add.
    """

    kind: str = "same"
    size: float = 1.0

    def __post_init__(self) -> None:
        choice("kind", self.kind, KINDS)
        size = number("size", self.size)
        if self.kind in ("up", "down"):
            size = number("size", size, least=0.0)
        elif self.kind == "scale":
            size = number("size", size, above=-1.0)
        object.__setattr__(self, "size", 0.0 if self.kind == "same" else size)

    def __str__(self) -> str:
        if self.kind == "scale":
            return f"vol {100.0 * self.size:+.4g} %"
        if self.kind == "add":
            return f"vol {100.0 * self.size:+.4g} points"
        several = "" if self.kind == "same" or self.size == 1.0 else f" x {self.size:.4g}"
        return f"vol {self.kind}{several}"


SAME = VolatilityShock()
Shock: TypeAlias = VolatilityShock | str | float


def shock(value: Shock) -> VolatilityShock:
    """A shock from its kind ("same", "up", "down"), from a fraction (parallel and relative), or itself."""
    if isinstance(value, VolatilityShock):
        return value
    if isinstance(value, str):
        return VolatilityShock(choice("volatility", value, KINDS[:3]))
    size = number("volatility", value)
    return VolatilityShock("scale", size) if size else SAME


@dataclass(frozen=True, slots=True, kw_only=True)
class VolatilityRange:
    """Size of the up and down shocks by days to expiry: ``range * (30 / max(days, days_floor))^power``.

    Parameters
    ----------
    up, down : float
        Range at 30 days, fractions of volatility.
    short_power, long_power : float
        Power up to and beyond 30 days; at 30 days the factor is one under either.
    floor : float
        Least volatility after an up shock.
    """

    up: float = 0.5
    down: float = 0.25
    short_power: float = 0.3
    long_power: float = 0.13
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up", "down", "short_power", "long_power", "floor"):
            object.__setattr__(self, name, number(name, getattr(self, name), least=0.0))


def _moves(argument: str, values: Iterable[float], length: int | None = None) -> Moves:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise RangeError(f"{argument} must be a sequence of moves, was {values!r}")
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
    """

    names: tuple[str, ...]
    spot_move: Moves | Mapping[str, Moves]
    volatility: tuple[VolatilityShock, ...] = ()
    weight: tuple[float, ...] = ()
    ranges: VolatilityRange | Mapping[str, VolatilityRange] = field(default_factory=VolatilityRange)
    smile: str = "sticky_strike"
    volatility_min: float = 0.0
    days_floor: float = 1.0

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

    def __len__(self) -> int:
        return len(self.names)

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
    node : int32 array, shape (width,)
        Volatility node of each scenario.
    kind, size : int32 and float64 array, shape (nodes,)
        Shock of each node.
    limits : float64 array, shape (underlyings, 5)
        Range up and down, short and long power, floor.
    """

    __slots__ = ("coin_growth", "coin_move", "days_floor", "growth", "kind", "limits", "log_growth", "move", "moving",
                 "names", "node", "ones", "size", "smile", "volatility_min", "weight", "width")

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
        shocks: Sequence[VolatilityShock] = scenarios.volatility
        if self.smile == SMILES[0]:  # scenarios of one shock share the node
            shocks = list(dict.fromkeys(shocks))
        nodes = [shocks.index(item) for item in scenarios.volatility] if self.smile == SMILES[0] else range(count)
        self.node = np.zeros(self.width, np.int32)
        self.node[:count] = nodes
        self.kind = np.array([KINDS.index(item.kind) for item in shocks], np.int32)
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


def _restore(values: dict[str, object]) -> Scenarios:
    return Scenarios(**values)  # type: ignore[arg-type]


def _percent(move: float) -> str:
    return f"spot {100.0 * move:+.4g} %" if move else "spot same"


def from_moves(names: Sequence[str], spot_move: Moves | Sequence[float] | Mapping[str, Sequence[float]], *,
               volatility: Sequence[Shock] = (), weight: Sequence[float] = (),
               ranges: VolatilityRange | Mapping[str, VolatilityRange] | None = None,
               smile: str = "sticky_strike", volatility_min: float = 0.0, days_floor: float = 1.0) -> Scenarios:
    """Scenarios from their names and moves; parameters as in `Scenarios`."""
    if isinstance(names, str):
        raise RangeError(f"names must be several names, was the one text {names!r}")
    return Scenarios(names=tuple(names), spot_move=spot_move,  # type: ignore[arg-type]
                     volatility=tuple(shock(value) for value in volatility), weight=tuple(weight),
                     ranges=ranges or VolatilityRange(), smile=smile, volatility_min=volatility_min,
                     days_floor=days_floor)


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
    shocks = [shock(value) for value in volatility]
    if not shocks:
        raise RangeError("volatility must hold at least one shock, was empty")
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
    multiples = np.array([number(f"spot[{at}]", k) for at, k in enumerate(spot)], np.float64)
    horizon = number("horizon_days", horizon_days, above=0.0)
    if not isinstance(sigma_annual, Mapping) or not sigma_annual or not multiples.size:
        raise RangeError(f"spot and sigma_annual must not be empty, were {spot!r} and {sigma_annual!r}")
    shocks = [shock(value) for value in volatility]
    moves: dict[str, Moves] = {}
    for name, sigma in sigma_annual.items():
        row = np.empty(multiples.size)
        scenario.sigma_moves(multiples, number(f"sigma_annual[{name!r}]", sigma, least=0.0),
                             horizon / DAYS_PER_YEAR, row)
        moves[name] = tuple(float(move) for move in row for _ in shocks)
    names = [f"spot {k:+.4g} sigma, {item}" if k else f"spot same, {item}" for k in multiples for item in shocks]
    return from_moves(names, moves, volatility=shocks * multiples.size, ranges=ranges, smile=smile,
                      volatility_min=volatility_min, days_floor=days_floor)
