"""Closed forms of liquidation and bankruptcy prices: exact twin, properties, venues' published numbers, errors."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import liquidation as twin
from shared_data import shared

from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import liquidation as kernel
from margincore.liquidation import PriceStatus, bankruptcy_price, liquidation_price, position_prices

LADDER = [(0.0, 0.004), (300_000.0, 0.005), (800_000.0, 0.0065), (3_000_000.0, 0.01), (12_000_000.0, 0.02)]


def amounts(ladder):
    """Exact maintenance amounts, so that the reference's tiers join without a step."""
    rows, amount = [], Fraction(0)
    for at, (floor, rate) in enumerate(ladder):
        amount += Fraction(floor) * (Fraction(rate) - Fraction(ladder[at - 1][1])) if at else 0
        rows.append((floor, rate, amount))
    return rows


@st.composite
def positions(draw):
    inverse = draw(st.booleans())
    entry = draw(st.floats(0.01, 100_000.0))
    value = draw(st.floats(1.0, 30_000_000.0))  # in the settlement asset
    size = value * entry if inverse else value / entry
    leverage = draw(st.floats(0.3, 150.0))
    return {
        "quantity": draw(st.sampled_from([-1.0, 1.0])) * size, "entry": entry, "fund": value / leverage,
        "other_maintenance": draw(st.sampled_from([0.0, 0.3])) * value / leverage,
        "fee": draw(st.sampled_from([0.0, 0.0005])), "inverse": inverse, "on_entry": draw(st.booleans()),
        "tiers": amounts(draw(st.sampled_from([[(0.0, 0.005)], [(0.0, 0.0)], LADDER]))),
    }


def price_of(p):
    return liquidation_price(
        p["quantity"], p["entry"], fund=p["fund"], tiers=[row[:2] for row in p["tiers"]],
        other_maintenance=p["other_maintenance"], fee_rate=p["fee"], inverse=p["inverse"],
        notional="entry" if p["on_entry"] else "mark")


def scale_of(p, price):
    value = abs(p["quantity"]) * (max(1 / p["entry"], 1 / price) if p["inverse"] else max(p["entry"], price))
    return Fraction(abs(p["fund"]) + value + p["other_maintenance"])


@settings(max_examples=300)
@given(positions())
def test_equity_meets_maintenance_exactly_there(p):
    price = price_of(p)
    assume(price is not None and 0.0 < price < math.inf)
    gap = twin.equity(p, price) - twin.maintenance(p, price)
    assert abs(gap) <= Fraction(1e-12) * scale_of(p, price)


@settings(max_examples=60)
@given(positions())
def test_price_is_that_of_the_twin(p):
    price, exact = price_of(p), twin.price_by_bisection(p, lambda at: twin.maintenance(p, at))
    if exact == "none":
        assert price is None
    elif exact == "always":
        assert price == (math.inf if p["quantity"] > 0 else 0.0)
    elif price is None or price in (0.0, math.inf):  # the rounding of the inputs' products decides
        edge = twin.equity(p, exact) - (Fraction(0) if price is None else twin.maintenance(p, exact))
        assert abs(edge) <= Fraction(1e-12) * scale_of(p, p["entry"])
    else:
        # the error of the price is that of the figures it is the difference of
        assert abs(Fraction(price) - exact) <= Fraction(1e-12) * max(
            exact, scale_of(p, price) * (exact * exact if p["inverse"] else 1) / Fraction(abs(p["quantity"])))


@settings(max_examples=200)
@given(positions())
def test_side_of_the_threshold(p):
    price = price_of(p)
    assume(price is not None and 0.0 < price < math.inf)
    better, worse = (1 + 1e-6, 1 - 1e-6) if p["quantity"] > 0 else (1 - 1e-6, 1 + 1e-6)
    assume(scale_of(p, price) * Fraction(1e-12) < abs(Fraction(p["quantity"])) * Fraction(price) * Fraction(1e-8)
           or p["inverse"])
    assert twin.equity(p, price * better) > twin.maintenance(p, price * better)
    assert twin.equity(p, price * worse) <= twin.maintenance(p, price * worse)


@settings(max_examples=200)
@given(positions())
def test_bankruptcy_lies_beyond_liquidation(p):
    p["other_maintenance"] = 0.0
    price = price_of(p)
    broke = bankruptcy_price(p["quantity"], p["entry"], fund=p["fund"], fee_rate=p["fee"], inverse=p["inverse"])
    if price is None:
        assert broke is None
    elif broke is not None:
        assert broke <= price * (1 + 1e-12) if p["quantity"] > 0 else broke >= price * (1 - 1e-12)
        if 0.0 < broke < math.inf:
            assert abs(twin.equity(p, broke)) <= Fraction(1e-12) * scale_of(p, broke)


