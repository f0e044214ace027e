"""Implied volatility: against 70 digits over everything attainable, status by status, round trips, the public door."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import implied as reference

import margincore as mc
from margincore.errors import RangeError, ShapeError
from margincore.kernels import formula, implied

NAN, INF = math.nan, math.inf
EPSILON = 2.0**-52


def check(forward, distance, deviation, years, is_call):
    """Within 4 units in the last place, scaled by how well the price determines the volatility."""
    strike = float(forward * np.exp(distance))
    with mp.workdps(reference.DIGITS):
        low, high = sorted((mp.mpf(forward), mp.mpf(strike)))
        exact = reference.out_of_the_money(low, high, mp.mpf(deviation))[0]
        intrinsic = max(mp.mpf(forward) - strike if is_call else strike - mp.mpf(forward), 0)
        premium = float(exact + intrinsic)
        truth = reference.deviation(premium, forward, strike, is_call, deviation)
        if truth is None or mp.mpf(premium) - intrinsic < low * mp.mpf(10) ** -290:
            return False
        sigma = truth[0] / mp.sqrt(mp.mpf(years))
        got = implied.volatility(premium, forward, strike, years, is_call)
        assert abs(got - sigma) <= 4 * EPSILON * sigma * (1 + truth[1]), (premium, forward, strike, years, is_call)
    return True


def test_error_over_the_whole_attainable_range():
    rng = np.random.default_rng(3)
    seen = 0
    for i in range(500):
        deviation = 10.0 ** rng.uniform(-6, 0.95)
        distance = (0.0, rng.uniform(-36, 36) * deviation, rng.uniform(-4, 4) * deviation, rng.uniform(-6, 6))[i % 4]
        out = bool(distance > 0) if i % 3 else bool(rng.integers(2))
        if abs(distance) < 100:
            seen += check(10.0 ** rng.uniform(-2, 5), distance, deviation, 10.0 ** rng.uniform(-5, 1), out)
    assert seen > 350


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(-8.0, 8.0), st.floats(1e-4, 8.0), st.floats(1e-5, 10.0), st.booleans())
def test_error_on_drawn_options(forward, deviations, deviation, years, is_call):
    check(forward, max(-40.0, min(40.0, deviations * deviation)), deviation, years, is_call)


@pytest.mark.parametrize(("forward", "strike", "premium", "guess"), [
    (0.0156410778602864, 0.017544986709128903, 0.00260938247364305, 0.532),
    (0.0015108606050111928, 0.0016070209170263169, 0.0002668355570647326, 0.508),
    (45.650208678220146, 39.58883530056252, 6.937905635982917, 0.577),
])
def test_error_near_the_money_at_half_a_deviation(forward, strike, premium, guess):
    # One less the complement of the value lost 14 units here, where the value is a fifth: 5.2 for the 4 allowed.
    with mp.workdps(reference.DIGITS):
        deviation, scale = reference.deviation(premium, forward, strike, strike > forward, guess)
        got = implied.volatility(premium, forward, strike, 1.0, strike > forward)
        assert abs(got - deviation) <= 3 * EPSILON * deviation * (1 + scale)


@pytest.mark.parametrize(("premium", "forward", "strike", "years", "guess"), [
    (0.0012562412832791922, 0.005704715022630943, 0.007693652493993985, 5.744653523075239e-06, 0.815),
    (22472.036014092428, 100049.92453251124, 130574.83188252595, 5.113075697817791, 0.801),
    (0.020160791516977396, 0.12236228019426776, 0.08995387729570478, 0.0022297686121334702, 0.831),
    (10108.235646252842, 47840.857134249156, 65828.93298938592, 0.0025429271842120236, 0.807),
    (0.02066895154553589, 0.09599374898494334, 0.13005060696220383, 0.0646959070266161, 0.806),
    (2374.0382858361854, 10995.083935821687, 14997.749185917493, 0.035390725731553094, 0.812),
    (0.0022972180401187206, 0.010642200084952053, 0.014822509350273379, 2.8756678873191515e-05, 0.827),
])
def test_error_where_the_complement_begins(premium, forward, strike, years, guess):
    # The seven worst of fifty million, up to 4.3 for the 4 allowed: a rounding more went through the complement.
    with mp.workdps(reference.DIGITS):
        deviation, scale = reference.deviation(premium, forward, strike, strike > forward, guess)
        sigma = deviation / mp.sqrt(mp.mpf(years))
        got = implied.volatility(premium, forward, strike, years, strike > forward)
        assert abs(got - sigma) <= 3.9 * EPSILON * sigma * (1 + scale)


@pytest.mark.parametrize("inverse", [False, True])
def test_round_trip(inverse):
    rng = np.random.default_rng(8)
    size = 3000
    forward, years, sigma = rng.uniform(1e3, 1e5, size), 10.0 ** rng.uniform(-3, 0.5, size), rng.uniform(0.05, 3, size)
    strike = forward * np.exp(rng.uniform(-5, 5, size) * sigma * np.sqrt(years))
    right = strike > forward  # calls and puts out of the money
    premium = mc.black76(forward, strike, years, sigma, right, inverse=inverse)
    found = mc.implied_volatility(premium, forward, strike, years, right, inverse=inverse)
    assert found.ok.all()
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-13)
    again = mc.black76(forward, strike, years, found.sigma, right, inverse=inverse)
    np.testing.assert_allclose(again, premium, rtol=2e-12)


def test_the_fit_of_the_seed_serves_no_option_beyond_it():
    rng = np.random.default_rng(12)
    size = 400_000
    x, deviation = rng.uniform(-1.3, 1.3, size), rng.uniform(1.0, 4.0, size)
    strike, years = np.full(size, 100.0), np.ones(size)
    forward = strike * np.exp(x)
    call = forward < strike
    premium = mc.black76(forward, strike, years, deviation, call)
    found = mc.implied_volatility(premium, forward, strike, years, call).sigma
    density = np.exp(-0.5 * (np.abs(x) / deviation - 0.5 * deviation) ** 2) / math.sqrt(2.0 * math.pi)
    conditioning = premium / (deviation * np.minimum(forward, strike) * density)
    assert (np.abs(found / deviation - 1.0) <= 8.0 * 2.0**-52 * (1.0 + conditioning)).all()


def test_discounted_premiums():
    sigma = np.array([0.2, 0.9, 1.4])
    premium = mc.black76(100.0, 120.0, 2.0, sigma, "call", rate=0.1)
    found = mc.implied_volatility(premium, 100.0, 120.0, 2.0, "call", rate=0.1)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-14)


S = mc.VolStatus


@pytest.mark.parametrize(("premium", "forward", "strike", "years", "right", "status"), [
    (10.5, 100.0, 90.0, 1.0, "call", S.OK), (10.0, 100.0, 90.0, 1.0, "call", S.AT_INTRINSIC),
    (0.0, 100.0, 110.0, 1.0, "call", S.AT_INTRINSIC), (9.99, 100.0, 90.0, 1.0, "call", S.BELOW_INTRINSIC),
    (-0.01, 100.0, 110.0, 1.0, "call", S.BELOW_INTRINSIC), (100.0, 100.0, 90.0, 1.0, "call", S.ABOVE_MAXIMUM),
    (101.0, 100.0, 90.0, 1.0, "call", S.ABOVE_MAXIMUM), (90.0, 100.0, 90.0, 1.0, "put", S.ABOVE_MAXIMUM),
    (89.9, 100.0, 90.0, 1.0, "put", S.OK), (10.5, 100.0, 90.0, 0.0, "call", S.EXPIRED),
    (10.5, 100.0, 90.0, -1.0, "call", S.EXPIRED), (10.5, 0.0, 90.0, 1.0, "call", S.OUT_OF_RANGE),
    (10.5, 100.0, -90.0, 1.0, "call", S.OUT_OF_RANGE), (NAN, 100.0, 90.0, 1.0, "call", S.NOT_FINITE),
    (10.5, INF, 90.0, 1.0, "call", S.NOT_FINITE), (10.5, 100.0, NAN, 1.0, "call", S.NOT_FINITE),
    (10.5, 100.0, 90.0, INF, "call", S.NOT_FINITE), (1e-305, 100.0, 110.0, 1.0, "call", S.TOO_SMALL),
    (1e-150, 1e150, 1e150, 1e150, "call", S.TOO_SMALL), (1e-150, 1e140, 1e140, 1e9, "call", S.OK),
])
def test_status(premium, forward, strike, years, right, status):
    found = mc.implied_volatility(premium, forward, strike, years, right)
    assert found.status == status
    if status == S.OK:
        assert found.sigma > 0.0
    elif status == S.AT_INTRINSIC:
        assert found.sigma == 0.0
    else:
        assert np.isnan(found.sigma)


@pytest.mark.parametrize("ratio", [1e-15, 1e-120, 1e-149, 1e-160, 1e-200, 1e-299])
@pytest.mark.parametrize("forward", [1e-20, 100.0, 1e149])
def test_the_least_values_at_the_money(ratio, forward):
    # the inverse of v overflows in its square there
    found = mc.implied_volatility(ratio * forward, forward, forward, 2.0, "call")
    assert found.status == S.OK
    assert found.sigma == pytest.approx(math.sqrt(math.pi) * (ratio * forward / forward), rel=1e-14)


@pytest.mark.parametrize("deviation", [1e-15, 1e-12, 1e-9])
@pytest.mark.parametrize("deviations", [11.0, 20.0, 35.0])
def test_wings_a_hair_from_the_money(deviation, deviations):
    # the seed took whatever lay within 1e-8 of the money as at the money, and ended at TOO_SMALL
    assert check(100.0, deviations * deviation, deviation, 0.5, True)
    assert check(100.0, -deviations * deviation, deviation, 0.5, False)


@pytest.mark.parametrize("inverse", [False, True])
def test_ok_is_a_normal_number_whatever_comes(inverse):
    rng = np.random.default_rng(5)
    pool = np.array([0.0, -0.0, 5e-324, 1e-310, 2.3e-308, 1e-300, 1e-200, 1e-154, 1e-150, 1e-100, 1e-10, 0.1, 0.5, 1.0,
                     1.5, 2.0, 99.0, 100.0, 101.0, 1e5, 1e100, 1e149, 1e150, 1e200, 1e300, 1.7e308, INF, -INF, NAN, -1])
    premium, forward, strike, years = rng.choice(pool, (4, 60_000))
    right = rng.integers(0, 2, premium.size).astype(np.uint8)
    close = rng.random(premium.size) < 0.5
    with np.errstate(all="ignore"):
        premium[close] = forward[close] * rng.random(close.sum())
        strike[close] = forward[close] * np.exp(rng.normal(0.0, 0.3, close.sum()))
    sigma, status = np.empty(premium.size), np.empty(premium.size, np.uint8)
    implied.volatilities(premium, forward, strike, years, right, sigma, status, inverse)
    ok, intrinsic = status == S.OK, status == S.AT_INTRINSIC
    assert ok.sum() > 5_000
    assert (np.isfinite(sigma[ok]) & (sigma[ok] >= 2.0**-1022)).all()
    assert (sigma[intrinsic] == 0.0).all() and np.isnan(sigma[~(ok | intrinsic)]).all()


def test_inverse_bounds():
    # a coin-settled call is worth less than one coin
    assert mc.implied_volatility(1.0, 100.0, 90.0, 1.0, "call", inverse=True).status == S.ABOVE_MAXIMUM
    assert mc.implied_volatility(0.05, 100.0, 90.0, 1.0, "call", inverse=True).status == S.BELOW_INTRINSIC
    assert mc.implied_volatility(0.15, 100.0, 90.0, 1.0, "call", inverse=True).status == S.OK


def test_status_codes_are_those_of_the_header():
    found = mc.implied_volatility([NAN, 5.0], 100.0, 100.0, 1.0)
    assert [S(code) for code in found.status] == [S.NOT_FINITE, S.OK]
    np.testing.assert_array_equal(found.ok, [False, True])


def test_one_by_one_equals_batch_and_any_split():
    rng = np.random.default_rng(9)
    size = 1000
    forward, strike = rng.uniform(50, 150, (2, size))
    years, premium = rng.uniform(-0.01, 2, size), rng.uniform(-1, 60, size)
    right = rng.random(size) < 0.5
    whole = mc.implied_volatility(premium, forward, strike, years, right)
    cut = [mc.implied_volatility(*(a[s] for a in (premium, forward, strike, years, right)))
           for s in (slice(0, 7), slice(7, 300), slice(300, size))]
    np.testing.assert_array_equal(np.concatenate([part.sigma for part in cut]), whole.sigma)
    one = [implied.volatility(*(float(a[i]) for a in (premium, forward, strike, years)), bool(right[i]))
           for i in range(size)]
    np.testing.assert_array_equal(one, whole.sigma)


@pytest.mark.parametrize("strange", [0.0, -1.0, 5e-324, 1e-310, 1e308, INF, NAN])
@pytest.mark.parametrize("column", range(4))
def test_a_strange_option_changes_no_other_of_its_block(strange, column):
    rng = np.random.default_rng(12)
    forward, strike, years = rng.uniform(50, 150, 200), rng.uniform(50, 150, 200), rng.uniform(0.01, 2, 200)
    given, right = [rng.uniform(0.5, 60, 200), forward, strike, years], rng.random(200) < 0.5
    alone = mc.implied_volatility(*given, right)
    given[column] = given[column].copy()
    given[column][150] = strange
    mixed, kept = mc.implied_volatility(*given, right), np.arange(200) != 150
    np.testing.assert_array_equal(mixed.sigma[kept], alone.sigma[kept])
    np.testing.assert_array_equal(mixed.status[kept], alone.status[kept])
    one = implied.volatility(*(float(a[150]) for a in given), bool(right[150]))
    np.testing.assert_array_equal(mixed.sigma[150], one)


def test_quotes_stand_alone():
    quotes = mc.implied_quotes([NAN, 12.0, 9.0], [11.0, 13.0, 11.0], 100.0, 90.0, 0.1)
    np.testing.assert_array_equal(quotes.bid.status, [S.NOT_FINITE, S.OK, S.BELOW_INTRINSIC])
    np.testing.assert_array_equal(quotes.mid.status, [S.NOT_FINITE, S.OK, S.AT_INTRINSIC])
    assert quotes.ask.ok.all()
    assert quotes.bid.sigma[1] < quotes.mid.sigma[1] < quotes.ask.sigma[1]


def test_scale_invariance_and_monotonicity():
    premium = np.linspace(0.01, 40.0, 500)
    sigma = mc.implied_volatility(premium, 100.0, 130.0, 0.5).sigma
    assert np.all(np.diff(sigma) > 0.0)
    np.testing.assert_array_equal(sigma, mc.implied_volatility(1024 * premium, 102_400.0, 133_120.0, 0.5).sigma)


def test_public_arguments():
    with pytest.raises(RangeError, match="right must be call or put, was 'straddle'"):
        mc.implied_volatility(1.0, 100.0, 100.0, 1.0, "straddle")
    with pytest.raises(ShapeError, match="must broadcast"):
        mc.black76([1.0, 2.0], [1.0, 2.0, 3.0], 1.0, 0.5)
    with pytest.raises(ShapeError, match="price must hold numbers"):
        mc.implied_volatility("dear", 100.0, 100.0, 1.0)
    for bad in ({"forward": -1.0}, {"strike": NAN}, {"years": -0.1}, {"sigma": INF}, {"sigma": "0.5"}):
        arguments = {"forward": 100.0, "strike": 100.0, "years": 1.0, "sigma": 0.5} | bad
        with pytest.raises(mc.MarginError, match=next(iter(bad))):
            mc.black76(**arguments)
        with pytest.raises(mc.MarginError, match=next(iter(bad))):
            mc.greeks(**arguments)
    with pytest.raises(RangeError, match="spot must be above 0"):
        mc.greeks(100.0, 100.0, 1.0, 0.5, spot=0.0)
    assert np.isnan(mc.black76(np.array([-1.0, 100.0]), 100.0, 1.0, 0.5)).tolist() == [True, False]


def test_public_greeks_shape_units_and_rights():
    table = mc.greeks(100.0, [[90.0], [110.0]], 0.5, 0.6, ["call", "put", "C"], rate=0.03, spot=99.0)
    assert table.delta.shape == (2, 3)
    np.testing.assert_array_equal(table.delta[:, 0], table.delta[:, 2])
    quoted = table.quoted()
    np.testing.assert_allclose(quoted.vega, 0.01 * table.vega)
    np.testing.assert_allclose(quoted.theta, table.theta / 365)
    option = (100.0, 90.0, 0.5, 0.6)
    assert mc.greeks(*option, mc.Right.PUT).price == mc.black76(*option, "put")
    assert mc.greeks(*option, inverse=True).price == mc.black76(*option, inverse=True)


def test_kernel_arguments_are_checked():
    good = [np.full(3, 10.0), np.full(3, 100.0), np.full(3, 100.0), np.ones(3), np.ones(3, bool), np.empty(3),
            np.empty(3, np.uint8)]
    implied.volatilities(*good)
    for position, bad in ((0, None), (1, np.ones(4)), (2, np.ones(3, np.float32)), (3, np.ones((3, 1))),
                          (4, np.ones(3)), (5, np.ones(6)[::2]), (6, np.ones(3, np.int64))):
        with pytest.raises(ShapeError):
            implied.volatilities(*good[:position], bad, *good[position + 1:])
    nothing = [np.empty(0) for _ in range(4)]
    implied.volatilities(*nothing, np.empty(0, bool), np.empty(0), np.empty(0, np.uint8))
    sigma = implied.volatility(10.0, 100.0, 100.0, 1.0, True)
    assert formula.price(100.0, 100.0, 1.0, sigma, True) == pytest.approx(10.0, rel=1e-15)
