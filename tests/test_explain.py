"""Contributions: they add up bit for bit, are the derivative, and name the scenarios."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import margincore as mc
from margincore.errors import MarginError, NotFiniteError, ShapeError

MEASURES = [mc.Worst(), mc.ValueAtRisk(0.9), mc.ValueAtRisk(0.9, "lower"), mc.ValueAtRisk(0.95, "interpolated"),
            mc.ExpectedShortfall(0.9), mc.ExpectedShortfall(0.97), mc.Spectral(8.0),
            mc.Weighted(((mc.ExpectedShortfall(0.9), 0.75), (mc.Worst(), 0.25)))]


@pytest.mark.parametrize("measure", MEASURES, ids=repr)
@given(seed=st.integers(0, 10**6), positions=st.integers(1, 12), scenarios=st.integers(2, 90))
def test_components_add_up_bit_for_bit(measure, seed, positions, scenarios):
    table = np.random.default_rng(seed).standard_t(3, (positions, scenarios)) * 1e4
    found = mc.explain(table, measure)
    running = 0.0
    for value in found.component:
        running += value
    assert running + found.residue == found.total
    assert abs(found.residue) <= 1e-12 * np.abs(table).max() * positions
    whole = np.zeros(scenarios)
    for row in table:
        whole += row
    assert found.total == measure.loss(whole)
    assert sum(row.weight for row in found.tail) == pytest.approx(1.0, rel=1e-12)
    assert min(row.weight for row in found.tail) > 0.0
    assert -sum(row.weight * row.pnl for row in found.tail) == pytest.approx(found.total, rel=1e-9, abs=1e-8)
    assert [row.pnl for row in found.tail] == sorted(row.pnl for row in found.tail)


@pytest.mark.parametrize("measure", MEASURES, ids=repr)
def test_marginal_is_the_derivative(measure):
    rng = np.random.default_rng(2)
    unit, quantity = rng.standard_normal((5, 400)), np.array([3.0, -2.0, 1.0, 0.0, 5.0])
    found = mc.explain(unit * quantity[:, None], measure, quantity=quantity)
    for at in (0, 1, 2, 4):
        moved = quantity.copy()
        moved[at] += 1e-7
        slope = (measure.loss(moved @ unit) - measure.loss(quantity @ unit)) / 1e-7
        assert found.marginal[at] == pytest.approx(slope, abs=1e-6)
    assert np.isnan(found.marginal[3]) and found.component[3] == 0.0


def test_incremental_is_the_measure_with_less_without():
    table = np.random.default_rng(3).standard_normal((4, 300))
    measure = mc.ExpectedShortfall(0.95)
    found = mc.explain(table, measure)
    for at in range(4):
        rest = np.delete(table, at, axis=0).sum(axis=0)
        assert found.incremental[at] == pytest.approx(found.total - measure.loss(rest), rel=1e-10)
    assert mc.explain(table[:1], measure).incremental[0] == mc.explain(table[:1], measure).total


def test_groups_and_names():
    table = np.random.default_rng(4).standard_normal((4, 50))
    dates = [f"2024-03-{day + 1:02d}" for day in range(50)]
    found = mc.explain(table, mc.Worst(), names=["a", "b", "c", "d"], scenario_names=dates)
    assert found.tail[0].name == dates[int(table.sum(axis=0).argmin())] and len(found.tail) == 1
    groups = found.by(["BTC", "ETH", "BTC", "ETH"])
    assert list(groups) == ["BTC", "ETH"]
    assert groups["BTC"] == found.component[0] + found.component[2]
    assert "scenario 2024-03" in str(found) and "a" in str(found)


@pytest.mark.parametrize("measure", [m for m in MEASURES if "interpolated" not in repr(m)], ids=repr)
def test_weighted_scenarios(measure):
    rng = np.random.default_rng(5)
    table = rng.standard_normal((3, 40))
    weights = np.arange(40.0) / np.arange(40.0).sum()
    found = mc.explain(table, measure, weights=weights)
    share = mc.tail_weights(table.sum(axis=0), measure, weights)
    assert share[0] == 0.0 and (share >= 0.0).all()
    assert found.total == pytest.approx(measure.loss(table.sum(axis=0), weights), rel=1e-12)
    assert found.component.sum() == pytest.approx(found.total, rel=1e-9)


def test_bad_input():
    good = np.ones((2, 5))
    bad = good.copy()
    bad[1, 3] = np.nan
    for call, rule in ((lambda: mc.explain(bad, mc.Worst()), "position 1, scenario 3"),
                       (lambda: mc.explain(good, mc.Worst(), names=["a"]), "names must have 2"),
                       (lambda: mc.explain(good, mc.Worst(), scenario_names=["a"]), "scenario_names must have 5"),
                       (lambda: mc.explain(good, mc.Worst(), quantity=[1.0]), "quantity"),
                       (lambda: mc.explain(good, mc.Worst()).by(["a"]), "labels"),
                       (lambda: mc.explain(np.ones(5), mc.Worst()), "2 axes"),
                       (lambda: mc.explain(good, mc.Worst(), weights=np.ones(5)), "sum to 1")):
        with pytest.raises(MarginError, match=rule):
            call()


def test_messages_hold_plain_numbers_and_single_scenarios_are_refused():
    with pytest.raises(NotFiniteError, match="was nan for position 0, scenario 1"):
        mc.explain([[1.0, np.nan]], mc.Worst())
    with pytest.raises(ShapeError, match="pnl must have at least 2 scenarios, had 1"):
        mc.tail_weights([1.0], mc.ValueAtRisk(0.9))
    assert mc.tail_weights([1.0], mc.Worst()).tolist() == [1.0]


@pytest.mark.parametrize("weighted", [False, True])
def test_any_measure_is_its_weights_times_the_pnl(weighted):
    """Ties, few scenarios, scenarios of no weight: the parts add up to the total bit for bit."""
    rng = np.random.default_rng(3)
    for trial in range(60):
        count, level = int(rng.integers(2, 40)), float(rng.choice([0.5, 0.75, 0.9, 0.95, 0.99]))
        table = rng.integers(-4, 5, (3, count)).astype(float) if trial % 2 else rng.standard_normal((3, count))
        times = rng.integers(0, 4, count) + (np.arange(count) == 0)
        weights = times / times.sum() if weighted else None
        for measure in (mc.Worst(), mc.ValueAtRisk(level), mc.ValueAtRisk(level, "lower"), mc.ExpectedShortfall(level),
                        mc.Spectral(4.0), mc.Spectral(2.5, "power"),
                        mc.Weighted(((mc.ValueAtRisk(level), 0.25), (mc.ExpectedShortfall(0.9), 0.75)))):
            found = mc.explain(table, measure, weights=weights)
            running = 0.0
            for part in found.component:
                running += part
            assert running + found.residue == found.total and abs(found.residue) < 1e-9
            share = mc.tail_weights(table.sum(axis=0), measure, weights)
            assert share.sum() == pytest.approx(1.0) and share.min() >= -1e-12
            assert -(share @ table.sum(axis=0)) == pytest.approx(found.total, abs=1e-9)
