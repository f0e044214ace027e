"""Monte Carlo: 100,000 paths of 10 Student-t returns, by our generator and by one of NumPy's."""

import numpy as np
import pytest

import margincore as mc

PATHS, ASSETS, DEGREES = 100_000, 10, 4.5


@pytest.fixture(scope="module")
def covariance():
    deviation = np.linspace(0.02, 0.06, ASSETS)
    return (0.5 * np.eye(ASSETS) + 0.5) * np.outer(deviation, deviation)


def numpy_student(generator, root):
    """Multivariate t as a good user writes it: one product, one factor per path."""
    z = generator.standard_normal((PATHS, ASSETS))
    factor = np.sqrt((DEGREES - 2.0) / generator.chisquare(DEGREES, PATHS))
    return (z @ root.T) * factor[:, None]


def numba_student(root):
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def run(generator, root):
        out = np.empty((PATHS, ASSETS))
        z = np.empty(ASSETS)
        for path in range(PATHS):
            for j in range(ASSETS):
                z[j] = generator.standard_normal()
            factor = np.sqrt((DEGREES - 2.0) / generator.chisquare(DEGREES))
            for i in range(ASSETS):
                total = 0.0
                for j in range(i + 1):
                    total += root[i, j] * z[j]
                out[path, i] = factor * total
        return out

    return run


def check(returns, covariance):
    """The same law: deviations within 3 %, correlations within 0.02."""
    deviation = np.sqrt(np.diag(covariance))
    assert returns.std(axis=0) == pytest.approx(deviation, rel=0.03)
    assert np.corrcoef(returns.T) == pytest.approx(covariance / np.outer(deviation, deviation), abs=0.02)


@pytest.mark.benchmark(group="Monte Carlo, 100,000 paths x 10 Student-t returns")
@pytest.mark.parametrize("who", ["margincore", "numpy", "numba", "scipy multivariate_t"])
def test_own_generator(benchmark, covariance, who):
    root, generator = np.linalg.cholesky(covariance), np.random.default_rng(1)
    if who == "margincore":
        law = mc.StudentLaw(covariance, DEGREES)
        check(benchmark.pedantic(mc.simulate, (law, PATHS), rounds=15, warmup_rounds=2), covariance)
    elif who == "numpy":
        check(benchmark.pedantic(numpy_student, (generator, root), rounds=15, warmup_rounds=2), covariance)
    elif who == "numba":
        check(benchmark.pedantic(numba_student(root), (generator, root), rounds=7, warmup_rounds=1), covariance)
    else:
        from scipy.stats import multivariate_t

        law = multivariate_t(np.zeros(ASSETS), covariance * (DEGREES - 2.0) / DEGREES, DEGREES)
        check(benchmark.pedantic(law.rvs, (PATHS,), {"random_state": generator}, rounds=7, warmup_rounds=1), covariance)


@pytest.mark.benchmark(group="Monte Carlo, 100,000 paths x 10 Student-t returns, NumPy generator given")
@pytest.mark.parametrize("who", ["margincore", "numpy"])
def test_given_generator(benchmark, covariance, who):
    generator = np.random.default_rng(1)
    if who == "margincore":
        law, given = mc.StudentLaw(covariance, DEGREES), {"source": generator}
        check(benchmark.pedantic(mc.simulate, (law, PATHS), given, rounds=15, warmup_rounds=2), covariance)
    else:
        root = np.linalg.cholesky(covariance)
        check(benchmark.pedantic(numpy_student, (generator, root), rounds=15, warmup_rounds=2), covariance)
