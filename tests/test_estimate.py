"""Sampling errors of measures: definitions, coverage in simulation, limits."""

import math

import numpy as np
import pytest
from scipy import stats

import margincore as mc
from margincore.errors import MarginError


def test_interval_is_the_binomial_one():
    pnl = -np.arange(1.0, 1001.0)
    found = mc.estimate(pnl, mc.ValueAtRisk(0.95))
    # P(951 - i-th ...): the 36th to the 65th worst of 1,000 at 5 % is the textbook interval of 95 %.
    deeper, shallower = 1000 - found.upper + 1, 1000 - found.lower + 1
    assert stats.binom.cdf(deeper - 1, 1000, 0.05) <= 0.025 < stats.binom.cdf(deeper, 1000, 0.05)
    assert stats.binom.sf(shallower - 1, 1000, 0.05) <= 0.025 < stats.binom.sf(shallower - 2, 1000, 0.05)
    assert found.lower < found.value < found.upper


@pytest.mark.parametrize("measure, true", [
    (mc.ValueAtRisk(0.95), 1.6448536), (mc.ExpectedShortfall(0.95), 2.0627128)])
@pytest.mark.parametrize("method", ["order", "bootstrap"])
def test_intervals_cover_and_errors_are_of_the_right_size(measure, true, method):
    rng = np.random.default_rng(3)
    found = [mc.estimate(rng.standard_normal(1000), measure, method=method, generator=rng, resamples=200)
             for _ in range(150)]
    covered = np.mean([e.lower <= true <= e.upper for e in found])
    assert covered > 0.87  # 95 % less bias of the tail and three standard errors of 150 trials
    spread = np.std([e.value for e in found])
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize(("scenarios", "least"), [(250, 0.84), (1000, 0.87)])
def test_shortfall_intervals_allow_for_few_scenarios(scenarios, least):
    """Three and ten scenarios make the tail; the normal quantile would cover 74 % and 87 %."""
    rng = np.random.default_rng(8)
    true = stats.norm.pdf(stats.norm.isf(0.01)) / 0.01
    found = [mc.estimate(rng.standard_normal(scenarios), mc.ExpectedShortfall(0.99)) for _ in range(600)]
    assert least < np.mean([e.lower <= true <= e.upper for e in found]) < 0.97
    tail = math.ceil(0.01 * scenarios)
    for item in found[:5]:
        width = stats.t.isf(0.025, tail - 1) * item.standard_error
        assert (item.lower, item.upper) == pytest.approx((item.value - width, item.value + width), rel=1e-12)


@pytest.mark.parametrize(("level", "count"), [(0.9, 20.0), (0.975, 5.0), (0.9825, 3.5)])
def test_error_of_a_shortfall_is_the_published_formula(level, count):
    """Manistre and Hancock 2005, equation 3: variance of the tail, and level times the squared reach beyond the VaR."""
    pnl = np.random.default_rng(6).standard_t(3, 200)
    worst = np.sort(-pnl)[::-1][:math.ceil(count)]
    found = mc.estimate(pnl, mc.ExpectedShortfall(level))
    variance = worst.var(ddof=1) + level * (found.value - worst[-1]) ** 2
    assert found.standard_error == pytest.approx(math.sqrt(variance / count), rel=1e-9)


def test_the_bootstrap_draws_by_the_weights():
    pnl = np.r_[np.linspace(-2.0, -1.0, 100), np.full(100, -50.0)]
    weights = np.r_[np.full(100, 0.01), np.zeros(100)]
    found = mc.estimate(pnl, mc.ValueAtRisk(0.9), method="bootstrap", generator=np.random.default_rng(7),
                        resamples=200, weights=weights)
    assert 1.0 < found.lower < found.value < found.upper <= 2.0


def test_maritz_jarrett_is_the_limit_of_the_bootstrap():
    pnl = np.random.default_rng(1).standard_t(4, 400)
    measure = mc.ValueAtRisk(0.95)
    exact = mc.estimate(pnl, measure).standard_error
    drawn = mc.estimate(pnl, measure, method="bootstrap", generator=np.random.default_rng(2), resamples=8000)
    assert drawn.standard_error == pytest.approx(exact, rel=0.03)


def test_bootstrap_serves_every_measure_and_weights_and_repeats():
    pnl = np.random.default_rng(1).standard_normal(200)
    weights = np.linspace(1, 2, 200) / np.linspace(1, 2, 200).sum()
    weights[-1] += 1.0 - weights.sum()
    for measure in (mc.Spectral(10.0), mc.Weighted(((mc.ExpectedShortfall(0.9), 1.0),)), mc.ValueAtRisk(0.9)):
        first, second = (mc.estimate(pnl, measure, method="bootstrap", generator=np.random.default_rng(7),
                                     resamples=300, weights=weights) for _ in range(2))
        assert first == second and first.standard_error > 0.0 and first.lower < first.upper


def test_a_bound_the_sample_cannot_give_is_infinite():
    found = mc.estimate(np.random.default_rng(1).standard_normal(250), mc.ValueAtRisk(0.99))
    assert math.isinf(found.upper) and found.lower < found.value
    few = mc.estimate([1.0, 2.0, 3.0], mc.ExpectedShortfall(0.99))
    assert math.isinf(few.standard_error)
    assert "standard error" in str(found)


def test_bad_input():
    pnl = np.arange(10.0)
    for call, rule in (
        (lambda: mc.estimate(pnl, mc.Worst()), "no sampling error"),
        (lambda: mc.estimate(pnl, mc.Spectral(2.0)), "bootstrap"),
        (lambda: mc.estimate(pnl, mc.ValueAtRisk(0.9), method="bootstrap"), "generator"),
        (lambda: mc.estimate(pnl, mc.ValueAtRisk(0.9), confidence=95), "confidence"),
        (lambda: mc.estimate(pnl, mc.ValueAtRisk(0.9), weights=np.full(10, 0.1)), "bootstrap"),
        (lambda: mc.estimate(pnl, mc.ValueAtRisk(0.9), method="magic"), "method"),
        (lambda: mc.estimate([1.0, np.nan], mc.ValueAtRisk(0.9)), "finite")):
        with pytest.raises(MarginError, match=rule):
            call()


def test_certain_losses_print_without_a_negative_zero():
    found = mc.estimate(np.zeros(50), mc.ValueAtRisk(0.9))
    assert str(found) == "0 (standard error 0, 95% in [0, 0], order)"
