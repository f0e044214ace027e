"""One book under history, filtered history, a stressed window and crash days: what each asks for, and what hurts most.

    python examples/scenario_sets.py

Prices are drawn from a GARCH model with a fixed seed, so the figures are the same everywhere.
"""

from dataclasses import replace

import numpy as np

import margincore as mc

MEASURE = mc.ExpectedShortfall(0.975)
HORIZON = 2  # days


def drawn_prices(market, days=1_000):
    """Prices of both underlyings by date, ending today; their shocks are correlated."""
    law = mc.vol.Garch(omega=1.2e-5, alpha=0.09, beta=0.90)
    paths = law.simulate(days, np.random.default_rng(7), paths=2).returns
    logs = np.vstack([paths[0], 0.8 * paths[0] + 0.8 * paths[1]]).cumsum(axis=1)
    dates = np.datetime64(market.now_ns, "ns").astype("M8[D]") - np.arange(days)[::-1]
    prices = {name: market.spot[name] * np.exp(row - row[-1]) for name, row in zip(("BTC", "ETH"), logs, strict=True)}
    return prices, dates


def scenario_sets(prices, dates, exposure):
    """The sets to compare, each a plain `Scenarios`."""
    history = mc.historical(prices, dates, steps=HORIZON)
    filtered = mc.filtered_historical(prices, mc.vol.Ewma(), dates, steps=HORIZON, burn_in=50)
    stressed = mc.stressed_scenarios(history, 250, MEASURE, exposure=exposure)
    return {
        "history": history,
        "history, aged by 0.99 a day": mc.historical(prices, dates, steps=HORIZON, decay=0.99),
        "filtered history": filtered,
        "its most stressed 250 days": stressed,
        "filtered, 25 % stressed": mc.mix_scenarios([filtered, stressed], [0.75, 0.25], labels=["now", "stressed"]),
        "crash days": mc.stress(),
        "crash days, volatility doubles": mc.combine_scenarios(mc.stress(volatility=False), mc.volatility_jump()),
    }


def main():
    contracts, market = mc.example_market()
    prices, dates = drawn_prices(market)
    book = mc.Portfolio({"BTC-PERP": 1.0, "ETH-PERP": 10.0, "BTC-27MAR26-56000-P": -2.0})
    exposure = {"BTC": market.spot["BTC"], "ETH": 10.0 * market.spot["ETH"]}
    quantity = np.array([book.positions.get(symbol, 0.0) for symbol in contracts.symbols])
    columns = market.resolve(contracts)
    print(f"{'scenarios':<32}{'count':>6}{'2.5 % shortfall':>17}   worst")
    for title, scenarios in scenario_sets(prices, dates, exposure).items():
        plan = replace(scenarios, smile="sticky_moneyness").resolve(contracts)
        profiles = mc.risk_profiles(contracts, columns, plan)
        pnl = quantity @ profiles.revalue(plan)[1]
        loss = MEASURE.loss(pnl, scenarios.probability or None)
        print(f"{title:<32}{len(scenarios):>6}{loss:>17,.2f}   {scenarios.names[int(pnl.argmin())]}")


if __name__ == "__main__":
    main()
