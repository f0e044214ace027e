"""VarMargin: the tail of a portfolio as a margin model, its reports, its liquidation prices and its presets."""

import dataclasses
import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_distance import CONTRACTS, NOW, account, check_against_the_engine

import margincore as mc
from margincore.kernels.risk import tail_loss
from margincore.margin.clearing import fitted_models, most_stressed
from margincore.margin.var import joined, stretched

LINEAR = mc.Contracts([mc.Perpetual(f"{name}-PERP", underlying=name, settle="USDC", multiplier=1.0)
                       for name in ("BTC", "ETH", "SOL")])
SPOT = {"BTC": 100.0, "ETH": 50.0, "SOL": 10.0, "USDC": 1.0}
NAMES = ("BTC", "ETH", "SOL")
OPTIONS = [item for item in CONTRACTS.derivatives if isinstance(item, mc.Option)]


def moves(scenarios=500, seed=3, scale=0.03):
    random = np.random.default_rng(seed)
    table = np.expm1(scale * random.standard_t(4, (scenarios, 3)))
    return mc.from_moves([f"day {at}" for at in range(scenarios)],
                         {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(NAMES)})


def engine_of(model, contracts=LINEAR, accounts=50):
    engine = mc.Engine(contracts, model, accounts=accounts)
    engine.update(mc.MarketState(now_ns=NOW, spot=SPOT, mark={f"{name}-PERP": SPOT[name] for name in NAMES}))
    return engine


def required(model, **positions):
    book = mc.Portfolio({f"{name}-PERP": q for name, q in positions.items()}, {"USDC": 1e6})
    return engine_of(model).margin(book)


def profit(scenarios, **positions):
    whole = np.zeros(len(scenarios))
    for name, quantity in positions.items():
        whole = whole + quantity * SPOT[name] * np.array(scenarios.spot_move[name])
    return whole


@pytest.mark.parametrize("level", [0.5, 0.9, 0.975, 0.99, 0.995])
def test_the_requirement_is_the_measure_of_the_portfolio(level):
    scenarios = moves()
    pnl = profit(scenarios, BTC=3.0, ETH=-5.0, SOL=20.0)
    upper, lower, interpolated, shortfall = tail_loss(pnl, level)
    # 1e-12: unit values are spot times move, rounded another way
    for measure, expected in ((mc.ValueAtRisk(level), upper), (mc.ValueAtRisk(level, "lower"), lower),
                              (mc.ValueAtRisk(level, "interpolated"), interpolated),
                              (mc.ExpectedShortfall(level), shortfall), (mc.Worst(), -pnl.min())):
        expected = max(expected, 0.0)
        report = required(mc.VarMargin(scenarios, measure=measure), BTC=3.0, ETH=-5.0, SOL=20.0)
        assert report.maintenance == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert report.initial == pytest.approx(1.3 * expected, rel=1e-12, abs=1e-12)
        assert report.status is mc.Status.HEALTHY


def test_probabilities_of_the_scenarios_count():
    scenarios = dataclasses.replace(moves(), probability=mc.age_weights(500, 0.99))
    pnl = profit(scenarios, BTC=3.0, ETH=-5.0)
    for measure in (mc.ValueAtRisk(0.975), mc.ExpectedShortfall(0.975), mc.Worst()):
        found = required(mc.VarMargin(scenarios, measure=measure), BTC=3.0, ETH=-5.0).maintenance
        assert found == pytest.approx(measure.loss(pnl, scenarios.probability), rel=1e-12)
    light = dataclasses.replace(scenarios, probability=(0.0, *(1.0 / 499,) * 499))
    first = dataclasses.replace(light, spot_move={name: (-0.9, *row[1:]) for name, row in light.spot_move.items()})
    assert (required(mc.VarMargin(first, measure=mc.Worst()), BTC=1.0).maintenance
            == required(mc.VarMargin(light, measure=mc.Worst()), BTC=1.0).maintenance)


@pytest.mark.parametrize("least", [1e-3, 1e-9, 1e-13])
def test_the_worst_scenario_counts_however_unlikely(least):
    scenarios = mc.from_moves(["crash", "dip", "up"], [-0.5, -0.1, 0.1], probability=[least, 0.5, 0.5 - least])
    assert required(mc.VarMargin(scenarios, measure=mc.Worst()), BTC=1.0).maintenance == 50.0


