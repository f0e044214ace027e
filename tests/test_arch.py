"""The package `arch` as an oracle: likelihoods, filters, forecasts and standard errors at the same parameters."""

import math

import numpy as np
import pytest

from margincore import vol
from margincore.kernels.likelihood import Likelihood
from margincore.vol.base import backcast

univariate = pytest.importorskip("arch.univariate", reason="arch, the oracle, is not installed")

MEAN = 0.03
LAWS = {"normal": ((), univariate.Normal), "student_t": ((6.5,), univariate.StudentsT),
        "skew_t": ((6.5, -0.3), univariate.SkewStudent)}
INNOVATION = {"normal": vol.Normal(), "student_t": vol.StudentT(6.5), "skew_t": vol.SkewT(6.5, -0.3)}
# Ours, theirs, and the lags of the kernel's likelihood.
MODELS = {
    "garch": (vol.Garch, {"omega": 0.02, "alpha": 0.08, "beta": 0.9}, univariate.GARCH(1, 0, 1), 1),
    "garch 2, 2": (vol.Garch, {"omega": 0.02, "alpha": (0.04, 0.05), "beta": (0.5, 0.38)},
                   univariate.GARCH(2, 0, 2), 2),
    "gjr": (vol.Gjr, {"omega": 0.02, "alpha": 0.04, "gamma": 0.08, "beta": 0.9}, univariate.GARCH(1, 1, 1), 1),
    "egarch": (vol.Egarch, {"omega": 0.01, "alpha": 0.15, "gamma": -0.05, "beta": 0.95}, univariate.EGARCH(1, 1, 1), 1),
}


def flat(values):
    return [x for value in values.values() for x in (value if isinstance(value, tuple) else (value,))]


def simulated(law="skew_t", n=3000):
    model = vol.Garch(omega=0.02, alpha=0.08, beta=0.9, mean=MEAN, innovation=INNOVATION[law])
    return model.simulate(n, np.random.default_rng(3)).returns[0]


@pytest.mark.parametrize("name", MODELS)
def test_filters_and_likelihoods_at_the_same_parameters(name):
    kind, values, process, lags = MODELS[name]
    returns = simulated()
    errors = returns - MEAN
    before, theirs = process.backcast(errors), np.empty(errors.size)
    start = math.exp(before) if name == "egarch" else before
    assert start == pytest.approx(backcast(errors), rel=1e-14)
    process.compute_variance(np.array(flat(values)), errors, theirs, before, np.tile([0.0, 1e9], (errors.size, 1)))
    model = kind(**values, mean=MEAN, start_variance=start)
    np.testing.assert_allclose(model.filter(returns)[:-1], theirs, rtol=1e-13)
    recursion = model.recursion()
    for law, (shape, distribution) in LAWS.items():
        theta = np.array([MEAN, recursion.omega, *recursion.first, *recursion.second, *recursion.beta, *shape])
        kernel = Likelihood(observations=errors.size, family=name.split()[0], law=law, p=lags, q=lags, mean=True,
                            start="number", start_variance=start)
        ours = np.empty(errors.size)
        kernel.contributions(returns, theta, ours)
        expected = distribution().loglikelihood(np.array(shape), errors, theirs, individual=True)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)
        assert kernel.evaluate(returns, theta, np.empty(theta.size)) == pytest.approx(expected.sum(), rel=1e-12)


@pytest.mark.parametrize("name, law", [("garch", law) for law in LAWS] + [("gjr", "normal"), ("gjr", "student_t")])
def test_forecasts_at_the_same_parameters(name, law):
    # A skewed GJR is left out: theirs takes half of the variance to lie below zero there, ours what the law says.
    kind, values, process, _ = MODELS[name]
    returns = simulated(law)
    theirs = univariate.ConstantMean(returns, volatility=process, distribution=LAWS[law][1]())
    theirs = theirs.fix([MEAN, *flat(values), *LAWS[law][0]])
    model = kind(**values, mean=MEAN, innovation=INNOVATION[law], start_variance=backcast(returns - returns.mean()))
    np.testing.assert_allclose(model.forecast(returns, 20).variance,
                               theirs.forecast(horizon=20).variance.to_numpy()[-1], rtol=1e-12)
    np.testing.assert_allclose(model.standardised_residuals(returns)[500:],
                               theirs.std_resid[500:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["garch", "gjr", "egarch"])
def test_standard_errors_and_estimates(name, law):
    """Theirs come from differences of the likelihood, ours from the analytic gradient; both robust and by Hessian."""
    kind, _, process, _ = MODELS[name]
    returns = simulated(law)
    fit = kind.fit(returns, innovation=law)
    problem = univariate.ConstantMean(returns, volatility=process, distribution=LAWS[law][1]())
    robust, classic = (problem.fit(disp="off", show_warning=False, tol=1e-10, cov_type=choice)
                       for choice in ("robust", "classic"))
    errors = fit.standard_errors("sandwich")
    assert (np.abs(fit.values - robust.params.to_numpy()) < 0.03 * errors).all()  # their first variance differs
    kinked = name == "egarch"  # their differences may cross a kink in the mean: only the other errors are comparable
    np.testing.assert_allclose(errors[kinked:], robust.std_err.to_numpy()[kinked:], rtol=0.15 if kinked else 5e-3)
    np.testing.assert_allclose(fit.standard_errors("hessian")[kinked:], classic.std_err.to_numpy()[kinked:],
                               rtol=0.15 if kinked else 5e-3)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["garch", "gjr", "egarch"])
def test_likelihood_is_no_lower_from_the_same_first_variance(name, law):
    kind, _, process, _ = MODELS[name]
    for scale in (1.0, 0.01):
        returns = scale * simulated(law)
        fit = kind.fit(returns, innovation=law, start=float(returns.var()))
        problem = univariate.ConstantMean(returns, volatility=process, distribution=LAWS[law][1](), rescale=False)
        theirs = problem.fit(disp="off", show_warning=False, tol=1e-10, backcast=float(returns.var()))
        assert fit.log_likelihood >= theirs.loglikelihood - 1e-6
        if scale == 1.0:  # at the size that theirs is made for
            assert fit.log_likelihood <= theirs.loglikelihood + 1e-2


def test_har_at_the_same_data():
    truth = vol.Har(omega=0.1, daily=0.35, weekly=0.3, monthly=0.2, noise=0.4)
    series = truth.simulate(2_000, np.random.default_rng(8)).returns[0]
    fit = vol.Har.fit(series)
    theirs = univariate.HARX(series, lags=[1, 5, 22], rescale=False).fit(disp="off")
    np.testing.assert_allclose(fit.values, theirs.params.to_numpy()[:4], rtol=1e-6)
