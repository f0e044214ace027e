"""The engine: one market, one model, many accounts; what it promises to a user."""

import dataclasses
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import margincore as mc
from margincore.errors import (
    CapacityError,
    MissingDataError,
    NotFiniteError,
    RangeError,
    ShapeError,
    StaleAccount,
    UnknownInstrument,
)
from margincore.report import parts_of

NOW = mc.utc("2026-03-01")
EXPIRY = mc.utc("2026-03-27T08:00")
CONTRACTS = mc.Contracts([
    mc.Spot("BTC/USDC", underlying="BTC", settle="USDC"),
    mc.Perpetual("BTC-PERP", underlying="BTC", settle="USDC", multiplier=0.001),
    mc.Perpetual("BTC-INV", underlying="BTC", settle="BTC", multiplier=10.0, inverse=True),
    mc.Future("BTC-27MAR", underlying="BTC", settle="USDC", expiry_ns=EXPIRY),
    mc.Option("C100", underlying="BTC", settle="USDC", strike=100_000.0, expiry_ns=EXPIRY, right="call"),
    mc.Option("P90I", underlying="BTC", settle="BTC", strike=90_000.0, expiry_ns=EXPIRY, right="put", inverse=True),
    mc.Perpetual("ETH-PERP", underlying="ETH", settle="USDC"),
])
MARKET = mc.MarketState(now_ns=NOW, spot={"BTC": 97_200.0, "ETH": 3_000.0, "USDC": 1.0},
                        volatility={"C100": 0.5, "P90I": 0.55})
GRID = mc.grid(spot=[-0.16, -0.08, 0.0, 0.08, 0.16])
TIERS = {symbol: [(0.0, 0.01, 50.0), (50_000.0, 0.02, 20.0)] for symbol in
         ("BTC-PERP", "BTC-27MAR", "C100", "ETH-PERP")}
TIERS |= {symbol: [(0.0, 0.01, 50.0), (2.0, 0.02, 20.0)] for symbol in ("BTC-INV", "P90I")}
SCENARIO = mc.ScenarioMargin(scenarios=GRID, addons=[mc.ShortOptionFloor(0.01), mc.ShortOptionCharge(0.002)],
                             collateral={"USDC": 0.0, "BTC": 0.05})
MODELS = {
    "scenario": SCENARIO,
    "shocked": mc.ScenarioMargin(scenarios=GRID, conversion="shocked", shocked_assets=["BTC"],
                                 offset_sets=[("BTC", "ETH")],
                                 gain_kept=0.6),
    "tiers": mc.TieredMargin(TIERS, collateral={"USDC": 0.0, "BTC": 0.05}),
}
SYMBOLS = [item.symbol for item in CONTRACTS.derivatives]
PRICES = {"BTC-PERP": 97_000.0, "BTC-INV": 97_100.0, "BTC-27MAR": 97_500.0, "C100": 4_000.0, "P90I": 0.02,
          "ETH-PERP": 3_010.0}
SIZES = {"BTC-PERP": 100.0, "BTC-INV": 1_000.0, "BTC-27MAR": 0.5, "C100": 1.0, "P90I": 1.0, "ETH-PERP": 3.0}


def engine(model="scenario", market=MARKET, **options):
    made = mc.Engine(CONTRACTS, MODELS[model] if isinstance(model, str) else model, accounts=50, **options)
    if market is not None:
        made.update(market)
    return made


def funded(model="scenario", **options):
    account = engine(model, **options).open("alice")
    account.deposit("USDC", 50_000.0)
    account.deposit("BTC", 0.5)
    return account


