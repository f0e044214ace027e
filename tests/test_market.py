"""MarketState: what is a price, what is missing, what raises; and how it resolves to columns."""

import math
import pickle

import numpy as np
import pytest

from margincore.columns import FAULTS
from margincore.contracts import Contracts, Future, Option, Perpetual, Spot
from margincore.errors import MarginError, NotFiniteError, RangeError
from margincore.ladder import Ladder
from margincore.market import MarketState
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-03-01T08:00")
EXPIRY = NOW + 73 * NS_PER_DAY  # a fifth of a year
CONTRACTS = Contracts([
    Spot("BTC/USDC", underlying="BTC", settle="USDC"),
    Perpetual("PERP", underlying="BTC", settle="USDC"),
    Perpetual("COIN", underlying="BTC", settle="BTC", inverse=True),
    Future("FUT", underlying="BTC", settle="USDC", expiry_ns=EXPIRY),
    Option("CALL", underlying="BTC", settle="USDC", strike=1e5, expiry_ns=EXPIRY, right="call"),
    Option("COINPUT", underlying="BTC", settle="BTC", strike=1e5, expiry_ns=EXPIRY, right="put", inverse=True),
    Perpetual("ETHPERP", underlying="ETH", settle="USDC"),
])
SPOT = {"BTC": 100_000.0, "ETH": 4_000.0, "USDC": 0.998}
MARK = {"PERP": 100_100.0, "COIN": 99_900.0, "FUT": 101_000.0, "CALL": 9_000.0, "COINPUT": 0.09, "ETHPERP": 4_001.0}
VOL = {"CALL": 0.6, "COINPUT": 0.62}


def state(**changes):
    return MarketState(**{"now_ns": NOW, "spot": SPOT, "mark": MARK, "volatility": VOL, **changes})


def at(columns, name, symbol):
    return getattr(columns, name)[CONTRACTS.column[symbol]]


def unknown(columns):
    return {symbol: FAULTS[columns.fault[i]] for i, symbol in enumerate(CONTRACTS.symbols) if columns.fault[i]}


def test_given_marks_are_taken_as_they_are():
    columns = state().resolve(CONTRACTS)
    assert {s: at(columns, "mark", s) for s in MARK} == MARK
    assert columns.mark[:2].tolist() == [1.0, 1.0]
    assert at(columns, "forward", "FUT") == 101_000.0
    assert at(columns, "years", "FUT") == pytest.approx(0.2) and at(columns, "years", "PERP") == 0.0
    assert not columns.fault.any()


def test_modelled_marks():
    columns = state(mark=None, rate={"USDC": 0.05}).resolve(CONTRACTS)
    assert at(columns, "mark", "PERP") == 100_000.0 / 0.998
    assert at(columns, "mark", "COIN") == 100_000.0
    forward = 100_000.0 / 0.998 * math.exp(0.05 * 0.2)
    assert at(columns, "mark", "FUT") == pytest.approx(forward, rel=1e-15)
    v = 0.6 * math.sqrt(0.2)
    d1 = math.log(forward / 1e5) / v + v / 2
    cdf = [0.5 * math.erfc(-d / math.sqrt(2)) for d in (d1, d1 - v)]
    assert at(columns, "mark", "CALL") == pytest.approx(math.exp(-0.01) * (forward * cdf[0] - 1e5 * cdf[1]), rel=1e-13)


def test_put_call_parity_of_modelled_marks():
    options = [Option(r, underlying="BTC", settle="USDC", strike=9e4, expiry_ns=EXPIRY, right=r)
               for r in ("call", "put")]
    contracts = Contracts(options)
    columns = MarketState(now_ns=NOW, spot={"BTC": 1e5, "USDC": 1.0}, rate={"USDC": 0.03},
                          volatility={"call": 0.5, "put": 0.5}).resolve(contracts)
    call, put = columns.mark[1:]
    assert call - put == pytest.approx(columns.discount[1] * (columns.forward[1] - 9e4), rel=1e-14)


def test_interest_on_the_coin_lowers_its_forward():
    columns = state(mark=None, rate={"BTC": 0.02}).resolve(CONTRACTS)
    assert at(columns, "forward", "COINPUT") == pytest.approx(1e5 * math.exp(-0.004))
    assert at(columns, "discount", "COINPUT") == pytest.approx(math.exp(-0.004))


