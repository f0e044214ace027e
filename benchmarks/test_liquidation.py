"""Closed-form liquidation prices of 100,000 positions with five tiers."""

import numpy as np
import pytest

from margincore.liquidation import position_prices

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
