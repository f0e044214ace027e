"""Evaluation of slices and surfaces: twin, interpolation, storage, errors."""

import json
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from reference import surface as reference
from shared_data import shared

from margincore.arbitrage import check_arbitrage
from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.surface import YEAR_NS, VolSurface
from margincore.svi import JumpWingsSvi, NaturalSvi, RawSvi, essvi_row, ssvi_rows
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-02-05T16:00")
EXPIRIES = NOW + np.array([7, 30, 90, 360]) * NS_PER_DAY
VOGT = RawSvi(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)


def sample():
    return VolSurface.ssvi([0.01, 0.04, 0.11, 0.4], EXPIRIES, rho=-0.4, eta=1.1, time_ns=NOW,
                           forward=[100.0, 100.5, 102.0, 108.0], discount=1.0, spot=99.8)


def nodes():
    return VolSurface.from_nodes([[-0.1, 0.0, 0.1]], [[0.04, 0.04, 0.04]], EXPIRIES[:1], time_ns=NOW, forward=1.0)


NO_FILES = (None, 5, 1.5, True, b"x", [], {}, "", "a\0b")


# rho stays off -1 and 1, where the reference's own x rho + s cancels.
slices = st.builds(lambda least, b, rho, m, sigma: RawSvi(a=least - b * sigma * np.sqrt(1 - rho * rho), b=b, rho=rho,
                                                           m=m, sigma=sigma),
                   st.floats(1e-4, 1), st.floats(0, 1), st.floats(-0.95, 0.95), st.floats(-1, 1), st.floats(1e-3, 2))


@given(slices, st.lists(st.floats(-4, 4), min_size=1, max_size=20))
@settings(max_examples=100)
def test_slice_equals_twin(slice_, k):
    surface = VolSurface.svi(slice_, EXPIRIES[:1], time_ns=NOW, forward=100.0)
    k = np.array(k)
    w, slope, bend = reference.svi(slice_.row, k)
    got = surface.terms(0, k)
    scale = abs(slice_.a) + slice_.b * (np.abs(k - slice_.m) + slice_.sigma)
    assert np.all(np.abs(got[0] - w) <= 8e-16 * scale)
    np.testing.assert_allclose(got[1], slope, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(got[2], bend, rtol=1e-13, atol=1e-300)  # subnormal bends have no relative precision
    w, slope, bend = got[:3]
    parts = (1 + np.abs(k * slope / w)) ** 2 + slope**2 / w + bend
    assert np.all(np.abs(got[3] - reference.durrleman(k, w, slope, bend)) <= 2e-15 * parts)


@pytest.mark.parametrize("days", [1, 7, 10, 29, 30, 60, 200, 360, 500])
def test_interpolation_equals_twin(days):
    surface = sample()
    rows, years = surface.rows, (EXPIRIES - NOW) / YEAR_NS
    when = NOW + days * NS_PER_DAY
    straight = dict(zip(EXPIRIES.tolist(), surface._slices.straight().tolist(), strict=True))
    for k in (-0.8, -0.2, 0.0, 0.1, 0.6):
        line, mixed = reference.variance(rows, years, k, (when - NOW) / YEAR_NS)
        before = EXPIRIES[when > EXPIRIES]
        expected = line if before.size and straight[int(before[-1])] else mixed
        assert surface.variance(k, when) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [
    [(-0.0026, 0.0114, 0.5847, -0.4265, 0.3951), (0.0069, 0.031, 0.2799, -0.7632, 0.0413)],
    [(-0.0379, 0.0227, 0.3306, -0.8096, 2.055), (-0.0071, 0.3886, -0.0187, 0.0143, 0.095)],
    [(0.0032, 0.0135, 0.0134, -0.5345, 0.0203), (0.1139, 0.1507, 0.6153, 0.8659, 0.0727)]])
