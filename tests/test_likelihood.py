"""Likelihoods, fits and standard errors: against densities, differences, a published benchmark and `arch`."""

import math

import numpy as np
import pytest
from reference.likelihood import log_density
from shared_data import shared

from margincore import vol
from margincore.errors import NotConvergedError, RangeError, ShapeError
from margincore.kernels.likelihood import Likelihood
from margincore.vol.base import backcast
from margincore.vol.problem import inverse

LAWS = {"normal": (), "student_t": (6.5,), "skew_t": (5.0, -0.2)}
THETAS = {
    ("garch", 1, 1): (0.02, 0.03, 0.1, 0.1, 0.85),
    ("garch", 2, 2): (0.02, 0.03, 0.1, 0.05, 0.1, 0.05, 0.5, 0.3),
    ("gjr", 1, 1): (0.02, 0.03, 0.04, 0.15, 0.85),
    ("component", 2, 2): (0.02, 0.004, 0.12, -0.11, 0.12, -0.11, 1.7, -0.715),
    ("egarch", 1, 1): (0.02, -0.03, 0.2, -0.08, 0.93),
    ("egarch", 2, 2): (0.02, -0.03, 0.2, -0.1, -0.08, 0.03, 0.6, 0.33),
}
FITTED = {"Garch": vol.Garch, "Gjr": vol.Gjr, "Egarch": vol.Egarch, "Component": vol.Component}
INNOVATION = {"normal": vol.Normal(), "student_t": vol.StudentT(5.0), "skew_t": vol.SkewT(5.0, -0.2)}


def simulated(law="normal", n=3000, seed=4):
    model = vol.Garch(omega=2e-6, alpha=0.08, beta=0.9, mean=3e-4, innovation=INNOVATION[law])
    return model.simulate(n, np.random.default_rng(seed)).returns[0]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", THETAS, ids=str)
