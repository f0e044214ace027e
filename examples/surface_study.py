"""Surface study: how the arbitrage-free surface fares against an unconstrained fit, through a crash.

    python examples/surface_study.py [CHAIN] [--currency BTC] [--plot FILE]

CHAIN is a parquet file of option chain snapshots with Deribit's columns.  By default it is
``../shared/data/options/deribit_chain_crash_20260203_20260208_6h.parquet`` beside the project (four snapshots a day
around 2026-02-05); without it the script takes the project's generated chain, and says so.

Per snapshot: spot, volatility at the money and skew at 30 days, share of two-sided quotes that the surface prices
inside bid and ask, the same share for SVI fitted per expiry by scipy without any constraint, how many expiries of that
fit admit arbitrage, and whether the surface was found clean.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import margincore as mc
from margincore.calibration import fit_quality
from margincore.quotes import Quotes
from margincore.units import NS_PER_DAY

DEFAULT = (Path(__file__).resolve().parents[1].parent / "shared" / "data" / "options"
           / "deribit_chain_crash_20260203_20260208_6h.parquet")


def snapshots(path: Path, currency: str) -> Iterator[mc.Chain]:
    """Chains of one currency, in order of time."""
    import pandas

    frame = pandas.read_parquet(path)
    for stamp, g in frame[frame.currency == currency].groupby("ts_ms"):
        yield mc.Chain(underlying=currency, time_ns=int(stamp) * 10**6, expiry_ns=g.expiry_ms.to_numpy() * 10**6,
                       strike=g.strike.to_numpy(), is_call=(g.option_type == "C").to_numpy(),
                       bid=g.bid_price.to_numpy(), ask=g.ask_price.to_numpy(), mark=g.mark_price.to_numpy(),
                       future=g.underlying_price.to_numpy(), inverse=True, spot=float(g.index_price.median()))


def generated(currency: str) -> mc.Chain:
    """The coin-settled chain of the generated market."""
    contracts, market = mc.example_market()
    options = [item for item in contracts.derivatives
               if isinstance(item, mc.Option) and item.underlying == currency and item.inverse]
    quotes = np.array([market.quote(item.symbol) for item in options])
    return mc.Chain(underlying=currency, time_ns=market.now_ns, expiry_ns=np.array([o.expiry_ns for o in options]),
                    strike=np.array([o.strike for o in options]), bid=quotes[:, 0], ask=quotes[:, 1], inverse=True,
                    is_call=np.array([o.right == mc.Right.CALL for o in options]), spot=float(market.spot[currency]))


def unconstrained(quotes: Quotes) -> np.ndarray:
    """Raw SVI rows by least squares per expiry, residuals in half spreads of volatility, nothing else asked."""
    from scipy.optimize import least_squares

    rows = np.empty((quotes.years.size, 5))
    for i, years in enumerate(quotes.years):
        part = slice(quotes.start[i], quotes.start[i + 1])
        told = quotes.low[part] > 0.0
        k = quotes.log_moneyness[part][told]
        bid, ask = (np.sqrt(side[part][told] / years) for side in (quotes.low, quotes.high))
        middle, half = 0.5 * (bid + ask), np.maximum(0.5 * (ask - bid), 1e-4)

        def off(x, k=k, years=years, middle=middle, half=half):
            d = k - x[3]
            w = x[0] + x[1] * (x[2] * d + np.sqrt(d * d + x[4] * x[4]))
            return (np.sqrt(np.maximum(w, 1e-10) / years) - middle) / half

        start = np.array([0.6 * middle.min() ** 2 * years, 0.1 * np.sqrt(years), -0.1, 0.0, 0.2 * np.ptp(k)])
        fits = [least_squares(off, [*start[:4], start[4] * wide], x_scale=np.abs(start) + 0.01, max_nfev=200, bounds=(
            [-np.inf, 0, -0.9999, -3, 1e-5], [np.inf, np.inf, 0.9999, 3, 10])) for wide in (0.4, 1.3)]
        rows[i] = min(fits, key=lambda f: f.cost).x
    return rows


def study(chain: mc.Chain, previous: mc.VolSurface | None) -> tuple[dict[str, Any], mc.VolSurface]:
    """One line of the table, and the surface it speaks of."""
    quotes = mc.chain_quotes(chain)
    surface = mc.calibrate(quotes, previous=previous)
    free = unconstrained(quotes)
    yard = fit_quality(free, quotes)
    dirty = sum(not mc.check_arbitrage(one(surface, row, i)).clean for i, row in enumerate(free))
    at = chain.time_ns + 30 * NS_PER_DAY
    forward = surface.forward(at)
    total = sum(f.two_sided for f in surface.fit)
    wing = 0.1
    low, high = surface.vol(forward * np.exp(np.array([-wing, wing])), at)
    return {"time_ns": chain.time_ns, "spot": chain.spot, "atm": surface.vol(forward, at),
            "skew": (high - low) / (2 * wing), "two_sided": total,
            "inside": sum(f.inside for f in surface.fit) / total, "free": sum(f.inside for f in yard) / total,
            "dirty": dirty, "expiries": len(free), "clean": mc.check_arbitrage(surface).clean}, surface


def one(surface: mc.VolSurface, row: np.ndarray, index: int) -> mc.VolSurface:
    """One expiry with other parameters; a least variance below zero is lifted to it, so that it can be asked at all."""
    a, b, rho, m, sigma = row
    lifted = np.array([[max(a, -b * sigma * np.sqrt(1 - rho * rho)), b, rho, m, sigma]])
    return mc.VolSurface.svi(lifted, surface.expiry_ns[index:index + 1], time_ns=surface.time_ns,
                             forward=surface.forwards[index:index + 1])


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as text."""
    text = [f"{'UTC':<17}{'spot':>11}{'30d atm %':>11}{'skew':>8}{'quotes':>8}{'inside %':>10}{'free SVI %':>12}"
            f"{'free dirty':>12}  surface"]
    text += [f"{stamp(d['time_ns']):<17}{d['spot']:>11,.0f}{100 * d['atm']:>11.2f}{d['skew']:>8.3f}{d['two_sided']:>8}"
             f"{100 * d['inside']:>10.1f}{100 * d['free']:>12.1f}{d['dirty']:>9}/{d['expiries']:<2}  "
             f"{'clean' if d['clean'] else 'ARBITRAGE'}" for d in lines]
    total = sum(d["two_sided"] for d in lines)
    ours, free = (100 * sum(d[name] * d["two_sided"] for d in lines) / total for name in ("inside", "free"))
    return "\n".join([*text, f"{'all':<47}{total:>8}{ours:>10.1f}{free:>12.1f}"])


