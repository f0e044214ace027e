"""The stage of value at risk and expected shortfall: its twin, the reductions below it, one answer everywhere."""

import hashlib
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_sets import digest_at
from test_margin import (
    CALL,
    COIN,
    DOLLAR,
    FUTURE,
    HEALTHY,
    PERPETUAL,
    STEPS,
    UNKNOWN,
    assert_twin,
    book,
    crowd,
    market,
    table,
)

from margincore import kernels
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import risk
from margincore.kernels.margin import MarginBook

VAR, ES = "value at risk", "expected shortfall"


def tail(code=VAR, count=40, level=0.9, *, gain_kept=1.0, floors=0.0, floor_rate=0.0, convention=0.0, combine=0.0,
         share=0.0, stressed_level=0.5, stressed=0, weights=None, ratios=(1.0, 1.3)):
    numbers = (*ratios, gain_kept, floors, floor_rate, convention, level, count, combine, share, stressed_level,
               stressed)
    return code, "tail loss", numbers, weights


def probabilities(*counts, seed=8):
    """Powers of two as far as possible, so that the sums of twin and kernel agree to the bit."""
    random = np.random.default_rng(seed)
    result = []
    for count in counts:
        units = np.full(count, 1024 // count)
        units[:1024 - units.sum()] += 1
        for _ in range(count):
            a, b = random.integers(0, count, 2)
            moved = random.integers(0, units[a] + 1)
            units[a] -= moved
            units[b] += moved
        result.append(units / 1024.0)
    return np.concatenate(result)


PLANS = {
    "var": [tail()],
    "lower": [tail(convention=1.0, level=0.75)],
    "interpolated": [tail(convention=2.0, level=0.93)],
    "es": [tail(ES, level=0.925)],
    "es of one": [tail(ES, level=0.99, floors=1.0)],
    "groups": [tail(ES, gain_kept=0.5, floors=1.0), ("short charge", "short", (1.0, 1.5), None)],
    "alone": [tail(gain_kept=0.0, floor_rate=0.1)],
    "averaged": [tail(ES, 24, combine=1.0, share=0.25, stressed_level=0.75, stressed=16)],
    "larger": [tail(VAR, 24, combine=2.0, stressed_level=0.875, stressed=16, floors=1.0)],
    "weighted": [tail(ES, level=0.875, weights=probabilities(40))],
    "weighted var": [tail(VAR, level=0.875, convention=1.0, weights=probabilities(40, seed=9))],
    "all": [tail(ES, 24, level=0.875, gain_kept=0.5, floors=1.0, floor_rate=0.02, combine=1.0, share=0.25,
                 stressed_level=0.75, stressed=16, weights=probabilities(24, 16))],
}
MARKETS = st.builds(
    market, seed=st.integers(0, 99), scenarios=st.just(40),
    sets=st.sampled_from([None, (0, 0, 0, 0), (0, 1, 1, 2), (2, 0, 0, 0)]),
    shocked=st.sampled_from([(0, 0, 0), (0, 1, 0), (0, 1, 1)]),
    value=st.dictionaries(st.integers(0, 8), st.sampled_from([np.nan, 0.0]), max_size=1),
    spot=st.dictionaries(st.integers(0, 2), st.sampled_from([np.nan, 0.0]), max_size=1))


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(PLANS)), MARKETS, STEPS, st.sampled_from([0.0, 0.04]))
def test_a_row_equals_its_twin(plan, prices, steps, rate):
    kernel = book(PLANS[plan], prices)
    row = kernel.open(rate)
    for verb, *arguments in steps:
        getattr(kernel, verb)(row, *arguments)
    assert_twin(kernel, row, prices, PLANS[plan])


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(PLANS)), MARKETS, STEPS)
def test_what_if_is_trade_then_check_bit_for_bit(plan, prices, steps):
    kernel = book(PLANS[plan], prices)
    row = kernel.open()
    for verb, column, *numbers in steps:
        if verb == "set_orders":
            kernel.set_orders(row, column, *numbers)
            continue
        price = numbers[1] if verb == "trade" else 0.0
        try:
            asked = kernel.what_if(row, column, numbers[0], price, 0.0)
            answer = kernel.what_if_many(row, np.array([column], np.int32), np.array(numbers[:1]), np.array([price]))
        except MarginError as refusal:
            with pytest.raises(type(refusal)):
                getattr(kernel, verb)(row, column, *numbers)
            continue
        getattr(kernel, verb)(row, column, *numbers)
        check = kernel.check(row)
        assert asked == check[3]
        assert np.array(answer[:4]).tobytes() == np.array(check).tobytes() or np.isnan(check[2])


# ---- one set of many scenarios: the reductions of margincore.kernels.risk, to the bit -------------------------------

