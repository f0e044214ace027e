"""Moves of implied-volatility surfaces: the kernel against its twin, revaluation by hand, probabilities, subsets."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reval as prices
from reference import scenario as reference

from margincore.contracts import Contracts, Option, Perpetual
from margincore.engine import Engine
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import scenario
from margincore.margin import ScenarioMargin
from margincore.market import MarketState
from margincore.portfolio import Portfolio
from margincore.revaluation import revalue, shocked_volatilities
from margincore.scenarios import Scenarios, VolatilityMoves, VolatilityShock, from_moves
from margincore.surface import VolSurface
from margincore.svi import RawSvi
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-02-05T08:00")
RANDOM = np.random.default_rng(11)
NODES, TENORS = (-2.0, -0.5, 0.0, 0.7, 2.0), (7.0, 30.0, 90.0)
MOVES = VolatilityMoves(moneyness=NODES, tenors_days=TENORS, log_ratio=RANDOM.normal(0.0, 0.2, (4, 3, 5)))


def factors(strike, forward, years, shift, moves=MOVES):
    count = np.size(strike)
    out = np.empty((count, len(moves)))
    scenario.surface_factors(np.atleast_1d(strike).astype(float), np.full(count, forward), np.full(count, years),
                             np.asarray(shift, float), np.array(moves.moneyness), np.array(moves.tenors_days) / 365.0,
                             moves.log_ratio, out)
    return out


@settings(max_examples=150)
@given(moneyness=st.floats(-3.0, 3.0), days=st.floats(0.01, 500.0) | st.sampled_from([0.0, 7.0, 30.0, 90.0]),
       shift=st.floats(-1.0, 1.0))
def test_factor_equals_its_twin(moneyness, days, shift):
    strike, years = 50_000.0 * math.exp(moneyness), days / 365.0
    got = factors(strike, 50_000.0, years, [shift] * 4)[0]
    want = [reference.surface_factor(strike, 50_000.0, years, shift, NODES, [t / 365.0 for t in TENORS], row)
            for row in MOVES.log_ratio.tolist()]
    # One exponential of an interpolation whose slopes, at most 2 per unit, multiply the rounding of the moneyness.
    rounding = 1e-15 * (10.0 + 10.0 * (abs(moneyness) + abs(shift)) / math.sqrt(max(years, 1e-9)))
    assert got == pytest.approx(want, rel=rounding)


def test_nodes_are_met_and_the_ends_are_flat():
    years = 30.0 / 365.0
    strikes = 100.0 * np.exp(np.array([-9.0, -2.0, -0.5, 0.0, 0.7, 2.0, 9.0]) * math.sqrt(years))
    got = np.log(factors(strikes, 100.0, years, np.zeros(4))).T
    want = MOVES.log_ratio[:, 1, [0, 0, 1, 2, 3, 4, 4]]
    assert got == pytest.approx(want, abs=1e-12)
    early, late = (np.log(factors(100.0, 100.0, days / 365.0, np.zeros(4)))[0] for days in (1.0, 900.0))
    assert early == pytest.approx(MOVES.log_ratio[:, 0, 2], abs=1e-13)
    assert late == pytest.approx(MOVES.log_ratio[:, 2, 2], abs=1e-13)


def test_one_node_moves_everything_alike():
    one = VolatilityMoves(moneyness=(0.0,), tenors_days=(30.0,), log_ratio=np.log([[[2.0]], [[0.5]]]))
    assert factors([10.0, 100.0, 900.0], 100.0, 0.3, np.zeros(2), one) == pytest.approx(np.array([[2.0, 0.5]] * 3))


def test_unknown_inputs_stay_unknown():
    assert np.isnan(factors([100.0, math.nan], math.nan, 0.1, np.zeros(4))).all()
    assert np.isnan(factors(100.0, 100.0, math.nan, np.zeros(4))).all()
    assert np.isnan(factors(100.0, 100.0, 0.1, [math.nan] * 4)).all()


EXPIRY = NOW + 45 * NS_PER_DAY
OPTION = Option("BTC-C", underlying="BTC", settle="USDC", strike=70_000.0, expiry_ns=EXPIRY, right="call")
SOL = Option("SOL-P", underlying="SOL", settle="USDC", strike=90.0, expiry_ns=EXPIRY, right="put")
SMILE = VolSurface.svi(RawSvi(a=0.02, b=0.08, rho=-0.4, m=0.0, sigma=0.2), EXPIRY, time_ns=NOW, forward=65_000.0)
STATE = MarketState(now_ns=NOW, spot={"BTC": 65_000.0, "SOL": 90.0, "USDC": 1.0}, surface={"BTC": SMILE},
                    volatility={"SOL-P": 0.8})


@pytest.mark.parametrize("smile", ["sticky_strike", "sticky_moneyness"])
def test_revaluation_by_hand(smile):
    contracts = Contracts([OPTION, SOL, Perpetual("BTC-PERP", underlying="BTC", settle="USDC")])
    spot = (-0.2, 0.0, 0.1, 0.3)
    kinds = (VolatilityShock(), VolatilityShock("scale", 1.0), VolatilityShock(), VolatilityShock("add", -0.1))
    scenarios = from_moves(list("abcd"), spot, volatility=kinds, smile=smile, surface_move={"BTC": MOVES})
    columns = STATE.resolve(contracts)
    plan = scenarios.resolve(contracts)
    sigma = shocked_volatilities(contracts, columns, plan)
    _, risk = revalue(contracts, columns, plan)
    at, other = contracts.column["BTC-C"], contracts.column["SOL-P"]
    years, forward = 45.0 / 365.0, 65_000.0
    for s, move in enumerate(spot):
        after = smile == "sticky_moneyness"
        base = float(SMILE.vol(70_000.0 / (1.0 + move) if after else 70_000.0, EXPIRY))
        factor = reference.surface_factor(70_000.0, forward, years, math.log1p(move) if after else 0.0, NODES,
                                          [t / 365.0 for t in TENORS], MOVES.log_ratio[s].tolist())
        want = base * factor
        want = {"scale": 2.0 * want, "add": want - 0.1}.get(kinds[s].kind, want)
        assert sigma[at, s] == pytest.approx(want, rel=1e-12)
        profit = prices.black76(forward * (1.0 + move), 70_000.0, years, want, True) - prices.black76(
            forward, 70_000.0, years, float(SMILE.vol(70_000.0, EXPIRY)), True)
        assert risk[at, s] == pytest.approx(profit, rel=1e-10, abs=1e-8)
    # An underlying without moves of its surface keeps its volatilities, up to the shocks of all.
    assert sigma[other].tolist() == pytest.approx([0.8, 1.6, 0.8, 0.7], rel=1e-15)
    assert risk[contracts.column["BTC-PERP"]] == pytest.approx(65_000.0 * np.array(spot), rel=1e-14)


def test_engine_takes_them_and_names_the_worst():
    contracts = Contracts([OPTION])
    up = VolatilityMoves(moneyness=(0.0,), tenors_days=(30.0,), log_ratio=np.log([[[1.0]], [[2.0]], [[0.5]]]))
    model = ScenarioMargin(from_moves(["calm", "2021-05-19", "2023-01-01"], [0.0, -0.02, 0.0],
                                      surface_move={"*": up}), initial_ratio=1.0)
    engine = Engine(contracts, model)
    engine.update(STATE)
    assert engine.margin(Portfolio({"BTC-C": -1.0})).worst_scenario == "2021-05-19"
    assert engine.margin(Portfolio({"BTC-C": 1.0})).worst_scenario == "2023-01-01"


def test_liquidation_price_is_where_the_whole_scenario_model_says():
    contracts = Contracts([OPTION, Perpetual("BTC-PERP", underlying="BTC", settle="USDC")])
    model = ScenarioMargin(from_moves(list("abcd"), [-0.2, 0.0, 0.1, 0.3], surface_move={"BTC": MOVES}))
    engine = Engine(contracts, model, accounts=1)
    engine.update(STATE)
    account = engine.open("a")
    account.deposit("USDC", 40_000.0)
    account.trade("BTC-C", -1.0, price=5_000.0)
    found = account.liquidation_price("BTC")
    assert found.up is not None and not found.certified
    engine.update(MarketState(now_ns=NOW, spot={"BTC": found.up, "USDC": 1.0},
                              volatility={"BTC-C": float(SMILE.vol(70_000.0, EXPIRY))}))
    there = account.margin()
    assert there.equity == pytest.approx(there.maintenance, rel=1e-6)


def test_data_compares_and_pickles():
    first = from_moves(list("abcd"), [0.1] * 4, surface_move={"BTC": MOVES}, probability=[0.1, 0.2, 0.3, 0.4])
    assert pickle.loads(pickle.dumps(first)) == first
    assert first != from_moves(list("abcd"), [0.1] * 4, surface_move={"BTC": MOVES.with_table(0.0 * MOVES.log_ratio)},
                               probability=[0.1, 0.2, 0.3, 0.4])
    with pytest.raises(TypeError):
        first.surface_move["ETH"] = MOVES
    with pytest.raises(ValueError, match="read-only"):
        MOVES.log_ratio[0, 0, 0] = 1.0
    with pytest.raises(TypeError, match="unhashable"):
        hash(MOVES)


def test_some_of_the_scenarios():
    whole = from_moves(list("abcd"), {"BTC": [0.1, 0.2, 0.3, 0.4], "*": [0.0] * 4}, surface_move={"BTC": MOVES},
                       volatility=[0.0, 0.1, 0.2, 0.3], probability=[0.1, 0.2, 0.3, 0.4])
    part = whole.take([3, 1])
    assert part.names == ("d", "b") and part.spot_move["BTC"] == (0.4, 0.2)
    assert part.probability == pytest.approx((2.0 / 3.0, 1.0 / 3.0))
    assert part.surface_move["BTC"].log_ratio.tolist() == MOVES.log_ratio[[3, 1]].tolist()
    assert whole.take(slice(0, 2)).names == ("a", "b") and whole.take(range(4)) == whole
    for at in ([4], [-1], [], [0, 0], [1.5]):
        with pytest.raises(MarginError):
            whole.take(at)
    with pytest.raises(RangeError, match="probability"):
        from_moves(["a", "b"], [0.1, 0.2], probability=[0.0, 1.0]).take([0])


@pytest.mark.parametrize(("call", "kind"), [
    (lambda: from_moves(["a", "b"], [0.1, 0.2], probability=[0.5]), ShapeError),
    (lambda: from_moves(["a", "b"], [0.1, 0.2], probability=[0.5, 0.4]), RangeError),
    (lambda: from_moves(["a", "b"], [0.1, 0.2], probability=[1.5, -0.5]), RangeError),
    (lambda: from_moves(["a", "b"], [0.1, 0.2], probability=[math.nan, 1.0]), NotFiniteError),
    (lambda: from_moves(["a"], [0.1], surface_move={"BTC": MOVES}), ShapeError),
    (lambda: from_moves(["a"], [0.1], surface_move={"BTC": 0.3}), RangeError),
    (lambda: Scenarios(names=("a",), spot_move=(0.1,), surface_move=3), RangeError),
    (lambda: from_moves(["a", "b"], np.array([0.1, -1.0])), RangeError),
    (lambda: from_moves(["a", "b"], np.array([0.1, math.nan])), NotFiniteError),
    (lambda: from_moves(["a"], np.array([0.1, 0.2])), ShapeError),
    (lambda: VolatilityMoves(moneyness=(0.0, 0.0), tenors_days=(1.0,), log_ratio=np.zeros((1, 1, 2))), RangeError),
    (lambda: VolatilityMoves(moneyness=(0.0,), tenors_days=(0.0,), log_ratio=np.zeros((1, 1, 1))), RangeError),
    (lambda: VolatilityMoves(moneyness=(0.0,), tenors_days=(1.0,), log_ratio=np.zeros((1, 1, 2))), ShapeError),
    (lambda: VolatilityMoves(moneyness=(0.0,), tenors_days=(1.0,), log_ratio=np.full((1, 1, 1), math.nan)),
     NotFiniteError),
    (lambda: factors(100.0, 100.0, 0.1, np.zeros(3)), ShapeError),
])
def test_bad_input(call, kind):
    with pytest.raises(kind):
        call()


def test_kernels_refuse_other_shapes():
    with pytest.raises(ShapeError):
        scenario.growth_moves(np.ones(2), np.ones(3))
    out = np.empty(2)
    scenario.growth_moves(np.array([math.log(2.0), 1e-9]), out)
    assert out == pytest.approx([1.0, 1e-9 + 5e-19], rel=1e-15)
