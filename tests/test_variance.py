"""The recursions: equal to the twin and to 50 digits, and the same bits in a series, a panel, chunks and ticks."""

import json
import math
import pickle

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.variance import filter_path

from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels.variance import PanelState, VarianceState

LAGS = {"square": ((0.05, 0.03), (0.09, 0.02), (0.6, 0.2)), "direct": ((0.3, 0.2, 0.1), (0.0, 0.0, 0.0), ()),
        "logarithm": ((0.2, -0.1), (-0.05, 0.02), (0.7, 0.25))}
OMEGA = {"square": 2e-6, "direct": 2e-5, "logarithm": -0.4}


def recursion(form, lags=2):
    first, second, beta = LAGS[form]
    if lags == 1:
        first, second, beta = first[:1], second[:1], beta[:1]
    return {"mean": 0.0 if form == "direct" else 3e-4, "omega": OMEGA[form], "first": first, "second": second,
            "beta": beta, "form": form}


def begin(form, lags=2, start=1e-4):
    share = 1.0 if form == "direct" else 0.5
    return VarianceState.begin(**recursion(form, lags), start_variance=start, first_share=share)


def series(form, n, seed=1):
    values = np.random.default_rng(seed).standard_normal(n) * 0.01
    return values * values if form == "direct" else values


CASES = [(form, lags) for form in LAGS for lags in (1, 2)]


@pytest.mark.parametrize("form, lags", CASES)
def test_matches_the_twin(form, lags):
    values, state = series(form, 400), begin(form, lags)
    out = np.empty(400)
    state.extend(values, out)
    expected = filter_path(values.tolist(), **recursion(form, lags), start=1e-4)[1:]
    np.testing.assert_allclose(out, expected, rtol=1e-13)  # some 20 roundings that decay geometrically


@pytest.mark.parametrize("form, lags", CASES)
def test_within_1e13_of_fifty_digits_on_500_steps(form, lags):
    values, state = series(form, 500), begin(form, lags)
    out = np.empty(500)
    state.extend(values, out)
    with mpmath.workdps(50):
        exact = {key: [mpmath.mpf(x) for x in item] if isinstance(item, tuple) else item
                 for key, item in recursion(form, lags).items()}
        exact["mean"], exact["omega"] = mpmath.mpf(exact["mean"]), mpmath.mpf(exact["omega"])
        path = filter_path([mpmath.mpf(x) for x in values], **exact, start=mpmath.mpf(1e-4), one=mpmath.mpf(1),
                           exp=mpmath.exp, log=mpmath.log, pi=mpmath.pi)[1:]
        assert max(abs(mpmath.mpf(x) / y - 1) for x, y in zip(out, path, strict=True)) < 1e-13


@pytest.mark.parametrize("omega, first, second, beta", [
    (0.0, 0.06, 0.06, 0.94), (0.0, 1e-5, 1e-5, 0.99999), (2e-6, 0.08, 0.08, 0.9), (1e-9, 0.03, 0.13, 0.919)])
def test_within_1e10_of_sixty_digits_over_a_million_steps(omega, first, second, beta):
    # Fixed point with 240 bits behind the point: every step is exact but for a last place of 1e-72.
    values = series("square", 1_000_000)
    state = VarianceState.begin(mean=3e-4, omega=omega, first=[first], second=[second], beta=[beta],
                                start_variance=1e-4, first_share=0.5)
    out = np.empty(values.size)
    h = int(mpmath.ldexp(mpmath.mpf(state.variance), 240))
    state.extend(values, out)
    bits = [int(mpmath.ldexp(mpmath.mpf(x), 240)) for x in (omega, first, second, beta)]
    mean, worst = int(mpmath.ldexp(mpmath.mpf(3e-4), 120)), 0.0
    for t, value in enumerate(values.tolist()):
        top, bottom = value.as_integer_ratio()
        e = (top << 120) // bottom - mean
        h = bits[0] + (((bits[1] if e >= 0 else bits[2]) * (e * e) + bits[3] * h) >> 240)
        if t % 997 == 0 or t == values.size - 1:
            worst = max(worst, abs(out[t] / float(mpmath.ldexp(h, -240)) - 1.0))
    assert worst < 1e-10


def test_the_log_form_after_a_million_steps():
    values, state = series("logarithm", 1_000_000), begin("logarithm", 1)
    state.extend(values, np.empty(values.size))
    with mpmath.workdps(50):  # 0.7^1000 < 1e-154: the last 1,000 returns determine the variance beyond 50 digits
        exact = {key: [mpmath.mpf(x) for x in item] if isinstance(item, tuple) else item
                 for key, item in recursion("logarithm", 1).items()}
        exact["mean"], exact["omega"] = mpmath.mpf(exact["mean"]), mpmath.mpf(exact["omega"])
        h = filter_path([mpmath.mpf(x) for x in values[-1000:]], **exact, start=mpmath.mpf(1e-4), one=mpmath.mpf(1),
                        exp=mpmath.exp, log=mpmath.log, pi=mpmath.pi)[-1]
        assert abs(mpmath.mpf(state.variance) / h - 1) < 1e-10


