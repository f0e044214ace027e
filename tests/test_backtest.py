"""Back-tests against published tables and examples, their definitions, and their own limits."""

import math

import numpy as np
import pytest
from scipy import stats

from margincore import validation as v
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.tail import tail_risk


def hits(n, count):
    flags = np.zeros(n, bool)
    flags[np.linspace(0, n - 1, count).astype(int)] = True
    return flags


def forecasts(seed, n=1500, scale=1.0, level=0.975):
    """Normal P&L with a wandering volatility, and the VaR and ES of the right model times `scale`."""
    rng = np.random.default_rng(seed)
    sigma = np.exp(0.3 * np.cumsum(rng.normal(size=n)) / 10)
    quantile = stats.norm.isf(1 - level)
    return sigma * rng.normal(size=n), scale * sigma * quantile, scale * sigma * stats.norm.pdf(quantile) / (1 - level)


# Kupiec 1995, as in Jorion, "Value at Risk", 3rd edition, table 6-2: numbers of failures that are not rejected at 5 %.
@pytest.mark.parametrize("tail, n, low, high", [
    (0.01, 252, None, 7), (0.01, 510, 1, 11), (0.01, 1000, 4, 17),
    (0.025, 252, 2, 12), (0.025, 510, 6, 21), (0.025, 1000, 15, 36),
    (0.05, 252, 6, 20), (0.05, 510, 16, 36), (0.05, 1000, 37, 65),
    (0.075, 252, 11, 28), (0.075, 510, 27, 51), (0.075, 1000, 59, 92),
    (0.10, 252, 16, 36), (0.10, 510, 38, 65), (0.10, 1000, 81, 120)])
def test_kupiec_regions(tail, n, low, high):
    kept = [count for count in range(max(low or 1, 1), high + 5)
            if not v.kupiec_pof(hits(n, count), 1 - tail).rejects()]
    assert kept[-1] == high - 1
    if low is not None:
        assert kept[0] == low + 1


# Documentation of MathWorks' varbacktest, equity example: 1,043 observations.
@pytest.mark.parametrize("count, level, statistic, p_value", [
    (57, 0.95, 0.46147, 0.49694), (17, 0.99, 3.5118, 0.060933), (59, 0.95, 0.91023, 0.34005),
    (22, 0.99, 9.8298, 0.0017171)])
def test_published_proportions_of_failures(count, level, statistic, p_value):
    found = v.kupiec_pof(hits(1043, count), level)
    assert found.statistic == pytest.approx(statistic, rel=2e-5)
    assert found.p_value == pytest.approx(p_value, rel=2e-5)
    assert (found.observations, found.exceptions) == (1043, count)


def test_published_conditional_coverage():
    """The same example, 95 % normal: transitions 932, 53, 53 and 4 of 1,043 observations with 57 failures."""
    alone = np.tile([True, False, False], 49)
    pairs = np.tile([True, True, False, False], 4)
    flags = np.r_[np.zeros(1043 - len(alone) - len(pairs), bool), alone, pairs]
    before, after = flags[:-1], flags[1:]
    moves = [int((a & b).sum()) for a, b in ((~before, ~after), (~before, after), (before, ~after), (before, after))]
    assert moves == [932, 53, 53, 4] and flags.sum() == 57
    found = v.christoffersen_independence(flags)
    assert (found.statistic, found.p_value) == pytest.approx((0.25866, 0.61104), rel=2e-5)
    both = v.christoffersen_conditional(flags, 0.95)
    assert (both.statistic, both.p_value) == pytest.approx((0.72013, 0.69763), rel=2e-5)


# Jorion, "Value at Risk", 3rd edition, chapter 6: the bank of section 6.3 with 20 exceptions at 95 %, six of them after
# another, and question 10, six at 99 %, four of them after another; 252 days whose day before is known.
@pytest.mark.parametrize(("level", "alone", "runs", "coverage", "independence"), [
    (0.95, 8, (2, 2, 2, 2, 2, 2), 3.91, 9.53), (0.99, 1, (5,), 3.498, 25.837)])
