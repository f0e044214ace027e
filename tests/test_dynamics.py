"""Shocked surfaces: what sticks, how shocks scale with expiry, floors, and use in a market."""

import math

import numpy as np
import pytest

from margincore.arbitrage import check_arbitrage
from margincore.contracts import Contracts, Option
from margincore.dynamics import ShockedSurface, SurfaceShock
from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.market import MarketState
from margincore.revaluation import revalue
from margincore.scenarios import grid
from margincore.surface import VolSurface
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-02-05T16:00")
EXPIRIES = NOW + np.array([7, 30, 120]) * NS_PER_DAY
STRIKES = np.array([60.0, 85.0, 100.0, 110.0, 150.0])


def base():
    return VolSurface.ssvi([0.01, 0.04, 0.13], EXPIRIES, rho=-0.4, eta=1.1, time_ns=NOW, forward=[100.0, 101.0, 103.0],
                           spot=100.0)


def test_nothing_moves_without_a_shock():
    for sticky in ("strike", "moneyness", "delta"):
        shocked = ShockedSurface(base(), SurfaceShock(sticky=sticky))
        np.testing.assert_allclose(shocked.vol(STRIKES, EXPIRIES[:, None]), base().vol(STRIKES, EXPIRIES[:, None]),
                                   rtol=1e-9)


def test_what_the_smile_sticks_to():
    at = int(EXPIRIES[1])
    move = {s: ShockedSurface(base(), SurfaceShock(spot=-0.2, sticky=s)) for s in ("strike", "moneyness", "delta")}
    assert move["strike"].vol(STRIKES, at).tobytes() == base().vol(STRIKES, at).tobytes()
    np.testing.assert_allclose(move["moneyness"].vol(0.8 * STRIKES, at), base().vol(STRIKES, at), rtol=1e-13)
    np.testing.assert_allclose(move["delta"].vol(0.8 * STRIKES, at), base().vol(STRIKES, at), rtol=1e-9)
    assert move["strike"].forward(at) == pytest.approx(80.8)


def test_sticky_delta_keeps_volatility_of_equal_d1():
    at, years = int(EXPIRIES[1]), 30 / 365
    shocked = ShockedSurface(base(), SurfaceShock(spot=0.1, sticky="delta", relative=0.5))
    for strike in STRIKES:
        after = shocked.vol(strike, at)
        d1 = math.log(101.0 * 1.1 / strike) / (after * math.sqrt(years)) + 0.5 * after * math.sqrt(years)
        before = after / 1.5
        old = 101.0 * math.exp(-d1 * before * math.sqrt(years) + 0.5 * before**2 * years)
        assert base().vol(old, at) == pytest.approx(before, rel=1e-8)


@pytest.mark.parametrize(("days", "factor"), [(7, (30 / 7) ** 0.3), (30, 1.0), (120, (30 / 120) ** 0.13)])
def test_term_structure_of_a_shock(days, factor):
    shock = SurfaceShock(relative=0.4, power=0.3, power_long=0.13)
    at = NOW + days * NS_PER_DAY
    expected = base().vol(STRIKES, at) * (1 + 0.4 * factor)
    np.testing.assert_allclose(ShockedSurface(base(), shock).vol(STRIKES, at), expected, rtol=1e-13)


def test_shortest_days_are_bounded():
    shock = SurfaceShock(absolute=0.01, power=0.5, days_least=2.0)
    at = NOW + NS_PER_DAY // 24
    assert ShockedSurface(base(), shock).vol(100.0, at) - base().vol(100.0, at) == pytest.approx(0.01 * 15**0.5)


def test_skew_and_absolute():
    at = int(EXPIRIES[2])
    shocked = ShockedSurface(base(), SurfaceShock(absolute=0.05, skew=-0.02))
    x = np.log(STRIKES / 103.0) / math.sqrt(120 / 365)
    np.testing.assert_allclose(shocked.vol(STRIKES, at) - base().vol(STRIKES, at), 0.05 - 0.02 * x, rtol=1e-9)


def test_floor_ceiling_and_missing():
    at = int(EXPIRIES[0])
    low = ShockedSurface(base(), SurfaceShock(relative=-1.0, floor=0.07))
    high = ShockedSurface(base(), SurfaceShock(relative=9.0, ceiling=1.5))
    assert set(low.vol(STRIKES, at)) == {0.07} and set(high.vol(STRIKES, at)) == {1.5}
    assert np.isnan(low.vol([-1.0, np.nan], at)).all() and math.isnan(low.vol(100.0, NOW))
    flat = ShockedSurface(VolSurface.flat(0.5, time_ns=NOW), SurfaceShock(relative=0.5, spot=-0.5))
    assert flat.vol(100.0, at) == pytest.approx(0.75)
    assert flat.total_variance(100.0, at) == pytest.approx(0.75**2 * 7 / 365)


