"""The risk kernel against its twin, the definitions, and its own limits."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_sets import digest_at
from reference import risk as reference

from margincore import kernels
from margincore.errors import RangeError, ShapeError
from margincore.kernels import risk

FINITE = st.floats(-1e12, 1e12, allow_nan=False)
ANY = FINITE | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324])


def worst(pnl):
    rows = np.atleast_2d(np.asarray(pnl, float))
    out, scenario = np.empty(len(rows)), np.empty(len(rows), np.int32)
    risk.worst_losses(rows, out, scenario)
    return out, scenario


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=70))
def test_worst_loss_equals_its_twin(pnl):
    loss, scenario = worst(pnl)
    expected, where = reference.worst_loss(np.array(pnl))
    assert scenario[0] == where
    assert loss.tobytes() == np.array([expected]).tobytes() or (np.isnan(loss[0]) and np.isnan(expected))


def test_worst_loss_of_many_rows_is_the_row_by_row_answer():
    pnl = np.random.default_rng(1).normal(size=(57, 131))
    loss, scenario = worst(pnl)
    assert np.array_equal(loss, -pnl.min(axis=1))
    assert np.array_equal(scenario, pnl.argmin(axis=1))


def test_worst_loss_of_gains_is_negative_and_of_zero_is_positive_zero():
    assert worst([3.0, 2.0, 5.0])[0][0] == -2.0
    assert str(worst([0.0, 0.0])[0][0]) == "0.0"


def test_worst_losses_checks_shapes():
    with pytest.raises(ShapeError, match="out must hold 2"):
        risk.worst_losses(np.zeros((2, 3)), np.empty(3), np.empty(2, np.int32))
    with pytest.raises(ShapeError, match="scenarios"):
        risk.worst_losses(np.zeros((2, 0)), np.empty(2), np.empty(2, np.int32))


LEVELS = ["0.5", "0.9", "0.95", "0.975", "0.99", "0.995", "0.999", "0.9999", "0.99999"]
SIZES = [2, 3, 10, 16, 100, 101, 250, 252, 500, 1000, 1001, 2000, 2500, 5000, 10_000, 100_000, 1_000_000]


def tail(pnl, level, probability=None):
    rows = np.atleast_2d(np.asarray(pnl, float))
    out, code = np.empty((len(rows), 4)), np.empty(len(rows), np.int32)
    if probability is None:
        risk.tail_losses(rows, level, out, code)
    else:
        risk.weighted_losses(rows, probability, level, out, code)
    return out, code


def test_ranks_are_free_of_binary_rounding():
    assert risk.tail_ranks(0.99, 1000) == (10.0, 10, 11)
    for text in LEVELS:
        for n in SIZES:
            exact = (1 - Fraction(text)) * n
            _, upper, lower = risk.tail_ranks(float(text), n)
            assert upper == max(math.ceil(exact), 1), (text, n)
            assert lower == min(math.floor(exact) + 1, n), (text, n)


@settings(max_examples=150, deadline=None)
@given(st.lists(FINITE | st.sampled_from([0.0, 1.0, -1.0]), min_size=2, max_size=300), st.sampled_from(LEVELS))
def test_tail_losses_equal_their_twin(pnl, text):
    out, code = tail(pnl, float(text))
    expected = reference.losses(pnl, text)
    assert code[0] == 0
    assert out[0, 0] == expected[0] and out[0, 1] == expected[1]
    scale = max(map(abs, pnl))  # a sum of n terms and one division round by less than n + 2 halves of an ulp
    assert out[0, 2:] == pytest.approx(expected[2:], rel=1e-13, abs=1e-15 * scale * len(pnl))


def plain_sum(values):
    """In order, one rounding each: the built-in sum compensates since Python 3.12."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


