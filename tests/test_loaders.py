"""Loaders on made rows, on venues' own responses, and on real chain files; a feed's gaps are missing, never errors."""

import copy
import csv
import datetime
import gzip
import json
import math

import numpy as np
import pytest
from shared_data import shared

from margincore.chain import load_chain, snapshots
from margincore.columns import FAULTS
from margincore.contracts import Contracts, Future, Option, Perpetual, Spot
from margincore.errors import MarginError, MissingDataError, RangeError, ShapeError
from margincore.example import example_market
from margincore.io.ccxt import contracts_from_ccxt
from margincore.io.deribit import contract_of, contracts_from_deribit
from margincore.io.frames import contracts_from_frame
from margincore.io.rows import nanoseconds, rows_of, time_of
from margincore.io.tardis import contracts_from_tardis
from margincore.kernels import reval
from margincore.market import MarketState
from margincore.units import Right, utc

NOW_MS = 1_772_400_000_000
EXPIRY = utc("2026-03-27T08:00")
CALL = {"instrument_name": "BTC-27MAR26-60000-C", "timestamp": NOW_MS, "state": "open", "mark_price": 0.0712,
        "mark_iv": 60.86, "best_bid_price": 0.07, "best_ask_price": 0.073, "best_bid_amount": 3.0,
        "best_ask_amount": 5.0, "underlying_price": 61_500.0, "underlying_index": "BTC-27MAR26",
        "index_price": 61_200.0,
        "interest_rate": 0.0}
PERP = {"instrument_name": "BTC-PERPETUAL", "timestamp": NOW_MS + 5, "state": "open", "mark_price": 61_210.0,
        "best_bid_price": 61_209.5, "best_ask_price": 61_210.0, "best_bid_amount": 1e5, "best_ask_amount": 2e5,
        "index_price": 61_200.0, "current_funding": 1e-4, "funding_8h": 2e-4}
SUMMARY = {"instrument_name": "BTC-27MAR26-70000-P", "creation_timestamp": NOW_MS, "mark_price": 0.15, "mark_iv": 55.0,
           "bid_price": None, "ask_price": 0.16, "underlying_price": 61_510.0, "underlying_index": "BTC-27MAR26",
           "estimated_delivery_price": 61_205.0, "interest_rate": 0.0}
FUTURE = {"instrument_name": "BTC-26JUN26", "timestamp": NOW_MS, "mark_price": 62_000.0, "index_price": 61_200.0}
ROWS = [CALL, PERP, SUMMARY, FUTURE]


def resolved(rows, **options):
    contracts = contracts_from_deribit(rows)
    market = MarketState.from_deribit(rows, **options)
    return contracts, market, market.resolve(contracts)


def test_deribit_names():
    assert contract_of("BTC-PERPETUAL") == Perpetual("BTC-PERPETUAL", underlying="BTC", settle="BTC", inverse=True)
    assert contract_of("ETH_USDC-PERPETUAL") == Perpetual("ETH_USDC-PERPETUAL", underlying="ETH", settle="USDC")
    option = contract_of("BTC-6MAR26-60000-P")
    assert (option.strike, option.right, option.expiry_ns) == (60_000.0, Right.PUT, utc("2026-03-06T08:00"))
    assert option.inverse and option.settle == "BTC"
    assert contract_of("XRP_USDC-27MAR26-0d625-C").strike == 0.625
    assert contract_of("BTC-26JUN26") == Future("BTC-26JUN26", underlying="BTC", settle="BTC", inverse=True,
                                                expiry_ns=utc("2026-06-26T08:00"))
    assert contract_of("BTC_USDC") == Spot("BTC_USDC", underlying="BTC", settle="USDC")
    for other in ("BTC-FS-27MAR26_PERP", "BTC-CS-27MAR26-60000_70000", "", "BTC-31FEB26", "BTC-27MAR26-0-C", "none"):
        assert contract_of(other) is None


