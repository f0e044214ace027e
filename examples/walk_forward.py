"""Walk-forward study: which volatility model with which method states value at risk and shortfall that hold.

    python examples/walk_forward.py [FOLDER] [--days 1500] [--window 500] [--refit-every 20] [--paths 10000]
                                    [--plot FILE]

FOLDER holds ``prices/upbit_krw_1h_close_panel_2020_2026.parquet`` (hourly closes of ten coins with 5.5 years of
history) and option chains.  By default it is ``../shared/data`` beside the project; without it the script makes up
coins whose volatility clusters, and says so.

Coins: every model of `margincore.vol` x {historical, filtered, Monte Carlo, parametric} x {value at risk at 99 %,
expected shortfall at 97.5 %}, one day ahead, long and short of every coin and of all equally.  Daily returns at 00:00
UTC; realised variance is the sum of squared hourly returns.

On the panel, 2022-03-12 to 2026-04-21, the component model with Student-t shocks and filtered history comes first:
coverage 99.05 %, no position of 22 rejected by Kupiec, Christoffersen or Z2, and first again with a window of 365
days.  It is therefore the default of the clearing-house presets and of ``margincore var``.  GARCH-t is close behind,
and first with a window of 700 days, by Monte Carlo.  Plain history covers as much but reacts too late: the dynamic
quantile test rejects it for half of the positions, and its margin is larger by 14 %.  EGARCH answers the day of XRP's
+69 % in July 2023 by the exponential of 22 deviations: volatilities above 100 % a day, and averages beyond 1000 %.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import margincore as mc
from margincore.units import NS_PER_DAY
from margincore.validation import Refit, Study, walk_forward

DEFAULT = Path(__file__).resolve().parents[1].parent / "shared" / "data"
PANEL = "prices/upbit_krw_1h_close_panel_2020_2026.parquet"
COINS = ("btc", "eth", "xrp", "link", "trx", "xlm", "bch", "dot", "vet", "chz")  # from October 2020 without a hole
HOURS_LEAST = 20  # of a day, or its realised variance is scaled up from too little
T = {"innovation": "student_t"}
MODELS = {
    "EWMA 0.94": mc.vol.Ewma(decay=0.94),
    "GARCH-t": Refit(mc.vol.Garch, T),
    "GJR-skewed-t": Refit(mc.vol.Gjr, {"innovation": "skew_t"}),
    "EGARCH-t": Refit(mc.vol.Egarch, T),
    "component-t": Refit(mc.vol.Component, T),
    "HAR": Refit(mc.vol.Har, {"windows": (1, 7, 30)}),
}


class History(NamedTuple):
    """Daily log returns and realised variances (days, coins), times (days,), names, and whether it is real."""

    returns: np.ndarray
    realised_variance: np.ndarray
    time_ns: np.ndarray
    names: tuple[str, ...]
    real: bool


def real_history(folder: Path) -> History:
    """Daily series of the hourly panel: the last close of each UTC day; hours without trade keep the close before."""
    import pandas

    panel = pandas.read_parquet(folder / PANEL, columns=["ts_ms", *COINS])
    panel.index = pandas.to_datetime(panel.pop("ts_ms"), unit="ms")
    closes = panel.ffill(limit=24)
    squares = np.log(closes).diff() ** 2
    count = squares.resample("1D").count()
    variance = squares.resample("1D").sum() * (24.0 / count.where(count >= HOURS_LEAST))
    returns = np.log(closes.resample("1D").last()).diff()
    whole = returns.notna().all(axis=1) & variance.notna().all(axis=1)
    returns, variance = returns[whole], variance[whole]
    return History(returns.to_numpy(), np.maximum(variance.to_numpy(), 1e-8),
                   returns.index.to_numpy("datetime64[ns]").astype(np.int64), COINS, True)


def made_up_history(days: int, coins: int = len(COINS)) -> History:
    """Coins of one common factor whose volatility clusters; realised variance with the noise of 24 hours."""
    generator = np.random.default_rng(2020)
    common = generator.standard_t(4.0, (days, 1)) / np.sqrt(2.0)
    own = generator.standard_t(4.0, (days, coins)) / np.sqrt(2.0)
    shocks = np.sqrt(0.6) * common + np.sqrt(0.4) * own
    scale = np.linspace(0.7, 1.5, coins)
    variance, long_run = scale**2 * 0.04**2, scale**2 * 0.04**2
    returns, realised = np.empty((days, coins)), np.empty((days, coins))
    for day in range(days):
        returns[day] = np.sqrt(variance) * shocks[day]
        realised[day] = variance * generator.chisquare(24.0, coins) / 24.0
        variance = 0.03 * long_run + 0.09 * returns[day] ** 2 + 0.88 * variance
    first = mc.utc("2020-10-06")
    return History(returns, realised, first + NS_PER_DAY * np.arange(days, dtype=np.int64),
                   tuple(f"coin {at}" for at in range(coins)), False)


def study(history: History, *, window: int = 500, refit_every: int = 20, paths: int = 10_000,
          threads: int = 2) -> Study:
    """The forecasts of every model and method along a history."""
    return walk_forward(history.returns, MODELS, names=history.names, realised_variance=history.realised_variance,
                        time_ns=history.time_ns, window=window, refit_every=refit_every, paths=paths, threads=threads)


def main() -> None:
    """Print the table of combinations and what the evidence favours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--days", type=int, default=1500, help="days forecast, the last ones of the history")
    parser.add_argument("--window", type=int, default=500)
    parser.add_argument("--refit-every", type=int, default=20)
    parser.add_argument("--paths", type=int, default=10_000)
    parser.add_argument("--plot", help="write the bands of the first coin under the favoured combination here")
    given = parser.parse_args()
    real = (given.folder / PANEL).exists()
    history = real_history(given.folder) if real else made_up_history(given.days + given.window)
    count = min(given.days + given.window, len(history.returns))
    history = History(history.returns[-count:], history.realised_variance[-count:], history.time_ns[-count:],
                      history.names, history.real)
    began = time.perf_counter()
    found = study(history, window=given.window, refit_every=given.refit_every, paths=given.paths)
    seconds = time.perf_counter() - began
    first, last = (str(history.time_ns[at].astype("datetime64[ns]"))[:10] for at in (given.window, -1))
    print(f"{'real data' if real else 'MADE UP: no data beside the project'}: {len(history.names)} coins "
          f"({', '.join(history.names)}), {count - given.window} days forecast, {first} to {last}\n"
          f"window {given.window} days, fitted every {given.refit_every}, {given.paths} paths; {len(MODELS)} models, "
          f"{len(found.forecasts)} combinations of model and method in {seconds:.1f} s\n")
    print(found)
    best = found.favoured()
    print(f"\ncolumns POF, cc, DQ, Z2, MF: share of {len(found.names)} positions rejected at 5 %; red: in the red "
          "zone; pk/tr, +5: procyclicality;\nscore: joint score of VaR and ES, smaller is closer to the truth\n"
          f"fits without an optimum, parameters kept: {found.failed_fits}\n\n"
          f"the evidence favours {best.model} with {best.method}: coverage {best.coverage:.3%} of "
          f"{found.value_at_risk_level:.0%}, average margin {best.mean_value_at_risk:.2%} of notional")
    if given.plot:
        found.plot(best.model, best.method).savefig(given.plot)


if __name__ == "__main__":
    main()