def test_average_of_prices_where_a_straight_line_is_not_proved(rows):
    """Between slices that barely hold (least g below 4e-4) prices are averaged: clean at every time between them."""
    surface = VolSurface.svi(np.array(rows), EXPIRIES[:2], time_ns=NOW, forward=1.0)
    years = (EXPIRIES[:2] - NOW) / YEAR_NS
    report = check_arbitrage(surface)
    assert not surface._slices.straight()[0] and report.clean and min(report.least_g) < 4e-4
    when = int(EXPIRIES[0] + 3 * NS_PER_DAY)
    for k in (-0.3, 0.0, 0.05, 0.4):
        _, mixed = reference.variance(np.array(rows), years, k, (when - NOW) / YEAR_NS)
        assert surface.variance(k, when) == pytest.approx(mixed, rel=1e-9)
    times = (EXPIRIES[0] + (EXPIRIES[1] - EXPIRIES[0]) * np.linspace(0.0, 1.0, 21)).astype(np.int64).tolist()
    k = 0.5 * np.sinh(np.linspace(-2.0, 2.0, 1001))
    assert max(reference.arbitrage(lambda x, t: surface.variance(x, np.full(x.size, t)), times, k)) < 1e-12


# Free of butterflies (least g 1e-5 and 4e-6, 6e-6 and 3e-6), the later slice 8 and 5 % above the earlier one.
BROKEN_BY_A_LINE = {
    "wide": [(-0.002048, 0.0359, 0.9614, 0.3404, 0.2749), (-0.105514, 0.1974, -0.4129, -0.1708, 0.6063)],
    "steep": [(0.000572, 0.018, 0.995, 0.3775, 0.2196), (-0.070982, 0.1462, -0.5382, -0.2309, 0.5957)]}


def mirrored(rows):
    return [(a, b, -rho, -m, sigma) for a, b, rho, m, sigma in rows]


def exact_terms(row, k):
    a, b, rho, m, sigma = (mp.mpf(v) for v in row)
    s = mp.sqrt((k - m) ** 2 + sigma**2)
    return a + b * (rho * (k - m) + s), b * (rho + (k - m) / s), b * sigma**2 / s**3


def exact_call(k, w):
    s = mp.sqrt(w)
    return mp.ncdf(-k / s + s / 2) - mp.exp(k) * mp.ncdf(-k / s - s / 2)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("name", BROKEN_BY_A_LINE)
def test_a_straight_line_between_clean_slices_can_have_a_negative_density(name, side):
    """To 50 digits: g below 0 on the line, and a butterfly of calls priced with it that costs less than nothing."""
    near, far = BROKEN_BY_A_LINE[name] if side > 0 else mirrored(BROKEN_BY_A_LINE[name])
    with mp.workdps(50):
        k, share = side * mp.mpf("0.606"), mp.mpf("0.48")

        def line(x):
            return [(1 - share) * a + share * b for a, b in zip(exact_terms(near, x), exact_terms(far, x), strict=True)]

        w, slope, bend = line(k)
        g = (1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + mp.mpf(1) / 4) + bend / 2
        assert -2e-4 < g < -1e-4
        strikes = [mp.exp(k) + i * mp.mpf("1e-3") for i in (-1, 0, 1)]
        lower, middle, upper = (exact_call(x, line(x)[0]) for x in map(mp.log, strikes))
        assert lower - 2 * middle + upper < 0
        for row in (near, far):
            lower, middle, upper = (exact_call(x, exact_terms(row, x)[0]) for x in map(mp.log, strikes))
            assert lower - 2 * middle + upper > 0


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("name", BROKEN_BY_A_LINE)
def test_averaged_prices_stay_clean_where_a_straight_line_breaks(name, side):
    """g from differences of the surface's own total variance, and convexity of prices, at many times."""
    rows = np.array(BROKEN_BY_A_LINE[name] if side > 0 else mirrored(BROKEN_BY_A_LINE[name]))
    surface = VolSurface.svi(rows, EXPIRIES[:2], time_ns=NOW, forward=1.0)
    report = check_arbitrage(surface)
    assert report.clean and 0.0 < min(report.least_g) < 2e-5 and report.least_gap[0] > 0.05
    assert not surface._slices.straight()[0]
    k, step = np.concatenate([np.linspace(-1.5, 1.5, 1501), 3.0 * np.sinh(np.linspace(-2.0, 2.0, 401))]), 2e-3
    shares = np.linspace(0.0, 1.0, 41)
    times = (EXPIRIES[0] + (EXPIRIES[1] - EXPIRIES[0]) * shares).astype(np.int64).tolist()
    ends = [reference.svi(row, k) for row in rows]
    broken, before = 0, 0.0
    for share, when in zip(shares, times, strict=True):
        two, one, w, up, high = (surface.variance(k + i * step, np.full(k.size, when)) for i in range(-2, 3))
        slope = (two - 8 * one + 8 * up - high) / (12 * step)
        bend = (-two + 16 * one - 30 * w + 16 * up - high) / (12 * step**2)
        assert reference.durrleman(k, w, slope, bend).min() > 1e-6
        assert (w > before).all()
        before = w
        line = [(1 - share) * a + share * b for a, b in zip(*ends, strict=True)]
        broken += bool(reference.durrleman(k, *line).min() < -1e-5)
    assert broken > 30
    assert max(reference.arbitrage(lambda x, t: surface.variance(x, np.full(x.size, t)), times, np.unique(k))) < 1e-12


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("name", "lift", "last"), [("steep", 3.0, 0), ("steep", 2.3, 1), ("steep", 1.6, 2),
                                                    ("wide", 2.6, 2), ("wide", 1.8, 3), ("wide", 1.0, 4)])