def test_deribit_rows():
    contracts, market, columns = resolved(ROWS)
    assert len(contracts.derivatives) == 4
    assert market.now_ns == (NOW_MS + 5) * 10**6
    assert market.spot["BTC"] == 61_200.0 and market.spot["USD"] == 1.0
    assert market.volatility == {"BTC-27MAR26-60000-C": 0.6086, "BTC-27MAR26-70000-P": pytest.approx(0.55)}
    assert market.forward == {("BTC", EXPIRY): 61_505.0, ("BTC", utc("2026-06-26T08:00")): 62_000.0}
    assert market.funding["BTC-PERPETUAL"] == pytest.approx(3e-4)
    assert market.depth["BTC-PERPETUAL"] == 1e5
    assert not columns.fault.any()
    at = contracts.column["BTC-27MAR26-60000-C"]
    assert columns.mark[at] == 0.0712 and columns.half_spread[at] == pytest.approx(0.0015)
    assert columns.spread_known[contracts.column["BTC-27MAR26-70000-P"]] == 0


@pytest.mark.parametrize("wrap", [lambda rows: {"jsonrpc": "2.0", "result": rows}, lambda rows: tuple(rows),
                                  lambda rows: (row for row in rows),
                                  lambda rows: [{"params": {"channel": "ticker", "data": row}} for row in rows]])
def test_envelopes_are_opened(wrap):
    assert MarketState.from_deribit(wrap(ROWS)).mark == MarketState.from_deribit(ROWS).mark


@pytest.mark.parametrize("bad", [None, math.nan, "", "n/a", -1.0, 0.0, math.inf, True, [], {}])
@pytest.mark.parametrize("field", ["index_price", "mark_price", "mark_iv", "underlying_price", "best_bid_price",
                                   "best_ask_amount", "interest_rate", "timestamp", "current_funding"])
def test_a_bad_field_is_missing_and_never_an_error(field, bad):
    rows = copy.deepcopy(ROWS)
    for row in rows:
        for name in (field, "estimated_delivery_price" if field == "index_price" else field):
            if name in row:
                row[name] = bad
    contracts, market, columns = resolved(rows, now_ns=(NOW_MS + 5) * 10**6)
    if field == "index_price":
        assert columns.fault[0] == FAULTS.index("missing") and np.isnan(columns.mark[1:]).all()
    if field == "mark_price":
        call = contracts.column["BTC-27MAR26-60000-C"]
        assert np.isnan(columns.mark[contracts.column["BTC-PERPETUAL"]])
        assert columns.mark[call] == 0.0 if bad == 0.0 and bad is not True else np.isnan(columns.mark[call])
    if field == "mark_iv":
        assert not market.volatility
    assert not (columns.mark < 0.0).any() and not np.isinf(columns.mark).any()


def test_a_closed_instrument_has_no_mark():
    _, market, columns = resolved([{**CALL, "state": "closed"}, PERP])
    assert np.isnan(market.mark["BTC-27MAR26-60000-C"]) and columns.fault.tolist() == [0, 1, 0]


def test_the_latest_row_of_a_symbol_counts_also_when_it_knows_less():
    later = {**PERP, "timestamp": NOW_MS + 60_000, "mark_price": None, "index_price": 61_300.0}
    for rows in ([PERP, later], [later, PERP]):
        market = MarketState.from_deribit(rows)
        assert np.isnan(market.mark["BTC-PERPETUAL"]) and market.spot["BTC"] == 61_300.0


def test_age_of_deribit_rows():
    rows = [CALL, {**PERP, "timestamp": NOW_MS + 120_000}]
    contracts, market, _ = resolved(rows)
    fault = market.resolve(contracts, age_max_ns=60 * 10**9).fault
    assert [FAULTS[code] for code in fault] == ["known", "stale", "known"]


def test_order_book_rows_join_and_disordered_ones_are_left_out():
    book = {"instrument_name": "BTC-PERPETUAL", "timestamp": NOW_MS + 5,
            "bids": [["new", 61_000.0, 10.0], [60_000.0, 20.0]], "asks": [[61_500.0, 5.0]]}
    market = MarketState.from_deribit([*ROWS, book])
    assert market.books["BTC-PERPETUAL"].bids == ((61_000.0, 10.0), (60_000.0, 20.0))
    for bids in ([[1.0, 1.0], [2.0, 1.0]], [[None, 1.0]], [[1.0]], ["x"], [["nan", 1.0]]):
        assert not MarketState.from_deribit([*ROWS, {**book, "bids": bids}]).books


