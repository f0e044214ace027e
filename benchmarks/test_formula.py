"""Implied volatilities, and prices with five greeks: batch, chain and one call, against libraries, numba and NumPy.

Peers are written as a good user would: out-of-the-money side, guarded Newton on the logarithm of the price, SciPy's
normal law.  Every answer is checked before it is timed.
"""

import math

import numpy as np
import pytest

from margincore.kernels import formula, implied

SIZES = {"batch of 100,000": 100_000, "chain of 200": 200}
BATCHES = {"1,000,000 options": 1_000_000, "chain of 200": 200}
ROOT_TWO, ROOT_TWO_PI = math.sqrt(2.0), math.sqrt(2.0 * math.pi)


def options(count, seed=11):
    """|ln(F/K)| <= 1, volatility 0.2 to 2, an hour to a year, out-of-the-money worth at least 1e-8 of the forward."""
    rng = np.random.default_rng(seed)
    kept = [np.empty(0)] * 5
    while len(kept[0]) < count:
        n = 2 * count + 1_000
        forward = rng.uniform(100.0, 100_000.0, n)
        x = rng.uniform(-1.0, 1.0, n)
        sigma, years = rng.uniform(0.2, 2.0, n), np.exp(rng.uniform(np.log(1.0 / 8_760.0), 0.0, n))
        strike, call = forward * np.exp(-x), x < 0.0
        premium = np.empty(n)
        formula.prices(forward, strike, years, sigma, np.zeros(n), call, premium)
        good = premium >= 1e-8 * forward
        kept = [np.concatenate([have, new[good]]) for have, new in zip(
            kept, (forward, strike, years, sigma, call.astype(float)), strict=True)]
    forward, strike, years, sigma, call = (np.ascontiguousarray(column[:count]) for column in kept)
    call = call.astype(bool)
    premium = np.empty(count)
    formula.prices(forward, strike, years, sigma, np.zeros(count), call, premium)
    return forward, strike, years, sigma, call, premium


def numba_newton():
    numba = pytest.importorskip("numba", reason="numba is not installed (the bench extra has it)")

    @numba.njit
    def solve(premium, forward, strike, years, call, out):
        for i in range(len(out)):
            x, price = math.log(forward[i] / strike[i]), premium[i] / forward[i]
            ratio = strike[i] / forward[i]
            sign = 1.0 if call[i] else -1.0
            low, high = 1e-6, 20.0
            width = min(max(math.sqrt(2.0 * abs(x)), 1e-3), 5.0)  # where vega is largest: Newton on the price converges
            target = math.log(price)
            for _ in range(60):
                d1 = x / width + 0.5 * width
                d2 = d1 - width
                value = sign * (0.5 * math.erfc(-sign * d1 / ROOT_TWO) - ratio * 0.5 * math.erfc(-sign * d2 / ROOT_TWO))
                vega = math.exp(-0.5 * d1 * d1) / ROOT_TWO_PI
                if value > price:
                    high = width
                else:
                    low = width
                step = (math.log(value) - target) * value / vega if value > 0.0 and vega > 0.0 else math.inf
                after = width - step
                if not low < after < high:
                    after = 0.5 * (low + high)
                if abs(after - width) <= 1e-15 * width:
                    break
                width = after
            out[i] = width / math.sqrt(years[i])

    return solve


def numpy_newton(premium, forward, strike, years, call):
    from scipy.special import ndtr

    x, price, ratio, sign = np.log(forward / strike), premium / forward, strike / forward, np.where(call, 1.0, -1.0)
    low, high, target = np.full(len(x), 1e-6), np.full(len(x), 20.0), np.log(price)
    width = np.clip(np.sqrt(2.0 * np.abs(x)), 1e-3, 5.0)
    with np.errstate(all="ignore"):
        for _ in range(60):
            d1 = x / width + 0.5 * width
            value = sign * (ndtr(sign * d1) - ratio * ndtr(sign * (d1 - width)))
            above = value > price
            high, low = np.where(above, width, high), np.where(above, low, width)
            after = width - (np.log(value) - target) * value * ROOT_TWO_PI / np.exp(-0.5 * d1 * d1)
            after = np.where((low < after) & (after < high), after, 0.5 * (low + high))
            moved = np.abs(after - width) > 1e-15 * width
            width = after
            if not moved.any():
                break
    return width / np.sqrt(years)


