"""Arbitrage checks and repairs of whole surfaces."""

import numpy as np
import pytest
from reference import surface as reference

from margincore.arbitrage import check_arbitrage, repair_arbitrage
from margincore.errors import RangeError
from margincore.surface import VolSurface
from margincore.svi import RawSvi
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-02-05T16:00")
EXPIRIES = NOW + np.array([7, 30, 90]) * NS_PER_DAY
VOGT = RawSvi(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)


def ssvi(theta=(0.01, 0.04, 0.11)):
    return VolSurface.ssvi(theta, EXPIRIES, rho=-0.4, eta=1.1, time_ns=NOW, forward=100.0)


def dense_check(surface):
    e = surface.expiry_ns
    times = np.unique(np.concatenate([e, *[(e[:-1] + (e[1:] - e[:-1]) * s).astype(np.int64) for s in (0.05, 0.5)]]))
    k = np.unique(0.6 * np.sinh(np.linspace(-2.0, 2.0, 301)))
    return reference.arbitrage(lambda x, t: surface.variance(x, np.full(x.size, t)), times.tolist(), k)


def test_clean_surface_is_reported_clean():
    report = check_arbitrage(ssvi())
    assert report.clean and min(report.least_g) > 0 and min(report.least_gap) > 0 and "no arbitrage" in str(report)
    assert repair_arbitrage(ssvi()) == ssvi()
    assert check_arbitrage(VolSurface.flat(0.5)).clean


def test_vogt_is_found_where_it_is():
    surface = VolSurface.svi(VOGT, NOW + 365 * NS_PER_DAY, time_ns=NOW, forward=100.0)
    (finding,) = check_arbitrage(surface).findings
    k = np.linspace(-1.5, 1.5, 300_001)
    g = reference.durrleman(k, *reference.svi(VOGT.row, k))
    assert finding.kind == "butterfly"
    assert finding.size == pytest.approx(-g.min(), rel=1e-9)
    assert finding.log_moneyness == pytest.approx(k[g.argmin()], abs=1e-3)
    assert finding.strike == pytest.approx(100 * np.exp(finding.log_moneyness))
    repaired = repair_arbitrage(surface)
    assert check_arbitrage(repaired).clean and repaired.version == 1
    near = np.linspace(-1.0, 0.6, 30)
    at = surface.expiry_ns[0]
    np.testing.assert_allclose(repaired.variance(near, at), surface.variance(near, at), rtol=0.1)
    assert max(reference.arbitrage(lambda x, t: repaired.variance(x, np.full(x.size, t)), repaired.expiry_ns.tolist(),
                                   np.linspace(-1.5, 1.5, 801))) < 1e-12


def test_falling_total_variance_is_a_calendar():
    surface = ssvi((0.04, 0.02, 0.11))
    kinds = {(f.kind, f.expiry_ns) for f in check_arbitrage(surface).findings}
    assert kinds == {("calendar", int(EXPIRIES[1]))}
    worst = check_arbitrage(surface).findings[0]
    assert worst.size >= 0.5
    repaired = repair_arbitrage(surface)
    assert check_arbitrage(repaired).clean and max(dense_check(repaired)) < 1e-12


def test_crossing_far_in_the_wing_is_found():
    rows = [RawSvi(a=0.01, b=0.20, rho=0.0, m=0.0, sigma=0.1), RawSvi(a=0.05, b=0.19, rho=0.0, m=0.0, sigma=0.3)]
    surface = VolSurface.svi(rows, EXPIRIES[:2], time_ns=NOW, forward=100.0)
    assert [f.kind for f in check_arbitrage(surface).findings] == ["calendar"]


def test_wing_beyond_lee_is_found():
    steep = RawSvi(a=0.5, b=1.6, rho=-0.4, m=0.0, sigma=0.5)
    kinds = [f.kind for f in check_arbitrage(VolSurface.svi(steep, EXPIRIES[:1], time_ns=NOW, forward=1.0)).findings]
    assert "lee" in kinds
    assert check_arbitrage(repair_arbitrage(VolSurface.svi(steep, EXPIRIES[:1], time_ns=NOW, forward=1.0))).clean


