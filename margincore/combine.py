"""Sets of scenarios put together: side by side, weighted, on top of one another; and their most stressed window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.measure import Measure, checked_measure
from margincore.scenarios import EVERY_OTHER, Scenarios, from_moves
from margincore.shocks import SAME, VolatilityMoves, VolatilityShock
from margincore.units import Floats, choice, floats, integer, number

ROWS = 512  # windows that are measured at once
MISSING = ("error", "drop", "still")


class StressedWindow(NamedTuple):
    """The consecutive scenarios whose loss is largest: places ``first .. last - 1``, and the loss, unit of P&L."""

    first: int
    last: int
    loss: float


def concat_scenarios(sets: Sequence[Scenarios], *, labels: Sequence[str] | None = None,
                     missing: str = "error") -> Scenarios:
    """All scenarios of several sets, one after another.

    Parameters
    ----------
    sets : sequence of Scenarios
        With the same smile rule, ranges and floors, and without probabilities, which only `mix_scenarios` can join.
    labels : sequence of str, optional
        One per set, put before the names of its scenarios; needed where two sets share a name.
    missing : {"error", "drop", "still"}
        What becomes of an underlying or asset that a set has no moves of, not even by ``"*"``: an error; no moves of it
        at all, so that contracts on it are refused and balances of it stand still; or none in that set's scenarios.

    Examples
    --------
    >>> both = concat_scenarios([from_moves(["a"], [0.1]), from_moves(["a"], [-0.1])], labels=["calm", "stress"])
    >>> both.names
    ('calm: a', 'stress: a')
    """
    parts = _parts(sets)
    if any(part.probability for part in parts):
        raise RangeError("sets must have no probabilities to be put side by side; mix_scenarios weighs them")
    return _union(parts, labels, (), missing)


def mix_scenarios(sets: Sequence[Scenarios], shares: npt.ArrayLike, *,
                  labels: Sequence[str] | None = None, missing: str = "error") -> Scenarios:
    """All scenarios of several sets, each set with a share of the probability.

    Parameters
    ----------
    sets : sequence of Scenarios
        As in `concat_scenarios`; one without probabilities has equal ones.
    shares : float64 array, shape (sets,)
        At least 0, summing to 1 within 1e-12: ``[0.75, 0.25]`` gives a stressed set its 25 %.
    labels, missing
        As in `concat_scenarios`.

    Examples
    --------
    >>> recent, stressed = from_moves(["a", "b"], [0.1, -0.1]), from_moves(["crash"], [-0.4])
    >>> mix_scenarios([recent, stressed], [0.75, 0.25]).probability
    (0.375, 0.375, 0.25)
    """
    parts, weights = _parts(sets), floats("shares", shares)
    if weights.size != len(parts):
        raise ShapeError(f"shares must have one value per set ({len(parts)}), had {weights.size}")
    if weights.min() < 0.0:
        raise RangeError(f"shares must not be negative, was {float(weights.min())!r}")
    if abs(math.fsum(weights) - 1.0) > 1e-12:
        raise RangeError(f"shares must sum to 1 within 1e-12, summed to {math.fsum(weights)!r}")
    return _union(parts, labels, tuple(share * own for share, part in zip(weights.tolist(), parts, strict=True)
                                       for own in _probabilities(part)), missing)


def combine_scenarios(first: Scenarios, second: Scenarios, *, missing: str = "error") -> Scenarios:
    """Every scenario of one set together with every one of the other, both at once.

    Moves compound, ``(1 + a)(1 + b) - 1``; shares counted and probabilities multiply; relative volatility shocks
    compound and absolute ones add.  A relative and an absolute one, or a range shock and any, do not go together.

    Parameters
    ----------
    first, second : Scenarios
        With the same smile rule, ranges and floors.
    missing
        As in `concat_scenarios`.

    Examples
    --------
    >>> crash, jump = from_moves(["crash"], [-0.5]), from_moves(["vol x 2"], [-0.5], volatility=[1.0])
    >>> both = combine_scenarios(crash, jump)
    >>> both.names, both.spot_move, str(both.volatility[0])
    (('crash, vol x 2',), (-0.75,), 'vol +100 %')
    """
    parts = _parts((first, second))
    pairs = list(product(range(len(first)), range(len(second))))
    # As a sum, so that a move joined to none stays what it was.
    moves: Any = {name: tuple(one[i] + two[j] + one[i] * two[j] for i, j in pairs)
                  for name, (one, two) in _rows(parts, missing).items()}
    likely = _probabilities(first), _probabilities(second)
    tables = {name: (one or _still(two, len(first)), two or _still(one, len(second)))
              for name, (one, two) in _surfaces(parts).items()}
    left, right = (list(side) for side in zip(*pairs, strict=True))
    return replace(
        first, names=tuple(f"{first.names[i]}, {second.names[j]}" for i, j in pairs),
        spot_move=moves if _by_name(parts) else moves[EVERY_OTHER],
        volatility=tuple(_together(first.volatility[i], second.volatility[j]) for i, j in pairs),
        weight=tuple(first.weight[i] * second.weight[j] for i, j in pairs),
        probability=tuple(likely[0][i] * likely[1][j] for i, j in pairs) if any(p.probability for p in parts) else (),
        surface_move={name: one.with_table(one.log_ratio[left] + two.log_ratio[right])
                      for name, (one, two) in tables.items()})


def stressed_window(pnl: npt.ArrayLike, length: int, measure: Measure) -> StressedWindow:
    """The `length` consecutive scenarios in which a portfolio's measure is largest; the earliest of equal ones.

    Parameters
    ----------
    pnl : float64 array, shape (scenarios,)
        Profit (+) or loss (-) of the portfolio by date, oldest first: of `portfolio_pnl`, or exposures times moves.
    length : int
        Scenarios of a window, at least 2: 250 or 365 for a year of days.
    measure : Measure
        `ValueAtRisk`, `ExpectedShortfall` or any other.

    Examples
    --------
    >>> from margincore.measure import Worst
    >>> stressed_window([1.0, -1.0, 2.0, -5.0, 1.0], 2, Worst())
    StressedWindow(first=2, last=4, loss=5.0)
    """
    checked_measure(measure)
    series, length = floats("pnl", pnl), integer("length", length, least=2)
    if length > series.size:
        raise ShapeError(f"length must be at most the number of scenarios ({series.size}), was {length}")
    windows = np.lib.stride_tricks.sliding_window_view(series, length)
    loss = np.concatenate([measure.losses(np.ascontiguousarray(windows[at:at + ROWS])).loss
                           for at in range(0, len(windows), ROWS)])
    if np.isnan(loss).any():
        raise NotFiniteError(f"measure must give a loss for every window, gave {float(loss[np.isnan(loss)][0])!r}")
    first = int(loss.argmax())
    return StressedWindow(first, first + length, float(loss[first]))


def stressed_scenarios(scenarios: Scenarios, length: int, measure: Measure, *,
                       exposure: Mapping[str, float] | None = None, pnl: npt.ArrayLike | None = None) -> Scenarios:
    """The window of a history that was worst for given exposures or a given portfolio, as scenarios.

    Parameters
    ----------
    scenarios : Scenarios
        By date, oldest first.
    length : int
        Scenarios of the window, at least 2.
    measure : Measure
    exposure : mapping of str to float, optional
        Base currency by underlying, signed.
    pnl : float64 array, shape (scenarios,), optional
        Profit or loss of the portfolio in each scenario, instead of `exposure`.

    Examples
    --------
    >>> from margincore.measure import ExpectedShortfall
    >>> history = from_moves(["d1", "d2", "d3", "d4"], {"BTC": [0.1, -0.3, -0.2, 0.1]})
    >>> stressed_scenarios(history, 2, ExpectedShortfall(0.5), exposure={"BTC": 1e6}).names
    ('d1', 'd2')
    """
    if (exposure is None) == (pnl is None):
        raise RangeError("exposure or pnl must be given, and not both")
    if exposure is not None:
        rows = _rows([scenarios], "error")
        total = np.zeros(len(scenarios))
        for name, amount in exposure.items():
            row = rows.get(name, rows.get(EVERY_OTHER))
            if row is None:
                raise MissingDataError(f"exposure must name underlyings of the scenarios, {name!r} is not in "
                                       f"{', '.join(rows)}")
            total += number(f"exposure[{name!r}]", amount) * np.array(row[0])
        pnl = total
    series = floats("pnl", pnl, length=len(scenarios))
    window = stressed_window(series, length, measure)
    return scenarios.take(slice(window.first, window.last))


def _parts(sets: Sequence[Scenarios]) -> list[Scenarios]:
    parts = [] if isinstance(sets, Scenarios) else list(sets)
    if not parts or not all(isinstance(part, Scenarios) for part in parts):
        raise RangeError(f"sets must be a sequence of Scenarios, at least one, was {sets!r:.60}")
    for name in ("smile", "volatility_min", "days_floor", "ranges"):
        values = [getattr(part, name) for part in parts]
        if any(value != values[0] for value in values):
            raise RangeError(f"sets must agree in {name}, had {values[0]!r} and "
                             f"{next(value for value in values if value != values[0])!r}")
    return parts


def _by_name(parts: Sequence[Scenarios]) -> bool:
    return any(isinstance(part.spot_move, Mapping) for part in parts)


def _rows(parts: Sequence[Scenarios], missing: str) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Moves of every underlying any set names, one row per set; ``"*"`` where all sets have one for all others."""
    choice("missing", missing, MISSING)
    moves = [part.spot_move if isinstance(part.spot_move, Mapping) else {EVERY_OTHER: part.spot_move} for part in parts]
    result: dict[str, tuple[tuple[float, ...], ...]] = {}
    for name in dict.fromkeys(chain.from_iterable(moves)):
        own = [table.get(name, table.get(EVERY_OTHER)) for table in moves]
        if None in own and (name == EVERY_OTHER or missing == "drop"):
            continue  # of what is not named the moves are not known in all
        if None in own and missing == "error":
            raise MissingDataError(f"sets must all have moves of {name!r} or '*', set {own.index(None) + 1} has "
                                   f"{', '.join(moves[own.index(None)])}; missing='drop' or 'still' goes on without")
        result[name] = tuple((0.0,) * len(part) if row is None else row for row, part in zip(own, parts, strict=True))
    if not result:
        raise MissingDataError("sets must have moves of one underlying in common, have none")
    return result