@settings(max_examples=100)
@given(positions(), st.floats(1.0, 1.0e6))
def test_more_money_moves_the_price_away(p, more):
    before = price_of(p)
    after = price_of({**p, "fund": p["fund"] + more})
    if before is None:
        assert after is None
    elif after is not None:
        assert after <= before * (1 + 1e-12) if p["quantity"] > 0 else after >= before * (1 - 1e-12)


@given(st.lists(positions(), min_size=1, max_size=8))
@settings(max_examples=50)
def test_batch_equals_one_by_one(many):
    for p in many:
        p["tiers"], p["on_entry"] = amounts(LADDER), False
    column = {name: np.array([p[name] for p in many]) for name in
              ("quantity", "entry", "fund", "other_maintenance", "fee", "inverse")}
    found = position_prices(column["quantity"], column["entry"], fund=column["fund"], tiers=LADDER,
                            other_maintenance=column["other_maintenance"], fee_rate=column["fee"],
                            inverse=column["inverse"])
    for at, p in enumerate(many):
        one = price_of(p)
        if found.liquidation_status[at] == PriceStatus.FOUND:
            assert found.liquidation[at] == one
        elif found.liquidation_status[at] == PriceStatus.NONE:
            assert one is None
        else:
            assert found.liquidation_status[at] == PriceStatus.ALWAYS
            assert one in (0.0, math.inf)


def test_fully_funded_long_is_never_liquidated():
    assert liquidation_price(1.0, 100.0, fund=100.0, maintenance_rate=0.01) is None
    assert bankruptcy_price(1.0, 100.0, fund=100.0) is None
    assert liquidation_price(-100.0, 100.0, fund=1.0, maintenance_rate=0.01, inverse=True) is None


def test_hopeless_short_is_always_liquidated():
    assert liquidation_price(-1.0, 100.0, fund=-200.0, maintenance_rate=0.01) == 0.0
    assert liquidation_price(100.0, 100.0, fund=-2.0, maintenance_rate=0.01, inverse=True) == math.inf


def test_no_position_depends_on_what_the_others_need():
    found = position_prices([0.0, 0.0], 100.0, fund=[10.0, 5.0], other_maintenance=5.0)
    assert found.liquidation_status.tolist() == [PriceStatus.NONE, PriceStatus.ALWAYS]


