"""The margin kernel against its twin; one answer from every door; health is proved, never assumed."""

import hashlib
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_sets import digest_at
from reference import margin as reference

from margincore import kernels
from margincore.errors import CapacityError, MarginError, NotFiniteError, RangeError, ShapeError, StaleAccount
from margincore.kernels.margin import MarginBook
from margincore.kernels.stage import STAGES

UNKNOWN, LIQUIDATION, MARGIN_CALL, HEALTHY = range(4)
DOLLAR, COIN, TOKEN, PERPETUAL, INVERSE, FUTURE, CALL, PUT, COIN_PUT = range(9)
TABLE = {
    "settle": [0, 1, 2, 0, 1, 0, 0, 2, 1],
    "kind": [0, 0, 0, 1, 1, 2, 3, 3, 3],
    "multiplier": [1.0, 1.0, 1.0, 0.1, 100.0, 1.0, 10.0, 1.0, 1.0],
    "inverse": [0, 0, 0, 0, 1, 0, 0, 0, 1],
}
GROUP = np.array([0, 1, 2, 1, 1, 2, 2, 3, 1])
LINES = np.array([[0.0, 0.01, 0.0, 0.02], [100.0, 0.02, 1.0, 0.05], [1_000.0, 0.1, 81.0, 0.2],
                  [np.inf, 0.0, 0.0, 0.0]])
LADDER = np.broadcast_to(LINES, (9, 4, 4))
LONG_LADDER = np.zeros((9, 11, 4))
LONG_LADDER[:] = [[10.0 * k, 0.01 * (k + 1), 0.01 * 10.0 * k * (k + 1) / 2, 0.02 * (k + 1)] for k in range(11)]


def scan(gain_kept=1.0, floors=1.0):
    return ("scan", "scenario loss", (1.0, 1.3, gain_kept, floors), None)


PLANS = {
    "scan": [scan()],
    "half": [scan(0.5, 0.0), ("short charge", "short", (1.0, 1.5), None),
             ("closing charge", "close", (0.5, 1.0), None)],
    "alone": [scan(0.0)],
    "bare": [scan(0.25, 0.0)],
    "tiers": [("tiers", "tiers", (0.0,), LADDER)],
    "entry": [("tiers", "tiers", (1.0,), LONG_LADDER), ("closing charge", "close", (1.0, 1.0), None)],
}


def market(seed=1, scenarios=16, sets=None, shocked=(0, 1, 0), **changes):
    random = np.random.default_rng(seed)
    columns = len(TABLE["kind"])
    result = {
        "value": random.uniform(0.1, 20.0, columns), "spot": random.uniform(0.5, 3.0, 3),
        "kept": np.array([1.0, 0.9, 0.5]), "shocked": np.array(shocked),
        "risk": random.normal(0.0, 2.0, (columns, scenarios)), "group": GROUP,
        "offset_set": GROUP if sets is None else np.array(sets)[GROUP], "notional": random.uniform(1.0, 9.0, columns),
        "charge_short": random.uniform(0.0, 1.0, columns), "charge_any": random.uniform(0.0, 1.0, columns),
        "floor_short": random.uniform(0.0, 3.0, columns),
    }
    result["value"][INVERSE] *= -1.0
    for name, value in changes.items():
        if isinstance(value, dict):
            for column, number in value.items():
                result[name][column] = number
        else:
            result[name] = value
    return result


def rank_of(prices):
    order = np.lexsort((np.arange(9), prices["group"], prices["offset_set"]))
    return np.argsort(order)


def book(plan, prices, rows=8, slots=400, first=4):
    kernel = MarginBook(rows, slots, first, 3, rank_of(prices), *TABLE.values())
    if plan:
        kernel.set_plan(plan)
    kernel.set_market(*prices.values())
    return kernel


def twin(kernel, row, prices, plan):
    slots = [(int(c), *rest) for c, *rest in zip(*kernel.read(row), strict=True)]
    return reference.check(slots, prices, TABLE, plan, kernel.initial_rate(row)), slots


