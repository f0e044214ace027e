"""Scenarios from histories of implied-volatility surfaces: prices and volatilities of one date move together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from margincore.calibration import calibrate
from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.history import Filter, filtered_historical, historical
from margincore.option_chain import Chain
from margincore.panel import HORIZONS, PricePanel, date, ratios, times
from margincore.scenarios import Scenarios
from margincore.shocks import VolatilityMoves
from margincore.surface import YEAR_NS, VolSurface
from margincore.units import NS_PER_DAY, NS_PER_SECOND, Floats, choice, floats, number

MONEYNESS = (-1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5)
TENORS_DAYS = (7.0, 14.0, 30.0, 60.0, 90.0, 180.0)
STICKY = {"moneyness": "sticky_moneyness", "strike": "sticky_strike"}

Snapshots: TypeAlias = Sequence[VolSurface | Chain]


def surface_moves(surfaces: Snapshots, spans: npt.ArrayLike | None = None, *,
                  moneyness: Sequence[float] = MONEYNESS, tenors_days: Sequence[float] = TENORS_DAYS,
                  sticky: str = "moneyness") -> VolatilityMoves:
    """What the surfaces of one underlying did from each time to another, at fixed moneyness and tenor.

    Parameters
    ----------
    surfaces : sequence of VolSurface or Chain
        Oldest first; chains are calibrated, each from the one before.
    spans : int array, shape (moves, 2), optional
        Places of the first and last surface of each move; from each to the next when omitted.
    moneyness : sequence of float
        Nodes of ``ln(strike / forward) / sqrt(years)``, rising.
    tenors_days : sequence of float
        Nodes of days to expiry, constant over time, rising.
    sticky : {"moneyness", "strike"}
        What is held fixed from one surface to the next: moneyness against the forward of each, or the strike that has
        this moneyness on the first (which needs forwards).

    Returns
    -------
    VolatilityMoves

    Raises
    ------
    NotFiniteError
        If a surface has no volatility at a node; the message names time, tenor and moneyness.
    """
    choice("sticky", sticky, tuple(STICKY))
    series = _surfaces("surfaces", surfaces)
    places = np.column_stack([np.arange(len(series) - 1), np.arange(1, len(series))]) if spans is None else np.asarray(
        spans, np.int64)
    if len(series) < 2 or not places.size:
        raise ShapeError(f"surfaces must make at least one move, had {len(series)}")
    nodes, tenors = floats("moneyness", moneyness), floats("tenors_days", tenors_days)
    if tenors.min() <= 0.0:
        raise RangeError(f"tenors_days must be above 0, was {float(tenors.min())!r}")
    before = [_deviations(surface, nodes, tenors) for surface in series]
    if sticky == "moneyness":
        table = ratios(np.array([before[end] for _, end in places]), np.array([before[start] for start, _ in places]))
    else:
        after = np.array([_deviations(series[end], nodes, tenors, series[start]) for start, end in places])
        table = ratios(after, np.array([before[start] for start, _ in places]))
    return VolatilityMoves(moneyness=tuple(nodes), tenors_days=tuple(tenors), log_ratio=table)


def historical_surfaces(surfaces: Mapping[str, Snapshots], prices: Mapping[str, Any] | None = None, dates: Any = None,
                        *, steps: int = 1, horizon: str = "overlapping", gaps: str = "error",
                        decay: float | None = None, sticky: str = "moneyness",
                        moneyness: Sequence[float] = MONEYNESS, tenors_days: Sequence[float] = TENORS_DAYS,
                        model: Filter | Mapping[str, Filter] | None = None,
                        within_seconds: float = 3600.0) -> Scenarios:
    """What prices and implied-volatility surfaces did together before, as scenarios by date.

    Parameters
    ----------
    surfaces : mapping of str to sequence of VolSurface or Chain
        Snapshots by underlying, oldest first, all at the same times.
    prices : mapping of str to float64 array of shape (times,), optional
        Spot of underlyings at the same times: of those without a surface, and of those whose surfaces do not know it.
    dates : sequence of dates, optional
        Of the snapshots; those of the first underlying's surfaces when omitted.
    steps, horizon, gaps, decay
        As in `historical`.  Under "square_root" the logarithms of volatility moves are stretched as well.
    sticky : {"moneyness", "strike"}
        Volatility moves are measured at fixed moneyness, and an option takes the one at its moneyness after the move
        of the spot, on top of its smile read there (``smile="sticky_moneyness"``); or at fixed strikes, and an option
        takes the one at its moneyness before, on top of its present volatility (``smile="sticky_strike"``).  Either way
        the surface before becomes the surface after.
    moneyness, tenors_days
        As in `surface_moves`.
    model : volatility model, or mapping of str to models, optional
        Filters the price moves as in `filtered_historical`; the volatility moves stay as they were.
    within_seconds : float
        How far apart the snapshots of one date may be.

    Returns
    -------
    Scenarios

    Examples
    --------
    >>> days = [day * NS_PER_DAY for day in range(3)]
    >>> btc = [VolSurface.flat(sigma, time_ns=at, spot=spot)
    ...        for at, sigma, spot in zip(days, (0.5, 0.6, 0.45), (100.0, 90.0, 99.0), strict=True)]
    >>> found = historical_surfaces({"BTC": btc}, moneyness=[0.0], tenors_days=[30.0])
    >>> found.names, found.surface_move["BTC"].log_ratio.ravel().round(4).tolist()
    (('1970-01-02', '1970-01-03'), [0.1823, -0.2877])
    """
    choice("sticky", sticky, tuple(STICKY))
    if not isinstance(surfaces, Mapping) or not surfaces:
        raise RangeError(f"surfaces must map underlyings to snapshots, was {surfaces!r}")
    series = {name: _surfaces(f"surfaces[{name!r}]", values) for name, values in surfaces.items()}
    panel = _panel(series, prices, dates, number("within_seconds", within_seconds, least=0.0))
    smile = STICKY[sticky]
    if model is None:
        found = historical(panel, steps=steps, horizon=horizon, gaps=gaps, decay=decay, smile=smile)
    else:
        found = filtered_historical(panel, model, steps=steps, horizon=horizon, gaps=gaps, decay=decay, smile=smile)
    stretched = choice("horizon", horizon, HORIZONS) == "square_root" and steps > 1
    spans = panel.windows(1 if stretched else steps, gaps=gaps, separate=horizon == "separate")
    moves = {name: surface_moves(values, spans, moneyness=moneyness, tenors_days=tenors_days, sticky=sticky)
             for name, values in series.items()}
    if stretched:
        moves = {name: item.with_table(item.log_ratio * math.sqrt(steps)) for name, item in moves.items()}
    return replace(found, surface_move=moves)


def _surfaces(name: str, values: Snapshots) -> list[VolSurface]:
    result: list[VolSurface] = []
    if isinstance(values, (VolSurface, Chain)) or not isinstance(values, Iterable):
        raise RangeError(f"{name} must be a sequence of VolSurface or Chain, was {values!r:.60}")
    for at, value in enumerate(values):
        if isinstance(value, Chain):
            value = calibrate(value, previous=result[-1] if result else None)
        if not isinstance(value, VolSurface):
            raise RangeError(f"{name} must hold VolSurface or Chain, was {value!r:.60} at {at}")
        if result and value.time_ns <= result[-1].time_ns:
            raise RangeError(f"{name} must rise in time, {date(value.time_ns)} follows {date(result[-1].time_ns)}")
        result.append(value)
    return result


def _panel(series: Mapping[str, list[VolSurface]], prices: Mapping[str, Any] | None, dates: Any,
           within_seconds: float) -> PricePanel:
    first = next(iter(series))
    when = times("dates", [surface.time_ns for surface in series[first]] if dates is None else dates)
    table: dict[str, Any] = {}
    for name, values in series.items():
        if len(values) != when.size:
            raise ShapeError(f"surfaces[{name!r}] must have {when.size} snapshots like the dates, had {len(values)}")
        apart = [abs(surface.time_ns - int(values_of.time_ns)) / NS_PER_SECOND
                 for surface, values_of in zip(values, series[first], strict=True)]
        if max(apart) > within_seconds:
            at = apart.index(max(apart))
            raise RangeError(f"surfaces[{name!r}] must be within {within_seconds:g} seconds of those of {first!r}, was "
                             f"{date(values[at].time_ns)} where that is {date(series[first][at].time_ns)}")
        if prices is not None and name in prices:
            continue
        table[name] = [surface.spot for surface in values]
        if not np.isfinite(table[name]).all():
            at = int(np.flatnonzero(~np.isfinite(table[name]))[0])
            raise MissingDataError(f"prices must have {name!r}: its surface of {date(when[at])} knows no spot")
    return PricePanel.of({**table, **(prices or {})}, when)


def _deviations(surface: VolSurface, nodes: Floats, tenors: Floats, anchor: VolSurface | None = None) -> Floats:
    """Volatility at every node, shape (tenors, nodes), or at the strikes that have this moneyness on `anchor`."""
    years = tenors * (NS_PER_DAY / YEAR_NS)
    k = nodes * np.sqrt(years)[:, None]
    when = np.broadcast_to(surface.time_ns + np.rint(tenors * NS_PER_DAY).astype(np.int64)[:, None], k.shape)
    if anchor is not None:
        own = when - surface.time_ns + anchor.time_ns
        with np.errstate(invalid="ignore"):
            k = k + ratios(np.asarray(anchor.forward(own)), np.asarray(surface.forward(when)))
    variance = np.asarray(surface.variance(k, when))
    if not (variance > 0.0).all():
        row, column = (int(at[0]) for at in np.nonzero(~(variance > 0.0)))
        raise NotFiniteError(f"surface of {date(surface.time_ns)} must have a volatility at {tenors[row]:g} days and "
                             f"moneyness {nodes[column]:g}, had variance {float(variance[row, column])!r}")
    return np.asarray(np.sqrt(variance / years[:, None]))
