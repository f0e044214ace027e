"""Liquidation prices: closed forms of 100,000 positions with five tiers, and the root of a whole account."""

import numpy as np
import pytest

import margincore as mc
from margincore.kernels import formula
from margincore.liquidation import position_prices
from margincore.revaluation import moved

TIERS = [(0.0, 0.004), (300_000.0, 0.005), (800_000.0, 0.0065), (3_000_000.0, 0.01), (12_000_000.0, 0.02)]
POSITIONS = 100_000


@pytest.fixture(scope="module")
def positions():
    rng = np.random.default_rng(7)
    entry = rng.uniform(90_000.0, 100_000.0, POSITIONS)
    quantity = rng.choice([-1.0, 1.0], POSITIONS) * rng.uniform(0.1, 100.0, POSITIONS)
    return quantity, entry, np.abs(quantity) * entry / rng.uniform(2.0, 50.0, POSITIONS)


def by_numpy(quantity, entry, fund):
    """The same closed form of every tier, the first one met."""
    best = np.where(quantity > 0.0, -np.inf, np.inf)
    amount, before = 0.0, 0.0
    for floor, rate in TIERS:
        amount += floor * (rate - before)
        before = rate
        price = (quantity * entry - fund - amount) / (quantity - np.abs(quantity) * rate)
        best = np.where(quantity > 0.0, np.maximum(best, price), np.minimum(best, price))
    return best


@pytest.mark.benchmark(group="liquidation prices of 100,000 positions")
def test_margincore(benchmark, positions):
    quantity, entry, fund = positions
    found = benchmark(lambda: position_prices(quantity, entry, fund=fund, tiers=TIERS))
    np.testing.assert_allclose(found.liquidation, by_numpy(*positions), rtol=1e-13)


@pytest.mark.benchmark(group="liquidation prices of 100,000 positions")
def test_numpy(benchmark, positions):
    benchmark(by_numpy, *positions)


ROOT = "liquidation price of an account, 10 options x 30 scenarios, both directions"


@pytest.fixture(scope="module")
def account():
    now, expiry = mc.utc("2026-01-05T08:00"), mc.utc("2026-02-27T08:00")
    strikes = np.linspace(80_000.0, 125_000.0, 10)
    contracts = mc.Contracts([mc.Option(f"C{k:.0f}", underlying="BTC", settle="USDC", strike=k, expiry_ns=expiry,
                                        right="call") for k in strikes])
    model = mc.ScenarioMargin(scenarios=mc.grid(spot=np.linspace(-0.18, 0.18, 10).tolist()))
    engine = mc.Engine(contracts, model, accounts=2, positions=20)
    marks = {item.symbol: formula.price(100_000.0, item.strike, mc.years(now, expiry), 0.6, True)
             for item in contracts.derivatives}
    engine.update(mc.MarketState(now_ns=now, spot={"BTC": 100_000.0, "USDC": 1.0}, mark=marks,
                                 forward={("BTC", expiry): 100_000.0}, volatility=dict.fromkeys(marks, 0.6)))
    positions = {symbol: -1.0 if at % 3 else 1.0 for at, symbol in enumerate(marks)}
    return engine.open_with("alice", mc.Portfolio(positions, {"USDC": 150_000.0}))


def by_brentq(account):
    """A root of each side by SciPy, over the same engine; nothing says that it is the nearest."""
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is the peer")
    engine = account.engine
    bitcoin = engine.contracts.underlyings.index("BTC")

    def excess(move):
        engine.book.set_market(*engine.plan.tick(moved(engine.contracts, engine.columns, bitcoin, move)))
        equity, _, maintenance, _ = engine.book.check(account.row)
        return equity - maintenance

    roots = [optimize.brentq(excess, 0.0, end, xtol=1e-15) if excess(end) < 0.0 else None for end in (-0.99, 5.0)]
    engine.book.set_market(*engine.plan.tick(engine.columns))
    return roots


@pytest.mark.benchmark(group=ROOT)
def test_margincore_certified(benchmark, account):
    found = benchmark(account.liquidation_price, "BTC")
    assert found.certified
    for move, due in zip((found.move_down, found.move_up), by_brentq(account), strict=True):
        assert (move is None) == (due is None)
        assert move is None or abs(move - due) < 1e-12


@pytest.mark.benchmark(group=ROOT)
def test_scipy_brentq(benchmark, account):
    benchmark(by_brentq, account)