def assert_twin(kernel, row, prices, plan):
    (equity, initial, maintenance, status, parts), slots = twin(kernel, row, prices, plan)
    ours = kernel.check(row)
    # rel 1e-11 of the gross amounts: sums of at most some dozen products, in another order
    scale = 1.0 + sum((abs(q) + b + s) * (1.0 + np.nan_to_num(np.abs(prices["risk"][c])).max() + abs(np.nan_to_num(
        prices["value"][c])) + abs(np.nan_to_num(prices["notional"][c]))) + abs(e) for c, q, e, b, s in slots) * 10.0
    assert np.allclose(ours[:3], (equity, initial, maintenance), rtol=1e-11, atol=1e-11 * scale, equal_nan=True)
    assert kernel.status(row) == ours[3]
    if np.isfinite([equity, initial, maintenance]).all() and min(
            abs(equity - initial), abs(equity - maintenance)) < 1e-10 * scale:
        return      # on the threshold, where one rounding decides
    assert ours[3] == status
    if status != UNKNOWN:
        assert np.allclose(kernel.parts(row), parts, rtol=1e-11, atol=1e-11 * scale)
        amounts = kernel.parts(row)
        total = total_initial = orders = 0.0
        for part in amounts:
            total, total_initial, orders = total + part[0], total_initial + part[1], orders + part[2]
        assert (max(total_initial + orders, total), total) == ours[1:3]


AMOUNTS = st.one_of(st.integers(-40, 40).filter(bool).map(lambda x: x / 4.0), st.sampled_from([1e-9, 1e7, -1e7]))
TRADE = st.tuples(st.just("trade"), st.integers(PERPETUAL, COIN_PUT), AMOUNTS,
                  st.integers(1, 400).map(lambda x: x / 8.0))
DEPOSIT = st.tuples(st.just("deposit"), st.integers(DOLLAR, TOKEN), AMOUNTS)
ORDER = st.tuples(st.just("set_orders"), st.integers(PERPETUAL, COIN_PUT), st.sampled_from([0.0, 3.0, 50.0]),
                  st.sampled_from([0.0, 2.0, 70.0]))
STEPS = st.lists(st.one_of(TRADE, TRADE, DEPOSIT, DEPOSIT, ORDER), max_size=14)
MARKETS = st.builds(
    market, seed=st.integers(0, 99), scenarios=st.sampled_from([1, 3, 8, 9, 16, 31]),
    sets=st.sampled_from([None, (0, 0, 0, 0), (0, 1, 1, 2), (2, 0, 0, 0)]),
    shocked=st.sampled_from([(0, 0, 0), (0, 1, 0), (0, 1, 1)]),
    value=st.dictionaries(st.integers(0, 8), st.sampled_from([np.nan, 0.0]), max_size=1),
    spot=st.dictionaries(st.integers(0, 2), st.sampled_from([np.nan, 0.0]), max_size=1))


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(PLANS)), MARKETS, STEPS, st.sampled_from([0.0, 0.04, 0.5]))
def test_a_row_equals_its_twin(plan, prices, steps, rate):
    kernel = book(PLANS[plan], prices)
    row = kernel.open(rate)
    for verb, *arguments in steps:
        getattr(kernel, verb)(row, *arguments)
    assert_twin(kernel, row, prices, PLANS[plan])


IN_DOLLARS = st.lists(st.one_of(
    st.tuples(st.just("trade"), st.sampled_from([PERPETUAL, FUTURE, CALL]), AMOUNTS, st.integers(1, 400).map(float)),
    st.tuples(st.just("deposit"), st.just(DOLLAR), AMOUNTS)), max_size=10)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["bare", "tiers"]), MARKETS, st.one_of(IN_DOLLARS, STEPS), st.sampled_from([0.0, 0.5]))
def test_the_quick_way_gives_the_bits_of_the_general_one(plan, prices, steps, rate):
    # A second stage that charges nothing makes a plan general, and adds zeros.
    nothing = ("short charge", "nothing", (0.0, 0.0), None)
    quick, general = book(PLANS[plan], prices), book([*PLANS[plan], nothing], prices)
    flags = np.empty((2, 1), np.uint8)
    for kernel, flag in zip((quick, general), flags, strict=True):
        row = kernel.open(rate)
        for verb, *arguments in steps:
            getattr(kernel, verb)(row, *arguments)
        kernel.breached_range(row, row + 1, flag)
    assert flags[0] == flags[1]
    assert np.array(quick.check(row)).tobytes() == np.array(general.check(row)).tobytes()
    assert np.array_equal(quick.parts(row), general.parts(row)[:1], equal_nan=True)
    assert quick.what_if(row, CALL, -2.0, 3.0) == general.what_if(row, CALL, -2.0, 3.0)


