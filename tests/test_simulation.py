"""Laws of joint returns: moments, tails, dependence, sources, pairs, splits, scenarios and what is refused."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from margincore.contracts import Contracts, Perpetual
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.laws import CopulaLaw, FactorLaw, NormalLaw, StudentLaw
from margincore.parametric import delta_student
from margincore.simulation import Philox, Sobol, from_returns, monte_carlo, simulate
from margincore.tail import tail_risk

COVARIANCE = np.array([[0.0009, 0.0006, -0.0001], [0.0006, 0.0016, 0.0002], [-0.0001, 0.0002, 0.0004]])
MEAN = np.array([0.001, -0.002, 0.0])
FACTORS = FactorLaw([[1.0, 0.5], [0.2, 0.3], [0.0, 0.0]], [[0.01, 0.002], [0.002, 0.01]], [0.001, 0.0, 0.003])
SAMPLE = np.random.default_rng(8).standard_t(3, 500)
COPULA = CopulaLaw([[1.0, 0.6], [0.6, 1.0]], [SAMPLE, stats.expon()], degrees=3.0)
LAWS = {
    "normal": NormalLaw(COVARIANCE, MEAN), "student": StudentLaw(COVARIANCE, 5.0, MEAN), "factor": FACTORS,
    "factor student": FactorLaw(FACTORS.loadings, FACTORS.factor_covariance, FACTORS.specific_variance, 4.5),
    "copula": COPULA, "normal copula": CopulaLaw([[1.0, 0.6], [0.6, 1.0]], [np.exp, stats.norm()]),
}
SOURCES = {"philox": Philox(3), "sobol": Sobol(3), "numpy": 3}
ROWS = 2**17


def source_of(name):
    return np.random.default_rng(3) if name == "numpy" else SOURCES[name]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("law, covariance, mean", [
    (LAWS["normal"], COVARIANCE, MEAN), (LAWS["student"], COVARIANCE, MEAN),
    (FACTORS, FACTORS.covariance(), np.zeros(3)), (LAWS["factor student"], FACTORS.covariance(), np.zeros(3))])
def test_moments_are_those_of_the_law(law, covariance, mean, source):
    returns = simulate(law, ROWS, source=source_of(source))
    deviation = np.sqrt(np.diag(covariance))
    assert returns.mean(axis=0) == pytest.approx(mean, abs=5 * deviation.max() / np.sqrt(ROWS))
    found = np.cov(returns.T)
    scale = np.outer(deviation, deviation)
    scale[scale == 0.0] = 1.0
    assert abs((found - covariance) / scale).max() < 0.04  # a fourth moment of 9 to 27 at 131,072 rows


@pytest.mark.parametrize("source", SOURCES)
def test_margins_and_sums_follow_student(source):
    law = StudentLaw(COVARIANCE, 4.2, MEAN)
    returns = simulate(law, ROWS, source=source_of(source))
    weight = np.array([1.0, -2.0, 0.5])
    for held in (*np.eye(3), weight):  # every sum of an elliptical law is of the same family
        deviation = np.sqrt(held @ COVARIANCE @ held) * np.sqrt(2.2 / 4.2)
        assert stats.kstest((returns @ held - held @ MEAN) / deviation, "t", args=(4.2,)).pvalue > 1e-3
    found = tail_risk(returns @ weight, 0.99)
    due = delta_student(weight, COVARIANCE, 0.99, degrees=4.2, mean=float(weight @ MEAN))
    assert tuple(found) == pytest.approx(tuple(due), rel=0.04)


def test_quasi_random_errors_are_smaller():
    held, due = np.ones(3), delta_student(np.ones(3), COVARIANCE, 0.95, degrees=6.0).expected_shortfall
    law, errors = StudentLaw(COVARIANCE, 6.0), {"philox": [], "sobol": []}
    for seed in range(12):
        for name, source in (("philox", Philox(seed)), ("sobol", Sobol(seed))):
            errors[name].append(tail_risk(simulate(law, 4096, source=source) @ held, 0.95).expected_shortfall - due)
    rms = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in errors.items()}
    assert rms["sobol"] < 0.4 * rms["philox"]  # measured: a seventh


def test_unscrambled_points_are_finite():
    returns = simulate(StudentLaw(COVARIANCE, 3.0), 64, source=Sobol(scramble=False))
    assert np.isfinite(returns).all()
    parts = [simulate(LAWS["normal"], 32, source=Sobol(5), first=first) for first in (0, 32)]
    assert np.vstack(parts) == pytest.approx(simulate(LAWS["normal"], 64, source=Sobol(5)), abs=0.0)


def test_normal_marginals_and_normal_copula_are_the_normal_law():
    law = CopulaLaw([[1.0, 0.5], [0.5, 1.0]], [stats.norm(0, 2), stats.norm(1, 3)])
    direct = NormalLaw([[4.0, 3.0], [3.0, 9.0]], [0.0, 1.0])
    assert simulate(law, 1000) == pytest.approx(simulate(direct, 1000), rel=1e-9, abs=1e-9)


def test_copula_keeps_marginals_and_ties_the_tails():
    returns = simulate(COPULA, ROWS)
    assert stats.kstest(returns[:, 1], "expon").pvalue > 1e-3
    levels = [0.05, 0.5, 0.95]  # further out the quantiles of 500 values jump
    assert np.quantile(returns[:, 0], levels) == pytest.approx(np.quantile(SAMPLE, levels), abs=0.1)
    assert SAMPLE.min() <= returns[:, 0].min() and returns[:, 0].max() <= SAMPLE.max()
    assert stats.kendalltau(*returns[:20_000].T).statistic == pytest.approx(2 * np.arcsin(0.6) / np.pi, abs=0.02)
    rank = stats.rankdata(returns, axis=0) / ROWS
    together = ((rank > 0.995).all(axis=1)).mean() / 0.005
    # Tail dependence of the t copula, 2 t_4(-sqrt(4 (1 - rho) / (1 + rho))) (McNeil, Frey and Embrechts, 7.53).
    limit = 2 * stats.t.cdf(-np.sqrt(4 * 0.4 / 1.6), 4)
    assert together == pytest.approx(limit, abs=0.08)
    normal = stats.rankdata(simulate(LAWS["normal copula"], ROWS), axis=0) / ROWS
    assert ((normal > 0.995).all(axis=1)).mean() / 0.005 < together - 0.15


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_same_draws_for_any_threads_and_split(law):
    whole = simulate(law, 20_001, antithetic=True)
    for threads in (2, 3, 5):
        assert simulate(law, 20_001, antithetic=True, threads=threads).tobytes() == whole.tobytes()
    parts = [simulate(law, 7, antithetic=True), simulate(law, 19_994, antithetic=True, first=7)]
    assert np.vstack(parts).tobytes() == whole.tobytes()
    numpy = [simulate(law, 20_001, source=np.random.default_rng(4), antithetic=True, threads=threads).tobytes()
             for threads in (1, 3)]
    assert numpy[0] == numpy[1]


@pytest.mark.parametrize("name", ["normal", "student", "factor", "factor student"])
def test_antithetic_pairs_cancel(name):
    law = LAWS[name]
    returns = simulate(law, 1000, antithetic=True)
    mean = np.zeros(3) if law.mean is None else law.mean
    assert returns[::2] + returns[1::2] == pytest.approx(np.tile(2 * mean, (500, 1)), abs=1e-15)
    assert returns[::2].tobytes() == simulate(law, 500).tobytes()
    assert len(simulate(law, 7, antithetic=True)) == 7


def test_copula_of_the_fewest_degrees():
    returns = simulate(CopulaLaw([[1.0, -0.5], [-0.5, 1.0]], [stats.norm(), stats.uniform()], 0.1), ROWS)
    assert stats.kstest(returns[:, 0], "norm").pvalue > 1e-3 and stats.kstest(returns[:, 1], "uniform").pvalue > 1e-3
    assert stats.kendalltau(*returns[:20_000].T).statistic == pytest.approx(-1 / 3, abs=0.02)


@pytest.mark.parametrize("degrees", [None, 0.7, 4.0])
def test_antithetic_copula_mirrors_the_probabilities(degrees):
    law = CopulaLaw([[1.0, 0.6], [0.6, 1.0]], [stats.uniform(), np.linspace(0.0, 1.0, 11)], degrees)
    for source in (Philox(2), np.random.default_rng(2)):
        pairs = simulate(law, 400, source=source, antithetic=True)
        assert pairs[::2] + pairs[1::2] == pytest.approx(1.0, abs=1e-12)


def test_numpy_draws_are_those_that_are_promised():
    found = simulate(LAWS["student"], 1000, source=np.random.default_rng(9))
    generator = np.random.default_rng(9)
    uniform, g = generator.random((1000, 4)), generator.standard_gamma(2.5, 1000)
    radius = np.sqrt(-2 * np.log(uniform[:, ::2])) * np.where(uniform[:, 1::2] < 0.5, -1.0, 1.0)
    half = np.pi * (np.abs(2 * uniform[:, 1::2] - 1) - 0.5)
    z = np.stack([radius * np.cos(half), radius * np.sin(half)], axis=-1).reshape(1000, 4)[:, :3]
    assert found == pytest.approx(MEAN + (z @ np.linalg.cholesky(COVARIANCE).T) * np.sqrt(1.5 / g)[:, None], rel=1e-9)


def test_streams_and_seeds_differ_and_repeat():
    runs = [simulate(LAWS["normal"], 10, source=Philox(seed, stream)) for seed, stream in ((0, 0), (0, 1), (1, 0))]
    assert len({run.tobytes() for run in runs}) == 3
    assert runs[0].tobytes() == simulate(LAWS["normal"], 10).tobytes()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32), st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_returns_scale_with_the_deviation(size, rank, seed, scale):
    half = np.random.default_rng(seed).standard_normal((size, rank))
    small, large = (simulate(NormalLaw(factor**2 * (half @ half.T)), 50) for factor in (1.0, scale))
    assert large == pytest.approx(scale * small, rel=1e-5, abs=1e-4 * scale)


def test_certain_and_identical_underlyings():
    assert (simulate(NormalLaw(np.zeros((2, 2)), [1.0, 2.0]), 5) == [1.0, 2.0]).all()
    twins = simulate(StudentLaw(np.full((2, 2), 0.04), 3.0), 50)
    assert twins[:, 0] == pytest.approx(twins[:, 1])
    still = simulate(NormalLaw([[1.0, 0.0], [0.0, 0.0]]), 20)
    assert (still[:, 1] == 0.0).all() and still[:, 0].all()


def test_scenarios_move_prices_by_the_returns():
    returns = simulate(LAWS["student"], 64)
    found = from_returns(returns, ["BTC", "ETH", "SOL"], volatility=["up"] * 64)
    assert found.names[:2] == ("path 1", "path 2") and len(found) == 64
    assert np.array(found.spot_move["ETH"]) == pytest.approx(np.expm1(returns[:, 1]), rel=1e-14)
    assert {item.kind for item in found.volatility} == {"up"}
    plan = monte_carlo(LAWS["student"], ["BTC", "ETH", "SOL"], 64).resolve(
        Contracts([Perpetual("ETH-PERP", underlying="ETH", settle="USDC")]))
    row = plan.move[list(plan.moving).index(True), :64]
    assert row == pytest.approx(np.expm1(returns[:, 1]), rel=1e-14)
    assert pickle.loads(pickle.dumps(found)).spot_move["BTC"] == found.spot_move["BTC"]


NOT_DEFINITE = [[1.0, 2.0], [2.0, 1.0]]


@pytest.mark.parametrize("make, kind, message", [
    (lambda: NormalLaw(NOT_DEFINITE), RangeError, "positive semi-definite, its least eigenvalue was -1"),
    (lambda: NormalLaw([[1.0, 0.5], [0.4, 1.0]]), RangeError, "covariance must be symmetric"),
    (lambda: NormalLaw([[1.0, 0.5]]), ShapeError, "covariance must be square"),
    (lambda: NormalLaw([[np.nan]]), NotFiniteError, "covariance must be finite, was .*nan"),
    (lambda: NormalLaw([]), ShapeError, "covariance must have 2 axes"),
    (lambda: NormalLaw([[1.0]], [0.0, 1.0]), ShapeError, "mean must have length 1, had 2"),
    (lambda: NormalLaw([[1.0]], [np.inf]), NotFiniteError, "mean must be finite"),
    (lambda: StudentLaw([[1.0]], 2.0), RangeError, "degrees must be above 2, was 2.0"),
    (lambda: StudentLaw([[1.0]], np.nan), NotFiniteError, "degrees must be finite"),
    (lambda: StudentLaw([[1.0]], "4"), RangeError, "degrees must be a number"),
    (lambda: FactorLaw([[1.0, 2.0]], [[1.0]], [0.1]), ShapeError, "factor_covariance must be square over 2 factors"),
    (lambda: FactorLaw([[1.0]], [[-1.0]], [0.1]), RangeError, "must be positive semi-definite"),
    (lambda: FactorLaw([[1.0]], [[1.0]], [-0.1]), RangeError, "specific_variance must not be negative, was -0.1 at 0"),
    (lambda: FactorLaw([[1.0]], [[1.0]], [0.1, 0.1]), ShapeError, "specific_variance must have length 1"),
    (lambda: FactorLaw([[1.0]], [[1.0]], [0.1], degrees=1.0), RangeError, "degrees must be above 2"),
    (lambda: CopulaLaw([[1.0, 0.5], [0.5, 2.0]], [SAMPLE] * 2), RangeError, "ones on its diagonal, was 2.0 at 1"),
    (lambda: CopulaLaw([[1.0, 1.5], [1.5, 1.0]], [SAMPLE] * 2), RangeError, "must be positive semi-definite"),
    (lambda: CopulaLaw([[1.0]], [SAMPLE] * 2), ShapeError, "marginals must have one entry per underlying"),
    (lambda: CopulaLaw([[1.0]], [[np.nan]]), NotFiniteError, r"marginals\[0\] must be finite"),
    (lambda: CopulaLaw([[1.0]], [[]]), ShapeError, r"marginals\[0\]"),
    (lambda: CopulaLaw([[1.0]], [SAMPLE], degrees=0.0), RangeError, "degrees must be at least 0.1, was 0.0"),
    (lambda: CopulaLaw([[1.0]], [SAMPLE], degrees=0.02), RangeError, "degrees must be at least 0.1, was 0.02"),
    (lambda: simulate(CopulaLaw([[1.0]], [lambda p: np.full(len(p), np.inf)]), 3), NotFiniteError,
     r"marginals\[0\] must have finite quantiles"),
    (lambda: CopulaLaw([[1.0]], None), ShapeError, "marginals must be a sequence .*, was None"),
    (lambda: simulate(CopulaLaw([[1.0]], [lambda p: p[:2]]), 3), ShapeError, r"marginals\[0\] must have length 3"),
    (lambda: simulate(CopulaLaw([[1.0]], [lambda p: "x"]), 3), ShapeError, r"marginals\[0\] must hold numbers"),
    (lambda: Philox(-1), RangeError, "seed must be at least 0"),
    (lambda: Philox(2**64), RangeError, "seed must be at most"),
    (lambda: Philox(0, 2**32), RangeError, "stream must be at most"),
    (lambda: Sobol(-1), RangeError, "seed must be at least 0"),
    (lambda: simulate(FACTORS, 0), RangeError, "count must be at least 1, was 0"),
    (lambda: simulate(FACTORS, 2.5), RangeError, "count must be an integer"),
    (lambda: simulate(FACTORS, 5, first=-1), RangeError, "first must be at least 0"),
    (lambda: simulate(FACTORS, 5, threads=0), RangeError, "threads must be at least 1"),
    (lambda: simulate(FACTORS, 5, first=2**63), RangeError, "first must leave room"),
    (lambda: simulate(FACTORS, 100, source=Sobol()), RangeError, "count must be a power of two"),
    (lambda: simulate(FACTORS, 4, source=Sobol(), antithetic=True), RangeError, "antithetic must be False"),
    (lambda: simulate(FACTORS, 4, source=np.random.default_rng(0), first=2), RangeError, "first must be 0"),
    (lambda: simulate(FACTORS, 4, source=7), RangeError, "source must be Philox, Sobol or numpy.random.Generator"),
    (lambda: simulate(COVARIANCE, 4), RangeError, "law must be NormalLaw"),
    (lambda: from_returns([[0.1]], ["BTC", "ETH"]), ShapeError, "underlyings must be 1 different names"),
    (lambda: from_returns([[0.1, 0.2]], ["BTC", "BTC"]), ShapeError, "underlyings must be 2 different names"),
    (lambda: from_returns([[np.nan]], ["BTC"]), NotFiniteError, "returns must be finite"),
    (lambda: from_returns([[0.1]], ["BTC"], names=["a", "b"]), ShapeError, "names must have one name per scenario"),
    (lambda: from_returns([[-800.0]], ["BTC"]), MarginError, "must be above -1"),
])
def test_errors_name_argument_rule_and_value(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_laws_keep_copies():
    matrix = np.eye(2)
    law = NormalLaw(matrix)
    before = simulate(law, 5)
    matrix[:] = 9.0
    assert simulate(law, 5).tobytes() == before.tobytes()
    with pytest.raises(ValueError):
        law.covariance[0, 0] = 2.0