def test_sample_moves_forward_and_spot():
    moved = ShockedSurface(base(), SurfaceShock(spot=-0.2)).sampled(nodes=5)
    assert moved.forwards == pytest.approx(0.8 * base().forwards, rel=1e-15) and moved.spot == pytest.approx(80.0)
    assert moved.knots.shape == (3, 5) and moved.version == base().version and moved.time_ns == NOW


def test_sample_can_be_checked():
    mild = ShockedSurface(base(), SurfaceShock(relative=0.2)).sampled()
    at = int(EXPIRIES[1])
    shocked = ShockedSurface(base(), SurfaceShock(relative=0.2))
    np.testing.assert_allclose(mild.vol(STRIKES[1:4], at), shocked.vol(STRIKES[1:4], at), rtol=1e-3)
    upside_down = ShockedSurface(base(), SurfaceShock(absolute=0.6, power=2.0)).sampled()
    assert "calendar" in {f.kind for f in check_arbitrage(upside_down).findings}


def by_hand(forward, strike, years, sigma, call, coin):
    root = sigma * math.sqrt(years)
    d1 = math.log(forward / strike) / root + 0.5 * root
    sign = 1.0 if call else -1.0
    n1, n2 = (0.5 * math.erfc(-sign * d / math.sqrt(2.0)) for d in (d1, d1 - root))
    return sign * (forward * n1 - strike * n2) / (forward if coin else 1.0)


@pytest.mark.parametrize("sticky", ["strike", "moneyness", "delta"])
def test_shocked_surface_feeds_revaluation(sticky):
    """Marks and the profit of a further move are Black-76 by hand at the volatilities after the shock."""
    kinds = [("CALL", 110.0, "call", False), ("PUT", 85.0, "put", False), ("COIN", 75.0, "put", True)]
    contracts = Contracts([Option(name, underlying="BTC", settle="BTC" if coin else "USDC", strike=strike, right=right,
                                  expiry_ns=int(expiry), inverse=coin)
                           for name, strike, right, coin in kinds for expiry in EXPIRIES[:1]])
    at, years = int(EXPIRIES[0]), 7 / 365
    shocked = ShockedSurface(base(), SurfaceShock(spot=-0.1, sticky=sticky, relative=0.25, power=0.3, skew=-0.02))
    market = MarketState(now_ns=NOW, spot={"BTC": 90.0, "USDC": 1.0}, surface={"BTC": shocked},
                         forward={("BTC", at): shocked.forward(at)})
    columns = market.resolve(contracts)
    plan = grid(spot=[0.05], volatility=["same"]).resolve(contracts)
    value, risk = revalue(contracts, columns, plan)
    for name, strike, right, coin in kinds:
        sigma, column = shocked.vol(strike, at), contracts.column[name]
        now, then = (by_hand(90.0 * up, strike, years, sigma, right == "call", coin) for up in (1.0, 1.05))
        assert sigma > base().vol(strike, at)
        assert value[column] == pytest.approx(now, rel=1e-10)
        assert risk[column, 0] == pytest.approx((then - now) * (90.0 if coin else 1.0), rel=1e-8)


@pytest.mark.parametrize(("arguments", "error"), [
    ({"spot": -1.0}, RangeError), ({"sticky": "vega"}, RangeError), ({"relative": -1.1}, RangeError),
    ({"floor": 0.0}, RangeError), ({"ceiling": 1e-9}, RangeError), ({"power": -0.1}, RangeError),
    ({"days_least": 0.0}, RangeError), ({"skew": float("nan")}, NotFiniteError), ({"spot": True}, RangeError),
])
def test_errors(arguments, error):
    with pytest.raises(error):
        SurfaceShock(**arguments)


def test_wrong_types():
    shocked = ShockedSurface(base(), SurfaceShock())
    with pytest.raises(RangeError, match="nodes must be at least 3"):
        shocked.sampled(nodes=-1)
    with pytest.raises(RangeError, match="nodes must be at most 2000"):
        shocked.sampled(nodes=10**30)
    with pytest.raises(RangeError, match="width must be above 0"):
        shocked.sampled(width=-1.0)
    with pytest.raises(ShapeError, match="strike and expiry_ns must broadcast"):
        shocked.vol(STRIKES, EXPIRIES)
    with pytest.raises(RangeError):
        ShockedSurface(None, SurfaceShock())
    with pytest.raises(RangeError):
        ShockedSurface(VolSurface.flat(0.5), SurfaceShock(skew=0.1)).vol(100.0, int(EXPIRIES[0]))
