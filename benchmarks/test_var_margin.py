"""Margin by value at risk: one order on a hot row and on any row, and all accounts in one call; peers in the groups."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from margincore.kernels.hot import HotRow
from margincore.kernels.margin import MarginBook

INSTRUMENTS, POSITIONS, SCENARIOS, ACCOUNTS, LEVEL, K = 200, 10, 1_000, 10_000, 0.99, 10


def market():
    random = np.random.default_rng(21)
    value = np.concatenate([[1.0], random.uniform(10.0, 1_000.0, INSTRUMENTS)])
    risk = np.ascontiguousarray(value[:, None] * 0.03 * random.standard_t(4, (INSTRUMENTS + 1, SCENARIOS)))
    risk[0] = 0.0
    return value, risk


def entries_of(accounts, value):
    """Random accounts as `load` takes them: one deposit, then trades in different instruments."""
    random = np.random.default_rng(2)
    column = np.zeros((accounts, POSITIONS + 1), np.int32)
    column[:, 1:] = 1 + np.sort(np.argsort(random.random((accounts, INSTRUMENTS)), axis=1)[:, :POSITIONS], axis=1)
    quantity = random.normal(0.0, 1.0, column.shape) * 1e5 / value[column]
    price = value[column] * random.uniform(0.95, 1.05, column.shape)
    quantity[:, 0] = 1e5 * random.uniform(0.05, 1.0, accounts)
    start = np.arange(accounts + 1, dtype=np.int64) * (POSITIONS + 1)
    return start, column.ravel(), quantity.ravel(), price.ravel()


def book_of(accounts, measure="value at risk"):
    value, risk = market()
    columns = INSTRUMENTS + 1
    book = MarginBook(accounts, accounts * (POSITIONS + 1), POSITIONS + 1, 1, range(columns), [0] * columns,
                      [0] + [1] * INSTRUMENTS, [1.0] * columns, [0] * columns)
    book.set_plan([(measure, "tail", (1.0, 1.3, 1.0, 0.0, 0.0, 0.0, LEVEL, SCENARIOS, 0, 0, 0, 0), None)])
    none = np.zeros(columns)
    book.set_market(value, [1.0], [1.0], [0], risk, range(columns), np.ones(columns, int), none, none, none, none)
    book.load(*entries_of(accounts, value))
    return book


@pytest.fixture(scope="module")
def books():
    return {measure: book_of(1_000, measure) for measure in ("value at risk", "expected shortfall")}


def numpy_what_if(book, row, shortfall):
    """The same question in NumPy, the row's arrays ready."""
    value, risk = market()
    column, quantity, entry, _, _ = book.read(row)
    cash, column, quantity, entry = quantity[0], column[1:], quantity[1:].copy(), entry[1:].copy()
    held = np.ascontiguousarray(risk[column])
    mark = value[column]

    def what_if(at, added, price):
        after, paid = quantity.copy(), entry.copy()
        after[at] += added
        paid[at] += added * price
        lowest = np.partition(after @ held, K - 1)[:K]
        maintenance = max(-lowest.mean() if shortfall else -lowest[K - 1], 0.0)
        equity = cash + (after * mark - paid).sum()
        return 3 if equity >= 1.3 * maintenance and equity > maintenance else 2 if equity > maintenance else 1

    return what_if


def numba_tail():
    """Numba, and its compiled insertion of all P&L into the K lowest."""
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def insert(pnl, lowest):
        lowest[:] = np.inf
        for x in pnl:
            if x < lowest[K - 1]:
                place = K - 1
                while place > 0 and lowest[place - 1] > x:
                    lowest[place] = lowest[place - 1]
                    place -= 1
                lowest[place] = x

    return numba, insert


def numba_what_if(book, row, shortfall):
    numba, insert = numba_tail()
    value, risk = market()
    column, quantity, entry, _, _ = book.read(row)
    cash, column, quantity, entry = quantity[0], column[1:].copy(), quantity[1:].copy(), entry[1:].copy()
    held, mark = np.ascontiguousarray(risk[column]), value[column]

    @numba.njit
    def answer(at, added, price, cash, quantity, entry, mark, held, shortfall):
        pnl = np.zeros(held.shape[1])
        equity = cash
        for k in range(len(quantity)):
            q = quantity[k] + (added if k == at else 0.0)
            equity += q * mark[k] - entry[k] - (added * price if k == at else 0.0)
            for s in range(len(pnl)):
                pnl[s] += q * held[k, s]
        lowest = np.empty(K)
        insert(pnl, lowest)
        maintenance = max(-lowest.mean() if shortfall else -lowest[K - 1], 0.0)
        return 3 if equity >= 1.3 * maintenance and equity > maintenance else 2 if equity > maintenance else 1

    return lambda at, added, price: answer(at, added, price, cash, quantity, entry, mark, held, shortfall)