def test_a_line_is_straight_exactly_where_its_coefficients_say(name, lift, last, side):
    """Both slices are raised, the later one `lift` times as fast, until the last coefficient (of index) turns."""
    rows = np.array(BROKEN_BY_A_LINE[name] if side > 0 else mirrored(BROKEN_BY_A_LINE[name]))

    def raised(by):
        return rows + np.array([[by, 0, 0, 0, 0], [lift * by, 0, 0, 0, 0]])

    def worst(by):
        near, far = raised(by)
        k = np.concatenate([reference.spread_points(row) for row in (near, far)])
        return reference.line_coefficients(near, far, k, 2e-3).min(axis=1)

    low, high = 0.0, 1e-3
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if worst(middle).min() >= 0.0 else (middle, high)
    assert abs(worst(high)[last]) < 1e-11 and np.delete(worst(high), last).min() > 1e-7
    for by, straight in ((high * (1 - 1e-7), 0), (high * (1 + 1e-7), 1)):
        surface = VolSurface.svi(raised(by), EXPIRIES[:2], time_ns=NOW, forward=1.0)
        assert surface._slices.straight()[0] == straight


def test_published_smile():
    """Raw SVI to volatility on one year, ln(K/F) moneyness: figures of a venue's own tests."""
    data = json.loads(shared("vectors", "derive_svi_examples.json").read_text())
    assert data["cases"]
    for case in data["cases"]:
        given_, want = case["inputs"], case["expected"]["implied_vol_annual"]
        row = [given_[f"svi_{name}"] for name in ("a", "b", "rho", "m", "sigma")]
        surface = VolSurface.svi(row, NOW + YEAR_NS, time_ns=NOW, forward=given_["forward_usd"])
        error = abs(surface.vol(given_["strike_usd"], NOW + YEAR_NS) - want)
        assert error <= case["tolerance"]["absolute"] + case["tolerance"]["relative"] * want


def test_flat_answers_everywhere_after_its_time():
    flat = VolSurface.flat(0.6, time_ns=NOW)
    vols = flat.vol(np.array([1e-3, 1.0, 1e9]), NOW + np.array([1, NS_PER_DAY, 50 * YEAR_NS]))
    np.testing.assert_allclose(vols, 0.6, rtol=1e-15)
    assert np.isnan(flat.vol([-1.0, np.nan, 1.0, 1.0], [EXPIRIES[0], EXPIRIES[0], NOW, NOW - 1])).all()
    assert np.isnan(flat.forward(EXPIRIES[0]))
    assert VolSurface.flat(0.6, forward=120.0).forward(10**18) == 120.0


def test_forward_is_log_linear_and_exact_on_expiries():
    surface = sample()
    assert surface.forward(EXPIRIES).tolist() == [100.0, 100.5, 102.0, 108.0]
    middle = (EXPIRIES[2] + EXPIRIES[3]) // 2
    assert surface.forward(int(middle)) == pytest.approx(np.sqrt(102.0 * 108.0), rel=1e-12)
    late = surface.forward(int(NOW + 720 * NS_PER_DAY))
    assert late == pytest.approx(99.8 * (108.0 / 99.8) ** 2, rel=1e-12)
    assert np.isnan(surface.forward(NOW))


