"""Margin volatility: its twin, bits of stream and batch, each stage, each option of Article 28, stale and bad data."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import margin_volatility as reference

from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.scenarios import sigma_grid
from margincore.vol.article28 import Buffer, LookbackFloor, StressedWeight
from margincore.vol.blend import MaxBlend, RegimeBlend, WeightedBlend
from margincore.vol.egarch import Egarch
from margincore.vol.ewma import Ewma
from margincore.vol.garch import Garch
from margincore.vol.innovation import StudentT
from margincore.vol.margin_volatility import MarginVolatility
from margincore.vol.margin_volatility_state import DataStatus, MarginVolatilityState
from margincore.vol.sliding import SlidingSum

EVERYTHING = MarginVolatility(
    blend=RegimeBlend(), article28=(Buffer(), StressedWeight(window=40), LookbackFloor(observations_min=30)),
    floor_annual=0.2, half_life_rise_days=0.5, half_life_fall_days=15.0, rise_max_daily=0.8, fall_max_daily=0.05)


def returns(n, seed=0, crash=None):
    rng = np.random.default_rng(seed)
    series = rng.standard_t(4, n) * 0.02 * np.exp(0.5 * np.sin(np.arange(n) / 40.0))
    if crash is not None:
        series[crash] = -0.4
    return series


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(30, 120), gaps=st.booleans(), bar_days=st.sampled_from([1.0, 0.25]),
       blend=st.sampled_from(["max", "weighted", "regime"]), smooth=st.booleans(), limits=st.booleans(),
       options=st.tuples(st.booleans(), st.booleans(), st.booleans()), stress=st.sampled_from([None, 1.3]))
def test_every_stage_equals_the_twin(seed, n, gaps, bar_days, blend, smooth, limits, options, stress):
    rng = np.random.default_rng(seed)
    series, implied = returns(n, seed), np.exp(rng.normal(-0.7, 0.4, n))
    implied[rng.random(n) < 0.4] = np.nan
    if gaps:
        series[20:][rng.random(n - 20) < 0.15] = np.nan
    buffer, weight, floor = options
    s = {"days_per_year": 365.0, "bar_days": bar_days, "decay": 0.94, "start_variance": 4e-4, "blend": blend,
         "implied_weight": 0.3, "enter": 1.3, "leave": 1.1, "long_run_half_life_days": 60.0,
         "implied_stale_after_days": 1.5, "observations_min": 20, "floor_annual": 0.35,
         "half_life_rise_days": 2.0 if smooth else 0.0, "half_life_fall_days": 12.0 if smooth else 0.0,
         "rise_max_daily": 0.1 if limits else None, "fall_max_daily": 0.03 if limits else None,
         "buffer": 0.3 if buffer else 0.0, "trigger": 0.05, "rebuild_half_life_days": 8.0,
         "stress_weight": 0.4 if weight else 0.0, "stress_sigma": stress, "stress_window": 30,
         "lookback_bars": round(0.1 * 365.0 / bar_days) if floor else 0}
    blends = {"max": MaxBlend(), "weighted": WeightedBlend(0.3),
              "regime": RegimeBlend(implied_weight=0.3, enter=1.3, leave=1.1, long_run_half_life_days=60.0)}
    chosen = []
    if buffer:
        chosen.append(Buffer(size=0.3, trigger=0.05, rebuild_half_life_days=8.0))
    if weight:
        chosen.append(StressedWeight(weight=0.4, sigma_annual=stress, window=30))
    if floor:
        chosen.append(LookbackFloor(years=0.1, observations_min=20))
    model = MarginVolatility(
        model=Ewma(decay=0.94, start_variance=4e-4), blend=blends[blend], article28=tuple(chosen), floor_annual=0.35,
        half_life_rise_days=s["half_life_rise_days"], half_life_fall_days=s["half_life_fall_days"],
        rise_max_daily=s["rise_max_daily"], fall_max_daily=s["fall_max_daily"], bar_days=bar_days,
        observations_min=20, stale="hold")
    found = model.filter(series, implied=implied)
    # Powers and exponentials of the twin are the C library's: one more rounding per bar, carried on.
    assert found == pytest.approx(reference.path(series, implied, s), rel=1e-11)


@settings(max_examples=25)
@given(cut=st.integers(60, 150), seed=st.integers(0, 1_000))
def test_stream_save_and_batch_are_the_same_bits(cut, seed):
    panel = np.stack([returns(200, seed + k) for k in range(3)], axis=1)
    implied = np.abs(returns(600, seed)).reshape(200, 3) + 0.4
    panel[90:94, 1] = np.nan
    batch = EVERYTHING.filter(panel, implied=implied, warm_up=60)
    state = EVERYTHING.start(panel[:cut], implied=implied[:cut])
    assert np.array_equal(state.sigma_annual(), batch[cut - 60], equal_nan=True)
    for t in range(cut, 200):
        if t == (cut + 200) // 2:
            state = MarginVolatilityState.load(EVERYTHING, json.loads(json.dumps(state.save())))
        assert np.array_equal(state.step(panel[t], implied[t]), batch[t + 1 - 60], equal_nan=True)


def test_underlyings_do_not_know_each_other():
    panel = np.stack([returns(150, k) for k in range(4)], axis=1)
    whole, order = EVERYTHING.filter(panel), [2, 0, 3, 1]
    assert np.array_equal(EVERYTHING.filter(panel[:, order]), whole[:, order])
    assert np.array_equal(EVERYTHING.filter(panel[:, 1]), whole[:, 1])


def test_volatility_scales_with_returns_until_a_floor_binds():
    series = returns(200, 1)
    free = dataclasses.replace(EVERYTHING, floor_annual=0.0)
    assert np.array_equal(free.filter(4.0 * series), 4.0 * free.filter(series))


def test_the_charge_of_a_bar_does_not_know_the_bar():
    series = returns(100, 2)
    other = series.copy()
    other[70:] = 0.5
    assert np.array_equal(EVERYTHING.filter(series)[:41], EVERYTHING.filter(other)[:41])
    assert not np.array_equal(EVERYTHING.filter(series)[41:], EVERYTHING.filter(other)[41:])


def test_blends():
    series = returns(60, 3)
    realised = MarginVolatility().filter(series)[-1]

    def last(blend, implied):
        return MarginVolatility(blend=blend).filter(series, implied=implied)[-1]

    high, low = 2.0 * realised, 0.5 * realised
    assert last(MaxBlend(), high) == high and last(MaxBlend(), low) == realised
    assert last(WeightedBlend(0.25), high) == pytest.approx(1.25 * realised, rel=1e-15)
    assert last(WeightedBlend(1.0), low) == low and last(WeightedBlend(0.0), low) == realised
    assert last(RegimeBlend(enter=3.0, leave=2.0), low) == pytest.approx(0.75 * realised, rel=1e-15)
    assert last(RegimeBlend(enter=1.01, leave=1.0), high) == high
    for blend in (MaxBlend(), WeightedBlend(0.9), RegimeBlend()):
        assert last(blend, None) == realised
    # The long-run level begins at the first realised one: exactly `enter` times it is stress already.
    first = MarginVolatility().filter(series)[0]
    assert MarginVolatility(blend=RegimeBlend(enter=1.5)).filter(series, implied=1.5 * first)[0] == 1.5 * first
    calm = MarginVolatility(blend=RegimeBlend(enter=1.5)).filter(series, implied=1.49 * first)[0]
    assert calm == pytest.approx(1.245 * first, rel=1e-14)


def test_a_stale_implied_volatility_is_left_out():
    series, implied = returns(60, 4), np.full(60, np.nan)
    realised = MarginVolatility().filter(series)
    implied[50] = 3.0
    found = MarginVolatility(implied_stale_after_days=2.5).filter(series, implied=implied)
    assert (found[51 - 30:54 - 30] == 3.0).all() and found[54 - 30] == realised[54 - 30]
    state = MarginVolatility(implied_stale_after_days=2.5).start(series, implied=implied)
    assert state.status() == [DataStatus.IMPLIED_STALE]
    edge = MarginVolatility(implied_stale_after_days=2.0)
    state = edge.start(series[:53], implied=implied[:53])  # two days old to the moment
    assert state.status() == [DataStatus.FRESH] and state.sigma_annual()[0] == 3.0
    assert state.step(0.0)[0] < 3.0 and state.status() == [DataStatus.IMPLIED_STALE]


# Article 28


def test_compliance_follows_the_published_minimums():
    assert not MarginVolatility().compliant
    for good, bad in ((Buffer(size=0.25), Buffer(size=0.2499)),
                      (StressedWeight(weight=0.25), StressedWeight(weight=0.2)),
                      (LookbackFloor(years=10.0), LookbackFloor(years=9.9))):
        assert MarginVolatility(article28=(good,)).compliant and not MarginVolatility(article28=(bad,)).compliant


def test_buffer_is_full_while_calm_drawn_down_in_a_crash_and_built_up_again():
    series = np.where(np.arange(300) % 2 == 0, 0.02, -0.02)
    series[200:204] = 0.06
    plain = MarginVolatility().filter(series)
    model = MarginVolatility(article28=(Buffer(rebuild_half_life_days=10.0),))
    charged = model.filter(series)
    crash = 200 - 30
    assert charged[:crash + 1] == pytest.approx(1.25 * plain[:crash + 1], rel=1e-14)
    size = charged / plain - 1.0
    assert (size >= -1e-15).all() and (size <= 0.25 + 1e-12).all()
    assert plain[crash + 1] > 1.15 * plain[crash]
    assert size[crash + 1] < 0.1 < 0.25 and size[-1] == pytest.approx(0.25, rel=1e-12)
    assert charged[crash + 1] / charged[crash] < plain[crash + 1] / plain[crash]
    stages = model.start(series[:201]).stages
    assert stages["charged"][0] == charged[crash + 1] and stages["smoothed"][0] == plain[crash + 1]


def test_stressed_weight_lifts_calm_margin_towards_the_worst_window():
    series = 0.01 * np.sign(returns(400, 5))
    series[100:160] *= 6.0
    plain = MarginVolatility().filter(series)
    stressed = MarginVolatility(article28=(StressedWeight(window=60),)).filter(series)
    expected = np.sqrt(0.75 * plain[-1] ** 2 + 0.25 * 0.06**2 * 365.0)
    assert stressed[-1] == pytest.approx(expected, rel=1e-12)
    assert (stressed >= plain * (1.0 - 1e-15)).all()
    given = MarginVolatility(article28=(StressedWeight(sigma_annual=2.0),)).filter(series)
    assert given[-1] == pytest.approx(np.sqrt(0.75 * plain[-1] ** 2 + 0.25 * 4.0), rel=1e-12)


def test_lookback_floor_is_the_volatility_of_its_years():
    series = returns(900, 6)
    series[600:] *= 0.1
    years = 500.0 / 365.0
    floored = MarginVolatility(article28=(LookbackFloor(years=years),)).filter(series)
    for end in (300, 500, 640, 900):
        window = series[max(0, end - 500):end]
        floor = np.sqrt(np.mean(window**2) * 365.0)
        plain = MarginVolatility().filter(series[:end])[-1]
        assert floored[end - 250] == pytest.approx(max(floor, plain), rel=1e-12)
    with pytest.raises(ShapeError, match="at least 250 returns, had 100"):
        MarginVolatility(article28=(LookbackFloor(),)).start(series[:100])


def test_the_three_options_on_simulated_crashes():
    """What the published text asks of each, on 4 x 3,000 days of clustered, fat-tailed returns."""
    law = Garch(omega=8e-6, alpha=0.12, beta=0.87, innovation=StudentT(4.0))
    panel = np.ascontiguousarray(law.simulate(3_000, np.random.default_rng(28), paths=4).returns.T)
    plain = MarginVolatility().filter(panel, warm_up=300)
    buffered = MarginVolatility(article28=(Buffer(),)).filter(panel, warm_up=300)
    # (a) at least 25 % on top while calm, never below the calculated margin, exhausted where that rises sharply.
    share = buffered / plain - 1.0
    assert (share >= -1e-15).all() and (share <= 0.25 + 1e-12).all()
    sharp = 1.25 * plain[1:] > 1.10 * buffered[:-1]
    assert share[1:][~sharp] == pytest.approx(0.25, abs=1e-12) and 0.01 < sharp.mean() < 0.5
    assert share[1:][plain[1:] > 1.5 * plain[:-1]].max() < 0.02
    first = sharp & (share[:-1] > 0.2499)
    rise = {name: (path[1:] / path[:-1])[first] for name, path in (("plain", plain), ("buffered", buffered))}
    assert first.sum() > 50 and (rise["buffered"] < rise["plain"]).all()
    # (b) a quarter of the variance is that of the worst 60 days so far, or more where today is worse than they were.
    weighted = MarginVolatility(article28=(StressedWeight(),)).filter(panel, warm_up=300)
    squares = np.array([(panel[max(0, day - 60):day] ** 2).mean(axis=0) for day in range(30, 3_001)])
    worst = np.maximum.accumulate(squares, axis=0)[300 - 30:] * 365.0
    assert weighted ** 2 == pytest.approx(0.75 * plain ** 2 + 0.25 * np.maximum(worst, plain ** 2), rel=1e-10)
    # (c) never below the volatility of the look-back, nor of all days there are while they are fewer.
    floored = MarginVolatility(article28=(LookbackFloor(years=5.0),)).filter(panel, warm_up=300)
    for day in (300, 1_000, 1_825, 1_826, 2_500, 3_000):
        seen = panel[max(0, day - 1_825):day]
        floor = np.sqrt((seen ** 2).mean(axis=0) * 365.0)
        assert floored[day - 300] == pytest.approx(np.maximum(plain[day - 300], floor), rel=1e-12)


def test_everything_counts_the_days_since_the_bar_before():
    series, days = returns(80, 17), 2.5
    half = MarginVolatility(half_life_rise_days=3.0, half_life_fall_days=5.0)
    for move, half_life in ((0.3, 3.0), (0.0, 5.0)):
        state, target = half.start(series), MarginVolatility().start(series)
        before, aim = state.sigma_annual()[0], target.step(move)[0]
        assert state.step(move, elapsed_days=days)[0] == pytest.approx(aim + (before - aim) * 0.5 ** (days / half_life))
    limited = MarginVolatility(rise_max_daily=0.1, fall_max_daily=0.01)
    for move, factor in ((0.5, 1.1), (0.0, 0.99)):
        state = limited.start(series)
        before = state.sigma_annual()[0]
        assert state.step(move, elapsed_days=0.5)[0] == pytest.approx(before * factor ** 0.5, rel=1e-14)
    drawn = MarginVolatility(article28=(Buffer(rebuild_half_life_days=10.0),))
    state, plain = drawn.start(series), MarginVolatility().start(series)
    kept, full = state.sigma_annual()[0], 1.25 * plain.step(0.3)[0]
    kept = max(kept, full / 1.25)
    assert state.step(0.3, elapsed_days=days)[0] == pytest.approx(full + (kept - full) * 0.5 ** (days / 10.0))
    regime = MarginVolatility(blend=RegimeBlend(long_run_half_life_days=20.0, implied_weight=0.0))
    one, other = regime.start(series), regime.start(series)
    one.step(0.3, elapsed_days=days)
    other.step(0.3)
    assert one.save()["arrays"]["_long_run"] > other.save()["arrays"]["_long_run"]
    waiting = MarginVolatility(stale_after_days=3.0).start(series, implied=np.full(80, 0.6))
    assert np.isfinite(waiting.step(np.nan, np.nan, elapsed_days=3.0)).all()
    assert waiting.status() == [DataStatus.IMPLIED_STALE] and waiting.save()["arrays"]["_age"] == [3.0]
    assert np.isnan(waiting.sigma_annual(age_days=0.1)).all() and waiting.status(age_days=0.1) == [DataStatus.UNKNOWN]


def test_days_per_year_and_days_per_bar_annualise():
    series = returns(80, 18)
    plain = MarginVolatility().filter(series)
    assert MarginVolatility(days_per_year=252.0).filter(series) == pytest.approx(plain * np.sqrt(252.0 / 365.0))
    assert MarginVolatility(bar_days=1.0 / 24.0).filter(series) == pytest.approx(plain * np.sqrt(24.0))


def test_sliding_sums_do_not_drift_after_a_crash():
    sums, values = SlidingSum(7, 2), np.abs(np.random.default_rng(7).normal(size=(200, 2))) + 0.1
    values[50] = 1e16
    for t, row in enumerate(values):
        sums.add(row)
        assert sums.sums == pytest.approx(values[max(0, t - 6):t + 1].sum(axis=0), rel=1e-14)


def test_long_run_floor():
    series = 0.1 * returns(100, 8)
    assert MarginVolatility(floor_annual=0.8).filter(series).min() == 0.8


def test_floors_win_over_speed_limits():
    model = MarginVolatility(floor_annual=1.0, rise_max_daily=0.01)
    assert model.filter(returns(60, 9) * 0.1).min() == 1.0


def test_speed_limits_bound_every_step():
    series = returns(300, 10, crash=150)
    free = MarginVolatility().filter(series)
    limited = MarginVolatility(rise_max_daily=0.2, fall_max_daily=0.02).filter(series)
    ratio = limited[1:] / limited[:-1]
    assert ratio.max() <= 1.2 * (1.0 + 1e-15) and ratio.min() >= 0.98 * (1.0 - 1e-15)
    assert (free[1:] / free[:-1]).max() > 1.5
    hourly = MarginVolatility(rise_max_daily=0.2, bar_days=0.25).filter(series)
    assert (hourly[1:] / hourly[:-1]).max() <= 1.2**0.25 * (1.0 + 1e-15)


def test_half_lives_for_rise_and_fall():
    series = np.where(np.arange(200) % 2 == 0, 0.01, -0.01)
    jump = MarginVolatility(model=Ewma(decay=1e-12), half_life_rise_days=2.0, half_life_fall_days=10.0)
    up = series.copy()
    up[100:] *= 3.0
    path = jump.filter(up)[100 - 30:] / path_of(0.01)
    assert path[:4] == pytest.approx(3.0 - 2.0 * 0.5 ** (np.arange(4) / 2.0), rel=1e-9)
    down = series.copy()
    down[:100] *= 3.0
    path = jump.filter(down)[100 - 30:] / path_of(0.01)
    assert path[:40] == pytest.approx(1.0 + 2.0 * 0.5 ** (np.arange(40) / 10.0), rel=1e-9)


def path_of(daily):
    return daily * np.sqrt(365.0)


# Stale and missing data


@pytest.mark.parametrize("stale", ["unknown", "hold", "grow"])
def test_stale_data_does_what_was_asked(stale):
    series = returns(60, 11)
    model = MarginVolatility(stale=stale, stale_after_days=2.0, stale_growth_daily=0.1)
    state = model.start(series)
    before = state.sigma_annual()
    assert state.status() == [DataStatus.FRESH] and np.array_equal(state.sigma_annual(age_days=2.0), before)
    late = state.sigma_annual(age_days=5.0)
    expected = {"unknown": np.nan, "hold": before[0], "grow": before[0] * 1.1**3}[stale]
    assert late[0] == pytest.approx(expected, rel=1e-14, nan_ok=True)
    assert state.status(age_days=5.0) == [DataStatus.UNKNOWN if stale == "unknown" else DataStatus.STALE]
    assert np.array_equal(state.sigma_annual(), before), "asking later must change nothing"


def test_missing_bars_age_one_underlying_and_leave_the_other_alone():
    state = MarginVolatility(stale_after_days=1.5).start(np.stack([returns(60, 12), returns(60, 13)], axis=1))
    first = state.step([np.nan, 0.01])
    assert np.isfinite(first).all() and state.status() == [DataStatus.FRESH] * 2
    second = state.step([np.nan, 0.01])
    assert np.isnan(second[0]) and np.isfinite(second[1])
    assert state.status() == [DataStatus.UNKNOWN, DataStatus.FRESH]
    assert np.isfinite(state.step([0.0, 0.01])).all()


def test_resolve_gives_every_underlying_its_scale():
    history = {"BTC": returns(400, 14), "ETH": returns(300, 15), "SOL": returns(400, 16)}
    model = dataclasses.replace(EVERYTHING, stale="hold")
    found = model.resolve(history, implied={"ETH": 0.9, "SOL": np.full(400, 1.4)})
    assert list(found) == ["BTC", "ETH", "SOL"]
    for name, implied in (("BTC", None), ("ETH", 0.9), ("SOL", 1.4)):
        assert found[name] == model.filter(history[name], implied=implied)[-1]
    assert np.isnan(EVERYTHING.resolve(history, age_days={"ETH": 10.0})["ETH"])
    assert model.resolve(history, age_days=10.0)["ETH"] == model.resolve(history)["ETH"]


def test_resolve_names_every_bad_underlying_or_leaves_them_unknown():
    good = np.random.default_rng(1).standard_normal(200) * 0.02
    bad = good.copy()
    bad[50] = np.inf
    history = {"A": good, "B": bad, "C": good[:5], "D": np.zeros(200), "E": good[::-1].copy()}
    model = MarginVolatility()
    with pytest.raises(MarginError) as caught:
        model.resolve(history)
    assert all(f"{name}: " in str(caught.value) for name in "BCD")
    found = model.resolve(history, bad="unknown")
    alone = model.resolve({"A": good, "E": history["E"]})
    assert list(found) == list(history) and all(math.isnan(found[name]) for name in "BCD")
    assert (found["A"], found["E"]) == (alone["A"], alone["E"])
    aged = model.resolve({"A": good, "E": good}, age_days={"A": -1.0}, bad="unknown")
    assert math.isnan(aged["A"]) and aged["E"] > 0.0
    with pytest.raises(RangeError, match="bad must be one of"):
        model.resolve(history, bad="drop")


def test_resolved_volatility_scales_a_scenario_grid():
    scale = MarginVolatility().resolve({"BTC": returns(400, 14), "ETH": returns(300, 15)})
    scenarios = sigma_grid(spot=[-1.0, 0.0, 1.0], volatility=["same"], horizon_days=1.0, sigma_annual=scale)
    assert len(scenarios) == 3
    with pytest.raises(MarginError, match="ETH"):
        sigma_grid(spot=[-1.0], volatility=["same"], horizon_days=1.0, sigma_annual={**scale, "ETH": np.nan})


def test_any_model_of_returns_may_drive():
    garch = Garch(omega=2e-6, alpha=0.08, beta=0.9)
    series = returns(100, 17)
    expected = np.sqrt(garch.filter(series) * 365.0)
    assert MarginVolatility(model=garch).filter(series) == pytest.approx(expected[30:], rel=1e-15)


# Bad input


def test_bad_histories_raise():
    good, model = returns(60, 18), MarginVolatility()
    with pytest.raises(ShapeError, match="at least 30 returns, had 20"):
        model.start(good[:20])
    with pytest.raises(ShapeError, match="empty"):
        model.start([])
    with pytest.raises(ShapeError, match="axes"):
        model.start(np.ones((2, 2, 2)))
    for value, error in ((np.inf, NotFiniteError), (-np.inf, NotFiniteError), (20.1, RangeError)):
        bad = good.copy()
        bad[40] = value
        with pytest.raises(error, match="position 40"):
            model.start(bad)
    bad = good.copy()
    bad[3] = np.nan
    with pytest.raises(MissingDataError, match="nan in bar 3"):
        model.start(bad)
    for still in (0.0, 0.01):
        with pytest.raises(RangeError, match="constant"):
            model.start(np.full(60, still))
    with pytest.raises(ShapeError, match="warm_up = 70"):
        model.filter(good, warm_up=70)
    with pytest.raises(RangeError, match="warm_up"):
        model.filter(good, warm_up=3)
    for value, error in ((55.0, RangeError), (-0.1, RangeError), (0.0, RangeError), (np.inf, NotFiniteError)):
        with pytest.raises(error, match="implied must be a decimal"):
            model.start(good, implied=value)
    with pytest.raises(ShapeError, match="implied must have length 60"):
        model.start(good, implied=np.full(59, 0.5))
    with pytest.raises(ShapeError, match="implied must have shape"):
        model.start(good, implied=np.full((60, 2), 0.5))
    with pytest.raises(RangeError, match="^ETH: .*constant"):
        model.resolve({"BTC": good, "ETH": np.zeros(60)})
    with pytest.raises(RangeError, match="implied must name underlyings of history, was SOL"):
        model.resolve({"BTC": good}, implied={"SOL": 0.5})
    with pytest.raises(RangeError, match="age_days must name"):
        model.resolve({"BTC": good}, age_days={"SOL": 0.5})
    with pytest.raises(ShapeError, match="at least one underlying"):
        model.resolve({})


def test_a_refused_step_changes_nothing():
    model = dataclasses.replace(EVERYTHING)
    state = model.start(np.stack([returns(60, 19), returns(60, 20)], axis=1))
    before = json.dumps(state.save())
    for row, implied, error in (([0.1], None, ShapeError), ([0.1, np.inf], None, NotFiniteError),
                                ([0.1, 30.0], None, RangeError), ([0.1, 0.1], [0.5, 55.0], RangeError),
                                ([0.1, 0.1], [0.5], ShapeError)):
        with pytest.raises(error):
            state.step(row, implied)
    for days in (0.0, -1.0, np.nan):
        with pytest.raises(MarginError, match="elapsed_days"):
            state.step([0.1, 0.1], elapsed_days=days)
    with pytest.raises(MarginError, match="age_days"):
        state.sigma_annual(age_days=-1.0)
    assert json.dumps(state.save()) == before


@pytest.mark.parametrize(("name", "values"), [
    ("floor_annual", (-0.1, np.nan)), ("half_life_rise_days", (-1.0, np.inf)), ("half_life_fall_days", (-1.0,)),
    ("rise_max_daily", (0.0, -0.1, np.nan)), ("fall_max_daily", (0.0, 1.0, np.nan)), ("stale_after_days", (0.0,)),
    ("stale", ("wait",)), ("stale_growth_daily", (0.0,)), ("implied_stale_after_days", (0.0,)), ("bar_days", (0.0,)),
    ("days_per_year", (-365.0,)), ("observations_min", (1, 2.5)), ("model", (None, 0.5)), ("blend", ("max", None)),
    ("article28", ([Buffer()], (0.25,), (Buffer(), Buffer())))])
def test_bad_parameters_raise(name, values):
    for value in values:
        with pytest.raises(MarginError, match=name):
            MarginVolatility(**{name: value})


@pytest.mark.parametrize(("kind", "name", "values"), [
    (Buffer, "size", (-0.1, np.nan)), (Buffer, "trigger", (-0.1,)), (Buffer, "rebuild_half_life_days", (-1.0,)),
    (StressedWeight, "weight", (-0.1, 1.1)), (StressedWeight, "sigma_annual", (0.0, np.nan)),
    (StressedWeight, "window", (1, 2.5)), (LookbackFloor, "years", (0.0,)), (LookbackFloor, "observations_min", (1,)),
    (WeightedBlend, "implied_weight", (-0.1, 1.1, np.nan)), (RegimeBlend, "enter", (0.0, 1.0)),
    (RegimeBlend, "leave", (0.0,)), (RegimeBlend, "long_run_half_life_days", (0.0,))])
def test_bad_options_raise(kind, name, values):
    for value in values:
        with pytest.raises(MarginError, match=name):
            kind(**{name: value})


def test_a_step_that_overflows_one_underlying_changes_none():
    model = MarginVolatility(model=Egarch(omega=-1.4, alpha=0.1, gamma=0.0, beta=0.9))
    state = model.start(np.stack([returns(60, 1), returns(60, 2)], axis=1) * 0.05)
    before = json.dumps(state.save())
    with pytest.raises(NotFiniteError):
        state.step([0.001, 20.0])
    assert json.dumps(state.save()) == before


@pytest.mark.parametrize(("where", "value"), [
    (("arrays",), None), (("arrays", "_variance"), [0.1, -0.1]), (("arrays", "_variance"), [0.1, math.nan]),
    (("arrays", "_age"), [0.0]), (("arrays", "_age"), [0.0, math.inf]), (("arrays", "_implied"), [0.5, -0.5]),
    (("arrays", "_implied"), ["a", "b"]), (("arrays", "_regime"), [0.0, 2.0]), (("sums", "_floor_sum"), None),
    (("sums", "_floor_sum", "place"), 10**6), (("sums", "_stress_sum", "block"), [[0.1] * 4]),
    (("sums", "_stress_sum", "sum"), [-1.0] * 4), (("sums", "_stress_sum", "sum"), [1.0] * 3),
    (("stages", "charged"), [0.5]), (("stages", "charged"), [0.5, -0.5]), (("volatility",), 3),
    (("volatility", 0), {"p": 1})])
@pytest.mark.parametrize("missing", [False, True])
def test_a_state_that_was_not_saved_so_is_not_loaded(where, value, missing):
    state = EVERYTHING.start(np.stack([returns(60, 19), returns(60, 20)], axis=1))
    saved = json.loads(json.dumps(state.save()))
    assert json.dumps(MarginVolatilityState.load(EVERYTHING, saved).save()) == json.dumps(saved)
    inside = saved
    for name in where[:-1]:
        inside = inside[name]
    if missing:
        del inside[where[-1]]
    else:
        inside[where[-1]] = value
    with pytest.raises(MarginError):
        MarginVolatilityState.load(EVERYTHING, saved)


@pytest.mark.parametrize("days", [5e-324, 1e-9, 1e6, 1e300])
def test_any_time_between_bars_leaves_a_number(days):
    state = EVERYTHING.start(returns(60, 23))
    assert np.isfinite(state.step(0.01, 0.5, elapsed_days=days)).all() and (state.sigma_annual() > 0.0).all()


def test_parameters_are_frozen_data():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVERYTHING.floor_annual = 1.0
    assert dataclasses.replace(EVERYTHING) == EVERYTHING and "Buffer" in repr(EVERYTHING)
