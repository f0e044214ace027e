"""Rows and markets at the edge: the pass over one row, the pass by stages, sweeps and the twin agree on all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import margin as reference
from test_margin import (
    COIN,
    DOLLAR,
    FUTURE,
    GROUP,
    HEALTHY,
    LADDER,
    LIQUIDATION,
    MARGIN_CALL,
    PUT,
    TABLE,
    UNKNOWN,
    book,
    market,
    scan,
)

from margincore.errors import MarginError
from margincore.kernels.margin import MarginBook

NOTHING = ("short charge", "nothing", (0.0, 0.0), None)     # a second stage makes a plan general, and adds zeros
PLANS = {"scan": [scan(1.0, 0.0)], "half": [scan(0.5, 0.0)], "tiers": [("tiers", "tiers", (0.0,), LADDER)]}
ODD = [np.nan, np.inf, -np.inf, -1.0, -0.0, 0.0, 5e-324, 1e-300, 1e100, 1e101, 1e300, 1.7e308]
NUMBERS = ("value", "notional", "charge_short", "charge_any", "floor_short")
FAULTS = st.lists(st.one_of(
    st.tuples(st.sampled_from(NUMBERS), st.integers(0, PUT + 1), st.sampled_from(ODD)),
    st.tuples(st.just("spot"), st.integers(DOLLAR, 2), st.sampled_from(ODD)),
    st.tuples(st.just("kept"), st.integers(DOLLAR, 2), st.sampled_from([0.0, -0.0, 5e-324, 1.0])),
    st.tuples(st.just("risk"), st.tuples(st.integers(0, PUT + 1), st.integers(0, 15)), st.sampled_from(ODD)),
    st.tuples(st.just("risk"), st.tuples(st.integers(DOLLAR, 2), st.integers(0, 15)), st.sampled_from(ODD)),
), max_size=3)
SIZES = st.one_of(st.integers(-12, 12).map(float),
                  st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e-300, 1e15, -1e15, 1e9]))
PRICES = st.sampled_from([5e-324, 1e-300, 0.0, 0.5, 1.0, 7.25, 1e9, 1e15])
STEPS = st.lists(st.one_of(
    st.tuples(st.just("trade"), st.integers(3, PUT + 1), SIZES, PRICES),
    st.tuples(st.just("trade"), st.sampled_from([3, 5, 6]), SIZES, PRICES),
    st.tuples(st.just("deposit"), st.sampled_from([0, 0, 0, 1, 2]), SIZES),
    st.tuples(st.just("set_orders"), st.integers(3, PUT + 1), st.sampled_from([0.0, 5e-324, 3.0, 1e15]),
              st.sampled_from([0.0, 2.0, 1e15])),
), max_size=9)


def faulty(seed, scenarios, sets, shocked, faults, order):
    """A market with faults whose groups are in another order: balances stand before, between or after positions."""
    group = np.array(order)[GROUP]
    offset_set = group if sets is None else np.array(sets)[group]
    prices = market(seed, scenarios, None, shocked, group=group, offset_set=offset_set)
    for name, where, number in faults:
        if name == "risk":
            where = where[0], where[1] % scenarios
        prices[name][where] = number
    return prices


def take(kernel, row, steps):
    """The steps that the book does not refuse; the same ones whatever the plan."""
    refused = []
    for at, (verb, *arguments) in enumerate(steps):
        try:
            getattr(kernel, verb)(row, *arguments)
        except MarginError:
            refused.append(at)
    return refused


def bits(numbers):
    return np.array(numbers, np.float64).tobytes()


def swept(kernel):
    """Status and numbers of every row by sweep, and the answer of the sweep for breaches."""
    rows = kernel.rows_used
    status, breached, numbers = np.empty(rows, np.uint8), np.empty(rows, np.uint8), np.empty((3, rows))
    kernel.check_range(0, rows, status, *numbers)
    kernel.breached_range(0, rows, breached)
    return status, numbers, breached


MARKETS = st.builds(
    faulty, st.integers(0, 20), st.sampled_from([1, 7, 8, 9, 16, 17]),
    st.sampled_from([None, (0, 0, 0, 0), (0, 1, 1, 2)]), st.sampled_from([(0, 0, 0), (0, 1, 0), (1, 0, 0)]), FAULTS,
    st.sampled_from([(0, 1, 2, 3), (1, 0, 2, 3), (3, 0, 1, 2), (2, 3, 0, 1)]))


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(sorted(PLANS)), MARKETS, STEPS, st.sampled_from([0.0, 0.5]))
def test_every_way_to_check_a_row_gives_the_same_bits(plan, prices, steps, rate):
    quick, general = book(PLANS[plan], prices), book([*PLANS[plan], NOTHING], prices)
    for kernel in (quick, general):
        row = kernel.open(rate)
    assert take(quick, row, steps) == take(general, row, steps)
    ours = quick.check(row)
    assert bits(ours) == bits(general.check(row))
    for kernel in (quick, general):
        status, numbers, breached = swept(kernel)
        assert bits([*numbers[:, 0], status[0]]) == bits(ours)
        assert kernel.status(row) == status[0] and breached[0] == min(status[0], 2)
    for column in (FUTURE, DOLLAR, COIN):
        try:
            asked = quick.what_if(row, column, 1.0, 2.0)
        except MarginError as refusal:
            with pytest.raises(type(refusal)):
                general.what_if(row, column, 1.0, 2.0)
            continue
        assert asked == general.what_if(row, column, 1.0, 2.0)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(sorted(PLANS)), MARKETS, STEPS)
def test_no_fault_hides_from_the_twin(plan, prices, steps):
    kernel = book(PLANS[plan], prices)
    row = kernel.open()
    take(kernel, row, steps)
    slots = [(int(c), *rest) for c, *rest in zip(*kernel.read(row), strict=True)]
    with np.errstate(all="ignore"):
        equity, initial, maintenance, status, _ = reference.check(slots, limited(prices), TABLE, PLANS[plan])
    ours = kernel.check(row)
    if status == UNKNOWN or ours[3] == UNKNOWN:
        assert ours[3] == status
        return
    scale = magnitude(slots, prices)
    assert np.allclose(ours[:3], (equity, initial, maintenance), rtol=1e-11, atol=1e-12 * scale)
    if min(abs(equity - initial), abs(equity - maintenance)) > 1e-11 * scale:
        assert ours[3] == status


def limited(prices):
    """The market as the kernel's rules read it: beyond 1e100 a number is a fault of the feed."""
    result = dict(prices)
    for name in (*NUMBERS, "spot", "risk"):
        result[name] = np.where(np.abs(prices[name]) <= 1e100, prices[name], np.nan)
    return result