def test_given_forward_is_used():
    columns = state(mark=None, forward={("BTC", EXPIRY): 104_000.0}).resolve(CONTRACTS)
    assert at(columns, "mark", "FUT") == at(columns, "forward", "CALL") == 104_000.0


@pytest.mark.parametrize("missing", [None, math.nan, 0.0])
def test_a_missing_or_zero_spot_is_not_a_price(missing):
    columns = state(spot={**SPOT, "BTC": missing}).resolve(CONTRACTS)
    assert unknown(columns) == dict.fromkeys(("BTC", "PERP", "COIN", "FUT", "CALL", "COINPUT"), "missing")
    assert np.isnan(at(columns, "mark", "PERP")) and at(columns, "mark", "ETHPERP") == 4_001.0
    assert np.isnan(columns.spot[CONTRACTS.underlyings.index("BTC")])


def test_a_missing_settlement_asset_makes_its_contracts_unknown():
    columns = state(spot={"BTC": 1e5, "ETH": 4e3}).resolve(CONTRACTS)
    assert set(unknown(columns)) == {"USDC", "PERP", "FUT", "CALL", "ETHPERP"}


def test_a_zero_mark_is_a_price_of_an_option_only():
    columns = state(mark=dict.fromkeys(MARK, 0.0)).resolve(CONTRACTS)
    assert set(unknown(columns)) == {"PERP", "COIN", "FUT", "ETHPERP"}
    assert at(columns, "mark", "CALL") == at(columns, "mark", "COINPUT") == 0.0


@pytest.mark.parametrize("missing", [None, math.nan])
def test_given_marks_are_authoritative(missing):
    assert unknown(state(mark={**MARK, "CALL": missing}).resolve(CONTRACTS)) == {"CALL": "missing"}
    marks = {s: m for s, m in MARK.items() if s != "CALL"}
    assert unknown(state(mark=marks).resolve(CONTRACTS)) == {"CALL": "missing"}


def test_modelled_option_without_volatility_is_missing():
    columns = state(mark=None, volatility={"COINPUT": 0.6, "CALL": None}).resolve(CONTRACTS)
    assert unknown(columns) == {"CALL": "missing"}


def test_a_crossed_market_is_unknown_and_a_locked_one_is_not():
    columns = state(bid={"PERP": 101.0, "CALL": 10.0}, ask={"PERP": 100.0, "CALL": 10.0}).resolve(CONTRACTS)
    assert unknown(columns) == {"PERP": "crossed"}
    assert at(columns, "half_spread", "CALL") == 0.0 and at(columns, "spread_known", "CALL") == 1
    crossed = state(bid={"BTC/USDC": 101.0}, ask={"BTC/USDC": 100.0}).resolve(CONTRACTS)
    assert unknown(crossed)["BTC"] == "crossed" and "ETHPERP" not in unknown(crossed)


def test_no_quote_is_not_crossed():
    columns = state(bid={"PERP": 101.0, "CALL": 0.0, "FUT": None}, ask={"PERP": 0.0, "CALL": 5.0}).resolve(CONTRACTS)
    assert not unknown(columns)
    assert not columns.spread_known.any() and not columns.half_spread.any()


def test_age_limit():
    minute = 60 * 10**9
    market = state(observed_ns={"PERP": NOW - minute, "CALL": NOW - 2 * minute, "ETH": NOW - 2 * minute})
    assert not unknown(market.resolve(CONTRACTS))
    assert unknown(market.resolve(CONTRACTS, age_max_ns=minute)) == dict.fromkeys(("CALL", "ETHPERP"), "stale")
    index = market.resolve(CONTRACTS, age_max_ns=minute)
    assert np.isnan(index.spot[CONTRACTS.underlyings.index("ETH")])
    assert "PERP" in unknown(market.resolve(CONTRACTS, age_max_ns=minute - 1))


def test_a_stale_forward_is_not_replaced_by_a_guess():
    market = state(mark=None, forward={("BTC", EXPIRY): 1.02e5}, observed_ns={("BTC", EXPIRY): NOW - 10})
    assert set(unknown(market.resolve(CONTRACTS, age_max_ns=5))) == {"FUT", "CALL", "COINPUT"}


def test_after_expiry_the_unsettled_are_unknown():
    late = state(now_ns=EXPIRY).resolve(CONTRACTS)
    assert at(late, "years", "CALL") == 0.0 and not unknown(late)
    later = state(now_ns=EXPIRY + 1).resolve(CONTRACTS)
    assert unknown(later) == dict.fromkeys(("FUT", "CALL", "COINPUT"), "expired")
    assert state(now_ns=EXPIRY + 1).resolve(CONTRACTS).faults(CONTRACTS.symbols) == unknown(later)


