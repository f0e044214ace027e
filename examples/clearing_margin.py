"""Clearing margin: one book under a clearing house's rules and under a grid, explained, and one order in time.

    python examples/clearing_margin.py [FOLDER]

FOLDER holds ``prices/upbit_krw_1h_close_panel_2020_2026.parquet`` (hourly closes, columns ts_ms, btc, eth, xrp).  By
default it is ``../shared/data`` beside the project; without it the script makes up prices, and says so.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import margincore as mc
from margincore.margin.clearing import fitted_models

DEFAULT = Path(__file__).resolve().parents[1].parent / "shared" / "data"
PANEL = "prices/upbit_krw_1h_close_panel_2020_2026.parquet"
COINS = ("BTC", "ETH", "XRP")
SPOT = {"BTC": 97_000.0, "ETH": 3_400.0, "XRP": 2.2, "USDC": 1.0}
DAYS = 1_500


def real_prices(folder: Path) -> mc.PricePanel:
    """Daily closes at 00:00 UTC of the newest days."""
    import pandas

    panel = pandas.read_parquet(folder / PANEL, columns=["ts_ms", *(coin.lower() for coin in COINS)])
    panel.index = pandas.to_datetime(panel.pop("ts_ms"), unit="ms")
    daily = panel.ffill().resample("1D").last().dropna().iloc[-DAYS:]
    return mc.PricePanel.of({coin: daily[coin.lower()].to_numpy() for coin in COINS}, daily.index)


def made_up_prices() -> mc.PricePanel:
    """Prices of three coins with a common shock, clustered volatility and fat tails."""
    random = np.random.default_rng(12)
    sigma = 0.025 * np.exp(0.5 * np.sin(np.arange(DAYS) / 60.0))
    shock = random.standard_t(4, (DAYS, 1)) * 0.8 + random.standard_t(4, (DAYS, 3)) * 0.5
    table = np.exp(np.cumsum(sigma[:, None] * shock, axis=0))
    dates = [str(np.datetime64("2022-01-01") + np.timedelta64(at, "D")) for at in range(DAYS)]
    return mc.PricePanel.of({coin: table[:, at].copy() for at, coin in enumerate(COINS)}, dates)


def main(folder: Path) -> None:
    """Print requirement, tail and contributions by model, and what one order costs in time."""
    real = (folder / PANEL).exists()
    prices = real_prices(folder) if real else made_up_prices()
    print(f"{len(prices)} days of {', '.join(prices.underlyings)}" + ("" if real else ", made up"))
    fitted = fitted_models(prices)
    models: dict[str, mc.margin.MarginModel] = {
        "listed: 99 %, 2 days": mc.clearing_listed(prices, model=fitted),
        "the same, shortfall": mc.clearing_listed(prices, model=fitted, shortfall=True),
        "OTC: 99.5 %, 5 days": mc.clearing_otc(prices, model=fitted),
        "grid of +-16 %": mc.ScenarioMargin(mc.grid(spot=[-0.16, -0.08, 0.0, 0.08, 0.16])),
    }
    contracts = mc.Contracts([mc.Perpetual(f"{coin}-PERP", underlying=coin, settle="USDC", multiplier=1.0)
                              for coin in COINS])
    market = mc.MarketState(now_ns=mc.utc("2026-03-01"), spot=SPOT, mark={f"{c}-PERP": SPOT[c] for c in COINS})
    book = mc.Portfolio({"BTC-PERP": 10.0, "ETH-PERP": -150.0, "XRP-PERP": 50_000.0}, {"USDC": 600_000.0})
    engine = mc.Engine(contracts, next(iter(models.values())))
    engine.update(market)
    account = engine.open_with("desk", book)
    for name, model in models.items():
        engine.set_model(model)
        report = account.margin()
        print(f"\n{name}: initial {report.initial:,.0f}, {report.status.name}")
        for item in report.sets:
            print(f"  {item}")
            print("  " + ", ".join(f"{symbol} {loss:,.0f}" for symbol, loss in item.contributions.items()
                                   if symbol in contracts.column))
        answer = account.liquidation_price("BTC")
        print(f"  {answer}")
    engine.set_model(models["listed: 99 %, 2 days"])
    hot, column = account.hot(), contracts.column["BTC-PERP"]
    hot.what_if(column, 1.0, SPOT["BTC"])
    started = time.perf_counter()
    for _ in range(20_000):
        hot.what_if(column, 1.0, SPOT["BTC"])
    seconds = (time.perf_counter() - started) / 20_000
    print(f"\none order of 1 BTC over {len(engine.plan.scenarios or ())} scenarios: "
          f"{mc.Status(hot.what_if(column, 1.0, SPOT['BTC'])).name}, {1e6 * seconds:.2f} us")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
