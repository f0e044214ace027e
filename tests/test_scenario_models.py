"""Built scenarios in the models that take them: margin by value at risk, dated tails, and the stressed share."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from margincore import vol
from margincore.combine import combine_scenarios, concat_scenarios, mix_scenarios, stressed_scenarios
from margincore.contracts import Contracts, Option, Perpetual
from margincore.engine import Engine
from margincore.explanation import explain
from margincore.history import filtered_historical, historical
from margincore.margin import VarMargin
from margincore.market import MarketState
from margincore.measure import ExpectedShortfall, ValueAtRisk
from margincore.portfolio import Portfolio
from margincore.revaluation import revalue
from margincore.risk_profile import risk_profiles
from margincore.shocks import VolatilityMoves
from margincore.stress_events import stress, volatility_jump
from margincore.tail import expected_shortfall
from margincore.units import NS_PER_DAY

DAYS = np.datetime64("2025-01-01") + np.arange(401)
MOVES = 0.03 * np.random.default_rng(13).standard_t(4, (400, 2)) @ np.array([[1.0, 0.9], [0.0, 0.5]])
PRICES = dict(zip(("BTC", "ETH"), np.exp(np.vstack([np.zeros(2), MOVES.cumsum(axis=0)])).T * [[60_000.0], [3_000.0]],
                  strict=True))
SPOT = {name: float(row[-1]) for name, row in PRICES.items()}
CONTRACTS = Contracts([*(Perpetual(f"{name}-PERP", underlying=name, settle="USDC") for name in PRICES),
                       Option("CALL", underlying="BTC", settle="USDC", strike=SPOT["BTC"], right="call",
                              expiry_ns=30 * NS_PER_DAY)])
STATE = MarketState(now_ns=1, spot={**SPOT, "USDC": 1.0}, volatility={"CALL": 0.6})
BOOK = Portfolio({"BTC-PERP": 2.0, "ETH-PERP": -10.0, "CALL": -3.0})
QUANTITY = np.array([BOOK.positions.get(symbol, 0.0) for symbol in CONTRACTS.symbols])


def margin_of(model):
    engine = Engine(CONTRACTS, model)
    engine.update(STATE)
    return engine.margin(BOOK).maintenance


def pnl_of(scenarios):
    _, risk = revalue(CONTRACTS, STATE.resolve(CONTRACTS), scenarios.resolve(CONTRACTS))
    return QUANTITY @ risk


@pytest.mark.parametrize("scenarios", [
    historical(PRICES, DAYS), historical(PRICES, DAYS, steps=2), historical(PRICES, DAYS, decay=0.98),
    filtered_historical(PRICES, vol.Ewma(), DAYS, steps=2),
    concat_scenarios([historical(PRICES, DAYS), stress()], missing="drop"),
    mix_scenarios([historical(PRICES, DAYS), stress()], [0.75, 0.25], missing="drop"),
], ids=["one step", "two days", "aged", "filtered", "with stress", "stressed share"])
@pytest.mark.parametrize("measure", [ValueAtRisk(0.99), ExpectedShortfall(0.975)])
def test_margin_is_the_measure_of_the_scenarios(scenarios, measure):
    want = measure.loss(pnl_of(scenarios), scenarios.probability or None)
    assert margin_of(VarMargin(scenarios=scenarios, measure=measure)) == pytest.approx(want, rel=1e-9)


def test_a_tail_has_dates():
    crash = combine_scenarios(stress(["2020-03-12"]), volatility_jump())
    scenarios = concat_scenarios([historical(PRICES, DAYS), crash], missing="drop")
    names = CONTRACTS.symbols
    _, risk = revalue(CONTRACTS, STATE.resolve(CONTRACTS), scenarios.resolve(CONTRACTS))
    held = np.flatnonzero(QUANTITY)
    found = explain(risk[held] * QUANTITY[held, None], ExpectedShortfall(0.975), scenario_names=scenarios.names,
                    names=[names[at] for at in held])
    worst = {item.name for item in found.tail}
    assert worst <= set(scenarios.names) and all(name[:2] == "20" for name in worst)
    assert found.total == pytest.approx(expected_shortfall(pnl_of(scenarios), 0.975), rel=1e-12)


def test_the_stressed_window_of_a_book_is_its_own():
    history = historical(PRICES, DAYS)
    pnl = pnl_of(history)
    measure = ExpectedShortfall(0.95)
    found = stressed_scenarios(history, 60, measure, pnl=pnl)
    each = [measure.loss(pnl[at:at + 60]) for at in range(len(pnl) - 59)]
    first = int(np.argmax(each))
    assert found.names == history.names[first:first + 60]
    assert margin_of(VarMargin(scenarios=found, measure=measure)) == pytest.approx(max(each), rel=1e-9)


def test_filtered_margin_follows_volatility_where_plain_history_stays():
    quiet = np.exp(0.001 * (-1.0) ** np.arange(60))
    calm = {name: np.concatenate([row, row[-1] * quiet]) for name, row in PRICES.items()}
    measure = ValueAtRisk(0.99)

    def at_risk(scenarios):
        return measure.loss(np.array(scenarios.spot_move["BTC"]))

    model = vol.Ewma()
    assert at_risk(filtered_historical(calm, model)) < 0.2 * at_risk(filtered_historical(PRICES, model))
    assert at_risk(historical(calm)) > 0.5 * at_risk(historical(PRICES))


def test_profiles_give_the_same_margin_within_their_bound():
    table = VolatilityMoves(moneyness=(-0.5, 0.0, 0.5), tenors_days=(30.0,),
                            log_ratio=0.1 * np.random.default_rng(1).standard_normal((400, 1, 3)))
    history = historical(PRICES, DAYS)
    plan = replace(history, surface_move={"BTC": table}).resolve(CONTRACTS)
    columns = STATE.resolve(CONTRACTS)
    profiles = risk_profiles(CONTRACTS, columns, plan)
    _, full = revalue(CONTRACTS, columns, plan)
    _, quick = profiles.revalue(plan)
    bound = np.abs(QUANTITY) @ profiles.bound
    assert 0.0 < bound < 5.0
    for measure in (ValueAtRisk(0.99), ExpectedShortfall(0.975)):
        assert abs(measure.loss(QUANTITY @ full) - measure.loss(QUANTITY @ quick)) <= bound


def test_the_example_runs(capsys):
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples/scenario_sets.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[-2].startswith("crash days ") and "2020-03-12 pandemic crash" in lines[-2]
    assert "nan" not in " ".join(lines)
