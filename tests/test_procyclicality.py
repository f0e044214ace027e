"""Procyclicality metrics on paths worked by hand, the comparison of models, and the crash windows."""

import importlib.util
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared

from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.units import NS_PER_DAY, utc
from margincore.validation import (
    compare_volatility,
    coverage,
    format_crash,
    increases,
    largest_increase,
    margin_calls,
    peak_to_trough,
    procyclicality,
)
from margincore.vol import Ewma, Garch, MarginVolatility, MaxBlend, StressedWeight

QUANTILE = statistics.NormalDist().inv_cdf(0.99)
POSITIVE = st.floats(0.01, 100.0)


def walk(n=400, seed=0):
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).standard_t(4, n) * 0.02))


def example():
    path = Path(__file__).parents[1] / "examples/crash_windows.py"
    spec = importlib.util.spec_from_file_location("crash_windows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Metrics


def test_metrics_of_a_path_worked_by_hand():
    margin = [10.0, 12.0, 9.0, 18.0, 20.0, 5.0]
    assert peak_to_trough(margin) == 4.0
    assert increases(margin, 1) == pytest.approx([0.2, -0.25, 1.0, 1.0 / 9.0, -0.75])
    assert largest_increase(margin, 1) == 1.0
    assert largest_increase(margin, 2) == pytest.approx(20.0 / 9.0 - 1.0)
    assert largest_increase([4.0, 3.0, 2.0], 2) == -0.5


@given(st.lists(POSITIVE, min_size=6, max_size=40), st.integers(1, 5), st.sampled_from([0.5, 2.0, 1024.0]))
def test_metrics_do_not_depend_on_the_currency(margin, periods, factor):
    path = np.array(margin)
    assert peak_to_trough(factor * path) == peak_to_trough(path) >= 1.0
    assert largest_increase(factor * path, periods) == largest_increase(path, periods)


def test_calls_split_into_price_and_parameters():
    # A long of one unit at 10 %: the price falls by 5 and the rate rises to 12 %.
    calls = margin_calls([0.10, 0.12], [100.0, 95.0], side="long")
    need = 0.12 * 95.0 - 10.0 + 5.0
    assert calls.calls == 1 and calls.amount == pytest.approx(need) and calls.largest == calls.amount
    assert calls.parameter_share == pytest.approx(0.02 * 95.0 / need) and calls.by_parameters == 0
    # The short gains 5 and owes 1.4 more margin: no call.
    short = margin_calls([0.10, 0.12], [100.0, 95.0], side="short")
    assert short.calls == 0 and short.amount == 0.0 and short.parameter_share == 0.0
    # The price stands still and the rate doubles: the parameters alone call.
    still = margin_calls([0.10, 0.20], [100.0, 100.0])
    assert still.calls == 2 and still.by_parameters == 2 and still.parameter_share == 1.0
    # The rate stands still: the price alone calls.
    fixed = margin_calls([0.10] * 5, [100.0, 90.0, 95.0, 80.0, 85.0])
    assert fixed.parameter_share == 0.0 and fixed.by_parameters == 0 and fixed.calls == 4


@given(st.lists(st.tuples(st.floats(0.01, 0.9), POSITIVE), min_size=2, max_size=30))
def test_calls_of_both_sides_are_the_sum_of_each(path):
    rate, price = np.array(path).T
    both, long, short = (margin_calls(rate, price, side=side) for side in ("both", "long", "short"))
    assert both.calls == long.calls + short.calls and both.by_parameters == long.by_parameters + short.by_parameters
    assert both.amount == pytest.approx(long.amount + short.amount, rel=1e-12)
    assert 0.0 <= both.parameter_share <= 1.0
    # What an account pays in, less what could be taken out, is its losses and the change of the requirement.
    need = -np.diff(price) + np.diff(rate * price)
    assert long.amount == pytest.approx(need[need > 0.0].sum(), rel=1e-9, abs=1e-9)


def test_a_gain_pays_for_a_rise_of_the_rate_first():
    """A long of 100 at 10 % gains 4 and then owes 104 x 15 % = 15.6: a call of 1.6, all of it by the rate's 5.2."""
    found = margin_calls([0.10, 0.15], [100.0, 104.0], side="long")
    assert found.amount == pytest.approx(1.6) and found.parameter_share == 1.0 and found.by_parameters == 1
    assert found.calls == 1 and found.largest == pytest.approx(1.6)
    short = margin_calls([0.10, 0.15], [100.0, 104.0], side="short")  # 4 lost, 0.4 for the price, 5.2 for the rate
    assert short.amount == pytest.approx(9.6) and short.parameter_share == pytest.approx(5.2 / 9.6)
    assert short.by_parameters == 0


def test_hours_and_exchange_years_annualise():
    price, time = walk(), np.arange(400, dtype=np.int64) * NS_PER_DAY
    days = compare_volatility({"m": Ewma()}, price, time_ns=time, warm_up=50)
    other = compare_volatility({"m": Ewma(), "fixed": 0.5}, price, warm_up=50, days_per_year=252.0)
    assert other.rate["m"] == pytest.approx(days.rate["m"], rel=1e-13)  # a day's margin knows no year
    assert other.rate["fixed"] == pytest.approx(np.full(350, 0.5 * QUANTILE / np.sqrt(252.0)), rel=1e-14)
    hours = compare_volatility({"m": Ewma()}, price, warm_up=50, bar_days=1.0 / 24.0)
    assert hours.rate["m"] == pytest.approx(days.rate["m"] * np.sqrt(24.0), rel=1e-13)
    (row,) = hours.around(100)
    assert row.after == hours.rate["m"][100 + 7 * 24] and row.largest == hours.rate["m"][99:100 + 7 * 24 + 1].max()


def test_coverage_counts_losses_beyond_margin():
    table = coverage([10.0, 10.0, 10.0, 10.0], [-10.0, -12.0, 30.0, -16.0])
    assert (table.observations, table.exceptions, table.coverage) == (4, 2, 0.5)
    assert table.average_uncovered == 4.0 and table.largest_uncovered == 6.0
    assert coverage([1.0], [5.0]).largest_uncovered == 0.0


@pytest.mark.parametrize("call", [
    peak_to_trough, lambda m: largest_increase(m, 1), lambda m: margin_calls(m, [1.0] * 3),
    lambda m: coverage(m, [0.0] * 3), lambda m: procyclicality(m, [1.0] * 3, periods=(1,))])
def test_bad_margins_raise(call):
    for bad, error in (([1.0, np.nan, 2.0], NotFiniteError), ([1.0, np.inf, 2.0], NotFiniteError),
                       ([1.0, 0.0, 2.0], RangeError), ([1.0, -1.0, 2.0], RangeError), ([], ShapeError),
                       ([[1.0, 2.0, 3.0]], ShapeError)):
        with pytest.raises(error):
            call(bad)


def test_bad_arguments_raise():
    with pytest.raises(ShapeError, match="margin must have at least 3 periods, had 2"):
        largest_increase([1.0, 2.0], 2)
    with pytest.raises(RangeError, match="periods"):
        largest_increase([1.0, 2.0], 0)
    with pytest.raises(ShapeError, match="price must have length 2"):
        margin_calls([0.1, 0.2], [1.0, 2.0, 3.0])
    with pytest.raises(RangeError, match="side must be one of"):
        margin_calls([0.1, 0.2], [1.0, 2.0], side="flat")
    with pytest.raises(NotFiniteError, match="pnl"):
        coverage([1.0], [np.nan])


# Comparison


def test_rates_are_the_quantile_of_each_model_in_force_for_the_next_move():
    price = walk()
    returns = np.diff(np.log(price))
    table = compare_volatility({"ewma": Ewma(), "fixed": 0.5, "path": np.linspace(0.4, 0.6, 400)}, price, warm_up=50)
    scale = QUANTILE / np.sqrt(365.0)
    assert table.rate["fixed"] == pytest.approx(np.full(350, 0.5 * scale), rel=1e-14)
    assert table.rate["path"] == pytest.approx(np.linspace(0.4, 0.6, 400)[50:] * scale, rel=1e-14)
    first = Ewma().start(returns[:50]).variance
    expected = QUANTILE * np.sqrt(Ewma(start_variance=first).filter(returns[50:]))
    assert table.rate["ewma"] == pytest.approx(expected, rel=1e-11)
    move = np.diff(price[50:]) / price[50:-1]
    exceptions = int((np.abs(move) > expected[:-1]).sum())
    assert table.metrics["ewma"].coverage.exceptions == exceptions > 0
    assert table.metrics["ewma"].coverage.observations == 2 * 349
    weekly = compare_volatility({"fixed": 0.5}, price, warm_up=50, horizon_days=4.0)
    assert weekly.rate["fixed"] == pytest.approx(2.0 * table.rate["fixed"], rel=1e-14)


@pytest.mark.parametrize("warm_up", [40, 100])  # 40: fewer than the 75 returns that begin an EWMA
def test_no_model_sees_the_future(warm_up):
    price, other = walk(), walk()
    seen = warm_up + 10
    other[seen:] *= np.exp(np.cumsum(np.full(400 - seen, 0.05)))
    for model in (Ewma(), Garch(omega=1e-5, alpha=0.1, beta=0.85), MarginVolatility(article28=(StressedWeight(),))):
        one = compare_volatility({"m": model}, price, warm_up=warm_up, implied=0.4)
        two = compare_volatility({"m": model}, other, warm_up=warm_up, implied=0.4)
        assert np.array_equal(one.rate["m"][:10], two.rate["m"][:10])
        assert (one.rate["m"][10:] != two.rate["m"][10:]).all()


def test_implied_volatility_is_known_at_its_close():
    price, implied = walk(), np.full(400, np.nan)
    implied[200] = 3.0
    table = compare_volatility({"m": MarginVolatility(blend=MaxBlend(), implied_stale_after_days=0.5)}, price,
                               implied=implied, warm_up=100)
    assert np.flatnonzero(table.rate["m"] == table.rate["m"].max()).tolist() == [100]


def test_the_table_prints_converts_and_plots():
    price, time = walk(), np.arange(400, dtype=np.int64) * NS_PER_DAY
    models = {"calm": Ewma(decay=0.99), "quick": Ewma(decay=0.9)}
    table = compare_volatility(models, price, time_ns=time, periods=(1, 7))
    text, rows = str(table), table.to_dict()
    assert text.splitlines()[0].split()[:3] == ["model", "mean", "margin"] and "max +7" in text
    assert rows["quick"]["peak_to_trough"] > rows["calm"]["peak_to_trough"] > 1.0
    assert rows["quick"]["largest_7_period_increase"] == table.metrics["quick"].increase[7]
    assert json.loads(json.dumps(rows)) == rows
    pandas = pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame.loc["calm", "coverage"] == rows["calm"]["coverage"]
    pytest.importorskip("matplotlib")
    figure = table.plot()
    assert [line.get_label() for line in figure.axes[1].lines] == ["calm", "quick"]
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx(100.0 * table.rate["calm"])


def test_around_shows_the_day_before_the_day_of_and_the_week_after():
    price, time = walk(), np.arange(400, dtype=np.int64) * NS_PER_DAY
    table = compare_volatility({"m": Ewma(decay=0.9)}, price, time_ns=time, warm_up=50)
    at = table.at_time(200 * NS_PER_DAY)
    assert at == 150
    (row,) = table.around(at)
    rate = table.rate["m"]
    assert (row.before, row.during, row.after) == (rate[149], rate[150], rate[157])
    assert row.largest == rate[149:158].max() and row.move == price[200] / price[199] - 1.0
    assert row.covered == (abs(row.move) <= row.before)
    assert "day before" in format_crash([row])
    assert table.around(349)[0].after == rate[349]
    for bar in (0, 350):
        with pytest.raises(RangeError, match="bar"):
            table.around(bar)
    with pytest.raises(RangeError, match="time of a bar"):
        table.at_time(5)
    with pytest.raises(MissingDataError, match="time_ns"):
        compare_volatility({"m": 0.5}, price).at_time(0)


def test_bad_comparisons_raise():
    price = walk()
    with pytest.raises(ShapeError, match="at least one model"):
        compare_volatility({}, price)
    with pytest.raises(ShapeError, match="price must have at least 271 bars, had 100"):
        compare_volatility({"m": 0.5}, price[:100])
    bad = price.copy()
    bad[7] = np.nan
    with pytest.raises(MissingDataError, match="position 7"):
        compare_volatility({"m": 0.5}, bad)
    bad[7] = -1.0
    with pytest.raises(RangeError, match="position 7"):
        compare_volatility({"m": 0.5}, bad)
    for model, error in ((-0.5, RangeError), (np.nan, NotFiniteError), (np.ones(7), ShapeError), ("ewma", MarginError),
                         (None, MarginError), (MarginVolatility(bar_days=0.5), RangeError)):
        with pytest.raises(error, match="^odd: "):
            compare_volatility({"good": 0.5, "odd": model}, price)
    with pytest.raises(RangeError, match="^odd: .*constant"):
        compare_volatility({"odd": MarginVolatility()}, np.full(400, 5.0))
    for name, value in (("confidence", 0.5), ("confidence", 1.0), ("horizon_days", 0.0), ("warm_up", 1),
                        ("bar_days", 0.0), ("days_per_year", np.nan), ("periods", (0,))):
        with pytest.raises(MarginError, match=name):
            compare_volatility({"m": 0.5}, price, **{name: value})
    with pytest.raises(ShapeError, match="time_ns must have length 400"):
        compare_volatility({"m": 0.5}, price, time_ns=np.arange(5))
    with pytest.raises(RangeError, match="time_ns must be increasing"):
        compare_volatility({"m": 0.5}, price, time_ns=np.zeros(400, np.int64))
    with pytest.raises(MarginError, match="implied"):
        compare_volatility({"m": MarginVolatility()}, price, implied=55.0)


# Crash windows


def test_crash_windows_on_made_up_data_say_so(capsys, tmp_path):
    module = example()
    module.main(tmp_path)
    text = capsys.readouterr().out
    assert "MADE UP" in text and text.count("day before") == len(module.CRASHES)


@pytest.mark.slow
def test_crash_windows_on_real_data(capsys):
    folder = shared("data")
    shared("data", "prices", "btc_daily_2015_2026_with_funding.csv.gz")
    module = example()
    comparison, real = module.compare(folder)
    assert real
    fell = {"2020-03-12": -0.37, "2021-05-19": -0.13, "2022-06-13": -0.15, "2022-11-09": -0.14, "2024-08-05": -0.06,
            "2025-10-10": -0.06, "2026-02-05": -0.13}
    assert set(fell) == set(module.CRASHES)
    for day, least in fell.items():
        rows = {row.model: row for row in comparison.around(comparison.at_time(utc(day)))}
        plain, controlled = rows["EWMA 0.94"], rows["controlled"]
        assert rows["fixed 60 %"].move < least
        assert rows["fixed 60 %"].before == rows["fixed 60 %"].during == rows["fixed 60 %"].after
        # A crash lifts every model that listens to returns, and the controlled one stood higher before it.
        assert plain.during > plain.before and controlled.before > plain.before
        assert controlled.during / controlled.before < plain.during / plain.before
    metrics = comparison.metrics
    assert metrics["controlled"].peak_to_trough < metrics["EWMA 0.94"].peak_to_trough / 3.0
    assert metrics["controlled"].coverage.coverage > 0.995 > metrics["EWMA 0.94"].coverage.coverage
    module.main(folder)
    assert "real data" in capsys.readouterr().out
