"""Full surface: 12 expiries x 40 strikes, bid and ask, free of arbitrage; and evaluation of a surface."""

import numpy as np
import pytest

from margincore.arbitrage import check_arbitrage
from margincore.calibration import calibrate, fit_quality
from margincore.option_chain import Chain
from margincore.quotes import chain_quotes
from margincore.surface import VolSurface
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-02-05T16:00")
DAYS = np.array([1, 2, 3, 7, 14, 21, 35, 60, 120, 180, 270, 360])


def truth(level=1.0):
    years = DAYS / 365
    return VolSurface.ssvi(level * 0.36 * years * (1 + 0.3 * np.exp(-4 * years)), NOW + DAYS * NS_PER_DAY, rho=-0.25,
                           eta=1.0, time_ns=NOW, forward=70_000.0 * (1 + 0.03 * years), spot=70_000.0)


def chain_of(level, seed):
    """The out-of-the-money side of 40 strikes per expiry, coin-settled, quotes off the smile by half a half spread."""
    from margincore.kernels.formula import price_inverse
    surface, rng = truth(level), np.random.default_rng(seed)
    columns = {name: [] for name in ("expiry_ns", "strike", "is_call", "bid", "ask", "future")}
    for expiry, forward, days in zip(surface.expiry_ns.tolist(), surface.forwards.tolist(), DAYS.tolist(), strict=True):
        strikes = np.round(forward * np.exp(np.linspace(-2.5, 2.0, 40) * 0.6 * np.sqrt(days / 365)), 0)
        for strike, sigma in zip(strikes.tolist(), surface.vol(strikes, expiry).tolist(), strict=True):
            call = strike >= forward
            price = price_inverse(forward, strike, days / 365, sigma, call)
            half = 0.0001 + 0.015 * price
            middle = price + 0.5 * half * rng.uniform(-1, 1)
            for name, value in zip(columns, (expiry, strike, call, max(middle - half, 0.0), middle + half, forward),
                                   strict=True):
                columns[name].append(value)
    return Chain(underlying="BTC", time_ns=NOW, inverse=True, spot=70_000.0, **columns)


@pytest.fixture(scope="module")
def quotes():
    return chain_quotes(chain_of(1.0, 2))


@pytest.fixture(scope="module")
def before():
    return calibrate(chain_of(0.97, 1))


def least_squares_per_slice(quotes, method, start=None):
    """Raw SVI rows by scipy, the Jacobian given: "trf" holds the parameters in their ranges, "lm" knows no bounds."""
    least_squares = pytest.importorskip("scipy.optimize", reason="scipy is not installed").least_squares
    box = {} if method == "lm" else {"bounds": ([-np.inf, 0, -0.9999, -3, 1e-5], [np.inf, np.inf, 0.9999, 3, 10])}
    rows = np.empty((quotes.years.size, 5))
    for i, years in enumerate(quotes.years):
        part = slice(quotes.start[i], quotes.start[i + 1])
        told = quotes.low[part] > 0
        k, low, high = quotes.log_moneyness[part][told], quotes.low[part][told], quotes.high[part][told]
        middle, weight = 0.5 * (low + high), quotes.weight[part][told]

        def off(x, k=k, middle=middle, weight=weight):
            d = k - x[3]
            return (x[0] + x[1] * (x[2] * d + np.sqrt(d * d + x[4] * x[4])) - middle) * weight

        def slopes(x, k=k, weight=weight):
            d = k - x[3]
            s = np.sqrt(d * d + x[4] * x[4])
            return np.column_stack([np.ones(k.size), x[2] * d + s, x[1] * d, -x[1] * (x[2] + d / s), x[1] * x[4] / s]
                                   ) * weight[:, None]

        first = start[i] if start is not None else np.array(
            [0.6 * middle.min(), 0.2 * np.sqrt(years), -0.1, 0.0, 0.2 * np.ptp(k)])
        rows[i] = least_squares(off, first, jac=slopes, method=method, x_scale="jac", **box).x
    return rows


def share(fits):
    return sum(f.inside for f in fits) / sum(f.two_sided for f in fits)


def distance(quotes, rows, others):
    """How far two fits are apart at the quotes, in half spreads."""
    counts = np.diff(quotes.start)
    w = []
    for fitted in (rows, others):
        a, b, rho, m, sigma = (np.repeat(column, counts) for column in fitted.T)
        d = quotes.log_moneyness - m
        w.append(a + b * (rho * d + np.sqrt(d * d + sigma * sigma)))
    return float(np.max(np.abs(w[0] - w[1]) * quotes.weight))


@pytest.mark.benchmark(group="full surface, 12 expiries x 40 strikes")
@pytest.mark.parametrize("who", [f"{name}, {start}" for start in ("cold", "warm") for name in (
    "margincore", "scipy least_squares trf per slice", "scipy least_squares lm per slice")])
def test_surface(benchmark, quotes, before, who):
    previous = before if who.endswith("warm") else None
    ours = calibrate(quotes, previous=previous)
    assert share(ours.fit) > 0.95 and check_arbitrage(ours).clean
    if who.startswith("margincore"):
        benchmark(calibrate, quotes, previous=previous)
        return
    start = None if previous is None else before.rows
    rows = benchmark(least_squares_per_slice, quotes, who.split()[2], start)
    assert share(fit_quality(rows, quotes)) > 0.95 and distance(quotes, rows, ours.rows) < 0.05


@pytest.mark.benchmark(group="chain to surface, left-out rows and forwards included")
def test_chain_to_surface_margincore_warm(benchmark, quotes, before):
    surface = benchmark(calibrate, quotes.chain, previous=before)
    assert surface == calibrate(quotes, previous=before)


@pytest.mark.benchmark(group="surface evaluation, 1,000 volatilities on 12 expiries")
@pytest.mark.parametrize("who", ["margincore", "margincore between expiries", "numpy"])
def test_evaluation(benchmark, before, who):
    rng = np.random.default_rng(6)
    when = before.expiry_ns[rng.integers(0, 12, 1000)]
    strikes = rng.uniform(40_000, 120_000, 1000)

    def by_hand():
        at = np.searchsorted(before.expiry_ns, when)
        a, b, rho, m, sigma = before.rows[at].T
        forward, years = before.forwards[at], (when - NOW) / (365 * NS_PER_DAY)
        x = np.log(strikes / forward) - m
        return np.sqrt((a + b * (rho * x + np.sqrt(x * x + sigma * sigma))) / years)

    np.testing.assert_allclose(before.vol(strikes, when), by_hand(), rtol=1e-9)
    if who == "numpy":
        benchmark(by_hand)
    elif who == "margincore":
        benchmark(before.vol, strikes, when)
    else:
        benchmark(before.vol, strikes, when - NS_PER_DAY // 2)