def test_scalar_and_broadcast():
    surface = sample()
    one = surface.vol(100.0, int(EXPIRIES[1]))
    assert isinstance(one, float)
    grid = surface.vol(np.array([[90.0], [100.0]]), EXPIRIES)
    assert grid.shape == (2, 4) and grid[1, 1] == one
    assert surface.vol(100.0, "2026-03-07T16:00") == one
    assert surface.total_variance(100.0, int(EXPIRIES[1])) == pytest.approx(one**2 * 30 / 365, rel=1e-14)
    assert surface.vol(np.array([]), np.array([], np.int64)).shape == (0,)


def test_by_strike_and_by_moneyness_are_the_same_bits_and_no_warning():
    surface, rng = sample(), np.random.default_rng(2)
    when = rng.choice(EXPIRIES, 43) + rng.choice([0, -NS_PER_DAY, NS_PER_DAY], 43)
    when[40:] = NOW, NOW - 1, EXPIRIES[0]
    strikes = np.append(100.0 * np.exp(rng.normal(0.0, 0.5, 40)), [100.0, 100.0, np.nan])
    strikes[:6] = 0.0, -1.0, 1e-310, 1e300, np.inf, 2.0**-1022
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got, sigma = surface.total_variance(strikes, when), surface.vol(strikes, when)
    moneyness = surface.log_moneyness(strikes, when)
    np.testing.assert_array_equal(got, surface.variance(moneyness, when))
    np.testing.assert_array_equal(np.isnan(sigma), np.isnan(got))
    assert np.isnan(got[[0, 1, 40, 41, 42]]).all() and not np.isnan(got[[2, 3, 5, *range(6, 40)]]).any()
    with np.errstate(all="ignore"):
        want = np.log(strikes[2:40] / surface.forward(when[2:40]))
    np.testing.assert_allclose(moneyness[2:40], want, rtol=1e-12, atol=1e-13)


def test_batch_equals_one_by_one_and_any_order():
    surface = sample()
    rng = np.random.default_rng(7)
    strikes, when = rng.uniform(20, 500, 300), NOW + rng.integers(-5, 500, 300) * NS_PER_DAY
    whole = surface.vol(strikes, when)
    order = rng.permutation(300)
    assert surface.vol(strikes[order], when[order]).tobytes() == whole[order].tobytes()
    single = np.array([surface.vol(float(x), int(t)) for x, t in zip(strikes, when, strict=True)])
    assert single.tobytes() == whole.tobytes()


def test_grid_returns_its_nodes_and_its_twin_between():
    strikes = np.array([60.0, 80.0, 95.0, 100.0, 105.0, 130.0, 200.0])
    vols = np.array([[0.9, 0.7, 0.6, 0.58, 0.6, 0.66, 0.8], [0.8, 0.66, 0.6, 0.59, 0.59, 0.62, 0.7]])
    surface = VolSurface.grid(strikes, EXPIRIES[:2], vols, time_ns=NOW, forward=[100.0, 101.0])
    np.testing.assert_allclose(surface.vol(strikes, EXPIRIES[:2, None]), vols, rtol=1e-13)
    scipy_spline = pytest.importorskip("scipy.interpolate").CubicSpline
    k = np.log(strikes / 101.0)
    spline = scipy_spline(k, vols[1] ** 2 * 30 / 365, bc_type="natural")
    at = np.linspace(k[0], k[-1], 50)
    terms = surface.terms(1, at)
    for order in range(3):
        np.testing.assert_allclose(terms[order], spline(at, order), rtol=1e-9, atol=1e-12)
    outside = surface.terms(1, np.array([k[0] - 1.0, k[-1] + 1.0]))
    assert outside[1, 0] <= 0.0 <= outside[1, 1] and np.all(np.abs(outside[1]) <= 2.0)
    flat = VolSurface.grid(strikes, EXPIRIES[:2], np.full((2, 7), 0.5), time_ns=NOW, forward=100.0)
    np.testing.assert_allclose(flat.vol(np.linspace(30, 400, 40), EXPIRIES[1]), 0.5, rtol=1e-13)
    one = VolSurface.grid([100.0], EXPIRIES[:1], [[0.5]], time_ns=NOW, forward=100.0)
    assert one.vol(80.0, EXPIRIES[0]) == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize("surface", [sample(), VolSurface.flat(0.5, time_ns=NOW), VolSurface.grid(
    [80.0, 100.0, 130.0], EXPIRIES[:2], [[0.7, 0.6, 0.65]] * 2, time_ns=NOW, forward=100.0)],
    ids=["svi", "flat", "grid"])