def test_offsets_are_the_whole_portfolio_unless_sets_are_given():
    scenarios = mc.from_moves(["down", "up"], [-0.1, 0.1])
    hedged = {"BTC": 1.0, "ETH": -2.0}
    assert required(mc.VarMargin(scenarios, measure=mc.Worst()), **hedged).maintenance == pytest.approx(0.0, abs=1e-12)
    alone = mc.VarMargin(scenarios, measure=mc.Worst(), offset_sets=())
    assert required(alone, **hedged).maintenance == pytest.approx(20.0)
    half = mc.VarMargin(scenarios, measure=mc.Worst(), gain_kept=0.5)
    assert required(half, **hedged).maintenance == pytest.approx(5.0)
    pairs = mc.VarMargin(scenarios, measure=mc.Worst(), offset_sets=[("BTC", "ETH")])
    assert required(pairs, **hedged, SOL=1.0).maintenance == pytest.approx(1.0)


def test_the_stressed_block_is_averaged_or_the_larger():
    calm, wild = moves(), moves(seed=4, scale=0.09)
    book = {"BTC": 3.0, "ETH": -5.0}
    measure = mc.ExpectedShortfall(0.975)
    base, stressed = (required(mc.VarMargin(s, measure=measure), **book).maintenance for s in (calm, wild))
    assert stressed > 2.0 * base
    averaged = mc.VarMargin(calm, measure=measure, stressed=wild, stressed_weight=0.25)
    larger = mc.VarMargin(calm, measure=measure, stressed=wild)
    assert required(averaged, **book).maintenance == pytest.approx(0.75 * base + 0.25 * stressed, rel=1e-14)
    assert required(larger, **book).maintenance == stressed
    assert required(dataclasses.replace(larger, scenarios=wild, stressed=calm), **book).maintenance == stressed


def test_horizon_volatility_and_buffer():
    scenarios, book = moves(), {"BTC": 1.0}
    measure = mc.ValueAtRisk(0.99)
    model = mc.VarMargin(scenarios, measure=measure, horizon_days=2.0, scenario_days=1.0)
    two = np.expm1(np.log1p(scenarios.spot_move["BTC"]) * math.sqrt(2.0))
    assert required(model, **book).maintenance == pytest.approx(measure.loss(100.0 * two), rel=1e-12)
    model = mc.VarMargin(scenarios, measure=measure, volatility_scale={"BTC": 1.5, "*": 1.0})
    scaled = np.expm1(np.log1p(scenarios.spot_move["BTC"]) * 1.5)
    assert required(model, **book).maintenance == pytest.approx(measure.loss(100.0 * scaled), rel=1e-12)
    assert required(model, ETH=1.0) == required(mc.VarMargin(scenarios, measure=measure), ETH=1.0)
    plain = required(mc.VarMargin(scenarios, measure=measure), **book)
    buffered = required(mc.VarMargin(scenarios, measure=measure, buffer=0.25), **book)
    assert buffered.maintenance == pytest.approx(1.25 * plain.maintenance, rel=1e-15)
    assert buffered.initial == pytest.approx(1.25 * plain.initial, rel=1e-15)
    shared = mc.from_moves(["down", "up"], [-0.1, 0.1])
    assert stretched(shared, 1.0, 1.0) is shared
    assert stretched(shared, 1.0, {"ETH": 2.0}).spot_move["*"] == pytest.approx((-0.1, 0.1))
    assert stretched(shared, 1.0, {"ETH": 2.0}).spot_move["ETH"] == pytest.approx((-0.19, 0.21))
    assert stretched(shared, 1.0, 0.0).spot_move["*"] == (0.0, 0.0)


def test_a_horizon_stretches_the_stressed_scenarios_and_surfaces_too():
    calm, wild, measure = moves(), moves(seed=4, scale=0.06), mc.ValueAtRisk(0.99)
    model = mc.VarMargin(calm, measure=measure, stressed=wild, stressed_weight=0.25, horizon_days=4.0,
                         volatility_scale=0.5)
    half, double = (np.expm1(factor * np.log1p(s.spot_move["BTC"])) for s, factor in ((calm, 1.0), (wild, 2.0)))
    expected = 0.75 * measure.loss(100.0 * half) + 0.25 * measure.loss(100.0 * double)
    assert required(model, BTC=1.0).maintenance == pytest.approx(expected, rel=1e-12)
    table = mc.VolatilityMoves(moneyness=(0.0,), tenors_days=(30.0,), log_ratio=np.full((500, 1, 1), 0.1))
    with_surface = dataclasses.replace(calm, surface_move={"BTC": table})
    found = stretched(with_surface, 2.0, 3.0).surface_move["BTC"].log_ratio
    assert found.shape == (500, 1, 1) and (found == 0.2).all()