@pytest.mark.parametrize("n", [2, 15, 31, 32, 127, 128, 129, 161, 640, 641, 1999, 2000, 2048, 5000, 20_000])
@pytest.mark.parametrize("text", LEVELS)
@pytest.mark.parametrize("kind", ["normal", "few values", "rising", "falling", "constant", "outliers"])
def test_every_path_of_the_selection_is_the_sorted_answer(n, text, kind):
    draws = np.random.default_rng(n).standard_normal(n)
    pnl = {"normal": draws, "few values": np.round(draws), "rising": np.sort(draws),
           "falling": -np.sort(draws), "constant": np.full(n, 1.5),
           "outliers": draws * np.where(draws < -2.0, 1e300, 1.0)}[kind]
    count, upper, lower = risk.tail_ranks(float(text), n)
    lowest = np.sort(pnl)
    whole = int(count)
    total = plain_sum(lowest[:whole]) + (count - whole) * (lowest[whole] if whole < n else 0.0)
    out, code = tail(pnl, float(text))
    single = risk.tail_loss(pnl, float(text))
    assert code[0] == 0 and tuple(out[0]) == single
    assert out[0, 0] == -lowest[upper - 1] and out[0, 1] == -lowest[lower - 1]
    assert out[0, 2] == pytest.approx(-np.quantile(pnl, float(1 - Fraction(text))), rel=1e-9)
    assert out[0, 3] == (-total / count if whole else -lowest[0])


