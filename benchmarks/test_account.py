"""The account plane: one account, one what-if, a million accounts; scenario margin and tiers, peers in the groups.

Markets are set on the kernel itself, so that a figure here is the kernel's alone.
"""

import importlib.util
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from margincore.kernels.margin import MarginBook

ACCOUNTS = 1_000_000
UNDERLYINGS, INSTRUMENTS, SCENARIOS, POSITIONS = 4, 200, 16, 10
TIERS = np.array([[0.0, 0.004, 0.0, 0.02], [5e4, 0.005, 50.0, 0.03], [2.5e5, 0.01, 1_300.0, 0.05],
                  [1e6, 0.025, 16_300.0, 0.1], [5e6, 0.05, 141_300.0, 0.2]])


def scenario_market():
    random = np.random.default_rng(11)
    columns = 1 + INSTRUMENTS
    group = np.concatenate([[0], 1 + np.arange(INSTRUMENTS) % UNDERLYINGS]).astype(np.int32)
    value = np.concatenate([[1.0], random.uniform(10.0, 1_000.0, INSTRUMENTS)])
    move = np.linspace(-0.16, 0.16, SCENARIOS)
    risk = value[:, None] * move * random.uniform(0.5, 1.5, (columns, 1))
    risk += random.normal(0.0, 2.0, risk.shape)
    risk[0] = 0.0
    return group, value, np.ascontiguousarray(risk)


def scenario_book(rows, entries):
    group, value, risk = scenario_market()
    columns = len(value)
    rank = np.argsort(np.lexsort((np.arange(columns), group)))
    book = MarginBook(rows, rows * (POSITIONS + 1), POSITIONS + 1, 1, rank, [0] * columns, [0] + [1] * INSTRUMENTS,
                      [1.0] * columns, [0] * columns)
    book.set_plan([("scan", "scenario loss", (1.0, 1.3, 1.0, 0.0), None)])
    none = np.zeros(columns)
    book.set_market(value, [1.0], [1.0], [0], risk, group, group, none, none, none, none)
    book.load(*entries)
    return book


