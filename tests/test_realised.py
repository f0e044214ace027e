"""Realised estimators: twins, properties, published constants, and every kind of bad data."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import realised as reference

from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import LEVELS, processor
from margincore.kernels import realised as kernel
from margincore.units import NS_PER_DAY
from margincore.vol import bars, jumps, realised

HOUR = NS_PER_DAY // 24
OHLC = ("garman_klass", "rogers_satchell", "yang_zhang", "garman_klass_yang_zhang")
NAMES = ("close_to_close", "parkinson", *OHLC)


def sample(n, seed=0, drift=0.0, steps=20):
    """Bars of a random walk with a jump between bars."""
    rng = np.random.default_rng(seed)
    path = rng.normal(drift, 0.01 / np.sqrt(steps), (n, steps + 1))
    path[:, 0] *= 2.0
    level = 100.0 * np.exp(np.cumsum(path).reshape(n, steps + 1))
    return level[:, 0].copy(), level.max(axis=1), level.min(axis=1), level[:, -1].copy()


def call(name, ohlc, **options):
    o, h, lo, c = ohlc
    arguments = {"close_to_close": (c,), "parkinson": (h, lo)}.get(name, ohlc)
    return getattr(realised, name)(*arguments, **options)


def twin(name, ohlc):
    o, h, lo, c = ohlc
    arguments = {"close_to_close": (c,), "parkinson": (h, lo)}.get(name, ohlc)
    return getattr(reference, name)(*arguments)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 90), seed=st.integers(0, 10_000))
def test_whole_sample_equals_its_twin(name, n, seed):
    ohlc = sample(n, seed)
    expected = np.sqrt(365.0 * twin(name, ohlc))
    # Both sum rounded logarithms of ratios near one; the twin loses about 1e-14 of each return.
    assert call(name, ohlc) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window", [3, 4, 7, 30, 64])
def test_rolling_and_expanding_are_the_whole_sample_of_their_bars_bit_for_bit(name, window):
    ohlc = sample(150, 3)
    lead = 0 if name in ("parkinson", "garman_klass", "rogers_satchell") else 1
    rolling = call(name, ohlc, window=window)
    expanding = call(name, ohlc, window=window, expanding=True)
    assert np.isnan(rolling[:window + lead - 1]).all() and np.isnan(expanding[:window + lead - 1]).all()
    for end in range(window + lead, 151):
        assert rolling[end - 1] == call(name, tuple(x[end - window - lead:end] for x in ohlc))
        assert expanding[end - 1] == call(name, tuple(x[:end] for x in ohlc))


def test_rolling_does_not_depend_on_the_blocks_of_the_loop():
    x = np.random.default_rng(5).normal(size=9_000)
    for window in (1, 5, 2_048, 3_000):
        outs = np.empty((3, 9_000 - window + 1))
        kernel.window_moments(x, window, *outs)
        for at in (0, 1, 2_047, 2_048, 4_095, 4_097, 9_000 - window):
            if at + window <= 9_000:
                one = np.empty((3, 1))
                kernel.row_moments(x[None, at:at + window].copy(), *one)
                assert np.array_equal(outs[:, at], one[:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_estimators_are_scale_free_and_annualise_by_the_root_of_time(name):
    ohlc = sample(60, 4)
    base = call(name, ohlc)
    assert call(name, tuple(1024.0 * x for x in ohlc)) == base
    assert call(name, tuple(3.7 * x for x in ohlc)) == pytest.approx(base, rel=1e-11)
    assert call(name, ohlc, periods_per_year=365.0 * 4.0) == 2.0 * base
    assert call(name, ohlc, periods_per_year=252.0) == pytest.approx(base * np.sqrt(252.0 / 365.0), rel=1e-15)


def test_log_volatility_doubles_when_log_prices_double():
    ohlc = sample(60, 6)
    squared = tuple(x * x for x in ohlc)
    for name in NAMES:
        assert call(name, squared) == pytest.approx(2.0 * call(name, ohlc), rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_estimators_find_the_volatility_of_a_fine_random_walk(name):
    # 4,000 bars of 400 steps of 1 % per bar, no jump between bars: discreteness costs the ranges a few per
    # cent.
    rng = np.random.default_rng(8)
    level = np.exp(np.cumsum(rng.normal(0.0, 0.01 / 20.0, 4_000 * 400))).reshape(4_000, 400)
    o = np.concatenate([[1.0], level[:-1, -1]])
    h, lo = np.maximum(level.max(axis=1), o), np.minimum(level.min(axis=1), o)
    found = call(name, (o, h, lo, level[:, -1].copy()), periods_per_year=1.0)
    assert found == pytest.approx(0.01, rel=0.05)


def test_rogers_satchell_ignores_drift_and_parkinson_does_not():
    calm, trend = sample(1_000, 9, steps=400), sample(1_000, 9, drift=5e-5, steps=400)
    assert call("rogers_satchell", trend) == pytest.approx(call("rogers_satchell", calm), rel=0.1)
    assert call("parkinson", trend) > 1.4 * call("parkinson", calm)


def test_published_constants():
    # Parkinson (1980), eq. 4: 0.361 of the squared log range.  Garman, Klass (1980): 0.5 and 0.386.
    e = np.e
    assert realised.parkinson([e], [1.0], periods_per_year=1.0) ** 2 == pytest.approx(
        0.36067376022224085, rel=1e-15)
    assert realised.garman_klass([1.0], [e], [1.0], [e], periods_per_year=1.0) ** 2 == pytest.approx(
        0.5 - 0.38629436111989061, rel=1e-14)
    assert realised.rogers_satchell([1.0], [e], [1.0], [1.0], periods_per_year=1.0) == pytest.approx(
        1.0, rel=1e-15)
    # Yang, Zhang (2000), eq. 12: k of 0.34 / (1.34 + (n + 1) / (n - 1)); with n = 2 that is 0.34 / 4.34.
    o, c = np.array([1.0, 1.0, 1.0]), np.array([1.0, e, 1.0 / e])
    expected = reference.yang_zhang(o, np.maximum(o, c), np.minimum(o, c), c)
    jumps, bodies = np.var([0.0, -1.0], ddof=1), np.var([1.0, -1.0], ddof=1)
    assert expected == pytest.approx(jumps + 0.34 / 4.34 * bodies, rel=1e-14)
    found = realised.yang_zhang(o, np.maximum(o, c), np.minimum(o, c), c, periods_per_year=1.0)
    assert found**2 == pytest.approx(expected, rel=1e-14)


def test_ewma_equals_its_twin_and_pandas():
    pandas = pytest.importorskip("pandas")
    close = sample(200, 10)[3]
    found = realised.ewma(close, decay=0.94, observations_min=1, periods_per_year=1.0)
    assert np.isnan(found[0])
    assert found[1:] ** 2 == pytest.approx(reference.ewma(close, 0.94), rel=1e-11)
    squares = pandas.Series(np.diff(np.log(close)) ** 2)
    assert found[1:] ** 2 == pytest.approx(squares.ewm(alpha=0.06).mean().to_numpy(), rel=1e-11)


def test_a_skipped_bar_ages_the_past():
    close = sample(60, 41)[3]
    close[[20, 40, 41]] = np.nan
    found = realised.ewma(close, decay=0.9, missing="skip")
    returns = np.diff(np.log(close))
    for bar in (19, 20, 21, 39, 43, 59):
        there = ~np.isnan(returns[:bar])
        weight = 0.9 ** (bar - 1 - np.arange(bar))[there]
        variance = (weight * returns[:bar][there] ** 2).sum() / weight.sum()
        assert found[bar] == pytest.approx(math.sqrt(365.0 * variance), rel=1e-12)
    with pytest.raises(MissingDataError):
        realised.ewma(close)


def test_ewma_of_a_prefix_is_the_prefix_of_the_ewma():
    close = sample(100, 11)[3]
    assert np.array_equal(realised.ewma(close)[:60], realised.ewma(close[:60]), equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_missing_bars_raise_unless_told_otherwise(name):
    ohlc = sample(40, 12)
    for column in ohlc:
        column[17] = np.nan
    with pytest.raises(MissingDataError, match="missing 1 of 40, first at bar 17"):
        call(name, ohlc)
    skipped, carried = call(name, ohlc, missing="skip"), call(name, ohlc, missing="carry")
    assert np.isfinite(skipped) and np.isfinite(carried) and skipped != carried
    with pytest.raises(RangeError, match="missing must be one of"):
        call(name, ohlc, missing="ignore")


def test_skip_leaves_out_the_return_across_a_gap_and_carry_keeps_it():
    close = np.array([100.0, 101.0, np.nan, np.nan, 50.0, 50.5])
    skipped = realised.close_to_close(close, demean=False, missing="skip", periods_per_year=1.0)
    carried = realised.close_to_close(close, demean=False, missing="carry", periods_per_year=1.0)
    small, crash = np.log(1.01), np.log(50.0 / 101.0)
    assert skipped == pytest.approx(small, rel=1e-12)
    assert carried == pytest.approx(np.sqrt((2.0 * small**2 + crash**2) / 5.0), rel=1e-12)
    with pytest.raises(MissingDataError, match="first bar"):
        realised.close_to_close([np.nan, 1.0, 2.0, 3.0], missing="carry")


def test_windows_that_are_mostly_missing_have_no_value():
    close = sample(60, 13)[3]
    close[20:30] = np.nan
    rolling = realised.close_to_close(close, window=10, missing="skip")
    assert np.isnan(rolling[25:35]).all()
    assert np.isfinite(rolling[11:24]).all() and np.isfinite(rolling[36:]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_series_raises_and_a_constant_window_has_no_value(name):
    still = (np.full(30, 7.0),) * 4
    for options in ({}, {"window": 5}, {"window": 5, "expanding": True}):
        with pytest.raises(RangeError, match="must move"):
            call(name, still, **options)
    ohlc = tuple(np.concatenate([x, np.full(20, 90.0)]) for x in sample(30, 14))
    rolling = call(name, ohlc, window=5)
    assert np.isnan(rolling[36:]).all() and np.isfinite(rolling[10:30]).all()
    with pytest.raises(RangeError, match="must move"):
        realised.ewma(still[3])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("value", "error"), [(-1.0, RangeError), (0.0, RangeError), (np.inf, NotFiniteError),
                                              (-np.inf, NotFiniteError), (1e-200, RangeError)])
def test_impossible_prices_raise(name, value, error):
    for column in range(4):
        ohlc = sample(20, 15)
        ohlc[column][5] = value
        try:
            result = call(name, ohlc)
        except MarginError as raised:
            assert isinstance(raised, error) and f"was {value!r} at position 5" in str(raised)
        else:
            unused = {"close_to_close": (0, 1, 2), "parkinson": (0, 3)}.get(name, ())
            assert column in unused and np.isfinite(result)


@pytest.mark.parametrize("name", OHLC)
def test_bars_that_contradict_themselves_raise(name):
    for column, factor, rule in ((1, 0.5, "high"), (2, 1.5, "high"), (0, 1.5, "open"), (3, 0.5, "close")):
        ohlc = sample(20, 16)
        ohlc[column][5] *= factor
        with pytest.raises(RangeError, match=f"{rule} must .*open [0-9].* at bar 5"):
            call(name, ohlc)


def test_wrong_shapes_and_sizes_raise():
    o, h, lo, c = sample(20, 17)
    with pytest.raises(ShapeError, match="close must have length 20, had 19"):
        realised.yang_zhang(o, h, lo, c[:-1])
    with pytest.raises(ShapeError, match="close must not be empty"):
        realised.close_to_close([])
    with pytest.raises(ShapeError, match="at least 2 observations, gave 1"):
        realised.close_to_close([1.0, 2.0])
    with pytest.raises(ShapeError, match="window must be at most the 19"):
        realised.close_to_close(c, window=20)
    with pytest.raises(RangeError, match="window must be at least 2, was 1"):
        realised.close_to_close(c, window=1)
    with pytest.raises(RangeError, match="window must be given"):
        realised.close_to_close(c, expanding=True)
    with pytest.raises(ShapeError, match="dtype"):
        realised.close_to_close(["a", "b", "c"])
    with pytest.raises(ShapeError, match="axes"):
        realised.close_to_close(np.ones((3, 3)))
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(MarginError, match="periods_per_year"):
            realised.close_to_close(c, periods_per_year=bad)
    for bad in (0.0, 1.0, -0.1, 1.5, np.nan):
        with pytest.raises(MarginError, match="decay"):
            realised.ewma(c, decay=bad)
    with pytest.raises(RangeError, match="alpha"):
        realised.yang_zhang(o, h, lo, c, alpha=1.0)


def test_kernel_entries_check_their_lengths():
    x = np.ones(5)
    with pytest.raises(ShapeError, match="denominator must have length 5, had 4"):
        kernel.log_ratios(x, x[:4], np.empty(5))
    with pytest.raises(ShapeError, match="out"):
        kernel.parkinson_terms(x, x, np.empty(4))
    with pytest.raises(RangeError, match="window"):
        kernel.window_moments(x, 6, *np.empty((3, 1)))
    with pytest.raises(ShapeError, match="mean"):
        kernel.window_moments(x, 3, np.empty(3), np.empty(2), np.empty(3))
    with pytest.raises(RangeError, match="decay"):
        kernel.weighted_means(x, 1.0, np.empty(5))
    with pytest.raises(ShapeError, match="column"):
        kernel.row_moments(np.empty((2, 0)), *np.empty((3, 2)))
    empty = np.empty((3, 1))
    kernel.row_moments(np.array([[np.nan, np.nan]]), *empty)
    assert empty[0, 0] == 0.0 and np.isnan(empty[1:, 0]).all()


def test_half_lives():
    assert kernel.remaining_weight(0.0, 5.0) == 1.0
    assert kernel.remaining_weight(10.0, 5.0) == pytest.approx(0.25, rel=1e-15)
    assert kernel.remaining_weight(0.0, 0.0) == 1.0 and kernel.remaining_weight(1.0, 0.0) == 0.0
    for bad in ((-1.0, 1.0), (1.0, -1.0), (np.nan, 1.0)):
        with pytest.raises(RangeError, match="elapsed and half_life"):
            kernel.remaining_weight(*bad)


def test_inputs_are_not_changed_and_may_be_read_only():
    ohlc = sample(30, 18)
    before = [x.copy() for x in ohlc]
    for x in ohlc:
        x.flags.writeable = False
    for name in NAMES:
        call(name, ohlc, window=5)
    assert all(np.array_equal(a, b) for a, b in zip(ohlc, before, strict=True))


# Bars and trades


def test_bars_put_gaps_on_the_clock():
    o, h, lo, c = sample(30, 19)
    time = np.arange(30, dtype=np.int64) * HOUR
    keep = np.r_[0:10, 14:30]
    table = bars.Bars(time_ns=time[keep], open=o[keep], high=h[keep], low=lo[keep], close=c[keep])
    assert len(table) == 30 and table.missing == 4 and table.bar_ns == HOUR
    assert np.array_equal(table.time_ns, time) and np.isnan(table.close[10:14]).all()
    assert table.periods_per_year() == 365.0 * 24.0 and table.periods_per_year(252.0) == 252.0 * 24.0
    with pytest.raises(MissingDataError):
        table.volatility("yang_zhang")
    assert table.volatility("parkinson", missing="skip") == realised.parkinson(
        table.high, table.low, periods_per_year=8760.0, missing="skip")
    with pytest.raises(RangeError, match="estimator must be one of"):
        table.volatility("unknown")


def test_bars_refuse_times_out_of_order():
    o, h, lo, c = sample(5, 20)

    def build(time, **options):
        return bars.Bars(time_ns=np.array(time), open=o, high=h, low=lo, close=c, **options)

    with pytest.raises(RangeError, match="duplicate at position 2"):
        build([0, 10, 10, 20, 30])
    with pytest.raises(RangeError, match="earlier at position 3"):
        build([0, 10, 20, 15, 30])
    with pytest.raises(RangeError, match="multiples of 10 ns, was 5 ns off at position 3"):
        build([0, 10, 20, 35, 40], bar_ns=10)
    with pytest.raises(ShapeError, match="time_ns must have length 5"):
        build([0, 10, 20])
    with pytest.raises(ShapeError, match="integers"):
        build([0.0, 1.0, 2.0, 3.0, 4.0])
    with pytest.raises(RangeError, match="full clock"):
        build([0, 1, 2, 3, 10**15])
    days = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-06"]
    dated = build(np.array(days, "datetime64[D]"))
    assert dated.bar_ns == NS_PER_DAY and dated.missing == 1


def test_bars_from_trades():
    time = np.array([5, 7, 7, 12, 31, 39])
    table = bars.Bars.from_trades(time, [10.0, 12.0, 9.0, 11.0, 8.0, 8.5], bar_ns=10)
    assert table.time_ns.tolist() == [0, 10, 20, 30]
    assert table.open[[0, 1, 3]].tolist() == [10.0, 11.0, 8.0]
    assert table.close[[0, 1, 3]].tolist() == [9.0, 11.0, 8.5]
    assert table.high[0] == 12.0 and table.low[0] == 9.0 and np.isnan(table.close[2])
    with pytest.raises(RangeError, match="earlier at position 1"):
        bars.Bars.from_trades([5, 4], [1.0, 2.0], bar_ns=10)
    with pytest.raises(RangeError, match="price must be a number for every trade"):
        bars.Bars.from_trades([4, 5], [1.0, np.nan], bar_ns=10)
    with pytest.raises(RangeError, match="price must be positive"):
        bars.Bars.from_trades([4, 5], [1.0, -2.0], bar_ns=10)


def test_previous_tick():
    found = bars.previous_tick([0, 4, 9, 9, 21], [1.0, 2.0, 3.0, 4.0, 5.0], start_ns=3, step_ns=6, count=4)
    assert found.tolist() == [1.0, 4.0, 4.0, 5.0]
    with pytest.raises(RangeError, match="start_ns"):
        bars.previous_tick([10], [1.0], start_ns=3, step_ns=6, count=2)
    with pytest.raises(RangeError, match="start_ns must not be before the first trade at 10, was 3"):
        bars.previous_tick([10], [1.0], start_ns=3, step_ns=6, count=4)


# Realised variance, bipower, jumps


@settings(max_examples=40, deadline=None)
@given(n=st.integers(12, 200), step=st.integers(1, 9), seed=st.integers(0, 1_000))
def test_realised_variance_equals_its_twin(n, step, seed):
    price = 50.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.002, n)))
    assert jumps.realised_variance(price, step=step) == pytest.approx(
        reference.realised_variance(price, step), rel=1e-10)
    assert jumps.bipower_variation(price) == pytest.approx(
        reference.bipower_variation(price), rel=1e-10)
    test = jumps.jump_test(price)
    assert test.quadpower_quarticity == pytest.approx(reference.quadpower_quarticity(price), rel=1e-9)
    assert test.realised_variance == pytest.approx(reference.realised_variance(price, 1), rel=1e-10)


def test_subsampling_removes_noise():
    rng = np.random.default_rng(21)
    path = np.cumsum(rng.normal(0.0, 0.02 / np.sqrt(5_000), 5_000))
    noisy = np.exp(path + rng.normal(0.0, 0.0005, 5_000))
    raw, averaged = (jumps.realised_variance(noisy, step=k) for k in (1, 50))
    assert raw > 5.0 * 0.02**2 and averaged == pytest.approx(0.02**2, rel=0.35)


def test_jump_test_has_its_size_without_jumps_and_power_with_them():
    rng = np.random.default_rng(22)
    quiet = np.exp(np.cumsum(rng.normal(0.0, 0.001, (400, 288)), axis=1))
    statistics = np.array([jumps.jump_test(row).statistic for row in quiet])
    # Under the null the statistic is standard normal up to a small-sample bias (Huang, Tauchen 2005).
    assert abs(statistics.mean()) < 0.35 and 0.85 < statistics.std() < 1.15
    assert 0.0 < np.mean(statistics > 2.326) < 0.03
    jumping = quiet.copy()
    jumping[:, 150:] *= 1.012
    tests = [jumps.jump_test(row) for row in jumping]
    assert np.mean([t.rejects(0.99) for t in tests]) > 0.95
    assert np.median([t.jump_variance for t in tests]) == pytest.approx(np.log(1.012) ** 2, rel=0.3)
    calm, jumped = tests[0].bipower_variation, jumps.jump_test(quiet[0]).bipower_variation
    assert calm == pytest.approx(jumped, rel=0.25)


def test_jump_statistic_takes_the_quarticity_at_its_least():
    """Steps a, a, b, b ...: quadpower over squared bipower is 16 (a b)^2 / (a + b)^4, below 1, and counts as 1."""
    size = np.tile([0.01, 0.01, 0.002, 0.002], 50)
    path = 100.0 * np.exp(np.cumsum(np.append(0.0, size * np.where(np.arange(200) % 2 == 0, 1.0, -1.0))))
    found = jumps.jump_test(path)
    assert found.quadpower_quarticity < 0.5 * found.bipower_variation ** 2
    theta = math.pi ** 2 / 4.0 + math.pi - 5.0
    expected = (1.0 - found.bipower_variation / found.realised_variance) / math.sqrt(theta / 200.0)
    assert found.statistic == pytest.approx(expected, rel=1e-12)


def test_bipower_volatility_shrugs_off_one_jump():
    close = np.exp(np.cumsum(np.random.default_rng(23).normal(0.0, 0.01, 500)))
    jumped = close.copy()
    jumped[250:] *= 1.3
    plain = realised.close_to_close(jumped, demean=False) / realised.close_to_close(close, demean=False)
    robust = jumps.bipower(jumped) / jumps.bipower(close)
    assert plain > 1.4 and robust < 1.1
    assert jumps.bipower(close, window=50).shape == (500,)


def test_paths_that_cannot_be_judged_raise():
    with pytest.raises(ShapeError, match="at least 11"):
        jumps.jump_test(np.arange(1.0, 9.0))
    with pytest.raises(RangeError, match="neighbouring"):
        jumps.jump_test(np.full(50, 3.0))
    with pytest.raises(MissingDataError, match="position 3"):
        jumps.realised_variance([1.0, 2.0, 3.0, np.nan, 4.0])
    with pytest.raises(ShapeError, match="at least 6"):
        jumps.realised_variance([1.0, 2.0, 3.0], step=5)
    with pytest.raises(RangeError, match="step"):
        jumps.realised_variance([1.0, 2.0, 3.0], step=0)
    assert jumps.realised_variance(np.full(50, 3.0)) == 0.0


def test_panels_of_paths_are_the_single_paths_and_one_bad_path_spoils_no_other():
    rng = np.random.default_rng(31)
    panel = np.exp(np.cumsum(rng.normal(0.0, 0.001, (5, 60)), axis=1))
    panel[1, 7], panel[2] = np.nan, 3.0
    panel[4, 3] = -1.0
    found = jumps.realised_measures(panel)
    unknown, constant, good = jumps.PathStatus.UNKNOWN, jumps.PathStatus.CONSTANT, jumps.PathStatus.GOOD
    assert found.status == [good, unknown, constant, good, unknown]
    for row in (0, 3):
        single = jumps.jump_test(panel[row])
        for name in ("realised_variance", "bipower_variation", "quadpower_quarticity", "statistic", "p_value",
                     "jump_variance"):
            assert getattr(found, name)[row] == getattr(single, name)
    assert np.isnan(found.realised_variance[[1, 4]]).all() and np.isnan(found.p_value[[1, 2, 4]]).all()
    assert found.realised_variance[2] == 0.0
    with pytest.raises(ShapeError, match="at least 11"):
        jumps.realised_measures(np.ones((3, 4)))
    with pytest.raises(ShapeError, match="axes"):
        jumps.realised_measures(np.ones(20))


def test_bars_split_into_days():
    o, h, lo, c = sample(24 * 4 + 7, 32)
    start = 20 * NS_PER_DAY + 19 * HOUR
    table = bars.Bars(time_ns=start + HOUR * np.arange(len(c)), open=o, high=h, low=lo, close=c)
    days, paths = table.paths(NS_PER_DAY)
    assert days.tolist() == [(21 + k) * NS_PER_DAY for k in range(4)] and paths.shape == (4, 25)
    assert np.array_equal(paths[0], c[4:29]) and np.array_equal(paths[3], c[76:101])
    total = jumps.realised_measures(paths).realised_variance.sum()
    assert total == pytest.approx(jumps.realised_variance(c[4:101]), rel=1e-12)
    # Bars that begin with a day have no close before it: that day only gives the close of the next.
    whole = bars.Bars(time_ns=20 * NS_PER_DAY + HOUR * np.arange(len(c)), open=o, high=h, low=lo, close=c)
    days, paths = whole.paths(NS_PER_DAY)
    assert days.tolist() == [21 * NS_PER_DAY, 22 * NS_PER_DAY, 23 * NS_PER_DAY]
    assert np.array_equal(paths[0], c[23:48]) and np.array_equal(paths[2], c[71:96])
    for period in (NS_PER_DAY + 1, HOUR // 2):
        with pytest.raises(RangeError, match="period_ns"):
            table.paths(period)
    with pytest.raises(ShapeError, match="whole period"):
        table.paths(30 * NS_PER_DAY)
    keep = np.r_[0:30, 31:len(c)]
    gap = bars.Bars(time_ns=start + HOUR * keep, open=o[keep], high=h[keep], low=lo[keep], close=c[keep])
    with pytest.raises(MissingDataError):
        gap.paths(NS_PER_DAY)
    assert np.isfinite(gap.paths(NS_PER_DAY, missing="carry")[1]).all()
    assert jumps.realised_measures(gap.paths(NS_PER_DAY, missing="skip")[1]).status[1] == jumps.PathStatus.UNKNOWN


LEVEL_SCRIPT = """
import hashlib
import numpy as np
from margincore.vol import bars, jumps, realised
rng = np.random.default_rng(30)
path = np.exp(np.cumsum(rng.normal(0.0, 0.003, (5000, 5))).reshape(5000, 5))
o, h, lo, c = path[:, 0].copy(), path.max(axis=1), path.min(axis=1), path[:, -1].copy()
digest = hashlib.sha256()
for name in ("garman_klass", "rogers_satchell", "yang_zhang", "garman_klass_yang_zhang"):
    digest.update(getattr(realised, name)(o, h, lo, c, window=77).tobytes())
digest.update(realised.parkinson(h, lo, window=30, expanding=True).tobytes())
digest.update(realised.ewma(c).tobytes())
c[1000:1010] = np.nan
digest.update(realised.close_to_close(c, window=50, missing="skip").tobytes())
digest.update(repr(jumps.realised_variance(c[:900], step=7)).encode())
print(digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits():
    folder = Path(kernel.__file__).parent
    folder = folder if folder.name == "kernels" else folder.parent
    levels = [level for level in LEVELS[:processor.level() + 1] if level == "baseline" or (folder / level).is_dir()]
    answers = {
        subprocess.run([sys.executable, "-c", LEVEL_SCRIPT], env={**os.environ, "MARGINCORE_LEVEL": level}, check=True,
                       capture_output=True, text=True, cwd=folder.parents[1]).stdout
        for level in levels}
    assert len(answers) == 1
