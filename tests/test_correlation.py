"""Covariance with shrinkage, correlation repair and stress: twins, published matrices, properties, errors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import correlation as reference

from margincore.errors import (
    MarginError,
    MissingDataError,
    NotConvergedError,
    NotFiniteError,
    RangeError,
    ShapeError,
)
from margincore.vol import correlation, covariance

GOLDEN = json.loads((Path(__file__).parent / "golden/nearest_correlation.json").read_text())


def panel(observations=80, assets=6, seed=0):
    rng = np.random.default_rng(seed)
    loading = rng.uniform(-1.0, 1.5, assets)
    common = rng.standard_t(5, (observations, 1))
    return 0.01 * (common * loading + rng.normal(size=(observations, assets)) * rng.uniform(0.5, 2.0, assets))


def weights(observations, decay):
    w = decay ** np.arange(observations)[::-1]
    return w / w.sum()


@pytest.mark.parametrize("target", ["none", "identity", "constant_correlation"])
@pytest.mark.parametrize("seed", range(4))
def test_ledoit_wolf_equals_the_sums_of_the_papers(target, seed):
    returns = panel(300, 5, seed)  # more than two blocks of rows
    centred, w = returns - returns.mean(axis=0), np.full(300, 1.0 / 300.0)
    found = covariance.ledoit_wolf(returns, target=target)
    sample = reference.weighted_covariance(centred, w)
    if target == "none":
        expected, intensity = sample, 0.0
    elif target == "identity":
        intensity = reference.identity_intensity(centred, w)
        expected = intensity * np.eye(5) * np.trace(sample) / 5 + (1.0 - intensity) * sample
    else:
        structured, intensity = reference.constant_correlation(centred, w)
        expected = intensity * structured + (1.0 - intensity) * sample
        assert 0.0 < intensity < 1.0
    assert found.intensity == pytest.approx(intensity, rel=1e-10, abs=1e-14)
    assert found.covariance == pytest.approx(expected, rel=1e-10, abs=1e-18)


@pytest.mark.parametrize("decay", [0.9, 0.97])
def test_ewma_covariance_equals_its_twin(decay):
    returns = panel(70, 4, 7)
    w = weights(70, decay)
    sample = reference.weighted_covariance(returns, w)
    plain = covariance.EwmaCovariance(decay=decay, target="none").fit(returns)
    assert plain.covariance == pytest.approx(sample, rel=1e-12)
    shrunk = covariance.EwmaCovariance(decay=decay).fit(returns)
    assert shrunk.intensity == pytest.approx(reference.identity_intensity(returns, w), rel=1e-10)
    target, intensity = reference.constant_correlation(returns, w)
    shrunk = covariance.EwmaCovariance(decay=decay, target="constant_correlation").fit(returns)
    assert shrunk.intensity == pytest.approx(intensity, rel=1e-9)
    assert shrunk.covariance == pytest.approx(intensity * target + (1.0 - intensity) * sample, rel=1e-10)
    fixed = covariance.EwmaCovariance(decay=decay, intensity=0.25).fit(returns)
    assert fixed.intensity == 0.25


@settings(max_examples=20)
@given(cut=st.integers(0, 60), again=st.integers(0, 60))
def test_stream_chunks_and_batch_are_the_same_bits(cut, again):
    returns, model = panel(60, 5, 8), covariance.EwmaCovariance()
    whole = model.start(returns)
    state = model.start(assets=5)
    first, second = sorted((cut, again))
    for chunk in (returns[:first], returns[first:second]):
        if len(chunk):
            state.extend(chunk)
    for row in returns[second:]:
        state.update(row)
    assert np.array_equal(whole.covariance(), state.covariance())
    revived = covariance.EwmaCovarianceState.load(model, json.loads(json.dumps(whole.save())))
    for other in (whole, revived):
        other.update(returns[3])
    assert np.array_equal(whole.correlation(), revived.correlation())


@pytest.mark.parametrize("change", [
    {"assets": None}, {"assets": 2}, {"assets": 0}, {"observations": -1}, {"skipped": 0.5}, {"moments": None},
    {"moments": {}}, {"total": None}, {"total": -1.0}, {"total": 1.5}, {"squares": math.nan}, {"first": 1.0},
    {"third": [[1.0]]}])
def test_a_state_that_was_not_saved_so_is_not_loaded(change):
    model = covariance.EwmaCovariance()
    saved = model.start(panel(30, 3)).save()
    assert covariance.EwmaCovarianceState.load(model, saved).save() == saved
    for key, value in change.items():
        into = saved if key in saved else saved["moments"]
        into[key] = value
        if value is None and key != "moments":
            del into[key]
    with pytest.raises(MarginError):
        covariance.EwmaCovarianceState.load(model, saved)
    with pytest.raises(ShapeError, match="saved must be the dictionary"):
        covariance.EwmaCovarianceState.load(model, {})


def test_assets_may_come_in_any_order():
    returns, order = panel(50, 6, 9), np.array([4, 2, 0, 5, 1, 3])
    model = covariance.EwmaCovariance(target="none")
    base = model.fit(returns).covariance
    assert np.array_equal(model.fit(returns[:, order]).covariance, base[np.ix_(order, order)])
    base = covariance.EwmaCovariance().fit(returns).covariance
    moved = covariance.EwmaCovariance().fit(returns[:, order]).covariance
    assert moved == pytest.approx(base[np.ix_(order, order)], rel=1e-12)


def test_shrinkage_scales_with_the_square_and_makes_singular_panels_definite():
    returns = panel(25, 40, 10)
    for target in ("identity", "constant_correlation"):
        base = covariance.ledoit_wolf(returns, target=target)
        scaled = covariance.ledoit_wolf(8.0 * returns, target=target)
        assert scaled.intensity == base.intensity
        assert np.array_equal(scaled.covariance, 64.0 * base.covariance)
        assert np.linalg.eigvalsh(base.covariance)[0] > 0.0
    assert np.linalg.eigvalsh(covariance.ledoit_wolf(returns, target="none").covariance)[0] < 1e-15


def test_one_asset_is_its_own_covariance():
    returns = panel(30, 1, 11)
    for target in ("none", "identity", "constant_correlation"):
        model = covariance.EwmaCovariance(target=target)
        assert model.fit(returns).covariance == pytest.approx(model.start(returns).covariance())
        assert model.start(returns).correlation().tolist() == [[1.0]]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_nearest_correlation_reproduces_published_matrices(case):
    found = correlation.nearest_correlation(case["matrix"])
    assert found == pytest.approx(np.array(case["expected"]), abs=case["tolerance"])


@settings(max_examples=40)
@given(assets=st.integers(2, 12), seed=st.integers(0, 10_000), floor=st.sampled_from([0.0, 1e-8, 1e-3]))
def test_repaired_matrices_are_correlation_matrices(assets, seed, floor):
    rng = np.random.default_rng(seed)
    broken = np.clip(rng.uniform(-1.5, 1.5, (assets, assets)), -1.0, 1.0)
    broken = 0.5 * (broken + broken.T)
    np.fill_diagonal(broken, 1.0)
    fixed = correlation.nearest_correlation(broken, eigenvalue_min=floor)
    assert np.array_equal(fixed, fixed.T) and np.array_equal(np.diagonal(fixed), np.ones(assets))
    assert np.abs(fixed).max() <= 1.0
    assert np.linalg.eigvalsh(fixed)[0] >= 0.999 * floor - 1e-13
    order = rng.permutation(assets)
    permuted = correlation.nearest_correlation(broken[np.ix_(order, order)], eigenvalue_min=floor)
    assert permuted == pytest.approx(fixed[np.ix_(order, order)], abs=1e-9)
    again = correlation.nearest_correlation(fixed, eigenvalue_min=0.9 * floor)
    assert again == pytest.approx(fixed, abs=1e-10)


def test_no_correlation_matrix_is_nearer():
    rng = np.random.default_rng(12)
    broken = np.array(GOLDEN["cases"][1]["matrix"], float)
    fixed = correlation.nearest_correlation(broken)
    distance = np.linalg.norm(fixed - broken)
    for _ in range(300):
        factor = rng.normal(size=(3, 3))
        other = correlation.covariance_to_correlation(factor @ factor.T)
        for mix in (1.0, 0.1, 0.01):
            assert np.linalg.norm((1.0 - mix) * fixed + mix * other - broken) >= distance - 1e-9


def test_a_correlation_matrix_is_left_alone():
    good = correlation.covariance_to_correlation(covariance.ledoit_wolf(panel(50, 8, 13)).covariance)
    assert np.array_equal(correlation.nearest_correlation(good), good)


def test_a_matrix_just_beyond_semi_definite_is_not_stressed():
    matrix = np.full((3, 3), -0.5 - 1e-6)
    np.fill_diagonal(matrix, 1.0)
    with pytest.raises(RangeError, match="positive semi-definite, had the eigenvalue -2"):
        correlation.stressed_correlation(matrix, 0.5)
    np.fill_diagonal(repaired := correlation.nearest_correlation(matrix), 1.0)
    assert correlation.stressed_correlation(repaired, 0.0) == pytest.approx(repaired, rel=1e-15)


def test_a_covariance_needs_its_observations():
    state = covariance.EwmaCovariance(observations_min=20).start(panel(19, 3))
    with pytest.raises(RangeError, match="observations must be at least 20, was 19"):
        state.covariance()
    state.update(panel(1, 3)[0])
    assert state.covariance().shape == (3, 3)


def test_stress_moves_towards_one_and_towards_zero():
    base = np.array([[1.0, 0.6, -0.2], [0.6, 1.0, 0.1], [-0.2, 0.1, 1.0]])
    assert np.array_equal(correlation.stressed_correlation(base, 0.0), base)
    assert np.array_equal(correlation.stressed_correlation(base, 1.0), np.ones((3, 3)))
    assert np.array_equal(correlation.stressed_correlation(base, 1.0, towards=0.0), np.eye(3))
    half = correlation.stressed_correlation(base, 0.5)
    assert half[0, 2] == pytest.approx(0.4) and half[0, 1] == pytest.approx(0.8)
    assert correlation.stressed_correlation(base, 0.5, towards=0.0)[0, 1] == pytest.approx(0.3)
    # Offsetting positions: towards 0 costs a hedge, towards 1 costs a diversified book.
    book, hedge = np.ones(3), np.array([1.0, -1.0, 0.0])
    assert book @ half @ book > book @ base @ book
    loose = correlation.stressed_correlation(base, 0.5, towards=0.0)
    assert hedge @ loose @ hedge > hedge @ base @ hedge > hedge @ half @ hedge


@settings(max_examples=40)
@given(assets=st.integers(1, 10), seed=st.integers(0, 1_000), weight=st.floats(0.0, 1.0),
       towards=st.floats(-1.0, 1.0))
def test_stressed_matrices_stay_valid(assets, seed, weight, towards):
    base = correlation.covariance_to_correlation(covariance.ledoit_wolf(panel(40, assets, seed)).covariance)
    towards = max(towards, -1.0 / (assets - 1)) if assets > 1 else towards
    stressed = correlation.stressed_correlation(base, weight, towards=towards)
    assert np.linalg.eigvalsh(stressed)[0] >= -1e-12
    assert np.array_equal(np.diagonal(stressed), np.ones(assets))


def test_bars_with_a_gap_are_an_error_or_left_out():
    panel = np.random.default_rng(3).standard_normal((80, 3)) * 0.02
    gaps = np.insert(panel, [0, 30, 80], np.nan, axis=0)
    gaps[31, 0] = 0.01
    with pytest.raises(MarginError, match="was nan in bar 0 of asset 0"):
        covariance.EwmaCovariance().start(gaps)
    skipping = covariance.EwmaCovariance(missing="skip").start(gaps)
    assert (skipping.skipped, skipping.observations) == (3, 80)
    assert skipping.covariance().tobytes() == covariance.EwmaCovariance().start(panel).covariance().tobytes()
    again = covariance.EwmaCovarianceState.load(skipping.model, skipping.save())
    again.update([0.01, math.nan, 0.0])
    assert (again.skipped, again.observations) == (4, 80)
    gaps[5, 1] = np.inf
    before = skipping.save()
    with pytest.raises(MarginError, match="was inf in bar 5 of asset 1"):
        skipping.extend(gaps)
    with pytest.raises(MarginError):
        skipping.update([0.01, math.nan, math.inf])
    assert skipping.save() == before


def test_bad_panels_raise():
    good = panel(30, 3, 14)
    bad = good.copy()
    bad[4, 1] = np.nan
    for call in (covariance.ledoit_wolf, covariance.EwmaCovariance().fit):
        with pytest.raises(NotFiniteError, match="bar 4 of asset 1"):
            call(bad)
        with pytest.raises(ShapeError, match="axes"):
            call(good[0])
        with pytest.raises(ShapeError, match="empty"):
            call(np.empty((0, 3)))
    with pytest.raises(ShapeError, match="at least 2 observations, had 1"):
        covariance.ledoit_wolf(good[:1])
    with pytest.raises(RangeError, match="observations must be at least 20, was 5"):
        covariance.EwmaCovariance().fit(good[:5])
    still = good.copy()
    still[:, 2] = 0.01
    with pytest.raises(RangeError, match="asset 2 was constant"):
        covariance.ledoit_wolf(still)
    still[:, 2] = 0.0
    with pytest.raises(RangeError, match="asset 2 was constant"):
        covariance.EwmaCovariance().fit(still)
    with pytest.raises(RangeError, match="target must be one of"):
        covariance.ledoit_wolf(good, target="market")
    state = covariance.EwmaCovariance().start(good)
    before = state.covariance()
    for row, error in (([1.0, 2.0], ShapeError), ([1.0, np.inf, 0.0], NotFiniteError)):
        with pytest.raises(error):
            state.update(row)
    with pytest.raises(ShapeError, match="3 assets"):
        state.extend(np.ones((4, 2)))
    with pytest.raises(NotFiniteError):
        state.extend(bad)
    assert np.array_equal(state.covariance(), before)
    with pytest.raises(MissingDataError):
        covariance.EwmaCovariance().start()


@pytest.mark.parametrize(("name", "values"), [
    ("decay", (0.0, 1.0, -1.0, np.nan)), ("intensity", (-0.1, 1.1, np.nan)), ("observations_min", (1, 2.5)),
    ("target", ("x",))])
def test_bad_parameters_raise(name, values):
    for value in values:
        with pytest.raises(MarginError, match=name):
            covariance.EwmaCovariance(**{name: value})


def test_bad_matrices_raise():
    base = np.array([[1.0, 0.5], [0.5, 1.0]])
    for call in (correlation.nearest_correlation, lambda m: correlation.stressed_correlation(m, 0.5),
                 correlation.covariance_to_correlation):
        with pytest.raises(ShapeError, match="square"):
            call(np.ones((2, 3)))
        with pytest.raises(NotFiniteError):
            call([[1.0, np.nan], [np.nan, 1.0]])
        with pytest.raises(RangeError, match="symmetric"):
            call([[1.0, 0.5], [0.4, 1.0]])
    with pytest.raises(RangeError, match="positive semi-definite"):
        correlation.stressed_correlation(np.array(GOLDEN["cases"][1]["matrix"], float), 0.5)
    with pytest.raises(RangeError, match="ones on its diagonal"):
        correlation.stressed_correlation(2.0 * base, 0.5)
    with pytest.raises(RangeError, match=r"\[-1, 1\]"):
        correlation.stressed_correlation([[1.0, 1.5], [1.5, 1.0]], 0.5)
    with pytest.raises(RangeError, match="weight"):
        correlation.stressed_correlation(base, 1.5)
    with pytest.raises(RangeError, match="towards must be at least -0.5"):
        correlation.stressed_correlation(np.eye(3), 0.5, towards=-0.9)
    with pytest.raises(RangeError, match="positive variances"):
        correlation.covariance_to_correlation([[0.0, 0.0], [0.0, 1.0]])
    with pytest.raises(NotConvergedError, match="within 2 steps"):
        correlation.nearest_correlation(GOLDEN["cases"][1]["matrix"], steps_max=2)
    with pytest.raises(RangeError, match="eigenvalue_min"):
        correlation.nearest_correlation(base, eigenvalue_min=1.0)