def test_a_bad_number_is_a_status_of_its_element_alone():
    nan, inf = math.nan, math.inf
    found = position_prices([1.0, nan, 1.0, 1.0, 1.0, 1.0, 1.0, inf], [100.0, 100.0, 0.0, -1.0, nan, 100.0, 100.0, 1.0],
                            fund=[10.0, 10.0, 10.0, 10.0, 10.0, nan, 10.0, 1.0],
                            maintenance_rate=[0.01, 0.01, 0.01, 0.01, 0.01, 0.01, nan, 0.01])
    assert found.liquidation_status.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert np.isnan(found.liquidation[1:]).all()
    assert found.bankruptcy_status.tolist() == [1, 0, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("rate, fee", [(1.0, 0.0), (0.999, 0.001), (-0.1, 0.0), (0.1, -0.1), (0.1, 1.0)])
def test_a_rate_outside_its_range_is_no_price(rate, fee):
    found = position_prices(1.0, 100.0, fund=10.0, maintenance_rate=rate, fee_rate=fee)
    assert found.liquidation_status.tolist() == [PriceStatus.UNKNOWN]
    with pytest.raises(RangeError, match=r"_rate.* must be"):
        liquidation_price(1.0, 100.0, fund=10.0, maintenance_rate=rate, fee_rate=fee)


@pytest.mark.parametrize("call, kind, words", [
    (lambda: liquidation_price(math.nan, 1.0, fund=1.0), NotFiniteError, "quantity must be finite, was nan"),
    (lambda: liquidation_price(1.0, 0.0, fund=1.0), RangeError, "entry must be above 0, was 0.0"),
    (lambda: liquidation_price(1.0, 1.0, fund=math.inf), NotFiniteError, "fund must be finite, was inf"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, other_maintenance=-1.0), RangeError, "other_maintenance must be"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, notional="last"), RangeError, "notional must be one of"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, tiers=[]), ShapeError, "tiers must not be empty"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, tiers=[(1.0, 0.1)]), RangeError, "floor of 0, was 1.0"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, tiers=[(0.0, 0.1), (5.0, 0.01)]), RangeError, "rising floors"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, tiers=[(0.0, 0.1), (5.0, 0.2, 3.0)]), RangeError, "continuous"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, tiers=[0.1]), RangeError, "tiers must hold"),
    (lambda: liquidation_price(1.0, 1.0, fund=1.0, tiers=[(0.0, 0.1)], maintenance_rate=0.1), RangeError, "left out"),
    (lambda: position_prices([[1.0]], 1.0, fund=1.0), ShapeError, "quantity must have at most one axis"),
    (lambda: position_prices(["a"], 1.0, fund=1.0), ShapeError, "quantity must hold numbers"),
])
def test_errors_name_argument_rule_and_value(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def outputs(n):
    return np.full(n, 7.0), np.full(n, 7.0), np.full((n, 2), 7, np.uint8)


def test_kernel_refuses_wrong_arrays_and_changes_nothing():
    ones, flags, table, lines = np.ones(2), np.zeros(2, np.uint8), np.zeros(2, np.int32), np.zeros((1, 1, 4))
    good = [ones, ones, ones, ones, ones * 0.0, flags, flags, table, lines, *outputs(2)]
    kernel.position_prices(*good)
    read_only = np.ones(2)
    read_only.flags.writeable = False
    bad = {0: np.ones(3), 1: np.ones((2, 1)), 5: np.zeros(3, np.uint8), 7: np.ones(2, np.int32), 8: np.zeros((1, 4)),
           9: np.ones(3), 10: read_only, 11: np.zeros((2, 2), np.int32)}
    for at, value in bad.items():
        fresh = [*good[:9], *outputs(2)]
        arguments = [*fresh]
        arguments[at] = value
        with pytest.raises(MarginError):
            kernel.position_prices(*arguments)
        assert all((out == 7).all() for out in fresh[9:])
    kernel.position_prices(read_only, *good[1:])
    with pytest.raises(NotFiniteError):
        kernel.position_prices(*good[:8], np.full((1, 1, 4), np.nan), *outputs(2))
    with pytest.raises(RangeError):
        kernel.position_prices(*good[:8], np.full((1, 1, 4), 1.0), *outputs(2))


def test_no_positions_give_no_prices():
    assert position_prices([], [], fund=[]).liquidation.shape == (0,)


# ---- published numbers: every case of the files, or a stated reason

def cases(name):
    return json.loads(shared("vectors", f"{name}.json").read_text())["cases"]


def close(value, expected, tolerance):
    relative = tolerance.get("rel", tolerance.get("relative", 0.0))
    absolute = tolerance.get("abs", tolerance.get("absolute", 0.0))
    assert abs(value - expected) <= absolute + relative * abs(expected)


def test_binance():
    seen = 0
    for case in cases("binance_liquidation"):
        i, expected, tolerance = case["inputs"], case["expected"], case["tolerance"]
        if "liq_price" in expected:
            others = i.get("other", [])
            required = sum(abs(o["pos"]) * o["mark"] * o["mmr"] - o["cum"] for o in others)
            profit = sum(o["pos"] * (o["mark"] - o["entry"]) for o in others)
            if others:
                close(required, expected["tmm_other"], tolerance)
            price = liquidation_price(i["side"] * i["pos"], i["entry"], fund=i["wallet"] + profit,
                                      other_maintenance=required, maintenance_rate=i["mmr"],
                                      maintenance_amount=i["cum"])
            close(price, expected["liq_price"], tolerance)
        else:  # a requirement, not a price: it is what the price formula holds against equity
            value = i.get("notional", i.get("notional_coin"))
            close(value / i["leverage"], expected["initial_margin"], tolerance)
            close(value * i["mmr"], expected["maint_margin"], tolerance)
        seen += 1
    assert seen == 9


def test_bybit():
    seen = 0
    for case in cases("bybit_margin_liquidation"):
        i, expected, tolerance = case["inputs"], case["expected"], case["tolerance"]
        inverse = i.get("kind") == "inverse" or "qty_usd" in i
        size = i.get("qty_usd", i.get("qty", 1.0))
        value = size / i["entry"] if inverse else size * i["entry"]
        if "tiers" in i:  # progressive tiers on the value in coin
            rows = [(low, rate) for low, _, rate in i["tiers"]]
            close(value, expected["position_value"], tolerance)
            required = twin.maintenance({"quantity": size, "entry": i["entry"], "inverse": True, "on_entry": True,
                                         "other_maintenance": 0.0, "tiers": amounts(rows)}, 1)
            close(value / i["leverage"], expected["IM"], tolerance)
            price = liquidation_price(size, i["entry"], fund=value / i["leverage"], tiers=rows, inverse=True,
                                      notional="entry")
            assert price == pytest.approx(size / (value + value / i["leverage"] - float(required)), rel=1e-14)
        margin, signed = value / i["leverage"], i.get("side", 1) * size
        if "bankruptcy_price" in expected:
            broke = bankruptcy_price(signed, i["entry"], fund=margin, inverse=inverse)
            close(broke, expected["bankruptcy_price"], tolerance)
            if "position_balance" in expected:
                assert margin + size * broke * i["taker"] == pytest.approx(expected["position_balance"], abs=2e-6)
        if "liq_price" in expected:
            price = liquidation_price(signed, i["entry"], fund=margin + i.get("extra", 0.0), inverse=inverse,
                                      maintenance_rate=i["mmr"], notional="entry",
                                      maintenance_amount=i.get("mm_deduction", 0.0))
            close(price, expected["liq_price"], tolerance)
        for name, due in (("IM", margin), ("MM", value * i.get("mmr", 0.0) - i.get("mm_deduction", 0.0))):
            if name in expected:
                close(due, expected[name], tolerance)
        seen += 1
    assert seen == 9


def test_hyperliquid():
    seen = 0
    for case in cases("hyperliquid_liquidation"):
        i, expected, tolerance = case["inputs"], case["expected"], case["tolerance"]
        if "liq_price" in expected:
            fund = i["margin"]
            if "mark_value" in i:  # the margin of the interface includes the profit at the mark
                fund -= i["side"] * (i["mark_value"] - i["size"] * i["entry"])
            price = liquidation_price(i["side"] * i["size"], i["entry"], fund=fund,
                                      maintenance_rate=0.5 / i["max_leverage"])
            close(price, expected["liq_price"], tolerance)
        else:
            rows = amounts([(low, 0.5 / leverage) for low, leverage in i["tiers_lower_bound_maxlev"]])
            for (_, rate, amount), due_rate, due in zip(rows, expected["mmr"], expected["deduction"], strict=True):
                close(rate, due_rate, tolerance)
                close(float(amount), due, tolerance)
            # at the liquidation price of a position that is worth the notional there, maintenance is what is left
            price = 100.0
            size, entry = i["notional"] / price, 120.0
            fund = expected["mm"] + size * (entry - price)
            found = liquidation_price(size, entry, fund=fund, tiers=[row[:2] for row in rows])
            assert found == pytest.approx(price, rel=1e-12)
        seen += 1
    assert seen == 11


def test_okx():
    first, second = cases("okx_positions")
    i = first["inputs"]
    price = liquidation_price(i["face_usd"] * i["contracts"], i["avg_px"], fund=i["margin_coin"],
                              maintenance_rate=i["mmr_rate"], fee_rate=i["taker_fee"], inverse=True)
    close(price, first["expected"]["liquidation_price"], first["tolerance"])
    i = second["inputs"]  # the requirement of one contract at the mark, in coin
    close(i["face_usd"] / i["mark_px"] * i["mmr_rate"], second["expected"]["mmr"], second["tolerance"])


def test_other_venues():
    for case in cases("other_venue_positions"):
        i = case["inputs"]
        price = liquidation_price(i["side"] * i["qty"], i["entry"], fund=i["margin"], maintenance_rate=i["mmr"],
                                  fee_rate=i["taker"])
        close(price, case["expected"]["liq_price"], case["tolerance"])


def test_tier_tables():
    """The amounts, seen from outside: a position whose notional lies in a tier meets that tier's line."""
    seen = 0
    for case in cases("freqtrade_maintenance_tiers"):
        i, expected, tolerance = case["inputs"], case["expected"], case["tolerance"]
        rows = [(t["notional_from"], t["maintenance_margin_rate"]) for t in i["tiers"]]
        exact = amounts(rows)
        if "maintenance_amounts" in expected:
            for (_, _, amount), due in zip(exact, expected["maintenance_amounts"], strict=True):
                close(float(amount), due, tolerance)
            notionals = [(t["notional_from"] + t["notional_to"]) / 2 for t in i["tiers"]]
            lines = [(rate, due) for (_, rate), due in zip(rows, expected["maintenance_amounts"], strict=True)]
        else:
            notionals = [i["lookup_notional"]]
            lines = [(expected["maintenance_margin_rate"], expected["maintenance_amount"])]
        for notional, (rate, amount) in zip(notionals, lines, strict=True):
            size, fund = notional / 100.0, notional * rate - amount + notional * 0.2
            assert liquidation_price(size, 120.0, fund=fund, tiers=rows) == pytest.approx(100.0, rel=1e-12)
        seen += 1
    assert seen == 11