def magnitude(slots, prices):
    """Sum of the absolute amounts that were added: what a rounding is relative to."""
    total = 1e-300
    spot = max([1.0, *(x for x in prices["spot"] if 0.0 < x <= 1e100)])
    for c, q, e, b, s in slots:
        held = [x for x in (*prices["risk"][c], prices["value"][c], prices["notional"][c]) if abs(x) <= 1e100]
        total += (abs(q) + b + s) * max([1.0, *map(abs, held)]) + abs(e)
    return total * spot * 10.0


@pytest.mark.parametrize("plan", [PLANS["scan"], [*PLANS["scan"], NOTHING]], ids=["one pass", "stages"])
def test_every_scenario_counts_whatever_their_number(plan):
    kernel = book(plan, market(shocked=(0, 0, 0)))
    row = kernel.open()
    kernel.trade(row, FUTURE, 2.0, 5.0)
    for scenarios in range(1, 42):
        for worst in range(scenarios):
            risk = np.zeros((9, scenarios))
            risk[FUTURE, worst] = -3.0 - worst
            kernel.set_market(*market(shocked=(0, 0, 0), risk=risk).values())
            assert kernel.check(row)[2] == 2.0 * (3.0 + worst)


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("positions", [1, 2, 15, 16, 17, 30, 31, 32, 33, 34, 64, 65])
def test_rows_of_any_length_ask_for_the_sum_of_their_sets(positions, balance):
    columns = positions + 1
    random = np.random.default_rng(positions)
    risk = random.normal(size=(columns, 16))
    quantity = random.normal(size=columns)
    zeros, apart = np.zeros(columns), np.arange(columns)
    kernel = MarginBook(1, 200, 4, 1, range(columns), [0] * columns, [0] + [1] * positions, [1.0] * columns,
                        [0] * columns)
    kernel.set_plan(PLANS["scan"])
    kernel.set_market(np.ones(columns), [1.0], [1.0], [0], risk, apart, apart, *[zeros] * 4)
    row = kernel.open()
    if balance:
        kernel.deposit(row, 0, 7.0)
    for column in range(1, columns):
        kernel.trade(row, column, quantity[column], 1.0)
    due = sum(max(0.0, -float((quantity[column] * risk[column]).min())) for column in range(1, columns))
    assert kernel.check(row)[2] == pytest.approx(due, rel=1e-13)
    assert kernel.check(row)[0] == pytest.approx(7.0 * balance, abs=1e-12)


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_an_emptied_account_owes_nothing_and_one_that_owes_a_little_does(plan):
    kernel = book(PLANS[plan], market(shocked=(0, 0, 0)))
    row = kernel.open()
    for asset in range(3):
        kernel.deposit(row, asset, 5.0)
        kernel.deposit(row, asset, -5.0)
    assert kernel.check(row) == (0.0, 0.0, 0.0, HEALTHY) and swept(kernel)[2][row] == MARGIN_CALL
    kernel.deposit(row, DOLLAR, -1e-300)
    assert kernel.status(row) == LIQUIDATION and swept(kernel)[2][row] == LIQUIDATION