def _surfaces(parts: Sequence[Scenarios]) -> dict[str, list[VolatilityMoves | None]]:
    """Moves of surfaces of every underlying any set names, None where a set has none."""
    result = {name: [part.surface_move.get(name, part.surface_move.get(EVERY_OTHER)) for part in parts]
              for name in dict.fromkeys(chain.from_iterable(part.surface_move for part in parts))}
    for name, items in result.items():
        known = [item for item in items if item is not None]
        if not all(item.same_nodes(known[0]) for item in known):
            raise RangeError(f"sets must move the surface of {name!r} at the same moneyness and tenors")
    return result


def _still(like: VolatilityMoves | None, count: int) -> VolatilityMoves:
    assert like is not None
    return like.with_table(np.zeros((count, *like.log_ratio.shape[1:])))


def _union(parts: Sequence[Scenarios], labels: Sequence[str] | None, probability: tuple[float, ...],
           missing: str) -> Scenarios:
    if labels is not None and (isinstance(labels, str) or len(labels) != len(parts)):
        raise ShapeError(f"labels must have one text per set ({len(parts)}), was {labels!r}")
    names = list(_names(parts, labels))
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RangeError(f"names must be unique, {twice!r} is in more than one set: give labels")
    moves: Any = {name: np.concatenate(rows) for name, rows in _rows(parts, missing).items()}
    surfaces: dict[str, VolatilityMoves] = {}
    for name, items in _surfaces(parts).items():
        like = next(item for item in items if item is not None)
        tables: list[Floats] = [(item or _still(like, len(part))).log_ratio
                                for item, part in zip(items, parts, strict=True)]
        surfaces[name] = like.with_table(np.concatenate(tables))
    first = parts[0]
    return from_moves(names, moves if _by_name(parts) else moves[EVERY_OTHER],
                      volatility=[item for part in parts for item in part.volatility],
                      weight=[value for part in parts for value in part.weight], ranges=first.ranges, smile=first.smile,
                      volatility_min=first.volatility_min, days_floor=first.days_floor, probability=probability,
                      surface_move=surfaces)


def _names(parts: Sequence[Scenarios], labels: Sequence[str] | None) -> Iterator[str]:
    for at, part in enumerate(parts):
        yield from part.names if labels is None else (f"{labels[at]}: {name}" for name in part.names)


def _probabilities(part: Scenarios) -> tuple[float, ...]:
    return part.probability or (1.0 / len(part),) * len(part)


def _together(one: VolatilityShock, two: VolatilityShock) -> VolatilityShock:
    if SAME in (one, two):
        return two if one == SAME else one
    if one.kind == two.kind == "scale":
        return VolatilityShock("scale", (1.0 + one.size) * (1.0 + two.size) - 1.0)
    if one.kind == two.kind == "add":
        return VolatilityShock("add", one.size + two.size)
    raise RangeError(f"volatility shocks must go together, were {one} and {two}")