def large(stage, scenarios, positions=10, seed=1, risk_table=None):
    """A book of one row, its profit vector, and the row's number; 12 futures of three underlyings, one set."""
    random = np.random.default_rng(seed)
    columns = 13
    given_risk = random.standard_t(3, (columns, scenarios)) if risk_table is None else risk_table
    kernel = MarginBook(4, 100, 4, 1, range(columns), [0] * columns, [0] + [1] * 12, [1.0] * columns, [0] * columns)
    kernel.set_plan([stage])
    none, ones = np.zeros(columns), np.ones(columns)
    kernel.set_market(ones, ones[:1], ones[:1], [0], given_risk, np.arange(columns) // 5, none, ones, none, none, none)
    row = kernel.open()
    kernel.deposit(row, 0, 1e3)
    pnl = np.zeros(scenarios)
    for column in range(1, positions + 1):
        quantity = random.normal()
        kernel.trade(row, column, quantity, 1.0)
        pnl = pnl + quantity * given_risk[column]
    return kernel, row, pnl


@pytest.mark.parametrize("scenarios", [
    1, 2, 7, 8, 31, 63, 64, 65, 100, 129, 250, 500, 1_000, 1_007, 2_047, 2_048, 2_049, 5_000, 10_240])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.975, 0.99, 0.999])
def test_any_number_of_scenarios_gives_the_bits_of_the_reductions(scenarios, level):
    expected = None
    for convention in (0, 1, 2, 3):
        code = ES if convention == 3 else VAR
        kernel, row, pnl = large(tail(code, scenarios, level, convention=min(convention, 2)), scenarios)
        if expected is None:
            expected = risk.tail_loss(pnl, level)
        assert kernel.check(row)[2] == max(expected[convention], 0.0)


@pytest.mark.parametrize("scenarios", [1, 9, 64, 500, 1_000, 2_048, 3_000, 10_240])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99, 0.9999])
@pytest.mark.parametrize("decay", [1.0, 0.995, 0.9])
def test_weights_give_the_bits_of_the_reductions(scenarios, level, decay):
    for seed in (1, 2):
        weights = decay ** np.random.default_rng(seed).permutation(scenarios)
        weights[weights < 1e-9] = 0.0
        weights /= weights.sum()
        for convention in (0, 1, 3):
            code = ES if convention == 3 else VAR
            stage = tail(code, scenarios, level, convention=convention % 3, weights=weights)
            kernel, row, pnl = large(stage, scenarios, seed=seed)
            out, codes = np.empty((1, 4)), np.empty(1, np.int32)
            risk.weighted_losses(pnl[None], weights, level, out, codes)
            assert kernel.check(row)[2] == max(out[0, convention], 0.0)


def test_ties_are_counted_once_each():
    table_of_ties = np.zeros((13, 1_000))
    table_of_ties[1, :7] = -1.0
    table_of_ties[1, 7:500] = -0.5
    for level, worst in ((0.999, 1.0), (0.99, 0.5), (0.6, 0.5), (0.5, 0.0)):
        kernel, row, _ = large(tail(VAR, 1_000, level, convention=1.0), 1_000, risk_table=table_of_ties, positions=0)
        kernel.trade(row, 1, 1.0, 1.0)
        assert kernel.check(row)[2] == worst
    weights = np.full(1_000, 1e-3)
    weights /= weights.sum()
    for level in (0.999, 0.99, 0.6):
        plain, row, _ = large(tail(ES, 1_000, level), 1_000, risk_table=table_of_ties, positions=0)
        weighted, _, _ = large(tail(ES, 1_000, level, weights=weights), 1_000, risk_table=table_of_ties, positions=0)
        for kernel in (plain, weighted):
            kernel.trade(row, 1, 1.0, 1.0)
        assert plain.check(row)[2] == pytest.approx(weighted.check(row)[2], rel=1e-12)


@pytest.mark.parametrize("code", [VAR, ES])
def test_a_stressed_block_is_averaged_or_the_larger(code):
    stage = tail(code, 600, 0.99, combine=1.0, share=0.25, stressed_level=0.95, stressed=300)
    kernel, row, pnl = large(stage, 900)
    pick = 3 if code == ES else 0
    base, stressed = risk.tail_loss(pnl[:600].copy(), 0.99)[pick], risk.tail_loss(pnl[600:].copy(), 0.95)[pick]
    assert kernel.check(row)[2] == 0.75 * base + 0.25 * stressed
    kernel, row, _ = large(tail(code, 600, 0.99, combine=2.0, stressed_level=0.95, stressed=300), 900)
    assert kernel.check(row)[2] == max(base, stressed)


# ---- one answer from every door -------------------------------------------------------------------------------------