def test_a_factor_of_no_underlying_is_refused():
    with pytest.raises(mc.MarginError, match="volatility_scale must name underlyings of the scenarios, 'BTCC' is not"):
        mc.VarMargin(moves(), volatility_scale={"BTCC": 2.0})
    shared = mc.from_moves(["down", "up"], [-0.1, 0.1])
    assert mc.VarMargin(shared, volatility_scale={"BTC": 2.0}).volatility_scale == {"BTC": 2.0}


def test_the_most_stressed_days_weigh_every_underlying_alike():
    """A wild coin in its usual calm must not outweigh a quiet one in its crash."""
    quiet, wild = np.full(30, 0.001), np.tile([0.3, -0.3], 15)
    quiet[20:25] = -0.05
    wild[5:10] *= 1.1
    found = most_stressed(mc.from_moves([f"d{at}" for at in range(30)], {"BTC": quiet, "MEME": wild}), 5)
    assert found.names == ("d20", "d21", "d22", "d23", "d24")


def test_floors_at_zero_and_of_the_notional():
    gains = mc.from_moves(["up", "more"], [0.1, 0.2])
    assert required(mc.VarMargin(gains), BTC=1.0).maintenance == 0.0
    floored = mc.VarMargin(gains, floor_rate=0.05)
    assert required(floored, BTC=1.0).maintenance == pytest.approx(5.0)
    assert required(floored, BTC=-1.0).maintenance == pytest.approx(20.0)
    assert required(floored, BTC=1.0, ETH=-0.1).maintenance == pytest.approx(5.25)
    options = [item.symbol for item in OPTIONS if item.underlying == "BTC"]
    model = mc.VarMargin(mc.from_moves(["a", "b"], [0.0, 0.0]), floor_rate=0.1)
    assert account(model, {options[0]: 1.0}, {"USDC": 1e6}).margin().maintenance == 0.0
    assert account(model, {options[0]: -1.0}, {"USDC": 1e6}).margin().maintenance > 0.0


def test_short_option_addons_work_as_in_scenario_margin():
    scenarios = mc.grid(spot=[-0.1, 0.0, 0.1])
    options = [item.symbol for item in OPTIONS][:3]
    book = dict.fromkeys(options, -1.0) | {"BTC-PERP": 0.01}
    for addons in ([mc.ShortOptionFloor(0.5)], [mc.ShortOptionCharge(0.02)], [mc.ClosingCost(missing_rate=0.01)]):
        ours = account(mc.VarMargin(scenarios, measure=mc.Worst(), addons=addons, offset_sets=()), book, {"USDC": 1e6})
        theirs = account(mc.ScenarioMargin(scenarios, addons=addons), book, {"USDC": 1e6})
        assert ours.margin().maintenance == pytest.approx(theirs.margin().maintenance, rel=1e-13)


# ---- explained ------------------------------------------------------------------------------------------------------

MODELS = {
    "var": lambda s: mc.VarMargin(s),
    "interpolated": lambda s: mc.VarMargin(s, measure=mc.ValueAtRisk(0.98, "interpolated")),
    "es": lambda s: mc.VarMargin(s, measure=mc.ExpectedShortfall(0.975)),
    "sets": lambda s: mc.VarMargin(s, measure=mc.ExpectedShortfall(0.975), offset_sets=()),
    "gains": lambda s: mc.VarMargin(s, measure=mc.ExpectedShortfall(0.975), gain_kept=0.4),
    "average": lambda s: mc.VarMargin(s, measure=mc.ExpectedShortfall(0.97), stressed=moves(80, 7, 0.1),
                                      stressed_weight=0.25),
    "larger": lambda s: mc.VarMargin(s, stressed=moves(80, 7, 0.1)),
    "worst": lambda s: mc.VarMargin(s, measure=mc.Worst()),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.tuples(*[st.integers(-40, 40)] * 3), st.booleans(), st.integers(0, 3))