@pytest.mark.parametrize("form, lags", CASES)
def test_stream_chunks_panel_and_reload_give_the_same_bits(form, lags):
    n, width = 120, 37
    table = np.column_stack([series(form, n, seed) for seed in range(width)])
    panel = PanelState([begin(form, lags, 1e-4 * (1 + s)) for s in range(width)])
    rows = np.empty_like(table)
    panel.extend(table[:50].copy(), rows[:50])
    for t in range(50, 60):
        panel.update(table[t].copy(), rows[t])
    for low, high in ((0, 13), (13, width)):
        panel.extend(table[60:].copy(), rows[60:], low, high)
    for s in (0, 12, 13, 31, 32, 36):
        column = table[:, s].copy()
        whole, out = begin(form, lags, 1e-4 * (1 + s)), np.empty(n)
        whole.extend(column, out)
        tick = begin(form, lags, 1e-4 * (1 + s))
        stream = [tick.update(value) for value in column[:70]]
        tick = VarianceState.load(json.loads(json.dumps(tick.save())))
        tick = pickle.loads(pickle.dumps(tick))
        rest = np.empty(n - 70)
        tick.extend(column[70:].copy(), rest)
        assert out.tobytes() == rows[:, s].tobytes() == np.concatenate([stream, rest]).tobytes()
        assert tick == whole and tick.count == n and panel.variance[s] == whole.variance


@pytest.mark.parametrize("first, second, beta", [(0.08, 0.08, 0.9), (0.03, 0.13, 0.9), (0.5, 0.5, 0.2),
                                                 (0.05, 0.05, 0.95)])
@pytest.mark.parametrize("shape", ["noise", "still", "one jump", "quiet then wild"])
def test_a_long_series_has_the_bits_of_its_ticks(first, second, beta, shape):
    # Long series run in parts from guessed starts: whatever the guesses meet, or never meet, must not be seen.
    values = series("square", 70_001, seed=3)
    if shape == "still":
        values[:] = 0.0
    elif shape == "one jump":
        values[:] = 1e-9
        values[40_000] = 5.0
    elif shape == "quiet then wild":
        values[:50_000] *= 1e-140
    omega = 0.0 if shape in ("still", "quiet then wild") else 2e-6
    state = VarianceState.begin(mean=0.0, omega=omega, first=(first,), second=(second,), beta=(beta,),
                                start_variance=1e-4, first_share=0.5)
    if shape == "still" or (shape == "quiet then wild" and beta < 0.9):
        state = VarianceState.begin(mean=0.0, omega=1e-300, first=(first,), second=(second,), beta=(beta,),
                                    start_variance=1e-4, first_share=0.5)
    ticked, chunked = state.copy(), state.copy()
    path, parts = np.empty_like(values), np.empty_like(values)
    state.extend(values, path)
    for begins in range(0, values.size, 1_000):
        chunked.extend(values[begins:begins + 1_000].copy(), parts[begins:begins + 1_000])
    assert path.tobytes() == parts.tobytes()
    assert state == chunked
    assert path[:2_000].tolist() == [ticked.update(value) for value in values[:2_000]]


@pytest.mark.parametrize("at", [0, 20_000, 69_999])
def test_a_long_series_with_one_bad_return_changes_nothing(at):
    values = series("square", 70_000)
    values[at] = math.nan
    state = begin("square", 1)
    before, out = state.copy(), np.empty_like(values)
    with pytest.raises(NotFiniteError, match=f"nan at position {at}"):
        state.extend(values, out)
    assert state == before
    assert np.isnan(out).all()


@settings(max_examples=40)
@given(st.integers(-20, 20), st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30))
def test_scaling_by_a_power_of_two_scales_the_bits(power, values):
    scale, array = 2.0 ** power, np.array(values)
    base = VarianceState.begin(mean=0.0, omega=1e-5, first=[0.1], second=[0.15], beta=[0.8], start_variance=0.01,
                               first_share=0.5)
    other = VarianceState.begin(mean=0.0, omega=1e-5 * scale ** 2, first=[0.1], second=[0.15], beta=[0.8],
                                start_variance=0.01 * scale ** 2, first_share=0.5)
    x, y = np.empty(array.size), np.empty(array.size)
    base.extend(array, x)
    other.extend(array * scale, y)
    # Subnormal squares round differently once scaled; they are nothing beside omega.
    np.testing.assert_allclose(y, x * scale ** 2, rtol=1e-15)