def test_fractions_and_percent_are_told_apart():
    rows = [{**CALL, "mark_iv": 0.6086}, {**SUMMARY, "mark_iv": 0.55}]
    assert MarketState.from_deribit(rows).volatility["BTC-27MAR26-60000-C"] == 0.6086
    assert MarketState.from_deribit(rows, volatility_unit="percent").volatility["BTC-27MAR26-60000-C"] == 0.006086
    with pytest.raises(RangeError, match="volatility_unit"):
        MarketState.from_deribit(rows, volatility_unit="points")


def test_linear_contracts_use_the_price_of_their_quote():
    row = {"instrument_name": "ETH_USDC-PERPETUAL", "timestamp": NOW_MS, "mark_price": 3_000.0, "index_price": 2_999.0}
    market = MarketState.from_deribit([row], spot={"USDC": 0.99})
    assert market.spot["ETH"] == pytest.approx(2_999.0 * 0.99)
    assert MarketState.from_deribit([row], spot={"ETH": 5.0}).spot["ETH"] == 5.0


@pytest.mark.parametrize("rows", [5, "rows", [1, 2], None])
def test_what_is_no_row_raises(rows):
    with pytest.raises(RangeError, match="rows"):
        MarketState.from_deribit(rows)
    with pytest.raises(RangeError, match="rows"):
        contracts_from_deribit(rows)


def test_no_time_at_all_raises():
    with pytest.raises(RangeError, match="now_ns"):
        MarketState.from_deribit([{"instrument_name": "BTC-PERPETUAL", "mark_price": 1.0}])
    assert MarketState.from_deribit([], now_ns=5).mark == {}


def test_times_are_told_apart_by_magnitude():
    assert {nanoseconds(1_772_400_000 * scale) for scale in (1, 10**3, 10**6, 10**9)} == {1_772_400_000 * 10**9}
    assert nanoseconds(math.nan) == nanoseconds(-1.0) == nanoseconds(0.0) == 0


