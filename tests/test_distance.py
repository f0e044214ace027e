"""Liquidation price of a whole account: closed forms, the engine itself after the move, dense search, errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import margincore as mc
from margincore.distance import FIRST, HIGHEST, LOWEST
from margincore.kernels import formula
from margincore.revaluation import moved

NOW = mc.utc("2026-01-05T08:00")
EXPIRY = mc.utc("2026-02-27T08:00")
STRIKES = (60_000.0, 80_000.0, 90_000.0, 100_000.0, 110_000.0, 120_000.0, 150_000.0)
LADDER = [(0.0, 0.004, 100.0), (300_000.0, 0.005, 50.0), (800_000.0, 0.0065, 40.0), (3_000_000.0, 0.01, 20.0)]


FUTURES = [
    mc.Perpetual("BTC-PERP", underlying="BTC", settle="USDC"),
    mc.Perpetual("ETH-PERP", underlying="ETH", settle="USDC"),
    mc.Perpetual("BTC-USD", underlying="BTC", settle="BTC", multiplier=10.0, inverse=True),
    mc.Perpetual("ETH-BTC", underlying="ETH", settle="BTC", multiplier=0.001),
]


def contracts():
    options = [mc.Option(f"BTC-{k:.0f}-{r[0].upper()}", underlying="BTC", settle="USDC", strike=k, expiry_ns=EXPIRY,
                         right=r) for k in STRIKES for r in ("call", "put")]
    coin = [mc.Option(f"BTC-COIN-{k:.0f}-{r[0].upper()}", underlying="BTC", settle="BTC", strike=k, expiry_ns=EXPIRY,
                      right=r, inverse=True) for k in (80_000.0, 120_000.0) for r in ("call", "put")]
    return mc.Contracts([*FUTURES, *options, *coin], assets=["USDC", "BTC"])


CONTRACTS = contracts()


def market(spot=100_000.0, eth=4_000.0, sigma=0.6):
    """Marks a little off the model: above it for calls, below it for puts, so that deep puts meet zero."""
    forward, years = 1.01 * spot, mc.years(NOW, EXPIRY)
    mark = {"BTC-PERP": 1.0005 * spot, "ETH-PERP": eth, "BTC-USD": 0.9995 * spot, "ETH-BTC": eth / spot}
    options = [item for item in CONTRACTS.derivatives if isinstance(item, mc.Option)]
    for item in options:
        call = item.right == mc.Right.CALL
        value = formula.price(forward, item.strike, years, sigma, call) * (1.02 if call else 0.97)
        mark[item.symbol] = value / forward if item.inverse else value
    return mc.MarketState(now_ns=NOW, spot={"BTC": spot, "ETH": eth, "USDC": 1.0}, forward={("BTC", EXPIRY): forward},
                          mark=mark, volatility={item.symbol: sigma for item in options})


def scenario_model(**changes):
    values = {
        "scenarios": mc.grid(spot=[-0.16, -0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12, 0.16],
                             tails=[(-0.66, 0.3), (1.0, 0.3), (3.0, 0.1)]),
        "initial_ratio": 1.25, "addons": [mc.addon.ShortOptionFloor(0.01), mc.addon.ClosingCost(missing_rate=0.0005)],
        "collateral": {"USDC": 0.0, "BTC": 0.05}, "offset_sets": [("BTC", "ETH")], "gain_kept": 0.7}
    return mc.ScenarioMargin(**{**values, **changes})


def tiered_model(ladder=LADDER, **changes):
    ladders = {item.symbol: ladder for item in CONTRACTS.derivatives}
    return mc.TieredMargin(**{"tiers": ladders, "collateral": {"USDC": 0.0, "BTC": 0.1}, **changes})


def account(model, positions, balances, prices=None):
    on_entry = getattr(model, "notional", "mark") == "entry"  # which options cannot have
    engine = mc.Engine(mc.Contracts(FUTURES) if on_entry else CONTRACTS, model, accounts=2, positions=40)
    engine.update(market())
    return engine.open_with("alice", mc.Portfolio(positions, balances, prices or {}))


def excess(alice, underlying, move, *, smile="sticky_strike"):
    """What the engine's own functions say of an account after a move."""
    engine = alice.engine
    contracts = engine.contracts
    index = None if underlying is None else contracts.underlyings.index(underlying)
    columns = moved(contracts, engine.columns, index, move, smile=smile)
    engine.book.set_market(*engine.plan.tick(columns))
    equity, _, maintenance, _ = engine.book.check(alice.row)
    engine.book.set_market(*engine.plan.tick(engine.columns))
    return equity - maintenance


