"""The contract that every class listed in a registry must satisfy; a new class is tested the moment it is listed."""

import dataclasses
import doctest
import json
import math
import pickle

import numpy as np
import pytest

from margincore import vol
from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels.variance import PanelState

EXAMPLES = {
    "Ewma": {"decay": 0.94},
    "Garch": {"omega": 2e-6, "alpha": 0.08, "beta": 0.9},
    "Gjr": {"omega": 2e-6, "alpha": 0.03, "gamma": 0.08, "beta": 0.9},
    "Egarch": {"omega": -0.4, "alpha": 0.15, "gamma": -0.05, "beta": 0.955},
    "Component": {"omega": 1e-6, "alpha": 0.05, "beta": 0.85, "rho": 0.99, "phi": 0.03},
    "Har": {"omega": 1e-5, "daily": 0.3, "weekly": 0.3, "monthly": 0.2, "noise": 0.5},
}
models = pytest.mark.parametrize("kind", vol.MODELS, ids=lambda kind: kind.__name__)


def observations(kind, n=300, seed=3):
    values = np.random.default_rng(seed).standard_normal(n) * 0.01
    return values * values if kind.observes == "realised_variance" else values


def example(kind, **changes):
    return kind(**{**EXAMPLES[kind.__name__], **changes})


def test_the_example_of_the_package_says_what_happens():
    found = doctest.testmod(vol)
    assert found.failed == 0 and found.attempted > 5