def test_published_conditional_coverage_of_a_year(level, alone, runs, coverage, independence):
    ends = [False]
    flags = np.r_[sum(([True] * run + ends for run in (*runs, *(1,) * alone)), []), ends * 300][:252].astype(bool)
    flags = np.r_[False, flags]
    assert int((flags[1:] & flags[:-1]).sum()) == sum(runs) - len(runs) and len(flags) == 253
    tested = v.christoffersen_conditional(flags, level, form="transition")
    apart = v.christoffersen_independence(flags)
    assert apart.statistic == pytest.approx(independence, abs=0.005)
    assert v.kupiec_pof(flags[1:], level).statistic == pytest.approx(coverage, abs=0.005)
    assert tested.statistic == pytest.approx(coverage + independence, abs=0.01)


def test_published_time_until_first_failure():
    late = np.zeros(1043, bool)
    late[57] = True  # first failure in period 58
    found = v.kupiec_tuff(late, 0.95)
    assert (found.statistic, found.p_value) == pytest.approx((1.7354, 0.18773), rel=4e-5)
    none = v.kupiec_tuff(np.zeros(300, bool), 0.99)
    assert none.statistic == pytest.approx(-600 * math.log(0.99), rel=1e-13)
    assert v.kupiec_tuff(hits(10, 1), 0.99).statistic == pytest.approx(-2 * math.log(0.01), rel=1e-12)


# Basel Committee, January 1996, table 2: cumulative probability in percent and increase of the factor.
BASEL = [(0, 8.11, "green", 0), (1, 28.58, "green", 0), (2, 54.32, "green", 0), (3, 75.81, "green", 0),
         (4, 89.22, "green", 0), (5, 95.88, "yellow", 0.40), (6, 98.63, "yellow", 0.50), (7, 99.60, "yellow", 0.65),
         (8, 99.89, "yellow", 0.75), (9, 99.97, "yellow", 0.85), (10, 99.99, "red", 1.0)]


@pytest.mark.parametrize("count, percent, zone, increase", BASEL)
def test_basel_traffic_light(count, percent, zone, increase):
    found = v.traffic_light(hits(250, count), 0.99)
    assert 100 * found.probability == pytest.approx(percent, abs=0.006)
    assert (found.zone, found.increase) == (zone, increase)


@pytest.mark.parametrize("count, increase", [(17, 0.26582), (22, 0.43511)])
def test_increase_away_from_the_table(count, increase):
    assert v.traffic_light(hits(1043, count), 0.99).increase == pytest.approx(increase, rel=2e-5)


@pytest.mark.parametrize("n, level", [(3, 0.99), (20, 0.999), (500, 0.9999)])
def test_a_sample_without_exceptions_is_green(n, level):
    found = v.traffic_light(hits(n, 0), level)  # none is more than 95 % of the distribution here
    assert found.probability > 0.95 and (found.zone, found.increase) == ("green", 0.0)
    assert v.backtest(np.ones((1, max(n, 12))), np.ones((1, max(n, 12))), level).zone.tolist() == ["green"]
    once = v.traffic_light(hits(n, 1), level)
    assert once.zone == "yellow" and 0.0 < once.increase <= 1.0


