"""VaR and ES of one vector, and historical simulation of many portfolios: peers in the same groups."""

import numpy as np
import pytest

import margincore as mc
from margincore.kernels import risk as kernel

LEVEL = 0.99


def numpy_tail(pnl, k=20):
    lowest = np.partition(pnl, k - 1)[:k]
    return -lowest[k - 1], -lowest.mean()


def numba_tail():
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def tail(pnl, k):
        lowest = np.empty(k)
        held = 0
        for value in pnl:
            if held == k and value >= lowest[k - 1]:
                continue
            at = held if held < k else k - 1
            while at > 0 and lowest[at - 1] > value:
                lowest[at] = lowest[at - 1]
                at -= 1
            lowest[at] = value
            held = min(held + 1, k)
        return -lowest[k - 1], -lowest.mean()

    return tail


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(4).standard_t(4, (200, 2000))


@pytest.mark.benchmark(group="VaR + ES of 2,000 values, 200 rows")
@pytest.mark.parametrize("who", ["margincore", "numpy", "numba"])
def test_tail_of_rows(benchmark, rows, who):
    out, code = np.empty((len(rows), 4)), np.empty(len(rows), np.int32)
    kernel.tail_losses(rows, LEVEL, out, code)
    if who == "margincore":
        benchmark(kernel.tail_losses, rows, LEVEL, out, code)
        return
    tail = numpy_tail if who == "numpy" else numba_tail()
    for row, expected in zip(rows, out, strict=True):
        assert tail(row, 20) == pytest.approx(expected[[0, 3]], rel=1e-13)
    benchmark(lambda: [tail(row, 20) for row in rows])


@pytest.mark.benchmark(group="VaR + ES of 10,000 values at 97.5 %, 50 rows")
@pytest.mark.parametrize("who", ["margincore", "numpy", "numba"])
def test_deep_tail_of_rows(benchmark, who):
    rows = np.random.default_rng(6).standard_t(4, (50, 10_000))
    out, code = np.empty((len(rows), 4)), np.empty(len(rows), np.int32)
    kernel.tail_losses(rows, 0.975, out, code)
    if who == "margincore":
        benchmark(kernel.tail_losses, rows, 0.975, out, code)
        return
    tail = numpy_tail if who == "numpy" else numba_tail()
    for row, expected in zip(rows, out, strict=True):
        assert tail(row, 250) == pytest.approx(expected[[0, 3]], rel=1e-13)
    benchmark(lambda: [tail(row, 250) for row in rows])


@pytest.mark.benchmark(group="VaR + ES of 2,000 values, one call")
@pytest.mark.parametrize("who", ["margincore kernel", "margincore tail_risk", "numpy", "numba"])
def test_tail_of_one_vector(benchmark, rows, who):
    pnl = rows[0].copy()
    expected = mc.tail_risk(pnl, LEVEL)
    if who == "margincore kernel":
        benchmark(kernel.tail_loss, pnl, LEVEL)
    elif who == "margincore tail_risk":
        benchmark(mc.tail_risk, pnl, LEVEL)
    else:
        tail = numpy_tail if who == "numpy" else numba_tail()
        assert tail(pnl, 20) == pytest.approx(expected, rel=1e-13)
        benchmark(tail, pnl, 20)


@pytest.fixture(scope="module")
def book():
    rng = np.random.default_rng(5)
    risk = rng.standard_t(4, (500, 2000))
    dense = rng.standard_normal((1000, 500))
    held = np.argsort(rng.random((1000, 500)), axis=1)[:, :50]
    sparse = np.zeros_like(dense)
    np.put_along_axis(sparse, held, rng.standard_normal(held.shape), axis=1)
    return risk, dense, sparse


def numpy_simulation(quantity, risk, k=20):
    """In blocks of 50 portfolios, which is faster than one product of all."""
    loss = np.empty(len(quantity))
    for at in range(0, len(quantity), 50):
        lowest = np.partition(quantity[at:at + 50] @ risk, k - 1, axis=1)[:, :k]
        loss[at:at + 50] = -lowest.mean(axis=1)
    return loss


@pytest.mark.benchmark(group="historical simulation, 2,000 scenarios x 500 instruments x 1,000 portfolios")
@pytest.mark.parametrize("who", ["margincore, all held", "numpy, all held", "margincore, 50 held", "numpy, 50 held"])
def test_historical_simulation(benchmark, book, who):
    risk, dense, sparse = book
    quantity = dense if "all" in who else sparse
    measure = mc.ExpectedShortfall(LEVEL)
    if who.startswith("margincore"):
        benchmark.pedantic(mc.portfolio_losses, (quantity, risk, measure), rounds=5, warmup_rounds=1)
    else:
        assert numpy_simulation(quantity, risk) == pytest.approx(mc.portfolio_losses(quantity, risk, measure).loss)
        benchmark.pedantic(numpy_simulation, (quantity, risk), rounds=5, warmup_rounds=1)