def test_storage_keeps_every_bit(surface, tmp_path):
    surface.save(tmp_path / "s.json")
    strikes = np.linspace(50, 200, 31)
    for twin in (VolSurface.load(tmp_path / "s.json"), pickle.loads(pickle.dumps(surface))):
        assert twin == surface
        when = NOW + 17 * NS_PER_DAY
        assert twin.vol(strikes, when).tobytes() == surface.vol(strikes, when).tobytes()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"{}", b"5", b"[" * 100_000])
def test_what_was_not_saved_is_not_loaded(tmp_path, content):
    (tmp_path / "s.json").write_bytes(content)
    with pytest.raises(RangeError):
        VolSurface.load(tmp_path / "s.json")


def test_errors_of_files_stay_what_they_are(tmp_path):
    for where, error in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "s.json", FileNotFoundError)):
        with pytest.raises(error):
            sample().save(where)
        with pytest.raises(error):
            VolSurface.load(where)


def test_immutable():
    surface = sample()
    with pytest.raises(AttributeError):
        surface.time_ns = 0
    with pytest.raises(ValueError):
        surface.rows[0, 0] = 1.0
    rows = np.array([VOGT.row])
    kept = VolSurface.svi(rows, EXPIRIES[:1], time_ns=NOW, forward=1.0)
    rows[:] = 0.0
    assert kept.raw(0) == VOGT


def test_aged_keeps_listed_volatilities():
    surface = sample()
    later = surface.aged(NOW + 10 * NS_PER_DAY)
    assert later.expiry_ns.size == 3 and later.time_ns == NOW + 10 * NS_PER_DAY
    strikes = np.array([70.0, 100.0, 140.0])
    for when in EXPIRIES[1:]:
        np.testing.assert_allclose(later.vol(strikes, when), surface.vol(strikes, when), rtol=1e-14)
    with pytest.raises(MissingDataError):
        surface.aged(int(EXPIRIES[-1]))
    with pytest.raises(RangeError):
        surface.aged(NOW - 1)


def test_aged_grid_keeps_listed_volatilities_and_what_is_known():
    grid = VolSurface.grid([80.0, 100.0, 130.0], EXPIRIES[:2], [[0.7, 0.6, 0.65]] * 2, time_ns=NOW, forward=100.0,
                           spot=99.0, discount=[0.99, 0.98])
    later = grid.aged(NOW + 3 * NS_PER_DAY)
    strikes = [85.0, 100.0, 120.0]
    np.testing.assert_allclose(later.vol(strikes, EXPIRIES[1]), grid.vol(strikes, EXPIRIES[1]), rtol=1e-13)
    assert (later.spot, later.version, later.discounts.tolist()) == (99.0, 0, [0.99, 0.98])
    versioned = VolSurface("svi", np.array([VOGT.row]), None, EXPIRIES[1:2], time_ns=NOW, version=7)
    assert versioned.aged(NOW + NS_PER_DAY).version == 7