def test_grid_with_a_spike_is_found_and_repaired():
    strikes = np.array([70.0, 80.0, 90.0, 100.0, 110.0, 120.0, 140.0])
    vols = np.tile([0.75, 0.7, 0.64, 0.6, 0.59, 0.6, 0.63], (3, 1))
    smooth = VolSurface.grid(strikes, EXPIRIES, vols, time_ns=NOW, forward=100.0)
    spiked = vols.copy()
    spiked[1, 3] = 0.75
    surface = VolSurface.grid(strikes, EXPIRIES, spiked, time_ns=NOW, forward=100.0)
    report = check_arbitrage(surface)
    assert ("butterfly", int(EXPIRIES[1])) in {(f.kind, f.expiry_ns) for f in report.findings}
    assert max(dense_check(surface)) > 1e-6
    repaired = repair_arbitrage(surface)
    assert check_arbitrage(repaired).clean and max(dense_check(repaired)) < 1e-12
    assert not [f for f in check_arbitrage(smooth).findings if f.kind in ("calendar", "bounds")]


def test_grid_bent_back_to_lees_bound_is_found():
    """Steeper than 2 at the last node with g above 0 on both sides of it: the bend is a negative density."""
    at = np.linspace(-1.0, 1.0, 5)
    for sign in (1.0, -1.0):
        surface = VolSurface.from_nodes([at], [20.0 + 2.5 * sign * at], EXPIRIES[:1], time_ns=NOW, forward=100.0)
        (finding,) = check_arbitrage(surface).findings
        assert finding.kind == "lee" and finding.size == pytest.approx(0.5) and finding.log_moneyness == sign
        k = np.linspace(-1.5, 1.5, 601)
        assert reference.arbitrage(lambda x, t, s=surface: s.variance(x, np.full(x.size, t)), EXPIRIES[:1], k)[0] > 1e-6
        assert check_arbitrage(repair_arbitrage(surface)).clean


def test_negative_variance_between_nodes_is_found_and_repaired():
    surface = VolSurface.from_nodes([np.linspace(-1, 1, 5)], [[1.0, 0.02, 0.02, 0.02, 1.0]], EXPIRIES[1:2], time_ns=NOW,
                                    forward=100.0)
    k = np.linspace(-1.0, 1.0, 24_001)
    w = surface.terms(0, k)[0]
    finding = next(f for f in check_arbitrage(surface).findings if f.kind == "bounds")
    assert finding.size == pytest.approx(-w.min(), rel=1e-2) and abs(finding.log_moneyness) == pytest.approx(
        abs(k[w.argmin()]), abs=0.05)
    assert np.isnan(surface.variance(k[w.argmin()], EXPIRIES[1]))
    repaired = repair_arbitrage(surface)
    assert check_arbitrage(repaired).clean
    assert 0.01 < repaired.variance(0.0, EXPIRIES[1]) < 0.03         # not what it is where there is no price


def test_no_size_is_negative_and_far_strikes_overflow_quietly():
    near, far = (RawSvi(a=0.01, b=b, rho=0.0, m=0.0, sigma=0.1 + lift) for b, lift in ((0.2, 0.0), (0.2 - 1e-9, 1.0)))
    surface = VolSurface.svi([near, far], EXPIRIES[:2], time_ns=NOW, forward=100.0)
    report = check_arbitrage(surface)
    assert [f.kind for f in report.findings] == ["calendar"] and report.findings[0].size >= 0.0


@pytest.mark.parametrize("judge", [check_arbitrage, repair_arbitrage])
def test_only_surfaces_are_judged(judge):
    with pytest.raises(RangeError, match="surface must be a VolSurface, was 5"):
        judge(5)


def test_random_surfaces_are_judged_like_the_dense_grid():
    rng = np.random.default_rng(9)
    clean = 0
    for _ in range(60):
        theta = np.cumsum(10 ** rng.uniform(-2.5, -1.0, 3)) * rng.uniform(0.8, 1.2, 3)
        surface = VolSurface.ssvi(theta, EXPIRIES, rho=rng.uniform(-0.8, 0.8), eta=rng.uniform(0.3, 2.6), time_ns=NOW,
                                  forward=1.0)
        report = check_arbitrage(surface)
        if report.clean:
            clean += 1
            assert max(dense_check(surface)) < 1e-12
        else:
            assert check_arbitrage(repair_arbitrage(surface)).clean
    assert 5 < clean < 55
