"""Shocks against their twin and published numbers; builders of scenarios; what they refuse."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import scenario as reference
from shared_data import shared

from margincore.contracts import Contracts, Option, Perpetual
from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import scenario
from margincore.scenarios import (
    KINDS,
    Scenarios,
    VolatilityRange,
    VolatilityShock,
    from_moves,
    grid,
    shock,
    sigma_grid,
)

BTC = Perpetual("BTC-PERP", underlying="BTC", settle="USDC")
ETH = Perpetual("ETH-PERP", underlying="ETH", settle="USDC")


def shocked(sigma, years, kinds, sizes, limits, minimum=0.0, days_floor=1.0, underlying=None):
    sigma = np.atleast_1d(np.asarray(sigma, float))
    rows = np.zeros(sigma.shape[0], np.int32) if underlying is None else underlying
    out = np.empty((sigma.shape[0], len(kinds)))
    scenario.volatility_shocks(sigma.reshape(sigma.shape[0], -1), np.broadcast_to(years, sigma.shape[:1]).copy(), rows,
                               np.array([KINDS.index(k) for k in kinds], np.int32), np.asarray(sizes, float),
                               np.atleast_2d(np.asarray(limits, float)), days_floor, minimum, out)
    return out


@settings(max_examples=150)
@given(sigma=st.floats(0.0, 5.0) | st.just(math.nan), days=st.floats(0.0, 2000.0), kind=st.sampled_from(KINDS),
       size=st.floats(-0.99, 3.0), up=st.floats(0.0, 1.0), down=st.floats(0.0, 1.0), short=st.floats(0.0, 1.0),
       long=st.floats(0.0, 1.0), floor=st.floats(0.0, 1.0), minimum=st.floats(0.0, 0.5),
       days_floor=st.floats(0.01, 5.0))
def test_shock_equals_its_twin(sigma, days, kind, size, up, down, short, long, floor, minimum, days_floor):
    size = abs(size) if kind in ("up", "down") else size
    got = shocked(sigma, days / 365.0, [kind], [size], [up, down, short, long, floor], minimum, days_floor)[0, 0]
    want = reference.shocked_volatility(sigma, days / 365.0, kind, size, up, down, short, long, floor, minimum,
                                        days_floor)
    # One power and four roundings; the down shock subtracts, so its error scales with sigma times the factor.
    scale = sigma * (1.0 + abs(size) * max(up, down) * reference.tenor_factor(days / 365.0, short, long, days_floor))
    assert (math.isnan(got) and math.isnan(want)) or abs(got - want) <= 4e-15 * scale + 1e-300


def test_unknown_volatility_never_becomes_the_floor():
    assert np.isnan(shocked(math.nan, 0.1, KINDS, [1.0, 1.0, 1.0, 0.5, 0.1], [0.5, 0.25, 0.3, 0.13, 0.5], 0.2)).all()


def test_published_volatility_shocks():
    book = json.loads(shared("vectors", "pm_building_blocks.json").read_text())
    for case in book["cases"]:
        if not case["id"].startswith("vol_shock"):
            continue
        given_, want = case["inputs"], case["expected"]
        limits = [given_["range_up"], given_["range_down"], given_["short_power"], given_["long_power"], 0.0]
        got = shocked(given_["vol"], given_["days"] / 365.0, ["up", "down"], [1.0, 1.0], limits)[0]
        assert got == pytest.approx([want["up"], want["down"]], rel=1e-14)
    limits[-1] = 0.95
    assert shocked(0.6, 180 / 365.0, ["up"], [1.0], limits)[0, 0] == 0.95  # the model's floor


def test_days_are_floored_and_thirty_days_belong_to_either_power():
    limits = [0.5, 0.25, 0.3, 0.13, 0.0]
    assert shocked(0.6, 0.0, ["up"], [1.0], limits) == shocked(0.6, 1.0 / 365.0, ["up"], [1.0], limits)
    assert shocked(0.6, 30.0 / 365.0, ["up"], [1.0], limits)[0, 0] == pytest.approx(0.9, rel=1e-15)


def test_down_shock_stops_at_zero():
    assert shocked(0.6, 1.0 / 365.0, ["down"], [1.0], [0.5, 0.9, 0.5, 0.13, 0.0])[0, 0] == 0.0


def test_one_volatility_per_node():
    got = shocked([[0.4, 0.5]], 0.1, ["same", "scale"], [0.0, 1.0], [0.5, 0.25, 0.3, 0.13, 0.0])
    assert got.tolist() == [[0.4, 1.0]]


def test_batch_is_one_by_one():
    random = np.random.default_rng(3)
    sigma, years = random.uniform(0.1, 2.0, 41), random.uniform(0.0, 2.0, 41)
    limits = [[0.5, 0.25, 0.3, 0.13, 0.5], [0.4, 0.2, 0.4, 0.1, 0.0]]
    rows = (np.arange(41) % 2).astype(np.int32)
    whole = shocked(sigma, years, KINDS, [1.0, 1.0, 1.0, 0.2, -0.1], limits, underlying=rows)
    for i in range(41):
        one = shocked(sigma[i], years[i], KINDS, [1.0, 1.0, 1.0, 0.2, -0.1], limits, underlying=rows[i:i + 1])
        assert one.tobytes() == whole[i].tobytes()


@pytest.mark.parametrize("change, error", [
    ({"years": np.zeros(2)}, ShapeError), ({"underlying": np.array([3], np.int32)}, RangeError),
    ({"kind": np.array([9], np.int32)}, RangeError), ({"size": np.zeros(2)}, ShapeError),
    ({"limits": np.zeros((1, 4))}, ShapeError), ({"days_floor": 0.0}, RangeError),
    ({"days_floor": math.nan}, RangeError),
    ({"minimum": -1.0}, RangeError), ({"out": np.zeros((1, 2))}, ShapeError),
    ({"sigma": np.zeros((1, 3))}, ShapeError)])
def test_kernel_refuses(change, error):
    arguments = {"sigma": np.full((1, 1), 0.5), "years": np.ones(1), "underlying": np.zeros(1, np.int32),
                 "kind": np.zeros(1, np.int32), "size": np.zeros(1), "limits": np.zeros((1, 5)), "days_floor": 1.0,
                 "minimum": 0.0, "out": np.zeros((1, 1))}
    with pytest.raises(error):
        scenario.volatility_shocks(**{**arguments, **change})


def test_grid_order_and_names():
    scenarios = grid(spot=[-0.16, 0.0, 0.16], tails=[(-0.66, 0.24), (5.0, "same", 0.032)])
    assert len(scenarios) == 11
    assert scenarios.names[0] == "spot -16 %, vol down"
    assert scenarios.names[4] == "spot same, vol same"
    assert scenarios.names[8] == "spot +16 %, vol up"
    assert scenarios.names[9] == "spot -66 %, vol up, 24 % counted"
    assert scenarios.spot_move[:4] == (-0.16, -0.16, -0.16, 0.0)
    assert scenarios.weight == (1.0,) * 9 + (0.24, 0.032)
    assert [item.kind for item in scenarios.volatility[9:]] == ["up", "same"]


def test_grid_by_underlying():
    scenarios = grid(spot={"BTC": [-0.1, 0.1], "ETH": [-0.2, 0.2]}, volatility=["same"], tails=[(1.0, 0.5)])
    plan = scenarios.resolve(Contracts([BTC, ETH]))
    names = plan.names
    assert names == ("step 1, vol same", "step 2, vol same", "spot +100 %, vol up, 50 % counted")
    assert plan.move[:, :3].tolist() == [[0.0, 0.0, 0.0], [-0.1, 0.1, 1.0], [-0.2, 0.2, 1.0]]
    with pytest.raises(MissingDataError, match="SOL"):
        scenarios.resolve(Contracts([BTC, Perpetual("S", underlying="SOL", settle="USDC")]))


def test_sigma_grid_equals_its_twin_and_stays_above_total_loss():
    scenarios = sigma_grid(spot=[-6, -2, 0, 2, 6], volatility=[-0.25, 0.0, 0.45], horizon_days=2.0,
                           sigma_annual={"BTC": 0.6, "*": 9.0})
    for name, sigma in (("BTC", 0.6), ("*", 9.0)):
        want = [reference.sigma_move(k, sigma, 2.0) for k in (-6, -2, 0, 2, 6) for _ in range(3)]
        assert np.allclose(scenarios.spot_move[name], want, rtol=1e-14, atol=1e-16)
        assert min(scenarios.spot_move[name]) > -1.0
    assert scenarios.names[:2] == ("spot -6 sigma, vol -25 %", "spot -6 sigma, vol same")


def test_plan_is_padded_with_scenarios_that_move_nothing():
    plan = grid(spot=[-0.1, 0.0, 0.1]).resolve(Contracts([BTC]))
    assert plan.width == 16 and len(plan) == 9
    assert not plan.move[:, 9:].any() and (plan.growth[:, 9:] == 1.0).all()
    assert plan.kind.tolist() == [2, 0, 1] and plan.node[:9].tolist() == [0, 1, 2] * 3
    assert not plan.move.flags.writeable


def test_moves_fall_on_every_underlying_when_shared():
    plan = from_moves(["down"], [-0.1]).resolve(Contracts([BTC, ETH]))
    assert plan.move[:, 0].tolist() == [-0.1, -0.1, -0.1]
    assert plan.moving.tolist() == [False, True, True]


def test_scenarios_are_plain_data():
    first = grid(spot={"BTC": [-0.1, 0.1]}, ranges={"BTC": VolatilityRange(up=0.4)})
    assert first == grid(spot={"BTC": [-0.1, 0.1]}, ranges={"BTC": VolatilityRange(up=0.4)})
    assert pickle.loads(pickle.dumps(first)) == first
    with pytest.raises(AttributeError):
        first.names = ()
    with pytest.raises(TypeError):
        first.spot_move["BTC"] = ()


def test_shocks_read_naturally():
    assert shock(0.0) == shock("same") == VolatilityShock()
    assert shock(-0.25) == VolatilityShock("scale", -0.25)
    assert [str(VolatilityShock(*s)) for s in (("up", 1.0), ("up", 0.5), ("scale", 0.45), ("add", 0.1))] == [
        "vol up", "vol up x 0.5", "vol +45 %", "vol +10 points"]


@pytest.mark.parametrize("call, error", [
    (lambda: grid(spot=[-1.0]), RangeError), (lambda: grid(spot=[math.nan]), NotFiniteError),
    (lambda: grid(spot=[math.inf]), NotFiniteError), (lambda: grid(spot="0.1"), RangeError),
    (lambda: grid(spot=[True]), RangeError), (lambda: grid(spot=[0.1], volatility=[]), RangeError),
    (lambda: grid(spot=[0.1], volatility=["sideways"]), RangeError), (lambda: grid(spot=[]), MarginError),
    (lambda: grid(spot=[0.1, 0.1]), RangeError), (lambda: grid(spot=[0.1], tails=[(0.2, -0.5)]), RangeError),
    (lambda: grid(spot={"A": [0.1], "B": [0.1, 0.2]}), ShapeError),
    (lambda: grid(spot=[0.1], smile="flat"), RangeError),
    (lambda: grid(spot=[0.1], days_floor=0.0), RangeError), (lambda: grid(spot=[0.1], volatility_min=-0.1), RangeError),
    (lambda: grid(spot=[0.1], ranges={"A": 3}), RangeError), (lambda: grid(spot=3), RangeError),
    (lambda: from_moves(["a", "b"], [0.1]), ShapeError), (lambda: from_moves("ab", [0.1, 0.2]), RangeError),
    (lambda: from_moves([], []), RangeError), (lambda: from_moves(["a"], [0.1], weight=[1.0, 1.0]), ShapeError),
    (lambda: VolatilityShock("up", -1.0), RangeError), (lambda: VolatilityShock("scale", -1.0), RangeError),
    (lambda: VolatilityShock("add", math.nan), NotFiniteError), (lambda: VolatilityRange(up=-0.1), RangeError),
    (lambda: sigma_grid(spot=[1.0], volatility=[0.0], horizon_days=0.0, sigma_annual={"A": 0.5}), RangeError),
    (lambda: sigma_grid(spot=[1.0], volatility=[0.0], horizon_days=1.0, sigma_annual={"A": -0.5}), RangeError),
    (lambda: sigma_grid(spot=[1.0], volatility=[0.0], horizon_days=1.0, sigma_annual={}), RangeError)])
def test_builders_refuse(call, error):
    with pytest.raises(error):
        call()


def test_option_ranges_follow_their_underlying():
    contracts = Contracts([BTC, Option("O", underlying="ETH", settle="USDC", strike=1.0, expiry_ns=1, right="call")])
    plan = grid(spot=[0.0], ranges={"ETH": VolatilityRange(up=0.4), "*": VolatilityRange(up=0.5)}).resolve(contracts)
    assert plan.limits[:, 0].tolist() == [0.5, 0.5, 0.4]
    assert isinstance(grid(spot=[0.0]), Scenarios)