@pytest.mark.parametrize("value", [
    "2026-04-01T08:00:00Z", " 2026-04-01 08:00", "2026-04-01T17:00+09:00", datetime.datetime(2026, 4, 1, 8),
    datetime.datetime(2026, 4, 1, 10, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    np.datetime64("2026-04-01T08:00"), 1_775_030_400_000, "1775030400",
])
def test_times_may_be_text_and_datetimes(value):
    assert time_of({"expiry": value}, "expiry") == utc("2026-04-01T08:00")


@pytest.mark.parametrize("value", ["1APR26", "soon", "a-b", "-5", "1960-01-01", "9999-01-01", np.datetime64("NaT")])
def test_what_is_no_time_is_unknown(value):
    assert time_of({"expiry": value}, "expiry") == 0


def test_tables_of_any_library():
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    rows = [{key: row.get(key) for key in {**CALL, **PERP, **SUMMARY}} for row in ROWS]
    want = MarketState.from_deribit(rows)
    frame = pandas.DataFrame(rows)
    for table in (frame, polars.DataFrame(rows), pyarrow.Table.from_pylist(rows),
                  {name: frame[name].to_numpy() for name in frame}):
        got = MarketState.from_deribit(table)
        assert got.now_ns == want.now_ns and got.forward == want.forward
        assert {k: v for k, v in got.mark.items() if v == v} == {k: v for k, v in want.mark.items() if v == v}
        assert contracts_from_deribit(table).symbols == contracts_from_deribit(rows).symbols
    assert rows_of(CALL) == [CALL]


def test_frames_and_arrays_with_own_names():
    columns = {"symbol": np.array(["P", "O", "S"]), "kind": np.array(["perpetual", "option", "spot"]),
               "underlying": np.array(["BTC"] * 3), "settle": np.array(["USDC"] * 3),
               "multiplier": np.array([0.001, 1.0, np.nan]), "inverse": np.array([False, False, False]),
               "strike": np.array([np.nan, 6e4, np.nan]), "expiry_ns": np.array([0, EXPIRY, 0]),
               "right": np.array(["", "call", ""]), "mark": np.array([61_210.0, np.nan, np.nan]),
               "volatility": np.array([np.nan, 0.6, np.nan])}
    contracts = contracts_from_frame(columns, assets=["USDT"])
    assert contracts.symbols == ("USDC", "BTC", "USDT", "P", "O")
    assert contracts.multiplier[contracts.column["P"]] == 0.001
    spot = {"BTC": 61_200.0, "USDC": 1.0}
    for market in (MarketState.from_frame(columns, now_ns=NOW_MS * 10**6, spot=spot),
                   MarketState.from_arrays(["P", "O", "S"], now_ns=NOW_MS * 10**6, spot=spot, mark=columns["mark"],
                                           volatility=columns["volatility"])):
        out = market.resolve(contracts)
        assert out.mark[contracts.column["P"]] == 61_210.0 and np.isnan(out.mark[contracts.column["O"]])
        assert out.sigma[contracts.column["O"]] == 0.6
    modelled = MarketState.from_arrays(["O"], now_ns=NOW_MS * 10**6, spot=spot, volatility=[0.6]).resolve(contracts)
    assert modelled.mark[contracts.column["O"]] > 0.0
    with pytest.raises(ShapeError, match="mark"):
        MarketState.from_arrays(["P"], now_ns=1, spot={}, mark=[1.0, 2.0])
    with pytest.raises(ShapeError, match="mark"):
        MarketState.from_arrays(["P"], now_ns=1, spot={}, mark=["x"])
    with pytest.raises(RangeError, match="kind"):
        contracts_from_frame([{"symbol": "P", "kind": "swap"}])
    with pytest.raises(RangeError, match="symbol"):
        MarketState.from_frame([{"mark": 1.0}], now_ns=1, spot={})
    with pytest.raises(RangeError, match="mark"):
        MarketState.from_frame([{"symbol": "P", "mark": -1.0}], now_ns=1, spot={})


MARKETS = {
    "BTC/USD:BTC": {"symbol": "BTC/USD:BTC", "base": "BTC", "quote": "USD", "settle": "BTC", "swap": True,
                    "contract": True, "inverse": True, "contractSize": 10.0, "expiry": None},
    "BTC/USDT:USDT": {"symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT", "swap": True,
                      "contract": True, "contractSize": 0.001},
    "BTC/USDT": {"symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "settle": None, "spot": True},
    "BTC/USD:BTC-260327": {"symbol": "BTC/USD:BTC-260327", "base": "BTC", "quote": "USD", "settle": "BTC",
                           "future": True, "contract": True, "contractSize": 10.0, "expiry": EXPIRY // 10**6},
    "BTC/USD:BTC-260327-60000-C": {
        "symbol": "BTC/USD:BTC-260327-60000-C", "base": "BTC", "quote": "USD", "settle": "BTC", "option": True,
        "contract": True, "contractSize": 1.0, "expiry": EXPIRY // 10**6, "strike": 60_000.0, "optionType": "call"},
    "broken": {"symbol": "broken", "base": "BTC", "quote": "USD", "settle": "BTC", "option": True, "contract": True},
}
TICKERS = {
    "BTC/USD:BTC": {"symbol": "BTC/USD:BTC", "timestamp": NOW_MS, "bid": 61_200.0, "ask": 61_201.0, "last": 61_200.0,
                    "bidVolume": 10.0, "askVolume": 7.0, "markPrice": 61_202.0, "indexPrice": 61_190.0, "info": {}},
    "BTC/USDT:USDT": {"timestamp": NOW_MS, "markPrice": None, "info": {"mark_price": "61215.5"}},
    "BTC/USDT": {"symbol": "BTC/USDT", "timestamp": NOW_MS - 5, "bid": 61_190.0, "ask": 61_192.0, "last": 1.0},
}
GREEKS = {"BTC/USD:BTC-260327-60000-C": {
    "symbol": "BTC/USD:BTC-260327-60000-C", "timestamp": NOW_MS, "markImpliedVolatility": 60.86, "markPrice": 0.0712,
    "bidPrice": 0.07, "askPrice": 0.073, "bidSize": 3.0, "askSize": 5.0, "underlyingPrice": 61_500.0}}


def test_ccxt_dictionaries():
    contracts = contracts_from_ccxt(MARKETS)
    assert [item.symbol for item in contracts.derivatives] == [name for name in MARKETS if "/" in name and ":" in name]
    assert contracts.multiplier.tolist()[-4:] == [10.0, 0.001, 10.0, 1.0]
    assert contracts.inverse.tolist()[-4:] == [1, 0, 1, 1] and len(contracts.spots) == 1
    market = MarketState.from_ccxt(
        TICKERS, GREEKS, order_books={"BTC/USDT:USDT": {"bids": [[61_215.0, 3.0]], "asks": [[61_216.0, 4.0]],
                                                        "timestamp": NOW_MS}},
        funding_rates={"BTC/USD:BTC": {"fundingRate": 1e-4, "interval": "4h"}})
    assert market.now_ns == NOW_MS * 10**6 and market.spot["BTC"] == 61_190.0
    assert market.volatility == {"BTC/USD:BTC-260327-60000-C": 0.6086}
    assert market.forward == {("BTC", EXPIRY): 61_500.0}
    assert market.funding == {"BTC/USD:BTC": pytest.approx(6e-4)}
    columns = market.resolve(contracts)
    named = {contracts.symbols[i]: FAULTS[columns.fault[i]] for i in np.flatnonzero(columns.fault)}
    assert named == {"BTC/USD:BTC-260327": "missing"}
    at = contracts.column["BTC/USDT:USDT"]
    assert columns.mark[at] == 61_215.5 and columns.half_spread[at] == 0.5 and columns.depth[at] == 3.0
    assert columns.depth[contracts.column["BTC/USD:BTC"]] == 7.0


def test_ccxt_traps():
    raw = {"symbol": "BTC/USD:BTC-260327-60000-C", "timestamp": NOW_MS, "impliedVolatility": None,
           "markPrice": None, "info": {"mark_iv": "60.86", "mark_price": "0.0712", "underlying_price": "61500"}}
    market = MarketState.from_ccxt(None, [raw])
    assert market.volatility["BTC/USD:BTC-260327-60000-C"] == 0.6086 and market.forward == {("BTC", EXPIRY): 61_500.0}
    bybit = {"symbol": "BTC/USDT:USDT-260327-60000-C", "timestamp": NOW_MS, "markImpliedVolatility": 0.7567}
    assert MarketState.from_ccxt({}, {bybit["symbol"]: bybit}).volatility[bybit["symbol"]] == 0.7567
    spot = MarketState.from_ccxt({"BTC/USDT": {**TICKERS["BTC/USDT"], "bid": None}})
    assert spot.spot["BTC"] == 1.0  # last, where one side of the book is missing
    with pytest.raises(RangeError, match="tickers"):
        MarketState.from_ccxt({"BTC/USDT": 5})
    unknown = MarketState.from_ccxt({"%": {"timestamp": NOW_MS}}, now_ns=7)
    assert unknown.mark == {} and unknown.now_ns == 7


TARDIS = {"exchange": "deribit", "symbol": "BTC-27MAR26-60000-C", "timestamp": str(NOW_MS * 1000), "type": "call",
          "local_timestamp": str(NOW_MS * 1000 + 9), "strike_price": "60000", "expiration": str(EXPIRY // 1000),
          "open_interest": "5", "last_price": "", "bid_price": "0.07", "bid_amount": "3", "bid_iv": "60",
          "ask_price": "", "ask_amount": "", "ask_iv": "", "mark_price": "0.0712", "mark_iv": "60.86",
          "underlying_price": "61500.5",
          "underlying_index": "SYN.BTC-27MAR26", "delta": "0.5", "gamma": "", "vega": "", "theta": "", "rho": ""}


def test_tardis_rows(tmp_path):
    far = {**TARDIS, "symbol": "BTC-26JUN26-60000-P", "type": "put", "underlying_price": "62500",
           "expiration": str(utc("2026-06-26T08:00") // 1000)}
    market = MarketState.from_tardis([far, TARDIS])
    assert market.now_ns == NOW_MS * 10**6 and market.spot["BTC"] == 61_500.5
    assert market.volatility["BTC-27MAR26-60000-C"] == 0.6086
    assert market.forward[("BTC", EXPIRY)] == 61_500.5
    ticker = {"exchange": "deribit", "symbol": "BTC-PERPETUAL", "timestamp": str(NOW_MS * 1000), "index_price": "61200",
              "mark_price": "61210", "funding_rate": "0.0001", "last_price": "1"}
    both = MarketState.from_tardis([far, TARDIS, ticker])
    assert both.spot["BTC"] == 61_200.0 and both.funding["BTC-PERPETUAL"] == pytest.approx(3e-4)
    others = [("okex-options", "BTC-USD-260327-60000-C"), ("binance-european-options", "BTC-260327-60000-C")]
    contracts = contracts_from_tardis([TARDIS, *({**TARDIS, "exchange": e, "symbol": s} for e, s in others)])
    assert [(item.settle, item.inverse) for item in contracts.derivatives] == [
        ("BTC", True), ("BTC", True), ("USDT", False)]
    for name, opener in (("chain.csv", open), ("chain.csv.gz", gzip.open)):
        with opener(tmp_path / name, "wt", newline="") as stream:
            writer = csv.DictWriter(stream, TARDIS)
            writer.writeheader()
            writer.writerows([far, TARDIS])
        contracts, read = load_chain(tmp_path / name)
        assert len(contracts.derivatives) == 2 and read.mark == market.mark and read.spot == market.spot


def test_json_chains(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"result": ROWS}))
    contracts, market = load_chain(tmp_path / "rows.json")
    assert len(contracts.derivatives) == 4 and market.mark == MarketState.from_deribit(ROWS).mark
    (tmp_path / "ccxt.json").write_text(json.dumps({"markets": MARKETS, "tickers": TICKERS, "greeks": GREEKS}))
    contracts, market = load_chain(tmp_path / "ccxt.json", assets=["ETH"])
    assert len(contracts.derivatives) == 4 and market.spot["BTC"] == 61_190.0 and "ETH" in contracts.assets


def test_one_snapshot_is_chosen(tmp_path):
    hour = 3_600_000
    rows = [{**CALL, "timestamp": NOW_MS + at * hour + second * 1000, "mark_price": 0.07 + 0.01 * at}
            for at in range(3) for second in (0, 30)]
    assert [len(group) for group in snapshots(rows)] == [2, 2, 2]
    path = tmp_path / "day.json"
    path.write_text(json.dumps(rows))
    for at_ns, want in ((None, 0.09), ((NOW_MS + hour) * 10**6, 0.08), ((NOW_MS + hour - 1) * 10**6, 0.07)):
        assert load_chain(path, at_ns=at_ns)[1].mark[CALL["instrument_name"]] == pytest.approx(want)
    with pytest.raises(MissingDataError, match="at_ns"):
        load_chain(path, at_ns=(NOW_MS - 1) * 10**6)
    with pytest.raises(MissingDataError, match="currency"):
        load_chain(path, currency="ETH")


def test_files_that_are_no_chain(tmp_path):
    with pytest.raises(MissingDataError, match="path"):
        load_chain(tmp_path / "absent.csv")
    for name, content in (("a.txt", "x"), ("a.json", "{"), ("a.csv.gz", "not gzip")):
        (tmp_path / name).write_text(content)
        with pytest.raises(RangeError, match="path"):
            load_chain(tmp_path / name)
    (tmp_path / "c.json").write_text(json.dumps([{k: v for k, v in CALL.items() if "timestamp" not in k}]))
    with pytest.raises(MissingDataError, match="rows with a time"):         # not a market of 1970
        load_chain(tmp_path / "c.json")
    (tmp_path / "b.json").write_text('[{"symbol": "x", "timestamp": 1772400000000}]')
    with pytest.raises(MissingDataError, match="contracts"):
        load_chain(tmp_path / "b.json")


FILES = [("deribit_chain_crash_20260203_20260208_6h.parquet", 2e-5),
         ("deribit_chain_daily_btc_20251230_20260531.parquet", 1e-3),
         ("deribit_tickers_full_btc_20200521.parquet", 2e-3), ("deribit_tickers_full_btc_202601.parquet", 3e-4)]


@pytest.mark.parametrize("name, tolerance", FILES, ids=[name for name, _ in FILES])
def test_real_chains_reprice_to_the_venues_marks(name, tolerance):
    """The venue's own forward moves while it is polled, hence the tolerance (coin, at the 99th percentile)."""
    pytest.importorskip("pyarrow")
    contracts, market = load_chain(shared("data", "options", name), currency="BTC")
    columns = market.resolve(contracts)
    assert len(contracts.derivatives) > 300 and not columns.fault.any()
    options = contracts.kind == 3
    assert 0.1 < np.median(columns.sigma[options]) < 3.0
    model = np.full(len(contracts), np.nan)
    reval.option_marks(contracts, columns.forward, columns.years, columns.sigma, columns.discount, model)
    assert np.percentile(np.abs(model - columns.mark)[options], 99) < tolerance


def test_real_futures_file_has_prices_but_no_index():
    contracts, market = load_chain(shared("data", "options", "deribit_futures_tickers_btc_202601.csv"))
    assert {type(item) for item in contracts.derivatives} == {Future, Perpetual}
    assert not market.resolve(contracts).fault.any() and market.depth
    pytest.importorskip("pyarrow")
    contracts, market = load_chain(shared("data", "options", "deribit_futures_at_snapshots_20251230_20260415.parquet"),
                                   currency="ETH")
    assert market.resolve(contracts).fault.all()  # no index in that file: unknown, never healthy
    assert not load_chain(shared("data", "options", "deribit_futures_at_snapshots_20251230_20260415.parquet"),
                          currency="ETH", spot={"ETH": 3e3})[1].resolve(contracts).fault.any()


@pytest.mark.parametrize("name", ["xc_example-summary", "xc_example-ticker", "xc_example-orderbook",
                                  "nt_http_get_instrument_option", "nt_http_get_instrument", "nt_ws_book_snapshot",
                                  "nt_ws_book_grouped_snapshot"])
def test_venue_responses_load(name):
    body = json.loads(shared("data", "fixtures", "deribit", f"{name}.json").read_text())
    contracts = contracts_from_deribit(body)
    market = MarketState.from_deribit(body, now_ns=None if "instrument" not in name else 1)
    assert len(contracts.derivatives) == 1
    item = contracts.derivatives[0]
    columns = market.resolve(contracts)
    if name == "xc_example-summary":
        assert isinstance(item, Option) and market.spot["ETH"] == 121.38 and market.mark[item.symbol] == 0.179112
    if name == "xc_example-ticker":
        assert market.volatility[item.symbol] == pytest.approx(0.6848) and not columns.fault.any()
    if "book" in name:
        book = market.books[item.symbol]
        assert book.bids and columns.half_spread[1] >= 0.0
    if name == "xc_example-orderbook":
        assert math.isnan(market.quote(item.symbol)[1]) and not columns.fault.any()


def test_the_generated_market_is_whole_and_always_the_same():
    contracts, market = example_market()
    columns = market.resolve(contracts)
    kinds = {type(item) for item in contracts.derivatives}
    assert kinds == {Perpetual, Future, Option} and len(contracts.spots) == 2
    assert not columns.fault.any()
    assert columns.spread_known[len(contracts.assets):].mean() > 0.9  # far options have no bid
    assert np.isfinite(columns.depth[len(contracts.assets):]).all()
    options = contracts.kind == 3
    assert columns.sigma[options].min() > 0.3 and columns.sigma[options].max() < 2.0
    assert len({item.expiry_ns for item in contracts.derivatives if isinstance(item, Option)}) == 5
    again, same = example_market()
    assert again.symbols == contracts.symbols and same.mark == market.mark and isinstance(again, Contracts)
    with pytest.raises(MarginError):
        market.resolve(contracts, age_max_ns=-1)
