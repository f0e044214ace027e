"""Vector mathematics: error in units of the last place against 50 digits, edges as in C99, equal bits anywhere."""

import hashlib
import math

import mpmath as mp
import numpy as np
import pytest
from instruction_sets import digest_at

from margincore.kernels import LEVELS, formula, implied

NAN, INF = math.nan, math.inf
RNG = np.random.default_rng(20260101)
SIZE = 400


def ulps(values, exact):
    """Largest error in units of the last place of the exact value."""
    worst = 0.0
    for value, truth in zip(values, exact, strict=True):
        nearest = float(truth)
        if not math.isfinite(nearest) or nearest == 0.0:
            assert value == nearest
            continue
        worst = max(worst, float(abs(mp.mpf(float(value)) - truth) / mp.mpf(float(np.spacing(abs(nearest))))))
    return worst


def mills(x):
    if x > 1e5:
        return 1 / x - 1 / x**3 + 3 / x**5
    return mp.sqrt(mp.pi / 2) * mp.erfc(x / mp.sqrt(2)) * mp.exp(x * x / 2)


def cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def pdf(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def quantile(p):
    x = mp.mpf(apply("normal_quantiles", np.array([float(p)]))[0])
    for _ in range(3):  # Newton from sixteen digits: 32, 64
        x -= (cdf(x) - p) / pdf(x)
    return x


def apply(name, *arrays):
    out = np.empty_like(arrays[0])
    getattr(formula, name)(*arrays, out)
    return out


def signed(size):
    return RNG.choice([-1.0, 1.0], size)


# name, arguments, truth, bound in units of the last place (the bounds stated in vmath.h)
CASES = [
    ("exps", RNG.uniform(-745, 709.7, SIZE), mp.exp, 1.0),
    ("exps", RNG.normal(0, 1, SIZE), mp.exp, 1.0),
    ("exps", signed(SIZE) * 10.0 ** RNG.uniform(-20, 0, SIZE), mp.exp, 1.0),
    ("expm1s", RNG.uniform(-40, 709.7, SIZE), mp.expm1, 2.0),
    ("expm1s", RNG.normal(0, 1, SIZE), mp.expm1, 2.0),
    ("expm1s", signed(SIZE) * 10.0 ** RNG.uniform(-300, 0, SIZE), mp.expm1, 2.0),
    ("logs", 10.0 ** RNG.uniform(-320, 308, SIZE), mp.log, 1.0),
    ("logs", RNG.uniform(0.5, 2, SIZE), mp.log, 1.0),
    ("logs", 1 + signed(SIZE) * 10.0 ** RNG.uniform(-15, -1, SIZE), mp.log, 1.0),
    ("log1ps", 10.0 ** RNG.uniform(-320, 308, SIZE), mp.log1p, 1.0),
    ("log1ps", RNG.uniform(-1, 2, SIZE), mp.log1p, 1.0),
    ("log1ps", -(10.0 ** RNG.uniform(-15, -0.0001, SIZE)), mp.log1p, 1.0),
    ("normal_pdfs", RNG.uniform(-37.5, 37.5, SIZE), pdf, 2.0),
    ("normal_pdfs", RNG.normal(0, 1, SIZE), pdf, 2.0),
    ("normal_cdfs", RNG.uniform(-37.4, 9, SIZE), cdf, 4.0),
    ("normal_cdfs", RNG.normal(0, 1, SIZE), cdf, 4.0),
    ("mills_ratios", RNG.uniform(0, 40, SIZE), mills, 3.0),
    ("mills_ratios", 10.0 ** RNG.uniform(-10, 300, SIZE), mills, 3.0),
    ("normal_quantiles", 10.0 ** RNG.uniform(-307, 0, SIZE // 2), quantile, 4.0),
    ("normal_quantiles", RNG.uniform(0, 1, SIZE // 2), quantile, 4.0),
    ("normal_quantiles", 1 - 10.0 ** RNG.uniform(-15, 0, SIZE // 2), quantile, 4.0),
]


@pytest.mark.parametrize(("name", "x", "truth", "bound"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_error_against_50_digits(name, x, truth, bound):
    with mp.workdps(50):
        assert ulps(apply(name, x), [truth(mp.mpf(float(v))) for v in x]) <= bound


def test_power_error_against_50_digits():
    x, y = RNG.uniform(1e-3, 1e3, SIZE), RNG.uniform(-2, 2, SIZE)
    with mp.workdps(50):
        exact = [mp.mpf(float(a)) ** mp.mpf(float(b)) for a, b in zip(x, y, strict=True)]
        assert ulps(apply("powers", x, y), exact) <= 2.0


@pytest.mark.parametrize("spread", [1e-12, 1e-5, 0.3, 300.0])
def test_log_ratio_keeps_its_digits_near_one(spread):
    a = 10.0 ** RNG.uniform(-3, 6, SIZE)
    b = a * np.exp(np.clip(RNG.normal(0, spread, SIZE), -600, 600))
    with mp.workdps(50):
        assert ulps(apply("log_ratios", a, b), [mp.log(mp.mpf(float(u)) / mp.mpf(float(v)))
                                                for u, v in zip(a, b, strict=True)]) <= 2.0


EDGES = [
    ("exps", [NAN, INF, -INF, 0.0, 710.0, -746.0, 5e-324], [NAN, INF, 0.0, 1.0, INF, 0.0, 1.0]),
    ("expm1s", [NAN, INF, -INF, 0.0, 710.0, 5e-324, -800.0], [NAN, INF, -1.0, 0.0, INF, 5e-324, -1.0]),
    ("logs", [NAN, INF, 0.0, -0.0, -1.0, -INF, 1.0], [NAN, INF, -INF, -INF, NAN, NAN, 0.0]),
    ("log1ps", [NAN, INF, -1.0, -2.0, 0.0, 5e-324, -INF], [NAN, INF, -INF, NAN, 0.0, 5e-324, NAN]),
    ("normal_pdfs", [NAN, INF, -INF, 1e300], [NAN, 0.0, 0.0, 0.0]),
    ("normal_cdfs", [NAN, INF, -INF, 0.0, -1e300, 1e300], [NAN, 1.0, 0.0, 0.5, 0.0, 1.0]),
    ("normal_quantiles", [NAN, 0.0, 1.0, 0.5, -0.1, 1.1, INF], [NAN, -INF, INF, 0.0, NAN, NAN, NAN]),
    ("mills_ratios", [NAN, INF], [NAN, 0.0]),
]


@pytest.mark.parametrize(("name", "x", "expected"), EDGES, ids=lambda v: v if isinstance(v, str) else "")
def test_edges(name, x, expected):
    np.testing.assert_array_equal(apply(name, np.array(x)), expected)


def test_subnormals_round_once():
    x = np.linspace(-744.0, -709.0, 50)
    with mp.workdps(50):
        for value, argument in zip(apply("exps", x), x, strict=True):
            assert abs(mp.mpf(float(value)) - mp.exp(mp.mpf(float(argument)))) <= mp.mpf(5e-324)


@pytest.mark.parametrize("exponent", [-INF, -2.5, -0.0, 0.0, 0.5, 3.0, INF, NAN])
def test_power_edges_follow_c(exponent):
    for base in (0.0, 5e-324, 0.5, 1.0, 2.0, 1e308, INF, NAN):
        with np.errstate(all="ignore"):
            expected = np.power(base, exponent)
        np.testing.assert_allclose(apply("powers", np.array([base]), np.array([exponent])), [expected], rtol=1e-14)


def digest():
    """Hash of the bits of every function of `formula` on one fixed set of arguments."""
    rng = np.random.default_rng(7)
    special = np.array([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 5e-324, 1e-310, 1e308, -1e308, 710.0, -746.0])
    x = np.concatenate([rng.normal(0, 30, 500), rng.uniform(0, 1, 500), 10.0 ** rng.uniform(-320, 300, 500), special])
    state = hashlib.sha256()
    with np.errstate(all="ignore"):
        for name in ("exps", "expm1s", "logs", "log1ps", "mills_ratios", "normal_pdfs", "normal_cdfs",
                     "normal_quantiles"):
            out = apply(name, np.abs(x) if name == "mills_ratios" else x)
            state.update(np.where(np.isnan(out), 0.0, out).tobytes())
        for name in ("powers", "log_ratios"):
            out = apply(name, x, rng.permutation(x))
            state.update(np.where(np.isnan(out), 0.0, out).tobytes())
        forward, strike, sigma = np.exp(rng.normal(0, 1, (3, 700)))
        years, rate = 10.0 ** rng.uniform(-5, 1, 700), rng.normal(0, 0.1, 700)
        years[:9], sigma[5:20], strike[3:40] = 0.0, 0.0, forward[3:40]
        for inverse in (False, True):
            out = np.empty((9, 700))
            formula.greeks(forward, strike, years, sigma, rate, rng.random(700) < 0.5, *out[:6], inverse)
            formula.higher_greeks(forward, strike, years, sigma, rate, out[1], *out[6:], inverse)
            state.update(np.where(np.isnan(out), 0.0, out).tobytes())
            sigma, status = np.empty(700), np.empty(700, np.uint8)
            implied.volatilities(out[0], forward, strike, years, rng.random(700) < 0.5, sigma, status, inverse)
            state.update(np.where(np.isnan(sigma), 0.0, sigma).tobytes() + status.tobytes())
    return state.hexdigest()


@pytest.mark.parametrize("level", LEVELS)
def test_same_bits_at_every_level(level):
    assert digest_at(level, "test_vmath") == digest()
