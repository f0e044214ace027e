"""The book against its twin, the conservation of money, and its own limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import book as reference

from margincore.errors import (
    CapacityError,
    MarginError,
    NotFiniteError,
    RangeError,
    ShapeError,
    StaleAccount,
    UnknownInstrument,
)
from margincore.kernels.book import Book

# Two assets; a linear and an inverse perpetual, a linear future, a linear and a coin-settled option.
TABLE = {
    "settle": [0, 1, 0, 1, 0, 0, 1],
    "kind": [0, 0, 1, 1, 2, 3, 3],
    "multiplier": [1.0, 1.0, 0.1, 100.0, 1.0, 10.0, 1.0],
    "inverse": [0, 0, 0, 1, 0, 0, 1],
}
RANK = [3, 0, 4, 1, 5, 6, 2]
CASH, COIN, PERPETUAL, INVERSE, FUTURE, OPTION, COIN_OPTION = range(7)
DERIVATIVES = range(PERPETUAL, COIN_OPTION + 1)


def book(rows=4, slots=100, first=4):
    return Book(rows, slots, first, 2, RANK, *TABLE.values())


def slots(kernel, row):
    return {int(c): list(rest) for c, *rest in zip(*kernel.read(row), strict=True)}


def state(kernel):
    rows = [tuple(array.tobytes() for array in kernel.read(row)) for row in kernel.open_rows()]
    return rows, kernel.rows_used, kernel.slots_used


def assert_same(kernel, row, twin):
    # rel 1e-12: the twin divides by the position where the kernel multiplies a share; cash is a sum of such terms
    ours = slots(kernel, row)
    assert ours.keys() == twin.slots.keys()
    size = 1.0 + sum(abs(x) for slot in twin.slots.values() for x in slot)
    for column, expected in twin.slots.items():
        assert np.allclose(ours[column], expected, rtol=1e-12, atol=1e-12 * size)


TENTHS = st.integers(-50, 50).filter(bool).map(lambda x: x / 10.0)
PRICES = st.integers(1, 5_000).map(lambda x: x / 7.0)
STEPS = st.lists(st.one_of(
    st.tuples(st.just("trade"), st.sampled_from(DERIVATIVES), TENTHS, PRICES, st.sampled_from([0.0, 0.25, -0.1])),
    st.tuples(st.just("deposit"), st.sampled_from([CASH, COIN]), TENTHS),
    st.tuples(st.just("order"), st.sampled_from(DERIVATIVES), st.sampled_from([0.0, 2.0]), st.sampled_from([0.0, 3.5])),
), max_size=30)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_sequence_of_trades_equals_its_twin(steps):
    kernel, twin = book(first=2), reference.Row(TABLE)
    row, other = kernel.open(), kernel.open()
    kernel.deposit(other, CASH, 5.0)
    for verb, *arguments in steps:
        if verb == "order":
            kernel.set_orders(row, *arguments)
            twin.set_orders(*arguments)
        else:
            getattr(kernel, verb)(row, *arguments)
            getattr(twin, verb)(*arguments)
    assert_same(kernel, row, twin)
    columns = kernel.read(row)[0]
    assert [RANK[c] for c in columns] == sorted(RANK[c] for c in columns)
    before = state(kernel)[0]
    kernel.compact()
    assert state(kernel)[0] == before
    assert kernel.slots_used == max(2, len(columns)) + 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DERIVATIVES), TENTHS, PRICES), max_size=12), st.randoms())
def test_the_order_of_trades_in_different_instruments_leaves_no_trace(trades, random):
    one, other = book(), book()
    first, second = one.open(), other.open()
    shuffled = trades[:]
    random.shuffle(shuffled)
    by_column = {c: iter([t for t in trades if t[0] == c]) for c in DERIVATIVES}
    for trade in trades:
        one.trade(first, *trade)
    for trade in shuffled:                  # instruments mixed anew, each one's own trades in their order
        other.trade(second, *next(by_column[trade[0]]))
    ours, theirs = slots(one, first), slots(other, second)
    assert ours.keys() == theirs.keys()
    for column, slot in ours.items():
        size = 1e-12 * sum(abs(q * p) * 100.0 for _, q, p in trades)
        assert np.allclose(slot, theirs[column], rtol=1e-12, atol=size)


def test_average_cost_partial_close_flip_and_flat_by_hand():
    kernel = book()
    row = kernel.open()
    kernel.trade(row, PERPETUAL, 10.0, 100.0)       # value 10 each
    kernel.trade(row, PERPETUAL, 10.0, 200.0)       # entry 300 for 20
    assert slots(kernel, row)[PERPETUAL][:2] == [20.0, 300.0]
    kernel.trade(row, PERPETUAL, -5.0, 200.0)       # gains 5 * (20 - 15)
    assert slots(kernel, row) == {CASH: [25.0, 0, 0, 0], PERPETUAL: [15.0, 225.0, 0, 0]}
    kernel.trade(row, PERPETUAL, -20.0, 100.0, 1.0)  # closes 15 at 10 against 15, opens 5 short
    assert slots(kernel, row) == {CASH: [25.0 - 75.0 - 1.0, 0, 0, 0], PERPETUAL: [-5.0, -50.0, 0, 0]}
    kernel.trade(row, PERPETUAL, 5.0, 100.0)
    assert slots(kernel, row) == {CASH: [-51.0, 0, 0, 0]}


def test_inverse_profit_is_exact_in_coin():
    kernel = book()
    row = kernel.open()
    kernel.trade(row, INVERSE, 8.0, 25_600.0)
    kernel.trade(row, INVERSE, -8.0, 51_200.0)
    assert kernel.quantity(row, COIN) == 8.0 * 100.0 * (1 / 25_600 - 1 / 51_200)


def test_rounding_residue_is_no_position():
    kernel = book()
    row = kernel.open()
    for quantity in (0.1, 0.2, -0.3):
        kernel.trade(row, FUTURE, quantity, 10.0)
    assert list(slots(kernel, row)) == [CASH]


def test_quantities_whose_product_underflows_are_still_told_apart():
    kernel = book()
    row = kernel.open()
    kernel.trade(row, FUTURE, 1e-200, 10.0)
    kernel.trade(row, FUTURE, -1e-200, 20.0)
    assert kernel.quantity(row, CASH) == 1e-200 * 20.0 - 1e-200 * 10.0
    assert list(slots(kernel, row)) == [CASH]


@pytest.mark.parametrize("column, price", [(PERPETUAL, 90.0), (INVERSE, 90.0), (FUTURE, 130.0), (OPTION, 0.0),
                                           (OPTION, 3.0), (COIN_OPTION, 0.02)])
def test_settlement_pays_what_positions_are_worth_and_retires_the_column(column, price):
    kernel = book()
    twins = []
    for quantity in (3.0, -2.0, -1.0):
        row, twin = kernel.open(), reference.Row(TABLE)
        twins.append((row, twin))
        for target in (twin.trade, lambda *a, row=row: kernel.trade(row, *a)):
            target(column, quantity, 100.0)
        kernel.set_orders(row, column, 1.0, 0.0)
    assert kernel.save()["orders"].tolist() == [1, 1, 1]
    assert kernel.settle(column, price) == 3
    assert kernel.save()["orders"].tolist() == [0, 0, 0]        # rows without orders are checked in one pass again
    for row, twin in twins:
        twin.settle(column, price)
        assert_same(kernel, row, twin)
    asset = TABLE["settle"][column]
    assert sum(kernel.quantity(row, asset) for row, _ in twins) == pytest.approx(0.0, abs=1e-12)
    for call in (lambda: kernel.trade(0, column, 1.0, 5.0), lambda: kernel.set_orders(0, column, 1.0, 0.0),
                 lambda: kernel.settle(column, price), lambda: kernel.fund(column, 1.0)):
        with pytest.raises(UnknownInstrument, match=f"column {column}"):
            call()


def test_funding_moves_money_and_makes_none():
    kernel = book()
    rows = [kernel.open() for _ in range(3)]
    for row, quantity in zip(rows, (4.0, -3.0, -1.0), strict=True):
        kernel.deposit(row, CASH, 100.0)
        kernel.trade(row, PERPETUAL, quantity, 50.0)
    kernel.open()
    assert kernel.fund(PERPETUAL, 2.5) == 3
    assert [kernel.quantity(row, CASH) for row in rows] == [90.0, 107.5, 102.5]


def test_a_flow_that_one_balance_cannot_hold_changes_nothing():
    kernel = book()
    for amount in (10.0, -9e14):
        row = kernel.open()
        kernel.deposit(row, CASH, amount)
        kernel.trade(row, FUTURE, 1e12, 1.0)
    before = state(kernel)
    for call in (lambda: kernel.fund(FUTURE, 500.0), lambda: kernel.settle(FUTURE, 1e15)):
        with pytest.raises(RangeError, match="row [01], column 4"):
            call()
        assert state(kernel) == before
    kernel.trade(0, FUTURE, 1.0, 1.0)       # not retired


def test_rows_are_handed_out_again_with_a_new_generation():
    kernel = book(rows=2)
    row, parent = kernel.open(0.5), kernel.open()
    assert kernel.generation(row) == 1 and kernel.initial_rate(row) == 0.5
    kernel.deposit(row, CASH, 1.0)
    with pytest.raises(RangeError, match="row 0 must be empty"):
        kernel.close(row)
    kernel.deposit(row, CASH, -1.0)
    kernel.set_orders(row, FUTURE, 1.0, 0.0)
    with pytest.raises(RangeError, match="held column 4"):
        kernel.close(row)
    kernel.set_orders(row, FUTURE, 0.0, 0.0)
    kernel.close(row)
    for call in (lambda: kernel.deposit(row, CASH, 1.0), lambda: kernel.read(row), lambda: kernel.close(row),
                 lambda: kernel.open(0.0, row)):
        with pytest.raises(StaleAccount):
            call()
    assert kernel.open_rows().tolist() == [parent]
    again = kernel.open(0.0, parent)
    assert (again, kernel.generation(again), kernel.parent(again), slots(kernel, again)) == (row, 3, parent, {})
    with pytest.raises(CapacityError, match="2 rows"):
        kernel.open()


def test_a_full_book_refuses_and_nothing_has_changed():
    kernel = book(rows=2, slots=5, first=2)
    row, other = kernel.open(), kernel.open()
    kernel.trade(row, FUTURE, 1.0, 1.0)
    before = state(kernel)
    with pytest.raises(CapacityError, match="row 0, column 3"):
        kernel.trade(row, INVERSE, 1.0, 1.0)
    with pytest.raises(CapacityError):
        kernel.trade(row, OPTION, 1.0, 1.0)
    with pytest.raises(CapacityError):
        kernel.set_orders(row, PERPETUAL, 1.0, 1.0)
    assert state(kernel) == before
    kernel.deposit(other, CASH, 1.0)


def test_a_refused_trade_gives_back_the_room_it_took():
    kernel = book(rows=1, slots=20, first=2)
    row = kernel.open()
    kernel.trade(row, FUTURE, 1.0, 1.0)
    before = state(kernel)
    with pytest.raises(RangeError):
        kernel.trade(row, OPTION, 1e15, 1e15)
    assert state(kernel) == before


def test_a_row_has_at_most_1024_slots():
    columns = 1_100
    kernel = Book(1, 5_000, 2, 1, range(columns), [0] * columns, [0] + [1] * (columns - 1), [1.0] * columns,
                  [0] * columns)
    row = kernel.open()
    for column in range(1, 1_024):
        kernel.trade(row, column, 1.0, 1.0)
    before = state(kernel)
    with pytest.raises(CapacityError):
        kernel.trade(row, 1_024, 1.0, 1.0)
    assert state(kernel) == before


def test_load_is_trade_by_trade():
    start = np.array([0, 3, 3, 5])
    column = np.array([CASH, PERPETUAL, INVERSE, COIN, PERPETUAL], np.int32)
    quantity, price = np.array([100.0, 2.0, -3.0, 1.0, 4.0]), np.array([np.nan, 10.0, 20.0, np.nan, 30.0])
    for array in (start, column, quantity, price):
        array.flags.writeable = False
    loaded, traded = book(first=2), book(first=2)
    assert loaded.load(start, column, quantity, price) == 0
    for first, last in zip(start, start[1:], strict=False):
        row = traded.open()
        for k in range(first, last):
            if column[k] < 2:
                traded.deposit(row, column[k], quantity[k])
            else:
                traded.trade(row, column[k], quantity[k], price[k])
    assert state(loaded)[:2] == state(traded)[:2]


@pytest.mark.parametrize("at, column, quantity, price, kind", [
    (3, 9, 1.0, 1.0, UnknownInstrument), (3, -1, 1.0, 1.0, UnknownInstrument), (4, FUTURE, np.nan, 1.0, NotFiniteError),
    (4, FUTURE, 1.0, -1.0, RangeError), (0, CASH, np.inf, 1.0, NotFiniteError)])
def test_load_is_all_or_nothing(at, column, quantity, price, kind):
    kernel = book(first=2)
    kernel.deposit(kernel.open(), CASH, 5.0)
    before = state(kernel)
    columns = np.array([CASH, PERPETUAL, INVERSE, COIN, PERPETUAL], np.int32)
    quantities, prices = np.ones(5), np.ones(5)
    columns[at], quantities[at], prices[at] = column, quantity, price
    with pytest.raises(kind, match=f"entry {at}"):
        kernel.load(np.array([0, 2, 5]), columns, quantities, prices)
    assert state(kernel) == before
    assert kernel.open() == 1 and kernel.generation(1) == 1


def test_load_checks_its_arrays():
    good = {"start": np.array([0, 1]), "column": np.array([2], np.int32), "quantity": np.ones(1), "price": np.ones(1)}
    bad = {"start": [np.array([0.0, 1.0]), np.array([1, 1]), np.zeros(0, np.int64), np.array([0, 2, 1])],
           "column": [np.array([2]), np.array([2, 2], np.int32), [2]],
           "quantity": [np.ones(1, np.float32), np.ones((1, 1)), np.ones(2)[::2].repeat(2)[::2][:1].astype(">f8")],
           "price": [np.ones(3)[:2], None]}
    for name, values in bad.items():
        for value in values:
            with pytest.raises(ShapeError, match=name):
                book().load(**{**good, name: value})
    with pytest.raises(ShapeError, match="quantity"):
        book().load(np.array([0, 2]), np.array([2, 2], np.int32), np.ones(4)[::2], np.ones(2))
    with pytest.raises(CapacityError, match="5 more"):
        book().load(np.zeros(6, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("verb, arguments, kind", [
    ("trade", (9, FUTURE, 1.0, 1.0), StaleAccount), ("trade", (-1, FUTURE, 1.0, 1.0), StaleAccount),
    ("trade", (0, CASH, 1.0, 1.0), UnknownInstrument), ("trade", (0, 7, 1.0, 1.0), UnknownInstrument),
    ("trade", (0, FUTURE, np.nan, 1.0), NotFiniteError), ("trade", (0, FUTURE, 1.0, np.inf), NotFiniteError),
    ("trade", (0, FUTURE, 1.0, 1.0, np.nan), NotFiniteError), ("trade", (0, FUTURE, 0.0, 1.0), RangeError),
    ("trade", (0, FUTURE, 1.0, 0.0), RangeError), ("trade", (0, FUTURE, 1.0, -1.0), RangeError),
    ("trade", (0, OPTION, 1.0, -1.0), RangeError), ("trade", (0, FUTURE, 2e15, 1.0), RangeError),
    ("trade", (0, INVERSE, 1.0, 1e-300), RangeError), ("deposit", (0, FUTURE, 1.0), UnknownInstrument),
    ("deposit", (0, -1, 1.0), UnknownInstrument), ("deposit", (0, CASH, np.nan), NotFiniteError),
    ("deposit", (0, CASH, 1.1e15), RangeError), ("set_orders", (0, CASH, 1.0, 1.0), UnknownInstrument),
    ("set_orders", (0, FUTURE, -1.0, 0.0), RangeError), ("set_orders", (0, FUTURE, np.inf, 0.0), NotFiniteError),
    ("settle", (FUTURE, 0.0), RangeError), ("settle", (FUTURE, np.nan), NotFiniteError),
    ("settle", (CASH, 1.0), UnknownInstrument), ("fund", (PERPETUAL, np.inf), NotFiniteError),
    ("fund", (99, 1.0), UnknownInstrument), ("open", (np.nan,), NotFiniteError), ("open", (-0.1,), RangeError),
    ("open", (0.0, 3), StaleAccount), ("generation", (4,), StaleAccount), ("parent", (-1,), StaleAccount),
    ("quantity", (4, CASH), StaleAccount)])
def test_bad_input_is_named_and_changes_nothing(verb, arguments, kind):
    kernel = book()
    row = kernel.open()
    kernel.deposit(row, CASH, 10.0)
    kernel.trade(row, FUTURE, 1.0, 5.0)
    before = state(kernel)
    with pytest.raises(kind):
        getattr(kernel, verb)(*arguments)
    assert state(kernel) == before


def test_an_option_trades_at_zero_and_premiums_are_paid_up_front():
    kernel = book()
    row = kernel.open()
    kernel.trade(row, OPTION, -2.0, 3.0)
    assert slots(kernel, row) == {CASH: [60.0, 0, 0, 0], OPTION: [-2.0, -60.0, 0, 0]}
    kernel.trade(row, OPTION, 2.0, 0.0)
    assert slots(kernel, row) == {CASH: [60.0, 0, 0, 0]}


def test_the_column_table_is_checked():
    for name, bad in (("settle", [0, 1, 5, 1, 0, 0, 1]), ("settle", [1, 1, 0, 1, 0, 0, 1]),
                      ("kind", [0, 1, 1, 1, 2, 3, 3]), ("kind", [0, 0, 1, 1, 2, 3, 4]),
                      ("multiplier", [1, 1, 1, 1, 1, 1, np.nan]), ("multiplier", [1, 1, 1, 1, 1, 1, 0.0])):
        with pytest.raises(RangeError, match=name):
            Book(1, 2, 2, 2, RANK, *{**TABLE, name: bad}.values())
    with pytest.raises(ShapeError, match="inverse"):
        Book(1, 2, 2, 2, RANK, *{**TABLE, "inverse": [0]}.values())
    for sizes in ((0, 2, 2), (1, 1, 2), (1, 2, 1)):
        with pytest.raises(RangeError, match="rows_max"):
            Book(*sizes, 2, RANK, *TABLE.values())


def test_remap_renumbers_sorts_and_keeps_everything_else():
    kernel = book()
    row = kernel.open()
    kernel.deposit(row, COIN, 2.0)
    kernel.trade(row, INVERSE, 3.0, 10.0)
    kernel.trade(row, FUTURE, -4.0, 20.0)
    kernel.set_orders(row, FUTURE, 1.0, 2.0)
    kernel.settle(COIN_OPTION, 0.0)
    before = slots(kernel, row)
    mapping = [1, 0, -1, 4, 2, 3, 5]        # assets change places, the perpetual goes
    new = {name: [values[mapping.index(c)] for c in range(6)] for name, values in TABLE.items()}
    new["settle"] = [mapping[c] for c in new["settle"]]
    for call, kind in ((lambda: kernel.remap([1, 0, 2, 4, -1, 3, 5], 2, range(6), *new.values()), UnknownInstrument),
                       (lambda: kernel.remap([1, 0, -1, 4, 2, 3, 6], 2, range(6), *new.values()), RangeError),
                       (lambda: kernel.remap([1, 0, -1, 4, 4, 3, 5], 2, range(6), *new.values()), RangeError),
                       (lambda: kernel.remap([1, 0], 2, range(6), *new.values()), ShapeError),
                       (lambda: kernel.remap(mapping, 2, range(6), *{**new, "multiplier": [2.0] * 6}.values()),
                        RangeError),
                       (lambda: kernel.set_columns(2, range(6), *new.values()), RangeError)):
        with pytest.raises(kind):
            call()
        assert slots(kernel, row) == before
    kernel.remap(mapping, 2, [5, 4, 3, 2, 1, 0], *new.values())
    assert slots(kernel, row) == {mapping[c]: slot for c, slot in before.items()}
    assert kernel.read(row)[0].tolist() == [4, 2, 1, 0]
    with pytest.raises(UnknownInstrument):
        kernel.trade(row, 5, 1.0, 1.0)      # settled stays settled
    assert kernel.holders(2) == 1 and kernel.holders(5) == 0


def test_compact_frees_what_moved_rows_left_behind():
    kernel = book(rows=3, slots=16, first=2)
    rows = [kernel.open() for _ in range(3)]
    for row in rows[:2]:
        for column in (PERPETUAL, FUTURE):
            kernel.trade(row, column, 1.0, 10.0)
            kernel.set_orders(row, column, 2.0, 0.0)
    kernel.close(rows[2])
    before = state(kernel)[0]
    assert kernel.slots_used == 14
    kernel.compact()
    assert state(kernel)[0] == before
    assert kernel.slots_used == 8
    kernel.trade(kernel.open(), FUTURE, 1.0, 1.0)


def test_a_book_of_ten_positions_takes_at_most_300_bytes_an_account():
    kernel = Book(100_000, 1_100_000, 11, 2, RANK, *TABLE.values())
    assert kernel.nbytes <= 300 * 100_000


def test_an_object_without_constructor_call_is_harmless():
    empty = Book.__new__(Book)
    for call in (lambda: empty.quantity(0, 0), lambda: empty.trade(0, 2, 1.0, 1.0), empty.open):
        with pytest.raises(MarginError):
            call()
    with pytest.raises(RangeError, match="twice"):
        book().__init__(1, 2, 2, 2, RANK, *TABLE.values())