def entries_of(accounts, positions, value, size, seed=2):
    """Random accounts as `load` takes them: one deposit, then `positions` trades in different instruments."""
    random = np.random.default_rng(seed)
    instruments = len(value) - 1
    column = np.zeros((accounts, positions + 1), np.int32)
    first = random.integers(0, instruments, accounts)
    stride = random.integers(1, instruments // positions, accounts)
    column[:, 1:] = 1 + (first[:, None] + stride[:, None] * np.arange(positions)) % instruments
    quantity = random.normal(0.0, 1.0, column.shape) * size / value[column]
    price = value[column] * random.uniform(0.95, 1.05, column.shape)
    quantity[:, 0] = size * random.uniform(0.05, 1.0, accounts)
    start = np.arange(accounts + 1, dtype=np.int64) * (positions + 1)
    return start, column.ravel(), quantity.ravel(), price.ravel()


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A compiled class whose methods do nothing: what a call from Python costs."""
    cython = pytest.importorskip("Cython.Build", reason="Cython is not installed")
    from setuptools import Distribution, Extension

    folder = tmp_path_factory.mktemp("empty")
    source = folder / "empty_methods.pyx"
    source.write_text(textwrap.dedent("""\
        # cython: language_level=3, binding=True
        cdef class Empty:
            def status(self, long long row):
                return 0

            def what_if(self, long long row, int column, double quantity, double price, double fee=0.0):
                return 0
    """))
    modules = cython.cythonize([Extension("empty_methods", [str(source)])], build_dir=str(folder), quiet=True)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    spec = importlib.util.spec_from_file_location("empty_methods", next(folder.rglob("empty_methods*.so")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Empty()


# ---- one account ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def one():
    _, value, _ = scenario_market()
    return scenario_book(1_000, entries_of(1_000, POSITIONS, value, 1e5))


def numpy_check(book, row):
    """The same account in NumPy: arrays ready, sorted by group."""
    group, value, risk = scenario_market()
    column, quantity, entry, _, _ = book.read(row)
    cash, column, quantity, entry = quantity[0], column[1:], quantity[1:], entry[1:]
    borders = np.flatnonzero(np.diff(group[column], prepend=-1))

    def check():
        pnl = np.add.reduceat(quantity[:, None] * risk[column], borders, axis=0)
        maintenance = np.maximum(-pnl.min(axis=1), 0.0).sum()
        equity = cash + (quantity * value[column] - entry).sum()
        status = 3 if equity >= 1.3 * maintenance and equity > maintenance else 2 if equity > maintenance else 1
        return equity, 1.3 * maintenance, maintenance, status

    return check


@pytest.mark.benchmark(group="one account, 10 positions x 16 scenarios, loop in C")
@pytest.mark.parametrize("who", ["margincore", "numpy"])
def test_one_account_in_a_loop(benchmark, one, who):
    check = numpy_check(one, 7)
    assert check() == pytest.approx(one.check(7), rel=1e-12)
    if who == "margincore":
        benchmark.extra_info["items"] = 10_000
        benchmark(one.repeat, 7, 10_000)
    else:
        benchmark(check)


@pytest.mark.benchmark(group="one account, 10 positions x 16 scenarios, called from Python")
@pytest.mark.parametrize("who", ["margincore", "empty method", "numpy"])
def test_one_account_called(benchmark, one, empty, who):
    call = {"margincore": one.status, "empty method": empty.status}.get(who)
    assert numpy_check(one, 7)()[3] == one.status(7)
    if call is None:
        benchmark(numpy_check(one, 7))
    else:
        benchmark.pedantic(call, (7,), rounds=500, iterations=2_000, warmup_rounds=20)


def show_p99(benchmark, call, *arguments):
    """The 99th percentile of single calls, less the clock's own median, beside the median of the group."""
    clock = time.perf_counter_ns
    taken = np.empty(50_000)
    for at in range(len(taken)):
        begin = clock()
        call(*arguments)
        taken[at] = clock() - begin
    own = np.empty(10_000)
    for at in range(len(own)):
        begin = clock()
        own[at] = clock() - begin
    benchmark.extra_info["p99_ns"] = float(np.percentile(taken, 99) - np.median(own))


@pytest.mark.benchmark(group="what-if of one order, 10 positions x 16 scenarios")
@pytest.mark.parametrize("who", ["margincore", "empty method"])
def test_what_if(benchmark, one, empty, who):
    column = int(one.read(7)[0][5])
    call = one.what_if if who == "margincore" else empty.what_if
    twin = scenario_book(1_000, entries_of(1_000, POSITIONS, scenario_market()[1], 1e5))
    twin.trade(7, column, 12.0, 500.0)
    assert one.what_if(7, column, 12.0, 500.0) == twin.status(7)
    show_p99(benchmark, call, 7, column, 12.0, 500.0)
    benchmark.pedantic(call, (7, column, 12.0, 500.0), rounds=500, iterations=2_000, warmup_rounds=20)


# ---- tiers ------------------------------------------------------------------------------------------------------

def tier_market():
    value = np.concatenate([[1.0], np.random.default_rng(5).uniform(10.0, 1_000.0, 64)])
    scale = np.random.default_rng(6).uniform(0.5, 2.0, 65)
    table = np.zeros((65, 5, 4))
    table[1:] = TIERS
    table[1:, :, [0, 2]] *= scale[1:, None, None]
    return value, table


def tier_book(accounts, entries):
    value, table = tier_market()
    book = MarginBook(accounts, accounts * 5, 5, 1, range(65), [0] * 65, [0] + [1] * 64, [1.0] * 65, [0] * 65)
    book.set_plan([("tiers", "tiers", (0.0,), table)])
    none = np.zeros(65)
    book.set_market(value, [1.0], [1.0], [0], np.zeros((65, 1)), range(65), range(65), value, none, none, none)
    book.load(*entries)
    return book


def compressed(entries, accounts):
    """The same accounts as compressed rows: balance, start, instrument, quantity, entry price."""
    _, column, quantity, price = (array.reshape(accounts, -1) if k else array for k, array in enumerate(entries))
    start = np.arange(accounts + 1, dtype=np.int64) * 4
    return (quantity[:, 0].copy(), start, column[:, 1:].ravel().copy(), quantity[:, 1:].ravel().copy(),
            price[:, 1:].ravel().copy())


def numba_flags():
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit(nogil=True)
    def flags(balance, start, column, quantity, price, mark, table, out):
        for row in range(len(balance)):
            equity, maintenance = balance[row], 0.0
            for k in range(start[row], start[row + 1]):
                at, q = column[k], quantity[k]
                equity += q * (mark[at] - price[k])
                notional = abs(q) * mark[at]
                tier = 0
                while tier + 1 < table.shape[1] and notional >= table[at, tier + 1, 0]:
                    tier += 1
                maintenance += notional * table[at, tier, 1] - table[at, tier, 2]
            out[row] = not equity > maintenance

    return flags


def numpy_flags(balance, start, column, quantity, price, mark, table, out):
    notional = np.abs(quantity) * mark[column]
    maintenance = notional * table[column, 0, 1]
    for tier in range(1, table.shape[1]):
        np.maximum(maintenance, notional * table[column, tier, 1] - table[column, tier, 2], out=maintenance)
    equity = balance + np.add.reduceat(quantity * (mark[column] - price), start[:-1])
    np.less_equal(equity, np.add.reduceat(maintenance, start[:-1]), out=out)


def python_flag(balance, positions, mark, table):
    equity, maintenance = balance, 0.0
    for at, q, price in positions:
        equity += q * (mark[at] - price)
        notional = abs(q) * mark[at]
        best = 0.0
        for _, rate, amount, _ in table[at]:
            line = rate * notional - amount
            if line > best:
                best = line
        maintenance += best
    return not equity > maintenance


@pytest.mark.benchmark(group="one account, 4 tiered positions, flag from Python")
@pytest.mark.parametrize("who", ["margincore", "numba", "numpy", "pure Python"])
def test_one_tiered_account(benchmark, who):
    value, table = tier_market()
    entries = entries_of(64, 4, value, 1e5)
    book, arrays = tier_book(64, entries), compressed(entries, 64)
    row = 3
    part = (arrays[0][row:row + 1].copy(), np.array([0, 4]),
            *(array[row * 4:row * 4 + 4].copy() for array in arrays[2:]))
    out = np.empty(1, bool)
    numpy_flags(*part, value, table, out)
    assert out[0] == (book.status(row) == 1)
    positions = list(zip(*(array.tolist() for array in part[2:]), strict=True))
    if who == "margincore":
        benchmark.pedantic(book.status, (row,), rounds=500, iterations=2_000, warmup_rounds=20)
    elif who == "numba":
        benchmark(numba_flags(), *part, value, table, out)
        assert out[0] == (book.status(row) == 1)
    elif who == "numpy":
        benchmark(numpy_flags, *part, value, table, out)
    else:
        arguments = float(part[0][0]), positions, value.tolist(), table.tolist()
        assert python_flag(*arguments) == (book.status(row) == 1)
        benchmark(python_flag, *arguments)


@pytest.fixture(scope="module")
def tiered():
    value, table = tier_market()
    entries = entries_of(ACCOUNTS, 4, value, 1e5)
    return tier_book(ACCOUNTS, entries), compressed(entries, ACCOUNTS), value, table


def halves(call, size, threads):
    """`call(first, last)` over the whole, or over one part per thread."""
    if threads == 1:
        return lambda: call(0, size)
    pool = ThreadPoolExecutor(threads)
    cuts = [size * k // threads for k in range(threads + 1)]
    return lambda: list(pool.map(call, cuts, cuts[1:]))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("who", ["margincore", "numba", "numpy"])
def test_a_million_tiered_accounts(benchmark, tiered, who, threads):
    book, arrays, value, table = tiered
    name = "liquidation check, 1,000,000 accounts x 4 tiered positions"
    benchmark.group = f"{name}, {threads} thread" + "s" * (threads > 1)
    ours, theirs = np.empty(ACCOUNTS, np.uint8), np.empty(ACCOUNTS, bool)
    book.breached_range(0, ACCOUNTS, ours)
    balance, start, column, quantity, price = arrays
    if who == "margincore":
        call = halves(lambda a, b: book.breached_range(a, b, ours[a:b]), ACCOUNTS, threads)
    else:
        if who == "numpy" and threads > 1:
            pytest.skip("NumPy runs this on one thread")
        flags = numba_flags() if who == "numba" else numpy_flags

        def part(a, b):
            flags(balance[a:b], start[a:b + 1] - start[a], column[start[a]:start[b]], quantity[start[a]:start[b]],
                  price[start[a]:start[b]], value, table, theirs[a:b])

        call = halves(part, ACCOUNTS, threads)
        call()
        assert np.array_equal(theirs, ours == 1) and 0.01 < theirs.mean() < 0.99
    benchmark.extra_info["items"] = ACCOUNTS
    benchmark.pedantic(call, rounds=9 if who != "numpy" else 3, warmup_rounds=1)


# ---- scenario margin of a million -------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def crowd():
    _, value, _ = scenario_market()
    entries = entries_of(ACCOUNTS, POSITIONS, value, 1e5)
    return scenario_book(ACCOUNTS, entries), entries


def sparse_status(entries):
    """Sparse product per group, worst scenario, sum over groups: the same rules on ready matrices."""
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    group, value, risk = scenario_market()
    _, column, quantity, price = entries
    accounts = len(quantity) // (POSITIONS + 1)
    column, quantity, price = (a.reshape(accounts, -1) for a in (column, quantity, price))
    balance, column = quantity[:, 0].copy(), column[:, 1:]
    quantity, price = quantity[:, 1:], price[:, 1:]
    start = np.arange(accounts + 1) * POSITIONS
    whole = sparse.csr_array((quantity.ravel(), column.ravel(), start), shape=(accounts, len(value)))
    owed = (quantity * price).sum(axis=1)
    parts = [(whole[:, group == g].tocsr(), np.ascontiguousarray(risk[group == g])) for g in range(1, UNDERLYINGS + 1)]

    def status():
        maintenance = np.zeros(accounts)
        for holdings, unit in parts:
            maintenance += np.maximum(-(holdings @ unit).min(axis=1), 0.0)
        equity = balance + whole @ value - owed
        return (equity > maintenance).astype(np.uint8) + (equity >= 1.3 * maintenance) + np.uint8(1)

    return status


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("who", ["margincore", "scipy.sparse"])
def test_a_million_scenario_accounts(benchmark, crowd, who, threads):
    book, entries = crowd
    benchmark.group = (f"1,000,000 accounts x 10 positions x 16 scenarios, {threads} thread" + "s" * (threads > 1))
    if who != "margincore" and threads > 1:
        pytest.skip("scipy.sparse runs this on one thread")
    assert book.nbytes <= 300 * ACCOUNTS
    status = np.empty(ACCOUNTS, np.uint8)
    benchmark.extra_info["items"] = ACCOUNTS
    benchmark.extra_info["bytes_per_account"] = book.nbytes / ACCOUNTS
    if who == "margincore":
        call = halves(lambda a, b: book.check_range(a, b, status[a:b]), ACCOUNTS, threads)
        benchmark.pedantic(call, rounds=7, warmup_rounds=1)
        return
    call = sparse_status(entries)
    book.check_range(0, ACCOUNTS, status)
    # an account on the threshold to the last bit may fall on the other side of another summation order
    assert (call() != status).sum() <= 3 and set(np.unique(status)) == {1, 2, 3}
    benchmark.pedantic(call, rounds=3)
