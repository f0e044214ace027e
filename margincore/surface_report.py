"""What the command line prints of a chain file: implied volatilities, and the surface with its quality.

Each function returns plain data (JSON can hold it) and each has a twin that lays it out as text.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np

from margincore.arbitrage import check_arbitrage
from margincore.calibration import SliceFit, calibrate
from margincore.chain import read_rows, snapshots
from margincore.errors import MissingDataError
from margincore.io.rows import rows_of, text, time_of
from margincore.option_chain import TIMES, Chain
from margincore.quotes import Quotes, Reason, bad_rows, chain_quotes
from margincore.surface import VolSurface
from margincore.units import NS_PER_DAY

Data = dict[str, Any]


def load_quotes(path: str | Path, *, currency: str | None = None, at_ns: int | None = None) -> Quotes:
    """Filtered quotes of one snapshot of a chain file; the chain's rows have their numbers in the file.

    Parameters
    ----------
    path : str or Path
        As in `margincore.load_chain`.
    currency : str, optional
        Which underlying of several.
    at_ns : int, optional
        The last snapshot that began at or before this time; the last of the file when omitted.
    """
    rows = rows_of(read_rows(path))
    numbers = {id(row): at for at, row in enumerate(rows)}
    groups = snapshots(row for row in rows if currency is None or _belongs(row, currency))
    if at_ns is not None:
        groups = [group for group in groups if _begun(group) <= at_ns]
    if not groups:
        raise MissingDataError(f"path must hold a snapshot of the options asked for, {str(path)!r} has none")
    chain, at = Chain.from_rows(groups[-1], currency=currency), [numbers[id(row)] for row in groups[-1]]
    return chain_quotes(dataclasses.replace(chain, row=np.array(at)[chain.row],
                                            skipped=tuple((at[row], reason) for row, reason in chain.skipped)))


def implied_volatilities(quotes: Quotes) -> Data:
    """Implied volatility at bid, middle and ask of each usable quote, and the rows left out with their reasons."""
    years = np.repeat(quotes.years, np.diff(quotes.start))
    low, high = np.sqrt(quotes.low / years), np.sqrt(quotes.high / years)
    rows = []
    for i, row in enumerate(quotes.row.tolist()):
        bid = float(low[i]) if quotes.low[i] > 0.0 else None
        rows.append({"expiry": _day(int(quotes.chain.expiry_ns[row])), "strike": float(quotes.strike[i]),
                     "right": "call" if quotes.is_call[i] else "put", "log_moneyness": float(quotes.log_moneyness[i]),
                     "bid_vol": bid, "mid_vol": None if bid is None else 0.5 * (bid + float(high[i])),
                     "ask_vol": float(high[i]), "status": Reason(int(quotes.reason[row])).name})
    return {"underlying": quotes.chain.underlying, "time": _time(quotes.chain.time_ns), "forwards": _forwards(quotes),
            "quotes": rows, "left_out": bad_rows(quotes)}


def volatilities_text(data: Data) -> str:
    """`implied_volatilities` as a table."""
    lines = [f"{data['underlying']} at {data['time']} UTC", *_forward_lines(data), "",
             f"{'expiry':<12}{'strike':>12} {'right':<6}{'k':>9}{'bid %':>9}{'mid %':>9}{'ask %':>9}  status"]
    lines += [f"{q['expiry']:<12}{q['strike']:>12,.6g} {q['right']:<6}{q['log_moneyness']:>9.4f}"
              f"{_percent(q['bid_vol'])}{_percent(q['mid_vol'])}{_percent(q['ask_vol'])}  {q['status'].lower()}"
              for q in data["quotes"]]
    return "\n".join(lines + _left_out_lines(data["left_out"]))


def surface_report(quotes: Quotes, surface: VolSurface | None = None) -> Data:
    """Calibrated surface of quotes: parameters, quality and arbitrage check per expiry.

    Parameters
    ----------
    quotes : Quotes
    surface : VolSurface, optional
        A calibrated one; `calibrate` makes it when omitted.
    """
    surface = calibrate(quotes) if surface is None else surface
    report = check_arbitrage(surface)
    slices = []
    for i, (expiry, told) in enumerate(zip(surface.expiry_ns.tolist(), surface.fit, strict=True)):
        quality = told if isinstance(told, SliceFit) else SliceFit(**told)
        years = (expiry - surface.time_ns) / (365 * NS_PER_DAY)
        wings = surface.raw(i).jump_wings(years)
        slices.append({"expiry": _day(expiry), "days": 365 * years, "forward": float(surface.forwards[i]),
                       "atm_vol": math.sqrt(wings.v), "skew": wings.psi, "two_sided": quality.two_sided,
                       "inside": quality.inside, "error_spreads": _known(quality.error_spreads),
                       "error_vol": _known(quality.error_vol), "thin": quality.thin, "method": quality.method,
                       "least_g": report.least_g[i],
                       **dict(zip(("a", "b", "rho", "m", "sigma"), surface.rows[i].tolist(), strict=True))})
    total = sum(s["two_sided"] for s in slices)
    return {"underlying": quotes.chain.underlying, "time": _time(surface.time_ns), "forwards": _forwards(quotes),
            "slices": slices, "two_sided": total, "inside": sum(s["inside"] for s in slices),
            "arbitrage": [] if report.clean else str(report).split("\n"), "left_out": bad_rows(quotes)}


def surface_text(data: Data) -> str:
    """`surface_report` as a table."""
    share = 100.0 * data["inside"] / data["two_sided"] if data["two_sided"] else math.nan
    lines = [f"{data['underlying']} at {data['time']} UTC: {share:.1f} % of {data['two_sided']} two-sided quotes "
             f"inside, {'no arbitrage' if not data['arbitrage'] else 'ARBITRAGE'}", "",
             f"{'expiry':<12}{'days':>8}{'forward':>13}{'atm %':>8}{'skew':>8}{'inside':>11}{'spreads':>9}{'points':>8}"
             f"{'least g':>9}  fit"]
    lines += [f"{s['expiry']:<12}{s['days']:>8.2f}{s['forward']:>13,.2f}{100 * s['atm_vol']:>8.2f}{s['skew']:>8.3f}"
              f"{s['inside']:>6}/{s['two_sided']:<4}{_plain(s['error_spreads'], 1.0)}{_plain(s['error_vol'], 100.0)}"
              f"{s['least_g']:>9.4f}  {s['method']}{', thin' if s['thin'] else ''}" for s in data["slices"]]
    return "\n".join(lines + data["arbitrage"] + _left_out_lines(data["left_out"]))


def _belongs(row: Any, currency: str) -> bool:
    name = text(row, "instrument_name", "symbol")
    return currency in (text(row, "currency", "underlying"), name.split("-")[0].split("_")[0])


def _begun(rows: list[Any]) -> int:
    return time_of(rows[0], *TIMES)


def _forwards(quotes: Quotes) -> list[Data]:
    return [{"expiry": _day(c.expiry_ns), "forward": c.forward, "discount": c.discount, "source": c.source,
             "parity": _known(c.parity), "future": _known(c.future), "pairs": c.pairs} for c in quotes.carry]


def _forward_lines(data: Data) -> list[str]:
    return [f"  {f['expiry']}  forward {f['forward']:,.2f}  discount {f['discount']:.5f}  from {f['source']} "
            f"({f['pairs']} pairs)" for f in data["forwards"]]


def _left_out_lines(rows: list[Data]) -> list[str]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return ["", "left out: " + ", ".join(f"{n} {reason.lower()}" for reason, n in counts.items())] if counts else []


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: float | None, scale: float) -> str:
    return f"{'-':>8}" if value is None else f"{scale * value:>8.2f}"


def _percent(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{100.0 * value:>9.2f}"


def _time(time_ns: int) -> str:
    return datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _day(time_ns: int) -> str:
    return _time(time_ns)[:10]