def test_reports_add_up_bit_for_bit(name, quantities, weighted, seed):
    scenarios = moves(200, seed)
    if weighted and name not in ("interpolated",):
        scenarios = dataclasses.replace(scenarios, probability=mc.age_weights(200, 0.98))
    engine = engine_of(MODELS[name](scenarios))
    report = engine.margin(mc.Portfolio({f"{n}-PERP": q / 7.0 for n, q in zip(NAMES, quantities, strict=True)},
                                        {"USDC": 1e6}))
    total = 0.0
    for item in report.sets:
        total += item.loss
    assert report.parts[0].maintenance == total
    for item in report.sets:
        added = 0.0
        for value in item.contributions.values():
            added += value
        assert added == item.loss
        assert abs(item.contributions.get("rounding", 0.0)) <= 1e-9
        if item.loss > 0.0:
            assert math.fsum(row.weight for row in item.tail) == pytest.approx(1.0, rel=1e-12)
            assert [row.pnl for row in item.tail] == sorted(row.pnl for row in item.tail)
            assert item.scenario == item.tail[0].name
    assert json.loads(json.dumps(report.to_dict()))["sets"] is not None
    assert str(report)


def test_the_profit_of_an_account_can_be_measured_explained_and_doubted():
    """Per position, underlying and expiry, with the sampling error of the number the account is asked for."""
    measure = mc.ExpectedShortfall(0.9)
    scenarios = mc.from_moves([f"d{at}" for at in range(300)], {"*": np.expm1(
        0.04 * np.random.default_rng(5).standard_t(4, 300))})
    symbols = [OPTIONS[0].symbol, OPTIONS[-1].symbol, "BTC-PERP"]
    alice = account(mc.VarMargin(scenarios, measure=measure, initial_ratio=1.0),
                    {symbols[0]: -2.0, symbols[1]: 1.0, symbols[2]: 0.5}, {"USDC": 1e6})
    report, found = alice.margin(), alice.scenario_profit()
    named = {name: loss for name, loss in report.contributions.items() if name != "rounding"}
    assert found.symbols == tuple(named) and found.scenarios == scenarios.names
    assert (found.probability, found.stressed) == (None, 0) and found.pnl.shape == (3, 300)
    sure = mc.estimate(found.total, measure)
    assert sure.value == report.maintenance and 0.0 < sure.standard_error < sure.value
    parts = mc.explain(found.pnl, measure, names=found.symbols, scenario_names=found.scenarios)
    assert dict(zip(parts.names, parts.component.tolist(), strict=True)) == pytest.approx(named)
    assert [item.name for item in parts.tail] == [item.name for item in report.sets[0].tail]
    by_expiry = parts.by(found.expiry_ns)
    assert set(by_expiry) == {None, OPTIONS[0].expiry_ns, OPTIONS[-1].expiry_ns}
    assert sum(by_expiry.values()) == pytest.approx(report.maintenance)
    assert sum(parts.by(found.underlyings).values()) == pytest.approx(report.maintenance)


def test_the_profit_of_a_stressed_account_and_of_none():
    calm, wild = moves(), moves(seed=4)
    engine = engine_of(mc.VarMargin(calm, measure=mc.ValueAtRisk(0.99), stressed=wild, stressed_weight=0.25))
    alice = engine.open_with("alice", mc.Portfolio({"BTC-PERP": 1.0, "ETH-PERP": -1.0}, {"USDC": 1e4}))
    found = alice.scenario_profit()
    assert found.stressed == 500 and len(found.scenarios) == 1000
    assert found.total[:500] == pytest.approx(profit(calm, BTC=1.0, ETH=-1.0), abs=1e-12)
    base, stressed = (mc.value_at_risk(part, 0.99) for part in (found.total[:500], found.total[500:]))
    assert alice.margin().maintenance == pytest.approx(0.75 * base + 0.25 * stressed, rel=1e-14)
    engine.update(mc.MarketState(now_ns=NOW, spot=SPOT, mark={"BTC-PERP": 100.0, "SOL-PERP": 10.0}))
    found = alice.scenario_profit()
    assert np.isnan(found.pnl).any(axis=1).tolist() == [False, True] and np.isnan(found.total).all()
    empty = engine.open("bob").scenario_profit()
    assert (empty.symbols, empty.pnl.shape) == ((), (0, 1000)) and not empty.total.any()
    early = mc.Engine(LINEAR, mc.VarMargin(calm), accounts=2)
    assert np.isnan(early.open_with("c", mc.Portfolio({"BTC-PERP": 1.0}, {})).scenario_profit().pnl).all()
    tiers = mc.TieredMargin({f"{name}-PERP": [mc.Tier(0.0, 0.01, 50.0)] for name in NAMES})
    with pytest.raises(mc.MarginError, match="model must have scenarios"):
        mc.Engine(LINEAR, tiers, accounts=2).open("d").scenario_profit()