orders = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(-8, 8).filter(bool)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(orders, st.sampled_from(sorted(MODELS)))
def test_what_if_is_trade_then_check(sequence, model):
    account = funded(model)
    for symbol, lots in sequence:
        quantity, price = lots * SIZES[symbol], PRICES[symbol]
        asked = account.what_if(symbol, quantity, price=price, fee=1.5)
        allowed = account.can_trade(symbol, quantity, price=price, fee=1.5)
        book = account.engine.book
        status = book.what_if(account.row, CONTRACTS.column[symbol], quantity, price, 1.5)
        account.trade(symbol, quantity, price=price, fee=1.5)
        equity, initial, maintenance, after = book.check(account.row)
        assert status == after == asked.status
        assert allowed == (after == mc.Status.HEALTHY)
        # one fee leg more in what_if: the same decision, figures equal to rounding
        assert asked.after == pytest.approx((equity, initial, maintenance), rel=1e-12, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(orders, st.sampled_from(sorted(MODELS)), st.integers(0, 5), st.integers(0, 5))
def test_a_report_adds_up(sequence, model, buy, sell):
    account = funded(model)
    for symbol, lots in sequence:
        account.trade(symbol, lots * SIZES[symbol], price=PRICES[symbol])
    account.set_orders("BTC-PERP", buy=buy * 100.0, sell=sell * 100.0)
    report = account.margin()
    equity, initial, maintenance, status = account.engine.book.check(account.row)
    assert (report.equity, report.initial, report.maintenance, report.status) == (equity, initial, maintenance, status)
    total = {"maintenance": 0.0, "initial": 0.0}
    for part in report.parts:
        total["maintenance"] += part.maintenance
        total["initial"] += part.initial
    assert total == {"maintenance": maintenance, "initial": initial}  # bit for bit
    for item in report.sets:
        summed = 0.0
        for loss in item.contributions.values():
            summed += loss
        if len(item.underlyings) == 1:
            assert summed == item.loss
        assert summed == pytest.approx(item.loss, rel=1e-12, abs=1e-9)
        assert (item.scenario is None) == (item.loss == 0.0)


@settings(max_examples=40, deadline=None)
@given(st.permutations([(s, n) for s, n in zip(SYMBOLS, (3, -2, 1, -4, 5, 2), strict=True)]),
       st.sampled_from(sorted(MODELS)))
def test_the_order_of_trades_does_not_matter(sequence, model):
    def check(ordered):
        account = funded(model)
        for symbol, lots in ordered:
            account.trade(symbol, lots * SIZES[symbol], price=PRICES[symbol])
        return account.engine.book.check(account.row)

    expected, found = check(sorted(sequence)), check(sequence)
    assert found[:3] == pytest.approx(expected[:3], rel=1e-12)
    assert found[3] == expected[3]


def test_a_linear_position_by_hand():
    account = funded(mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.1, 0.1]), initial_ratio=1.5))
    account.trade("BTC-PERP", 1_000.0, price=96_000.0)  # one bitcoin
    report = account.margin()
    assert report.equity == pytest.approx(50_000.0 + 0.5 * 97_200.0 + 1_200.0, rel=1e-15)
    assert report.maintenance == pytest.approx(9_720.0, rel=1e-12)
    assert report.initial == pytest.approx(14_580.0, rel=1e-12)
    assert report.worst_scenario.startswith("spot -10 %")
    assert report.contributions == {"BTC-PERP": pytest.approx(9_720.0)}


def test_an_inverse_position_is_exact_not_linear():
    account = engine(mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.5, 0.5]))).open("coin")
    account.deposit("BTC", 2.0)
    account.trade("BTC-INV", 9_720.0, price=90_000.0)
    profit = 97_200.0 * (1 / 90_000.0 - 1 / 97_200.0)
    assert account.margin().equity == pytest.approx((2.0 + profit) * 97_200.0, rel=1e-13)
    loss_coin = 97_200.0 * (1 / 48_600.0 - 1 / 97_200.0)  # one coin lost at half the price, not half a coin
    assert account.margin().maintenance == pytest.approx(loss_coin * 97_200.0, rel=1e-12)


@pytest.mark.parametrize(("shocked", "loss"), [((), 6_000.0), (("BTC",), 4_800.0 + 40_000.0)])
def test_profit_in_a_shocked_coin_is_converted_at_its_shocked_price(shocked, loss):
    """Also of a coin that no contract is written on, so that nothing but the collateral moves it."""
    table = mc.Contracts([mc.Perpetual("ETHBTC", underlying="ETH", settle="BTC")])
    model = mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.2]), conversion="shocked", shocked_assets=shocked)
    made = mc.Engine(table, model)
    made.update(mc.MarketState(now_ns=NOW, spot={"BTC": 1e5, "ETH": 3e3}, mark={"ETHBTC": 0.03}))
    account = made.open("a")
    account.deposit("BTC", 2.0)
    account.trade("ETHBTC", 10.0, price=0.03)       # loses 0.06 BTC when ETH falls by a fifth
    assert account.margin().maintenance == pytest.approx(loss, rel=1e-12)


def test_options_are_paid_up_front_and_count_with_their_value():
    account = funded()
    before = account.margin().equity
    mark = account.engine.mark("C100")
    account.trade("C100", 2.0, price=mark)
    assert account.balance("USDC") == 50_000.0 - 2.0 * mark
    assert account.margin().equity == pytest.approx(before, rel=1e-14)


def test_haircuts_spare_debts_and_refuse_unlisted_assets():
    model = dataclasses.replace(SCENARIO, collateral={"BTC": 0.10})
    account = engine(model).open("a")
    account.deposit("BTC", 1.0)
    account.deposit("USDC", 500.0)
    assert account.margin().equity == pytest.approx(0.9 * 97_200.0)  # USDC is not listed: worth nothing
    account.trade("BTC/USDC", 1.0, price=97_200.0)
    assert account.balance("USDC") == 500.0 - 97_200.0
    assert account.margin().equity == pytest.approx(0.9 * 2.0 * 97_200.0 - 96_700.0)