def neighbour(move, towards):
    """The next move that a factor 1 + move can tell apart."""
    near = math.nextafter(1.0 + move, 1.0 + towards) - 1.0
    return near if 1.0 + near != 1.0 + move else math.nextafter(move, towards)


def check_against_the_engine(alice, answer, underlying, *, smile="sticky_strike", samples=400):
    for move in (answer.move_down, answer.move_up):
        if move is not None and move != 0.0:
            assert excess(alice, underlying, move, smile=smile) <= 0.0
            assert excess(alice, underlying, neighbour(move, 0.0), smile=smile) > 0.0
    low = LOWEST if answer.move_down is None else answer.move_down
    high = HIGHEST if answer.move_up is None else answer.move_up
    inner = np.concatenate([np.linspace(low, high, samples)[1:-1], low * (1 - 10.0 ** -np.arange(1.0, 8.0)),
                            high * (1 - 10.0 ** -np.arange(1.0, 8.0))])
    for move in inner:
        assert excess(alice, underlying, float(move), smile=smile) > 0.0, move


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("notional", ["mark", "entry"])
@pytest.mark.parametrize("fee", [0.0, 0.0005])
@pytest.mark.parametrize("size", [1.0, 4.0, 25.0])
def test_linear_closed_form_is_met(side, notional, fee, size):
    entry, fund = 98_000.0, 9_000.0 * size
    alice = account(tiered_model(notional=notional, closing_fee_rate=fee), {"BTC-PERP": side * size}, {"USDC": fund},
                    {"BTC-PERP": entry})
    answer = alice.liquidation_price("BTC-PERP")
    # the model takes the fee on the value that tiers count
    tiers = [(floor, rate + fee) for floor, rate, _ in LADDER]
    due = mc.liquidation_price(side * size, entry, fund=fund, tiers=tiers, notional=notional)
    found, other = (answer.down, answer.up) if side > 0 else (answer.up, answer.down)
    assert found == pytest.approx(due, rel=1e-13)
    assert other is None
    assert answer.certified
    assert answer.price == 1.0005 * 100_000.0
    assert answer.nearest == found
    check_against_the_engine(alice, answer, "BTC", samples=40)


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("notional", ["mark", "entry"])
def test_inverse_closed_form_is_met(side, notional):
    size, entry, fund = 8_000.0, 101_000.0, 0.12
    ladder = [(0.0, 0.004, 100.0), (0.5, 0.006, 50.0), (2.0, 0.02, 10.0)]
    alice = account(tiered_model(ladder, notional=notional, collateral=None), {"BTC-USD": side * size}, {"BTC": fund},
                    {"BTC-USD": entry})
    due = mc.liquidation_price(side * size * 10.0, entry, fund=fund, inverse=True, notional=notional,
                               tiers=[row[:2] for row in ladder])
    answer = alice.liquidation_price("BTC-USD")
    found = answer.down if side > 0 else answer.up
    assert found == pytest.approx(due, rel=1e-13)
    check_against_the_engine(alice, answer, "BTC", samples=40)