def agree(found, sigma, bar):
    worst = float(np.max(np.abs(found / sigma - 1.0)))
    assert worst <= bar, worst


IMPLIED = [pytest.param(size, id=name, marks=pytest.mark.benchmark(group=f"implied volatility, {name}"))
           for name, size in SIZES.items()]


@pytest.mark.parametrize("size", IMPLIED)
def test_margincore_implied(benchmark, size):
    forward, strike, years, sigma, call, premium = options(size)
    out, status = np.empty(size), np.empty(size, np.uint8)
    implied.volatilities(premium, forward, strike, years, call, out, status)
    agree(out, sigma, 1e-11)
    assert (status == 1).all()
    benchmark(implied.volatilities, premium, forward, strike, years, call, out, status)


@pytest.mark.parametrize("size", IMPLIED)
def test_numba_implied(benchmark, size):
    forward, strike, years, sigma, call, premium = options(size)
    solve, out = numba_newton(), np.empty(size)
    solve(premium, forward, strike, years, call, out)
    agree(out, sigma, 1e-9)
    benchmark(solve, premium, forward, strike, years, call, out)


@pytest.mark.parametrize("size", IMPLIED)
def test_numpy_implied(benchmark, size):
    forward, strike, years, sigma, call, premium = options(size)
    agree(numpy_newton(premium, forward, strike, years, call), sigma, 1e-9)
    benchmark(numpy_newton, premium, forward, strike, years, call)


@pytest.mark.parametrize("size", IMPLIED)
def test_iv_engine_implied(benchmark, size):
    """It takes calls and puts apart, so it is given them apart."""
    engine = pytest.importorskip("iv_engine", reason="iv_engine is not installed (the bench extra has it)")
    forward, strike, years, sigma, call, premium = options(size)
    sides = [(premium[at], forward[at], strike[at], years[at], flag, False) for flag in (True, False)
             for at in [call == flag]]

    def solve():
        return [engine.implied_volatilities(*side) for side in sides]

    agree(np.concatenate(solve()), np.concatenate([sigma[call], sigma[~call]]), 1e-9)
    benchmark(solve)


def call_often(benchmark, call, *arguments):
    """Rounds of a thousand calls, over half a second: one is too short for a clock, and the machine has its phases."""
    benchmark.pedantic(call, arguments, iterations=1_000, rounds=2_000, warmup_rounds=20)


@pytest.mark.benchmark(group="implied volatility, one call")
def test_iv_engine_one_implied(benchmark):
    engine = pytest.importorskip("iv_engine", reason="iv_engine is not installed (the bench extra has it)")
    premium = formula.price(100.0, 110.0, 0.1, 0.6, True)
    assert engine.implied_volatility(premium, 100.0, 110.0, 0.1, True) == pytest.approx(0.6, rel=1e-12)
    call_often(benchmark, engine.implied_volatility, premium, 100.0, 110.0, 0.1, True)


@pytest.mark.benchmark(group="implied volatility, one call")
def test_margincore_one_implied(benchmark):
    premium = formula.price(100.0, 110.0, 0.1, 0.6, True)
    assert implied.volatility(premium, 100.0, 110.0, 0.1, True) == pytest.approx(0.6, rel=1e-13)
    call_often(benchmark, implied.volatility, premium, 100.0, 110.0, 0.1, True)