def test_expiring_option_is_modelled_at_its_intrinsic_value():
    columns = state(now_ns=EXPIRY, mark=None, spot={**SPOT, "BTC": 80_000.0}).resolve(CONTRACTS)
    assert at(columns, "mark", "COINPUT") == pytest.approx(0.25, rel=1e-15)
    assert at(columns, "mark", "CALL") == 0.0


def test_surface_fills_what_quotes_leave_open():
    class Smile:
        def vol(self, strikes, expiries_ns):
            assert expiries_ns.dtype == np.int64
            return np.where(np.asarray(strikes) > 0, 0.77, np.nan)

    columns = state(volatility={"CALL": 0.6, "COINPUT": None}, surface={"BTC": Smile()}).resolve(CONTRACTS)
    assert at(columns, "sigma", "CALL") == 0.6 and at(columns, "sigma", "COINPUT") == 0.77
    assert np.isnan(at(columns, "sigma", "PERP"))


def test_quotes_depth_and_funding():
    book = {"bids": [[100.0, 5.0], [99.0, 10.0]], "asks": [[101.0, 3.0], [103.0, 4.0]]}
    market = state(books={"PERP": book}, depth={"FUT": 12.0}, funding={"PERP": -0.0003, "COIN": None})
    columns = market.resolve(CONTRACTS)
    assert market.books["PERP"] == Ladder(book["bids"], book["asks"])
    assert market.quote("PERP") == (100.0, 101.0)
    assert at(columns, "half_spread", "PERP") == 0.5 and at(columns, "spread_known", "PERP") == 1
    assert at(columns, "depth", "PERP") == 7.0 and at(columns, "depth", "FUT") == 12.0
    assert np.isnan(at(columns, "depth", "CALL"))
    assert at(columns, "funding", "PERP") == -0.0003 and np.isnan(at(columns, "funding", "COIN"))
    assert at(columns, "funding", "ETHPERP") == 0.0


def test_a_crossed_ladder_is_unknown():
    crossed = Ladder([(102.0, 1.0)], [(101.0, 1.0)])
    assert unknown(state(books={"PERP": crossed}).resolve(CONTRACTS)) == {"PERP": "crossed"}
    assert math.isnan(Ladder([], [(1.0, 1.0)]).best()[0]) and Ladder([], [(1.0, 1.0)]).depth() == 0.0


def test_the_state_is_immutable_and_keeps_its_own_copy():
    spot = dict(SPOT)
    market = state(spot=spot)
    spot["BTC"] = 1.0
    assert market.spot["BTC"] == 100_000.0
    with pytest.raises(TypeError):
        market.spot["BTC"] = 1.0
    with pytest.raises(AttributeError):
        market.now_ns = 1
    columns = market.resolve(CONTRACTS)
    with pytest.raises(ValueError, match="read-only"):
        columns.mark[0] = 2.0
    again = pickle.loads(pickle.dumps(market))
    assert again.spot == market.spot and again.mark == market.mark
    table = pickle.loads(pickle.dumps(CONTRACTS))
    assert (table.symbols, table.assets, table.underlyings, dict(table.by_symbol)) == (
        CONTRACTS.symbols, CONTRACTS.assets, CONTRACTS.underlyings, dict(CONTRACTS.by_symbol))
    np.testing.assert_array_equal(table.settle, CONTRACTS.settle)


@pytest.mark.parametrize("name", ["spot", "mark", "volatility", "bid", "ask", "depth"])
@pytest.mark.parametrize("value, error", [(-1.0, RangeError), (True, RangeError), ("1.0", RangeError),
                                          (math.inf, NotFiniteError), (-math.inf, NotFiniteError), ([1.0], RangeError)])
def test_what_no_feed_can_mean_raises(name, value, error):
    with pytest.raises(error, match=name):
        state(**{name: {"PERP": value}})


