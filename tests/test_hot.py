"""Hot rows: always the answer of the book, whatever happens to the market, the row or the plan in between."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_margin import COIN, DOLLAR, FUTURE, HEALTHY, LIQUIDATION, PERPETUAL, STEPS, UNKNOWN, book, market
from test_shortfall import ES, PLANS, VAR, large, tail
from test_var_margin import SPOT, engine_of, moves

import margincore as mc
from margincore.errors import MarginError, StaleAccount
from margincore.kernels import risk
from margincore.kernels.hot import HotRow

SETS = st.sampled_from([None, (0, 0, 0, 0), (0, 1, 1, 2), (2, 0, 0, 0)])


def same(hot, kernel, row, *trade):
    try:
        expected = kernel.what_if(row, *trade)
    except MarginError as refusal:
        with pytest.raises(type(refusal)) as caught:
            hot.what_if(*trade)
        assert str(caught.value) == str(refusal)
        return
    assert hot.what_if(*trade) == expected


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(PLANS)), SETS, st.sampled_from([(0, 0, 0), (0, 1, 0), (0, 1, 1)]), STEPS,
       st.lists(st.tuples(st.integers(DOLLAR, 8), st.integers(-12, 12), st.integers(1, 90)), min_size=1, max_size=4),
       st.integers(0, 99))
def test_a_hot_row_answers_as_the_book(plan, sets, shocked, steps, asked, seed):
    """No orders are left out, and none refused differently; markets, plans and trades come in between."""
    prices = market(seed, 40, sets, shocked)
    kernel = book(PLANS[plan], prices)
    row = kernel.open()
    hot = HotRow(kernel, row)
    for at, (verb, *arguments) in enumerate(steps):
        for column, lots, price in asked:
            same(hot, kernel, row, column, lots / 4.0, price / 8.0)
        getattr(kernel, verb)(row, *arguments)
        assert hot.status() == kernel.status(row)
        if at % 5 == 4:
            kernel.set_market(*market(seed + at, 40, sets, shocked, value={FUTURE: np.nan} if at % 2 else {}).values())
    for column, lots, price in asked:
        same(hot, kernel, row, column, lots / 4.0, price / 8.0)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([VAR, ES]), st.sampled_from([3, 64, 500]), st.integers(0, 30), st.integers(-5, 5),
       st.sampled_from([0, 1, 2]))
def test_on_a_threshold_the_row_is_summed_afresh(code, scenarios, seed, ulps, convention):
    kernel, row, _ = large(tail(code, scenarios, 0.9, convention=float(convention)), scenarios, seed=seed)
    hot = HotRow(kernel, row)
    random = np.random.default_rng(seed)
    hot.status()
    for _ in range(4):
        column, quantity = int(random.integers(1, 13)), float(random.normal())
        one = np.array([column], np.int32), np.array([quantity]), np.array([1.0])
        equity, initial, maintenance, _, _ = kernel.what_if_many(row, *one)
        for threshold in (initial, maintenance):
            kernel.deposit(row, 0, threshold - equity)
            equity = kernel.what_if_many(row, *one)[0]
            kernel.deposit(row, 0, ulps * np.spacing(max(abs(equity), 1e-300)))
            equity = kernel.what_if_many(row, *one)[0]
            assert hot.what_if(column, quantity, 1.0) == kernel.what_if(row, column, quantity, 1.0)
        kernel.trade(row, column, quantity, 1.0)


def test_away_from_thresholds_nothing_is_summed_afresh():
    for scenarios, stage in ((1_000, tail(VAR, 1_000, 0.99)), (1_000, tail(ES, 1_000, 0.975)),
                             (900, tail(ES, 600, 0.99, combine=1.0, share=0.25, stressed_level=0.95, stressed=300))):
        kernel, row, _ = large(stage, scenarios)
        hot = HotRow(kernel, row)
        random = np.random.default_rng(2)
        seen = set()
        for _ in range(200):
            column, quantity = int(random.integers(1, 13)), float(random.normal()) * 100.0
            seen.add(hot.what_if(column, quantity, 1.0))
            assert hot.what_if(column, quantity, 1.0) == kernel.what_if(row, column, quantity, 1.0)
        assert (hot.made, hot.afresh) == (1, 0) and len(seen) >= 2
        for column in range(1, 7):      # several fills later the vectors are made again, once
            kernel.trade(row, column, 0.5, 1.0)
            assert hot.status() == kernel.status(row)
        assert hot.made == 2 and hot.afresh == 0


@pytest.mark.parametrize("change", ["market", "plan"])
def test_a_new_market_or_plan_is_seen_at_once(change):
    """The table of risk keeps its place in memory: what the vectors were made of cannot be told by its address."""
    kernel, row, pnl = large(tail(VAR, 500, 0.9), 500)
    loss = risk.tail_loss(pnl, 0.9)[0]
    equity = kernel.check(row)[0]
    kernel.deposit(row, 0, 2.0 * loss - equity)
    hot = HotRow(kernel, row)
    assert hot.status() == kernel.status(row) == HEALTHY
    assert hot.what_if(1, 1e-9, 1.0) == HEALTHY
    if change == "plan":
        kernel.set_plan([tail(VAR, 500, 0.9, ratios=(3.0, 3.0))])
    else:
        random = np.random.default_rng(1)  # the table of `large`, thrice
        none, ones = np.zeros(13), np.ones(13)
        kernel.set_market(ones, ones[:1], ones[:1], [0], 3.0 * random.standard_t(3, (13, 500)), np.arange(13) // 5,
                          none, ones, none, none, none)
    assert kernel.check(row)[2] == pytest.approx(3.0 * loss)
    assert hot.what_if(1, 1e-9, 1.0) == kernel.what_if(row, 1, 1e-9, 1.0) == LIQUIDATION
    assert hot.status() == LIQUIDATION and hot.made == 2 and hot.afresh == 0


def test_plans_without_a_vector_are_answered_by_the_book():
    for plan in ("groups", "weighted"):
        kernel = book(PLANS[plan], market(scenarios=40))
        row = kernel.open()
        kernel.deposit(row, DOLLAR, 1e6)
        hot = HotRow(kernel, row)
        assert hot.what_if(FUTURE, 1.0, 5.0) == kernel.what_if(row, FUTURE, 1.0, 5.0)
        assert hot.afresh == 1
    kernel.set_plan([("scan", "scan", (1.0, 1.3, 1.0, 0.0), None)])
    assert hot.what_if(FUTURE, 1.0, 5.0) == kernel.what_if(row, FUTURE, 1.0, 5.0)
    kernel.forget_market()
    assert hot.what_if(FUTURE, 1.0, 5.0) == UNKNOWN


def test_orders_are_counted():
    kernel = book(PLANS["es"], market(scenarios=40, shocked=(0, 0, 0)))
    row = kernel.open()
    kernel.deposit(row, DOLLAR, 100.0)
    hot = HotRow(kernel, row)
    for size in (1.0, 10.0, 100.0, 1_000.0):
        kernel.set_orders(row, PERPETUAL, size, size)
        assert hot.what_if(FUTURE, 1.0, 5.0) == kernel.what_if(row, FUTURE, 1.0, 5.0)
        assert hot.status() == kernel.status(row)


def test_a_closed_row_is_stale_and_bad_arguments_are_named():
    kernel = book(PLANS["var"], market(scenarios=40))
    row = kernel.open()
    hot = HotRow(kernel, row)
    for arguments in ((-1, 1.0, 1.0), (9, 1.0, 1.0), (FUTURE, np.nan, 1.0), (FUTURE, 1.0, -1.0), (FUTURE, 0.0, 1.0),
                      (COIN, np.inf, 1.0)):
        same(hot, kernel, row, *arguments)
    kernel.close(row)
    with pytest.raises(StaleAccount):
        hot.status()
    with pytest.raises(StaleAccount):
        HotRow(kernel, row)
    assert kernel.open() == row
    with pytest.raises(StaleAccount):
        hot.what_if(FUTURE, 1.0, 1.0)


def test_an_account_is_made_hot():
    engine = engine_of(mc.VarMargin(moves(1_000), measure=mc.ExpectedShortfall(0.99)))
    alice = engine.open("alice")
    alice.deposit("USDC", 40.0)
    hot = alice.hot()
    for lots in (0.5, 1.0, 2.0, 4.0, -3.0, 8.0):
        for name in SPOT:
            if name != "USDC":
                column = engine.contracts.column[f"{name}-PERP"]
                asked = hot.what_if(column, lots, SPOT[name]) == mc.Status.HEALTHY
                assert asked == alice.can_trade(f"{name}-PERP", lots, price=SPOT[name])
        alice.trade("ETH-PERP", 0.1, price=50.0)
