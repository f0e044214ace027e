"""Liquidation prices that venues published, found by the search of a whole account instead of a closed form."""

import json

import pytest
from shared_data import shared

import margincore as mc


def cases(name):
    return {case["id"]: case for case in json.loads(shared("vectors", f"{name}.json").read_text())["cases"]}


def search(positions, *, fund, price, name, inverse=False, notional="mark", fee=0.0):
    """Root of an account with `positions`: symbol -> (quantity, entry, mark, ladder)."""
    settle = "COIN" if inverse else "USD"
    contracts = mc.Contracts([mc.Perpetual(symbol, underlying="COIN" if inverse else f"{symbol}-INDEX", settle=settle,
                                           inverse=inverse) for symbol in positions])
    model = mc.TieredMargin(tiers={symbol: row[3] for symbol, row in positions.items()}, notional=notional,
                            closing_fee_rate=fee)
    engine = mc.Engine(contracts, model, base="USD", accounts=2)
    spot = {"COIN": price} if inverse else {f"{symbol}-INDEX": row[2] for symbol, row in positions.items()}
    engine.update(mc.MarketState(now_ns=1, spot={**spot, "USD": 1.0} if not inverse else spot,
                                 mark={symbol: row[2] for symbol, row in positions.items()}))
    account = engine.open_with("account", mc.Portfolio(
        {symbol: row[0] for symbol, row in positions.items()}, {settle: fund},
        {symbol: row[1] for symbol, row in positions.items()}))
    return account.liquidation_price(name)


def one(side, quantity, entry, fund, rate, **options):
    answer = search({"X": (side * quantity, entry, entry, [(0.0, rate, 1.0)])}, fund=fund, price=entry, name="X",
                    **options)
    assert answer.certified
    return answer.down if side > 0 else answer.up


def close(value, case, key="liq_price"):
    expected, tolerance = case["expected"][key], case["tolerance"]
    assert abs(value - expected) <= tolerance["abs"] + tolerance["rel"] * abs(expected)


def test_binance_cross_with_tiers_on_both_contracts():
    """The published maintenance amounts are those of a ladder that starts at 0.4 %."""
    case = cases("binance_liquidation")["doc_cross_BTC"]
    i, (other,) = case["inputs"], case["inputs"]["other"]

    def ladder(rate, amount):
        return [(0.0, 0.004, 125.0), (amount / (rate - 0.004), rate, 10.0, amount)]

    answer = search({"BTC": (i["pos"], i["entry"], 31_000.0, ladder(i["mmr"], i["cum"])),
                     "ETH": (other["pos"], other["entry"], other["mark"], ladder(other["mmr"], other["cum"]))},
                    fund=i["wallet"], price=31_000.0, name="BTC")
    close(answer.down, case)
    assert answer.certified


def test_hyperliquid_positions():
    seen = 0
    for case in cases("hyperliquid_liquidation").values():
        i = case["inputs"]
        if "liq_price" in case["expected"] and "mark_value" not in i:
            price = one(i["side"], i["size"], i["entry"], i["margin"], 0.5 / i["max_leverage"])
            if price is None:      # the fall to it is beyond the range of the search
                assert case["expected"]["liq_price"] < 0.01 * i["entry"]
            else:
                close(price, case)
            seen += 1
    assert seen == 8


def test_gate_positions_with_the_fee_of_closing():
    for case in cases("other_venue_positions").values():
        i = case["inputs"]
        close(one(i["side"], i["qty"], i["entry"], i["margin"], i["mmr"], fee=i["taker"]), case)


def test_bybit_maintenance_on_the_entry_value():
    seen = 0
    for case in cases("bybit_margin_liquidation").values():
        i = case["inputs"]
        if "liq_price" in case["expected"]:
            inverse = i["kind"] == "inverse"
            size = i["qty_usd"] if inverse else i["qty"]
            value = size / i["entry"] if inverse else size * i["entry"]
            close(one(i["side"], size, i["entry"], value / i["leverage"], i["mmr"], inverse=inverse, notional="entry"),
                  case)
            seen += 1
    assert seen == 7


def test_okx_inverse_position():
    case = cases("okx_positions")["ETH-USD-210430_long_isolated"]
    i = case["inputs"]
    price = one(1, i["face_usd"] * i["contracts"], i["avg_px"], i["margin_coin"], i["mmr_rate"], inverse=True,
                fee=i["taker_fee"])
    close(price, case, "liquidation_price")


@pytest.mark.parametrize("side", [1, -1])
def test_binance_isolated_examples(side):
    seen = 0
    for name, case in cases("binance_liquidation").items():
        i = case["inputs"]
        if name.startswith("freqtrade") and i["side"] == side:
            # the amount of 0.01 is that of a ladder whose first tier is free of maintenance
            rows = [(0.0, 1e-9, 125.0), (i["cum"] / (i["mmr"] - 1e-9), i["mmr"], 50.0, i["cum"])]
            answer = search({"X": (side * i["pos"], i["entry"], i["entry"], rows)}, fund=i["wallet"],
                            price=i["entry"], name="X")
            close(answer.down if side > 0 else answer.up, case)
            seen += 1
    assert seen == 2
