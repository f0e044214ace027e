"""Revaluation against its twin, closed forms and published matrices; bits; unknown inputs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import reval as reference
from reference import scenario as shocks
from shared_data import shared

from margincore.contracts import Contracts, Future, Option, Perpetual
from margincore.errors import MarginError, RangeError, ShapeError
from margincore.kernels import reval
from margincore.market import MarketState
from margincore.revaluation import moved, revalue, shocked_volatilities
from margincore.scenarios import VolatilityRange, VolatilityShock, from_moves, grid
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-03-01T08:00")
YEAR = 365 * NS_PER_DAY


def option(symbol, *, strike, days, right="call", inverse=False, multiplier=1.0):
    return Option(symbol, underlying="BTC", settle="BTC" if inverse else "USDC", strike=strike, inverse=inverse,
                  expiry_ns=NOW + int(days * NS_PER_DAY), right=right, multiplier=multiplier)


def chain(random, count):
    return [option(f"O{i}", strike=float(random.uniform(2e4, 3e5)), days=float(random.uniform(0.05, 700.0)),
                   right=("put", "call")[int(random.integers(2))], inverse=bool(random.integers(2)),
                   multiplier=float(random.uniform(0.01, 10.0))) for i in range(count)]


FUTURES = [Perpetual("LINEAR", underlying="BTC", settle="USDC", multiplier=0.001),
           Perpetual("INVERSE", underlying="BTC", settle="BTC", inverse=True, multiplier=10.0),
           Future("DATED", underlying="BTC", settle="USDC", expiry_ns=NOW + 30 * NS_PER_DAY, multiplier=0.5)]


def market(contracts, **changes):
    random = np.random.default_rng(7)
    values = {"now_ns": NOW, "spot": {"BTC": 97_000.0, "USDC": 0.999}, "rate": {"USDC": 0.04}, "volatility": {
        item.symbol: float(random.uniform(0.2, 1.5)) for item in contracts.derivatives if isinstance(item, Option)}}
    return MarketState(**{**values, **changes})


GRID = grid(spot=np.linspace(-0.16, 0.16, 5), tails=[(-0.66, 0.24), (5.0, 0.03)], ranges=VolatilityRange(floor=0.5))


@pytest.mark.parametrize("conversion", ["current", "shocked"])
def test_whole_table_equals_its_twin(conversion):
    contracts = Contracts(FUTURES + chain(np.random.default_rng(1), 40))
    columns = market(contracts).resolve(contracts)
    plan = GRID.resolve(contracts)
    value, risk = revalue(contracts, columns, plan, conversion=conversion)
    usdc = contracts.column["USDC"]
    for at, item in enumerate(contracts.derivatives, start=2):
        kind = "option" if isinstance(item, Option) else "future"
        assert value[at] == pytest.approx(
            reference.unit_value(kind, item.multiplier, columns.mark[at], item.inverse), rel=1e-15)
        for s, move in enumerate(GRID.spot_move):
            known = {}
            if kind == "option":
                sigma = columns.sigma[at]
                known = {"forward": columns.forward[at], "strike": item.strike, "years": columns.years[at],
                         "sigma": sigma, "discount": columns.discount[at], "is_call": item.right == 1,
                         "shocked_sigma": shocks.shocked_volatility(
                             sigma, columns.years[at], GRID.volatility[s].kind, 1.0, 0.5, 0.25, 0.3, 0.13, 0.5)}
            profit = reference.unit_profit(kind, item.multiplier, columns.mark[at], item.inverse, move, **known)
            inverse = contracts.settle[at] != usdc
            factor = reference.conversion(97_000.0 if inverse else 0.999, move if inverse else 0.0, GRID.weight[s],
                                          conversion == "shocked")
            # Errors of the twin's erfc and of the cancellation in its inverse difference, relative to the notional.
            notional = item.multiplier * 97_000.0 * (1.0 if kind == "option" or not item.inverse else 1e-5)
            assert risk[at, s] == pytest.approx(profit * factor, rel=1e-12, abs=1e-14 * notional * (1.0 + abs(move)))


@settings(max_examples=200)
@given(forward=st.floats(1e-3, 1e7), moneyness=st.floats(-3.0, 3.0), days=st.floats(0.0, 3000.0),
       sigma=st.floats(0.0, 5.0), is_call=st.booleans(), inverse=st.booleans())
def test_option_mark_equals_its_twin(forward, moneyness, days, sigma, is_call, inverse):
    item = Option("O", underlying="A", settle="A" if inverse else "B", strike=forward * math.exp(moneyness),
                  expiry_ns=1, right="call" if is_call else "put", inverse=inverse)
    contracts = Contracts([item])
    at = contracts.column["O"]
    fill = {"forward": forward, "years": days / 365.0, "sigma": sigma, "discount": 0.97}
    out = np.zeros(len(contracts))
    reval.option_marks(contracts, *(np.full(len(contracts), v) for v in fill.values()), out)
    want = reference.option_value(forward, item.strike, days / 365.0, sigma, 0.97, is_call, inverse)
    rounding = 4e-15 * max(forward, item.strike) / (forward if inverse else 1.0)
    assert out[at] == pytest.approx(want, rel=1e-11, abs=rounding)
    assert out[at] >= 0.0


def marks(forward, strike, deviation, is_call):
    contracts = Contracts([Option(f"O{i}", underlying="A", settle="B", strike=float(k), expiry_ns=1,
                                  right="call" if call else "put")
                           for i, (k, call) in enumerate(zip(strike, is_call, strict=True))])
    first = len(contracts.assets)
    columns = [np.concatenate([np.ones(first), values]) for values in (forward, np.ones(len(strike)), deviation)]
    out = np.zeros(len(contracts))
    reval.option_marks(contracts, *columns, np.ones(len(contracts)), out)
    return out[first:]


def test_marks_are_within_their_bound_of_the_exact_value():
    random = np.random.default_rng(12)
    size = 3000
    forward = np.exp(random.uniform(-3.0, 3.0, size))
    deviation = np.exp(random.uniform(math.log(1e-4), math.log(20.0), size))
    strike = forward * np.exp(-random.uniform(-10.0, 10.0, size) * deviation * random.choice([0.01, 0.2, 1.0], size))
    is_call = random.integers(0, 2, size).astype(bool)
    values = marks(forward, strike, deviation, is_call)
    with mp.workdps(40):
        for value, f, k, v, call in zip(values.tolist(), forward.tolist(), strike.tolist(), deviation.tolist(), is_call,
                                        strict=True):
            side = 1 if call else -1
            d1 = mp.log(mp.mpf(f) / k) / v + mp.mpf(v) / 2
            exact = side * (f * mp.ncdf(side * d1) - k * mp.ncdf(side * (d1 - v)))
            assert abs(value - exact) <= 1e-15 * max(f, k)  # half of what is promised


@pytest.mark.parametrize("is_call", [True, False])
def test_marks_at_the_ends_of_what_floats_hold(is_call):
    side = 1.0 if is_call else -1.0
    forward = np.array([1.0, 1.0, 1.0, 1e300, 1e-300, 1.0, 1.0, 1.0])
    strike = np.array([1.0, 1.5, 0.5, 1e-300, 1e300, 1.0 + 2.0**-52, 1.0, 1.5])
    deviation = np.array([0.0, 0.0, 1e-300, 1e-200, 1e-200, 1e-18, 1e308, np.nan])
    intrinsic = np.maximum(side * (forward - strike), 0.0)
    intrinsic[6], intrinsic[7] = 1.0, np.nan
    most = np.maximum(forward, strike)
    values = marks(forward, strike, deviation, np.full(8, is_call))
    np.testing.assert_allclose(values / most, intrinsic / most, rtol=2e-15, atol=1e-18)


def test_no_shock_earns_exactly_nothing():
    contracts = Contracts(FUTURES + chain(np.random.default_rng(2), 200))
    _, risk = revalue(contracts, market(contracts).resolve(contracts), from_moves(["none"], [0.0]).resolve(contracts))
    assert not risk.any()


def test_inverse_future_is_exact_and_not_linear():
    contracts = Contracts(FUTURES[1:2])
    columns = MarketState(now_ns=NOW, spot={"BTC": 50_000.0}).resolve(contracts)
    value, risk = revalue(contracts, columns, from_moves(["half", "double"], [-0.5, 1.0]).resolve(contracts))
    assert value[1] == -10.0 / 50_000.0
    assert risk[1].tolist() == [-10.0, 5.0]  # q coin at mark earns q (1 - 1 / (1 + s)) coin: -q and +q/2


def test_published_inverse_risk_matrix():
    case = json.loads(shared("vectors", "deribit_pme_simulate.json").read_text())["cases"][0]
    given_, want = case["inputs"], case["expected"]
    reach = given_["params"]["btc_usd"]["price_range"]
    names = {"BTC-PERPETUAL": "perp", "BTC-28JUN24": "fut"}
    contracts = Contracts([Perpetual(name, underlying="BTC", settle="BTC", inverse=True) for name in names])
    spot = given_["index_price"]
    state = MarketState(now_ns=NOW, spot={"BTC": spot}, mark=given_["mark_prices"])
    moves = [-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0]
    standard = grid(spot=[reach * (i - 4) / 4 for i in range(9)])
    tails = from_moves([f"{m:+.0%}" for m in moves], moves, weight=[reach / abs(m) for m in moves])
    for name, short in names.items():
        at = contracts.column[name]
        face = given_["positions_base_ccy"][name] * given_["mark_prices"][name]  # quote currency
        columns = state.resolve(contracts)
        _, risk = revalue(contracts, columns, standard.resolve(contracts))
        assert face * risk[at] / spot == pytest.approx(want[f"{short}_initial_standard"], rel=1e-9, abs=1e-12)
        _, risk = revalue(contracts, columns, tails.resolve(contracts), conversion="shocked")
        edge = [spot * (1.0 + math.copysign(reach, m)) for m in moves]
        assert face * risk[at] / edge == pytest.approx(want[f"{short}_initial_extended"], rel=1e-9)


def test_published_futures_profile():
    case = json.loads(shared("vectors", "pm_building_blocks.json").read_text())["cases"][0]
    given_, want = case["inputs"], case["expected"]
    contracts = Contracts([Future("F", underlying="ETH", settle="USD", expiry_ns=NOW + 20 * NS_PER_DAY)])
    forward = given_["index"] * (1.0 + given_["basis_rate"] * given_["days"] / 365.0)
    columns = MarketState(now_ns=NOW, spot={"ETH": given_["index"], "USD": 1.0}, mark={"F": forward}).resolve(contracts)
    plan = grid(spot=[0.03 * (k - 5) for k in range(11)], volatility=["same"]).resolve(contracts)
    _, risk = revalue(contracts, columns, plan)
    assert given_["qty"] * risk[1] == pytest.approx(want["pnl"], abs=0.5)


def test_published_scan_arrays():
    book = json.loads(shared("vectors", "span_risk_arrays.json").read_text())
    case = book["cases"][0]
    leg, reach = case["inputs"]["legs"][0], case["inputs"]["psr"]
    thirds = [0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3]
    spot, points = 410.0, [k / 3 * 20.0 for k in thirds] + [40.0, -40.0]  # a range of 20 points of 500 each
    scenarios = from_moves(book["parameters"]["scenario_order"], [p / spot for p in points],
                           weight=[1.0] * 14 + [0.35] * 2)
    contracts = Contracts([Future("F", underlying="SPX", settle="USD", multiplier=500.0, expiry_ns=NOW + YEAR)])
    columns = MarketState(now_ns=NOW, spot={"SPX": spot, "USD": 1.0}).resolve(contracts)
    _, risk = revalue(contracts, columns, scenarios.resolve(contracts))
    # The book rounds a third of 10,000 to tens.
    assert leg["qty"] * risk[1] == pytest.approx(leg["array"], abs=5.0)
    assert -risk[1].min() == pytest.approx(reach)


def test_bits_alone_in_batch_and_in_any_split():
    random = np.random.default_rng(5)
    items = FUTURES + chain(random, 61)
    contracts = Contracts(items)
    state = market(contracts)
    columns, plan = state.resolve(contracts), GRID.resolve(contracts)
    value, risk = revalue(contracts, columns, plan)
    price = columns.spot[:, None] * plan.weight
    sigma = shocked_volatilities(contracts, columns, plan)
    for cuts in ([2, 3, 4, 40, 66], [2, 31, 66]):
        one, two = np.empty_like(value), np.empty_like(risk)
        one[:2], two[:2] = value[:2], risk[:2]
        for first, last in zip(cuts, cuts[1:], strict=False):
            reval.unit_values(contracts, columns, plan, sigma, price, first, last, one, two)
        assert one.tobytes() == value.tobytes() and two.tobytes() == risk.tobytes()
    order = [items[i] for i in random.permutation(len(items))]
    other = Contracts(order, assets=contracts.assets)
    _, shuffled = revalue(other, state.resolve(other), GRID.resolve(other))
    for item in items:
        alone = Contracts([item], assets=contracts.assets)
        _, single = revalue(alone, state.resolve(alone), GRID.resolve(alone))
        want = risk[contracts.column[item.symbol]].tobytes()
        assert single[alone.column[item.symbol]].tobytes() == want
        assert shuffled[other.column[item.symbol]].tobytes() == want


def test_each_scenario_has_the_bits_it_has_alone():
    contracts = Contracts(chain(np.random.default_rng(6), 20))
    columns = market(contracts).resolve(contracts)
    _, risk = revalue(contracts, columns, GRID.resolve(contracts))
    for s in range(len(GRID)):
        one = from_moves([GRID.names[s]], GRID.spot_move[s:s + 1], volatility=GRID.volatility[s:s + 1],
                         weight=GRID.weight[s:s + 1], ranges=GRID.ranges)
        _, single = revalue(contracts, columns, one.resolve(contracts))
        assert single[:, 0].tobytes() == risk[:, s].tobytes()


@pytest.mark.parametrize("change", ["mark", "spot", "settle", "sigma"])
def test_unknown_inputs_make_the_row_unknown(change):
    contracts = Contracts([*FUTURES, option("O", strike=1e5, days=30.0),
                           option("I", strike=1e5, days=30.0, inverse=True)])
    marks = {item.symbol: 100.0 for item in contracts.derivatives}
    if change == "mark":
        marks = dict.fromkeys(marks)
    if change == "sigma":  # marks of zero: none to imply one from
        marks.update(O=0.0, I=0.0)
    spot = {"BTC": None if change == "spot" else 1e5, "USDC": 0.0 if change == "settle" else 1.0}
    state = MarketState(now_ns=NOW, spot=spot, mark=marks, volatility={} if change == "sigma" else {"O": 0.5, "I": 0.5})
    _, risk = revalue(contracts, state.resolve(contracts), GRID.resolve(contracts))
    rows = {"mark": contracts.symbols[2:], "spot": contracts.symbols[2:], "settle": ("LINEAR", "DATED", "O"),
            "sigma": ("O", "I")}[change]
    unknown = np.isnan(risk).all(axis=1)
    assert {contracts.symbols[i] for i in np.flatnonzero(unknown)} == set(rows)
    assert np.isfinite(risk[~unknown]).all()


def test_balances_move_only_when_the_model_says_so():
    contracts = Contracts(FUTURES, assets=["ETH"])
    columns = market(contracts, spot={"BTC": 1e5, "USDC": 1.0, "ETH": 4e3}).resolve(contracts)
    plan = from_moves(["a", "b"], [-0.1, 0.2], weight=[1.0, 0.5]).resolve(contracts)
    value, risk = revalue(contracts, columns, plan)
    assert not risk[:3].any() and value[:3].tolist() == [1.0, 1.0, 1.0]
    _, risk = revalue(contracts, columns, plan, shocked_assets=["BTC", "ETH"])
    assert risk[contracts.column["BTC"]] == pytest.approx([-1e4, 1e4])
    assert risk[contracts.column["ETH"]] == pytest.approx([-400.0, 400.0])
    assert not risk[contracts.column["USDC"]].any()
    mask = np.array([name == "ETH" for name in contracts.assets])
    assert revalue(contracts, columns, plan, shocked_assets=mask)[1][contracts.column["ETH"]].any()


def test_sticky_moneyness_reads_the_smile_further_along():
    class Skew:
        def vol(self, strikes, expiries_ns):
            return 0.5 + 1e-6 * np.asarray(strikes)

    contracts = Contracts([option("O", strike=1e5, days=30.0)])
    sticky = from_moves(["down"], [-0.2], smile="sticky_moneyness").resolve(contracts)
    still = from_moves(["down"], [-0.2], volatility=[VolatilityShock("add", 0.025)]).resolve(contracts)
    columns = MarketState(now_ns=NOW, spot={"BTC": 1e5, "USDC": 1.0}, surface={"BTC": Skew()}).resolve(contracts)
    assert columns.sigma[1] == pytest.approx(0.6)
    assert shocked_volatilities(contracts, columns, sticky)[1, 0] == pytest.approx(0.625)  # read at 125,000
    assert revalue(contracts, columns, sticky)[1][1] == pytest.approx(revalue(contracts, columns, still)[1][1])
    after = moved(contracts, columns, contracts.underlyings.index("BTC"), -0.2, smile="sticky_moneyness")
    assert after.sigma[1] == pytest.approx(0.625)


def test_sticky_moneyness_falls_back_on_the_quoted_smile():
    contracts = Contracts([option(f"{k}{r}", strike=k, days=30.0, right=r)
                           for k in (8e4, 1e5, 1.2e5) for r in ("call", "put")])
    vols = {"80000.0call": 0.7, "80000.0put": 0.8, "100000.0call": 0.5, "100000.0put": 0.5, "120000.0call": 0.6}
    columns = MarketState(now_ns=NOW, spot={"BTC": 1e5, "USDC": 1.0}, volatility=vols).resolve(contracts)
    plan = from_moves(["up", "no"], [0.25, 0.0], smile="sticky_moneyness").resolve(contracts)
    sigma = shocked_volatilities(contracts, columns, plan)
    at = contracts.column["100000.0call"]
    assert sigma[at] == pytest.approx([0.75, 0.5])  # read at 80,000, the mean of call and put
    assert sigma[contracts.column["80000.0call"]] == pytest.approx([0.7, 0.7])  # flat beyond the quotes
    assert np.isnan(sigma[contracts.column["120000.0put"]]).all()


def test_moved_market_keeps_the_basis_and_moves_what_it_should():
    contracts = Contracts([*FUTURES, option("O", strike=1e5, days=30.0),
                           option("I", strike=1e5, days=30.0, inverse=True)])
    state = market(contracts, spot={"BTC": 1e5, "USDC": 1.0})
    columns = state.resolve(contracts)
    lifted = columns.replaced(mark=columns.mark + np.where(contracts.kind == 3, 0.01, 0.0))
    after = moved(contracts, lifted, None, 0.1)
    direct = market(contracts, spot={"BTC": 1.1e5, "USDC": 1.0}, volatility=dict(state.volatility)).resolve(contracts)
    assert after.spot == pytest.approx(direct.spot)
    assert after.forward == pytest.approx(direct.forward)
    assert after.mark[2:5] == pytest.approx(direct.mark[2:5])
    assert after.mark[5:] == pytest.approx(direct.mark[5:] + 0.01)
    assert moved(contracts, lifted, 0, 0.1).mark[2:].tobytes() == lifted.mark[2:].tobytes()  # USDC alone
    sunk = moved(contracts, columns.replaced(mark=columns.mark * 0.001), None, -0.9)
    assert (sunk.mark[5:] == 0.0).all()


def test_moved_market_agrees_with_the_risk_table():
    contracts = Contracts(FUTURES + chain(np.random.default_rng(8), 30))
    columns = market(contracts).resolve(contracts)
    plan = from_moves(["down", "up"], [-0.3, 0.4]).resolve(contracts)
    value, risk = revalue(contracts, columns, plan)
    for s, move in enumerate((-0.3, 0.4)):
        after, _ = revalue(contracts, moved(contracts, columns, None, move), plan)
        profit = (after - value)[2:] * columns.spot[contracts.settle[2:]]
        assert risk[2:, s] == pytest.approx(profit, rel=1e-9, abs=1e-6)


def test_volatilities_that_nothing_moves_are_those_of_the_market():
    contracts = Contracts(chain(np.random.default_rng(9), 5))
    columns = market(contracts).resolve(contracts)
    same = from_moves(["down", "up"], [-0.1, 0.1], volatility_min=9.0).resolve(contracts)
    assert not same.shocks
    assert shocked_volatilities(contracts, columns, same).tobytes() == columns.sigma.tobytes()
    still = from_moves(["down"], [-0.1], volatility=[VolatilityShock("add", 0.0)]).resolve(contracts)
    assert still.shocks
    assert shocked_volatilities(contracts, columns, still).tobytes() == columns.sigma.tobytes()
    assert revalue(contracts, columns, still)[1].tobytes() == revalue(
        contracts, columns, same)[1][:, :1].tobytes()


def test_filled_arrays_are_used_and_checked():
    contracts = Contracts(FUTURES)
    columns, plan = market(contracts).resolve(contracts), GRID.resolve(contracts)
    value, risk = np.empty(5), np.empty((5, len(GRID)))
    assert revalue(contracts, columns, plan, out=(value, risk))[1] is risk
    frozen = np.empty((5, len(GRID)))
    frozen.flags.writeable = False
    for bad in (np.empty((5, 3)), np.empty((5, len(GRID)), np.float32), np.empty((len(GRID), 5)).T, frozen):
        with pytest.raises(ShapeError):
            revalue(contracts, columns, plan, out=(value, bad))
    with pytest.raises(RangeError, match="conversion"):
        revalue(contracts, columns, plan, conversion="later")
    with pytest.raises(MarginError, match="asset"):
        revalue(contracts, columns, plan, shocked_assets=["XYZ"])
    sigma, price = shocked_volatilities(contracts, columns, plan), columns.spot[:, None] * plan.weight
    for first, last in ((-1, 3), (3, 2), (0, 6)):
        with pytest.raises(RangeError, match="first and last"):
            reval.unit_values(contracts, columns, plan, sigma, price, first, last, value, risk)


DIGEST = """
import hashlib
from margincore.example import example_market
from margincore.revaluation import moved, revalue
from margincore.scenarios import grid
contracts, market = example_market()
columns = market.resolve(contracts)
plan = grid(spot=[-0.3, -0.1, 0.0, 0.07, 0.4], tails=[(5.0, 0.03)]).resolve(contracts)
digest = hashlib.sha256()
for array in (*revalue(contracts, columns, plan), moved(contracts, columns, None, -0.2).mark):
    digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits():
    from margincore import kernels

    folder = Path(reval.__file__).parent
    folder = folder.parent if folder.name in kernels.LEVELS else folder
    built = ["baseline"] + [name for name in ("v3", "v4") if list((folder / name).glob("reval.*"))
                            and list((folder / name).glob("scenario.*"))]
    usable = [name for name in built if kernels.LEVELS.index(name) <= kernels.processor.level()]
    digests = {subprocess.run([sys.executable, "-c", DIGEST], env={**os.environ, "MARGINCORE_LEVEL": name}, check=True,
                              cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True).stdout
               for name in usable}
    assert len(digests) == 1
