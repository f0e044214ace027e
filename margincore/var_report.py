"""What ``margincore var`` prints: value at risk and shortfall of return series, now or along their history.

Each function returns plain data (JSON can hold it) and each has a twin that lays it out as text.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.chain import csv_rows, read_rows
from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.estimation import estimate
from margincore.io.rows import rows_of, time_of
from margincore.measure import ExpectedShortfall, Measure, ValueAtRisk, checked_level
from margincore.panel import PricePanel
from margincore.units import NS_PER_DAY, Floats, Ints, choice, utc
from margincore.validation import (
    Refit,
    Study,
    Verdict,
    acerbi_szekely,
    christoffersen_conditional,
    christoffersen_independence,
    disclosure,
    engle_manganelli,
    exceptions,
    kupiec_pof,
    kupiec_tuff,
    mcneil_frey,
    traffic_light,
    walk_forward,
)
from margincore.validation.block import growth
from margincore.validation.walk_forward import METHODS, Candidate
from margincore.vol import Component, Egarch, Ewma, Garch, Gjr

Data = dict[str, Any]
TIMES = ("date", "time", "timestamp", "datetime", "ts_ms", "time_ns")
BARS = {"open", "high", "low", "close"}
RETURN_MOST = 0.15  # half of the returns of no series are larger; of returns in per cent they mostly are
T = {"innovation": "student_t"}
MODELS: dict[str, Candidate] = {
    "ewma": Ewma(decay=0.94), "garch": Refit(Garch), "garch-t": Refit(Garch, T), "gjr-t": Refit(Gjr, T),
    "egarch-t": Refit(Egarch, T), "component-t": Refit(Component, T)}


@dataclass(frozen=True, slots=True)
class Series:
    """Returns of a file: names, log returns (times, series), their times where it has them, and columns left out."""

    names: tuple[str, ...]
    returns: Floats
    time_ns: Ints | None
    left_out: tuple[str, ...] = ()

    def label(self, at: int) -> str:
        """Day (or moment) of a return, or its number."""
        if self.time_ns is None:
            return str(at)
        moment = datetime.datetime.fromtimestamp(int(self.time_ns[at]) / 1e9, datetime.UTC)
        daily = not (self.time_ns % NS_PER_DAY).any()
        return moment.strftime("%Y-%m-%d" if daily else "%Y-%m-%dT%H:%M")


def load_series(path: str, *, columns: Sequence[str] = (), prices: bool = False, simple: bool = False,
                percent: bool = False) -> Series:
    """Return series of a parquet, CSV or JSON file, or of CSV on standard input (``-``).

    Parameters
    ----------
    path : str
        Rows in order of time; a column named date, time, timestamp, datetime, ts_ms or time_ns holds the time.
    columns : sequence of str
        Which columns.  When omitted: every column that begins with a number, of price bars (open, high, low, close)
        the close alone; the others are named in `left_out`.
    prices : bool
        Whether the columns hold prices, whose log returns are taken.
    simple : bool
        Whether they hold simple returns, ``price / price before - 1``, instead of log returns.
    percent : bool
        Whether the returns are in per cent.
    """
    if prices and (simple or percent):
        raise RangeError("simple and percent must be False with prices, whose log returns are taken")
    chosen, table, time_ns, left_out = _columns(path, columns, bars=prices)
    if not prices:
        returns = _log_returns(chosen, table / 100.0 if percent else table, simple)
        return Series(tuple(chosen), returns, time_ns, left_out)
    if (table <= 0.0).any():
        at = np.argwhere(table <= 0.0)[0]
        raise RangeError(f"prices must be positive, {chosen[at[1]]} was {table[at[0], at[1]]:g} in row {at[0] + 1}")
    return Series(tuple(chosen), np.diff(np.log(table), axis=0), None if time_ns is None else time_ns[1:], left_out)


def _log_returns(names: Sequence[str], table: Floats, simple: bool) -> Floats:
    if (rises := (table >= 0.0).all(axis=0) & (table > 0.0).any(axis=0)).any():
        raise RangeError(f"returns must have both signs, {names[int(rises.argmax())]} looks like prices: add --prices, "
                         "or choose others by --column")
    typical = np.median(np.abs(table), axis=0)
    if typical.max() > RETURN_MOST:
        at = int(typical.argmax())
        raise RangeError(f"returns must be fractions, {names[at]} looks like per cent (half are beyond "
                         f"{typical[at]:.3g}): add --percent")
    if not simple:
        return table
    if (table <= -1.0).any():
        row, column = np.argwhere(table <= -1.0)[0]
        raise RangeError(f"simple returns must be above -1, {names[column]} was {table[row, column]:g} "
                         f"in row {row + 1}")
    return np.log1p(table)


def load_prices(path: str) -> PricePanel:
    """Prices of a file as `load_series` reads it, one column for each underlying under its name."""
    chosen, table, time_ns, _ = _columns(path, ())
    return PricePanel.of({name: table[:, at].copy() for at, name in enumerate(chosen)}, time_ns)


def _columns(path: str, columns: Sequence[str], *,
             bars: bool = False) -> tuple[list[str], Floats, Ints | None, tuple[str, ...]]:
    rows = rows_of(csv_rows(sys.stdin, path) if path == "-" else read_rows(path))
    if not rows:
        raise MissingDataError(f"returns must hold rows, {path!r} has none")
    known = [str(name) for name in rows[0]]
    if any(map(_is_number, known)) and all(_is_number(name) or _is_moment(name) for name in known):
        raise MissingDataError(f"the first row must name the columns, was {', '.join(known)}")
    clock = next((name for name in known if name.lower() in TIMES), None)
    chosen = list(columns) or [name for name in known if name != clock and _is_number(rows[0][name])]
    if bars and not columns and {name.lower() for name in chosen} >= BARS:
        chosen = [name for name in chosen if name.lower() == "close"]
    if missing := [name for name in chosen if name not in known]:
        raise MissingDataError(f"column must be one of {', '.join(known)}, was {missing[0]!r}")
    if not chosen:
        raise MissingDataError(f"returns must have a column of numbers, had {', '.join(known)}")
    table = np.array([[_number(row[name], name, at) for name in chosen] for at, row in enumerate(rows)])
    left_out = () if columns else tuple(name for name in known if name not in chosen and name != clock)
    return chosen, table, None if clock is None else _times(rows, clock), left_out


def _is_number(value: Any) -> bool:
    """Whether it is a number; NaN, an empty cell of a table, is none."""
    try:
        return not math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def _is_moment(value: str) -> bool:
    try:
        return utc(value) is not None
    except ValueError:
        return False


def _number(value: Any, name: str, at: int) -> float:
    if not _is_number(value) or not math.isfinite(float(value)):
        raise NotFiniteError(f"{name} must be a finite number, was {value!r} in row {at + 1}")
    return float(value)


def _times(rows: Sequence[Mapping[str, Any]], clock: str) -> Ints:
    stamps = np.array([_time(row, clock, at) for at, row in enumerate(rows)], np.int64)
    falls = np.flatnonzero(np.diff(stamps) <= 0)
    if falls.size:
        at = int(falls[0]) + 1
        raise ShapeError(f"{clock} must rise strictly, did not in row {at + 1} ({rows[at][clock]})")
    return stamps


def _time(row: Mapping[str, Any], name: str, at: int) -> int:
    stamp = time_of(row, name)
    if stamp:
        return stamp
    try:
        return utc(str(row[name]))
    except ValueError:
        raise RangeError(f"{name} must be a time, was {row[name]!r} in row {at + 1}") from None


# ---- the next period


def next_risk(series: Series, *, model: str, level: float, shortfall_level: float, window: int, paths: int,
              seed: int) -> Data:
    """Value at risk and shortfall of the period to come, by every method, long and short of each series."""
    measures: dict[str, Measure] = {"value_at_risk": ValueAtRisk(checked_level(level)),
                                    "expected_shortfall": ExpectedShortfall(checked_level(shortfall_level))}
    if len(series.returns) < window:
        raise ShapeError(f"returns must have at least {window} rows for the window, had {len(series.returns)}")
    last = series.returns[-window:]
    # A study forecasts the first day after its window from the window alone: the two rows beyond are never looked at.
    study = _study(Series(series.names, np.concatenate([last, np.zeros((2, last.shape[1]))]), None), model, METHODS,
                   level, shortfall_level, window, window, paths, seed, 1)
    rows = []
    for (name, method), forecast in study.forecasts.items():
        for at, portfolio in enumerate(study.names):
            row: Data = {"portfolio": portfolio, "model": name, "method": method,
                         "value_at_risk": float(forecast[0, at, 0]), "expected_shortfall": float(forecast[2, at, 0])}
            if method == "historical":
                pnl = study.positions[at] @ growth(last.T)
                for key, measure in measures.items():
                    found = estimate(pnl, measure)
                    row[f"{key}_standard_error"] = found.standard_error
                    row[f"{key}_interval"] = [_finite(found.lower), _finite(found.upper)]
            rows.append(row)
    end = None if series.time_ns is None else series.label(len(series.returns) - 1)
    return {"after": end, "left_out": list(series.left_out), "window": window, "level": level,
            "shortfall_level": shortfall_level, "paths": paths, "risk": rows}


def next_text(data: Data) -> str:
    """`next_risk` as text."""
    lines = [f"next period{'' if data['after'] is None else ' after ' + data['after']}, window {data['window']}, "
             "in per cent of notional", "",
             f"{'':<16}{'model':<13}{'method':<13}{_level('VaR', data['level']):>10}"
             f"{_level('ES', data['shortfall_level']):>10}  95 % interval of each"]
    for row in data["risk"]:
        line = (f"{row['portfolio']:<16.15}{row['model']:<13}{row['method']:<13}{row['value_at_risk']:>10.3%}"
                f"{row['expected_shortfall']:>10.3%}")
        if "value_at_risk_interval" in row:
            line += "  " + ", ".join(_interval(row[f"{key}_interval"])
                                     for key in ("value_at_risk", "expected_shortfall"))
        lines.append(line)
    return "\n".join(lines + _left_out(data))


# ---- along the history


def backtest_report(series: Series, *, model: str, method: str, level: float, shortfall_level: float, window: int,
                    refit_every: int, paths: int, seed: int) -> tuple[Data, Study]:
    """Bands, exceptions and verdicts of one model and method, long and short of each series; and the study."""
    choice("method", method, METHODS)
    study = _study(series, model, (method,), level, shortfall_level, window, refit_every, paths, seed, 1)
    (name, _), forecast = next(iter(study.forecasts.items()))
    portfolios = []
    for at, portfolio in enumerate(study.names):
        pnl = study.pnl[at]
        quantile, edge, shortfall = forecast[:, at]
        hits = exceptions(pnl, quantile)
        tests = _verdicts(pnl, quantile, edge, shortfall, level, shortfall_level, seed)
        light, table = traffic_light(hits, level), disclosure(pnl, quantile, level)
        portfolios.append({
            "portfolio": portfolio, "observations": table.observations, "exceptions": table.exceptions,
            "achieved_coverage": table.achieved_coverage, "average_uncovered": table.average_uncovered,
            "largest_uncovered": table.largest_uncovered, "zone": light.zone,
            "tests": [{"name": test.name, "statistic": _finite(test.statistic), "p_value": _finite(test.p_value),
                       "verdict": _verdict(test)} for test in tests],
            "exception_list": [{"time": series.label(window + day), "pnl": float(pnl[day]),
                                "value_at_risk": float(quantile[day])} for day in np.flatnonzero(hits).tolist()],
            "pnl": pnl.tolist(), "value_at_risk": quantile.tolist(), "expected_shortfall": shortfall.tolist()})
    data = {"model": name, "method": method, "level": level, "shortfall_level": shortfall_level, "window": window,
            "refit_every": refit_every, "paths": paths if method == "monte_carlo" else None,
            "first": series.label(window), "last": series.label(len(series.returns) - 1),
            "left_out": list(series.left_out), "failed_fits": sum(study.failed_fits.values()), "portfolios": portfolios}
    return data, study


def backtest_text(data: Data) -> str:
    """`backtest_report` as text: the bands in brief, the tests, and the last exceptions."""
    lines = [f"{data['model']}, {data['method']}: {data['first']} to {data['last']}, window {data['window']}, fitted "
             f"every {data['refit_every']}" + (f", {data['paths']} paths" if data["paths"] else "")]
    if data["failed_fits"]:
        lines.append(f"{data['failed_fits']} fits found no optimum and kept the parameters before")
    for item in data["portfolios"]:
        band, deep = np.array(item["value_at_risk"]), np.array(item["expected_shortfall"])
        lines += ["", f"{item['portfolio']}: {item['exceptions']} exceptions in {item['observations']}, coverage "
                  f"{item['achieved_coverage']:.3%} of {data['level']:.4g}, {item['zone']} zone",
                  f"  {_level('VaR', data['level'])} {band.min():.2%} to {band.max():.2%}, mean {band.mean():.2%};  "
                  f"{_level('ES', data['shortfall_level'])} mean {deep.mean():.2%};  uncovered: mean "
                  f"{item['average_uncovered']:.2%}, largest {item['largest_uncovered']:.2%}"]
        lines += [f"  {test['name']:<51}{_shown(test['statistic']):>10}  p {_shown(test['p_value']):>6}"
                  f"  {test['verdict']}" for test in item["tests"]]
        lines += [f"  exception {hit['time']}: {hit['pnl']:+.2%} against {-hit['value_at_risk']:.2%}"
                  for hit in item["exception_list"][-10:]]
        if len(item["exception_list"]) > 10:
            lines.append(f"  ({len(item['exception_list']) - 10} earlier exceptions: --json lists them)")
    return "\n".join(lines + _left_out(data))


def _left_out(data: Data) -> list[str]:
    return ["", f"left out: {', '.join(data['left_out'])}; --column chooses others"] if data["left_out"] else []


def _study(series: Series, model: str, methods: Sequence[str], level: float, shortfall_level: float, window: int,
           refit_every: int, paths: int, seed: int, threads: int) -> Study:
    chosen = choice("model", model, tuple(MODELS))
    assets = np.eye(series.returns.shape[1])
    names = [f"{name} {side}" for side in ("long", "short") for name in series.names]
    return walk_forward(series.returns, {chosen: MODELS[chosen]}, methods=methods,
                        positions=np.concatenate([assets, -assets]), names=names, value_at_risk_level=level,
                        expected_shortfall_level=shortfall_level, window=window, refit_every=refit_every, paths=paths,
                        seed=seed, time_ns=series.time_ns, threads=threads)


def _verdicts(pnl: Floats, quantile: Floats, edge: Floats, shortfall: Floats, level: float, shortfall_level: float,
              seed: int) -> list[Verdict]:
    hits = exceptions(pnl, quantile)
    found = [kupiec_pof(hits, level), kupiec_tuff(hits, level), christoffersen_independence(hits),
             christoffersen_conditional(hits, level), christoffersen_conditional(hits, level, form="transition"),
             engle_manganelli(pnl, quantile, level)]
    if not (shortfall > 0.0).all():  # what promises a gain even in the tail leaves nothing to compare a loss with
        deep = int((-pnl > edge).sum())
        return found + [Verdict(name, np.nan, np.nan, len(pnl), deep)
                        for name in ("Acerbi-Szekely Z1", "Acerbi-Szekely Z2", "McNeil-Frey exceedance residuals")]
    for test in ("z1", "z2"):
        found.append(acerbi_szekely(pnl, edge, shortfall, shortfall_level, test=test, simulations=4_000,
                                    generator=np.random.default_rng(seed)))
    return [*found, mcneil_frey(pnl, edge, shortfall, generator=np.random.default_rng(seed), resamples=4_000)]


def _verdict(test: Verdict) -> str:
    if not test.conclusive:
        return "cannot say"
    return "REJECTED" if test.rejects() else "not rejected"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float | None]) -> str:
    low, high = ("..." if bound is None else f"{bound:.2%}" for bound in bounds)
    return f"[{low}, {high}]"


def _level(name: str, level: float) -> str:
    return f"{name} {100.0 * level:.6g}"