def test_a_quick_plan_does_not_outlive_its_tables():
    kernel = book(PLANS["tiers"], market())
    row = kernel.open()
    kernel.deposit(row, DOLLAR, 5.0)
    kernel.remap(np.arange(9, dtype=np.int32), 3, rank_of(market()), *TABLE.values())
    assert kernel.status(row) == UNKNOWN


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(PLANS)), MARKETS, STEPS)
def test_what_if_is_trade_then_check_bit_for_bit(plan, prices, steps):
    kernel = book(PLANS[plan], prices, rows=1, slots=7, first=3)
    row = kernel.open()
    for verb, column, *numbers in steps:
        if verb == "set_orders":
            try:
                kernel.set_orders(row, column, *numbers)
            except CapacityError:
                continue
            continue
        price = numbers[1] if verb == "trade" else 0.0
        before = kernel.read(row)
        try:
            asked = kernel.what_if(row, column, numbers[0], price, 0.0)
            answer = kernel.what_if_many(row, np.array([column], np.int32), np.array(numbers[:1]), np.array([price]))
        except MarginError as refusal:
            answer = type(refusal)
        assert all(np.array_equal(a, b) for a, b in zip(before, kernel.read(row), strict=True))
        try:
            getattr(kernel, verb)(row, column, *numbers)
        except MarginError as refusal:
            assert answer is type(refusal)
            continue
        check = kernel.check(row)
        assert asked == check[3]
        assert np.array(answer[:4]).tobytes() == np.array(check).tobytes() or np.isnan(check[2])
        assert np.array_equal(answer[4], kernel.parts(row), equal_nan=True)


def test_what_if_counts_the_fee():
    kernel = book(PLANS["tiers"], market(shocked=(0, 0, 0), spot={0: 1.0}, value={FUTURE: 10.0}))
    row = kernel.open()
    kernel.deposit(row, DOLLAR, 10.0)
    assert kernel.what_if(row, FUTURE, 1.0, 10.0) == HEALTHY
    assert kernel.what_if(row, FUTURE, 1.0, 10.0, 10.0) == LIQUIDATION


def crowd(plan, prices, rows=300, seed=3, orders=False):
    random = np.random.default_rng(seed)
    kernel = book(plan, prices, rows=rows + 1, slots=20 * rows + 20)
    for _ in range(rows):
        row = kernel.open()
        for column in random.permutation(9)[:random.integers(0, 10)]:
            if column < 3:
                kernel.deposit(row, column, random.normal(200.0, 200.0))
            else:
                kernel.trade(row, column, random.normal(0.0, 20.0), random.uniform(1.0, 20.0))
                if orders and random.random() < 0.5:
                    kernel.set_orders(row, column, *random.uniform(0.0, 9.0, 2))
    kernel.close(kernel.open())
    return kernel


def table(kernel, first, last):
    status, numbers = np.empty(last - first, np.uint8), [np.empty(last - first) for _ in range(3)]
    kernel.check_range(first, last, status, *numbers)
    return status.tobytes(), *[array.tobytes() for array in numbers]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("orders", [False, True])
