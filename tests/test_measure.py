"""Measures and the functions over them: properties, closed forms, errors."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import margincore as mc
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError

VALUES = st.floats(-1e6, 1e6, allow_nan=False, width=32)
LEVELS = st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.975, 0.99])
COHERENT = [mc.Worst(), mc.ExpectedShortfall(0.9), mc.ExpectedShortfall(0.975), mc.Spectral(20.0),
            mc.Spectral(3.0, "power"), mc.Weighted(((mc.ExpectedShortfall(0.9), 0.75), (mc.Worst(), 0.25)))]
MONETARY = [*COHERENT, mc.ValueAtRisk(0.9), mc.ValueAtRisk(0.9, "lower"), mc.ValueAtRisk(0.9, "interpolated")]


def pairs():
    return st.integers(2, 60).flatmap(lambda n: st.tuples(*[arrays(float, n, elements=VALUES)] * 2))


@pytest.mark.parametrize("measure", MONETARY, ids=repr)
@settings(max_examples=40, deadline=None)
@given(data=pairs(), factor=st.floats(0, 1e3), shift=VALUES)
def test_monetary_properties(measure, data, factor, shift):
    first, second = data
    scale = 1e-11 * (1 + abs(first).max() + abs(second).max()) * (1 + factor)
    assert measure.loss(factor * first) == pytest.approx(factor * measure.loss(first), rel=1e-12, abs=scale)
    assert measure.loss(first + shift) == pytest.approx(measure.loss(first) - shift, rel=1e-11, abs=scale + 1e-5)
    assert measure.loss(np.minimum(first, second)) >= measure.loss(first) - scale
    permuted = measure.loss(first[::-1].copy())
    assert permuted == measure.loss(first)


@pytest.mark.parametrize("measure", COHERENT, ids=repr)
@settings(max_examples=60, deadline=None)
@given(data=pairs())
def test_coherent_measures_are_sub_additive(measure, data):
    first, second = data
    slack = 1e-12 * (abs(first).max() + abs(second).max()) * len(first)
    assert measure.loss(first + second) <= measure.loss(first) + measure.loss(second) + slack


def test_value_at_risk_is_not_sub_additive():
    # Each of two bets loses 100 in 4 scenarios of 100, others than its fellow's: apart, both look free at 95 %.
    first, second = np.ones(100), np.ones(100)
    first[:4], second[4:8] = -100.0, -100.0
    apart = mc.value_at_risk(first, 0.95) + mc.value_at_risk(second, 0.95)
    together = mc.value_at_risk(first + second, 0.95)
    assert apart == -2.0 and together == 99.0
    assert (mc.expected_shortfall(first + second, 0.95)
            <= mc.expected_shortfall(first, 0.95) + mc.expected_shortfall(second, 0.95))


@pytest.mark.parametrize("measure", [m for m in MONETARY if "interpolated" not in repr(m)], ids=repr)
@settings(max_examples=40, deadline=None)
@given(data=pairs())
def test_uniform_weights_change_nothing(measure, data):
    pnl = data[0]
    uniform = np.full(len(pnl), 1 / len(pnl))
    assert measure.loss(pnl, uniform) == pytest.approx(measure.loss(pnl), rel=1e-11, abs=1e-11 * (1 + abs(pnl).max()))


@settings(max_examples=60, deadline=None)
@given(data=pairs(), levels=st.tuples(LEVELS, LEVELS))
def test_measures_rise_with_the_level_and_stand_in_order(data, levels):
    pnl = data[0]
    low, high = sorted(levels)
    slack = 1e-12 * (1 + abs(pnl).max())
    assert mc.value_at_risk(pnl, high) >= mc.value_at_risk(pnl, low)
    assert mc.expected_shortfall(pnl, high) >= mc.expected_shortfall(pnl, low) - slack
    assert mc.worst_loss(pnl) >= mc.expected_shortfall(pnl, high) - slack
    assert mc.expected_shortfall(pnl, high) >= mc.value_at_risk(pnl, high) - slack
    assert mc.value_at_risk(pnl, high) >= mc.value_at_risk(pnl, high, convention="lower")


def test_a_doubled_scenario_is_a_doubled_weight():
    pnl = np.array([-5.0, -3.0, 1.0, 2.0])
    doubled = np.array([-5.0, -3.0, -3.0, 1.0, 2.0])
    weights = np.array([0.2, 0.4, 0.2, 0.2])
    for level in (0.5, 0.7, 0.8, 0.9):
        assert mc.value_at_risk(pnl, level, weights=weights) == mc.value_at_risk(doubled, level)
        assert mc.expected_shortfall(pnl, level, weights=weights) == pytest.approx(
            mc.expected_shortfall(doubled, level), rel=1e-14)


def test_a_scenario_of_weight_zero_is_left_out():
    pnl, weights = [-100.0, -3.0, 1.0], [0.0, 0.5, 0.5]
    assert mc.worst_loss(pnl, weights=weights) == 3.0
    assert mc.value_at_risk(pnl, 0.99, weights=weights) == 3.0
    assert mc.expected_shortfall(pnl, 0.5, weights=weights) == 3.0


def test_conventions_at_the_published_example_sizes():
    pnl = -np.arange(1.0, 1001.0)  # losses 1 .. 1000
    assert mc.value_at_risk(pnl, 0.99) == 991.0  # the tenth worst
    assert mc.value_at_risk(pnl, 0.99, convention="lower") == 990.0
    assert mc.value_at_risk(pnl, 0.99, convention="interpolated") == pytest.approx(np.quantile(-pnl, 0.99), rel=1e-14)
    assert mc.expected_shortfall(pnl, 0.99) == 995.5
    assert mc.expected_shortfall(pnl[:250], 0.99) == pytest.approx((250 + 249 + 0.5 * 248) / 2.5, rel=1e-15)


def test_measures_may_be_negative():
    assert mc.value_at_risk([1.0, 2.0, 3.0], 0.9) == -1.0
    assert mc.expected_shortfall([1.0, 2.0, 3.0], 0.9) == -1.0
    assert mc.worst_loss([1.0, 2.0, 3.0]) == -1.0


def test_batch_is_one_by_one_with_a_code_per_row():
    pnl = np.random.default_rng(2).standard_t(4, (30, 500))
    pnl[7, 3] = np.nan
    for measure in MONETARY:
        found = measure.losses(pnl)
        assert found.code[7] == -4 and np.isnan(found.loss[7])
        for row in (0, 6, 8, 29):
            assert found.loss[row] == measure.loss(pnl[row]) and found.code[row] == 0
    risks, shortfalls = mc.tail_risks(pnl, 0.99)
    assert mc.tail_risk(pnl[4], 0.99) == (risks.loss[4], shortfalls.loss[4])
    losses, scenario = mc.Worst().with_scenarios(pnl)
    assert scenario[4] == pnl[4].argmin() and scenario[7] == 3


def test_tail_risk_takes_any_array_of_numbers():
    pnl = np.random.default_rng(3).integers(-50, 50, 300)
    expected = mc.tail_risk(pnl.astype(float), 0.95, convention="lower")
    assert type(expected).__name__ == "TailRisk" and expected.value_at_risk == expected[0]
    strided = np.repeat(pnl.astype(float), 2)[::2]
    for same in (pnl, pnl.tolist(), pnl.astype(">f8"), pnl.astype(np.float32), strided):
        assert mc.tail_risk(same, 0.95, convention="lower") == expected
    with pytest.raises(NotFiniteError, match="was nan in scenario 1"):
        mc.tail_risk([1.0, np.nan, 2.0], 0.95)
    with pytest.raises(RangeError, match="convention must be one of upper, lower, interpolated, was 'nearest'"):
        mc.tail_risk(pnl, 0.95, convention="nearest")


def test_weighted_batches_of_the_spectral_measure_code_bad_rows():
    pnl = np.random.default_rng(2).standard_normal((4, 50))
    pnl[2, 1] = np.inf
    found = mc.Spectral(5.0).losses(pnl, np.full(50, 0.02))
    assert found.code.tolist() == [0, 0, -4, 0] and np.isnan(found.loss).tolist() == [False, False, True, False]
    assert found.loss[0] == pytest.approx(mc.Spectral(5.0).loss(pnl[0]), rel=1e-12)


@pytest.mark.parametrize("level, hint", [(99, "write 0.99"), (99.0, "write 0.99"), (97.5, "write 0.975"), (1.0, "1.0"),
                                         (0.01, "write 0.99"), (-0.5, "-0.5"), (0.49, "0.51"), (1.2, "1.2")])
def test_level_outside_its_range_is_named_with_a_hint(level, hint):
    for call in (mc.ValueAtRisk, mc.ExpectedShortfall, lambda x: mc.tail_risk([1.0, 2.0], x)):
        with pytest.raises(RangeError, match=r"level must be in \[0.5, 1\)") as caught:
            call(level)
        assert hint in str(caught.value)


@pytest.mark.parametrize("level", [np.nan, np.inf, "0.99", None, True])
def test_level_must_be_a_finite_number(level):
    with pytest.raises(MarginError, match="level must be"):
        mc.ValueAtRisk(level)


@pytest.mark.parametrize("pnl", [[], [1.0]])
def test_empty_and_single_scenarios_are_refused(pnl):
    for measure in (mc.ValueAtRisk(0.99), mc.ExpectedShortfall(0.99), mc.Spectral(2.0)):
        with pytest.raises(ShapeError, match="at least 2 scenarios"):
            measure.loss(pnl)
    with pytest.raises(ShapeError, match="at least 2 scenarios"):
        mc.tail_risk(pnl, 0.99)
    assert mc.worst_loss([1.0]) == -1.0  # one stress scenario is a scenario set
    with pytest.raises(ShapeError):
        mc.worst_loss([])


def test_bad_pnl_names_the_scenario():
    for call in (lambda p: mc.value_at_risk(p, 0.9), lambda p: mc.expected_shortfall(p, 0.9), mc.worst_loss,
                 lambda p: mc.tail_risk(p, 0.9), lambda p: mc.spectral_loss(p, 2.0)):
        with pytest.raises(NotFiniteError, match="scenario 2"):
            call([1.0, 2.0, np.nan, np.inf])
        with pytest.raises(ShapeError):
            call([["a"]])
        with pytest.raises(NotFiniteError, match="was nan in scenario 2"):
            call(np.ma.masked_array([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 0]))  # hidden is unknown, not what stands below
        assert call(np.ma.masked_array([1.0, 2.0, 3.0, 4.0])) == call([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("weights, rule", [([0.5, 0.5], "one value per scenario"), ([0.5, 0.6, -0.1], "negative"),
                                           ([0.3, 0.3, 0.3], "sum to 1"), ([np.nan, 0.5, 0.5], "finite"),
                                           ([1.0, 1.0, 1.0], "sum to 1")])
def test_bad_weights(weights, rule):
    for measure in (mc.Worst(), mc.ValueAtRisk(0.9), mc.ExpectedShortfall(0.9), mc.Spectral(3.0)):
        with pytest.raises(MarginError, match=rule):
            measure.loss([1.0, 2.0, 3.0], weights)


def test_other_bad_parameters():
    for call, rule in ((lambda: mc.ValueAtRisk(0.9, "middle"), "convention"), (lambda: mc.Spectral(0.0), "aversion"),
                       (lambda: mc.Spectral(1.0, "power"), "aversion"), (lambda: mc.Spectral(2.0, "flat"), "spectrum"),
                       (lambda: mc.Weighted(()), "parts"), (lambda: mc.Weighted(((mc.Worst(), 0.5),)), "sum to 1"),
                       (lambda: mc.Weighted((("VaR", 1.0),)), "measures"),
                       (lambda: mc.Weighted((mc.Worst(),)), "parts must be pairs of a measure and its share"),
                       (lambda: mc.Weighted(((mc.Worst, 1.0),)), "parts must hold measures"),
                       (lambda: mc.portfolio_losses([[1.0]], [[1.0, 2.0]], "VaR"), "measure must be a measure such as"),
                       (lambda: mc.portfolio_losses([[1.0]], [[1.0, 2.0]], mc.Worst), "measure must be a measure"),
                       (lambda: mc.estimate([1.0, 2.0], 0.99), "measure must be a measure such as .*, was 0.99"),
                       (lambda: mc.explain([[1.0, 2.0]], None), "measure must be a measure such as .*, was None"),
                       (lambda: mc.value_at_risk([1, 2], 0.9, convention="interpolated", weights=[0.5, 0.5]), "upper")):
        with pytest.raises(MarginError, match=rule):
            call()


def test_portfolio_losses_by_both_paths():
    rng = np.random.default_rng(8)
    risk = rng.standard_t(5, (40, 300))
    quantity = rng.standard_normal((90, 40)) * (rng.random((90, 40)) < 0.2)
    measure = mc.ExpectedShortfall(0.975)
    exact = measure.losses(mc.portfolio_pnl(quantity, risk)).loss
    assert np.array_equal(mc.portfolio_losses(quantity, risk, measure).loss, exact)
    assert mc.portfolio_losses(quantity, risk, measure, method="dense").loss == pytest.approx(exact, rel=1e-12)
    sparse = pytest.importorskip("scipy.sparse")
    assert np.array_equal(mc.portfolio_losses(sparse.csr_matrix(quantity), risk, measure).loss, exact)
    quantity[3, 5] = np.nan
    for method in ("sparse", "dense"):
        found = mc.portfolio_losses(quantity, risk, measure, method=method)
        assert found.code[3] == -4 and (np.delete(found.code, 3) == 0).all()


def test_positions_split_merged_and_reordered():
    rng = np.random.default_rng(9)
    risk = rng.standard_normal((6, 400))
    whole = np.array([[2.0, -1.0, 0.0, 0.5, 3.0, 0.0]])
    split = np.array([[0.5, -1.0, 0.0, 0.5, 3.0, 0.0], [1.5, 0.0, 0.0, 0.0, 0.0, 0.0]])
    pnl = mc.portfolio_pnl(split, risk).sum(axis=0)
    measure = mc.ExpectedShortfall(0.95)
    expected = mc.portfolio_losses(whole, risk, measure).loss[0]
    assert measure.loss(pnl) == pytest.approx(expected, rel=1e-12)
    assert mc.portfolio_losses(whole[:, ::-1], risk[::-1], measure).loss[0] == pytest.approx(expected, rel=1e-12)


def test_portfolio_errors():
    risk = np.ones((3, 10))
    with pytest.raises(ShapeError, match="one column per instrument"):
        mc.portfolio_losses(np.ones((2, 4)), risk, mc.Worst())
    with pytest.raises(ShapeError, match="one column per instrument"):
        mc.portfolio_pnl(np.ones((2, 4)), risk)
    with pytest.raises(RangeError, match="method"):
        mc.portfolio_losses(np.ones((2, 3)), risk, mc.Worst(), method="fast")


class Compressed:
    """What a sparse matrix shows of itself."""

    def __init__(self, indptr, indices, data, shape, format="csr"):
        self.indptr, self.indices, self.data = np.array(indptr), np.array(indices), np.array(data)
        self.shape, self.format = shape, format


@pytest.mark.parametrize("quantity, kind, message", [
    (Compressed([0, 1, 2, 2], [1, 2], [1.0, 2.0], (3, 3), "csc"), RangeError, "CSR matrix, was of format 'csc'"),
    (Compressed([0, 1], [2**32], [1.0], (1, 3)), RangeError, "quantity.indices must fit int32, was 4294967296"),
    (Compressed([0, 1], [1.7], [1.0], (1, 3)), ShapeError, "quantity.indices must hold integers"),
    (Compressed([0, 1], [1], [1.0], (3, 3)), ShapeError, r"quantity.indptr must have one value per portfolio \(3\)"),
    (Compressed([0, 2], [1], [1.0], (1, 3)), ShapeError, "start must run from 0 to 1, ran from 0 to 2"),
    (Compressed([0, 1], [3], [1.0], (1, 3)), RangeError, r"must be in \[0, 3\), was 3"),
])
def test_sparse_matrices_that_are_no_portfolios(quantity, kind, message):
    risk = np.arange(30.0).reshape(3, 10)
    for call in (lambda: mc.portfolio_pnl(quantity, risk), lambda: mc.portfolio_losses(quantity, risk, mc.Worst())):
        with pytest.raises(kind, match=message):
            call()


def test_lognormal_closed_forms():
    """VaR and ES of the simulated quantiles of log-normal variables against the published closed-form values."""
    from shared_data import shared

    cases = json.loads(shared("vectors", "var_es_lognormal.json").read_text())["cases"]
    from scipy.stats import norm

    n = 1_000_000
    grid = norm.ppf((np.arange(n) + 0.5) / n)  # midpoints: the quadrature of the quantile function
    for case in cases:
        given_ = case["inputs"]
        sign = -1.0 if given_["variable"].startswith("X=-") else 1.0
        pnl = sign * np.exp(given_["mu"] + given_["sigma"] * grid)
        level = 1.0 - given_["alpha"]
        assert mc.expected_shortfall(pnl, level) == pytest.approx(case["expected"]["ES"], rel=3e-4)
        assert mc.value_at_risk(pnl, level, convention="lower") == pytest.approx(case["expected"]["VaR"], rel=3e-4)


def test_measures_are_frozen_and_compare_by_value():
    assert mc.ValueAtRisk(0.99) == mc.ValueAtRisk(0.99, "upper")
    with pytest.raises(AttributeError):
        mc.ValueAtRisk(0.99).level = 0.5
    assert math.isclose(mc.Spectral(2.0).cumulated(np.array([1.0]))[0], 1.0)