def test_realised_profit_at_average_cost():
    account = funded()
    account.trade("ETH-PERP", 2.0, price=2_900.0)
    account.trade("ETH-PERP", 2.0, price=3_000.0)
    account.trade("ETH-PERP", -1.0, price=3_100.0, fee=0.5)
    assert account.balance("USDC") == pytest.approx(50_000.0 + 150.0 - 0.5)
    assert account.portfolio.entry["ETH-PERP"] == pytest.approx(2_950.0)
    account.trade("ETH-PERP", -5.0, price=3_050.0)  # through zero
    assert account.position("ETH-PERP") == -2.0
    assert account.portfolio.entry["ETH-PERP"] == pytest.approx(3_050.0)
    assert account.balance("USDC") == pytest.approx(50_149.5 + 300.0)
    account.trade("ETH-PERP", 2.0, price=3_050.0)
    assert account.portfolio.positions == {}


@pytest.mark.parametrize(("field", "value", "held"), [
    ("spot", {"BTC": 0.0, "ETH": 3_000.0, "USDC": 1.0}, "BTC-PERP"),
    ("spot", {"ETH": 3_000.0, "USDC": 1.0}, "BTC-INV"),
    ("spot", {"BTC": math.nan, "ETH": 3_000.0, "USDC": 1.0}, "BTC-PERP"),
    ("spot", {"BTC": 97_200.0, "ETH": 3_000.0}, "BTC-PERP"),
    ("volatility", {"P90I": 0.55}, "C100"),
    ("mark", {"BTC-PERP": 97_200.0}, "C100"),
    ("mark", {"BTC-PERP": math.nan}, "BTC-PERP"),
    ("bid", {"BTC-PERP": 98_000.0}, "BTC-PERP"),
    ("observed_ns", {"BTC": NOW - 10**12}, "BTC-PERP"),
])
def test_what_is_not_known_is_never_healthy(field, value, held):
    changes = {field: value}
    if field == "bid":
        changes["ask"] = {"BTC-PERP": 97_000.0}
    market = dataclasses.replace(MARKET, **changes)
    made = engine(market=market, age_max_ns=10**9)
    account, other = made.open("holds"), made.open("does not")
    for a in (account, other):
        a.deposit("ETH" if "ETH" in CONTRACTS.assets else "USDC", 1e9)
    account.trade(held, 0.001, price=PRICES[held])
    assert account.status is mc.Status.UNKNOWN
    assert not account.can_trade(held, -0.0005, price=PRICES[held])
    assert account in made.breached(include_unknown=True)
    assert account not in made.breached()
    if "USDC" in market.spot:
        assert other.status is mc.Status.HEALTHY
    assert account.margin().status is mc.Status.UNKNOWN


def test_before_the_first_tick_positions_are_unknown_and_emptiness_is_healthy():
    made = engine(market=None)
    account = made.open("a")
    assert account.status is mc.Status.HEALTHY
    account.deposit("USDC", 100.0)
    assert account.status is mc.Status.UNKNOWN
    account.withdraw("USDC", 40.0)  # nothing can be owed
    assert account.balance("USDC") == 60.0


def test_equality_with_maintenance_is_liquidation_and_with_initial_is_healthy():
    flat = mc.TieredMargin({s: [(0.0, 0.25, 2.0)] for s in SYMBOLS})
    made = engine(flat)
    made.update(dataclasses.replace(MARKET, spot={**MARKET.spot, "ETH": 1_024.0}))

    def status(cash):
        account = made.open(str(cash))
        account.deposit("USDC", cash)
        account.trade("ETH-PERP", 4.0, price=1_024.0)
        return account.status

    assert status(1_024.0) is mc.Status.LIQUIDATION
    assert status(math.nextafter(1_024.0, 2e3)) is mc.Status.MARGIN_CALL
    assert status(math.nextafter(2_048.0, 0.0)) is mc.Status.MARGIN_CALL
    assert status(2_048.0) is mc.Status.HEALTHY


def test_open_orders_count_on_the_worse_side_in_initial_margin():
    account = funded()
    account.trade("BTC-PERP", 500.0, price=97_200.0)
    base = account.margin()
    account.set_orders("BTC-PERP", buy=300.0)
    bought = account.margin()
    account.set_orders("BTC-PERP", buy=300.0, sell=400.0)
    both = account.margin()
    account.set_orders("BTC-PERP", sell=2_000.0)
    sold = account.margin()
    assert bought.maintenance == both.maintenance == sold.maintenance == base.maintenance
    assert bought.initial == pytest.approx(base.initial * 800 / 500)
    assert both.initial == bought.initial
    assert sold.initial > bought.initial  # short 1,500 after the fill
    account.set_orders("BTC-PERP")
    assert account.margin().initial == base.initial
    assert account.orders() == {}