@pytest.mark.benchmark(group="implied volatility, one call")
def test_nautilus_one_implied(benchmark):
    pyo3 = pytest.importorskip("nautilus_trader.core.nautilus_pyo3", reason="nautilus_trader is not installed")
    premium = formula.price(100.0, 110.0, 0.1, 0.6, True)
    assert pyo3.imply_vol(100.0, 0.0, 0.0, True, 110.0, 0.1, premium) == pytest.approx(0.6, rel=1e-9)
    call_often(benchmark, pyo3.imply_vol, 100.0, 0.0, 0.0, True, 110.0, 0.1, premium)


@pytest.mark.benchmark(group="implied volatility, one call")
def test_scipy_one_implied(benchmark):
    from scipy.optimize import brentq

    premium = formula.price(100.0, 110.0, 0.1, 0.6, True)

    def solve():
        return brentq(lambda sigma: formula.price(100.0, 110.0, 0.1, sigma, True) - premium, 1e-3, 10.0, xtol=1e-14)

    assert solve() == pytest.approx(0.6, rel=1e-11)
    benchmark(solve)


# ---- price and five greeks


def numpy_greeks(forward, strike, years, sigma, call):
    from scipy.special import ndtr

    root = np.sqrt(years)
    width = sigma * root
    d1 = np.log(forward / strike) / width + 0.5 * width
    sign = np.where(call, 1.0, -1.0)
    first, second = ndtr(sign * d1), ndtr(sign * (d1 - width))
    density = np.exp(-0.5 * d1 * d1) / ROOT_TWO_PI
    price = sign * (forward * first - strike * second)
    return (price, sign * first, density / (forward * width), forward * density * root,
            -0.5 * forward * density * sigma / root, -years * price)


def numba_greeks():
    numba = pytest.importorskip("numba", reason="numba is not installed (the bench extra has it)")

    @numba.njit
    def work(forward, strike, years, sigma, call, price, delta, gamma, vega, theta, rho):
        for i in range(len(price)):
            root = math.sqrt(years[i])
            width = sigma[i] * root
            d1 = math.log(forward[i] / strike[i]) / width + 0.5 * width
            sign = 1.0 if call[i] else -1.0
            first = 0.5 * math.erfc(-sign * d1 / ROOT_TWO)
            second = 0.5 * math.erfc(-sign * (d1 - width) / ROOT_TWO)
            density = math.exp(-0.5 * d1 * d1) / ROOT_TWO_PI
            value = sign * (forward[i] * first - strike[i] * second)
            price[i], delta[i], gamma[i] = value, sign * first, density / (forward[i] * width)
            vega[i], theta[i] = forward[i] * density * root, -0.5 * forward[i] * density * sigma[i] / root
            rho[i] = -years[i] * value

    return work


def torch_greeks():
    """One thread, compiled to C++."""
    torch = pytest.importorskip("torch", reason="torch is not installed (the peers extra has it)")
    torch.set_num_threads(1)

    @torch.compile
    def work(forward, strike, years, sigma, sign):
        root = torch.sqrt(years)
        width = sigma * root
        d1 = torch.log(forward / strike) / width + 0.5 * width
        first = 0.5 * torch.erfc(-sign * d1 / ROOT_TWO)
        second = 0.5 * torch.erfc(-sign * (d1 - width) / ROOT_TWO)
        density = torch.exp(-0.5 * d1 * d1) / ROOT_TWO_PI
        price = sign * (forward * first - strike * second)
        return (price, sign * first, density / (forward * width), forward * density * root,
                -0.5 * forward * density * sigma / root, -years * price)

    return torch, work


GREEKS = [pytest.param(size, id=name, marks=pytest.mark.benchmark(group=f"price and greeks, {name}"))
          for name, size in BATCHES.items()]


def ours(size):
    forward, strike, years, sigma, call, _ = options(size)
    return forward, strike, years, sigma, call, [np.empty(size) for _ in range(6)]