def plot(lines: list[dict[str, Any]], path: str) -> None:
    """Spot and volatility above, share of quotes inside below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    times = [datetime.datetime.fromtimestamp(d["time_ns"] / 1e9, datetime.UTC) for d in lines]
    top.plot(times, [100 * d["atm"] for d in lines], "o-", label="30 days at the money, %")
    right = top.twinx()
    right.plot(times, [d["spot"] for d in lines], color="0.5", label="spot")
    top.set_ylabel("volatility, %")
    right.set_ylabel("spot")
    bottom.plot(times, [100 * d["inside"] for d in lines], "o-", label="surface without arbitrage")
    bottom.plot(times, [100 * d["free"] for d in lines], "x--", label="SVI per expiry, unconstrained")
    bottom.set_ylabel("quotes inside bid and ask, %")
    bottom.legend()
    figure.autofmt_xdate()
    figure.savefig(path, dpi=110)


def stamp(time_ns: int) -> str:
    return datetime.datetime.fromtimestamp(time_ns // 10**9, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chain", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--currency", default="BTC")
    parser.add_argument("--plot", help="write the picture to this file")
    chosen = parser.parse_args(arguments)
    if chosen.chain.exists():
        chains: list[mc.Chain] = list(snapshots(chosen.chain, chosen.currency))
    else:
        print(f"{chosen.chain.name} is not there: the generated chain instead")
        chains = [generated(chosen.currency)]
    lines: list[dict[str, Any]] = []
    surface: mc.VolSurface | None = None
    for chain in chains:
        line, surface = study(chain, surface)
        lines.append(line)
    print(table(lines))
    if chosen.plot:
        plot(lines, chosen.plot)


if __name__ == "__main__":
    main()