@settings(max_examples=30, deadline=None)
@given(orders, st.sampled_from(SYMBOLS), st.integers(0, 6), st.integers(0, 6), st.sampled_from(["scenario", "tiers"]))
def test_orders_never_lower_and_always_cover_either_fill(sequence, symbol, buy, sell, model):
    account = funded(model)
    for name, lots in sequence:
        account.trade(name, lots * SIZES[name], price=account.engine.mark(name))
    size, mark = SIZES[symbol], account.engine.mark(symbol)
    outcomes = [account.margin().initial]
    outcomes += [account.what_if(symbol, n * size, price=mark).initial for n in (buy, -sell) if n]
    account.set_orders(symbol, buy=buy * size, sell=sell * size)
    assert account.margin().initial >= max(outcomes) * (1.0 - 1e-12)


def test_isolated_margin_stands_alone():
    account = funded()
    account.trade("BTC-PERP", 100.0, price=97_200.0)
    sub = account.isolated("ETH-PERP")
    account.transfer(sub, "USDC", 1_300.0)
    sub.trade("ETH-PERP", 2.0, price=3_000.0)
    assert account.isolated("ETH-PERP") == sub
    assert sub.status is mc.Status.HEALTHY
    sub.engine.update(dataclasses.replace(MARKET, spot={**MARKET.spot, "ETH": 2_400.0}))
    assert sub.status is mc.Status.LIQUIDATION
    assert account.status is mc.Status.HEALTHY
    with pytest.raises(RangeError, match="isolated account"):
        sub.trade("BTC-PERP", 1.0, price=97_200.0)
    with pytest.raises(RangeError, match="sub-account"):
        account.close()


def test_funding_moves_money_between_longs_and_shorts():
    made = engine()
    long, short = made.open("long"), made.open("short")
    for account, side in ((long, 1.0), (short, -1.0)):
        account.deposit("USDC", 10_000.0)
        account.deposit("BTC", 1.0)
        account.trade("BTC-PERP", side * 200.0, price=97_200.0)
        account.trade("BTC-INV", side * 300.0, price=97_200.0)
    made.apply_funding({"BTC-PERP": 1e-4, "BTC-INV": -2e-4})
    assert long.balance("USDC") == pytest.approx(10_000.0 - 200 * 97.2 * 1e-4)
    assert long.balance("BTC") == pytest.approx(1.0 + 2e-4 * 3_000.0 / 97_200.0)
    assert long.balance("USDC") + short.balance("USDC") == pytest.approx(20_000.0, rel=1e-15)
    with pytest.raises(RangeError, match="perpetuals"):
        made.apply_funding({"C100": 1e-4})


def test_settlement_pays_and_frees_the_columns():
    account = funded()
    account.trade("C100", -2.0, price=4_000.0)
    account.trade("P90I", 3.0, price=0.02)
    account.trade("BTC-27MAR", 1.0, price=96_000.0)
    cash, coin = account.balance("USDC"), account.balance("BTC")
    assert account.engine.settle({"BTC": 104_000.0}, expiry_ns=EXPIRY) == 3
    assert account.balance("USDC") == pytest.approx(cash - 2 * 4_000.0 + 8_000.0)
    assert account.balance("BTC") == coin  # the put expires worthless
    assert account.portfolio.positions == {}
    with pytest.raises(UnknownInstrument, match="settled"):
        account.trade("C100", 1.0, price=1.0)
    assert not engine().contracts.column.keys() - CONTRACTS.column.keys()
    with pytest.raises(UnknownInstrument):
        account.engine.settle({"C100": 100_000.0})
    fewer = mc.Contracts([c for c in CONTRACTS.by_symbol.values() if c.symbol not in ("C100", "P90I", "BTC-27MAR")])
    account.trade("ETH-PERP", 1.0, price=3_000.0)
    account.engine.relist(fewer)
    assert account.status is mc.Status.UNKNOWN
    account.engine.update(MARKET)
    assert account.status is mc.Status.HEALTHY
    assert account.position("ETH-PERP") == 1.0


def test_an_expired_contract_is_unknown_until_settled_and_cannot_be_traded():
    account = funded()
    account.trade("C100", 1.0, price=4_000.0)
    account.engine.update(dataclasses.replace(MARKET, now_ns=EXPIRY + 1))
    assert account.status is mc.Status.UNKNOWN
    for call in (account.trade, account.can_trade, account.what_if):
        with pytest.raises(RangeError, match="expired"):
            call("C100", 1.0, price=4_000.0)
    account.engine.settle({"BTC": 101_000.0}, expiry_ns=EXPIRY)
    assert account.status is mc.Status.HEALTHY
    assert account.balance("USDC") == 50_000.0 - 4_000.0 + 1_000.0