@pytest.mark.parametrize(("rho", "m"), [(0.4, 0.0), (-0.4, 0.0), (0.3, 0.2), (-0.5, -0.2), (0.0, 0.1)])
def test_jump_wings_at_their_corners(rho, m):
    """Gatheral-Jacquier (2014), lemma 3.2, from the definitions, with m = 0 and rho = 0."""
    raw = RawSvi(a=0.01, b=0.1, rho=rho, m=m, sigma=0.3)
    wings = raw.jump_wings(0.5)
    k, step = np.array([-1e-5, 0.0, 1e-5]), 1e-5
    w = raw.total_variance(k)
    assert wings.v == pytest.approx(w[1] / 0.5, rel=1e-14)
    assert wings.psi == pytest.approx((np.sqrt(w[2]) - np.sqrt(w[0])) / (2 * step), abs=1e-9)
    assert wings.v_least == pytest.approx(raw.total_variance(np.linspace(-2, 2, 400_001)).min() / 0.5, rel=1e-9)
    far = 1e7
    assert wings.c == pytest.approx(raw.total_variance(far) / far / np.sqrt(w[1]), rel=1e-5)
    assert wings.p == pytest.approx(raw.total_variance(-far) / far / np.sqrt(w[1]), rel=1e-5)
    np.testing.assert_allclose(wings.raw().row, raw.row, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("psi", [0.5, -0.5])
def test_jump_wings_with_all_skew_in_one_wing_have_no_width(psi):
    """At psi = c/2 or -p/2 the forward lies on the straight part of a wing, which only a kink (sigma = 0) has."""
    with pytest.raises(RangeError, match="psi must lie between"):
        JumpWingsSvi(years=1.0, v=1.0, psi=psi, p=1.0, c=1.0, v_least=0.5).raw()


def test_a_least_variance_below_zero_by_rounding_counts_as_zero():
    raw = RawSvi(a=-0.02861817604250837, b=0.1, rho=0.3, m=0.2, sigma=0.3)
    assert -1e-17 < raw.minimum_variance < 0.0 and raw.jump_wings(1.0).v_least == 0.0


@given(slices, st.floats(0.01, 3))
@settings(max_examples=100)
def test_parametrisations_go_both_ways(slice_, years):
    scale = abs(slice_.a) + slice_.b * (abs(slice_.m) + slice_.sigma)
    k = np.linspace(-1, 1, 9)
    if slice_.b > 1e-3:
        np.testing.assert_allclose(slice_.natural().raw().total_variance(k), slice_.total_variance(k),
                                   rtol=1e-9, atol=1e-12 * scale)
    if slice_.b > 1e-2 and slice_.sigma > 0.02 and abs(slice_.m) > 0.02 and abs(slice_.rho) > 0.02:
        wings = slice_.jump_wings(years)
        back = wings.raw()
        again = back.jump_wings(years)
        assert again.v == pytest.approx(wings.v, rel=1e-9)
        assert again.psi == pytest.approx(wings.psi, rel=1e-6, abs=1e-9)


def test_published_jump_wings():
    """Gatheral-Jacquier (2014), section 5: Vogt's slice in jump wings, published to 8 digits."""
    wings = VOGT.jump_wings(1.0)
    published = {"v": 0.01742625, "psi": -0.1752111, "p": 0.6997381, "c": 1.316798, "v_least": 0.0116249}
    for name, value in published.items():
        assert getattr(wings, name) == pytest.approx(value, rel=1e-6)
    back = wings.raw()
    np.testing.assert_allclose(back.row, VOGT.row, rtol=1e-12)


def test_ssvi_is_at_the_money_where_it_says():
    rows = ssvi_rows([0.01, 0.04], -0.3, 1.0)
    assert [r.total_variance(0.0) for r in rows] == pytest.approx([0.01, 0.04], rel=1e-14)
    phi = essvi_row(0.04, -0.3, 0.2).natural()
    assert (phi.delta, phi.mu, phi.zeta) == pytest.approx((0.0, 0.0, 5.0), abs=1e-14)


def test_essvi_has_its_own_skew_per_expiry():
    """w = theta/2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2)), Hendriks-Martini (2019), on every expiry."""
    theta, rho = np.array([0.01, 0.03, 0.1, 0.3]), np.array([-0.5, -0.3, -0.1, 0.2])
    eta = np.array([1.2, 1.1, 1.0, 0.9])
    surface = VolSurface.ssvi(theta, EXPIRIES, rho=rho, eta=eta, gamma=0.4, time_ns=NOW, forward=100.0)
    k = np.linspace(-1.0, 1.0, 21)[:, None]
    phi = eta / (theta**0.4 * (1.0 + theta) ** 0.6)
    expected = 0.5 * theta * (1.0 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1.0 - rho**2))
    np.testing.assert_allclose(surface.variance(k, EXPIRIES), expected, rtol=1e-13)
    assert check_arbitrage(surface).clean
    crossed = VolSurface.ssvi(theta, EXPIRIES, rho=[-0.9, -0.3, -0.1, 0.9], eta=eta, time_ns=NOW, forward=100.0)
    assert {f.kind for f in check_arbitrage(crossed).findings} == {"calendar"}