@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("orders", [False, True])
def test_ranges_threads_and_single_rows_give_the_same_bits(plan, orders):
    kernel = crowd(PLANS[plan], market(scenarios=40), rows=120, orders=orders)
    rows = kernel.rows_used
    whole = table(kernel, 0, rows)
    one_by_one = [kernel.check(row) for row in range(rows - 1)]
    for at in range(3):
        assert np.array([row[at] for row in one_by_one]).tobytes() == whole[at + 1][:-8]
    halves = {}
    threads = [threading.Thread(target=lambda a, b: halves.update({a: table(kernel, a, b)}), args=part)
               for part in ((0, 50), (50, rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tuple(a + b for a, b in zip(halves[0], halves[50], strict=True)) == whole


def digest():
    whole = hashlib.sha256()
    for name in sorted(PLANS):
        for prices in (market(scenarios=40), market(7, 40, (0, 1, 1, 2), (0, 1, 1)), market(8, 40, (0, 0, 0, 0))):
            for orders in (False, True):
                kernel = crowd(PLANS[name], prices, rows=40, orders=orders)
                for part in table(kernel, 0, kernel.rows_used - 1):
                    whole.update(part)
    for scenarios in (1_000, 2_500):
        for stage in (tail(VAR, scenarios, 0.99), tail(ES, scenarios, 0.975, gain_kept=0.5),
                      tail(ES, scenarios, 0.975, weights=np.full(scenarios, 1.0 / scenarios))):
            kernel, row, _ = large(stage, scenarios)
            whole.update(np.array(kernel.check(row)).tobytes())
    return whole.hexdigest()


@pytest.mark.parametrize("level", kernels.LEVELS)
def test_every_instruction_set_gives_the_same_bits(level):
    assert digest_at(level, "test_shortfall") == digest()


def test_orders_never_lower_initial_margin_and_leave_maintenance():
    prices = market(scenarios=40, sets=(0, 0, 1, 1))
    for plan in PLANS.values():
        plain, ordered = crowd(plan, prices, rows=60), crowd(plan, prices, rows=60)
        for row in range(ordered.rows_used - 1):
            for column in ordered.read(row)[0]:
                if column >= 3:
                    ordered.set_orders(row, column, 0.25, 0.5)
            ours, theirs = ordered.check(row), plain.check(row)
            assert (ours[0], ours[2]) == (theirs[0], theirs[2]) or np.isnan(ours[2])
            assert not ours[1] < theirs[1]


def test_open_orders_count_in_the_floors():
    """The worse side of each contract, where the floors are larger than any loss."""
    prices = market(scenarios=40, shocked=(0, 0, 0), risk=np.full((9, 40), 1e-9))
    for plan, column, held, buy, sell, times in (
            ([tail(floor_rate=0.5)], FUTURE, 1.0, 2.0, 5.0, 4.0), ([tail(floor_rate=0.5)], FUTURE, 1.0, 4.0, 5.0, 5.0),
            ([tail(floor_rate=0.5)], CALL, -1.0, 2.0, 5.0, 6.0), ([tail(floors=1.0)], CALL, -1.0, 9.0, 2.0, 3.0)):
        kernel = book(plan, prices)
        row = kernel.open()
        kernel.deposit(row, DOLLAR, 1e6)
        kernel.trade(row, column, held, 5.0)
        _, initial, maintenance, *_ = kernel.check(row)
        kernel.set_orders(row, column, buy, sell)
        assert kernel.check(row)[1:3] == pytest.approx((times * initial, maintenance), rel=1e-12) and initial > 0.1


def test_a_check_allocates_nothing():
    kernel, row, _ = large(tail(ES, 5_000, 0.99), 5_000)
    kernel.repeat(row, 10)
    tracemalloc.start()
    kernel.repeat(row, 100)
    current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


# ---- properties -----------------------------------------------------------------------------------------------------

def maintenance(stage, quantities, seed=3, scenarios=200):
    random = np.random.default_rng(seed)
    kernel, row, _ = large(stage, scenarios, positions=0, risk_table=random.standard_t(3, (13, scenarios)))
    for column, quantity in enumerate(quantities, 1):
        if quantity:
            kernel.trade(row, column, float(quantity), 1.0)
    return kernel.check(row)[2]


BOOKS = st.lists(st.integers(-16, 16).map(lambda q: q / 4.0), min_size=12, max_size=12)


@settings(max_examples=60, deadline=None)
@given(BOOKS, BOOKS, st.sampled_from([0.5, 0.9, 0.975, 0.99]), st.integers(0, 5))
def test_expected_shortfall_is_coherent(a, b, level, seed):
    stage = tail(ES, 200, level)
    whole = maintenance(stage, np.add(a, b), seed)
    apart = maintenance(stage, a, seed) + maintenance(stage, b, seed)
    assert whole <= apart * (1.0 + 1e-12) + 1e-12
    assert maintenance(stage, np.multiply(a, 4.0), seed) == 4.0 * maintenance(stage, a, seed)


@settings(max_examples=40, deadline=None)
@given(BOOKS, st.integers(0, 5))
def test_requirements_rise_with_the_level(book_of, seed):
    for code in (VAR, ES):
        found = [maintenance(tail(code, 200, level), book_of, seed) for level in (0.5, 0.75, 0.9, 0.975, 0.99, 0.999)]
        # one rounding of an average may fall below its neighbour
        assert all(low <= high * (1.0 + 1e-13) for low, high in zip(found, found[1:], strict=False))
    quantile, mean = (maintenance(tail(code, 200, 0.9), book_of, seed) for code in (VAR, ES))
    assert quantile <= mean * (1.0 + 1e-13)


def test_value_at_risk_is_not_sub_additive():
    losses = np.zeros((13, 100))
    losses[1, :4], losses[2, 4:8] = -100.0, -100.0
    apart, together = 0.0, 0.0
    for held in ((1,), (2,), (1, 2)):
        kernel, row, _ = large(tail(VAR, 100, 0.95), 100, positions=0, risk_table=losses)
        for column in held:
            kernel.trade(row, column, 1.0, 1.0)
        if len(held) == 1:
            apart += kernel.check(row)[2]
        else:
            together = kernel.check(row)[2]
    assert apart == 0.0 and together == 100.0


# ---- what cannot be -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("changes", [{"value": {FUTURE: np.nan}}, {"risk": {(FUTURE, 3): np.nan}},
                                     {"risk": {(FUTURE, 39): -np.inf}}, {"spot": {DOLLAR: np.nan}}])
def test_an_unknown_number_makes_its_holders_unknown(plan, changes):
    for given_changes, status in ((changes, UNKNOWN), ({}, None)):
        kernel = book(PLANS[plan], market(scenarios=40, shocked=(0, 0, 0), **given_changes))
        row = kernel.open()
        kernel.deposit(row, DOLLAR, 1e9)
        kernel.trade(row, FUTURE, 1.0, 5.0)
        assert kernel.status(row) == (status if status is not None else HEALTHY)
        assert np.isnan(kernel.check(row)[1]) == (status == UNKNOWN)


def test_a_shocked_coin_of_unknown_equity_is_unknown():
    kernel = book(PLANS["var"], market(scenarios=40, value={PERPETUAL + 1: np.nan}))
    row = kernel.open()
    kernel.deposit(row, COIN, 1e9)
    kernel.trade(row, PERPETUAL + 1, 1.0, 5.0)
    assert kernel.status(row) == UNKNOWN


def test_a_tick_with_other_scenarios_than_the_plan_is_unknown():
    for scenarios in (39, 41, 8):
        kernel = book(PLANS["var"], market(scenarios=scenarios))
        row = kernel.open()
        kernel.deposit(row, DOLLAR, 1e9)
        assert kernel.status(row) == HEALTHY
        kernel.trade(row, CALL, 1.0, 5.0)
        assert kernel.status(row) == UNKNOWN and np.isnan(kernel.check(row)[2])


@pytest.mark.parametrize(("stage", "error", "words"), [
    (tail(level=1.0), RangeError, "level must be in"), (tail(level=0.0), RangeError, "level must be in"),
    (tail(count=0), RangeError, "scenarios must be 1 to"), (tail(count=10_241), RangeError, "scenarios must be 1 to"),
    (tail(count=2.5), RangeError, "scenarios must be"), (tail(gain_kept=1.5), RangeError, "gain kept"),
    (tail(convention=3.0), RangeError, "convention"), (tail(combine=3.0), RangeError, "combination"),
    (tail(combine=1.0, share=2.0, stressed=3), RangeError, "stressed share"),
    (tail(combine=1.0, share=0.5), RangeError, "scenarios must be"), (tail(level=np.nan), NotFiniteError, "finite"),
    (tail(weights=np.ones(40)), RangeError, "weights must sum to 1"),
    (tail(weights=np.full(39, 1 / 39)), ShapeError, "one weight per scenario"),
    (tail(weights=np.r_[-1.0, 2.0, np.zeros(38)]), RangeError, "weights must not be negative"),
    (tail(weights=np.full(40, np.nan)), RangeError, "weights must not be negative"),
    (tail(convention=2.0, weights=np.full(40, 1 / 40)), RangeError, "upper or lower"),
    ((VAR, "short of numbers", (1.0, 1.0), None), ShapeError, "12 numbers"),
])
def test_a_plan_refuses_what_cannot_be(stage, error, words):
    kernel = book(PLANS["var"], market(scenarios=40))
    with pytest.raises(error, match=words):
        kernel.set_plan([stage])
    assert kernel.stages == ("tail loss",)