def test_at_the_moment_of_expiry_nothing_trades_any_more():
    account = funded()
    account.engine.update(dataclasses.replace(MARKET, now_ns=EXPIRY - 1))
    assert account.can_trade("C100", 1.0, price=4_000.0)
    account.engine.update(dataclasses.replace(MARKET, now_ns=EXPIRY))
    for symbol in ("C100", "P90I", "BTC-27MAR"):
        for call in (account.trade, account.can_trade, account.what_if):
            with pytest.raises(RangeError, match="expired"):
                call(symbol, 1.0, price=4_000.0)
    assert account.can_trade("BTC-PERP", 1.0, price=97_200.0)


def test_an_inverse_put_in_the_money_settles_in_coin():
    account = funded()
    account.trade("P90I", -1.0, price=0.02)
    account.engine.settle({"P90I": 60_000.0})
    assert account.balance("BTC") == pytest.approx(0.5 + 0.02 - 0.5)


def test_relist_refuses_to_lose_a_position():
    account = funded()
    account.trade("C100", 1.0, price=4_000.0)
    fewer = mc.Contracts([c for c in CONTRACTS.by_symbol.values() if c.symbol != "C100"])
    with pytest.raises(RangeError, match="C100"):
        account.engine.relist(fewer)
    changed = [dataclasses.replace(c, strike=1.0) if c.symbol == "C100" else c for c in CONTRACTS.by_symbol.values()]
    with pytest.raises(RangeError, match="C100"):
        account.engine.relist(mc.Contracts(changed))
    assert account.status is mc.Status.HEALTHY


