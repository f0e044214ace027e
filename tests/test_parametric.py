"""Closed forms against published numbers, quadrature, simulation and their own limits."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import integrate, stats
from shared_data import shared

import margincore as mc
from margincore.errors import MarginError, NotConvergedError, RangeError
from margincore.parametric import cornish_fisher_valid
from margincore.tail_fit import TailFit


def test_delta_normal_textbook_figures():
    # Jorion, "Value at Risk": 2 million CAD at 5 % and 1 million EUR at 12 % volatility, uncorrelated, 95 % (1.65).
    found = mc.delta_normal([2.0, 1.0], np.diag([0.05**2, 0.12**2]), 0.95)
    assert found.value_at_risk == pytest.approx(0.257738, rel=4e-3)  # with 1.65 for 1.644854
    assert found.value_at_risk == pytest.approx(stats.norm.isf(0.05) * 0.15620499, rel=1e-7)
    assert found.expected_shortfall == pytest.approx(2.0627128 * 0.15620499, rel=1e-7)


@pytest.mark.parametrize("degrees", [2.5, 4.0, 30.0])
def test_delta_student_is_the_quadrature_of_its_density(degrees):
    found = mc.delta_student([3.0], [[0.04]], 0.99, degrees=degrees, mean=0.1)
    scale = 0.6 * np.sqrt((degrees - 2) / degrees)
    quantile = stats.t.isf(0.01, degrees)
    beyond = integrate.quad(lambda x: x * stats.t.pdf(x, degrees), quantile, np.inf, epsabs=1e-12)[0] / 0.01
    assert found == pytest.approx((quantile * scale - 0.1, beyond * scale - 0.1), rel=1e-6)


def test_student_tends_to_normal():
    normal = mc.delta_normal([1.0, -2.0], [[1.0, 0.3], [0.3, 2.0]], 0.99)
    assert mc.delta_student([1.0, -2.0], [[1.0, 0.3], [0.3, 2.0]], 0.99, degrees=1e7) == pytest.approx(normal, rel=1e-5)


def test_published_lognormal_values():
    for case in json.loads(shared("vectors", "var_es_lognormal.json").read_text())["cases"]:
        given, tolerance = case["inputs"], case["tolerance"]
        found = mc.lognormal(given["mu"], given["sigma"], given["alpha"], short=given["variable"].startswith("X=-"))
        assert found.value_at_risk == pytest.approx(case["expected"]["VaR"], rel=tolerance["rel"], abs=tolerance["abs"])
        assert found.expected_shortfall == pytest.approx(case["expected"]["ES"], rel=tolerance["rel"],
                                                         abs=tolerance["abs"])


def test_published_risk_factors():
    count = 0
    for case in json.loads(shared("vectors", "vega_lognormal_risk_factors.json").read_text())["cases"]:
        given, limit = case["inputs"], case["tolerance"]
        found = mc.lognormal_risk_factors(given["volatility_per_sqrt_year"], given["horizon_years"],
                                          given["tail_probability"], drift_annual=given["drift_per_year"])
        for side, value in case["expected"].items():
            got = {"risk_factor_long": found.long, "risk_factor_short": found.short}[side]
            assert abs(got - value) <= limit["absolute"] + limit["relative"] * abs(value), (given, side)
            count += 1
    assert count >= 22


BOOK = (np.array([1.0, -0.5, 0.2]), np.array([[0.6, 0.1, 0.0], [0.1, -0.4, 0.05], [0.0, 0.05, 0.2]]),
        np.array([[1.0, 0.3, 0.1], [0.3, 0.8, 0.2], [0.1, 0.2, 0.5]]))


def test_cumulants_are_those_of_the_simulated_portfolio():
    delta, gamma, covariance = BOOK
    form = mc.parametric.quadratic_form(delta, gamma, covariance, 0.3)
    x = np.random.default_rng(1).multivariate_normal(np.zeros(3), covariance, 2_000_000)
    pnl = 0.3 + x @ delta + 0.5 * np.einsum("si,ij,sj->s", x, gamma, x)
    mean, variance, third, fourth = form.cumulants()
    assert mean == pytest.approx(pnl.mean(), abs=4e-3)
    assert variance == pytest.approx(pnl.var(), rel=6e-3)
    assert third == pytest.approx(((pnl - pnl.mean()) ** 3).mean(), rel=0.03)
    assert fourth == pytest.approx(((pnl - pnl.mean()) ** 4).mean() - 3 * pnl.var() ** 2, rel=0.1)


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_delta_gamma_against_simulation(level):
    delta, gamma, covariance = BOOK
    x = np.random.default_rng(1).multivariate_normal(np.zeros(3), covariance, 1_000_000)
    pnl = x @ delta + 0.5 * np.einsum("si,ij,sj->s", x, gamma, x)
    expected = mc.tail_risk(pnl, level)
    assert mc.delta_gamma(delta, gamma, covariance, level) == pytest.approx(expected, rel=0.01)
    mild = mc.delta_gamma(delta, 0.2 * gamma, covariance, level)
    expanded = mc.delta_gamma(delta, 0.2 * gamma, covariance, level, method="cornish_fisher")
    assert expanded == pytest.approx(mild, rel=0.01)


@pytest.mark.parametrize("method", ["fourier", "cornish_fisher"])
def test_delta_gamma_without_gamma_is_delta_normal(method):
    delta, _, covariance = BOOK
    found = mc.delta_gamma(delta, np.zeros((3, 3)), covariance, 0.99, theta=-0.2, method=method)
    assert found == pytest.approx(mc.delta_normal(delta, covariance, 0.99, mean=-0.2), rel=1e-9)


def test_cornish_fisher_validity_region():
    assert cornish_fisher_valid(0.0, 0.0) and cornish_fisher_valid(0.5, 1.0)
    assert not cornish_fisher_valid(1.0, 0.0) and not cornish_fisher_valid(0.0, -1.0)
    z = np.linspace(-60.0, 60.0, 20_001)
    random = np.random.default_rng(3)
    valid = 0
    for skew, excess in zip(random.uniform(-3.0, 3.0, 300), random.uniform(-1.0, 12.0, 300), strict=True):
        path = (z + (z**2 - 1.0) * skew / 6.0 + (z**3 - 3.0 * z) * excess / 24.0
                - (2.0 * z**3 - 5.0 * z) * skew**2 / 36.0)
        rises = bool((np.diff(path) >= 0.0).all())
        assert cornish_fisher_valid(skew, excess) == rises, (skew, excess)
        valid += rises
    assert 50 < valid < 250
    with pytest.raises(RangeError, match="validity region"):
        mc.delta_gamma([0.1], [[-5.0]], [[1.0]], 0.99, method="cornish_fisher")


@pytest.mark.parametrize("delta", [0.0, 0.4, -3.0, 30.0])
@pytest.mark.parametrize("gamma", [-1.0, 0.7, -0.01])
def test_one_factor_is_the_non_central_chi_square(delta, gamma):
    """A quadratic of one normal is ``gamma / 2 (y + delta / gamma)^2`` less a number."""
    square, centre, low = 0.5 * gamma, (delta / gamma) ** 2, 2.0 - 0.5 * delta**2 / gamma

    def loss(tail):
        quantile = (stats.ncx2.ppf if gamma > 0.0 else stats.ncx2.isf)(tail, 1, centre)
        return -(square * quantile + low)

    for tail in (0.1, 0.01):
        found = mc.delta_gamma([delta], [[gamma]], [[1.0]], 1.0 - tail, theta=2.0)
        assert found.value_at_risk == pytest.approx(loss(tail), rel=1e-6)
        mean = integrate.quad(loss, 0.0, tail, epsrel=1e-9)[0] / tail
        assert found.expected_shortfall == pytest.approx(mean, rel=1e-5)


def test_two_equal_factors_of_pure_gamma_are_exponential():
    """Half the squared length of two normals is exponential; both factors as one is the same law as one factor."""
    found = mc.delta_gamma([0.0, 0.0], -np.eye(2), np.eye(2), 0.99)
    assert found == pytest.approx((-np.log(0.01), 1.0 - np.log(0.01)), rel=1e-6)
    both = mc.delta_gamma([1.0, 1.0], [[-0.1, 0.0], [0.0, -0.1]], np.ones((2, 2)), 0.975)
    assert both == pytest.approx(mc.delta_gamma([2.0], [[-0.2]], [[1.0]], 0.975), rel=1e-9)


def test_fourier_refuses_what_it_cannot_invert():
    with pytest.raises(NotConvergedError, match="scenarios"):
        mc.delta_gamma([0.0, 0.0], [[-1.0, 0.0], [0.0, -1e-4]], np.eye(2), 0.99)
    assert mc.delta_gamma([0.0], [[0.0]], [[1.0]], 0.99, theta=2.0) == (-2.0, -2.0)
    assert str(mc.delta_gamma([0.0], [[0.0]], [[1.0]], 0.99).value_at_risk) == "0.0"


@pytest.mark.parametrize("factors", [3, 6, 12])
@pytest.mark.parametrize("level", [0.99, 0.999, 0.9999])
def test_equal_factors_of_pure_gamma_are_chi_square(factors, level):
    found = mc.delta_gamma(np.zeros(factors), -np.eye(factors), np.eye(factors), level)
    quantile = stats.chi2.isf(1.0 - level, factors)
    mean = 0.5 * factors * stats.chi2.sf(quantile, factors + 2) / (1.0 - level)
    assert found == pytest.approx((0.5 * quantile, mean), rel=1e-6)


def test_tail_fit_recovers_a_pareto_tail():
    rng = np.random.default_rng(4)
    shape, scale = 0.3, 2.0
    excess = stats.genpareto.rvs(shape, scale=scale, size=4000, random_state=rng)
    pnl = np.concatenate([rng.uniform(-9.99, 0, 36_000), -10.0 - excess])
    found = mc.fit_tail(pnl, tail=0.1)
    assert abs(found.shape - shape) < 4 * found.shape_error and abs(found.scale - scale) < 4 * found.scale_error
    beyond = -np.sort(pnl)[:4000] - found.threshold
    oracle = stats.genpareto.fit(beyond, floc=0)
    assert (found.shape, found.scale) == pytest.approx((oracle[0], oracle[2]), rel=2e-3)
    assert found.value_at_risk(0.9) == found.threshold  # although 1 - 0.9 is binary a little less than a tenth
    true = 10.0 + stats.genpareto.isf(0.01, shape, scale=scale)
    assert abs(found.value_at_risk(0.999) - true) < 4 * found.value_at_risk_error(0.999)
    mean = found.value_at_risk(0.999) + stats.genpareto.expect(
        lambda y: y - (found.value_at_risk(0.999) - found.threshold), args=(found.shape,), scale=found.scale,
        lb=found.value_at_risk(0.999) - found.threshold) / 0.01
    assert found.expected_shortfall(0.999) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("tail", [0.05, 0.1, 0.025])
def test_tail_fit_answers_at_its_own_threshold(tail):
    found = mc.fit_tail(np.random.default_rng(4).standard_t(4, 4000), tail=tail)
    assert found.value_at_risk(1.0 - tail) == pytest.approx(found.threshold, rel=1e-9)
    assert found.expected_shortfall(1.0 - tail) > found.threshold


@pytest.mark.parametrize("shape", [-0.2, 1e-9, 0.3])
def test_error_of_a_tail_quantile_is_the_delta_method(shape):
    """Smith 1987: covariance of the estimates (1 + xi) / n [[1 + xi, -beta], [-beta, 2 beta^2]]."""
    scale, n = 2.0, 400
    fit = TailFit(5.0, shape, scale, n, 4000, (1.0 + shape) / math.sqrt(n),
                  scale * math.sqrt(2.0 * (1.0 + shape) / n))
    step = 1e-5
    slope = [(dataclasses.replace(fit, **{name: getattr(fit, name) + step}).value_at_risk(0.999)
              - dataclasses.replace(fit, **{name: getattr(fit, name) - step}).value_at_risk(0.999)) / (2.0 * step)
             for name in ("shape", "scale")]
    covariance = (1.0 + shape) / n * np.array([[1.0 + shape, -scale], [-scale, 2.0 * scale**2]])
    assert fit.value_at_risk_error(0.999) == pytest.approx(math.sqrt(slope @ covariance @ slope), rel=1e-5)


@pytest.mark.parametrize(("tail", "observations", "count"), [(0.29, 100, 29), (0.07, 300, 21)])
def test_tail_fit_counts_free_of_binary_rounding(tail, observations, count):
    pnl = np.random.default_rng(4).standard_t(4, observations)
    assert mc.fit_tail(pnl, tail=tail).exceedances == count


def test_tail_fit_of_thin_and_exponential_tails():
    rng = np.random.default_rng(5)
    thin = mc.fit_tail(-stats.genpareto.rvs(-0.25, size=5000, random_state=rng), tail=0.2)
    assert abs(thin.shape + 0.25) < 4 * thin.shape_error and thin.value_at_risk(0.999) < 4.0  # the law ends at 4
    with pytest.raises(NotConvergedError, match="maximum"):
        mc.fit_tail(rng.uniform(-1, 1, 5000), tail=0.2)  # the likelihood of a cliff has none
    exponential = mc.fit_tail(-rng.exponential(1.0, 20_000), tail=0.1)
    assert abs(exponential.shape) < 4 * exponential.shape_error
    assert exponential.value_at_risk(0.999) == pytest.approx(-np.log(0.001), rel=0.08)


def test_bad_input():
    for call, rule in (
        (lambda: mc.delta_normal([1.0, 1.0], [[1.0, 2.0], [2.0, 1.0]], 0.99), "positive semi-definite"),
        (lambda: mc.delta_normal([1.0, 1.0], [[1.0, 0.2], [0.3, 1.0]], 0.99), "symmetric"),
        (lambda: mc.delta_normal([1.0], [[1.0, 0.2], [0.2, 1.0]], 0.99), "square over 1"),
        (lambda: mc.delta_normal([1.0], [[1.0]], 99), "write 0.99"),
        (lambda: mc.delta_student([1.0], [[1.0]], 0.99, degrees=2.0), "degrees must be above 2"),
        (lambda: mc.lognormal(0.0, -1.0, 0.01), "sigma"),
        (lambda: mc.lognormal(0.0, 1.0, 0.0), "tail"),
        (lambda: mc.lognormal(0.0, 1e3, 0.01), r"mu and sigma must give a mean and quantiles below exp\(600\)"),
        (lambda: mc.lognormal(800.0, 0.0, 0.01, short=True), "were 800.0 and 0.0"),
        (lambda: mc.lognormal_risk_factors(1.0, 1.0, 0.01, drift_annual=1e6), "mu and sigma must give"),
        (lambda: mc.lognormal_risk_factors(1.0, 0.0, 0.01), "horizon_years"),
        (lambda: mc.delta_gamma([1.0], [[1.0, 0.0]], [[1.0]], 0.99), "gamma must have shape"),
        (lambda: mc.delta_gamma([1.0], [[1.0]], [[1.0]], 0.99, method="guess"), "method"),
        (lambda: mc.fit_tail(np.arange(50.0)), "exceedances"),
        (lambda: mc.fit_tail([np.nan] * 300), "finite"),
        (lambda: mc.fit_tail(np.random.default_rng(1).normal(size=1000)).value_at_risk(0.8), "below the threshold")):
        with pytest.raises(MarginError, match=rule):
            call()