def test_independence_from_its_definition():
    flags = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0], bool)
    n = np.zeros((2, 2))
    for before, after in zip(flags[:-1].astype(int), flags[1:].astype(int), strict=True):
        n[before, after] += 1
    p01, p11 = n[0, 1] / n[0].sum(), n[1, 1] / n[1].sum()
    p = n[:, 1].sum() / n.sum()
    alternative = ((1 - p01) ** n[0, 0] * p01 ** n[0, 1] * (1 - p11) ** n[1, 0] * p11 ** n[1, 1])
    null = (1 - p) ** n[:, 0].sum() * p ** n[:, 1].sum()
    expected = -2 * math.log(null / alternative)
    found = v.christoffersen_independence(flags)
    assert found.statistic == pytest.approx(expected, rel=1e-12)
    assert found.p_value == pytest.approx(stats.chi2.sf(expected, 1), rel=1e-12)
    both = v.christoffersen_conditional(flags, 0.9)
    assert both.statistic == pytest.approx(v.kupiec_pof(flags, 0.9).statistic + expected, rel=1e-12)
    paper = v.christoffersen_conditional(flags, 0.9, form="transition")
    assert paper.statistic == pytest.approx(
        -2 * math.log(0.9 ** n[:, 0].sum() * 0.1 ** n[:, 1].sum() / alternative), rel=1e-12)
    assert paper.p_value == pytest.approx(stats.chi2.sf(paper.statistic, 2), rel=1e-12)
    assert "sum" in both.name and "transition" in paper.name


def test_clusters_are_found_and_their_absence_is():
    clustered = np.tile(np.r_[np.ones(5, bool), np.zeros(95, bool)], 10)
    assert v.christoffersen_independence(clustered).rejects(0.001)
    assert not v.kupiec_pof(clustered, 0.95).rejects()
    assert v.christoffersen_conditional(clustered, 0.95).rejects(0.001)
    rng = np.random.default_rng(7)
    assert not v.christoffersen_independence(rng.random(2000) < 0.05).rejects(0.01)


@pytest.mark.parametrize("flags", [np.zeros(100, bool), np.ones(100, bool), np.r_[np.zeros(99, bool), True]])
def test_independence_without_information_says_so(flags):
    found = v.christoffersen_independence(flags)
    assert math.isnan(found.p_value) and not found.conclusive and not found.rejects()
    assert v.christoffersen_conditional(flags, 0.99).p_value <= 1.0
    assert 0.0 <= v.kupiec_pof(flags, 0.99).p_value <= 1.0


def test_dynamic_quantile_from_its_definition():
    pnl, quantile, _ = forecasts(1, 600, level=0.95)
    hit = (-pnl > quantile) - 0.05
    regressors = np.column_stack([np.ones(596), *[hit[4 - k:600 - k] for k in (1, 2, 3, 4)], quantile[4:]])
    projected = regressors.T @ hit[4:]
    expected = projected @ np.linalg.solve(regressors.T @ regressors, projected) / (0.05 * 0.95)
    found = v.engle_manganelli(pnl, quantile, 0.95)
    assert found.statistic == pytest.approx(expected, rel=1e-9)
    assert found.p_value == pytest.approx(stats.chi2.sf(expected, 6), rel=1e-8)
    constant = v.engle_manganelli(pnl, np.full(600, 1.5), 0.95)  # a constant forecast is the constant again
    assert constant.p_value == pytest.approx(stats.chi2.sf(constant.statistic, 5), rel=1e-9)


def test_sizes_of_the_tests_under_the_null():
    """Rejection at 5 % of right models: between 3 % and 8 % of 400 samples (three standard errors, discreteness)."""
    rng = np.random.default_rng(11)
    flags = rng.random((400, 1000)) < 0.05
    pnl = np.where(flags, -2.0, 0.0)
    found = v.backtest(pnl, np.ones_like(pnl), 0.95)
    for p_values in (found.pof, found.independence, found.conditional):
        assert 0.02 < np.nanmean(p_values < 0.05) < 0.085
    assert np.nanmean(found.dynamic_quantile < 0.05) < 0.12  # known to reject too often in samples of this size