def test_the_table_is_every_account_and_threads_change_nothing():
    made = engine()
    random = np.random.default_rng(5)
    start = np.arange(41) * 4
    columns = np.array([[0, *random.choice(np.arange(len(CONTRACTS.assets), len(CONTRACTS)), 3, replace=False)]
                        for _ in range(40)], np.int32)
    quantity = random.normal(0.0, 1.0, columns.shape)
    quantity[:, 0] = random.uniform(0.0, 2e4, 40)
    made.load(start, columns.ravel(), quantity.ravel(), np.full(columns.size, 3_000.0))
    one, two = made.margin(), made.margin(threads=2)
    for name in ("row", "equity", "initial", "maintenance", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for k, account in enumerate(made.accounts()):
        assert made.book.check(account.row) == (one.equity[k], one.initial[k], one.maintenance[k], one.status[k])
    assert [a.row for a in made.breached()] == one.row[one.status == mc.Status.LIQUIDATION].tolist()
    assert sum(one.count().values()) == len(one) == 40


def test_a_portfolio_needs_no_account():
    made = engine()
    account = funded()
    account.trade("C100", -2.0, price=4_000.0)
    account.trade("BTC-PERP", 700.0, price=97_200.0)
    report = made.margin(account.portfolio)
    mine = account.margin()
    assert (report.equity, report.initial, report.maintenance) == pytest.approx(
        (mine.equity, mine.initial, mine.maintenance), rel=1e-14)
    assert len(made.margin()) == 0  # nothing was written
    twin = made.open_with("twin", account.portfolio)
    assert twin.portfolio.positions == account.portfolio.positions
    assert made.margin(mc.Portfolio({"C100": 1.0})).equity == pytest.approx(made.mark("C100"))


def test_max_quantity_is_the_border():
    account = funded()
    for side in (mc.Side.BUY, mc.Side.SELL):
        most = account.max_quantity("BTC-PERP", side, lot=1.0)
        assert most > 0.0
        assert account.can_trade("BTC-PERP", side * most, price=97_200.0)
        assert not account.can_trade("BTC-PERP", side * (most + 1.0), price=97_200.0)
    assert account.max_quantity("BTC-PERP", 1) >= account.max_quantity("BTC-PERP", 1, lot=1.0)


def test_max_quantity_of_an_account_in_call_is_what_closes_it():
    account = engine().open("thin")
    account.deposit("USDC", 1_700.0)
    account.trade("BTC-PERP", 100.0, price=97_200.0)
    assert account.status is mc.Status.MARGIN_CALL
    assert account.max_quantity("BTC-PERP", 1, lot=1.0) == 0.0
    assert account.max_quantity("BTC-PERP", -1, lot=1.0) >= 100.0


def test_withdrawals_leave_the_account_healthy():
    account = funded()
    account.trade("BTC-PERP", 500.0, price=97_200.0)
    with pytest.raises(RangeError, match="balance"):
        account.withdraw("USDC", 50_001.0)
    account.withdraw("BTC", 0.5)
    available = account.margin().available
    with pytest.raises(RangeError, match="HEALTHY"):
        account.withdraw("USDC", available + 1.0)
    account.withdraw("USDC", available)
    assert account.status is mc.Status.HEALTHY


def test_a_closed_account_is_stale_and_its_row_is_used_again():
    made = engine()
    first = made.open("a")
    first.deposit("USDC", 5.0)
    with pytest.raises(RangeError, match="empty"):
        first.close()
    first.withdraw("USDC", 5.0)
    first.close()
    second = made.open("a")
    assert second.row == first.row
    assert first != second
    for use in (lambda: first.status, first.margin, lambda: first.deposit("USDC", 1.0), lambda: first.balance("USDC"),
                lambda: first.can_trade("BTC-PERP", 1.0, price=1.0), lambda: first.portfolio):
        with pytest.raises(StaleAccount):
            use()


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda a: a.deposit("USDC", math.nan), NotFiniteError, "amount"),
    (lambda a: a.deposit("USDC", -1.0), RangeError, "amount"),
    (lambda a: a.deposit("DOGE", 1.0), UnknownInstrument, "DOGE"),
    (lambda a: a.deposit("BTC-PERP", 1.0), UnknownInstrument, "BTC-PERP"),
    (lambda a: a.deposit("USDC", True), RangeError, "amount"),
    (lambda a: a.trade("NOPE", 1.0, price=1.0), UnknownInstrument, "NOPE"),
    (lambda a: a.trade("BTC-PERP", math.inf, price=1.0), NotFiniteError, "quantity"),
    (lambda a: a.trade("BTC-PERP", 1.0, price=math.nan), NotFiniteError, "price"),
    (lambda a: a.trade("BTC-PERP", 1.0, price=0.0), RangeError, "price"),
    (lambda a: a.trade("BTC-PERP", 1.0, price=-5.0), RangeError, "price"),
    (lambda a: a.trade("BTC-PERP", 0.0, price=5.0), RangeError, "quantity"),
    (lambda a: a.trade("BTC-PERP", 1e300, price=5.0), RangeError, "range"),
    (lambda a: a.trade("BTC/USDC", 1.0, price=0.0), RangeError, "price"),
    (lambda a: a.can_trade("BTC-PERP", math.nan, price=5.0), NotFiniteError, "quantity"),
    (lambda a: a.can_trade("BTC-PERP", "1", price=5.0), RangeError, "quantity"),
    (lambda a: a.can_trade("BTC-PERP", True, price=5.0), RangeError, "quantity"),
    (lambda a: a.can_trade("BTC-PERP", np.True_, price=5.0), RangeError, "quantity"),
    (lambda a: a.can_trade("BTC-PERP", Decimal(1), price=5.0), RangeError, "quantity"),
    (lambda a: a.can_trade("C100", 1.0, price=False), RangeError, "price"),
    (lambda a: a.can_trade("BTC-PERP", 1.0, price=5.0, fee=True), RangeError, "fee"),
    (lambda a: a.can_trade("BTC-PERP", 10**400, price=5.0), NotFiniteError, "quantity"),
    (lambda a: a.can_trade("NOPE", 1.0, price=5.0), UnknownInstrument, "NOPE"),
    (lambda a: a.what_if("BTC-PERP"), RangeError, "quantity"),
    (lambda a: a.what_if([("BTC-PERP", 1.0, -1.0)]), RangeError, "price"),
    (lambda a: a.set_orders("BTC-PERP", buy=-1.0), RangeError, "buy"),
    (lambda a: a.set_orders("BTC/USDC", buy=1.0), UnknownInstrument, "derivative"),
    (lambda a: a.max_quantity("BTC-PERP", 2), RangeError, "side"),
    (lambda a: a.max_quantity("BTC-PERP", 1, lot=0.0), RangeError, "lot"),
    (lambda a: a.engine.open("alice"), RangeError, "alice"),
    (lambda a: a.engine.open(""), RangeError, "name"),
    (lambda a: a.engine.open("b", leverage=0.5), RangeError, "leverage"),
    (lambda a: a.engine.account("nobody"), UnknownInstrument, "nobody"),
    (lambda a: a.engine.update("market"), RangeError, "market"),
    (lambda a: a.engine.update(dataclasses.replace(MARKET, now_ns=NOW - 1)), RangeError, "now_ns"),
    (lambda a: a.engine.settle({"BTC": 1e5}, expiry_ns=5), UnknownInstrument, "BTC"),
    (lambda a: a.engine.settle({"C100": math.nan}), NotFiniteError, "C100"),
    (lambda a: a.engine.settle({"BTC-PERP": 1e5}), RangeError, "BTC-PERP"),
    (lambda a: a.engine.margin(mc.Portfolio({"NOPE": 1.0})), UnknownInstrument, "NOPE"),
    (lambda a: a.engine.margin(threads=0), RangeError, "threads"),
    (lambda a: a.engine.accounts(np.ones(9, bool)), ShapeError, "mask"),
    (lambda a: a.engine.load([0, 1], [99], [1.0], [1.0]), UnknownInstrument, "99"),
    (lambda a: a.engine.load([0, 1], [0], [math.nan], [1.0]), NotFiniteError, "nan"),
    (lambda a: mc.Portfolio({"X": math.nan}), NotFiniteError, "X"),
    (lambda a: mc.Engine(CONTRACTS, "model"), RangeError, "model"),
    (lambda a: mc.ScenarioMargin(scenarios=GRID, initial_ratio=0.5), RangeError, "initial_ratio"),
    (lambda a: mc.ScenarioMargin(scenarios=GRID, collateral={"BTC": 0.1}, shocked_assets=["BTC"]), RangeError, "BTC"),
    (lambda a: mc.ScenarioMargin(scenarios=GRID, conversion="none"), RangeError, "conversion"),
    (lambda a: mc.TieredMargin({"A": [(5.0, 0.1, 2.0)]}), RangeError, "floor of 0"),
    (lambda a: mc.TieredMargin({"A": [(0.0, 0.1, 2.0), (0.0, 0.2, 2.0)]}), RangeError, "rising floors"),
    (lambda a: mc.TieredMargin({"A": [(0.0, 0.1, 2.0), (9.0, 0.05, 2.0)]}), RangeError, "falling rate"),
    (lambda a: mc.TieredMargin({"A": [(0.0, 0.1, 2.0), (9.0, 0.2, 2.0, 5.0)]}), RangeError, "continuous"),
    (lambda a: mc.TieredMargin({"A": [(0.0, 0.1, 2.0), (9.0, 0.2, 2.0, 0.9 + 1e-5)]}), RangeError, "continuous"),
    (lambda a: mc.TieredMargin({"A": []}), RangeError, "A"),
    (lambda a: mc.Engine(CONTRACTS, mc.TieredMargin({"BTC-PERP": [(0.0, 0.1, 2.0)]})), UnknownInstrument, "ladder"),
])
def test_bad_input_names_itself_and_changes_nothing(call, error, words):
    account = funded()
    account.trade("BTC-PERP", 10.0, price=97_000.0)
    before = account.portfolio, account.margin(), len(account.engine.rows())
    with pytest.raises(error, match=words) as caught:
        call(account)
    assert isinstance(caught.value, mc.MarginError)
    assert (account.portfolio, account.margin(), len(account.engine.rows())) == before


