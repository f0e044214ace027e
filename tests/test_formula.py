"""Black-76: against 60 digits, properties, edges."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import formula as reference

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