def test_the_tail_is_named():
    scenarios = mc.historical({"BTC": np.array([100.0, 90.0, 95.0, 70.0, 80.0])},
                              ["2020-03-10", "2020-03-11", "2020-03-12", "2020-03-13", "2020-03-14"])
    contracts = mc.Contracts([mc.Perpetual("BTC-PERP", underlying="BTC", settle="USDC", multiplier=1.0)])
    engine = mc.Engine(contracts, mc.VarMargin(scenarios, measure=mc.ExpectedShortfall(0.5)))
    engine.update(mc.MarketState(now_ns=NOW, spot={"BTC": 100.0, "USDC": 1.0}, mark={"BTC-PERP": 100.0}))
    report = engine.margin(mc.Portfolio({"BTC-PERP": 2.0}, {"USDC": 1_000.0}))
    assert [row.name for row in report.sets[0].tail] == ["2020-03-13", "2020-03-11"]
    assert [row.weight for row in report.sets[0].tail] == [0.5, 0.5]
    assert "tail of BTC: 2 scenarios, 2020-03-13, 2020-03-11" in str(report)


# ---- one answer -----------------------------------------------------------------------------------------------------

def test_all_accounts_in_one_call_on_any_number_of_threads():
    engine = engine_of(mc.VarMargin(moves(1_000), measure=mc.ExpectedShortfall(0.99)), accounts=300)
    random = np.random.default_rng(1)
    for at in range(200):
        engine.open_with(f"account {at}", mc.Portfolio(
            {f"{name}-PERP": float(q) for name, q in zip(NAMES, random.normal(size=3), strict=True)},
            {"USDC": float(random.uniform(1.0, 60.0))}))
    one = engine.margin()
    assert len(set(one.status.tolist())) == 3
    for threads in (2, 3, 7):
        many = engine.margin(threads=threads)
        for name in ("equity", "initial", "maintenance", "status"):
            assert getattr(many, name).tobytes() == getattr(one, name).tobytes()
    for at, row in enumerate(one.row[:20]):
        assert engine.account(int(row)).margin().maintenance == one.maintenance[at]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-30, 30).filter(bool)),
                                                 min_size=1, max_size=6))
def test_can_trade_is_trade_then_status(name, orders):
    alice = engine_of(MODELS[name](moves(200))).open("alice")
    alice.deposit("USDC", 60.0)
    for symbol, lots in orders:
        price = SPOT[symbol]
        asked = alice.can_trade(f"{symbol}-PERP", lots / 8.0, price=price)
        figures = alice.what_if(f"{symbol}-PERP", lots / 8.0, price=price)
        alice.trade(f"{symbol}-PERP", lots / 8.0, price=price)
        report = alice.margin()
        assert asked == (report.status is mc.Status.HEALTHY)
        assert figures.after == (report.equity, report.initial, report.maintenance)


def test_expected_shortfall_is_sub_additive_over_accounts():
    model = mc.VarMargin(moves(), measure=mc.ExpectedShortfall(0.975))
    engine = engine_of(model)
    random = np.random.default_rng(5)
    for _ in range(30):
        a, b = ({f"{n}-PERP": float(q) for n, q in zip(NAMES, random.normal(size=3), strict=True)} for _ in range(2))
        apart = sum(engine.margin(mc.Portfolio(x, {})).maintenance for x in (a, b))
        together = engine.margin(mc.Portfolio({s: a[s] + b[s] for s in a}, {})).maintenance
        assert together <= apart * (1.0 + 1e-12)


# ---- liquidation prices ---------------------------------------------------------------------------------------------

def test_liquidation_prices_are_certified_for_coherent_measures_only():
    for measure, certified in ((mc.ExpectedShortfall(0.975), True), (mc.Worst(), True), (mc.ValueAtRisk(0.99), False)):
        model = mc.VarMargin(moves(200), measure=measure)
        alice = engine_of(model).open_with("alice", mc.Portfolio({"BTC-PERP": 3.0, "ETH-PERP": -1.0}, {"USDC": 120.0}))
        assert alice.status is not mc.Status.LIQUIDATION
        answer = alice.liquidation_price("BTC")
        assert answer.certified is certified
        assert answer.down is not None and 0.0 < answer.down < 100.0
        for price, status in ((answer.down * (1.0 + 1e-9), False), (answer.down * (1.0 - 1e-9), True)):
            engine = engine_of(model)
            bob = engine.open_with("bob", mc.Portfolio({"BTC-PERP": 3.0, "ETH-PERP": -1.0}, {"USDC": 120.0}))
            engine.update(mc.MarketState(now_ns=NOW, spot={**SPOT, "BTC": price},
                                         mark={"BTC-PERP": price, "ETH-PERP": 50.0, "SOL-PERP": 10.0}))
            assert (bob.status is mc.Status.LIQUIDATION) is status


