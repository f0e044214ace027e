"""Scenario sets joined, weighted and compounded, and the window that hurts most."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margincore.combine import (
    combine_scenarios,
    concat_scenarios,
    mix_scenarios,
    stressed_scenarios,
    stressed_window,
)
from margincore.contracts import Contracts, Perpetual
from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.history import historical
from margincore.measure import ExpectedShortfall, ValueAtRisk, Worst
from margincore.scenarios import VolatilityMoves, from_moves, grid
from margincore.tail import expected_shortfall, value_at_risk

RANDOM = np.random.default_rng(21)
CALM = from_moves([f"calm {at}" for at in range(200)], {"BTC": RANDOM.normal(0.0, 0.01, 200),
                                                        "ETH": RANDOM.normal(0.0, 0.02, 200)})
WILD = from_moves([f"wild {at}" for at in range(50)], {"BTC": RANDOM.normal(0.0, 0.08, 50),
                                                       "ETH": RANDOM.normal(0.0, 0.12, 50)})


def surface(values):
    return VolatilityMoves(moneyness=(0.0,), tenors_days=(30.0,), log_ratio=np.reshape(values, (-1, 1, 1)))


def test_a_union_holds_everything_in_order():
    both = concat_scenarios([CALM, WILD])
    assert both.names == CALM.names + WILD.names
    assert both.spot_move["ETH"] == CALM.spot_move["ETH"] + WILD.spot_move["ETH"]
    assert concat_scenarios([CALM]) == CALM


def test_stressed_weight_is_the_weighted_law():
    mixed = mix_scenarios([CALM, WILD], [0.75, 0.25])
    assert math.fsum(mixed.probability) == pytest.approx(1.0, abs=1e-14)
    assert math.fsum(mixed.probability[200:]) == pytest.approx(0.25, abs=1e-14)
    pnl = np.array(mixed.spot_move["BTC"])
    # Replicas in the same proportion: 200 calm ones three times, 50 wild ones four times.
    replicas = np.concatenate([np.repeat(pnl[:200], 3), np.repeat(pnl[200:], 4)])
    assert len(replicas) == 800 and 200 * 3 / 800 == 0.75
    assert expected_shortfall(pnl, 0.975, weights=mixed.probability) == pytest.approx(
        expected_shortfall(replicas, 0.975), rel=1e-12)
    assert value_at_risk(pnl, 0.99, weights=mixed.probability) == value_at_risk(replicas, 0.99)
    assert mix_scenarios([CALM, WILD], [1.0, 0.0]).probability[200:] == (0.0,) * 50


def test_ages_inside_a_mix_are_kept():
    prices = {name: np.exp(RANDOM.normal(0.0, 0.02, 101).cumsum()) for name in ("BTC", "ETH")}
    aged = historical(prices, decay=0.9)
    mixed = mix_scenarios([aged, WILD.take(range(2))], [0.5, 0.5])
    assert mixed.probability[:100] == pytest.approx(0.5 * np.array(aged.probability), rel=1e-14)
    assert mixed.probability[100:] == (0.25, 0.25)


def test_labels_tell_equal_names_apart():
    with pytest.raises(RangeError, match="'calm 0' is in more than one set"):
        mix_scenarios([CALM, CALM], [0.5, 0.5])
    both = mix_scenarios([CALM, CALM], [0.5, 0.5], labels=["now", "then"])
    assert both.names[0] == "now: calm 0" and both.names[200] == "then: calm 0"


def test_underlyings_of_one_set_take_the_others_of_another():
    all_alike = from_moves(["all"], [-0.3])
    both = concat_scenarios([CALM.take([0]), all_alike])
    assert both.spot_move["BTC"] == (CALM.spot_move["BTC"][0], -0.3) and set(both.spot_move) == {"BTC", "ETH"}
    starred = concat_scenarios([from_moves(["a"], {"BTC": [0.1], "*": [0.2]}), all_alike])
    assert starred.spot_move["*"] == (0.2, -0.3)
    assert concat_scenarios([all_alike, from_moves(["b"], [0.1])]).spot_move == (-0.3, 0.1)
    only = from_moves(["a"], {"BTC": [0.1]})
    with pytest.raises(MissingDataError, match="'ETH' or '\\*', set 2"):
        concat_scenarios([CALM, only])
    assert set(concat_scenarios([CALM, only], missing="drop").spot_move) == {"BTC"}
    still = concat_scenarios([CALM, only], missing="still")
    assert still.spot_move["ETH"] == (*CALM.spot_move["ETH"], 0.0)
    peg = from_moves(["peg"], {"USDC": [-0.1], "*": [0.0]})
    assert combine_scenarios(only, peg, missing="still").spot_move == {"BTC": (0.1,), "USDC": (-0.1,)}
    with pytest.raises(MissingDataError, match="in common"):
        mix_scenarios([only, from_moves(["b"], {"ETH": [0.1]})], [0.5, 0.5], missing="drop")
    with pytest.raises(RangeError, match="missing"):
        concat_scenarios([CALM, only], missing="forget")


def test_combination_compounds():
    crash = from_moves(["c1", "c2"], {"BTC": [-0.5, -0.2], "ETH": [-0.6, -0.1]}, volatility=[0.5, "same"],
                       probability=[0.25, 0.75], weight=[1.0, 0.5])
    also = from_moves(["d1", "d2"], {"ETH": [0.5, 0.0], "*": [0.0, 0.1]}, volatility=["same", 1.0])
    both = combine_scenarios(crash, also)
    assert both.names == ("c1, d1", "c1, d2", "c2, d1", "c2, d2")
    assert both.spot_move["BTC"] == pytest.approx([-0.5, -0.45, -0.2, -0.12])
    assert both.spot_move["ETH"] == pytest.approx([-0.4, -0.6, 0.35, -0.1])
    assert [str(item) for item in both.volatility] == ["vol +50 %", "vol +200 %", "vol same", "vol +100 %"]
    assert both.probability == (0.125, 0.125, 0.375, 0.375) and both.weight == (1.0, 1.0, 0.5, 0.5)
    plan = both.resolve(Contracts([Perpetual("P", underlying="BTC", settle="USDC")]))
    assert plan.move[plan.moving, :4].ravel() == pytest.approx([-0.5, -0.45, -0.2, -0.12])


def test_shares_counted_and_probabilities_multiply():
    first = from_moves(["a", "b"], [0.1, -0.1], weight=[1.0, 0.5], probability=[0.25, 0.75])
    both = combine_scenarios(first, from_moves(["c", "d"], [0.0, 0.2], weight=[0.3, 1.0]))
    assert both.weight == pytest.approx((0.3, 1.0, 0.15, 0.5))
    assert both.probability == pytest.approx((0.125, 0.125, 0.375, 0.375))


def test_surfaces_go_along():
    one = from_moves(["a", "b"], [0.1, 0.2], surface_move={"BTC": surface([0.1, -0.1])})
    two = from_moves(["c"], [0.3], surface_move={"*": surface([0.4])})
    assert concat_scenarios([one, two]).surface_move["BTC"].log_ratio.ravel().tolist() == [0.1, -0.1, 0.4]
    plain = concat_scenarios([one, from_moves(["c"], [0.3])])
    assert plain.surface_move["BTC"].log_ratio.ravel().tolist() == [0.1, -0.1, 0.0]
    both = combine_scenarios(one, two)
    assert both.surface_move["BTC"].log_ratio.ravel() == pytest.approx([0.5, 0.3])
    still = combine_scenarios(from_moves(["c"], [0.3]), one)
    assert still.surface_move["BTC"].log_ratio.ravel().tolist() == [0.1, -0.1]
    other = VolatilityMoves(moneyness=(0.5,), tenors_days=(30.0,), log_ratio=np.zeros((1, 1, 1)))
    with pytest.raises(RangeError, match="same moneyness"):
        concat_scenarios([one, from_moves(["c"], [0.3], surface_move={"BTC": other})])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 60),
       measure=st.sampled_from([ValueAtRisk(0.9), ExpectedShortfall(0.95), Worst()]))
def test_stressed_window_is_the_worst_of_all(seed, length, measure):
    pnl = np.random.default_rng(seed).standard_t(3, 60)
    found = stressed_window(pnl, length, measure)
    each = [measure.loss(pnl[at:at + length]) for at in range(61 - length)]
    assert found.loss == max(each) and found.first == int(np.argmax(each)) and found.last - found.first == length


def test_long_histories_are_measured_in_parts():
    pnl = RANDOM.normal(0.0, 1.0, 3000)
    pnl[2500:2520] -= 30.0
    found = stressed_window(pnl, 100, ExpectedShortfall(0.9))
    assert found.first <= 2500 and found.last >= 2510


def test_stressed_scenarios_of_exposures_and_of_a_portfolio():
    moves = RANDOM.normal(0.0, 0.01, (300, 2))
    moves[120:140, 0] = -0.08
    whole = from_moves([f"day {at}" for at in range(300)], {"BTC": moves[:, 0], "*": moves[:, 1]})
    exposure = {"BTC": 1e6, "SOL": -2e5}
    found = stressed_scenarios(whole, 50, ExpectedShortfall(0.9), exposure=exposure)
    again = stressed_scenarios(whole, 50, ExpectedShortfall(0.9), pnl=moves @ [1e6, -2e5])
    assert found == again and len(found) == 50 and {"day 120", "day 124"} <= set(found.names)
    assert found.spot_move["BTC"] == whole.spot_move["BTC"][int(found.names[0][4:]):][:50]


@pytest.mark.parametrize(("call", "kind"), [
    (lambda: concat_scenarios([]), RangeError),
    (lambda: concat_scenarios([CALM, "wild"]), RangeError),
    (lambda: concat_scenarios(CALM), RangeError),
    (lambda: stressed_window([1.0, 2.0], 2, "es"), RangeError),
    (lambda: concat_scenarios([mix_scenarios([CALM, WILD], [0.5, 0.5]), WILD]), RangeError),
    (lambda: concat_scenarios([CALM, grid(spot=[0.1], smile="sticky_moneyness")]), RangeError),
    (lambda: concat_scenarios([CALM, WILD], labels=["a"]), ShapeError),
    (lambda: mix_scenarios([CALM, WILD], [0.5, 0.4]), RangeError),
    (lambda: mix_scenarios([CALM, WILD], [1.5, -0.5]), RangeError),
    (lambda: mix_scenarios([CALM, WILD], [1.0]), ShapeError),
    (lambda: mix_scenarios([CALM, WILD], [math.nan, 1.0]), NotFiniteError),
    (lambda: combine_scenarios(from_moves(["a"], [0.1], volatility=["up"]),
                               from_moves(["b"], [0.1], volatility=["down"])), RangeError),
    (lambda: stressed_window([1.0, 2.0], 3, Worst()), ShapeError),
    (lambda: stressed_window([1.0, 2.0], 1, Worst()), RangeError),
    (lambda: stressed_window([1.0, math.nan, 3.0], 2, Worst()), NotFiniteError),
    (lambda: stressed_scenarios(CALM, 20, Worst()), RangeError),
    (lambda: stressed_scenarios(CALM, 20, Worst(), exposure={"BTC": 1.0}, pnl=np.zeros(200)), RangeError),
    (lambda: stressed_scenarios(CALM, 20, Worst(), exposure={"SOL": 1.0}), MissingDataError),
    (lambda: stressed_scenarios(CALM, 20, Worst(), exposure={"BTC": math.inf}), NotFiniteError),
    (lambda: stressed_scenarios(CALM, 20, Worst(), pnl=np.zeros(3)), ShapeError),
])
def test_bad_input(call, kind):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, MarginError)
