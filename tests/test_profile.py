"""Interpolated risk against full revaluation: within the reported bound, on cases the fit has not seen."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import profile as reference

from margincore.contracts import Contracts, Future, Option, Perpetual
from margincore.dynamics import ShockedSurface, SurfaceShock
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import profile
from margincore.market import MarketState
from margincore.revaluation import revalue
from margincore.risk_profile import chebyshev, coefficients_of, extrema, risk_profiles
from margincore.scenarios import VolatilityMoves, VolatilityShock, from_moves, grid
from margincore.surface import VolSurface
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-03-01T08:00")
DAYS = (1.0, 3.0, 7.0, 30.0, 90.0, 300.0)
SPOT = {"BTC": 60_000.0, "ETH": 3_000.0, "USDC": 0.999}


def option(at, random, underlying="BTC"):
    inverse = bool(random.integers(2))
    return Option(f"{underlying}{at}", underlying=underlying, settle=underlying if inverse else "USDC", inverse=inverse,
                  strike=float(SPOT[underlying] * math.exp(random.normal(0.0, 0.3))),
                  expiry_ns=NOW + int(random.choice(DAYS) * NS_PER_DAY), right=("put", "call")[int(random.integers(2))],
                  multiplier=float(random.choice([0.01, 1.0, 10.0])))


def surface(name):
    return VolSurface.ssvi([0.36 * days / 365.0 for days in DAYS], [NOW + int(days * NS_PER_DAY) for days in DAYS],
                           rho=-0.3, eta=1.0, gamma=0.4, time_ns=NOW, forward=np.full(len(DAYS), SPOT[name]),
                           spot=SPOT[name])


STATE = MarketState(now_ns=NOW, spot=SPOT, surface={"BTC": surface("BTC"), "ETH": surface("ETH")})
FUTURES = [Perpetual("LINEAR", underlying="BTC", settle="USDC"),
           Perpetual("INVERSE", underlying="ETH", settle="ETH", inverse=True, multiplier=10.0),
           Future("DATED", underlying="BTC", settle="USDC", expiry_ns=NOW + 30 * NS_PER_DAY)]


def book(random, count=12):
    return Contracts([*FUTURES, *(option(at, random, ("BTC", "ETH")[at % 2]) for at in range(count))])


def moves(random, count):
    return {name: np.clip(np.expm1(random.standard_t(3, count) * 0.04), -0.6, 1.0) for name in ("BTC", "*")}


def scenarios(random, kind, count=150):
    names, spot = [f"s{at}" for at in range(count)], moves(random, count)
    scale = [VolatilityShock("scale", float(size)) for size in np.expm1(random.normal(0.0, 0.2, count))]
    table = VolatilityMoves(moneyness=(-1.0, 0.0, 1.0), tenors_days=(7.0, 60.0),
                            log_ratio=random.normal(0.0, 0.15, (count, 2, 3)))
    if kind == "spot":
        return from_moves(names, spot)
    if kind == "scaled":
        return from_moves(names, spot, volatility=scale, weight=random.uniform(0.0, 1.0, count))
    if kind == "ranges":
        return from_moves(names, spot, volatility=random.choice(["up", "down", "same"], count).tolist())
    if kind == "points":
        return from_moves(names, spot, volatility=[VolatilityShock("add", float(size))
                                                   for size in random.uniform(-0.1, 0.2, count)], volatility_min=0.05)
    smile = "sticky_moneyness" if "moneyness" in kind else "sticky_strike"
    return from_moves(names, spot, smile=smile, volatility=scale if "scaled" in kind else [],
                      surface_move={"BTC": table} if "surface" in kind else {})


KINDS = ("spot", "scaled", "ranges", "points", "moneyness", "moneyness scaled", "surface strike",
         "surface moneyness scaled")


def compared(contracts, columns, profiles, plan, **options):
    """Difference of both tables in the settlement asset per contract, and the bound of every cell."""
    value, risk = revalue(contracts, columns, plan, **options)
    quick, fast = profiles.revalue(plan, **options)
    np.testing.assert_array_equal(quick, value)
    price = np.ones((len(contracts.underlyings), len(plan))) * columns.spot[:, None] * plan.weight[:len(plan)]
    if options.get("conversion") == "shocked":
        price = np.where(plan.moving[:, None], price * plan.growth[:, :len(plan)], price)
    return np.abs(risk - fast), profiles.bound[:, None] * price[contracts.settle] * (1.0 + 1e-12), risk


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conversion", ["current", "shocked"])
def test_risk_stays_within_the_bound(kind, conversion):
    random = np.random.default_rng(KINDS.index(kind))
    contracts = book(random, 24)
    columns = STATE.resolve(contracts)
    plan = scenarios(random, kind).resolve(contracts)
    profiles = risk_profiles(contracts, columns, plan)
    difference, bound, _ = compared(contracts, columns, profiles, plan, conversion=conversion)
    assert (difference <= bound).all()
    options = np.array([str(symbol).startswith(("BTC", "ETH")) and len(str(symbol)) > 3
                        for symbol in contracts.symbols])
    assert (profiles.nodes[options] > 0).mean() > 0.9 and not profiles.bound[~options].any()
    assert difference[~options].max() == 0.0
    # The tolerance is a share of the value of the underlying, 1e-5 unless another is asked for.
    forward = np.where(contracts.inverse == 1, 1.0, columns.forward)
    assert (profiles.bound <= 1e-5 * contracts.multiplier * np.where(options, forward, 1.0)).all()
    assert (profiles.bound >= profiles.error).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["scaled", "moneyness scaled", "surface moneyness scaled"]),
       tolerance=st.sampled_from([1e-3, 1e-4, 1e-5, 1e-6]))
def test_unseen_cases_stay_within_the_bound(seed, kind, tolerance):
    """Profiles of a range of moves, asked about scenarios they were not made from."""
    random = np.random.default_rng(seed)
    contracts = book(random)
    columns = STATE.resolve(contracts)
    wide = scenarios(random, kind, 40).resolve(contracts)
    profiles = risk_profiles(contracts, columns, wide, tolerance=tolerance, spot=(-0.65, 1.2), volatility=(-0.7, 2.5))
    plan = scenarios(random, kind, 120).resolve(contracts)
    difference, bound, _ = compared(contracts, columns, profiles, plan)
    assert (difference <= bound).all()


def test_a_profile_equals_its_twin():
    contracts = Contracts([Option("C", underlying="BTC", settle="USDC", strike=66_000.0, multiplier=0.1,
                                  expiry_ns=NOW + 20 * NS_PER_DAY, right="call"),
                           Option("P", underlying="BTC", settle="BTC", inverse=True, strike=50_000.0,
                                  expiry_ns=NOW + 20 * NS_PER_DAY, right="put")])
    market = MarketState(now_ns=NOW, spot=SPOT, volatility={"C": 0.5, "P": 0.7}, rate={"USDC": 0.05})
    columns = market.resolve(contracts)
    spot, size = np.linspace(-0.4, 0.4, 30), np.linspace(-0.3, 0.6, 30)[::-1]
    plan = from_moves([f"s{at}" for at in range(30)], spot,
                      volatility=[VolatilityShock("scale", float(s)) for s in size]).resolve(contracts)
    profiles = risk_profiles(contracts, columns, plan, tolerance=1e-4)
    _, risk = profiles.revalue(plan)
    for block in profiles.blocks:
        for place, row in enumerate(block.rows):
            item = contracts.derivatives[row - len(contracts.assets)]
            known = {"forward": columns.forward[row], "strike": item.strike, "years": columns.years[row],
                     "sigma_now": columns.sigma[row], "discount": columns.discount[row], "is_call": item.right == 1,
                     "inverse": item.inverse, "multiplier": item.multiplier}
            for s in range(30):
                want = reference.interpolated(math.log1p(spot[s]), math.log1p(size[s]), block.edges[place],
                                              block.volatility[place], block.coefficient.shape[2],
                                              lambda _, row=row: columns.sigma[row], **known)
                price = columns.spot[contracts.settle[row]]
                # Two forms of one polynomial, and nodes that are rounded to twelve digits.
                assert risk[row, s] == pytest.approx(want * price, rel=1e-9, abs=1e-9 * 60_000.0 * item.multiplier)


def test_nodes_and_matrices():
    assert chebyshev(1) == extrema(1) == [0.0] and coefficients_of([0.0]).tolist() == [[1.0]]
    for count in (4, 5, 6, 9, 13):
        nodes = chebyshev(count)
        vandermonde = np.vander(nodes, increasing=True)
        assert coefficients_of(nodes) @ vandermonde == pytest.approx(np.eye(count), abs=1e-8)
        polynomial = np.poly(nodes)
        ends = np.abs(np.polyval(polynomial, extrema(count)))
        dense = np.abs(np.polyval(polynomial, np.linspace(-1.0, 1.0, 2001))).max()
        assert ends.max() == pytest.approx(dense, rel=1e-9)
        assert ends.min() == pytest.approx(dense, rel=1e-9)


def test_a_grid_of_volatilities_may_bend():
    """The spline of a grid is straight beyond its outer strikes: the worst smile that a surface can have."""
    for seed in range(8):
        random = np.random.default_rng(seed)
        strikes = SPOT["BTC"] * np.exp(np.linspace(-0.5, 0.5, int(random.integers(5, 14))))
        rough = 0.6 * (1.0 + random.normal(0.0, 0.02, (len(DAYS), strikes.size)))
        smile = VolSurface.grid(strikes, [NOW + int(days * NS_PER_DAY) for days in DAYS], rough, time_ns=NOW,
                                forward=np.full(len(DAYS), SPOT["BTC"]), spot=SPOT["BTC"])
        contracts = Contracts([option(at, random) for at in range(8)])
        columns = MarketState(now_ns=NOW, spot=SPOT, surface={"BTC": smile}).resolve(contracts)
        wide = scenarios(random, "moneyness scaled", 40).resolve(contracts)
        profiles = risk_profiles(contracts, columns, wide, tolerance=1e-4, spot=(-0.65, 1.2), volatility=(-0.7, 2.5))
        plan = scenarios(random, "moneyness scaled", 400).resolve(contracts)
        difference, bound, _ = compared(contracts, columns, profiles, plan)
        assert (difference <= bound).all()


def test_the_report_is_by_symbol():
    contracts = book(np.random.default_rng(9))
    columns = STATE.resolve(contracts)
    profiles = risk_profiles(contracts, columns, scenarios(np.random.default_rng(9), "scaled").resolve(contracts))
    found = profiles.report()
    assert set(found) == {item.symbol for item in contracts.derivatives if isinstance(item, Option)}
    for symbol, (nodes, error, bound) in found.items():
        at = contracts.column[symbol]
        assert (nodes, error, bound) == (profiles.nodes[at], profiles.error[at], profiles.bound[at])
        assert bound >= 2.0 * error


def test_finer_tolerance_finer_bound():
    contracts = book(np.random.default_rng(9))
    columns = STATE.resolve(contracts)
    plan = scenarios(np.random.default_rng(9), "scaled").resolve(contracts)
    bounds = [risk_profiles(contracts, columns, plan, tolerance=t).bound for t in (1e-4, 1e-6)]
    assert bounds[1].max() < bounds[0].max()


def test_what_cannot_be_interpolated_is_revalued_in_full():
    expiring = [Option(f"E{at}", underlying="BTC", settle="USDC", strike=strike, expiry_ns=NOW + int(NS_PER_DAY * day),
                       right="call") for at, (strike, day) in enumerate([(60_000.0, 0.0), (61_000.0, 0.001)])]
    unknown = Option("U", underlying="BTC", settle="USDC", strike=60_000.0, expiry_ns=NOW + NS_PER_DAY, right="put")
    plain = Option("BTC7", underlying="BTC", settle="USDC", strike=62_000.0, expiry_ns=NOW + 30 * NS_PER_DAY,
                   right="call")
    contracts = Contracts([*expiring, unknown, plain])
    columns = MarketState(now_ns=NOW, spot=SPOT, volatility={"E1": 0.5, "BTC7": 0.5}).resolve(contracts)
    plan = scenarios(np.random.default_rng(1), "scaled").resolve(contracts)
    profiles = risk_profiles(contracts, columns, plan, tolerance=1e-13)
    assert not profiles.nodes.any() and not profiles.bound.any()
    value, risk = revalue(contracts, columns, plan)
    quick, fast = profiles.revalue(plan)
    np.testing.assert_array_equal(value, quick)
    np.testing.assert_array_equal(risk, fast)
    usual = risk_profiles(contracts, columns, plan)
    difference, bound, whole = compared(contracts, columns, usual, plan)
    known = contracts.column["BTC7"]
    assert usual.nodes[known] > 0 and (difference[known] <= bound[known]).all()
    assert np.isnan(whole[contracts.column["U"]]).all() and np.isnan(difference[contracts.column["U"]]).all()
    lines = from_moves(["a", "b"], [-0.1, 0.1], smile="sticky_moneyness").resolve(contracts)
    assert not risk_profiles(contracts, columns, lines).nodes.any()  # quotes joined by lines have kinks
    floored = ShockedSurface(surface("BTC"), SurfaceShock(relative=-0.2, floor=0.5))  # its floor is a kink
    seen = MarketState(now_ns=NOW, spot=SPOT, surface={"BTC": floored}).resolve(contracts)
    assert not risk_profiles(contracts, seen, lines).nodes.any()
    both = from_moves(["a", "b"], [-0.1, 0.1], smile="sticky_moneyness", volatility=["up", "down"])
    listed = book(np.random.default_rng(1))
    assert not risk_profiles(listed, STATE.resolve(listed), both.resolve(listed)).nodes.any()


def test_balances_and_shocked_assets_are_those_of_revaluation():
    contracts = book(np.random.default_rng(2), 4)
    columns = STATE.resolve(contracts)
    plan = scenarios(np.random.default_rng(2), "scaled").resolve(contracts)
    profiles = risk_profiles(contracts, columns, plan)
    out = np.empty(len(contracts)), np.empty((len(contracts), len(plan)))
    value, risk = profiles.revalue(plan, conversion="shocked", shocked_assets=["ETH"], out=out)
    assert value is out[0] and risk is out[1]
    _, full = revalue(contracts, columns, plan, conversion="shocked", shocked_assets=["ETH"])
    np.testing.assert_array_equal(risk[:len(contracts.assets)], full[:len(contracts.assets)])


def test_one_option_alone_has_the_same_bits():
    contracts = book(np.random.default_rng(5))
    columns = STATE.resolve(contracts)
    chosen = scenarios(np.random.default_rng(5), "scaled")
    plan = chosen.resolve(contracts)
    _, risk = risk_profiles(contracts, columns, plan).revalue(plan)
    for item in contracts.derivatives[3:9]:
        alone = Contracts([item])
        own = chosen.resolve(alone)
        _, single = risk_profiles(alone, STATE.resolve(alone), own).revalue(own)
        assert single[alone.column[item.symbol]].tobytes() == risk[contracts.column[item.symbol]].tobytes()


def test_order_of_scenarios_does_not_matter():
    contracts = book(np.random.default_rng(6))
    columns = STATE.resolve(contracts)
    chosen = scenarios(np.random.default_rng(6), "surface moneyness scaled")
    order = np.random.default_rng(6).permutation(len(chosen))
    plan, shuffled = chosen.resolve(contracts), chosen.take(order).resolve(contracts)
    profiles = risk_profiles(contracts, columns, plan)
    first, second = profiles.revalue(plan)[1], profiles.revalue(shuffled)[1]
    assert second.tobytes() == np.ascontiguousarray(first[:, order]).tobytes()


def test_what_profiles_refuse():
    contracts = book(np.random.default_rng(8))
    columns = STATE.resolve(contracts)
    plan = scenarios(np.random.default_rng(8), "scaled").resolve(contracts)
    profiles = risk_profiles(contracts, columns, plan)
    wider = from_moves(["a"], [-0.9]).resolve(contracts)
    sticky = from_moves(["a"], [-0.1], smile="sticky_moneyness").resolve(contracts)
    other = from_moves(["a"], [-0.1]).resolve(Contracts([FUTURES[0]]))
    calls = [
        (lambda: profiles.revalue(wider), RangeError, "stay within the profiles"),
        (lambda: profiles.revalue(from_moves(["a"], [0.0], volatility=[9.0]).resolve(contracts)), RangeError,
         "volatility moves"),
        (lambda: profiles.revalue(sticky), RangeError, "smile rule"),
        (lambda: profiles.revalue(other), ShapeError, "same contracts"),
        (lambda: profiles.revalue(plan, conversion="later"), RangeError, "conversion"),
        (lambda: risk_profiles(contracts, columns, plan, tolerance=0.0), RangeError, "tolerance"),
        (lambda: risk_profiles(Contracts([FUTURES[0]]), columns, plan), ShapeError, "of these"),
        (lambda: risk_profiles(contracts, columns, plan, tolerance=math.nan), NotFiniteError, "tolerance"),
        (lambda: risk_profiles(contracts, columns, plan, spot=(0.5, -0.5)), RangeError, "spot"),
        (lambda: risk_profiles(contracts, columns, plan, volatility=(-1.0, 1.0)), RangeError, "volatility"),
    ]
    for call, kind, message in calls:
        with pytest.raises(kind, match=message):
            call()


def test_kernel_refuses():
    fit = {"terms": np.ones((1, 7)), "edges": np.array([[-1.0, 1.0]]), "sigma": np.ones((1, 1, 4)),
           "check_sigma": np.ones((1, 1, 5)), "points": np.zeros(4), "check_points": np.zeros(5),
           "stretch": np.ones((1, 1)), "check_stretch": np.ones((1, 1)), "level": np.zeros(1), "across": np.eye(4),
           "along": np.eye(1), "coefficient": np.empty((1, 1, 1, 4)), "error": np.empty(1)}
    profile.fit(**fit)
    for name, value in (("terms", np.ones((1, 6))), ("edges", np.ones((2, 2))), ("sigma", np.ones((1, 1, 3))),
                        ("points", np.zeros(3)), ("level", np.zeros(2)), ("along", np.eye(2)),
                        ("coefficient", np.empty((1, 1, 2, 4))), ("error", np.empty(2)), ("stretch", np.ones((1, 14)))):
        with pytest.raises(MarginError):
            profile.fit(**{**fit, name: value})
    run = {"row": np.zeros(1, np.int64), "edges": np.array([[-1.0, 1.0]]), "coefficient": np.ones((1, 1, 1, 4)),
           "y": np.zeros(3), "z": np.zeros((1, 3)), "centre": np.zeros(1), "inverse_reach": np.zeros(1),
           "rank": np.arange(3), "settle": np.zeros(1, np.int32), "conversion": np.ones((1, 3)),
           "out": np.empty((1, 3))}
    profile.evaluate(**run)
    assert run["out"].tolist() == [[1.0, 1.0, 1.0]]
    for name, value in (("row", np.ones(1, np.int64)), ("edges", np.ones((1, 3))), ("y", np.zeros(2)),
                        ("z", np.zeros((2, 3))), ("rank", np.full(3, 3)), ("settle", np.full(1, -1, np.int32)),
                        ("conversion", np.ones((1, 2))), ("out", np.empty((1, 2))),
                        ("centre", np.zeros(2))):
        with pytest.raises(MarginError):
            profile.evaluate(**{**run, name: value})
    empty = {**run, "rank": np.empty(0, np.int64), "y": np.empty(0), "z": np.empty((1, 0)), "out": np.empty((1, 0))}
    profile.evaluate(**empty)


def test_a_grid_of_moves_is_a_history_too():
    contracts = book(np.random.default_rng(4))
    columns = STATE.resolve(contracts)
    plan = grid(spot=np.linspace(-0.3, 0.3, 13), volatility=[-0.25, 0.0, 0.5]).resolve(contracts)
    difference, bound, _ = compared(contracts, columns, risk_profiles(contracts, columns, plan), plan)
    assert (difference <= bound).all()