def digest():
    whole = hashlib.sha256()
    rng = np.random.default_rng(22)
    for n in (2, 31, 127, 500, 1001, 2000, 5000, 20_000):
        draws = rng.standard_t(3, (6, n))
        draws[1] = np.round(draws[1])                       # ties, and zeros of both signs
        draws[2] *= np.where(draws[2] < -2.0, 1e300, 1.0)
        draws[3] = np.abs(draws[3])
        draws[4, n // 2] = -np.inf
        draws[5] = rng.choice([0.0, -0.0], n)
        for level in LEVELS:
            for part in tail(draws, float(level)):
                whole.update(part)
        loss, scenario = worst(draws)
        whole.update(loss.tobytes() + scenario.tobytes())
        weight = np.diff(np.linspace(0.0, 1.0, n + 1) ** 0.5)
        spectral = np.empty(len(draws))
        risk.spectral_losses(draws, weight, spectral)
        whole.update(spectral)
        held = np.array([0, 1, 3, 6], np.int64), np.array([5, 0, 2, 1, 2, 3], np.int32), rng.normal(size=6)
        pnl = np.empty((3, n))
        risk.sparse_pnl(*held, np.nan_to_num(draws), pnl)
        whole.update(pnl)
    return whole.hexdigest()


@pytest.mark.parametrize("level", kernels.LEVELS)
def test_every_instruction_set_gives_the_same_bits(level):
    assert digest_at(level, "test_risk") == digest()


@pytest.mark.parametrize("n", [2, 40, 500, 5000])
def test_several_levels_of_one_search_are_those_of_one_each(n):
    rows = np.random.default_rng(n).standard_t(3, (5, n))
    rows[3, n // 2] = np.nan
    levels = tuple(map(float, LEVELS[:8]))
    out, code = np.empty((5, 8, 4)), np.empty(5, np.int32)
    risk.tail_losses(rows, levels, out, code)
    for at, level in enumerate(levels):
        alone, codes = tail(rows, level)
        assert out[:, at].tobytes() == alone.tobytes()
        assert codes.tolist() == code.tolist() == [0, 0, 0, -4, 0]
    for bad in ((), levels + (0.5,)):
        with pytest.raises(ShapeError, match="level must be a number or 1 to 8"):
            risk.tail_losses(rows, bad, out, code)
    with pytest.raises(ShapeError, match="out must hold 40"):
        risk.tail_losses(rows, levels[:2], out, code)


@pytest.mark.parametrize("n", [20, 500, 2000])
def test_order_of_the_scenarios_changes_no_bit(n):
    rng = np.random.default_rng(3)
    pnl = rng.standard_t(3, n)
    permuted = np.array([rng.permutation(pnl) for _ in range(20)])
    out, _ = tail(permuted, 0.975)
    assert (out == out[0]).all()
    weight = np.diff(1 - np.exp(-3 * np.arange(n + 1) / n))
    loss = np.empty(20)
    risk.spectral_losses(permuted, weight, loss)
    assert (loss == loss[0]).all()


@pytest.mark.parametrize("n", [3, 100, 700, 2000, 5000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_spoils_its_row_alone(n, bad):
    for where in {0, 1, n // 2, n - 1}:
        pnl = np.random.default_rng(n).standard_normal((3, n))
        pnl[1, where] = bad
        for out, code in (tail(pnl, 0.99), tail(pnl, 0.99, np.full(n, 1 / n))):
            assert code.tolist() == [0, -4, 0]
            assert np.isnan(out[1]).all() and np.isfinite(out[[0, 2], 3]).all()
        loss = np.empty(3)
        risk.spectral_losses(pnl, np.full(n, 1 / n), loss)
        assert np.isnan(loss).tolist() == [False, True, False]
        loss, scenario = worst(pnl)
        assert np.isnan(loss).tolist() == [False, True, False] and scenario[1] == where


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(FINITE, st.integers(0, 20)), min_size=2, max_size=80), st.sampled_from(LEVELS[:7]))
def test_weighted_losses_equal_their_twin(pairs, text):
    pnl = np.array([value for value, _ in pairs])
    parts = np.array([part for _, part in pairs], dtype=np.int64)
    if parts.sum() == 0:
        parts[0] = 1
    exact = [Fraction(int(part), int(parts.sum())) for part in parts]
    out, code = tail(pnl, float(text), parts / parts.sum())
    expected = reference.losses(pnl, text, exact)
    assert code[0] == 0
    assert out[0, 0] == expected[0] and out[0, 1] == expected[1]
    assert out[0, 3] == pytest.approx(expected[3], rel=1e-12, abs=1e-13 * max(abs(pnl).max(), 1e-300))


@settings(max_examples=50, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=200), st.floats(0.1, 30))
def test_spectral_losses_equal_their_twin(pnl, aversion):
    weight = np.diff(np.expm1(-aversion * np.arange(len(pnl) + 1) / len(pnl)) / np.expm1(-aversion))
    out = np.empty(1)
    risk.spectral_losses(np.array([pnl]), weight, out)
    assert out[0] == pytest.approx(reference.spectral_loss(pnl, weight), rel=1e-12, abs=1e-13 * max(map(abs, pnl)))


def test_scenario_orders_are_stable():
    pnl = np.round(np.random.default_rng(5).standard_normal((40, 97)), 1)
    order, code = np.empty(pnl.shape, np.int32), np.empty(40, np.int32)
    risk.scenario_orders(pnl, order, code)
    assert np.array_equal(order, np.argsort(pnl, axis=1, kind="stable")) and not code.any()


@pytest.mark.parametrize("scenarios", [1, 7, 63, 64, 255, 256, 257, 700])
def test_sparse_pnl_equals_its_twin_bit_for_bit(scenarios):
    rng = np.random.default_rng(scenarios)
    table = rng.standard_normal((9, scenarios))
    quantity = rng.standard_normal((11, 9)) * (rng.random((11, 9)) < 0.5)
    row, column = np.nonzero(quantity)
    start = np.searchsorted(row, np.arange(12)).astype(np.int64)
    out = np.empty((11, scenarios))
    risk.sparse_pnl(start, column.astype(np.int32), quantity[row, column], table, out)
    assert np.array_equal(out, reference.portfolio_pnl(quantity, table))


def test_sparse_pnl_checks_everything_before_it_writes():
    out = np.full((2, 3), 7.0)
    good = (np.array([0, 1, 2]), np.array([0, 1], np.int32), np.ones(2), np.ones((2, 3)))
    for at, bad, kind in ((0, np.array([0, 2, 1]), ShapeError), (0, np.array([1, 1, 2]), ShapeError),
                          (0, np.array([0, 1, 2, 2]), ShapeError),  # more portfolios than rows
                          (1, np.array([0, 2], np.int32), RangeError), (1, np.array([0, -1], np.int32), RangeError),
                          (2, np.ones(3), ShapeError), (3, np.ones((2, 4)), ShapeError)):
        with pytest.raises(kind):
            risk.sparse_pnl(*[bad if k == at else part for k, part in enumerate(good)], out)
    assert (out == 7.0).all()


def test_entry_points_check_type_shape_and_level():
    rows = np.zeros((2, 4))
    code = np.empty(2, np.int32)
    for bad in (rows.astype(np.float32), rows[:, ::2], np.zeros((4, 2)).T):
        with pytest.raises(ShapeError, match="C-contiguous float64"):
            risk.tail_losses(bad, 0.9, np.empty((2, 4)), code)
    with pytest.raises(ShapeError, match="2 axes"):
        risk.tail_losses(np.zeros(4), 0.9, np.empty((2, 4)), code)
    with pytest.raises(ShapeError, match="out must hold 8"):
        risk.tail_losses(rows, 0.9, np.empty((2, 3)), code)
    for level in (0.0, 1.0, -1.0, 99.0, np.nan):
        with pytest.raises(RangeError, match="level must be in"):
            risk.tail_losses(rows, level, np.empty((2, 4)), code)
    with pytest.raises(ShapeError):
        risk.tail_loss(np.zeros(0), 0.9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 40), st.integers(0, 2**32))
def test_held_slots_are_the_entries_other_than_zero(rows, width, seed):
    rng = np.random.default_rng(seed)
    quantity = rng.choice([0.0, -0.0, 1.5, -2.0, np.nan, np.inf], (rows, width))
    start, column = np.full(rows + 1, -9), np.full(rows * width + 1, -9, np.int32)
    amount = np.full(rows * width + 1, -9.0)
    risk.held_slots(quantity, start, column, amount)
    row, expected = np.nonzero(quantity != 0.0)
    assert start.tolist() == [0, *np.cumsum(np.bincount(row, minlength=rows))]
    assert column[:start[-1]].tolist() == expected.tolist()
    assert np.array_equal(amount[:start[-1]], quantity[quantity != 0.0], equal_nan=True)


def test_held_slots_checks_room_and_type():
    ends, places, room = np.empty(3, np.int64), np.empty(7, np.int32), np.empty(7)
    risk.held_slots(np.zeros((2, 3)), ends, places, room)
    for bad in ((np.zeros(6), ends, places, room), (np.zeros((2, 3)), ends[:2], places, room),
                (np.zeros((2, 3)), ends, places[:6], room), (np.zeros((2, 3)), ends, places, room[:6]),
                (np.zeros((2, 3), np.float32), ends, places, room), (np.zeros((2, 6))[:, ::2], ends, places, room)):
        with pytest.raises(ShapeError):
            risk.held_slots(*bad)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_tail_pair_is_a_choice_of_tail_loss(column):
    pnl = np.random.default_rng(6).standard_t(3, 777)
    found = risk.tail_loss(pnl, 0.97)
    assert risk.tail_pair(pnl, 0.97, column) == (found[column], found[3])
    pnl[5] = np.nan
    assert np.isnan(risk.tail_pair(pnl, 0.97, column)).all()


@pytest.mark.parametrize("pnl", [[1.0, 2.0], np.arange(4), np.zeros((2, 2)), np.zeros(4)[::2], np.zeros(1),
                                 np.zeros(4, ">f8"), np.zeros(4, np.float32)], ids=str)
def test_tail_pair_leaves_what_must_be_converted(pnl):
    assert risk.tail_pair(pnl, 0.9, 0) is None
    assert risk.tail_pair(np.zeros(4), 0.9, 3) is None
    with pytest.raises(RangeError, match="level"):
        risk.tail_pair(np.zeros(4), 1.0, 0)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 160])
def test_ranking_by_counting_with_ties_at_every_size(n):
    """All values asked for, so that the spectral sum sees the whole ranking."""
    rng = np.random.default_rng(n)
    for values in (rng.integers(-3, 3, n) * 1.0, rng.standard_normal(n), np.zeros(n), -1.0 * np.arange(n)):
        for place in (0, n // 2, n - 1):
            weight, out = np.zeros(n), np.empty(1)
            weight[place] = 1.0
            risk.spectral_losses(values.reshape(1, -1), weight, out)
            assert out[0] == -np.sort(values)[place]