@pytest.mark.parametrize("changes", [
    {"now_ns": 0}, {"now_ns": 1.5}, {"now_ns": True}, {"now_ns": None}, {"spot": None}, {"spot": 5.0}, {"spot": [1.0]},
    {"rate": {"USDC": math.inf}}, {"rate": {"USDC": "x"}}, {"funding": {"PERP": math.inf}}, {"surface": {"BTC": 0.6}},
    {"forward": {"BTC": 1.0}}, {"forward": {("BTC", 1.5): 1.0}}, {"forward": {("BTC", 5): -1.0}},
    {"observed_ns": {"BTC": 1.5}}, {"observed_ns": {"BTC": -1}}, {"observed_ns": 3}, {"mark": 3.0},
    {"books": {"PERP": 3}}, {"books": {"PERP": {"bids": []}}},
    {"books": {"PERP": {"bids": [[99.0, 1.0], [100.0, 1.0]], "asks": []}}},
    {"books": {"PERP": {"bids": [], "asks": [[101.0, 1.0], [100.0, 1.0]]}}},
    {"books": {"PERP": {"bids": [[math.nan, 1.0]], "asks": []}}},
    {"books": {"PERP": {"bids": [[0.0, 1.0]], "asks": []}}}, {"books": {"PERP": {"bids": [[1.0, -1.0]], "asks": []}}},
    {"books": {"PERP": {"bids": [[1.0]], "asks": []}}}, {"books": {"PERP": {"bids": "12", "asks": []}}},
    {"books": {"PERP": {"bids": None, "asks": []}}}, {"books": {"PERP": {"bids": [1.0], "asks": []}}},
])
def test_malformed_states_raise(changes):
    with pytest.raises(MarginError):
        state(**changes)


@pytest.mark.parametrize("age", [-1, 1.5, True, math.nan])
def test_age_limit_is_checked(age):
    with pytest.raises(MarginError, match="age_max_ns"):
        state().resolve(CONTRACTS, age_max_ns=age)


def test_volatility_of_the_mark_where_nothing_else_tells_it():
    modelled = state(mark=None, rate={"USDC": 0.05}).resolve(CONTRACTS)
    marks = {s: float(at(modelled, "mark", s)) for s in MARK}
    implied = state(mark=marks, volatility={}, rate={"USDC": 0.05}).resolve(CONTRACTS)
    assert at(implied, "sigma", "CALL") == pytest.approx(0.6, rel=1e-12)
    assert at(implied, "sigma", "COINPUT") == pytest.approx(0.62, rel=1e-12)
    mixed = state(mark=marks, volatility={"CALL": 0.5}).resolve(CONTRACTS)
    assert at(mixed, "sigma", "CALL") == 0.5 and np.isfinite(at(mixed, "sigma", "COINPUT"))


def test_a_chain_of_marks_tells_its_smile():
    rows = [(strike, right, coin) for strike in np.linspace(4e4, 2.4e5, 41) for right in ("call", "put")
            for coin in (False, True)]
    chain = Contracts([
        Option(f"O{i}", underlying="BTC", settle="BTC" if coin else "USDC", strike=float(strike), expiry_ns=EXPIRY,
               right=right, inverse=coin) for i, (strike, right, coin) in enumerate(rows)])
    smile = {f"O{i}": 0.5 + 0.3 * math.log(strike / 1e5) ** 2 for i, (strike, _, _) in enumerate(rows)}
    told = {"now_ns": NOW, "spot": {"BTC": 1e5, "USDC": 1.0}, "rate": {"USDC": 0.04}}
    priced = MarketState(**told, volatility=smile).resolve(chain)
    mark = {symbol: float(priced.mark[chain.column[symbol]]) for symbol in smile}
    found = MarketState(**told, mark=mark).resolve(chain)
    for i, (strike, right, _) in enumerate(rows):
        outside = (strike > 1e5) == (right == "call")  # in the money the intrinsic value hides the last digits
        column = chain.column[f"O{i}"]
        assert found.sigma[column] == pytest.approx(smile[f"O{i}"], rel=1e-11 if outside else 1e-6), rows[i]


@pytest.mark.parametrize("mark", [0.0, None, 1.0, 5.0])
def test_a_mark_outside_its_bounds_has_no_volatility(mark):
    columns = state(mark={**MARK, "COINPUT": mark}, volatility={}).resolve(CONTRACTS)
    assert np.isnan(at(columns, "sigma", "COINPUT")) and np.isfinite(at(columns, "sigma", "CALL"))


def test_at_expiry_no_volatility_is_needed():
    columns = state(now_ns=EXPIRY, volatility={}).resolve(CONTRACTS)
    assert at(columns, "sigma", "CALL") == 0.0 and at(columns, "mark", "CALL") == MARK["CALL"]