@pytest.mark.parametrize("start", ["sample", "backcast", "number"])
def test_gradient_equals_differences_and_density_the_twin(shape, law, start):
    family, p, q = shape
    returns = np.random.default_rng(2).standard_t(5, 333)
    theta = np.array([*THETAS[shape], *LAWS[law]])
    kernel = Likelihood(observations=333, family=family, law=law, p=p, q=q, mean=True, start=start, start_variance=1.3)
    slope, other, parts = np.empty(theta.size), np.empty(theta.size), np.empty(333)
    value = kernel.evaluate(returns, theta, slope)
    kernel.contributions(returns, theta, parts)
    assert value == pytest.approx(parts.sum(), rel=1e-13)
    for at in range(theta.size):
        width = 1e-4 * max(abs(theta[at]), 0.05)
        total = 0.0
        for steps, weight in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
            moved = theta.copy()
            moved[at] += steps * width
            total += weight * kernel.evaluate(returns, moved, other)
        # fourth-order differences: 1e-16 / 1e-5 relative to the value from rounding
        assert slope[at] == pytest.approx(total / (12.0 * width), rel=2e-7, abs=2e-6)
    if family == "garch":
        model = vol.Garch(mean=theta[0], omega=theta[1], alpha=tuple(theta[2:2 + p]),
                          beta=tuple(theta[2 + 2 * p:2 + 2 * p + q]),
                          start_variance=kernel.presample_variance(returns, theta))
        path = model.filter(returns)[:-1]
        twin = [log_density(r - theta[0], h, law, LAWS[law]) for r, h in zip(returns, path, strict=True)]
        np.testing.assert_allclose(parts, twin, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("law", [vol.Normal(), vol.StudentT(2.5), vol.StudentT(8.0), vol.SkewT(5.0, -0.4),
                                 vol.SkewT(3.0, 0.6), vol.SkewT(40.0, 0.0)], ids=repr)
def test_laws_have_unit_variance_and_the_moments_they_state(law):
    integrate = pytest.importorskip("scipy.integrate", reason="SciPy is not installed")
    name = {vol.Normal: "normal", vol.StudentT: "student_t", vol.SkewT: "skew_t"}[type(law)]

    def moment(function, low, high):  # in three parts: the joint of a skewed law is not smooth
        borders = sorted({low, high, *(x for x in (-2.0, 0.0, 2.0) if low < x < high)})
        return math.fsum(integrate.quad(lambda z: function(z) * math.exp(log_density(z, 1.0, name, law.values())), x, y,
                                        epsabs=1e-12, epsrel=1e-10, limit=400)[0]
                         for x, y in zip(borders, borders[1:], strict=False))

    far = math.inf
    heavy = 1e-4 if law.values() and law.values()[0] < 4.0 else 1e-8  # a tail of x^-1.5 is hard to integrate
    assert moment(lambda z: 1.0, -far, far) == pytest.approx(1.0, abs=1e-8)
    assert moment(lambda z: z, -far, far) == pytest.approx(0.0, abs=1e-6)
    assert moment(lambda z: z * z, -far, far) == pytest.approx(1.0, abs=heavy)
    assert moment(lambda z: z * z, -far, 0.0) == pytest.approx(law.low_share(), abs=heavy)
    assert moment(abs, -far, far) == pytest.approx(law.absolute_mean(), abs=1e-6)
    drawn = law.draw(np.random.default_rng(3), (400_000,))
    assert drawn.mean() == pytest.approx(0.0, abs=0.01)
    assert np.abs(drawn).mean() == pytest.approx(law.absolute_mean(), abs=0.01)
    assert np.mean(drawn < 0.5) == pytest.approx(moment(lambda z: 1.0, -far, 0.5), abs=0.005)


def test_first_variances_and_impossible_parameters():
    returns, theta, slope = simulated(n=120), np.array([1e-4, 2e-6, 0.1, 0.1, 0.85]), np.empty(5)
    expected = {"sample": np.mean((returns - 1e-4) ** 2), "backcast": backcast(returns - 1e-4), "number": 3e-4}
    for start, variance in expected.items():
        kernel = Likelihood(observations=120, family="garch", law="normal", p=1, q=1, mean=True, start=start,
                            start_variance=3e-4)
        assert kernel.presample_variance(returns, theta) == pytest.approx(variance, rel=1e-14)
        assert kernel.evaluate(returns, theta * [1.0, math.nan, 1.0, 1.0, 1.0], slope) == -math.inf  # not NaN
    short = Likelihood(observations=7, family="garch", law="normal", p=1, q=1, mean=True, start="backcast")
    assert short.presample_variance(returns[:7].copy(), theta) == pytest.approx(backcast(returns[:7] - 1e-4), rel=1e-14)


def test_benchmark_of_fiorentini_calzolari_and_panattoni():
    # G. Fiorentini, G. Calzolari, L. Panattoni, Journal of Applied Econometrics 11 (1996) 399-417; values as in
    # B. McCullough, C. Renfro, Journal of Economic and Social Measurement 25 (1999) 59-71.
    returns = np.loadtxt(shared("data", "econometrics", "dmbp.csv"), delimiter=",", skiprows=1)[:, 1]
    fit = vol.Garch.fit(returns, start="sample")
    assert fit.names == ("mean", "omega", "alpha", "beta")
    np.testing.assert_allclose(fit.values, [-0.00619041, 0.0107613, 0.153134, 0.805974], rtol=1.2e-5)
    for kind, expected in (("hessian", [0.00846212, 0.00285271, 0.0265228, 0.0335527]),
                           ("opg", [0.00843359, 0.00132298, 0.0139737, 0.0165604]),
                           ("sandwich", [0.00918935, 0.00649319, 0.0535317, 0.0724614])):
        np.testing.assert_allclose(fit.standard_errors(kind), expected, rtol=5e-5)
    assert fit.log_likelihood == pytest.approx(-1106.6079, abs=1e-3)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", FITTED)
def test_fit_is_an_optimum_and_its_model_repeats_it(kind, law):
    returns = simulated(law, 2000)
    fit = FITTED[kind].fit(returns, innovation=law)
    density = [log_density(r - fit.model.mean, h, law, fit.model.innovation.values())
               for r, h in zip(returns, fit.model.filter(returns), strict=False)]
    assert math.fsum(density) == pytest.approx(fit.log_likelihood, rel=1e-9)
    theta = np.ascontiguousarray(fit.problem.theta(fit.values))
    gradient = fit.problem._gradient(fit.problem.kernel(2000), returns, fit.values)
    errors = fit.standard_errors("opg")
    free = [i for i, name in enumerate(fit.names) if name not in fit.fixed]
    if not fit.fixed:  # the score in standard errors
        assert np.abs(gradient[free] * errors[free]).max() < 1e-3
    assert np.isfinite(theta).all() and fit.bic > fit.aic


def test_scaling_the_returns_scales_the_fit():
    returns = simulated()
    base, exact, other = (vol.Garch.fit(returns * scale, innovation="student_t") for scale in (1.0, 1024.0, 100.0))
    assert (exact.values == base.values * [1024.0, 1024.0 ** 2, 1, 1, 1]).all()
    np.testing.assert_allclose(other.values, base.values * [100.0, 1e4, 1, 1, 1], rtol=1e-5)


@pytest.mark.parametrize("law", ["normal", "student_t", "skew_t"])
def test_panel_equals_single_fits_in_bits(law):
    table = np.column_stack([simulated(law, 600, seed) for seed in range(7)])
    table[3, 2] = np.nan
    table[:, 4] = 0.25
    one, two = (vol.Garch.fit_panel(table, innovation=law, threads=threads) for threads in (1, 2))
    assert one.values.tobytes() == two.values.tobytes() and one.status.tolist() == two.status.tolist()
    assert one.status[2] == 2 and one.status[4] == 3
    assert np.isnan(one.values[[2, 4]]).all() and np.isnan(one.log_likelihood[[2, 4]]).all()
    with pytest.raises(NotConvergedError, match="series 2 must have a converged fit"):
        one.model(2)
    order = [5, 0, 6, 1, 3]
    shuffled = vol.Garch.fit_panel(table[:, order], innovation=law)
    assert shuffled.values.tobytes() == one.values[order].tobytes()
    for s in order:
        if one.status[s] == 0:
            fit = vol.Garch.fit(table[:, s], innovation=law)
            assert fit.values.tobytes() == one.values[s].tobytes() and fit.model == one.model(s)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", [vol.Garch, vol.Gjr])
def test_variance_targeting_meets_the_sample(kind, law):
    returns = simulated(law)
    if kind is vol.Gjr and law == "skew_t":  # its long-run variance depends on the skew
        with pytest.raises(RangeError, match="targeting must be off for GJR under a skewed law"):
            kind.fit(returns, innovation=law, targeting=True)
        return
    fit = kind.fit(returns, innovation=law, targeting=True)
    assert fit.model.unconditional_variance == pytest.approx(returns.var(), rel=1e-9)
    assert "omega" in fit.fixed and np.isnan(fit.standard_errors()[1])
    assert np.isfinite(np.delete(fit.standard_errors(), 1)).all()
    assert fit.log_likelihood <= kind.fit(returns, innovation=law).log_likelihood + 1e-9
    zero = kind.fit(returns + 0.003, innovation=law, targeting=True, mean="zero")
    assert zero.model.mean == 0.0 and zero.model.unconditional_variance == pytest.approx(
        np.mean((returns + 0.003) ** 2), rel=1e-9)


@pytest.mark.parametrize("skew, bound", [(-0.6, 6), (0.5, 3)])
def test_a_skewed_gjr_keeps_to_the_bound_of_the_law_it_finds(skew, bound):
    """Falls weigh as often as they come: near the bound the search is repeated until law and persistence agree."""
    law = vol.SkewT(4.0, skew)
    truth = vol.Gjr(omega=1e-6, alpha=0.0, gamma=0.2, beta=0.997 - 0.2 * law.low_share(), innovation=law)
    table = np.ascontiguousarray(truth.simulate(800, np.random.default_rng(38), paths=12).returns.T)
    panel = vol.Gjr.fit_panel(table, innovation="skew_t")
    assert (panel.status == 0).all()
    at_bound = 0
    for at in range(12):
        fit = vol.Gjr.fit(table[:, at].copy(), innovation="skew_t")
        assert fit.values.tobytes() == panel.values[at].tobytes() and fit.log_likelihood == panel.log_likelihood[at]
        assert fit.model == panel.model(at)
        assert fit.model.persistence <= 0.999999 + 1e-8
        if fit.model.persistence > 0.99999:
            at_bound += 1
            assert "beta" in fit.fixed and np.isnan(fit.standard_errors()[4])
            assert np.isfinite(fit.standard_errors()[[0, 1, 5, 6]]).all()
        else:  # nothing but zero holds the fit, so the score vanishes
            assert "beta" not in fit.fixed
            kernel = fit.problem.kernel(800)
            errors = fit.standard_errors("opg")
            free = [i for i, name in enumerate(fit.names) if name not in fit.fixed]
            gradient = fit.problem._gradient(kernel, table[:, at].copy(), fit.values)
            assert np.abs(gradient[free] * errors[free]).max() < 1e-3
    assert at_bound == bound


def test_fits_that_rest_on_a_bound_say_so():
    returns = simulated()
    criteria = vol.Garch.fit(returns, mean="zero", targeting=True)
    assert criteria.fixed == ("mean", "omega")
    assert criteria.aic == pytest.approx(4.0 - 2.0 * criteria.log_likelihood)
    assert criteria.bic == pytest.approx(2.0 * math.log(3000) - 2.0 * criteria.log_likelihood)
    calm = np.random.default_rng(0).standard_normal(500) * 0.01
    fit = vol.Garch.fit(calm)
    assert fit.fixed == ("alpha",) and fit.parameters()["alpha"] == 0.0 and np.isnan(fit.standard_errors()[2])
    rising = vol.Gjr(omega=2e-6, alpha=0.1, gamma=-0.1, beta=0.9).simulate(3000, np.random.default_rng(3)).returns[0]
    fit = vol.Gjr.fit(rising)
    assert fit.parameters()["gamma"] == -fit.parameters()["alpha"] and fit.fixed == ("alpha", "gamma")
    assert np.isnan(fit.standard_errors()).tolist() == [False, False, True, True, False]
    fit, normal = vol.Garch.fit(simulated(seed=8), innovation="student_t"), vol.Garch.fit(simulated(seed=8))
    assert fit.fixed == ("degrees_of_freedom",) and fit.values[-1] == 500.0
    assert fit.log_likelihood == pytest.approx(normal.log_likelihood, abs=0.1)
    with pytest.raises(NotConvergedError, match="decay must have an optimum inside"):
        vol.Ewma.fit(np.random.default_rng(2).standard_normal(500) * 0.01)


def test_an_information_matrix_that_is_none_gives_no_errors():
    scale = np.array([1e6, 1.0, 1e-6])
    matrix = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]]) * np.outer(scale, scale)
    np.testing.assert_allclose(inverse(matrix) @ matrix, np.eye(3), atol=1e-3)
    for wrong in (-matrix, matrix * [[1.0, 9.0, 1.0], [9.0, 1.0, 1.0], [1.0, 1.0, 1.0]], np.zeros((3, 3)),
                  np.ones((3, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(NotConvergedError, match="must be positive definite"):
            inverse(wrong)


@pytest.mark.parametrize("returns", [np.zeros(200), np.full(200, 0.01), 1e-110 * np.arange(200.0),
                                     1e5 + 1e-7 * np.arange(200.0)], ids=["zero", "constant", "tiny", "far"])
def test_series_that_hardly_vary_are_constant(returns):
    with pytest.raises(RangeError, match="returns must vary"):
        vol.Garch.fit(returns)
    with pytest.raises(RangeError, match="returns must vary"):
        vol.Ewma.fit(returns)
    panel = vol.Garch.fit_panel(np.column_stack([returns, simulated(n=200)]))
    assert panel.status[0] == 3 and np.isnan(panel.values[0]).all() and np.isnan(panel.log_likelihood[0])


STUCK = {
    "mostly zero": lambda shocks: np.where(np.arange(400) % 30 == 7, shocks, 0.0),
    "one move": lambda shocks: np.append(np.zeros(399), 0.01),
    "zero, then moving": lambda shocks: np.append(np.zeros(300), shocks[:100]),
    "dying": lambda shocks: shocks * np.exp(-np.linspace(0.0, 30.0, 400)),
}


@pytest.mark.parametrize("kind", [vol.Garch, vol.Gjr])
@pytest.mark.parametrize("name", STUCK)
def test_a_likelihood_without_limit_is_no_fit(name, kind):
    """Of a price that stands still a Student likelihood grows for ever as omega falls: that was a variance of 1e-15."""
    returns = STUCK[name](np.random.default_rng(0).standard_normal(400) * 0.01)
    with pytest.raises(NotConvergedError, match="must have an optimum that the search can prove, was 'stopped'"):
        kind.fit(returns, innovation="student_t")
    panel = kind.fit_panel(np.column_stack([returns, simulated(n=400)]), innovation="student_t")
    assert panel.status.tolist() == [1, 0] and np.isnan(panel.values[0]).all() and np.isnan(panel.log_likelihood[0])
    with pytest.raises(NotConvergedError, match="series 0"):
        panel.model(0)
    kept = kind.fit(returns, targeting=True)  # the long-run variance is the sample's, whatever the likelihood wants
    assert kept.model.unconditional_variance == pytest.approx(returns.var(), rel=1e-9)


def test_each_parameter_needs_ten_returns():
    returns = simulated()
    with pytest.raises(ShapeError, match="at least 100 observations, had 99"):
        vol.Gjr.fit(returns[:99], p=2, q=2, innovation="skew_t")
    vol.Gjr.fit(returns[:100], p=2, q=2)


@pytest.mark.parametrize("kind", ["Component", "Ewma", "Gjr", "Garch"])
def test_errors_are_those_of_differences_of_the_likelihood(kind):
    """Densities of the twin along the model's own filter, differenced twice in steps of a hundredth of an error."""
    truth = vol.Component(omega=1e-6, alpha=0.06, beta=0.8, rho=0.985, phi=0.04)
    returns = truth.simulate(3000, np.random.default_rng(6)).returns[0]
    fit = getattr(vol, kind).fit(returns)
    assert fit.fixed == ()
    size, widths = fit.values.size, 0.01 * fit.standard_errors("hessian")

    def each(values):
        model = fit.problem.model(returns, values)
        h, e = model.filter(returns)[:-1], returns - model.mean
        return -0.5 * (math.log(2.0 * math.pi) + np.log(h) + e * e / h)

    def at(*moves):
        values = fit.values.copy()
        for index, steps in moves:
            values[index] += steps * widths[index]
        return each(values)

    if kind == "Ewma":  # its first variance is not a parameter
        assert each(fit.values).sum() == pytest.approx(fit.log_likelihood, rel=1e-10)
    hessian = np.array([[(at((i, 1), (k, 1)) - at((i, 1), (k, -1)) - at((i, -1), (k, 1)) + at((i, -1), (k, -1))).sum()
                         for k in range(size)] for i in range(size)]) / (4.0 * np.outer(widths, widths))
    scores = np.column_stack([(at((i, 1)) - at((i, -1))) / (2.0 * widths[i]) for i in range(size)])
    bread, meat = np.linalg.inv(-hessian), scores.T @ scores
    for name, expected in (("hessian", bread), ("opg", np.linalg.inv(meat)), ("sandwich", bread @ meat @ bread)):
        np.testing.assert_allclose(fit.standard_errors(name), np.sqrt(np.diagonal(expected)), rtol=2e-3)


def test_ewma_fit_is_the_best_decay():
    returns = simulated()
    fit = vol.Ewma.fit(returns)
    for decay in (fit.model.decay - 1e-3, fit.model.decay + 1e-3):
        h = vol.Ewma(decay=decay).filter(returns)[:-1]
        assert -0.5 * (np.log(2 * np.pi * h) + returns ** 2 / h).sum() < fit.log_likelihood


def test_bad_arguments_are_named():
    returns = simulated()
    with pytest.raises(RangeError, match="innovation"):
        vol.Garch.fit(returns, innovation="cauchy")
    with pytest.raises(RangeError, match="start"):
        vol.Garch.fit(returns, start="first")
    with pytest.raises(RangeError, match="start"):
        vol.Garch.fit(returns, start=-1.0)
    with pytest.raises(RangeError, match="p must be at most 8"):
        vol.Garch.fit(returns, p=9)
    with pytest.raises(ShapeError, match="at least 50 observations, had 49"):
        vol.Garch.fit(returns[:49])
    for wrong in ({"alpha": 0.3, "beta": 0.7}, {"alpha": -0.1, "beta": 0.5}, {"omega": 0.0}):
        with pytest.raises(RangeError):
            vol.Garch(**{"omega": 1e-6, "alpha": 0.1, "beta": 0.8, **wrong})
    for decay in (0.0, 1.0, -0.1, 1.5):
        with pytest.raises(RangeError, match="decay"):
            vol.Ewma(decay=decay)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("law, theirs", [("normal", "normal"), ("student_t", "t"), ("skew_t", "skewt")])
@pytest.mark.parametrize("kind, orders", [
    ("Garch", {"o": 0}), ("Gjr", {"o": 1}), ("Egarch", {"o": 1, "vol": "EGARCH"})])
def test_no_worse_than_arch_and_the_same_filter(kind, orders, law, theirs):
    arch = pytest.importorskip("arch", reason="arch, the oracle, is not installed")
    returns = simulated(law) * 100.0
    fit = FITTED[kind].fit(returns, innovation=law)
    result = arch.arch_model(returns, mean="Constant", dist=theirs, p=1, q=1, **orders).fit(disp="off")
    assert fit.log_likelihood >= result.loglikelihood - (0.05 if kind == "Gjr" else 1e-4 * abs(result.loglikelihood))
    if kind != "Garch" or law == "skew_t":
        return
    np.testing.assert_allclose(fit.values[:4], result.params.values[:4], rtol=2e-2, atol=2e-4)
    deviation = np.sqrt(fit.model.filter(returns)[200:-1])
    np.testing.assert_allclose(deviation, result.conditional_volatility[200:], rtol=5e-3)


@pytest.mark.parametrize("seed", range(6))
def test_egarch_converges_where_the_optimum_rests_in_a_kink(seed):
    model = vol.Garch(omega=2e-6, alpha=0.08, beta=0.9, innovation=vol.StudentT(5.0))
    returns = model.simulate(1500, np.random.default_rng(seed)).returns[0]
    fit = vol.Egarch.fit(returns)
    kernel, slope = fit.problem.kernel(returns.size), np.empty(5)
    for move in (-1e-5, -1e-7, 1e-7, 1e-5):
        moved = fit.values + [move, 0.0, 0.0, 0.0, 0.0]
        assert kernel.evaluate(returns, moved, slope) <= fit.log_likelihood + 1e-6


@pytest.mark.parametrize("law, seed", [("normal", 3), ("skew_t", 4), ("skew_t", 5)])
def test_errors_of_an_egarch_do_not_difference_across_kinks(law, seed):
    """Optima that rest in a kink: the error of the mean came out 15 times too small by differences of the likelihood,
    and up to ten times too large by differences of its gradient.  The three kinds agree where the law is the true one.
    """
    model = vol.Egarch(omega=0.01, alpha=0.15, gamma=-0.05, beta=0.97,
                       innovation={"normal": vol.Normal(), "skew_t": vol.SkewT(5.0, -0.3)}[law])
    returns = model.simulate(2000, np.random.default_rng(seed)).returns[0]
    fit = vol.Egarch.fit(returns, innovation=law)
    sandwich, hessian, outer = (fit.standard_errors(kind) for kind in ("sandwich", "hessian", "opg"))
    assert sandwich[0] / outer[0] == pytest.approx(1.0, abs=0.06)
    assert hessian[0] / outer[0] == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(sandwich / outer, 1.0, atol=0.4)


def test_an_egarch_of_two_lags_is_found_where_the_sum_of_their_sizes_is_two():
    """Stationary through opposite signs: roots 0.86 and 0.64."""
    truth = vol.Egarch(omega=0.0, alpha=0.3, gamma=-0.1, beta=(1.5, -0.55))
    fit = vol.Egarch.fit(truth.simulate(4000, np.random.default_rng(0)).returns[0], q=2)
    assert (np.abs(fit.values - [0.0, 0.0, 0.3, -0.1, 1.5, -0.55]) < 4.0 * fit.standard_errors()).all()
    assert np.nanmax(fit.standard_errors()) < 0.04 and fit.fixed == ()


def test_several_lags_are_searched_from_every_start():
    """The likelihood of this series has two maxima; the best of the starting points leads to the lower, 3165.94."""
    drawn = vol.Garch(omega=2e-5, alpha=(0.02, 0.12), beta=(0.05, 0.75)).simulate(1200, np.random.default_rng(30))
    assert vol.Garch.fit(drawn.returns[0], p=2, q=2).log_likelihood > 3166.13


def test_a_later_start_may_lead_to_the_higher_maximum():
    """Found from none of the three best starting points, which end at 2827.96."""
    random, returns, variance = np.random.default_rng(57), np.zeros(700), np.full(700, 1e-4)
    shocks = random.standard_t(6, size=700) / math.sqrt(1.5)
    for t in range(2, 700):
        variance[t] = (2e-6 + 0.04 * returns[t - 1] ** 2 + 0.14 * returns[t - 2] ** 2 + 0.1 * variance[t - 1]
                       + 0.68 * variance[t - 2])
        returns[t] = math.sqrt(variance[t]) * shocks[t]
    assert vol.Garch.fit(returns, p=2, q=2).log_likelihood > 2829.75