def test_ranges_threads_and_single_rows_give_the_same_bits(plan, orders):
    kernel = crowd(PLANS[plan], market(), orders=orders)
    rows = kernel.rows_used
    whole = table(kernel, 0, rows)
    status = np.frombuffer(whole[0], np.uint8)
    assert len(set(status[:-1].tolist())) >= 2 and status[-1] == UNKNOWN
    one_by_one = [kernel.check(row) for row in range(rows - 1)]
    assert [row[3] for row in one_by_one] == status[:-1].tolist()
    for at in range(3):
        assert np.array([row[at] for row in one_by_one]).tobytes() == whole[at + 1][:-8]
    halves = {}
    threads = [threading.Thread(target=lambda a, b: halves.update({a: table(kernel, a, b)}), args=part)
               for part in ((0, 100), (100, rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tuple(a + b for a, b in zip(halves[0], halves[100], strict=True)) == whole
    assert table(kernel, 5, 5) == (b"", b"", b"", b"")
    flags = np.empty(rows, np.uint8)
    kernel.check_range(0, rows, flags)
    assert flags.tobytes() == whole[0]
    breached = np.empty(rows, np.uint8)
    kernel.breached_range(0, rows, breached)
    assert np.array_equal(breached, np.minimum(status, MARGIN_CALL))


@pytest.mark.parametrize("on_entry", [0.0, 1.0])
@pytest.mark.parametrize("table_of_tiers", [LADDER, LONG_LADDER], ids=["8 lines", "16 lines"])
@pytest.mark.parametrize("settle", [[0, 1, 2] + [0] * 6, TABLE["settle"]], ids=["one asset", "several assets"])
def test_tiers_in_one_pass_have_the_bits_of_tiers_as_a_stage(settle, table_of_tiers, on_entry):
    tiers = ("tiers", "tiers", (on_entry,), table_of_tiers)
    nothing = ("short charge", "nothing", (0.0, 0.0), None)     # a second stage takes the pass by stages
    tables = []
    for plan in ([tiers], [tiers, nothing]):
        random, rows = np.random.default_rng(4), 200
        kernel = MarginBook(rows, 20 * rows, 9, 3, rank_of(market()), *{**TABLE, "settle": settle}.values())
        kernel.set_plan(plan)
        kernel.set_market(*market().values())
        for _ in range(rows):
            row = kernel.open(random.choice([0.0, 0.07]))
            for column in random.permutation([0, *range(3, 9)])[:random.integers(0, 8)]:
                if column < 3:
                    kernel.deposit(row, column, random.normal(300.0, 300.0))
                else:
                    kernel.trade(row, column, random.normal(0.0, 20.0), random.uniform(1.0, 20.0))
        breached = np.empty(rows, np.uint8)
        kernel.breached_range(0, rows, breached)
        tables.append((*table(kernel, 0, rows), breached.tobytes()))
    assert tables[0] == tables[1] and len(set(tables[0][0])) >= 2


@pytest.mark.parametrize("scenarios", [1, 8, 9, 16])
@pytest.mark.parametrize("gain_kept", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sets", [None, [0, 0, 1, 1]])
def test_scenarios_in_one_pass_have_the_bits_of_the_general_sums(sets, gain_kept, scenarios):
    sets = None if sets is None else [sets[group % 4] for group in range(int(np.max(GROUP)) + 1)]
    no_floors = {"floor_short": np.zeros(len(TABLE["kind"]))}   # a plan with floors, all zero, takes the general sums
    tables = [table(crowd([scan(gain_kept, floors)], market(scenarios=scenarios, sets=sets, **no_floors)), 0, 300)
              for floors in (0.0, 1.0)]
    assert tables[0] == tables[1] and len(set(tables[0][0])) >= 2


@pytest.mark.parametrize("plan", PLANS)
def test_the_order_of_rows_is_irrelevant(plan):
    ours = crowd(PLANS[plan], market(), rows=40)
    random = np.random.default_rng(5)
    other = book(PLANS[plan], market(), rows=80, slots=900)
    place = random.permutation(60)[:40]
    rows = {int(at): k for k, at in enumerate(place)}
    for at in range(60):
        row = other.open()
        if at in rows:
            for column, quantity, entry, _, _ in zip(*ours.read(rows[at]), strict=True):
                if column >= 3:
                    value = entry / quantity
                    inverse = TABLE["inverse"][column] and TABLE["kind"][column] != 3
                    price = -TABLE["multiplier"][column] / value if inverse else value / TABLE["multiplier"][column]
                    other.trade(row, column, quantity, price)
            for column, quantity, *_ in zip(*ours.read(rows[at]), strict=True):
                if column < 3:
                    other.deposit(row, column, quantity - other.quantity(row, column))
            assert np.allclose(other.check(row), ours.check(rows[at]), rtol=1e-9, atol=1e-9)


def digest():
    whole = hashlib.sha256()
    for name in sorted(PLANS):
        for prices in (market(), market(sets=(0, 0, 0, 0), scenarios=21), market(7, 40, (0, 1, 1, 2), (0, 1, 1))):
            for orders in (False, True):
                kernel = crowd(PLANS[name], prices, rows=120, orders=orders)
                for part in table(kernel, 0, kernel.rows_used - 1):
                    whole.update(part)
    return whole.hexdigest()


@pytest.mark.parametrize("level", kernels.LEVELS)
def test_every_instruction_set_gives_the_same_bits(level):
    assert digest_at(level, "test_margin") == digest()


def test_orders_do_not_move_maintenance_by_one_bit():
    prices = market(sets=(0, 0, 1, 1))
    for plan in PLANS.values():
        plain, ordered = crowd(plan, prices), crowd(plan, prices)
        for row in range(ordered.rows_used - 1):
            for column in ordered.read(row)[0]:
                if column >= 3:
                    ordered.set_orders(row, column, 0.0, 0.5)
            ours, theirs = ordered.check(row), plain.check(row)
            assert (ours[0], ours[2]) == (theirs[0], theirs[2]) or np.isnan(ours[2])
            assert not ours[1] < theirs[1]


def wide(groups, sets, gain_kept=0.5, scenarios=20):
    columns = groups + 1
    random = np.random.default_rng(groups)
    table = {"settle": [0] * columns, "kind": [0] + [1] * groups, "multiplier": [1.0] * columns,
             "inverse": [0] * columns}
    prices = {"value": np.ones(columns), "spot": np.ones(1), "kept": np.ones(1), "shocked": np.zeros(1, int),
              "risk": random.normal(size=(columns, scenarios)), "group": np.arange(columns),
              "offset_set": np.arange(columns) * sets // columns, **{name: np.zeros(columns) for name in (
                  "notional", "charge_short", "charge_any", "floor_short")}}
    kernel = MarginBook(1, 3_000, 4, 1, np.arange(columns), *table.values())
    kernel.set_plan([scan(gain_kept)])
    kernel.set_market(*prices.values())
    kernel.open()
    for column in range(1, columns):
        kernel.trade(0, column, random.normal(), 1.0)
    slots = [(int(c), *rest) for c, *rest in zip(*kernel.read(0), strict=True)]
    return kernel.check(0), reference.check(slots, prices, table, [scan(gain_kept)])


@pytest.mark.parametrize("groups", [1, 31, 32, 33, 34, 100, 1_023])
@pytest.mark.parametrize("sets", [1, 7, 2_000])
def test_rows_of_many_groups_and_sets_equal_their_twin(groups, sets):
    ours, theirs = wide(groups, min(sets, groups + 1))
    assert np.allclose(ours, theirs[:4], rtol=1e-11, atol=1e-11)


def test_a_full_row_can_be_asked_about_and_not_outgrown():
    columns = 1_030
    kernel = MarginBook(1, 4_000, 4, 2, range(columns), [0, 1] + [0] * (columns - 2), [0, 0] + [1] * (columns - 2),
                        [1.0] * columns, [0] * columns)
    ones = np.ones(columns)
    kernel.set_plan(PLANS["scan"])
    kernel.set_market(ones, ones[:2], ones[:2], [0, 0], np.ones((columns, 5)), [1] * columns, [1] * columns,
                      *[ones] * 4)
    row = kernel.open()
    for column in range(2, 1_025):
        kernel.trade(row, column, 1.0, 1.0)
    full = np.arange(2, 1_025, dtype=np.int32)
    assert kernel.what_if_many(row, full, np.ones(1_023), np.ones(1_023))[3] != UNKNOWN
    for column in (1, 1_025):
        with pytest.raises(CapacityError):
            kernel.what_if(row, column, 1.0, 1.0)
        with pytest.raises(CapacityError):
            kernel.what_if_many(row, np.array([column], np.int32), np.ones(1), np.ones(1))
    assert kernel.what_if(row, 0, 1.0, 0.0) in (LIQUIDATION, MARGIN_CALL, HEALTHY)


# ---- health is proved -------------------------------------------------------------------------------------------

def account(plan=PLANS["scan"], **changes):
    kernel = book(plan, market(shocked=changes.pop("shocked", (0, 0, 0)), **changes))
    row = kernel.open()
    kernel.deposit(row, DOLLAR, 1e9)
    kernel.trade(row, FUTURE, 1.0, 5.0)
    return kernel, row


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("changes", [
    {"value": {FUTURE: np.nan}}, {"value": {FUTURE: np.inf}}, {"value": {FUTURE: 1e200}}, {"spot": {DOLLAR: np.nan}},
    {"spot": {DOLLAR: 0.0}}, {"spot": {DOLLAR: -1.0}}, {"spot": {DOLLAR: np.inf}}, {"notional": {FUTURE: np.nan}},
    {"notional": {FUTURE: -1.0}}, {"charge_any": {FUTURE: np.nan}}, {"charge_short": {FUTURE: -1.0}},
    {"floor_short": {FUTURE: np.inf}}, {"risk": {(FUTURE, 3): np.nan}}, {"risk": {(FUTURE, 15): -np.inf}},
    {"risk": {(FUTURE, 0): 1e300}}])
def test_an_unknown_number_makes_its_holders_unknown_and_nobody_else(plan, changes):
    kernel, row = account(PLANS[plan], **changes)
    check = kernel.check(row)
    assert check[3] == UNKNOWN and np.isnan(check[1]) and np.isnan(check[2])
    other = kernel.open()
    kernel.deposit(other, TOKEN, 100.0)
    kernel.trade(other, PUT, 1.0, 1.0)
    assert kernel.status(other) != UNKNOWN
    assert account(PLANS[plan])[0].status(row) != UNKNOWN


def test_a_shocked_coin_without_risk_hides_no_loss_of_its_group():
    changes = {"shocked": (0, 1, 0), "risk": {(COIN, 2): np.nan}}
    kernel, row = account(**changes)
    kernel.deposit(row, COIN, 1.0)
    assert kernel.status(row) == UNKNOWN
    kernel.deposit(row, COIN, -1.0)         # a slot of nothing needs no price, and the rest is counted in full
    kernel.trade(row, PERPETUAL, 7.0, 1.0)
    assert kernel.check(row)[2] == pytest.approx(twin(
        kernel, row, market(**changes), PLANS["scan"])[0][2]) and kernel.check(row)[2] > 0.0


def test_thresholds_equality_with_maintenance_is_liquidation_and_with_initial_is_healthy():
    kernel = book([("scan", "scan", (1.0, 2.0, 1.0, 0.0), None)],
                  market(shocked=(0, 0, 0), risk=np.full((9, 16), -4.0), value={FUTURE: 8.0}, spot={DOLLAR: 1.0}))
    row = kernel.open()
    kernel.trade(row, FUTURE, 1.0, 8.0)
    expected = {3.0: LIQUIDATION, 4.0: LIQUIDATION, np.nextafter(4.0, 5.0): MARGIN_CALL,
                np.nextafter(8.0, 7.0): MARGIN_CALL, 8.0: HEALTHY}
    for equity, status in expected.items():
        kernel.deposit(row, DOLLAR, equity - kernel.quantity(row, DOLLAR))
        assert kernel.check(row) == (equity, 8.0, 4.0, status)


def test_an_empty_account_is_healthy_and_one_that_owes_is_not():
    kernel = book(PLANS["tiers"], market(shocked=(0, 0, 0), kept=np.ones(3), spot=np.ones(3)))
    row = kernel.open()
    assert kernel.check(row) == (0.0, 0.0, 0.0, HEALTHY)
    kernel.deposit(row, DOLLAR, 5.0)
    assert kernel.status(row) == HEALTHY
    kernel.deposit(row, TOKEN, -5.0)
    assert kernel.check(row) == (0.0, 0.0, 0.0, LIQUIDATION)


def test_without_plan_or_market_nobody_is_healthy():
    kernel = book(None, market())
    row = kernel.open()
    kernel.deposit(row, DOLLAR, 5.0)
    assert kernel.status(row) == UNKNOWN
    kernel.set_plan(PLANS["scan"])
    assert kernel.status(row) == HEALTHY
    kernel.forget_market()
    assert kernel.status(row) == UNKNOWN
    assert np.isnan(kernel.risk_of(FUTURE)).all()
    kernel.set_market(*market().values())
    assert kernel.status(row) == HEALTHY
    kernel.remap(range(9), 3, range(9), *TABLE.values())
    assert kernel.status(row) == UNKNOWN and kernel.stages == ()
    assert not MarginBook.__new__(MarginBook).rows_used
    with pytest.raises(StaleAccount):
        MarginBook.__new__(MarginBook).status(0)


def test_settlement_at_the_mark_moves_no_equity():
    kernel, row = account()
    kernel.trade(row, CALL, -3.0, 2.0)
    prices = market(shocked=(0, 0, 0))
    before = kernel.check(row)[0]
    kernel.settle(FUTURE, prices["value"][FUTURE] / TABLE["multiplier"][FUTURE])
    kernel.settle(CALL, prices["value"][CALL] / TABLE["multiplier"][CALL])
    assert kernel.check(row)[0] == pytest.approx(before, rel=1e-15)


# ---- rules by hand ----------------------------------------------------------------------------------------------

def test_tiers_by_hand():
    kernel = book(PLANS["tiers"], market(shocked=(0, 0, 0), spot={DOLLAR: 2.0}, notional={FUTURE: 5.0, CALL: 5.0}))
    row = kernel.open()
    kernel.trade(row, FUTURE, -60.0, 1.0)       # notional 300 in the second tier: 300 * 2% - 1 = 5, at 2 dollars each
    assert kernel.parts(row) == ((10.0, 30.0, 0.0),)
    kernel.set_orders(row, FUTURE, 200.0, 10.0)     # 140 long: 700 * 5% = 35 against 15
    assert kernel.parts(row) == ((10.0, 30.0, 40.0),)
    kernel.set_orders(row, FUTURE, 0.0, 0.0)
    kernel.trade(row, CALL, 60.0, 1.0)              # paid for
    assert kernel.parts(row)[0][0] == 10.0
    kernel.trade(row, CALL, -120.0, 1.0)
    assert kernel.parts(row)[0][0] == 20.0
    levered = kernel.open(0.5)
    kernel.trade(levered, FUTURE, 60.0, 1.0)
    assert kernel.parts(levered) == ((10.0, 300.0, 0.0),)


def test_orders_on_entry_add_to_what_is_counted_at_entry():
    kernel = book([("tiers", "tiers", (1.0,), LADDER)], market(
        shocked=(0, 0, 0), spot={DOLLAR: 1.0}, notional={FUTURE: 1.0}))
    row = kernel.open()
    kernel.trade(row, FUTURE, 10.0, 9.0)                # entry 90
    kernel.set_orders(row, FUTURE, 20.0, 0.0)           # 110 after: 5% instead of 2%
    assert kernel.parts(row)[0][1:] == (pytest.approx(1.8), pytest.approx(5.5 - 1.8))
    kernel.set_orders(row, FUTURE, 0.0, 10.0)
    assert kernel.parts(row)[0][2] == 0.0


def test_the_account_is_explained():
    prices = market(shocked=(0, 1, 0))
    kernel = book(PLANS["scan"], prices)
    row = kernel.open()
    kernel.deposit(row, DOLLAR, 10.0)
    kernel.deposit(row, COIN, 3.0)
    kernel.trade(row, FUTURE, 2.0, 5.0)
    none = np.zeros(0)
    instrument, quantity, equity = kernel.explain(row, none.astype(np.int32), none, none)
    assert (instrument.tolist(), quantity.tolist()) == ([COIN, FUTURE], [3.0, 2.0])
    assert equity.tolist() == [10.0 + 2.0 * prices["value"][FUTURE] - 10.0, 3.0, 0.0]
    assert np.array_equal(kernel.risk_of(FUTURE), prices["risk"][FUTURE])
    _, quantity, _ = kernel.explain(row, np.array([FUTURE], np.int32), np.array([-1.0]), np.array([4.0]))
    assert quantity.tolist() == [3.0, 1.0]
    assert kernel.stages == ("scenario loss",)


# ---- bad input --------------------------------------------------------------------------------------------------

def test_plans_are_checked_and_a_refused_one_changes_nothing():
    kernel, row = account()
    before = kernel.check(row)
    bad = LADDER.copy()
    bad[4, 1, 1] = np.nan
    negative = LADDER.copy()
    negative[4, 1, 3] = -0.1
    for plan, kind in (([], CapacityError), ([scan()] * 9, CapacityError), ([("var", "x", (), None)], RangeError),
                       ([scan(1.5)], RangeError), ([scan(-0.5)], RangeError), ([scan(np.nan)], NotFiniteError),
                       ([("scan", "x", (1.0,), None)], ShapeError), ([("tiers", "x", (0.0,), LADDER[:3])], ShapeError),
                       ([("tiers", "x", (0.0,), bad)], NotFiniteError),
                       ([("tiers", "x", (0.0,), negative)], RangeError),
                       ([scan(), ("short charge", "x", (np.inf, 1.0), None)], NotFiniteError)):
        with pytest.raises(kind):
            kernel.set_plan(plan)
        assert kernel.check(row) == before
    assert STAGES == ("scan", "short charge", "closing charge", "tiers", "value at risk", "expected shortfall")


def test_markets_are_checked_and_a_refused_one_changes_nothing():
    kernel, row = account()
    before = kernel.check(row)
    for changes, kind in (({"value": np.zeros(3)}, ShapeError), ({"spot": np.zeros(9)}, ShapeError),
                          ({"risk": np.zeros((9, 0))}, ShapeError), ({"risk": np.zeros((9, 10_241))}, ShapeError),
                          ({"risk": np.zeros(9)}, ShapeError), ({"kept": {0: 1.1}}, RangeError),
                          ({"kept": {0: np.nan}}, RangeError), ({"group": np.full(9, -1)}, RangeError),
                          ({"value": np.array(["x"] * 9)}, ShapeError)):
        with pytest.raises(kind, match=next(iter(changes))):
            kernel.set_market(*market(**changes).values())
        assert kernel.check(row) == before


def test_read_only_arrays_are_welcome_and_outputs_must_be_writable():
    prices = market(shocked=(0, 0, 0))
    for array in prices.values():
        array.flags.writeable = False
    kernel = book(PLANS["scan"], prices)
    row = kernel.open()
    arguments = np.array([FUTURE], np.int32), np.ones(1), np.ones(1)
    for array in arguments:
        array.flags.writeable = False
    kernel.what_if_many(row, *arguments)
    frozen = np.empty(1, np.uint8)
    frozen.flags.writeable = False
    for status in (frozen, np.empty(2, np.uint8), np.empty(1, np.int8), [0], None):
        for call in (kernel.check_range, kernel.breached_range):
            with pytest.raises(ShapeError, match="status"):
                call(0, 1, status)
    with pytest.raises(ShapeError, match="initial"):
        kernel.check_range(0, 1, np.empty(1, np.uint8), np.empty(1))
    for first, last in ((-1, 0), (1, 0), (0, 2)):
        with pytest.raises(RangeError, match="first and last"):
            kernel.check_range(first, last, np.empty(1, np.uint8))
    for bad in ((np.array([FUTURE]), np.ones(1), np.ones(1)), (arguments[0], np.ones(2), np.ones(1)),
                (arguments[0], np.ones(1), np.ones(1, np.float32))):
        with pytest.raises(ShapeError):
            kernel.what_if_many(row, *bad)
    with pytest.raises(CapacityError, match="64"):
        MarginBook(1, 2, 2, 65, range(65), range(65), [0] * 65, [1.0] * 65, [0] * 65)


def test_hot_calls_allocate_nothing():
    kernel, row = account(PLANS["tiers"])
    status = np.empty(1, np.uint8)
    calls = (lambda: kernel.status(row), lambda: kernel.what_if(row, FUTURE, 1.0, 5.0),
             lambda: kernel.repeat(row, 100), lambda: kernel.check_range(0, 1, status))
    for call in calls:
        call()
        tracemalloc.start()
        before = tracemalloc.take_snapshot()
        for _ in range(100):
            call()
        after = tracemalloc.take_snapshot()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            call()
        peak = tracemalloc.get_traced_memory()[1]  # what is allocated and freed within a call shows here
        blocks = sys.getallocatedblocks()
        for _ in range(100):
            call()
        blocks = sys.getallocatedblocks() - blocks
        tracemalloc.stop()
        assert peak - held < 500 and abs(blocks) < 10
        grown = [entry for entry in after.compare_to(before, "lineno")
                 if entry.size_diff > 0 and "tracemalloc" not in entry.traceback[0].filename]
        assert sum(entry.size_diff for entry in grown) < 500, grown