def test_cross_account_counts_the_other_positions():
    alice = account(tiered_model(), {"BTC-PERP": 2.0, "ETH-PERP": -30.0}, {"USDC": 40_000.0},
                    {"BTC-PERP": 99_000.0, "ETH-PERP": 3_900.0})
    other = 30.0 * 4_000.0 * 0.004
    due = mc.liquidation_price(2.0, 99_000.0, fund=40_000.0 - 30.0 * 100.0, other_maintenance=other,
                               tiers=[row[:2] for row in LADDER])
    assert alice.liquidation_price("BTC-PERP").down == pytest.approx(due, rel=1e-13)
    together = alice.liquidation_price("BTC", together=True)
    assert together.together
    assert together.down < alice.liquidation_price("BTC").down
    check_against_the_engine(alice, together, None, samples=40)


def test_isolated_position_stands_alone():
    alice = account(tiered_model(), {}, {"USDC": 50_000.0})
    alone = alice.isolated("BTC-PERP")
    alice.transfer(alone, "USDC", 10_000.0)
    alone.trade("BTC-PERP", 1.0, price=100_000.0)
    due = mc.liquidation_price(1.0, 100_000.0, fund=10_000.0, tiers=[row[:2] for row in LADDER])
    assert alone.liquidation_price("BTC-PERP").down == pytest.approx(due, rel=1e-13)
    assert alice.liquidation_price("BTC-PERP").down is None


BOOKS = {
    "covered calls": ({"BTC-PERP": 8.0, "BTC-120000-C": -15.0, "BTC-80000-P": 10.0}, {"USDC": 250_000.0}),
    "strangle": ({"BTC-120000-C": -10.0, "BTC-80000-P": -10.0}, {"USDC": 500_000.0}),
    "butterfly": ({"BTC-90000-C": 5.0, "BTC-100000-C": -10.0, "BTC-110000-C": 5.0}, {"USDC": 20_000.0}),
    "coin strangle": ({"BTC-COIN-120000-C": -4.0, "BTC-COIN-80000-P": -4.0, "BTC-USD": -2_000.0}, {"BTC": 6.0}),
    "coin collateral": ({"BTC-PERP": -3.0, "ETH-PERP": 40.0, "BTC-150000-C": 6.0}, {"BTC": 2.0, "USDC": 20_000.0}),
    "debt": ({"BTC-110000-C": 3.0}, {"USDC": 200_000.0, "BTC": -1.0}),
    "quanto": ({"ETH-BTC": -30_000.0, "BTC-100000-C": 1.0}, {"BTC": 2.0, "USDC": 5_000.0}),
}


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("together", [False, True])
def test_options_under_scenarios(book, together):
    alice = account(scenario_model(), *BOOKS[book])
    answer = alice.liquidation_price("BTC", together=together)
    assert answer.certified
    assert answer.smile == "sticky_strike"
    check_against_the_engine(alice, answer, None if together else "BTC", samples=150)


@pytest.mark.parametrize("changes", [
    {"conversion": "shocked"}, {"shocked_assets": ["BTC"], "collateral": {"USDC": 0.0, "BTC": 0.0}},
    {"gain_kept": 0.0}, {"maintenance_ratio": 0.8, "initial_ratio": 1.0},
])
@pytest.mark.parametrize("book", ["coin strangle", "coin collateral", "covered calls"])
def test_models(changes, book):
    alice = account(scenario_model(**changes), *BOOKS[book])
    answer = alice.liquidation_price("BTC")
    assert answer.certified
    check_against_the_engine(alice, answer, "BTC", samples=60)


@pytest.mark.parametrize("book", ["strangle", "covered calls", "coin strangle"])
def test_options_under_tiers(book):
    alice = account(tiered_model(), *BOOKS[book])
    answer = alice.liquidation_price("BTC")
    assert answer.certified
    check_against_the_engine(alice, answer, "BTC", samples=60)


def test_sticky_moneyness_is_named_and_not_certified():
    alice = account(scenario_model(), *BOOKS["strangle"])
    answer = alice.liquidation_price("BTC", smile="sticky_moneyness")
    assert answer.smile == "sticky_moneyness"
    assert not answer.certified
    check_against_the_engine(alice, answer, "BTC", smile="sticky_moneyness", samples=60)


