"""Risk arrays of an option chain: a full grid, and scattered scenarios of one volatility."""

import numpy as np
import pytest

from margincore.contracts import Contracts, Option
from margincore.market import MarketState
from margincore.revaluation import revalue, shocked_volatilities
from margincore.scenarios import grid
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-03-01T08:00")
SPOT = 100_000.0
SIZES = {"1,000 options x 48 scenarios": (1_000, 16, ("down", "same", "up")),
         "500 options x (20 x 3) grid": (500, 20, ("down", "same", "up")),
         "500 options x 16 scenarios": (500, 16, ("same",))}


def case(options, moves, volatility):
    random = np.random.default_rng(11)
    contracts = Contracts([
        Option(f"O{i}", underlying="BTC", settle="USDC", strike=float(SPOT * np.exp(random.uniform(-0.7, 0.7))),
               expiry_ns=NOW + int(random.uniform(1.0, 400.0) * NS_PER_DAY), right=("call", "put")[i % 2])
        for i in range(options)])
    market = MarketState(now_ns=NOW, spot={"BTC": SPOT, "USDC": 1.0}, volatility={
        item.symbol: float(random.uniform(0.3, 1.2)) for item in contracts.derivatives})
    columns = market.resolve(contracts)
    plan = grid(spot=np.linspace(-0.3, 0.3, moves), volatility=volatility).resolve(contracts)
    out = np.empty(len(contracts)), np.empty((len(contracts), len(plan)))
    return contracts, columns, plan, out


def by_numpy(forward, strike, root, is_call, sigma_now, sigma, move):
    """Broadcast Black-76, shocked volatilities given: what a good user would write."""
    from scipy.special import ndtr

    def black(at, volatility):
        v = volatility * root
        d1 = np.log(at / strike) / v + 0.5 * v
        call = at * ndtr(d1) - strike * ndtr(d1 - v)
        return np.where(is_call, call, call - at + strike)

    return black(forward * (1.0 + move), sigma) - black(forward, sigma_now)


def inputs(contracts, columns, plan):
    count, at = len(plan), slice(len(contracts.assets), None)
    sigma = shocked_volatilities(contracts, columns, plan)[at][:, plan.node[:count]]
    column = [array[at, None] for array in (columns.forward, contracts.strike, np.sqrt(columns.years),
                                            contracts.is_call.astype(bool), columns.sigma)]
    return (*column, np.ascontiguousarray(sigma), plan.move[contracts.underlyings.index("BTC")][None, :count])


def in_numba():
    numba = pytest.importorskip("numba")
    import math

    @numba.njit(error_model="numpy")
    def black(forward, strike, root, is_call, sigma):
        v = sigma * root
        d1 = math.log(forward / strike) / v + 0.5 * v
        call = 0.5 * (forward * math.erfc(-d1 * math.sqrt(0.5)) - strike * math.erfc((v - d1) * math.sqrt(0.5)))
        return call if is_call else call - forward + strike

    @numba.njit(error_model="numpy")
    def table(forward, strike, root, is_call, sigma_now, sigma, move):
        out = np.empty(sigma.shape)
        for i in range(sigma.shape[0]):
            now = black(forward[i, 0], strike[i, 0], root[i, 0], is_call[i, 0], sigma_now[i, 0])
            for s in range(sigma.shape[1]):
                moved = forward[i, 0] * (1.0 + move[0, s])
                out[i, s] = black(moved, strike[i, 0], root[i, 0], is_call[i, 0], sigma[i, s]) - now
        return out

    return table


def in_torch(*arguments):
    """One thread, compiled to C++."""
    torch = pytest.importorskip("torch", reason="torch is not installed (the peers extra has it)")
    torch.set_num_threads(1)

    def black(forward, strike, root, is_call, sigma):
        v = sigma * root
        d1 = torch.log(forward / strike) / v + 0.5 * v
        call = 0.5 * (forward * torch.erfc(-d1 * 0.5**0.5) - strike * torch.erfc((v - d1) * 0.5**0.5))
        return torch.where(is_call, call, call - forward + strike)

    @torch.compile
    def table(forward, strike, root, is_call, sigma_now, sigma, move):
        now = black(forward, strike, root, is_call, sigma_now)
        return black(forward * (1.0 + move), strike, root, is_call, sigma) - now

    return table, [torch.from_numpy(np.ascontiguousarray(array)) for array in arguments]


groups = pytest.mark.parametrize("size", [
    pytest.param(size, id=name, marks=pytest.mark.benchmark(group=f"revaluation of {name}"))
    for name, size in SIZES.items()])


@groups
def test_margincore(benchmark, size):
    contracts, columns, plan, out = case(*size)
    _, risk = benchmark(revalue, contracts, columns, plan, out=out)
    np.testing.assert_allclose(risk[len(contracts.assets):], by_numpy(*inputs(contracts, columns, plan)),
                               rtol=0.0, atol=1e-14 * SPOT)


@groups
def test_numpy(benchmark, size):
    pytest.importorskip("scipy")
    contracts, columns, plan, _ = case(*size)
    benchmark(by_numpy, *inputs(contracts, columns, plan))


@groups
def test_numba(benchmark, size):
    table = in_numba()
    contracts, columns, plan, _ = case(*size)
    arguments = inputs(contracts, columns, plan)
    np.testing.assert_allclose(table(*arguments), by_numpy(*arguments), rtol=0.0, atol=1e-14 * SPOT)
    benchmark(table, *arguments)


@pytest.mark.filterwarnings("ignore")
@groups
def test_torch(benchmark, size):
    contracts, columns, plan, _ = case(*size)
    arguments = inputs(contracts, columns, plan)
    table, given = in_torch(*arguments)
    np.testing.assert_allclose(table(*given).numpy(), by_numpy(*arguments), rtol=0.0, atol=1e-14 * SPOT)
    benchmark(table, *given)
