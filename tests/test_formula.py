"""Black-76: against 60 digits, properties, edges."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import formula as reference

from margincore.errors import ShapeError
from margincore.kernels import formula

NAN, INF = math.nan, math.inf
EPSILON = 2.0**-52

forwards = st.floats(1e-3, 1e6)
deviations = st.floats(-37.0, 37.0)          # ln(K / F) in standard deviations
sigmas = st.floats(0.001, 5.0)
tenors = st.floats(1e-6, 30.0)


@settings(max_examples=150, deadline=None)
@given(forwards, deviations, sigmas, tenors, st.booleans())
def test_price_against_60_digits(forward, deviation, sigma, years, is_call):
    strike = forward * math.exp(max(-200.0, min(200.0, deviation * sigma * math.sqrt(years))))
    with mp.workdps(reference.DIGITS):
        arguments = (forward, strike, years, sigma, is_call)
        truth = reference.price(*arguments)
        scale = 32 + 4 * reference.conditioning(reference.price, arguments, (3,))
        got = formula.price(*arguments)
        if truth > forward * mp.mpf(10) ** -290:
            assert abs(got - truth) <= EPSILON * scale * truth
        else:
            assert 0.0 <= got <= 1e-289 * forward


@settings(max_examples=200, deadline=None)
@given(forwards, deviations, sigmas, tenors)
def test_parity(forward, deviation, sigma, years):
    strike = forward * math.exp(max(-50.0, min(50.0, deviation * sigma * math.sqrt(years))))
    call = formula.price(forward, strike, years, sigma, True)
    put = formula.price(forward, strike, years, sigma, False)
    assert call - put == pytest.approx(forward - strike, rel=0, abs=4 * EPSILON * max(forward, strike))


@settings(max_examples=200, deadline=None)
@given(forwards, deviations, sigmas, tenors, st.integers(-40, 40), st.booleans())
def test_scaling_by_a_power_of_two_changes_no_bit(forward, deviation, sigma, years, power, is_call):
    strike = forward * math.exp(max(-50.0, min(50.0, deviation * sigma * math.sqrt(years))))
    scale = 2.0**power
    assert (formula.price(scale * forward, scale * strike, years, sigma, is_call)
            == scale * formula.price(forward, strike, years, sigma, is_call))


GREEKS = ("price", "delta", "gamma", "vega", "theta", "rho", "vanna", "volga", "charm")


def fill(forward, strike, years, sigma, rate, is_call, inverse=False):
    """All nine outputs of the two kernel loops by name."""
    arrays = [np.ascontiguousarray(a, np.float64) for a in (forward, strike, years, sigma, rate)]
    out = {name: np.empty(len(arrays[0])) for name in GREEKS}
    formula.greeks(*arrays, np.ascontiguousarray(is_call, np.uint8), *(out[name] for name in GREEKS[:6]), inverse)
    formula.higher_greeks(*arrays, out["delta"], *(out[name] for name in GREEKS[6:]), inverse)
    return out


def draw(size, seed=5):
    """Random options: deviations 1e-5 to 20, strikes up to 30 deviations away and at the money, both rights."""
    rng = np.random.default_rng(seed)
    forward, years = 10.0 ** rng.uniform(-2, 5, size), 10.0 ** rng.uniform(-5, 1.3, size)
    sigma = 10.0 ** rng.uniform(-2.5, 0.6, size)
    away = np.where(rng.random(size) < 0.5, rng.uniform(-4, 4, size), rng.uniform(-30, 30, size))
    away[::9] = 0.0
    strike = forward * np.exp(np.clip(away * sigma * np.sqrt(years), -100, 100))
    return forward, strike, years, sigma, rng.uniform(-0.1, 0.2, size), rng.random(size) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("inverse", [False, True])
def test_greeks_against_400_digits(inverse):
    options = draw(60)
    got = fill(*options, inverse)
    function = reference.inverse_greeks if inverse else reference.greeks
    with mp.workdps(400):
        for i, (forward, strike, years, sigma, rate, is_call) in enumerate(zip(*options, strict=True)):
            arguments = (forward, strike, years, sigma, bool(is_call), rate)
            exact = function(*arguments)
            for name in GREEKS:
                truth = exact[name]
                error = abs(got[name][i] - truth) / (EPSILON * abs(truth)) if truth else abs(got[name][i])
                if error > 32:
                    scale = reference.conditioning(lambda *a, n=name: function(*a)[n], arguments, (0, 1, 2, 3, 5))
                    assert error <= 32 + 4 * scale, (name, arguments)


def test_one_option_is_the_batch_at_length_one():
    options = draw(300)
    for inverse in (False, True):
        got = fill(*options, inverse)
        for i, option in enumerate(zip(*options, strict=True)):
            one = formula.greeks_one(*(float(v) for v in option[:5]), bool(option[5]), inverse)
            assert tuple(one) == tuple(got[name][i] for name in GREEKS[:6])
            assert tuple(one) == tuple(getattr(one, name) for name in GREEKS[:6])


@pytest.mark.parametrize("strange", [0.0, -0.0, -1.0, 5e-324, 2.0**-1022, 1e-310, 1.79e308, INF, -INF, NAN])
@pytest.mark.parametrize("column", range(5))
def test_a_strange_option_changes_no_other_of_its_block(strange, column):
    """Blocks take short ways where all of their options are usual: logarithms without edges, no discount."""
    options = [np.ascontiguousarray(a) for a in draw(200)]
    options[4][:] = 0.0
    alone = fill(*options)
    options[column][150] = strange
    mixed = fill(*options)
    one = formula.greeks_one(*(float(a[150]) for a in options[:5]), bool(options[5][150]))
    kept = np.arange(200) != 150
    for name, value in zip(GREEKS[:6], one, strict=True):
        np.testing.assert_array_equal(mixed[name][kept], alone[name][kept])
        np.testing.assert_array_equal(mixed[name][150], value)


def test_rates_of_one_option_discount_no_other():
    options = [np.ascontiguousarray(a) for a in draw(200)]
    options[4][:] = 0.0
    options[4][7], options[4][190] = 0.03, -0.02
    got = fill(*options)
    for i, option in enumerate(zip(*options, strict=True)):
        assert tuple(formula.greeks_one(*(float(v) for v in option[:5]), bool(option[5]))) == tuple(
            got[name][i] for name in GREEKS[:6])


def test_prices_are_the_greeks_price():
    options = draw(600)
    for inverse in (False, True):
        out = np.empty(600)
        arrays = [np.ascontiguousarray(a) for a in options]
        formula.prices(*arrays, out, inverse)
        np.testing.assert_allclose(out, fill(*options, inverse)["price"], rtol=1e-15)


def test_inverse_call_is_a_put_on_the_reciprocal_forward():
    # Change of numeraire: in coin, the right to buy at K is K puts on 1/F struck at 1/K.
    options = draw(500)
    forward, strike, years, sigma, rate, _ = options
    coin = fill(forward, strike, years, sigma, rate, np.ones(500), True)["price"]
    put = fill(1 / forward, 1 / strike, years, sigma, rate, np.zeros(500))["price"]
    assert np.all(np.abs(coin - strike * put) <= 1e-12 * coin * (1 + 40**2) + 1e-285)


def test_vega_and_gamma_are_never_negative_and_greeks_shift_by_parity():
    forward, strike, years, sigma, rate, _ = draw(500)
    call, put = (fill(forward, strike, years, sigma, rate, np.full(500, right)) for right in (1, 0))
    for name in ("vega", "gamma"):
        assert np.all(call[name] >= 0.0)
        np.testing.assert_array_equal(call[name], put[name])
    discount = np.exp(-rate * years)
    np.testing.assert_allclose(call["delta"] - put["delta"], discount, rtol=1e-14)


def test_monotone_and_convex_in_strike():
    strike = np.linspace(20.0, 300.0, 2001)
    ones = np.ones(2001)
    for deviation in (0.02, 0.2, 1.0, 4.0):
        call = fill(100 * ones, strike, ones, deviation * ones, 0 * ones, ones)["price"]
        slope = np.diff(call)
        assert np.all(slope <= 0.0) and np.all(np.diff(slope) >= -1e-13)


def test_spot_greeks_are_derivatives_by_the_spot():
    spot, strike, years, sigma, rate, carry, step = 100.0, 110.0, 0.7, 0.6, 0.05, 0.02, 1e-5

    def value(spot, years, rate):
        forward = spot * np.exp((rate - carry) * years)
        return np.exp(-rate * years) * formula.price(forward, strike, years, sigma, True)

    def delta(spot, years):
        return (value(spot + 1e-3, years, rate) - value(spot - 1e-3, years, rate)) / 2e-3

    forward = np.array([spot * np.exp((rate - carry) * years)])
    got = fill(forward, [strike], [years], [sigma], [rate], [1])
    time, spots = np.array([years]), np.array([spot])
    formula.spot_higher_greeks(forward, spots, time, got["delta"], got["gamma"], got["vanna"], got["charm"])
    formula.spot_greeks(forward, spots, time, got["price"], got["delta"], got["gamma"], got["theta"], got["rho"])
    assert got["delta"][0] == pytest.approx(delta(spot, years), rel=1e-8)
    assert got["theta"][0] == pytest.approx((value(spot, years - step, rate) - value(spot, years + step, rate))
                                            / (2 * step), rel=1e-7)
    assert got["rho"][0] == pytest.approx((value(spot, years, rate + step) - value(spot, years, rate - step))
                                          / (2 * step), rel=1e-7)
    assert got["charm"][0] == pytest.approx((delta(spot, years - step) - delta(spot, years + step)) / (2 * step),
                                            rel=1e-4)


def test_limits_without_time_or_volatility():
    # at expiry in, at and out of the money; zero volatility with time left
    forward, strike = np.array([110.0, 100.0, 90.0, 110.0, 100.0]), np.full(5, 100.0)
    years, sigma = np.array([0.0, 0.0, 0.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.0, 0.0])
    got = fill(forward, strike, years, sigma, np.zeros(5), np.ones(5))
    np.testing.assert_array_equal(got["price"], [10.0, 0.0, 0.0, 10.0, 0.0])
    np.testing.assert_allclose(got["delta"], [1.0, 0.5, 0.0, 1.0, 0.5], rtol=1e-15)
    np.testing.assert_array_equal(got["gamma"], [0.0, INF, 0.0, 0.0, INF])
    np.testing.assert_allclose(got["vega"], [0.0, 0.0, 0.0, 0.0, 100 / math.sqrt(2 * math.pi)], rtol=1e-15)
    np.testing.assert_array_equal(got["theta"], [0.0, -INF, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("position", range(5))
def test_nan_reaches_every_output(position):
    values = [100.0, 110.0, 0.5, 0.6, 0.02]
    values[position] = NAN
    for inverse in (False, True):
        got = fill(*([v] for v in values), [1], inverse)
        for name in GREEKS:
            assert math.isnan(got[name][0]), name


def test_kernel_arguments_are_checked():
    good = [np.ones(3) for _ in range(5)]
    outs = [np.empty(3) for _ in range(6)]
    flags = np.ones(3, np.uint8)
    readonly = np.ones(3)
    readonly.flags.writeable = False
    formula.greeks(readonly, *good[1:], flags, *outs)                      # read-only inputs are welcome
    for bad in (np.ones(4), np.ones(3, np.float32), np.ones((3, 1)), np.ones(6)[::2], [1.0, 1.0, 1.0], None):
        with pytest.raises(ShapeError):
            formula.greeks(good[0], bad, *good[2:], flags, *outs)
    with pytest.raises(ShapeError, match="price must be writable"):
        formula.greeks(*good, flags, readonly, *outs[1:])
    with pytest.raises(ShapeError, match="is_call"):
        formula.greeks(*good, np.ones(3), *outs)
    empty = [np.empty(0) for _ in range(11)]
    formula.greeks(*empty[:5], np.empty(0, bool), *empty[5:])


@pytest.mark.parametrize(("arguments", "expected"), [
    ((100.0, 90.0, 0.0, 0.5, True), 10.0), ((100.0, 90.0, 1.0, 0.0, True), 10.0),
    ((100.0, 110.0, 1.0, 0.0, False), 10.0),
    ((100.0, 90.0, 0.0, 0.5, False), 0.0), ((100.0, 100.0, 0.0, 0.5, True), 0.0), ((0.0, 90.0, 1.0, 0.5, True), 0.0),
    ((0.0, 90.0, 0.0, 0.5, False), 90.0), ((0.0, 90.0, 1.0, 0.5, False), 90.0), ((100.0, 0.0, 1.0, 0.5, True), 100.0),
    ((100.0, 90.0, 1.0, INF, True), 100.0), ((100.0, 90.0, 1.0, INF, False), 90.0),
    ((NAN, 90.0, 0.0, 0.0, True), NAN), ((100.0, NAN, 0.0, 0.0, True), NAN), ((100.0, 90.0, NAN, 0.0, True), NAN),
    ((100.0, 90.0, 0.0, NAN, True), NAN), ((100.0, 90.0, -1.0, 0.5, True), NAN), ((100.0, 90.0, 1.0, -0.5, True), NAN),
    ((-1.0, 90.0, 1.0, 0.5, True), NAN), ((100.0, -1.0, 0.0, 0.5, False), NAN),
])
def test_edges(arguments, expected):
    np.testing.assert_equal(formula.price(*arguments), expected)