def test_capacity_is_an_error_that_changes_nothing():
    made = mc.Engine(CONTRACTS, SCENARIO, accounts=2, positions=3)
    made.open("a")
    made.open("b")
    with pytest.raises(CapacityError, match="rows"):
        made.open("c")
    account = made.account("a")
    with pytest.raises(CapacityError):
        for symbol in SYMBOLS:
            before = account.portfolio
            account.trade(symbol, 1.0, price=PRICES[symbol])
    assert account.portfolio == before


def test_a_bulk_load_takes_only_the_slots_it_needs():
    made = mc.Engine(CONTRACTS, SCENARIO, accounts=100, positions=5)
    columns = [CONTRACTS.column[s] for s in ("USDC", "BTC-PERP", "ETH-PERP", "BTC-27MAR", "C100")]
    rows = made.load(np.arange(101) * 5, columns * 100, [1.0] * 500, [1_000.0] * 500)
    assert made.book.slots_used <= 101 * 5
    assert len(rows) == 100
    assert made.account(int(rows[99])).portfolio.positions == made.account(int(rows[0])).portfolio.positions


def test_no_mark_is_a_missing_datum():
    account = engine(market=dataclasses.replace(MARKET, mark={})).open("a")
    with pytest.raises(MissingDataError, match="BTC-PERP"):
        account.what_if("BTC-PERP", 1.0)