@pytest.mark.benchmark(group="VaR margin, one order, 10 positions x 1,000 scenarios, from Python")
@pytest.mark.parametrize(("who", "measure"), [
    pytest.param(who, measure, id=f"{who}, {measure}") for measure in ("value at risk", "expected shortfall")
    for who in ("margincore hot row", "margincore any row", "numpy", "numba")])
def test_one_order(benchmark, books, measure, who):
    book, shortfall = books[measure], measure == "expected shortfall"
    row, sizes = 7, (-3_000.0, -40.0, 12.0, 500.0, 4_000.0)
    place = 4
    column = int(book.read(row)[0][1 + place])
    hot = HotRow(book, row)
    peer = (numba_what_if if who == "numba" else numpy_what_if)(book, row, shortfall)
    for size in sizes:
        assert peer(place, size, 300.0) == book.what_if(row, column, size, 300.0) == hot.what_if(column, size, 300.0)
    calls = {"margincore hot row": (hot.what_if, (column, 12.0, 300.0)),
             "margincore any row": (book.what_if, (row, column, 12.0, 300.0))}
    call, arguments = calls.get(who, (peer, (place, 12.0, 300.0)))
    benchmark.pedantic(call, arguments, rounds=200, iterations=200, warmup_rounds=5)
    assert hot.afresh == 0


@pytest.mark.benchmark(group="VaR margin, 10,000 accounts x 10 positions x 1,000 scenarios, 2 threads")
def test_margincore_all_accounts_on_two_threads(benchmark):
    book = book_of(ACCOUNTS)
    arrays = [np.empty(ACCOUNTS, np.uint8), *(np.empty(ACCOUNTS) for _ in range(3))]
    halves = [(0, ACCOUNTS // 2), (ACCOUNTS // 2, ACCOUNTS)]
    with ThreadPoolExecutor(2) as pool:
        def both():
            for done in [pool.submit(book.check_range, a, b, *(array[a:b] for array in arrays)) for a, b in halves]:
                done.result()

        both()
        whole = [np.empty_like(array) for array in arrays]
        book.check_range(0, ACCOUNTS, *whole)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, arrays, strict=True))
        benchmark.pedantic(both, rounds=10, warmup_rounds=1)


def numpy_table(value, risk, start, column, quantity, price, shortfall=False):
    column, quantity, price = (array.reshape(-1, POSITIONS + 1) for array in (column, quantity, price))
    out = np.empty((len(column), 2))
    for at in range(0, len(column), 100):       # blocks that stay in the cache
        part = slice(at, at + 100)
        dense = np.zeros((len(column[part]), len(value)))
        np.put_along_axis(dense, column[part], quantity[part], axis=1)
        lowest = np.partition(dense @ risk, K - 1, axis=1)
        out[part, 1] = np.maximum(-lowest[:, K - 1], 0.0)
        held = column[part, 1:]
        out[part, 0] = quantity[part, 0] + (quantity[part, 1:] * (value[held] - price[part, 1:])).sum(axis=1)
    return out


def numba_table():
    numba, insert = numba_tail()

    @numba.njit
    def table(value, risk, start, column, quantity, price, out):
        pnl = np.empty(risk.shape[1])
        lowest = np.empty(K)
        for row in range(len(start) - 1):
            pnl[:] = 0.0
            equity = quantity[start[row]]
            for k in range(start[row] + 1, start[row + 1]):
                q, unit = quantity[k], risk[column[k]]
                equity += q * (value[column[k]] - price[k])
                for s in range(len(pnl)):
                    pnl[s] += q * unit[s]
            insert(pnl, lowest)
            out[row, 0], out[row, 1] = equity, max(-lowest[K - 1], 0.0)

    return table


@pytest.mark.benchmark(group="VaR margin, 10,000 accounts x 10 positions x 1,000 scenarios, 1 thread")
@pytest.mark.parametrize("who", ["margincore", "numpy", "numba"])
def test_all_accounts(benchmark, who):
    value, risk = market()
    entries = entries_of(ACCOUNTS, value)
    book = book_of(ACCOUNTS)
    status, numbers = np.empty(ACCOUNTS, np.uint8), [np.empty(ACCOUNTS) for _ in range(3)]
    book.check_range(0, ACCOUNTS, status, *numbers)
    if who == "margincore":
        benchmark.pedantic(book.check_range, (0, ACCOUNTS, status, *numbers), rounds=10, warmup_rounds=1)
        return
    if who == "numpy":
        found = numpy_table(value, risk, *entries)
        arguments, call = (value, risk, *entries), numpy_table
    else:
        found, call = np.empty((ACCOUNTS, 2)), numba_table()
        arguments = (value, risk, *entries, found)
        call(*arguments)
    np.testing.assert_allclose(found[:, 0], numbers[0], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], numbers[2], rtol=1e-9, atol=1e-6)
    benchmark.pedantic(call, arguments, rounds=3 if who == "numpy" else 10, warmup_rounds=0)
