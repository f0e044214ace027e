"""Historical scenarios against their definitions."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared

from margincore import history, vol
from margincore.contracts import Contracts, Perpetual
from margincore.engine import Engine
from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.history import filtered_historical, historical
from margincore.margin import ScenarioMargin
from margincore.market import MarketState
from margincore.measure import ExpectedShortfall
from margincore.panel import PricePanel
from margincore.portfolio import Portfolio
from margincore.tail import value_at_risk

DAYS = np.datetime64("2024-01-01") + np.arange(301)
RETURNS = 0.03 * np.random.default_rng(5).standard_t(4, (300, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
PRICES = dict(zip(("BTC", "ETH"), np.exp(np.vstack([np.zeros(2), RETURNS.cumsum(axis=0)])).T * [[60_000.0], [3_000.0]],
                  strict=True))


def table(scenarios, names=("BTC", "ETH")):
    return np.column_stack([scenarios.spot_move[name] for name in names])


def test_one_step_moves_are_named_by_date_and_kept_together():
    found = historical(PRICES, DAYS)
    assert found.names == tuple(str(day) for day in DAYS[1:])
    assert table(found) == pytest.approx(np.expm1(RETURNS), rel=1e-12, abs=1e-15)
    assert found.probability == () and set(found.weight) == {1.0}


@settings(max_examples=40)
@given(steps=st.integers(1, 12), horizon=st.sampled_from(["overlapping", "separate", "square_root"]))
def test_horizons(steps, horizon):
    found = historical(PRICES, DAYS, steps=steps, horizon=horizon)
    sums = np.array([RETURNS[at:at + steps].sum(axis=0) for at in range(301 - steps)])
    if horizon == "separate":
        sums = sums[(300 - steps) % steps::steps]
    wanted = np.expm1(RETURNS * math.sqrt(steps)) if horizon == "square_root" else np.expm1(sums)
    assert table(found) == pytest.approx(wanted, rel=1e-9, abs=1e-13)
    assert len(set(found.names)) == len(found) and found.names[-1].endswith(str(DAYS[-1]))


def test_a_worst_scenario_has_a_date():
    contracts = Contracts([Perpetual(f"{name}-PERP", underlying=name, settle="USDC") for name in PRICES])
    model = ScenarioMargin(historical(PRICES, DAYS), offset_sets=[("BTC", "ETH")], initial_ratio=1.0)
    engine = Engine(contracts, model)
    spot = {name: float(row[-1]) for name, row in PRICES.items()}
    engine.update(MarketState(now_ns=1, spot={**spot, "USDC": 1.0}))
    report = engine.margin(Portfolio({"BTC-PERP": 1.0, "ETH-PERP": -5.0}))
    pnl = np.expm1(RETURNS) @ [spot["BTC"], -5.0 * spot["ETH"]]
    assert report.maintenance == pytest.approx(-pnl.min(), rel=1e-9)
    assert report.worst_scenario == str(DAYS[1 + pnl.argmin()])


def test_age_weights_are_probabilities():
    found = historical(PRICES, DAYS, decay=0.97)
    assert math.fsum(found.probability) == pytest.approx(1.0, abs=1e-14)
    assert found.probability[-2] / found.probability[-1] == pytest.approx(0.97)
    pnl = 1000.0 * table(found)[:, 0]
    order = np.argsort(pnl)
    reached = np.cumsum(np.array(found.probability)[order])
    assert value_at_risk(pnl, 0.95, weights=found.probability) == -pnl[order[np.argmax(reached > 0.05)]]


def test_age_weights():
    weights = history.age_weights(500, 0.98)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14) and weights[-2] / weights[-1] == pytest.approx(0.98)
    assert weights[-1] == pytest.approx(0.02 / (1.0 - 0.98**500))  # Boudoukh, Richardson and Whitelaw 1998
    assert history.age_weights(4, 1.0).tolist() == [0.25] * 4
    assert history.age_weights(1, 0.5).tolist() == [1.0]


MODELS = (vol.Ewma(), vol.Ewma(mean=0.001), vol.Garch(omega=1e-5, alpha=0.1, beta=0.88, mean=0.0005),
          vol.Gjr(omega=1e-5, alpha=0.04, gamma=0.08, beta=0.88))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("steps", [1, 5])
def test_filtered_moves_are_past_shocks_at_the_volatility_now(model, steps):
    found = filtered_historical(PRICES, model, DAYS, steps=steps)
    for at, name in enumerate(PRICES):
        series = np.ascontiguousarray(np.diff(np.log(PRICES[name])))
        shocks = (series - model.mean) / np.sqrt(model.filter(series)[:-1])
        now = math.sqrt(model.forecast(series, steps).total)
        wanted = np.expm1(steps * model.mean + shocks * now)
        assert table(found)[:, at] == pytest.approx(wanted, rel=1e-9, abs=1e-13)
    assert found.names == tuple(str(day) for day in DAYS[1:])


def test_filtered_spans_sum_their_shocks():
    model = vol.Ewma()
    found = filtered_historical(PRICES, model, DAYS, steps=3, horizon="overlapping", burn_in=20)
    series = np.ascontiguousarray(np.diff(np.log(PRICES["ETH"])))
    shocks = model.standardised_residuals(series)
    wanted = [shocks[at:at + 3].sum() * math.sqrt(model.filter(series)[-1]) for at in range(20, 298)]
    assert table(found)[:, 1] == pytest.approx(np.expm1(wanted), rel=1e-9, abs=1e-13)
    assert found.names[0] == f"{DAYS[20]} to {DAYS[23]}"
    apart = filtered_historical(PRICES, model, DAYS, steps=3, horizon="separate", burn_in=20)
    assert set(apart.names) < set(found.names) and apart.names[-1] == found.names[-1]


def test_filtered_moves_follow_the_volatility_now_and_keep_the_correlation_of_shocks():
    base = filtered_historical(PRICES, vol.Ewma(), DAYS, deviation_now={"*": 0.02})
    twice = filtered_historical(PRICES, vol.Ewma(), DAYS, deviation_now={"BTC": 0.04, "*": 0.02})
    assert np.log1p(table(twice)) == pytest.approx(np.log1p(table(base)) * [2.0, 1.0], rel=1e-9, abs=1e-14)
    shocks = np.column_stack([vol.Ewma().standardised_residuals(np.diff(np.log(row))) for row in PRICES.values()])
    assert np.corrcoef(np.log1p(table(base)).T) == pytest.approx(np.corrcoef(shocks.T), abs=1e-9)


def test_a_constant_variance_leaves_history_as_it_is():
    flat = SimpleNamespace(filter=lambda returns: np.full(len(returns) + 1, 4e-4))
    assert table(filtered_historical(PRICES, flat, DAYS)) == pytest.approx(table(historical(PRICES, DAYS)), abs=1e-12)
    assert table(filtered_historical(PRICES, flat, DAYS, steps=4, horizon="overlapping")) == pytest.approx(
        table(historical(PRICES, DAYS, steps=4)), abs=1e-12)


def test_a_model_for_each_underlying():
    mixed = filtered_historical(PRICES, {"BTC": vol.Ewma(decay=0.9), "*": vol.Ewma(decay=0.99)}, DAYS)
    fast, slow = (filtered_historical(PRICES, vol.Ewma(decay=decay), DAYS) for decay in (0.9, 0.99))
    assert mixed.spot_move["BTC"] == fast.spot_move["BTC"] and mixed.spot_move["ETH"] == slow.spot_move["ETH"]
    with pytest.raises(MissingDataError, match="'ETH'"):
        filtered_historical(PRICES, {"BTC": vol.Ewma()}, DAYS)


def test_joint_returns_keep_dates_together():
    prices = np.array([[100.0, 10.0], [110.0, 9.0], [99.0, 9.9]])
    assert history.joint_returns(prices) == pytest.approx(np.log(prices[1:] / prices[:-1]))
    assert history.joint_returns(prices, steps=2) == pytest.approx(np.log(prices[2:] / prices[:1]))


def test_filtered_returns_are_standardised_and_rescaled():
    found = history.filtered_returns(RETURNS, vol.Ewma())
    variance = vol.Ewma().filter(RETURNS[:, 1].copy())
    assert found[:, 1] == pytest.approx(RETURNS[:, 1] / np.sqrt(variance[:-1]) * np.sqrt(variance[-1]))


@pytest.mark.parametrize(("close", "call", "step", "wanted"), [
    (10.0, 1.0, 1.0, 10), (10.0, 5.0, 1.0, 14), (2.0, 1.0, 1.0, 2), (5.0, 1.0, 0.1, 50), (0.5, 0.25, 1.0, 1),
    (1.0, 1.0 / 24.0, 1.0 / 24.0, 1)])
def test_margin_period(close, call, step, wanted):
    assert history.margin_period_steps(close, call_every_days=call, step_days=step) == wanted


def test_liquidity_cascade():
    assert history.liquidity_cascade([3.0], [10.0]) == pytest.approx(3.0)
    assert history.liquidity_cascade([3.0, 4.0], [10.0, 20.0]) == pytest.approx(5.0)
    # MAR33.5 term by term: 100^2 + 80^2 (20 - 10)/10 + 50^2 (40 - 20)/10 + 30^2 (60 - 40)/10 + 10^2 (120 - 60)/10
    wanted = math.sqrt(10_000.0 + 6_400.0 + 5_000.0 + 1_800.0 + 600.0)
    assert history.liquidity_cascade([100.0, 80.0, 50.0, 30.0, 10.0], [10.0, 20.0, 40.0, 60.0, 120.0]) == \
        pytest.approx(wanted, rel=1e-14)


def test_liquidity_shortfall_of_positions():
    pnl = np.random.default_rng(2).standard_normal((3, 400))
    measure = ExpectedShortfall(0.975)
    parts = [measure.loss(pnl.sum(axis=0)), measure.loss(pnl[1:].sum(axis=0)), measure.loss(pnl[2])]
    wanted = math.sqrt(parts[0]**2 + parts[1]**2 + 2.0 * parts[2]**2)
    assert history.liquidity_shortfall(pnl, [10.0, 20.0, 40.0]) == pytest.approx(wanted, rel=1e-13)
    assert history.liquidity_shortfall(pnl, [10.0] * 3) == pytest.approx(parts[0], rel=1e-13)
    assert history.liquidity_shortfall(np.abs(pnl), [10.0, 20.0, 40.0]) == 0.0


@pytest.mark.parametrize(("call", "kind"), [
    (lambda: history.joint_returns([[1.0], [-1.0]]), RangeError),
    (lambda: history.joint_returns([[1.0]]), ShapeError),
    (lambda: history.age_weights(3, 1.5), RangeError),
    (lambda: history.age_weights(0, 0.5), RangeError),
    (lambda: history.liquidity_cascade([1.0], [0.0]), RangeError),
    (lambda: history.liquidity_cascade([1.0, 1.0], [20.0, 10.0]), RangeError),
    (lambda: history.liquidity_cascade([1.0], [10.0, 20.0]), ShapeError),
    (lambda: history.liquidity_cascade([1.0, math.nan], [10.0, 20.0]), NotFiniteError),
    (lambda: history.liquidity_shortfall([[1.0, 2.0]], [5.0]), RangeError),
    (lambda: history.margin_period_steps(0.0), RangeError),
    (lambda: historical({"BTC": [1.0]}), ShapeError),
    (lambda: historical({"BTC": [1.0, 2.0]}, steps=2), ShapeError),
    (lambda: historical(PRICES, DAYS, horizon="monthly"), RangeError),
    (lambda: historical(PRICES, DAYS, decay=0.0), RangeError),
    (lambda: historical({"BTC": [1.0, math.nan, 2.0]}), NotFiniteError),
    (lambda: filtered_historical(PRICES, vol.Ewma(), DAYS, burn_in=300), ShapeError),
    (lambda: filtered_historical(PRICES, vol.Ewma(), DAYS, burn_in=-1), RangeError),
    (lambda: filtered_historical(PRICES, vol.Ewma(), DAYS, deviation_now={"*": 0.0}), RangeError),
    (lambda: filtered_historical(PRICES, "garch", DAYS), RangeError),
    (lambda: filtered_historical({"BTC": [1.0, 1.0, 1.0]}, vol.Ewma()), MarginError),
    (lambda: filtered_historical(PRICES, SimpleNamespace(filter=lambda r: np.full(len(r) + 1, math.nan))),
     NotFiniteError),
    (lambda: filtered_historical(PRICES, SimpleNamespace(filter=lambda r: np.ones(len(r)))), ShapeError),
    (lambda: history.from_table(["a"], ["BTC"], np.array([[-1.0]])), RangeError),
    (lambda: history.from_table(["a"], ["BTC"], np.zeros((2, 1))), ShapeError),
    (lambda: history.from_table(["a", "a"], ["BTC"], np.zeros((2, 1))), RangeError),
])
def test_bad_input(call, kind):
    with pytest.raises(kind):
        call()


def test_the_crash_of_march_2020_is_the_worst_day_of_its_years():
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(shared("data", "prices", "daily_close_usd_panel_2020_2023.csv.gz"))
    dates = frame["date"].tolist()
    panel = PricePanel.of({name.upper(): frame[name].to_numpy() for name in ("btc", "eth", "xrp")}, dates)
    found = historical(panel)
    assert found.names[int(np.argmin(found.spot_move["BTC"]))] == "2020-03-12"
    assert min(found.spot_move["BTC"]) == pytest.approx(-0.3717, abs=1e-4)  # a catalogued fact of the data
    assert len(found) == len(dates) - 1