@st.composite
def books(draw):
    symbols = draw(st.lists(st.sampled_from([item.symbol for item in CONTRACTS.derivatives]), min_size=1, max_size=8,
                            unique=True))
    positions = {}
    for symbol in symbols:
        size = draw(st.integers(1, 20)) * (100.0 if symbol == "BTC-USD" else 200.0 if symbol == "ETH-BTC" else 1.0)
        positions[symbol] = draw(st.sampled_from([-1.0, 1.0])) * size
    balances = {"USDC": draw(st.floats(0.0, 3e6)), "BTC": draw(st.sampled_from([0.0, 5.0]))}
    return positions, {asset: x for asset, x in balances.items() if x}


@settings(max_examples=120)
@given(books(), st.booleans(), st.booleans())
def test_nothing_nearer_was_missed(book, together, tiered):
    alice = account(tiered_model() if tiered else scenario_model(), *book)
    answer = alice.liquidation_price("BTC", together=together)
    if answer.move_down == 0.0:
        assert alice.margin().status is mc.Status.LIQUIDATION
        return
    assert alice.margin().status in (mc.Status.MARGIN_CALL, mc.Status.HEALTHY)
    check_against_the_engine(alice, answer, None if together else "BTC", samples=60)


def test_a_dip_between_the_first_points_is_found():
    """A short butterfly one day from expiry loses around one strike only, and comes back on either side of it."""
    tomorrow = NOW + 86_400_000_000_000
    strikes = {117_000.0: -100.0, 118_000.0: 200.0, 119_000.0: -100.0}
    options = [mc.Option(f"C{k:.0f}", underlying="BTC", settle="USDC", strike=k, expiry_ns=tomorrow, right="call")
               for k in strikes]
    table = mc.Contracts(options)
    marks = {item.symbol: formula.price(100_000.0, item.strike, 1 / 365, 0.1, True) for item in options}
    state = mc.MarketState(now_ns=NOW, spot={"BTC": 100_000.0, "USDC": 1.0}, forward={("BTC", tomorrow): 100_000.0},
                           mark=marks, volatility=dict.fromkeys(marks, 0.1))
    model = mc.TieredMargin(tiers=dict.fromkeys(marks, [(0.0, 1e-9, 100.0)]))

    def opened(cash):
        engine = mc.Engine(table, model, accounts=2)
        engine.update(state)
        positions = {f"C{k:.0f}": q for k, q in strikes.items()}
        return engine.open_with("alice", mc.Portfolio(positions, {"USDC": cash}))

    rich = opened(1e6)
    moves = np.linspace(0.15, 0.22, 1401)
    low = min(excess(rich, "BTC", float(move)) for move in moves)
    assert low < 1e6 - 10_000.0
    assert rich.liquidation_price("BTC").up is None and rich.liquidation_price("BTC").certified
    poor = opened(1e6 - low - 5.0)
    answer = poor.liquidation_price("BTC")
    assert 117_500.0 < answer.up < 118_000.0 and answer.down is None and answer.certified
    assert all(excess(poor, "BTC", float(move)) > 0.0 for move in FIRST)
    check_against_the_engine(poor, answer, "BTC", samples=60)


def options_of_minutes(legs, minutes, sigma):
    """Contracts and market of calls that expire in some minutes, at strikes in fractions of a spot of 100,000."""
    soon = NOW + minutes * 60_000_000_000
    items = {mc.Option(f"C{k}", underlying="BTC", settle="USDC", strike=1e5 * k, expiry_ns=soon, right="call"): n
             for k, n in legs.items()}
    years = mc.years(NOW, soon)
    marks = {item.symbol: formula.price(1e5, item.strike, years, sigma, True) for item in items}
    state = mc.MarketState(now_ns=NOW, spot={"BTC": 1e5, "USDC": 1.0}, forward={("BTC", soon): 1e5}, mark=marks,
                           volatility=dict.fromkeys(marks, sigma))
    return mc.Contracts(list(items)), state, {item.symbol: float(n) for item, n in items.items()}