def test_acerbi_szekely_statistics_from_their_definition():
    pnl, quantile, shortfall = forecasts(2, 500)
    rng = np.random.default_rng(0)
    over = -pnl > quantile
    z1 = v.acerbi_szekely(pnl, quantile, shortfall, 0.975, test="z1", generator=rng, simulations=200)
    z2 = v.acerbi_szekely(pnl, quantile, shortfall, 0.975, test="z2", generator=rng, simulations=200)
    assert z1.statistic == pytest.approx((pnl[over] / shortfall[over]).mean() + 1, rel=1e-12)
    assert z2.statistic == pytest.approx((pnl[over] / shortfall[over]).sum() / (500 * 0.025) + 1, rel=1e-12)


def test_acerbi_szekely_critical_values_are_the_published_ones():
    """Acerbi and Szekely 2014: the 5 % critical value of Z2 at 250 days is about -0.7 for many shapes of tail."""
    pnl, quantile, shortfall = np.zeros(250), np.full(250, 2.0), np.full(250, 2.5)
    for distribution, degrees, low, high in (("normal", 5.0, -0.75, -0.66), ("t", 10.0, -0.80, -0.68),
                                             ("t", 3.0, -0.92, -0.72)):
        for statistic, rejected in ((low, True), (high, False)):
            # One exception deep enough to give exactly this statistic.
            pnl[0] = (statistic - 1.0) * 250 * 0.025 * 2.5
            found = v.acerbi_szekely(pnl, quantile, shortfall, 0.975, generator=np.random.default_rng(1),
                                     distribution=distribution, degrees=degrees, simulations=20_000)
            assert found.statistic == pytest.approx(statistic, rel=1e-12)
            assert found.rejects() is rejected, (distribution, degrees, found)


def test_shortfall_tests_accept_the_right_model_and_reject_a_light_one():
    right, light = forecasts(3), forecasts(3, scale=0.75)
    for test in ("z1", "z2"):
        for (pnl, quantile, shortfall), rejected in ((right, False), (light, True)):
            found = v.acerbi_szekely(pnl, quantile, shortfall, 0.975, test=test, distribution="normal",
                                     generator=np.random.default_rng(5), simulations=2000)
            assert found.rejects() is rejected
    pnl, quantile, shortfall = forecasts(4)
    assert not v.mcneil_frey(pnl, quantile, shortfall, generator=np.random.default_rng(5)).rejects()
    low = np.maximum(0.85 * shortfall, quantile)
    assert v.mcneil_frey(pnl, quantile, low, generator=np.random.default_rng(5)).rejects()


def test_draws_of_the_model_replace_the_distribution_and_a_seed_fixes_the_p_value():
    pnl, quantile, shortfall = forecasts(5, 300)
    draws = np.random.default_rng(1).normal(size=(3000, 300)) * quantile / stats.norm.isf(0.025)
    first, second = (v.acerbi_szekely(pnl, quantile, shortfall, 0.975, draws=draws,
                                      generator=np.random.default_rng(9)) for _ in range(2))
    assert first == second
    shaped = v.acerbi_szekely(pnl, quantile, shortfall, 0.975, distribution="normal",
                              generator=np.random.default_rng(9))
    assert shaped.p_value == pytest.approx(first.p_value, abs=0.04)


def test_the_shortfall_of_equal_losses_may_round_below_their_value_at_risk():
    tied = tail_risk(np.r_[np.full(300, -1.0 / 3.0), np.full(100, 0.1)], 0.95)
    assert 0.0 < tied.value_at_risk - tied.expected_shortfall < 1e-15
    pnl = np.r_[np.full(95, 0.1), np.full(5, -0.4)]
    stated = [np.full(100, value) for value in tied]
    assert v.acerbi_szekely(pnl, *stated, 0.95, generator=np.random.default_rng(1), simulations=200).exceptions == 5
    assert v.mcneil_frey(pnl, *stated, generator=np.random.default_rng(1), resamples=100).exceptions == 5