def test_the_base_currency_is_worth_one_of_itself():
    made = engine(market=None, base="USDC")
    made.update(dataclasses.replace(MARKET, spot={"BTC": 97_200.0, "ETH": 3_000.0}))
    account = made.open("a")
    account.deposit("USDC", 5_000.0)
    account.trade("ETH-PERP", 1.0, price=2_900.0)
    report = account.margin()
    assert (report.equity, report.base, report.status) == (5_100.0, "USDC", mc.Status.HEALTHY)
    assert f"{report.equity:,.2f} USDC" in str(report) and report.to_dict()["base"] == "USDC"
    with pytest.raises(RangeError, match="base currency"):
        made.update(dataclasses.replace(MARKET, now_ns=NOW + 1, spot={**MARKET.spot, "USDC": 0.998}))
    assert account.margin() == report


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=4, max_size=4), st.floats(0.05, 0.9))
def test_initial_margin_that_is_raised_to_maintenance_says_so_and_adds_up(lots, rate):
    """High maintenance against high leverage: by the tiers alone one could open what would be liquidated at once."""
    account = engine(mc.TieredMargin({s: [(0.0, rate, 50.0)] for s in SYMBOLS}, addons=[mc.ClosingCost(1.0, 0.003)])
                     ).open("a")
    account.deposit("USDC", 1e7)
    for symbol, lot in zip(("BTC-PERP", "ETH-PERP", "C100", "BTC-27MAR"), lots, strict=True):
        if lot:
            account.trade(symbol, 0.37 * lot * SIZES[symbol], price=PRICES[symbol])
    report = account.margin()
    assert report.initial == report.maintenance
    raised = report.maintenance > 0.0
    assert ("initial at least maintenance" in [part.name for part in report.parts]) is raised
    total = 0.0
    for part in report.parts:
        total += part.initial
    assert total == report.initial


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.floats(1.0, 1e3))
def test_parts_add_up_whatever_rounding_does_to_the_gap(first, second, factor):
    total = first + second
    initial = total * factor
    parts = parts_of(("a", "b"), [(first, first, 0.0), (second, second, 0.0)], initial, initial)
    summed = 0.0
    for part in parts:
        summed += part.initial
    assert summed == initial and len(parts) <= 4


def test_leverage_that_the_account_chose_raises_initial_margin():
    made = engine("tiers")
    plain, careful = made.open("plain"), made.open("careful", leverage=10.0)
    for account in (plain, careful):
        account.deposit("USDC", 10_000.0)
        account.trade("ETH-PERP", 4.0, price=3_000.0)
    assert plain.margin().initial == pytest.approx(12_000.0 / 50.0)
    assert careful.margin().initial == pytest.approx(12_000.0 / 10.0)
    assert plain.margin().maintenance == careful.margin().maintenance == pytest.approx(120.0)


@settings(max_examples=25, deadline=None)
@given(orders, st.floats(1.1, 4.0))
def test_margin_is_homogeneous_and_sub_additive(sequence, factor):
    made = engine(dataclasses.replace(SCENARIO, addons=[]))
    half = len(sequence) // 2

    def bag(items):
        positions = {}
        for symbol, lots in items:
            positions[symbol] = positions.get(symbol, 0.0) + lots * SIZES[symbol]
        return mc.Portfolio(positions)

    a, b = bag(sequence[:half]), bag(sequence[half:])
    whole, first, second = (made.margin(p).maintenance for p in (a + b, a, b))
    assert whole <= (first + second) * (1.0 + 1e-12) + 1e-9
    assert made.margin((a + b).scaled(factor)).maintenance == pytest.approx(factor * whole, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("linear", [2.0, -2.0])
def test_two_settlement_assets_and_no_third(linear):
    pair = mc.Contracts([mc.Perpetual("LINEAR", underlying="BTC", settle="USDC"),
                         mc.Perpetual("INVERSE", underlying="BTC", settle="BTC", inverse=True)])
    made = mc.Engine(pair, mc.TieredMargin({symbol: [(0.0, 0.01, 50.0)] for symbol in ("LINEAR", "INVERSE")}))
    assert len(pair.assets) == 2

    def at(price):
        return mc.MarketState(now_ns=int(price), spot={"BTC": price, "USDC": 1.0},
                              mark={"LINEAR": price, "INVERSE": price})

    made.update(at(100.0))
    alice = made.open_with("alice", mc.Portfolio({"LINEAR": linear, "INVERSE": 300.0}, {"USDC": 1.0, "BTC": 0.01}))
    made.update(at(110.0))
    # 10 a contract in dollars; 300 (1 / 100 - 1 / 110) in coin at 110 are 30; one per cent of 2 x 110 and of 300
    equity, maintenance = 1.0 + 10.0 * linear + 0.01 * 110.0 + 30.0, 2.2 + 3.0
    def swept():
        status = np.empty(1, np.uint8)
        made.book.breached_range(alice.row, alice.row + 1, status)
        return bool(status[0] == mc.Status.LIQUIDATION)

    now = alice.margin()
    assert now.equity == pytest.approx(equity, rel=1e-14)
    assert now.maintenance == pytest.approx(maintenance, rel=1e-14)
    assert alice.status is mc.Status.HEALTHY and made.breached() == [] and not swept()
    made.update(dataclasses.replace(at(60.0), now_ns=111))  # the coin loses 120, more than the short earns
    assert alice.margin().equity == pytest.approx(1.0 - 40.0 * linear + 0.6 - 120.0, rel=1e-14)
    assert alice.status is mc.Status.LIQUIDATION and made.breached() == [alice] and swept()