def agree_greeks(found, forward, strike, years, sigma, call):
    for mine, theirs in zip(found, numpy_greeks(forward, strike, years, sigma, call), strict=True):
        scale = np.max(np.abs(theirs))
        assert np.max(np.abs(mine - theirs)) <= 1e-12 * scale


@pytest.mark.parametrize("size", GREEKS)
def test_margincore_greeks(benchmark, size):
    forward, strike, years, sigma, call, out = ours(size)
    rate = np.zeros(size)
    formula.greeks(forward, strike, years, sigma, rate, call, *out)
    price, delta, gamma, vega = numpy_greeks(forward, strike, years, sigma, call)[:4]
    for mine, theirs in zip(out, (price, delta, gamma, vega), strict=False):
        assert np.max(np.abs(mine - theirs)) <= 1e-11 * np.max(np.abs(theirs))
    benchmark(formula.greeks, forward, strike, years, sigma, rate, call, *out)


@pytest.mark.parametrize("size", GREEKS)
def test_numba_greeks(benchmark, size):
    forward, strike, years, sigma, call, out = ours(size)
    work = numba_greeks()
    work(forward, strike, years, sigma, call, *out)
    agree_greeks(out, forward, strike, years, sigma, call)
    benchmark(work, forward, strike, years, sigma, call, *out)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", GREEKS)
def test_torch_greeks(benchmark, size):
    forward, strike, years, sigma, call, _ = ours(size)
    torch, work = torch_greeks()
    given = [torch.from_numpy(array) for array in (forward, strike, years, sigma, np.where(call, 1.0, -1.0))]
    agree_greeks([found.numpy() for found in work(*given)], forward, strike, years, sigma, call)
    benchmark(work, *given)


@pytest.mark.parametrize("size", GREEKS)
def test_numpy_greeks(benchmark, size):
    forward, strike, years, sigma, call, _ = ours(size)
    benchmark(numpy_greeks, forward, strike, years, sigma, call)


@pytest.mark.benchmark(group="price and greeks, one call")
def test_margincore_one_greeks(benchmark):
    assert formula.greeks_one(100.0, 110.0, 0.1, 0.6, 0.0, True).price == formula.price(100.0, 110.0, 0.1, 0.6, True)
    call_often(benchmark, formula.greeks_one, 100.0, 110.0, 0.1, 0.6, 0.0, True)


@pytest.mark.benchmark(group="price and greeks, one call")
def test_nautilus_one_greeks(benchmark):
    pyo3 = pytest.importorskip("nautilus_trader.core.nautilus_pyo3", reason="nautilus_trader is not installed")
    found = pyo3.black_scholes_greeks(100.0, 0.0, 0.0, 0.6, True, 110.0, 0.1, 1.0)
    assert found.price == pytest.approx(formula.price(100.0, 110.0, 0.1, 0.6, True), rel=1e-6)
    call_often(benchmark, pyo3.black_scholes_greeks, 100.0, 0.0, 0.0, 0.6, True, 110.0, 0.1, 1.0)


@pytest.mark.benchmark(group="price and greeks, one call")
def test_pure_python_one_greeks(benchmark):
    def work(forward, strike, years, sigma):
        root = math.sqrt(years)
        width = sigma * root
        d1 = math.log(forward / strike) / width + 0.5 * width
        first, second = 0.5 * math.erfc(-d1 / ROOT_TWO), 0.5 * math.erfc(-(d1 - width) / ROOT_TWO)
        density = math.exp(-0.5 * d1 * d1) / ROOT_TWO_PI
        price = forward * first - strike * second
        return (price, first, density / (forward * width), forward * density * root,
                -0.5 * forward * density * sigma / root, -years * price)

    assert work(100.0, 110.0, 0.1, 0.6)[0] == pytest.approx(formula.price(100.0, 110.0, 0.1, 0.6, True), rel=1e-12)
    call_often(benchmark, work, 100.0, 110.0, 0.1, 0.6)