@models
def test_is_frozen_keyword_only_data(kind):
    model = example(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.start_variance = 1.0
    with pytest.raises(TypeError):
        kind(0.1)
    assert model == example(kind) and kind.__name__ in repr(model)


@models
def test_stream_equals_batch_in_bits(kind):
    model, data = example(kind), observations(kind)
    path = model.filter(data)
    assert path.shape == (301,) and (path > 0.0).all()
    state, seen = model.start(data[:100]), []
    for value in data[100:]:
        seen.append(state.variance)
        state.update(value)
    assert np.array([*seen, state.variance]).tobytes() == path[100:].tobytes()
    assert model.start(data).variance == path[-1]


@models
def test_forecast_begins_at_the_filter_and_ends_at_the_long_run(kind):
    model, data = example(kind), observations(kind)
    forecast = model.forecast(data, 3000)
    assert forecast.variance[0] == pytest.approx(model.filter(data)[-1], rel=1e-14)
    assert forecast.total == pytest.approx(forecast.variance.sum(), rel=1e-12)
    assert forecast.deviation == pytest.approx(math.sqrt(forecast.total))
    if math.isfinite(model.unconditional_variance):
        assert forecast.variance[-1] == pytest.approx(model.unconditional_variance, rel=1e-9)
    else:
        np.testing.assert_allclose(forecast.variance, forecast.variance[0], rtol=1e-12)
    assert model.forecast(model.start(data), 5).variance.tolist() == model.forecast(data, 5).variance.tolist()


@models
def test_forecast_agrees_with_simulation(kind):
    model = example(kind, start_variance=2e-4)
    paths = model.simulate(5, np.random.default_rng(1), paths=20_000)
    expected = model.forecast(model.start(), 5).variance
    error = paths.variance.std(axis=0) / math.sqrt(20_000)
    assert (np.abs(paths.variance.mean(axis=0) - expected) <= 4.5 * error + 1e-15).all()


@models
def test_simulation_repeats_by_seed_and_goes_on_from_a_state(kind):
    model = example(kind, start_variance=1e-4)
    one = model.simulate(20, np.random.default_rng(7), paths=3)
    two = model.simulate(20, np.random.default_rng(7), paths=3)
    assert one.returns.tobytes() == two.returns.tobytes() and one.returns.shape == (3, 20)
    np.testing.assert_array_equal(model.filter(one.returns[0])[:-1], one.variance[0])
    state = model.start(observations(kind))
    before = state.save()
    assert model.simulate(2, np.random.default_rng(7), state=state).variance[0, 0] == state.variance
    assert state.save() == before


@models
def test_news_impact_and_residuals(kind):
    model, data = example(kind, start_variance=1e-4), observations(kind)
    shocks = np.array([1e-4, 4e-4]) if kind.observes == "realised_variance" else np.array([0.01, 0.02])
    impact = model.news_impact(shocks, variance=1e-4)
    assert (impact > 0.0).all() and impact[1] > impact[0]
    residuals = model.standardised_residuals(data)
    assert residuals.shape == data.shape and np.isfinite(residuals).all()


def test_news_impact_is_that_of_engle_and_ng():
    """The shock came at the variance given, as did everything before it; worked by hand for each model."""
    shocks, h = np.array([-0.03, 0.0, 0.02]), 4e-4
    square, falls, z = shocks ** 2, (shocks < 0.0) * shocks ** 2, shocks / 0.02
    ewma = {"decay": 0.94}
    for model, expected in [
            (vol.Ewma(**ewma), 0.94 * h + 0.06 * square), (vol.Ewma(**ewma, mean=0.1), 0.94 * h + 0.06 * square),
            (example(vol.Garch), 2e-6 + 0.9 * h + 0.08 * square),
            (vol.Garch(omega=2e-6, alpha=(0.05, 0.03), beta=(0.6, 0.2)), 2e-6 + 0.8 * h + 0.05 * square + 0.03 * h),
            (example(vol.Gjr), 2e-6 + 0.9 * h + 0.03 * square + 0.08 * falls),
            (example(vol.Egarch),
             np.exp(-0.4 + 0.955 * math.log(h) + 0.15 * (np.abs(z) - math.sqrt(2.0 / math.pi)) - 0.05 * z))]:
        np.testing.assert_allclose(model.news_impact(shocks, variance=h), expected, rtol=1e-13)
    resting = example(vol.Gjr)
    level = resting.unconditional_variance
    np.testing.assert_allclose(resting.news_impact([0.02]), 2e-6 + 0.9 * level + 0.03 * 4e-4, rtol=1e-13)
    with pytest.raises(RangeError, match="variance must be above 0"):
        resting.news_impact(shocks, variance=0.0)


def test_component_is_the_pair_of_recursions_of_engle_and_lee():
    model, returns = example(vol.Component, start_variance=1e-4, mean=2e-4), observations(vol.Component)
    q = h = square = 1e-4
    for value, forecast in zip([*returns, None], model.filter(returns), strict=True):
        following = 1e-6 + 0.99 * q + 0.03 * (square - h)
        q, h = following, following + 0.05 * (square - q) + 0.85 * (h - q)
        assert forecast == pytest.approx(h, rel=1e-12)
        square = None if value is None else (value - 2e-4) ** 2


def test_har_is_the_means_over_a_day_a_week_and_a_month():
    model, realised = example(vol.Har, windows=(1, 7, 30)), observations(vol.Har)
    for t in (30, 31, 100, 299):
        past = realised[:t]
        assert model.filter(realised)[t] == pytest.approx(
            1e-5 + 0.3 * past[-1] + 0.3 * past[-7:].mean() + 0.2 * past[-30:].mean(), rel=1e-13)


def test_har_fit_is_least_squares_with_its_standard_errors():
    truth = vol.Har(omega=1e-5, daily=0.35, weekly=0.3, monthly=0.2, noise=0.4)
    series = truth.simulate(3_000, np.random.default_rng(8)).returns[0]
    fit = vol.Har.fit(series)
    rows = range(22, 3_000)
    design = np.array([[1.0, series[t - 1], series[t - 5:t].mean(), series[t - 22:t].mean()] for t in rows])
    values, *_ = np.linalg.lstsq(design / series.mean(), series[22:] / series.mean(), rcond=None)
    np.testing.assert_allclose(fit.values, values, rtol=1e-8)
    errors = series[22:] - design @ values
    bread = np.linalg.inv(design.T @ design)
    white = bread @ (design.T * errors ** 2) @ design @ bread
    np.testing.assert_allclose(fit.standard_errors(), np.sqrt(np.diagonal(white)), rtol=1e-6)
    np.testing.assert_allclose(fit.standard_errors("hessian"),
                               np.sqrt(np.diagonal(bread) * np.mean(errors ** 2)), rtol=1e-6)
    scores = design * errors[:, None] / np.mean(errors ** 2)
    np.testing.assert_allclose(fit.standard_errors("opg"), np.sqrt(np.diagonal(np.linalg.inv(scores.T @ scores))),
                               rtol=1e-5)
    assert fit.r_squared == pytest.approx(1.0 - np.mean(errors ** 2) / np.var(series[22:]), rel=1e-9)
    assert (np.abs(fit.values - [1e-5, 0.35, 0.3, 0.2]) < 4.0 * fit.standard_errors()).all()
    assert fit.model.noise == pytest.approx(0.4, rel=0.05) and fit.observations == 2_978
    assert fit.model.start_variance == pytest.approx(series.mean(), rel=1e-14)


@pytest.mark.parametrize("law", [vol.StudentT(5.0), vol.SkewT(5.0, -0.4)], ids=["t", "skewed t"])
@pytest.mark.parametrize("kind", [vol.Garch, vol.Gjr, vol.Component], ids=lambda kind: kind.__name__)
def test_forecasts_and_long_run_hold_under_every_law(kind, law):
    model = example(kind, innovation=law)
    paths = model.simulate(60, np.random.default_rng(11), paths=40_000)
    assert paths.returns.mean() == pytest.approx(0.0, abs=5.0 * paths.returns.std() / math.sqrt(paths.returns.size))
    expected = model.forecast(model.start(), 60).variance
    np.testing.assert_allclose(expected, model.unconditional_variance, rtol=1e-9)  # begun at rest
    error = paths.variance.std(axis=0)[1:] / math.sqrt(40_000)
    assert (np.abs(paths.variance.mean(axis=0) - expected)[1:] <= 4.5 * error).all()


@models
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_data_is_refused(kind, bad):
    model, data = example(kind), observations(kind)
    data[5] = bad
    for verb in (model.filter, model.start, model.standardised_residuals, kind.fit):
        with pytest.raises(NotFiniteError, match="finite"):
            verb(data)
    with pytest.raises(ShapeError, match="empty"):
        model.filter([])
    with pytest.raises(ShapeError):
        model.filter(np.zeros((2, 2)))


@models
def test_fit_refuses_short_and_constant_series(kind):
    with pytest.raises(MarginError):
        kind.fit(observations(kind, 20))
    with pytest.raises(MarginError):
        kind.fit(np.zeros(500))
    with pytest.raises(MarginError):
        kind.fit(np.full(500, 0.01))


@models
def test_every_number_is_checked(kind):
    for name, value in EXAMPLES[kind.__name__].items():
        for wrong in (math.nan, math.inf, "1", None, True):
            with pytest.raises((MarginError, TypeError)):
                example(kind, **{name: wrong})
        assert getattr(example(kind), name) in (value, (value,))
    with pytest.raises(RangeError, match="start_variance"):
        example(kind, start_variance=0.0)


def test_negative_weights_and_weights_without_return_are_refused():
    for wrong in ({"alpha": 0.03, "gamma": -0.04}, {"gamma": 0.14}, {"gamma": (0.05, 0.03)}):
        with pytest.raises(MarginError, match=r"alpha \+ gamma|persistence|lags of alpha"):
            example(vol.Gjr, **wrong)
    assert vol.Gjr(omega=1e-6, alpha=0.03, gamma=-0.03, beta=0.9).recursion().second == (0.0,)
    for wrong in ({"beta": 1.0}, {"beta": -1.0}, {"beta": (0.6, 0.5)}, {"gamma": (0.1, 0.1)}):
        with pytest.raises(MarginError, match="unit circle|lags of alpha"):
            example(vol.Egarch, **wrong)
    for wrong in ({"phi": 0.9}, {"alpha": 0.2}, {"rho": 1.0}):
        with pytest.raises(RangeError, match="phi must be at most beta|alpha \\+ beta|persistence"):
            example(vol.Component, **wrong)
    for wrong in ({"daily": 0.5}, {"windows": (1, 1, 22)}, {"windows": (1, 5)}, {"windows": (1, 5, 65)}):
        with pytest.raises(RangeError, match="persistence|windows"):
            example(vol.Har, **wrong)
    with pytest.raises(RangeError, match="realised_variance must be at least 0, was -1e-05"):
        vol.Har.fit(np.append(observations(vol.Har), -1e-5))


@models
def test_horizons_paths_and_steps_are_counts(kind):
    model = example(kind, start_variance=1e-4)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(RangeError, match="horizon_steps"):
            model.forecast(observations(kind), wrong)
        with pytest.raises(RangeError, match="steps"):
            model.simulate(wrong, np.random.default_rng(1))
        with pytest.raises(RangeError, match="paths"):
            model.simulate(2, np.random.default_rng(1), paths=wrong)
    with pytest.raises(RangeError, match="generator must be"):
        model.simulate(2, 7)


@models
def test_a_foreign_state_is_refused(kind):
    other = vol.Ewma(decay=0.5, start_variance=1.0).start()
    with pytest.raises(RangeError, match="state must come from this model"):
        example(kind).forecast(other, 3)


@models
def test_panels_are_single_series_side_by_side(kind):
    model = example(kind)
    table = np.column_stack([observations(kind), 3.0 * observations(kind)[::-1], observations(kind)])
    table[40, 2] = np.nan
    found = model.filter_panel(table)
    assert found.refused.tolist() == [0, 0, 1]
    for at in range(2):
        assert found.variance[:, at].tobytes() == model.filter(table[:, at].copy()).tobytes()
    assert np.flatnonzero(np.isnan(found.variance[:, 2])).tolist() == [41]
    panel, out = model.start_panel(table[:-1]), np.empty(3)
    panel.update(table[-1].copy(), out)
    assert out.tobytes() == found.variance[-1].tobytes()
    for at, state in enumerate(panel.states()):
        single = model.start(table[np.isfinite(table[:, at]), at].copy())
        assert state == single
        assert model.forecast(state, 3).variance.tolist() == model.forecast(single, 3).variance.tolist()
    again = PanelState.load(json.loads(json.dumps(panel.save())))
    assert again.variance.tobytes() == panel.variance.tobytes()
    assert pickle.loads(pickle.dumps(panel)).save() == panel.save()


def test_egarch_with_heavy_tails_forecasts_further_by_simulation():
    calming = vol.Egarch(omega=-0.4, alpha=-0.05, gamma=0.02, beta=0.955, innovation=vol.StudentT(6.0))
    data = observations(vol.Egarch)
    with pytest.raises(RangeError, match="give a generator"):
        calming.forecast(data, 2)
    found = calming.forecast(data, 5, generator=np.random.default_rng(1), paths=20_000)
    again = calming.forecast(calming.start(data), 5, generator=np.random.default_rng(1), paths=20_000)
    assert found.variance.tobytes() == again.variance.tobytes() and found.total == pytest.approx(found.variance.sum())
    assert found.variance[0] == calming.filter(data)[-1]
    drawn = calming.simulate(5, np.random.default_rng(2), paths=20_000, state=calming.start(data)).variance
    error = drawn.std(axis=0) * math.sqrt(2.0 / 20_000)
    assert (np.abs(found.variance - drawn.mean(axis=0)) <= 4.5 * error + 1e-15).all()
    normal = example(vol.Egarch)
    exact = normal.forecast(data, 5).variance
    close = normal.forecast(data, 5, generator=np.random.default_rng(1), paths=20_000).variance
    np.testing.assert_allclose(close, exact, rtol=0.02)


@pytest.mark.parametrize("law", [vol.StudentT(6.0), vol.SkewT(6.0, -0.2)], ids=["t", "skewed t"])
def test_egarch_with_heavy_tails_has_no_long_run_variance_in_closed_form(law):
    for alpha, gamma in ((0.15, -0.05), (-0.05, 0.06), (-0.05, -0.06)):  # shocks, rises or falls raise the variance
        model = vol.Egarch(omega=-0.4, alpha=alpha, gamma=gamma, beta=0.955, innovation=law)
        assert model.unconditional_variance == math.inf
    calming = vol.Egarch(omega=-0.4, alpha=-0.05, gamma=0.02, beta=0.955, innovation=law)
    with pytest.raises(RangeError, match="closed form"):
        _ = calming.unconditional_variance
    # Begun where the log variance rests, it stays there on average: E|z| is that of the law.
    for model in (calming, vol.Egarch(omega=-0.4, alpha=0.3, gamma=-0.05, beta=0.9, innovation=law)):
        logs = np.log(model.simulate(40, np.random.default_rng(4), paths=20_000).variance)
        error = logs[:, -1].std() / math.sqrt(20_000)
        assert logs[:, -1].mean() == pytest.approx(logs[0, 0], abs=4.5 * error)


def test_egarch_rests_and_ends_where_simulation_does():
    model = example(vol.Egarch, alpha=0.3)
    variance = model.simulate(300, np.random.default_rng(5), paths=20_000).variance[:, -1]
    assert variance.mean() == pytest.approx(model.unconditional_variance, abs=4.5 * variance.std() / math.sqrt(20_000))


def test_a_series_without_a_start_is_refused_alone():
    table = np.column_stack([np.zeros(50), observations(vol.Ewma)[:50], np.full(50, np.nan)])
    found = vol.Ewma().filter_panel(table)
    assert found.refused.tolist() == [50, 0, 50]
    assert np.isnan(found.variance[:, [0, 2]]).all() and (found.variance[:, 1] > 0.0).all()
    with pytest.raises(MarginError, match="series 0"):
        vol.Ewma().start_panel(table)


@pytest.mark.parametrize("kind", [vol.Ewma, vol.Har])
def test_panel_fits_have_a_status_each(kind):
    model = example(vol.Har if kind is vol.Har else vol.Garch, start_variance=1e-4)
    table = np.ascontiguousarray(model.simulate(600, np.random.default_rng(5), paths=4).returns.T)
    table[7, 1] = np.nan
    table[:, 2] = 1e-4
    fits = kind.fit_panel(table)
    assert fits.status.tolist() == [0, 2, 3, 0]
    assert np.isnan(fits.values[1:3]).all()
    for at in (0, 3):
        single = kind.fit(table[:, at].copy())
        assert fits.values[at].tolist() == single.values.tolist()
        assert fits.model(at).recursion() == single.model.recursion()
    with pytest.raises(MarginError, match="series 1"):
        fits.model(1)