def test_shortfall_tests_without_exceptions_say_so():
    pnl, quantile, shortfall = np.ones(100), np.full(100, 2.0), np.full(100, 2.5)
    rng = np.random.default_rng(0)
    assert math.isnan(v.acerbi_szekely(pnl, quantile, shortfall, 0.99, test="z1", generator=rng).p_value)
    assert v.acerbi_szekely(pnl, quantile, shortfall, 0.99, test="z2", generator=rng, simulations=200).statistic == 1.0
    assert math.isnan(v.mcneil_frey(pnl, quantile, shortfall, generator=rng).p_value)
    pnl[0] = -9.0
    silent = v.acerbi_szekely(pnl, quantile, shortfall, 0.99, test="z1", generator=rng, draws=np.ones((300, 100)))
    assert silent.statistic < -2.0 and not silent.conclusive  # no sample has an exception to compare with


def test_disclosure_table():
    pnl = np.array([[1.0, -5.0, -2.0, 0.0], [-9.0, 3.0, -2.5, 1.0]])
    margin = np.full((2, 4), 2.0)
    table = v.disclosure(pnl, margin, 0.99)
    assert (table.observations, table.exceptions) == (8, 3)
    assert table.achieved_coverage == 0.625
    assert table.average_uncovered == pytest.approx((3 + 7 + 0.5) / 3)
    assert table.largest_uncovered == 7.0
    assert "largest uncovered exposure" in str(table) and "62.5" in str(table)
    calm = v.disclosure([1.0, 2.0], [1.0, 1.0], 0.99)
    assert (calm.exceptions, calm.average_uncovered, calm.largest_uncovered) == (0, 0.0, 0.0)


def test_a_loss_equal_to_the_forecast_is_no_exception():
    assert v.exceptions([-2.0, -2.0000001, 2.0], [2.0, 2.0, 2.0]).tolist() == [False, True, False]


def test_batch_is_one_by_one_with_a_code_per_row():
    rows = [forecasts(seed, 400, level=0.95)[:2] for seed in range(12)]
    pnl, quantile = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    pnl[4, 7] = np.nan
    found = v.backtest(pnl, quantile, 0.95, names=[f"coin {i}" for i in range(12)])
    assert found.code.tolist() == [0] * 4 + [-4] + [0] * 7
    assert math.isnan(found.pof[4]) and found.exceptions[4] == -1 and found.zone[4] == "unknown"
    assert not found.accepted()[4] and "coin 11" in str(found)
    for i in (0, 3, 11):
        flags = v.exceptions(pnl[i], quantile[i])
        assert found.pof[i] == v.kupiec_pof(flags, 0.95).p_value
        assert found.conditional[i] == v.christoffersen_conditional(flags, 0.95).p_value
        assert found.independence[i] == v.christoffersen_independence(flags).p_value
        assert found.dynamic_quantile[i] == v.engle_manganelli(pnl[i], quantile[i], 0.95).p_value
        assert found.zone[i] == v.traffic_light(flags, 0.95).zone
        table = v.disclosure(pnl[i], quantile[i], 0.95)
        assert found.achieved_coverage[i] == table.achieved_coverage
        assert found.average_uncovered[i] == pytest.approx(table.average_uncovered, rel=1e-12)
        assert found.largest_uncovered[i] == table.largest_uncovered


