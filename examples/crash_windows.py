"""Crash windows: what each volatility model's margin did the day before, the day of and the week after.

    python examples/crash_windows.py [FOLDER]

FOLDER holds ``prices/btc_daily_2015_2026_with_funding.csv.gz`` (columns date, close) and, for the models that use
implied volatility, ``vol_index/deribit_dvol_btc_1h_2021_2025.parquet`` (columns ts_ms, close in points).  By default
it is ``../shared/data`` beside the project; without it the script makes up a history with crashes, and says so.
"""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

import numpy as np

import margincore as mc
from margincore.units import NS_PER_DAY
from margincore.validation import VolatilityComparison, compare_volatility, format_crash

DEFAULT = Path(__file__).resolve().parents[1].parent / "shared" / "data"
PRICES = "prices/btc_daily_2015_2026_with_funding.csv.gz"
IMPLIED = "vol_index/deribit_dvol_btc_1h_2021_2025.parquet"
CRASHES = ("2020-03-12", "2021-05-19", "2022-06-13", "2022-11-09", "2024-08-05", "2025-10-10", "2026-02-05")
CONFIDENCE = 0.99


def models() -> dict[str, object]:
    """Models to compare, plainest first; a controlled one combines what the single ones show."""
    ewma = mc.vol.Ewma(decay=0.94)
    return {
        "fixed 60 %": 0.60,
        "EWMA 0.94": ewma,
        "EWMA 0.99": mc.vol.Ewma(decay=0.99),
        "max with implied": mc.vol.MarginVolatility(model=ewma),
        "(a) 25 % buffer": mc.vol.MarginVolatility(model=ewma, article28=(mc.vol.Buffer(),)),
        "(b) 25 % stressed": mc.vol.MarginVolatility(model=ewma, article28=(mc.vol.StressedWeight(),)),
        "(c) 10-year floor": mc.vol.MarginVolatility(model=ewma, article28=(mc.vol.LookbackFloor(),)),
        "controlled": mc.vol.MarginVolatility(
            model=ewma, blend=mc.vol.RegimeBlend(),
            article28=(mc.vol.Buffer(), mc.vol.StressedWeight(), mc.vol.LookbackFloor()),
            half_life_fall_days=20.0, fall_max_daily=0.05),
    }


def real_history(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, closes and implied volatility per annum (NaN where unknown) of the daily history in `folder`."""
    with gzip.open(folder / PRICES, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    time = np.array([mc.utc(row["date"]) for row in rows], np.int64)
    close = np.array([float(row["close"]) for row in rows])
    implied = np.full(len(time), np.nan)
    if (folder / IMPLIED).exists():
        import pandas

        index = pandas.read_parquet(folder / IMPLIED, columns=["ts_ms", "close"])
        # The last value of each UTC day is known at that day's close; points become decimals.
        last = index.groupby(index["ts_ms"].to_numpy() * 1_000_000 // NS_PER_DAY)["close"].last() / 100.0
        implied = last.reindex(time // NS_PER_DAY).to_numpy(float)
    return time, close, implied


def made_up_history() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for a seeded random walk from 2018 on whose volatility clusters, with a fall on each crash day."""
    rng = np.random.default_rng(2020)
    days = (mc.utc("2026-03-01") - mc.utc("2018-01-01")) // NS_PER_DAY
    time = mc.utc("2018-01-01") + NS_PER_DAY * np.arange(days, dtype=np.int64)
    shocks = rng.standard_t(4, days) / np.sqrt(2.0)
    returns, variance, path = np.zeros(days), 0.03**2, np.zeros(days)
    falls = {int((mc.utc(day) - time[0]) // NS_PER_DAY): fall
             for day, fall in zip(CRASHES, (-0.45, -0.15, -0.17, -0.15, -0.08, -0.08, -0.15), strict=True)}
    for t in range(days):
        path[t] = variance
        returns[t] = falls.get(t, np.sqrt(variance) * shocks[t])
        variance = 2e-5 + 0.08 * returns[t] ** 2 + 0.90 * variance
    return time, 10_000.0 * np.exp(np.cumsum(returns)), 1.1 * np.sqrt(365.0 * path)


def compare(folder: Path = DEFAULT) -> tuple[VolatilityComparison, bool]:
    """The comparison, and whether it stands on real data."""
    real = (folder / PRICES).exists()
    time, close, implied = real_history(folder) if real else made_up_history()
    return compare_volatility(models(), close, implied=implied, time_ns=time, confidence=CONFIDENCE, warm_up=500), real


def main(folder: Path = DEFAULT) -> None:
    """Print the table of models, then each crash window that the history covers."""
    comparison, real = compare(folder)
    print(f"BTC daily closes, {'real data' if real else 'MADE UP: no data beside the project'}; "
          f"margin of one day at {CONFIDENCE:.0%}, one-sided, in per cent of notional\n")
    print(comparison)
    for day in CRASHES:
        bar = mc.utc(day)
        if comparison.time_ns is not None and comparison.time_ns[0] < bar <= comparison.time_ns[-1]:
            print(f"\n{day}\n{format_crash(comparison.around(comparison.at_time(bar)))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
