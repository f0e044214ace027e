"""Stress events against the data they come from, and what they do to books."""

import json
import math

import numpy as np
import pytest
from shared_data import shared

from margincore.combine import combine_scenarios, concat_scenarios
from margincore.contracts import Contracts, Option, Perpetual
from margincore.engine import Engine
from margincore.errors import MarginError, NotFiniteError, RangeError
from margincore.history import historical
from margincore.liquidity_var import liquidity_adjusted, spread_cost
from margincore.margin import ScenarioMargin
from margincore.market import MarketState
from margincore.portfolio import Portfolio
from margincore.scenarios import from_moves
from margincore.stress_events import STRESS_EVENTS, StressEvent, correlation_one, depeg, stress, volatility_jump
from margincore.tail import expected_shortfall
from margincore.units import NS_PER_DAY

STATE = MarketState(now_ns=1, spot={"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0, "USDC": 1.0},
                    volatility={"CALL": 0.6})
CONTRACTS = Contracts([*(Perpetual(f"{name}-PERP", underlying=name, settle="USDC") for name in ("BTC", "ETH", "SOL")),
                       Option("CALL", underlying="BTC", settle="USDC", strike=60_000.0, expiry_ns=30 * NS_PER_DAY,
                              right="call")])


def engine(scenarios, **options):
    result = Engine(CONTRACTS, ScenarioMargin(scenarios, offset_sets=[("BTC", "ETH", "SOL")], initial_ratio=1.0,
                                              **options))
    result.update(STATE)
    return result


def panel(name):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(shared("data", "prices", name)).set_index("date")
    return frame.pct_change(fill_method=None)


def test_events_are_what_the_closes_say():
    first, second = panel("daily_close_usd_panel_2020_2023.csv.gz"), panel("daily_close_usd_panel_2017_2025.csv.gz")
    checked = 0
    for event in STRESS_EVENTS.values():
        if event.date >= "2024":
            continue
        for coin, move in event.move.items():
            table = second if coin in ("SOL", "UNI", "RNDR", "APT") else first
            assert move == pytest.approx(table.loc[event.date, coin.lower()], abs=5.1e-5), (event.date, coin)
            checked += 1
    assert checked > 80


def test_recent_events_are_what_the_daily_bars_say():
    pandas = pytest.importorskip("pandas")
    bars = pandas.read_parquet(shared("data", "prices", "binance_spot_1d_ohlcv.parquet"))
    bars["date"] = pandas.to_datetime(bars.ts_ms, unit="ms").dt.strftime("%Y-%m-%d")
    for date in ("2024-08-05", "2025-10-10", "2026-02-05"):
        event = STRESS_EVENTS[date]
        for coin, move in event.move.items():
            own = bars[bars.symbol == f"{coin}USDT"].reset_index(drop=True)
            at = own.index[own.date == date][0]
            assert move == pytest.approx(own.close[at] / own.close[at - 1] - 1.0, abs=5.1e-5)
            assert event.low[coin] == pytest.approx(own.low[at] / own.close[at - 1] - 1.0, abs=5.1e-5)


def test_bitcoin_lows_are_what_the_hourly_bars_say():
    pandas = pytest.importorskip("pandas")
    bars = pandas.read_parquet(shared("data", "prices", "btcusdt_spot_1h_2017_2025.parquet"))
    bars["date"] = pandas.to_datetime(bars.ts_ms, unit="ms").dt.strftime("%Y-%m-%d")
    days = bars.groupby("date").agg(close=("close", "last"), low=("low", "min"))
    for event in STRESS_EVENTS.values():
        if event.low and event.date < "2024":
            before = days.close[str(np.datetime64(event.date) - np.timedelta64(1, "D"))]
            assert event.low["BTC"] == pytest.approx(days.low[event.date] / before - 1.0, abs=5.1e-5)


def test_volatilities_are_what_the_index_says():
    pandas = pytest.importorskip("pandas")
    index = pandas.read_parquet(shared("data", "vol_index", "deribit_dvol_btc_1h_2021_2025.parquet"))
    index["date"] = pandas.to_datetime(index.ts_ms, unit="ms").dt.strftime("%Y-%m-%d")
    last = index.groupby("date").close.last()
    for event in STRESS_EVENTS.values():
        if event.volatility is not None and event.date < "2026":
            want = last[event.date] / last[str(np.datetime64(event.date) - np.timedelta64(1, "D"))] - 1.0
            assert event.volatility == pytest.approx(want, abs=5.1e-5), event.date


def test_every_event_says_when_and_whence():
    assert {"2020-03-12", "2021-05-19", "2022-05-09", "2022-05-12", "2022-06-13", "2022-11-08", "2022-11-09",
            "2025-10-10", "2026-02-05"} <= set(STRESS_EVENTS)
    for date, event in STRESS_EVENTS.items():
        assert event.date == date and np.datetime64(date) and len(event.source) > 20 and event.title
        assert all(-1.0 < move < 1.0 for move in event.move.values())
        assert all(low <= event.move[coin] for coin, low in event.low.items() if coin != "BTC" or date >= "2024")
    with pytest.raises(TypeError):
        STRESS_EVENTS["2020-03-12"].move["BTC"] = 0.0


def test_a_long_book_is_worst_on_the_day_of_2020():
    report = engine(stress()).margin(Portfolio({"BTC-PERP": 1.0}))
    assert report.worst_scenario == "2020-03-12 pandemic crash"
    assert report.maintenance == pytest.approx(0.3717 * 60_000.0, rel=1e-12)
    assert engine(stress(extent="low")).margin(Portfolio({"BTC-PERP": 1.0})).maintenance == pytest.approx(
        0.4442 * 60_000.0, rel=1e-12)


def test_coins_an_event_does_not_know_fall_like_the_others():
    moves = STRESS_EVENTS["2025-10-10"].move
    found = stress(["2025-10-10"])
    assert found.spot_move["*"][0] == pytest.approx(np.median(list(moves.values())), rel=1e-15)
    assert stress(["2025-10-10"], others="worst").spot_move["*"] == (-0.2213,)
    assert found.spot_move["USDC"] == (0.0,)
    assert stress(["2023-03-11"]).spot_move["USDC"] == (-0.0280,)


def test_volatility_moves_with_the_day():
    whole, without = stress(["2022-11-09"]), stress(["2022-11-09"], volatility=False)
    assert str(whole.volatility[0]) == "vol +49.65 %" and str(without.volatility[0]) == "vol same"
    book = Portfolio({"CALL": 1.0})
    assert engine(whole).margin(book).maintenance < engine(without).margin(book).maintenance


def test_own_events():
    mine = StressEvent(date="2026-10-01", title="drill", move={"BTC": -0.5})
    assert stress(mine).names == ("2026-10-01 drill",)
    assert stress("2021-05-19") == stress(["2021-05-19"])
    assert stress([mine, "2021-05-19"]).names == ("2026-10-01 drill", "2021-05-19 leverage unwind")


def test_volatility_doubles():
    report = engine(volatility_jump(2.0, 0.5)).margin(Portfolio({"CALL": -1.0}))
    assert report.worst_scenario == "volatility x 2"
    same = engine(from_moves(["double"], [0.0], volatility=[1.0])).margin(Portfolio({"CALL": -1.0}))
    assert report.maintenance == same.maintenance > 0.0


def test_a_lost_peg_hits_balances_and_settlement():
    account_engine = engine(depeg("USDC", -0.13, -0.3), shocked_assets=["USDC"])
    account = account_engine.open("a")
    account.deposit("USDC", 1_000.0)
    assert account.margin().maintenance == pytest.approx(300.0) and account.margin().worst_scenario == "USDC -30 %"
    plain = engine(depeg("USDC"))
    other = plain.open("b")
    other.deposit("USDC", 1_000.0)
    assert other.margin().maintenance == 0.0


def test_everything_at_once():
    book = combine_scenarios(concat_scenarios([stress(volatility=False), from_moves(["calm"], [0.0])]),
                             concat_scenarios([volatility_jump(2.0), from_moves(["no jump"], [0.0])]))
    assert len(book) == 2 * (len(STRESS_EVENTS) + 1) and "2020-03-12 pandemic crash, volatility x 2" in book.names
    deep = combine_scenarios(stress(["2022-11-09"]), depeg("USDC", -0.1))
    assert deep.spot_move["USDC"] == pytest.approx([-0.1]) and deep.spot_move["BTC"] == pytest.approx([-0.1435])


def test_correlation_to_one_is_the_worst_order_for_longs():
    moves = np.random.default_rng(4).normal(0.0, 0.05, (250, 2))
    prices = dict(zip(("BTC", "ETH"), np.exp(np.vstack([[0.0, 0.0], moves.cumsum(axis=0)])).T, strict=True))
    history = historical(prices)
    one = correlation_one(history)
    assert sorted(history.spot_move["ETH"]) == list(one.spot_move["ETH"])
    assert np.argsort(one.spot_move["BTC"]).tolist() == list(range(250))
    for weights in ([1.0, 1.0], [3.0, 0.5]):
        apart, together = (weights[0] * np.array(s.spot_move["BTC"]) + weights[1] * np.array(s.spot_move["ETH"])
                           for s in (history, one))
        single = sum(weight * expected_shortfall(np.array(history.spot_move[name]), 0.975)
                     for weight, name in zip(weights, ("BTC", "ETH"), strict=True))
        assert expected_shortfall(apart, 0.975) <= expected_shortfall(together, 0.975) == pytest.approx(single)
    against = correlation_one(history, opposite=["ETH"])
    assert against.spot_move["ETH"] == tuple(reversed(one.spot_move["ETH"]))


@pytest.mark.parametrize(("call", "kind"), [
    (lambda: stress(["1987-10-19"]), RangeError), (lambda: stress([]), RangeError),
    (lambda: stress(extent="open"), RangeError), (lambda: stress(others="best"), RangeError),
    (lambda: stress([3]), RangeError), (lambda: stress(["2020-03-12", "2020-03-12"]), RangeError),
    (lambda: volatility_jump(0.0), RangeError), (lambda: volatility_jump(math.nan), NotFiniteError),
    (lambda: depeg("*"), RangeError), (lambda: depeg("USDC", -1.0), RangeError), (lambda: depeg(""), RangeError),
    (lambda: correlation_one(from_moves(["a", "b"], [0.1, 0.2], weight=[1.0, 0.5])), RangeError),
    (lambda: correlation_one(from_moves(["a", "b"], [0.1, 0.2]), opposite=["BTC"]), RangeError),
    (lambda: correlation_one(7), RangeError),
    (lambda: spread_cost(1.0, -0.1), RangeError), (lambda: spread_cost(math.nan, 0.1), NotFiniteError),
    (lambda: spread_cost(1.0, 0.1, spread_deviation=-0.1), RangeError),
    (lambda: liquidity_adjusted(math.inf, 1.0, 0.1), NotFiniteError),
])
def test_bad_input(call, kind):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, MarginError)


def test_published_liquidity_adjusted_values():
    cases = {case["id"]: case for case in json.loads(shared("vectors", "liquidity_lvar.json").read_text())["cases"]}
    constant = cases["constant_spread_abc"]
    given, want = constant["inputs"], constant["expected"]
    found = liquidity_adjusted(given["value"] * given["z"] * given["sigma"], given["value"], given["spread"])
    assert found == pytest.approx((want["var"], want["liquidity_cost"], want["lvar"]), rel=1e-9)
    exogenous = cases["exogenous_spread"]
    given = exogenous["inputs"]
    assert spread_cost(given["value"], given["mean_spread"], spread_deviation=given["sd_spread"],
                       multiple=given["k"]) == pytest.approx(exogenous["expected"]["exogenous_cost"], rel=1e-9)


def test_liquidity_costs_scale_and_never_help():
    assert spread_cost(-100.0, 0.01) == spread_cost(100.0, 0.01) == 0.5
    assert spread_cost(300.0, 0.01, spread_deviation=0.002, multiple=4.0) == pytest.approx(2.7)
    found = liquidity_adjusted(-1.0, 100.0, 0.01)
    assert found.total == pytest.approx(-0.5) and found.risk == -1.0