def test_align_joins_on_dates():
    pnl, forecast = v.align([1, 2, 4, 5], [10.0, 20.0, 40.0, 50.0], [2, 3, 4], [0.2, 0.3, 0.4])
    assert pnl.tolist() == [20.0, 40.0] and forecast.tolist() == [0.2, 0.4]
    for bad in (([1, 1], [1.0, 2.0], [1, 2], [1.0, 2.0]), ([2, 1], [1.0, 2.0], [1, 2], [1.0, 2.0]),
                ([1, 2], [1.0, 2.0], [3, 4], [1.0, 2.0]), ([1], [1.0, 2.0], [3, 4], [1.0, 2.0])):
        with pytest.raises(ShapeError, match="date"):
            v.align(*bad)
    days = np.array(["2024-03-01", "2024-03-02"], "M8[D]")
    assert v.align(days.tolist(), [1.0, 2.0], days[1:].tolist(), [0.5])[0].tolist() == [2.0]  # Python's own dates
    for bad, kind in ((([1, None], days), RangeError), ((days, ["2024-03-01", "2024-03-02"]), RangeError),
                      ((np.array(["2024-03-01", "NaT"], "M8[D]"), days), NotFiniteError),
                      (([1.0, 2.0], [1.0, np.inf]), NotFiniteError)):
        with pytest.raises(kind, match="dates must be"):
            v.align(bad[0], [1.0, 2.0], bad[1], [1.0, 2.0])


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    good = forecasts(1, 100)
    for call, kind, rule in (
        (lambda: v.kupiec_pof([True, False], 99), RangeError, "write 0.99"),
        (lambda: v.kupiec_pof([], 0.99), ShapeError, "at least 2"),
        (lambda: v.kupiec_pof([0.0, 0.5], 0.99), RangeError, "booleans or 0 and 1, was 0.5"),
        (lambda: v.kupiec_pof([np.nan, 0.0], 0.99), NotFiniteError, "finite"),
        (lambda: v.kupiec_pof(np.zeros((2, 2), bool), 0.99), ShapeError, "1 axis"),
        (lambda: v.exceptions([1.0, np.nan], [1.0, 1.0]), NotFiniteError, "pnl must be finite"),
        (lambda: v.exceptions([1.0, 2.0], [1.0]), ShapeError, "one value per P&L"),
        (lambda: v.christoffersen_conditional(hits(50, 3), 0.9, form="other"), RangeError, "form"),
        (lambda: v.engle_manganelli([1.0, 2.0], [1.0, 2.0], 0.99), ShapeError, "at least 12"),
        (lambda: v.engle_manganelli(good[0], good[1], 0.99, lags=-1), RangeError, "lags"),
        (lambda: v.acerbi_szekely(*good, 0.975, test="z3", generator=rng), RangeError, "test"),
        (lambda: v.acerbi_szekely(*good, 0.975, generator=7), RangeError, "generator"),
        (lambda: v.acerbi_szekely(*good, 0.975, generator=rng, degrees=1.0), RangeError, "degrees"),
        (lambda: v.acerbi_szekely(*good, 0.975, generator=rng, simulations=5), RangeError, "simulations"),
        (lambda: v.acerbi_szekely(*good, 0.975, generator=rng, draws=np.ones((9, 3))), ShapeError, "draws"),
        (lambda: v.acerbi_szekely(good[0], good[1], good[1] * 0.5, 0.975, generator=rng), RangeError, "at least value"),
        (lambda: v.acerbi_szekely(good[0], good[1], -good[2], 0.975, generator=rng), RangeError, "positive"),
        (lambda: v.mcneil_frey(*good, generator=rng, scale=np.zeros(100)), RangeError, "scale"),
        (lambda: v.mcneil_frey(*good, generator=None), RangeError, "generator"),
        (lambda: v.disclosure([1.0], [1.0, 2.0], 0.99), ShapeError, "margin"),
        (lambda: v.backtest(np.ones((3, 50)), np.ones((2, 50)), 0.99), ShapeError, "shape of pnl"),
        (lambda: v.backtest(np.ones((3, 50)), np.ones((3, 50)), 0.99, names=["a"]), ShapeError, "names"),
        (lambda: v.backtest(np.ones((3, 50)), np.ones((3, 50)), 0.99, form="paper"), RangeError, "form must be one of"),
        (lambda: v.kupiec_pof(hits(50, 3), 0.99).rejects(5), RangeError, "significance"),
    ):
        with pytest.raises(kind, match=rule):
            call()
    assert issubclass(ShapeError, MarginError)