@pytest.mark.parametrize("measure", [mc.ExpectedShortfall(0.9), mc.ValueAtRisk(0.9)])
def test_liquidation_prices_of_option_books_with_weights_and_stress(measure):
    random = np.random.default_rng(2)
    table = np.expm1(0.05 * random.standard_normal(40))
    base = mc.from_moves([f"day {at}" for at in range(40)], table, volatility=[0.1] * 40)
    base = dataclasses.replace(base, probability=mc.age_weights(40, 0.95))
    model = mc.VarMargin(base, measure=measure, stressed=mc.from_moves(["crash", "jump"], [-0.4, 0.5]),
                         stressed_weight=0.25)
    options = [item.symbol for item in OPTIONS if item.underlying == "BTC"]
    alice = account(model, {"BTC-PERP": 1.0, options[0]: -0.5}, {"USDC": 60_000.0})
    answer = alice.liquidation_price("BTC")
    assert answer.certified is isinstance(measure, mc.ExpectedShortfall)


# ---- what cannot be -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"scenarios": mc.from_moves(["one"], [0.1])}, mc.errors.ShapeError, "at least 2 scenarios"),
    ({"stressed": mc.from_moves(["one"], [0.1])}, mc.errors.ShapeError, "stressed must hold at least 2"),
    ({"scenarios": mc.from_moves([f"{k}" for k in range(10_241)], [0.1] * 10_241)}, mc.errors.CapacityError, "10240"),
    ({"measure": 0.99}, mc.errors.RangeError, "measure must be"),
    ({"stressed": dataclasses.replace(mc.from_moves(["a", "b"], [0.1, 0.2]), smile="sticky_moneyness")},
     mc.errors.RangeError, "smile"),
    ({"scenarios": dataclasses.replace(mc.from_moves(["a", "b"], [0.1, 0.2]), probability=(0.5, 0.5)),
      "measure": mc.ValueAtRisk(0.9, "interpolated")}, mc.errors.RangeError, "upper or lower"),
])
def test_bad_arguments_are_named(changes, error, words):
    with pytest.raises(error, match=words):
        mc.VarMargin(**{"scenarios": moves(20), **changes})


@pytest.mark.parametrize(("level", "words"), [(99, "write 0.99 for 99 %"), (0.01, "write 0.99 for a tail of 0.01"),
                                              (1.0, "level must be in"), (math.nan, "level")])
def test_levels_are_checked_with_a_hint(level, words):
    for kind in (mc.ValueAtRisk, mc.ExpectedShortfall):
        with pytest.raises(mc.MarginError, match=words):
            mc.VarMargin(moves(20), measure=kind(level))


def test_an_underlying_without_moves_is_refused_when_contracts_are_known():
    model = mc.VarMargin(mc.from_moves(["a", "b"], {"BTC": [0.1, -0.1]}))
    with pytest.raises(mc.errors.MissingDataError, match="ETH"):
        model.resolve(LINEAR)
    assert model.resolve(mc.Contracts([LINEAR.by_symbol["BTC-PERP"]])).stages
    both = joined(mc.from_moves(["a"], {"BTC": [0.1], "ETH": [0.1]}), mc.from_moves(["a"], {"BTC": [-0.1]}))
    assert both.names == ("a", "stressed a") and set(both.spot_move) == {"BTC"}


def test_unknown_prices_are_unknown():
    engine = engine_of(mc.VarMargin(moves()))
    alice = engine.open("alice")
    alice.deposit("USDC", 1e9)
    alice.trade("BTC-PERP", 1.0, price=100.0)
    assert alice.status is mc.Status.HEALTHY
    engine.update(mc.MarketState(now_ns=NOW, spot={"BTC": math.nan, "USDC": 1.0}, mark={}))
    assert alice.status is mc.Status.UNKNOWN and math.isnan(alice.margin().maintenance)


def test_contributions_add_up_even_where_the_loss_is_rounding():
    from margincore.attribution import _settle

    for parts, loss in (((1e6, -1e6 + 1e-10), 1e-25), ((0.1, 0.2), 0.3), ((0.5,), 0.5)):
        contributions = {str(at): value for at, value in enumerate(parts)}
        _settle(contributions, loss)
        total = 0.0
        for value in contributions.values():
            total += value
        assert total == loss