def test_of_two_roots_close_together_the_nearer_is_found():
    """Equity falls, comes back and falls for good within half a percent: 1e-9 is the same root, a percent is not."""
    table, state, positions = options_of_minutes({1.01: -10, 1.012: 20, 1.015: -40}, 1, 0.5)
    engine = mc.Engine(table, mc.TieredMargin(dict.fromkeys(positions, [(0.0, 1e-9, 100.0)])), accounts=2)
    engine.update(state)
    account = engine.open_with("alice", mc.Portfolio(positions, {"USDC": 1_400.0}))
    answer = account.liquidation_price("BTC")
    after = [move for move in np.linspace(0.0, 0.02, 4_001) if excess(account, "BTC", float(move)) <= 0.0]
    gaps = np.diff(after)
    assert gaps.max() > 1e-3                # healthy again in between
    assert answer.certified and answer.move_up == pytest.approx(after[0], abs=1e-5)
    check_against_the_engine(account, answer, "BTC", samples=60)


def test_a_requirement_that_rises_between_the_first_points_is_found():
    """Far from its strikes a butterfly is worth nothing, but thirty percent further on it loses around one of them."""
    assert not ((FIRST > 0.035) & (FIRST < 0.045)).any()
    table, state, positions = options_of_minutes({1.350: -10, 1.352: 20, 1.354: -10}, 1, 0.5)
    engine = mc.Engine(table, mc.ScenarioMargin(scenarios=mc.grid(spot=[0.3], volatility=["same"])), accounts=2)
    engine.update(state)
    account = engine.open_with("alice", mc.Portfolio(positions, {"USDC": 500.0}))
    answer = account.liquidation_price("BTC")
    assert 0.0385 < answer.move_up < 0.04 and answer.certified
    assert answer.maintenance_up == pytest.approx(500.0, rel=1e-6)
    assert 1.352 / 1.3 - 1.0 > answer.move_up > 1.350 / 1.3 - 1.0
    check_against_the_engine(account, answer, "BTC", samples=60)


@pytest.mark.parametrize("model", [
    mc.TieredMargin({item.symbol: LADDER for item in CONTRACTS.derivatives}, collateral={"USDC": 0.1, "BTC": 0.2}),
    mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.2, 0.2]), collateral={"USDC": 0.1, "BTC": 0.2}),
], ids=["tiers", "grid"])
def test_an_account_of_balances_alone_is_liquidated_by_its_debt(model):
    engine = mc.Engine(CONTRACTS, model, accounts=2)
    engine.update(market())
    account = engine.open_with("alice", mc.Portfolio({}, {"USDC": 150_000.0, "BTC": -1.0}))
    answer = account.liquidation_price("BTC")
    assert answer.up == pytest.approx(135_000.0, rel=1e-12) and answer.down is None and answer.certified
    account = engine.open_with("bob", mc.Portfolio({}, {"USDC": -60_000.0, "BTC": 1.0}))
    answer = account.liquidation_price("BTC")
    assert answer.down == pytest.approx(75_000.0, rel=1e-12) and answer.up is None and answer.certified


@pytest.mark.parametrize("right, certified", [("call", True), ("put", False)])
def test_a_put_paid_in_a_coin_that_moves_too_is_not_certified(right, certified):
    """Its value times the coin's price is not convex in a common move; the root is found all the same."""
    table = mc.Contracts([
        mc.Option("ETH-OPTION", underlying="ETH", settle="BTC", strike=0.04, expiry_ns=EXPIRY, right=right),
        mc.Perpetual("BTC-PERP", underlying="BTC", settle="USDC")])
    engine = mc.Engine(table, mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.1, 0.0, 0.1])), accounts=2)
    value = formula.price(0.04, 0.04, mc.years(NOW, EXPIRY), 0.7, right == "call")
    engine.update(mc.MarketState(
        now_ns=NOW, spot={"BTC": 100_000.0, "ETH": 4_000.0, "USDC": 1.0}, forward={("ETH", EXPIRY): 0.04},
        mark={"ETH-OPTION": value, "BTC-PERP": 100_000.0}, volatility={"ETH-OPTION": 0.7}))
    alice = engine.open_with("alice", mc.Portfolio({"ETH-OPTION": -10.0, "BTC-PERP": 0.5}, {"USDC": 20_000.0}))
    answer = alice.liquidation_price("ETH", together=True)
    assert answer.certified is certified
    check_against_the_engine(alice, answer, None, samples=60)
    assert alice.liquidation_price("ETH").certified