@pytest.mark.parametrize("form, lags", CASES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_bad_returns_change_nothing(form, lags, bad):
    if form != "square" and bad == 1e200:
        bad = math.nan
    state = begin(form, lags)
    before = state.save()
    with pytest.raises(NotFiniteError, match="value must be finite"):
        state.update(bad)
    with pytest.raises(NotFiniteError, match="values must be finite"):
        state.extend(np.array([0.01, bad, 0.02]), np.empty(3))
    assert state.save() == before
    panel = PanelState([state, state.copy()])
    out = np.empty(2)
    panel.update(np.array([bad, 0.01]), out)
    assert math.isnan(out[0]) and out[1] == state.copy().update(0.01)
    assert panel.refused.tolist() == [1, 0] and panel.variance[0] == state.variance


def test_a_variance_that_would_reach_zero_is_refused():
    """A decay of 0.3 brings 1e-4 below the smallest number in 600 returns of zero: no forecast, no silent zero."""
    weights = {"mean": 0.0, "omega": 0.0, "first": [0.7], "second": [0.7], "beta": [0.3]}
    state = VarianceState.begin(**weights, start_variance=1e-4, first_share=0.5)
    other, panel = state.copy(), PanelState([state.copy(), state.copy()])
    with pytest.raises(NotFiniteError, match="positive variance"):
        state.extend(np.zeros(700), np.empty(700))
    assert state == other
    with pytest.raises(NotFiniteError, match="positive variance"):
        for _ in range(700):
            other.update(0.0)
    assert other.variance > 0.0 and VarianceState.load(other.save()) == other
    out = np.empty((700, 2))
    panel.extend(np.column_stack([np.zeros(700), np.full(700, 0.01)]), out)
    assert panel.refused[0] == 700 - other.count and panel.refused[1] == 0 and (out[:, 1] > 0.0).all()
    assert panel.variance[0] == other.variance
    slow = VarianceState.begin(**{**weights, "first": [0.4], "second": [0.4], "beta": [0.6]}, start_variance=1e-4,
                               first_share=0.5)
    out = np.empty(3_000)
    slow.extend(np.zeros(3_000), out)
    assert out[-1] > 0.0 and slow.update(0.0) > 0.0


def test_a_negative_realised_variance_is_refused():
    state = begin("direct")
    before, panel, out = state.copy(), PanelState([state.copy(), state.copy()]), np.empty(2)
    with pytest.raises(NotFiniteError, match="was -1e-06"):
        state.update(-1e-6)
    with pytest.raises(NotFiniteError):
        state.extend(np.array([1e-4, -1e-6]), np.empty(2))
    assert state == before and state.update(0.0) > 0.0
    panel.update(np.array([-1e-6, 1e-4]), out)
    assert math.isnan(out[0]) and out[1] > 0.0 and panel.refused.tolist() == [1, 0]


def test_a_refused_return_in_a_batch_is_refused_alone():
    table = np.column_stack([series("square", 40, seed) for seed in range(3)])
    table[7, 1] = math.nan
    panel, out = PanelState([begin("square", 1) for _ in range(3)]), np.empty((40, 3))
    panel.extend(table, out)
    single, path = begin("square", 1), []
    for t, value in enumerate(table[:, 1]):
        path.append(math.nan if t == 7 else single.update(value))
    np.testing.assert_array_equal(out[:, 1], path)
    assert np.isfinite(out[:, [0, 2]]).all() and panel.refused.tolist() == [0, 1, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e200])
def test_a_return_refused_at_the_end_leaves_the_state_before_it(bad):
    table = np.column_stack([series("square", 40, seed) for seed in range(3)])
    table[-1, 1] = bad
    panel = PanelState([begin("square", 1) for _ in range(3)])
    panel.extend(table, np.empty_like(table))
    singles = [begin("square", 1) for _ in range(3)]
    for at, single in enumerate(singles):
        single.extend(np.ascontiguousarray(table[:39 if at == 1 else 40, at]), np.empty(39 if at == 1 else 40))
    assert panel.states() == singles and PanelState.load(panel.save()).states() == singles
    panel.update(np.full(3, bad), np.empty(3))  # and nothing else in that call
    assert panel.states() == singles and PanelState.load(panel.save()).states() == singles


def test_errors_name_the_rule():
    state = begin("square")
    with pytest.raises(ShapeError, match="contiguous float64"):
        state.extend(np.zeros(3, np.float32), np.zeros(3))
    with pytest.raises(ShapeError, match="out must hold 3"):
        state.extend(np.zeros(3), np.zeros(4))
    with pytest.raises(RangeError, match="start_variance"):
        begin("square", start=0.0)
    with pytest.raises(ShapeError, match="not be empty"):
        PanelState([])
    with pytest.raises(ShapeError, match="one form"):
        PanelState([begin("square"), begin("direct")])
    with pytest.raises(MarginError, match="saved"):
        VarianceState.load({"form": "square"})