# ---- clearing houses ------------------------------------------------------------------------------------------------

def history(days=900, seed=6):
    random = np.random.default_rng(seed)
    sigma = np.where((np.arange(days) > 300) & (np.arange(days) < 420), 0.09, 0.03)
    return {name: 100.0 * np.exp(np.cumsum(sigma * random.standard_t(5, days))) for name in NAMES}


@pytest.mark.parametrize(("build", "level", "days"), [(mc.clearing_listed, 0.99, 2), (mc.clearing_otc, 0.995, 5)])
def test_clearing_presets_are_the_regulation(build, level, days):
    prices = history()
    model = build(prices, stressed_days=120, model=mc.vol.Ewma(decay=0.97))
    assert model.measure == mc.ValueAtRisk(level) and model.stressed_weight == 0.25
    assert (model.maintenance_ratio, model.initial_ratio) == (1.0, 1.0)
    filtered = mc.filtered_historical(prices, mc.vol.Ewma(decay=0.97), steps=days, horizon="overlapping")
    assert model.scenarios == filtered
    whole = mc.historical(prices, steps=days)
    first = whole.names.index(model.stressed.names[0])
    assert 280 < first < 330 and len(model.stressed) == 120
    report = required(model, BTC=2.0, ETH=-1.0)
    base, stressed = (mc.ValueAtRisk(level).loss(profit(s, BTC=2.0, ETH=-1.0)) for s in (filtered, model.stressed))
    assert report.initial == pytest.approx(0.75 * base + 0.25 * stressed, rel=1e-12)
    assert report.initial == report.maintenance and stressed > base
    assert len(report.sets[0].tail) == 2
    assert build(prices, shortfall=True, model=mc.vol.Ewma()).measure == mc.ExpectedShortfall(level)


def test_volatility_control_sets_the_level_of_the_filtered_scenarios():
    prices = history()
    control = mc.vol.MarginVolatility(floor_annual=2.0)
    ewma = mc.vol.Ewma(decay=0.97)
    calm = mc.clearing_listed(prices, model=ewma)
    floored = mc.clearing_listed(prices, model=ewma, volatility=control)
    returns = {name: np.diff(np.log(row)) for name, row in prices.items()}
    charged = control.resolve(returns)
    expected = mc.filtered_historical(prices, mc.vol.Ewma(decay=0.97), steps=2, horizon="overlapping",
                                      deviation_now={name: sigma / math.sqrt(365.0) for name, sigma in charged.items()})
    for name in NAMES:
        assert floored.scenarios.spot_move[name] == pytest.approx(expected.spot_move[name], rel=1e-12)
    assert required(floored, BTC=1.0).initial > 2.0 * required(calm, BTC=1.0).initial


@pytest.mark.parametrize(("changes", "words"), [
    ({"prices": {"BTC": np.full(100, 1.0)}}, "more than 365 days for Regulation"),
    ({"measure": mc.Worst()}, "measure must be left"), ({"stressed_weight": 0.1}, "stressed_weight must be left"),
    ({"volatility": 0.5}, "volatility must be a MarginVolatility"), ({"stressed_days": 1}, "length must be"),
    ({"floor_rate": -1.0}, "floor_rate")])
def test_clearing_presets_refuse_what_the_rule_does_not_allow(changes, words):
    with pytest.raises(mc.MarginError, match=words):
        mc.clearing_listed(**{"prices": history(), "model": mc.vol.Ewma(), **changes})


def test_the_default_filter_is_fitted_to_every_underlying():
    prices = {name: row[:500] for name, row in history().items()}
    models = fitted_models(prices)
    assert set(models) == set(NAMES) and all(isinstance(model, mc.vol.Component) for model in models.values())
    scenarios = mc.filtered_historical(prices, models, steps=2, horizon="overlapping")
    assert mc.clearing_listed(prices).scenarios == scenarios
    last = list(prices)[-1]
    stuck = np.where(np.arange(500) < 495, 100.0, prices[last])  # a price that stood still has no such model
    with pytest.raises(mc.MarginError, match=f"^{last}: "):
        fitted_models({**prices, last: stuck})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1_000), st.sampled_from([0.9, 0.99]), st.booleans(), st.sampled_from([1.0, 0.5]),
       st.sampled_from([0.0, 0.02]))
