"""The contract of every listed margin model, add-on and collateral rule; a class is tested the moment it is listed."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from test_distance import BOOKS, CONTRACTS, FUTURES, NOW, account, market

import margincore as mc
from margincore import addon, collateral, margin
from margincore.revaluation import moved

LADDERS = dict.fromkeys((item.symbol for item in CONTRACTS.derivatives), ((0.0, 0.004, 100.0), (1e6, 0.01, 20.0)))
EXAMPLES = {
    mc.ScenarioMargin: lambda: mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.1, 0.0, 0.1])),
    mc.TieredMargin: lambda: mc.TieredMargin(tiers=LADDERS),
    mc.VarMargin: lambda: mc.VarMargin(mc.grid(spot=[-0.3, -0.1, 0.0, 0.1, 0.4]), measure=mc.ExpectedShortfall(0.8)),
    mc.ClosingCost: lambda: mc.ClosingCost(missing_rate=0.001),
    mc.ShortOptionCharge: lambda: mc.ShortOptionCharge(0.01),
    mc.ShortOptionFloor: lambda: mc.ShortOptionFloor(0.02),
    mc.Flat: lambda: mc.Flat(0.1),
}
BAD = {
    mc.ScenarioMargin: [{"initial_ratio": 0.5}, {"maintenance_ratio": math.nan}, {"gain_kept": 1.5},
                        {"conversion": "tomorrow"}, {"scenarios": None}],
    mc.TieredMargin: [{"tiers": {"BTC-PERP": ()}}, {"notional": "last"}, {"closing_fee_rate": math.inf}],
    mc.VarMargin: [{"measure": mc.Spectral(3.0)}, {"scenarios": None}, {"stressed": 1},
                   {"scenarios": mc.from_moves(["one"], [0.1])}, {"stressed_weight": 0.25},
                   {"horizon_days": 0.0}, {"scenario_days": math.nan}, {"volatility_scale": -1.0},
                   {"volatility_scale": {"BTC": math.nan}}, {"buffer": -0.1}, {"floor_rate": 1.0},
                   {"maintenance_ratio": 0.0}, {"initial_ratio": 0.5}, {"gain_kept": 1.1}, {"conversion": "never"},
                   {"offset_sets": [("BTC",), ("BTC",)]}],
    mc.ClosingCost: [{"share": -1.0}, {"missing_rate": math.nan}],
    mc.ShortOptionCharge: [{"rate": -0.1}, {"rate": 1.1}, {"rate": "x"}],
    mc.ShortOptionFloor: [{"rate": -0.1}, {"rate": math.nan}],
    mc.Flat: [{"haircut": -0.1}, {"haircut": 1.1}, {"haircut": math.nan}],
}
LISTED = [*margin.MODELS, *addon.ADDONS, *collateral.RULES]


def example(kind):
    assert kind in EXAMPLES, f"{kind.__name__} is listed: add an example of it to tests/test_registry.py"
    return EXAMPLES[kind]()


@pytest.mark.parametrize("kind", LISTED, ids=lambda k: k.__name__)
def test_is_plain_frozen_data(kind):
    made = example(kind)
    assert dataclasses.is_dataclass(kind) and kind.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(made)[0].name, 1.0)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), dataclasses.replace(made)):
        assert twin == made and repr(twin) == repr(made)


@pytest.mark.parametrize("kind", LISTED, ids=lambda k: k.__name__)
def test_refuses_what_cannot_be(kind):
    assert BAD.get(kind), f"{kind.__name__} is listed: add arguments that it must refuse to tests/test_registry.py"
    for bad in BAD[kind]:
        with pytest.raises(mc.MarginError) as caught:
            dataclasses.replace(example(kind), **bad)
        assert next(iter(bad)).split("_")[0] in str(caught.value)


@pytest.mark.parametrize("kind", margin.MODELS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("book", BOOKS)
def test_margin_model_asks_for_something_it_can_explain(kind, book):
    report = account(example(kind), *BOOKS[book]).margin()
    assert report.status is not mc.Status.UNKNOWN
    assert 0.0 <= report.maintenance <= report.initial
    maintenance = initial = 0.0
    for part in report.parts:
        maintenance, initial = maintenance + part.maintenance, initial + part.initial
    assert (maintenance, initial) == (report.maintenance, report.initial)


@pytest.mark.parametrize("kind", margin.MODELS, ids=lambda k: k.__name__)
def test_margin_model_never_calls_an_unknown_market_healthy(kind):
    alice = account(example(kind), {"BTC-PERP": 1.0}, {"USDC": 1e9})
    assert alice.status is mc.Status.HEALTHY
    for spot in ({"ETH": 4_000.0, "USDC": 1.0}, {"BTC": math.nan, "ETH": 4_000.0, "USDC": 1.0}):
        state = market()
        alice.engine.update(mc.MarketState(now_ns=NOW, spot=spot, mark=state.mark, forward=state.forward,
                                           volatility=state.volatility))
        assert alice.status is mc.Status.UNKNOWN


@pytest.mark.parametrize("kind", margin.MODELS, ids=lambda k: k.__name__)
def test_margin_model_resolves_the_same_twice_and_for_fewer_contracts(kind):
    model = example(kind)
    first, second = model.resolve(CONTRACTS), model.resolve(CONTRACTS)
    assert [stage[:3] for stage in first.stages] == [stage[:3] for stage in second.stages]
    np.testing.assert_array_equal(first.offset_set, second.offset_set)
    assert model.resolve(mc.Contracts(FUTURES)).stages


@pytest.mark.parametrize("kind", addon.ADDONS, ids=lambda k: k.__name__)
def test_addon_is_an_amount_per_contract(kind):
    made = example(kind)
    columns = market().resolve(CONTRACTS)
    value = np.where(np.isfinite(columns.mark), columns.mark, 0.0) * CONTRACTS.multiplier
    amount = made.per_contract(CONTRACTS, columns, value)
    assert amount.shape == (len(CONTRACTS),) and amount.dtype == np.float64
    assert (amount >= 0.0).all() and (amount[:len(CONTRACTS.assets)] == 0.0).all()
    assert made.slot in ("floor short", "short charge", "closing charge")


@pytest.mark.parametrize("kind", addon.ADDONS, ids=lambda k: k.__name__)
def test_addon_that_certifies_is_convex_in_the_move(kind):
    from margincore.distance import CONVEX_ADDONS

    if kind not in CONVEX_ADDONS:
        pytest.skip("the liquidation price is not certified with it")
    made, now = example(kind), market().resolve(CONTRACTS)
    moves = np.linspace(-0.9, 4.0, 50)
    rows = []
    for move in moves:
        columns = moved(CONTRACTS, now, CONTRACTS.underlyings.index("BTC"), float(move))
        plan = mc.ScenarioMargin(scenarios=mc.grid(spot=[0.0])).resolve(CONTRACTS)
        value = plan.tick(columns).value
        rows.append(made.per_contract(CONTRACTS, columns, value))
    table = np.array(rows)
    bend = table[2:] - 2.0 * table[1:-1] + table[:-2]
    assert (bend >= -1e-12 * np.abs(table).max()).all()


@pytest.mark.parametrize("kind", collateral.RULES, ids=lambda k: k.__name__)
def test_collateral_rule_keeps_a_share(kind):
    assert 0.0 <= example(kind).kept <= 1.0


def test_an_addon_of_unknown_shape_is_not_certified():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        slot: str = "closing charge"

        def per_contract(self, contracts, columns, unit_value):
            return np.where(contracts.kind == 0, 0.0, 10.0 * np.sin(columns.spot[contracts.underlying]))

    model = mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.1, 0.1]), addons=[Odd()])
    answer = account(model, {"BTC-PERP": 1.0}, {"USDC": 30_000.0}).liquidation_price("BTC")
    assert answer.down is not None and not answer.certified
    assert "not certified" in str(answer)