def test_requirement_is_recomputed_at_the_root():
    alice = account(scenario_model(), *BOOKS["strangle"])
    answer = alice.liquidation_price("BTC")
    columns = moved(CONTRACTS, alice.engine.columns, CONTRACTS.underlyings.index("BTC"), answer.move_up)
    alice.engine.book.set_market(*alice.engine.plan.tick(columns))
    report = alice.margin()
    assert report.status is mc.Status.LIQUIDATION
    assert report.maintenance == answer.maintenance_up
    assert report.maintenance != account(scenario_model(), *BOOKS["strangle"]).margin().maintenance


def test_an_account_in_liquidation_is_there_already():
    alice = account(scenario_model(), {"BTC-PERP": 8.0}, {"USDC": 1_000.0})
    answer = alice.liquidation_price("BTC")
    assert answer.move_down == answer.move_up == 0.0
    assert answer.down == answer.up == answer.price == 100_000.0


def test_no_price_where_there_is_none():
    for positions, balances in (({}, {"USDC": 10.0}), ({}, {}), ({"BTC-100000-C": 1.0}, {"USDC": 10.0})):
        alice = account(tiered_model(), positions, balances)
        answer = alice.liquidation_price("BTC")
        assert answer.down is None and answer.up is None and answer.nearest is None
        assert answer.certified
        assert "down none, up none" in str(answer)
        assert answer.to_dict()["down"] is None


def test_answer_speaks():
    answer = account(scenario_model(), *BOOKS["strangle"]).liquidation_price("BTC-120000-C")
    assert answer.name == "BTC"
    assert answer.price == 100_000.0 and answer.unit == "USD"
    assert account(scenario_model(), *BOOKS["strangle"]).liquidation_price("BTC-PERP").unit == "quote"
    assert "now 100,000.00 USD" in str(answer) and f"down {answer.down:,.2f} USD (" in str(answer)
    assert "sticky strike, certified over -99 % to +500 %" in str(answer)
    assert answer.down < 100_000.0 < answer.up
    assert answer.down == 100_000.0 * (1.0 + answer.move_down)


def test_first_points_hold_zero_and_both_ends():
    assert 0.0 in FIRST and FIRST[0] == LOWEST and FIRST[-1] == HIGHEST
    assert (np.diff(FIRST) > 0.0).all()


def test_errors():
    engine = mc.Engine(CONTRACTS, scenario_model(), accounts=2)
    alice = engine.open("alice")
    with pytest.raises(mc.MarginError, match="market must be known"):
        alice.liquidation_price("BTC")
    state = market()
    marks = {symbol: price for symbol, price in state.mark.items() if symbol != "BTC-100000-C"}
    engine.update(mc.MarketState(now_ns=NOW, spot=state.spot, mark=marks, forward=state.forward,
                                 volatility=state.volatility))
    alice.deposit("USDC", 1e6)
    alice.trade("BTC-100000-C", -1.0, price=5_000.0)
    with pytest.raises(mc.MarginError, match=r"unknown were BTC-100000-C \(missing\)"):
        alice.liquidation_price("BTC")
    with pytest.raises(mc.MarginError, match="symbol must be one of these contracts, was 'XRP'"):
        alice.liquidation_price("XRP")
    with pytest.raises(mc.MarginError, match="smile must be one of"):
        alice.liquidation_price("BTC", smile="flat")
    alice.trade("BTC-100000-C", 1.0, price=5_000.0)
    alice.withdraw("USDC", alice.balance("USDC"))
    alice.close()
    with pytest.raises(mc.MarginError, match="account must be open"):
        alice.liquidation_price("BTC")