def test_no_root_of_a_certified_price_is_missed(seed, level, weighted, gain_kept, floor_rate):
    random = np.random.default_rng(seed)
    table = np.expm1(0.08 * random.standard_t(4, (60, 2)))
    base = mc.from_moves([f"day {at}" for at in range(60)], {"BTC": table[:, 0].copy(), "ETH": table[:, 1].copy()},
                         volatility=[float(v) for v in random.choice([-0.1, 0.0, 0.3], 60)])
    if weighted:
        base = dataclasses.replace(base, probability=mc.age_weights(60, 0.95))
    model = mc.VarMargin(base, measure=mc.ExpectedShortfall(level), gain_kept=gain_kept, floor_rate=floor_rate,
                         stressed=mc.from_moves(["crash", "jump"], [-0.4, 0.5]), stressed_weight=0.25)
    held = {item.symbol: float(q) for item, q in zip(OPTIONS, random.integers(-2, 3, len(OPTIONS)), strict=True)
            if q and not item.inverse and item.underlying == "BTC"}
    alice = account(model, {**held, "BTC-PERP": float(random.integers(-2, 3)) + 0.5},
                    {"USDC": float(random.uniform(5e4, 1e6))})
    answer = alice.liquidation_price("BTC")
    if answer.move_down == 0.0:
        assert alice.status is mc.Status.LIQUIDATION
        return
    assert answer.certified
    check_against_the_engine(alice, answer, "BTC", samples=60)


# ---- another model for the same accounts ----------------------------------------------------------------------------

def test_a_model_is_replaced_under_open_accounts():
    scenarios, measure = moves(), mc.ExpectedShortfall(0.975)
    calm = mc.VarMargin(scenarios, measure=measure)
    engine = engine_of(calm)
    alice = engine.open_with("alice", mc.Portfolio({"SOL-PERP": -2.0, "BTC-PERP": 1.0}, {"USDC": 30.0}))
    alice.set_orders("ETH-PERP", buy=1.0)
    hot, before = alice.hot(), alice.margin()
    for model in (dataclasses.replace(calm, volatility_scale={"BTC": 2.0, "*": 1.5}),
                  dataclasses.replace(calm, offset_sets=[("SOL", "BTC")]),
                  mc.ScenarioMargin(mc.grid(spot=[-0.1, 0.1]))):
        engine.set_model(model)
        other = engine_of(model).open_with("bob", alice.portfolio)
        other.set_orders("ETH-PERP", buy=1.0)
        assert alice.margin() == other.margin() and engine.model is model
        assert engine.margin().maintenance[0] == other.margin().maintenance
        assert alice.orders() == {"ETH-PERP": (1.0, 0.0)}
        column = engine.contracts.column["BTC-PERP"]
        for lots in (0.5, -4.0, 20.0):
            assert hot.what_if(column, lots, 100.0) == engine.book.what_if(alice.row, column, lots, 100.0)
    engine.set_model(calm)
    assert alice.margin() == before
    for bad, error in ((mc.VarMargin(mc.from_moves(["a", "b"], {"BTC": [0.1, 0.2]})), mc.errors.MissingDataError),
                       (None, mc.errors.RangeError)):
        with pytest.raises(error):
            engine.set_model(bad)
        assert alice.margin() == before and engine.model is calm
    fresh = mc.Engine(LINEAR, calm)
    fresh.set_model(mc.VarMargin(moves(20)))
    assert fresh.market is None


def test_the_charge_of_today_scales_the_scenarios():
    model = mc.VarMargin(moves())
    made = model.with_volatility({"BTC": 0.9, "ETH": 0.6}, {"BTC": 0.6, "ETH": 0.6})
    assert required(made, BTC=1.0) == required(dataclasses.replace(model, volatility_scale={"BTC": 1.5}), BTC=1.0)
    assert required(made, ETH=1.0) == required(model, ETH=1.0)
    for charged, scenario in (({"BTC": math.nan}, {"BTC": 0.6}), ({"BTC": 0.9}, {"BTC": 0.0}),
                              ({"BTC": 0.9}, {"ETH": 0.9})):
        with pytest.raises(mc.MarginError, match="annual"):
            model.with_volatility(charged, scenario)


def test_the_example_runs_without_data(capsys, monkeypatch, tmp_path):
    path = Path(__file__).resolve().parents[1] / "examples/clearing_margin.py"
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path)])
    runpy.run_path(str(path), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1500 days of BTC, ETH, XRP, made up" and "nan" not in " ".join(lines)
    assert sum("HEALTHY" in line for line in lines) == 5
    assert sum("tail of BTC+ETH+XRP" in line for line in lines) == 3
    assert lines[-1].startswith("one order of 1 BTC over 1863 scenarios: HEALTHY")