@pytest.mark.parametrize(("call", "error"), [
    (lambda: ssvi_rows([0.01, 0.04], [-0.3], 1.0), ShapeError),
    (lambda: ssvi_rows([0.01, 0.04], -0.3, [1.0, 0.0]), RangeError),
    (lambda: ssvi_rows([0.01, 0.04], [0.0, 1.0], 1.0), RangeError),
    (lambda: ssvi_rows([0.01, 0.04], -0.3, 1.0, 1.0), RangeError),
    (lambda: VolSurface.flat(0.0), RangeError),
    (lambda: VolSurface.flat(float("nan")), NotFiniteError),
    (lambda: RawSvi(a=0.1, b=-0.1, rho=0.0, m=0.0, sigma=0.1), RangeError),
    (lambda: RawSvi(a=0.1, b=0.1, rho=1.0, m=0.0, sigma=0.1), RangeError),
    (lambda: RawSvi(a=0.1, b=0.1, rho=-1.0, m=0.0, sigma=0.1), RangeError),
    (lambda: RawSvi(a=0.1, b=0.1, rho=0.0, m=0.0, sigma=0.0), RangeError),
    (lambda: RawSvi(a=-0.1, b=0.1, rho=0.0, m=0.0, sigma=0.1), RangeError),
    (lambda: RawSvi(a=0.1, b=0.1, rho=0.0, m=float("inf"), sigma=0.1), NotFiniteError),
    (lambda: VolSurface.svi([VOGT, VOGT], [EXPIRIES[0], EXPIRIES[0]], time_ns=NOW, forward=1.0), RangeError),
    (lambda: VolSurface.svi([VOGT, VOGT], EXPIRIES[1::-1], time_ns=NOW, forward=1.0), RangeError),
    (lambda: VolSurface.svi(VOGT, NOW, time_ns=NOW, forward=1.0), RangeError),
    (lambda: VolSurface.svi(VOGT, EXPIRIES[:2], time_ns=NOW, forward=1.0), ShapeError),
    (lambda: VolSurface.svi([[1.0, 2.0]], EXPIRIES[:1], time_ns=NOW, forward=1.0), RangeError),
    (lambda: VolSurface.svi(VOGT, EXPIRIES[:1], time_ns=NOW, forward=-1.0), RangeError),
    (lambda: VolSurface.grid([1.0, 1.0], EXPIRIES[:1], [[0.5, 0.5]], time_ns=NOW, forward=1.0), RangeError),
    (lambda: VolSurface.grid([1.0, 2.0], EXPIRIES[:1], [[0.5, 0.0]], time_ns=NOW, forward=1.0), RangeError),
    (lambda: VolSurface.grid([1.0, 2.0], EXPIRIES[:1], [[0.5]], time_ns=NOW, forward=1.0), ShapeError),
    (lambda: VolSurface.from_dict({"format": "other"}), RangeError),
    *((lambda name=name: VolSurface.from_dict({k: v for k, v in sample().to_dict().items() if k != name}), RangeError)
      for name in sample().to_dict()),
    *((lambda name=name, value=value: VolSurface.from_dict({**sample().to_dict(), name: value}), error)
      for name, value, error in (
          ("forward", ["a"] * 4, ShapeError), ("forward", None, RangeError), ("fit", 5, RangeError),
          ("fit", [5], RangeError), ("expiry_ns", [1.5] * 4, RangeError), ("expiry_ns", None, RangeError),
          ("rows", "x", ShapeError), ("time_ns", None, RangeError), ("spot", "x", RangeError))),
    *((lambda knots=knots, rows=rows: VolSurface.from_dict(
        {**nodes().to_dict(), "knots": [knots], "rows": [rows]}), error)
      for knots, rows, error in (
          ([0.1, 0.0, -0.1], [0.04, 0.04, 0.04, 0, 0, 0], RangeError), ([0.0, 0.0, 0.1], [0.04] * 6, RangeError),
          ([-0.1, 0.0, 0.1], [0.04, -0.04, 0.04, 0, 0, 0], RangeError), ([0.0, 0.1], [0.04] * 6, ShapeError))),
    *((lambda knots=knots, w=w: VolSurface.from_nodes(knots, w, EXPIRIES[:1], time_ns=NOW, forward=1.0), error)
      for knots, w, error in (
          ([[0.0, 0.0, 0.1]], [[0.04] * 3], RangeError), ([[0.1, 0.0, -0.1]], [[0.04] * 3], RangeError),
          ([[-0.1, 0.0, 0.1]], [[0.04, -0.04, 0.04]], RangeError), ([[-0.1, 0.0]], [[0.04]], ShapeError),
          ([[-0.1, 0.0, 0.1]], [[0.04, np.nan, 0.04]], NotFiniteError), ([[]], [[]], ShapeError))),
    (lambda: sample().variance(np.zeros(3), EXPIRIES), ShapeError),
    (lambda: sample().vol(100.0, None), RangeError),
    (lambda: sample().vol(100.0, [None]), RangeError),
    (lambda: JumpWingsSvi(years=1.0, v=0.04, psi=0.0, p=0.5, c=0.5, v_least=0.05), RangeError),
    (lambda: JumpWingsSvi(years=1.0, v=0.04, psi=2.0, p=0.5, c=0.5, v_least=0.03).raw(), RangeError),
    (lambda: NaturalSvi(delta=0.0, mu=0.0, rho=0.0, omega=0.1, zeta=0.0), RangeError),
    *((lambda where=where: VolSurface.load(where), RangeError) for where in NO_FILES),
    *((lambda where=where: sample().save(where), RangeError) for where in NO_FILES),
    *((lambda where=where: sample().plot(path=where), RangeError) for where in NO_FILES[1:]),
    *((lambda quotes=quotes: sample().plot(quotes=quotes), RangeError) for quotes in (5, "x", [], {}, sample())),
    *((lambda index=index: sample().raw(index), RangeError) for index in (4, -5, None, 1.0, "x", 2**63, [0])),
    *((lambda ask=ask: ask(sample()), ShapeError) for ask in (
        lambda s: s.vol([[1.0], [1.0, 2.0]], int(EXPIRIES[0])), lambda s: s.vol(100.0, [[1], [1, 2]]),
        lambda s: s.total_variance([[1.0], []], int(EXPIRIES[0])), lambda s: s.forward([[1], [1, 2]]))),
    (lambda: sample().vol(100.0, 2**63), RangeError),
    (lambda: sample().vol(100.0, [2**63]), RangeError),
    *((lambda date=date: sample().vol(100.0, date), RangeError) for date in (
        "2300-01-01", np.datetime64("2300-01-01"), np.array(["1600-01-01"], "M8[D]"))),
    *((lambda at=at: VolSurface.flat(0.5, time_ns=at), RangeError) for at in (None, "2026-03-01", 0.5, 2**63, -10**40)),
    *((lambda at=at: VolSurface.svi(VOGT, EXPIRIES[:1], time_ns=at, forward=1.0), RangeError) for at in (
        None, "2026-03-01", -10**40)),
    *((lambda at=at: VolSurface.grid([1.0], EXPIRIES[:1], [[0.5]], time_ns=at, forward=1.0), RangeError) for at in (
        None, "2026-03-01", 2**63, [1])),
    (lambda: VolSurface.flat(0.5, spot=np.array([])), RangeError),
    (lambda: sample().vol("x", int(EXPIRIES[0])), ShapeError),
    (lambda: sample()._slices.total_variances(np.ones(3), EXPIRIES[:2], np.empty(3)), ShapeError),
    (lambda: sample().vol(100.0, 1.5), RangeError),
])
def test_errors(call, error):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, MarginError)
